"""A screen between the images and whoever looks: mean luminance, contrast, the monitor's gamma, and what clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_images, check_number, check_positive, is_number
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.images.resizing import FLAT_STD
from closedloop.interfaces import Differentiable, FloatArray, Presenting, State, Subject, form_of
from closedloop.loop.notices import notice
from closedloop.presentations import Answers, Asked
from closedloop.readable import percent

from .wrapping import Wrapper, as_subject

if TYPE_CHECKING:
    from torch import Tensor

#: Luminance of red, green and blue light of an sRGB screen (Rec. ITU-R BT.709); they sum to 1.
REC_709 = (0.2126, 0.7152, 0.0722)
#: Who undoes a monitor's gamma.
LINEARIZED = ("rig", "images", "nobody")
#: Mean and contrast are asked for up to this, in luminance; half a step of an 8-bit file is 0.002.
EXACT = 5e-4
#: How often what was clipped is made good for; most images need one to four rounds. The last ones move the mean alone.
ROUNDS, LAST_ROUNDS = 30, 10
#: The share of values from which on it is said that they clip, and the factor by which it then has to grow.
SAID_SHARE, SAID_GROWTH = 0.01, 2.0
#: How far the exponent that a rig states may be from the one that is given.
SAME_GAMMA = 0.05


@final
class Displayed(Wrapper):
    r"""Shows every image with the same mean luminance and contrast, on a monitor whose gamma is known.

    Of an image v in [0, 1] the light is L = v where somebody linearizes the monitor, else L = v^γ. For `mean` m and
    `rms` c it becomes L' = m + k (L - L̄), with the same k for red, green and blue, such that the luminance
    Y = 0.2126 R + 0.7152 G + 0.0722 B has the mean m and the standard deviation c m over all pixels (and frames). What
    is beyond the screen is clipped; m and k are then moved until the clipped image has the mean and contrast that were
    asked for; where it cannot have that contrast, it is stretched to four times as much and has the mean alone. What is
    sent is v' = L', or L'^(1/γ) where the rig does not linearize, rounded to 8 bits. A rig (`Presenting`) is sent v'.
    Any other subject has no monitor: it is shown the light.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``.
        mean: Mean luminance of every image, as a share of the screen's brightest white; None for each image's own.
        rms: Standard deviation of the luminance over its mean (RMS contrast); None for each image's own, which is kept
            also where the mean is changed.
        gamma: γ of the monitor: light goes with the value to this power. None for the number that a rig says of its
            screen; needed where neither the rig linearizes nor says it.
        linearized: Who undoes γ. "rig": its lookup table; values are light. "images": values are light, and are sent
            as v^(1/γ). "nobody": values are what a file holds, such as a photograph, and the monitor darkens them.

    Attributes:
        told: How many images were shown, the share of their values that was clipped, and how many images were flat, or
            could not be given the contrast.

    Raises:
        InvalidArgumentError: An argument does not fit, no screen has this contrast at this mean, or the rig says
            something else of its screen.
    """

    kind = "displayed"
    #: There only where the subject inside is differentiable.
    forward: Callable[[Tensor], Tensor]

    def __init__(
        self,
        subject: Subject | str | Mapping[str, Any],
        mean: float | None = None,
        rms: float | None = None,
        gamma: float | None = None,
        linearized: Literal["rig", "images", "nobody"] = "rig",
    ) -> None:
        inner = as_subject(subject)
        self.mean: float | None = None if mean is None else check_number("mean", mean, 0.01, 0.99)
        self.rms: float | None = None if rms is None else check_number("rms", rms, 0)
        if self.rms is not None and self.mean is not None and self.rms > (most := (1 / self.mean - 1) ** 0.5):
            raise InvalidArgumentError(
                f"rms: expected at most {most:.3g} at a mean of {self.mean:g}, which black and white pixels have, got "
                f"{self.rms:g}."
            )
        if linearized not in LINEARIZED:
            raise InvalidArgumentError(f"linearized: expected {', '.join(LINEARIZED)}, got {linearized!r:.80}.")
        self.linearized = linearized
        self.gamma: float = _gamma(gamma, linearized, inner)
        super().__init__(inner, 0, mean=self.mean, rms=self.rms, gamma=self.gamma, linearized=linearized)
        del self._options["seed"]  # it draws nothing
        self._form = form_of(inner)
        self._counts = {"images": 0, "values": 0, "clipped": 0, "flat": 0, "missed": 0}
        self._said = SAID_SHARE / SAID_GROWTH
        if isinstance(inner, Differentiable) and not isinstance(inner, Presenting):
            self._inner_forward = inner.forward
            self.forward = self._forward

    @property
    def told(self) -> Mapping[str, float]:
        """Images shown so far, the share of values clipped, and images that were flat or missed their contrast."""
        counts = self._counts
        return {
            "images": counts["images"],
            "clipped": counts["clipped"] / max(1, counts["values"]),
            "flat": counts["flat"],
            "missed": counts["missed"],
        }

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Shows images on the monitor; returns the responses ``(n, units[, time])``, NaN where lost."""
        shown = self.sent(images)
        return self._inner(shown if isinstance(self.subject, Presenting) else self._seen(shown))

    def _present(self, asked: Asked) -> Answers:
        """Shows a block at the rig inside, with its images as they are sent to the monitor."""
        return super()._present(replace(asked, images=self.sent(asked.images)))

    def _changed(self, responses: FloatArray) -> FloatArray:
        return responses

    def sent(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns images as they are sent to the monitor, of the same shape, rounded to 8 bits; counts what clips."""
        shown = check_images(images, form=self._form)
        if self.mean is None and self.rms is None:
            self._counts["images"] += len(shown)
            self._counts["values"] += shown.size
            return quantize(self._as_values(self._asked_light(shown)))
        parts = [self._shown_one(shown[i : i + 1]) for i in range(len(shown))]  # one at a time: caches hold it
        self._say()
        return np.concatenate(parts) if parts else shown

    def _shown_one(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns one image as it is sent, and counts."""
        light, clipped, flat, missed = self._fitted(self._asked_light(image))
        more = {"images": 1, "values": image.size, "clipped": clipped, "flat": flat, "missed": missed}
        self._counts = {name: self._counts[name] + int(count) for name, count in more.items()}
        return quantize(self._as_values(light).astype(np.float32))

    def _say(self) -> None:
        """Says what clips, when it has become much more than was said before."""
        told = self.told
        if told["clipped"] > self._said * SAID_GROWTH:
            self._said = told["clipped"]
            missed = f"; {told['missed']} could not be given their mean and contrast" if told["missed"] else ""
            notice(
                f"{percent(told['clipped'], 1)} of the values of {told['images']:,} images are beyond the screen and "
                f"were clipped{missed}; a lower rms ({self.rms}) or another mean ({self.mean}) clips less"
            )

    def _asked_light(self, values: Any) -> Any:
        """Returns the light that values ask for; numpy or torch."""
        return values if self.linearized != "nobody" or self.gamma == 1 else values**self.gamma

    def _as_values(self, light: Any) -> Any:
        """Returns what is sent to the monitor for this light; numpy or torch."""
        return light if self.linearized == "rig" or self.gamma == 1 else light ** (1 / self.gamma)

    def _seen(self, values: Any) -> Any:
        """Returns the light of what is sent to the monitor; numpy or torch."""
        return values if self.linearized == "rig" or self.gamma == 1 else values**self.gamma

    def _fitted(self, light: Any) -> tuple[Any, int, int, int]:
        """Returns light of the mean and contrast that are asked for; numpy or torch.

        Returns:
            It; how many of its values are clipped; how many images are flat, and how many miss mean or contrast.
        """
        own_mean, own_std = self._moments(light)
        flat = own_std < FLAT_STD
        mean = own_mean if self.mean is None else 0 * own_mean + self.mean
        contrast = own_std / own_mean.clip(EXACT) if self.rms is None else 0 * own_mean + self.rms
        std = contrast * mean
        scale = flat * 1.0 + ~flat * (std / own_std.clip(FLAT_STD))  # a flat image stays flat
        centre, found = mean, light
        wrong = own_mean < 0
        most = 4.0 * scale  # how much further than without clipping it is stretched, to make good for what clips
        for left in range(ROUNDS, 0, -1):
            beyond = centre + scale * (light - own_mean)
            found = beyond.clip(0, 1)
            got_mean, got_std = self._moments(found)
            wrong = (abs(got_mean - mean) > EXACT) | ((abs(got_std - std) > EXACT) & ~flat)
            if not bool(wrong.any()):
                break
            # What is right stays as it is, so that no image depends on those beside it.
            centre = centre + wrong * (mean - got_mean)
            if left > LAST_ROUNDS:
                more = 1 + wrong * ~flat * (std / got_std.clip(FLAT_STD) - 1).clip(-0.5, 1.0)
                scale = most - (most - scale * more).clip(0)
        clipped = int(((beyond < -EXACT) | (beyond > 1 + EXACT)).sum())
        return found, clipped, int(flat.sum()), int(wrong.sum())

    def _moments(self, light: Any) -> tuple[Any, Any]:
        """Returns mean and standard deviation of the luminance of each image, with axes of length 1 for its own."""
        if light.shape[-3] == 1:
            luminance = light
        else:
            red, green, blue = REC_709
            luminance = red * light[..., 0:1, :, :] + green * light[..., 1:2, :, :] + blue * light[..., 2:3, :, :]
        axes = tuple(range(1, luminance.ndim))
        mean = luminance.mean(axes, keepdims=True)
        variance = ((luminance - mean) ** 2).mean(axes, keepdims=True)
        return mean, (variance + 1e-12) ** 0.5  # so that its gradient is finite

    def _forward(self, x: Tensor) -> Tensor:
        """Returns the responses in torch, of light that is not rounded; keeps the graph."""
        light = self._asked_light(x)
        if self.mean is not None or self.rms is not None:
            light = self._fitted(light)[0]
        responses: Tensor = self._inner_forward(light)
        return responses

    def state(self) -> State:
        """Returns what was counted, with the state of the subject inside."""
        return {**super().state(), "counts": dict(self._counts)}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        super().restore(state)
        self._counts = {name: int(count) for name, count in state["counts"].items()}


def _gamma(gamma: float | None, linearized: str, subject: Subject) -> float:
    """Returns the exponent of the monitor, which may not contradict what a rig says of its screen.

    `screen.gamma` in a rig's welcome is the exponent with which light goes with what is sent: 1 where it linearizes.
    """
    screen = getattr(subject, "welcome", {}).get("screen") if isinstance(subject, Presenting) else None
    said = screen.get("gamma") if isinstance(screen, Mapping) else None
    known = float(said) if is_number(said) and said > 0 else None
    given = None if gamma is None else check_positive("gamma", gamma)
    if known is not None:
        expected = 1.0 if linearized == "rig" else given if given is not None else known
        if abs(known - expected) > SAME_GAMMA:
            raise InvalidArgumentError(
                f"gamma, linearized: the rig says that its screen has an exponent of {known:g} for what it is sent"
                f"{' (it linearizes)' if abs(known - 1) <= SAME_GAMMA else ''}, got linearized={linearized!r} and "
                f"gamma={gamma}; say linearized='images' or 'nobody' with that gamma, or 'rig' where it is 1."
            )
    if given is None and known is None and linearized != "rig":
        raise InvalidArgumentError(
            f"gamma: expected the exponent of the monitor, such as 2.2, for linearized={linearized!r}, got None."
        )
    return given or (1.0 if linearized == "rig" else known) or 1.0
