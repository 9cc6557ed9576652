"""Different images that a model predicts to drive a unit nearly as much as its best one does.

A unit that is invariant has many best images (Cadena et al. 2018, *ECCV*; Ding et al. 2023, "Bipartite invariance in
mouse primary visual cortex"). First codes that begin apart climb, each by itself; the highest is the best image. Then
all others go where they differ most from the nearest other one of the set, and climb again wherever they fall below a
share of the best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.checks import check_whole, make_images, record_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.interfaces import STILL, Differentiable, FloatArray, Generator, Located, Subject, form_of
from closedloop.optimizers.shell import Shell
from closedloop.seeds import check_seed, named_generator
from closedloop.signatures import at_door

#: Where images are to differ.
FEATURES, CODES, PIXELS = "features", "codes", "pixels"
#: All of these.
APART = (FEATURES, CODES, PIXELS)


@at_door
def diverse_images(
    model: Subject,
    generator: Generator,
    unit: int = 0,
    *,
    count: int = 8,
    above: float = 0.85,
    apart: str = FEATURES,
    steps: int = 60,
    seed: int = 0,
) -> xr.Dataset:
    """Makes different images of each of which a model predicts nearly the response to its best one.

    What the subject answers to them is another question, which `closedloop.protocols.verify` asks it.

    Args:
        model: A `closedloop.subjects.Twin`, or any other differentiable subject.
        generator: Turns codes into images; it must be differentiable.
        unit: Column of the model's responses.
        count: Images, the best one among them.
        above: Share of the best image's prediction that each of them must reach.
        apart: Where they are to differ: in "features" (those that a twin reads, standardized), "codes" or "pixels".
        steps: Steps of the climb, and again of going apart.
        seed: Of the codes at which they begin.

    Returns:
        Over ``copy``, the best first and then as they were found: `image` ``(copy, rgb, row, col)``, `code`
        ``(copy, dim)``, `predicted` (no response), and `distance` to the nearest other one; `start_distance`, that in
        the beginning, when each had climbed by itself. Distances are 1 - cosine. There are fewer than ``count`` where
        some did not reach their share.

    Raises:
        InvalidArgumentError: An argument does not fit, or nothing has a gradient.
    """
    check_seed(seed)
    check_whole("count", count, 2)
    check_whole("steps", steps, 1)
    if not 0 < above < 1:
        raise InvalidArgumentError(f"above: expected a share between 0 and 1 such as 0.85, got {above!r}.")
    if apart not in APART or (apart == FEATURES and not hasattr(model, "readout")):
        known = APART if hasattr(model, "readout") else APART[1:]
        raise InvalidArgumentError(f"apart: expected {' or '.join(map(repr, known))} for this model, got {apart!r}.")
    for name, part in (("model", model), ("generator", generator)):
        if not isinstance(part, Differentiable) or form_of(part) != STILL:
            raise InvalidArgumentError(
                f"{name}: expected one with a forward(x), of colour stills, got {type(part).__name__}."
            )
    if not 0 <= unit < len(model.units):
        raise InvalidArgumentError(f"unit: expected a column of 0 to {len(model.units) - 1}, got {unit!r}.")
    return _Set(model, generator, unit, apart, above).made(count, steps, named_generator(seed, "diverse"))


class _Set:
    """Codes that climb, and go apart."""

    def __init__(self, model: Subject, generator: Generator, unit: int, apart: str, above: float) -> None:
        self._model, self._generator, self._unit = model, generator, unit
        self._apart, self._above = apart, above
        self._shell = Shell(generator.space)
        self._device = model.torch_device if isinstance(model, Located) else "cpu"

    def _seen(self, codes: Any) -> tuple[Any, Any]:
        """Returns predictions ``(n,)`` and where images stand ``(n, dimensions)`` of codes, graph kept."""
        import torch

        from closedloop.gradients.redirected import InwardClamp

        made, model = self._generator, self._model
        with InwardClamp():
            images = made.forward(codes)  # type: ignore[attr-defined]
        found = model.forward(images)[:, self._unit]  # type: ignore[attr-defined]
        if self._apart == PIXELS:
            return found, images.flatten(1) - 0.5
        if self._apart == CODES:
            center = torch.from_numpy(np.asarray(self._generator.space.center, np.float32)).to(codes)
            return found, codes - center
        twin: Any = model
        features = twin.features.forward(images).float()
        mean, scale = (torch.from_numpy(a).to(features) for a in (twin.readout.mean, twin.readout.scale))
        return found, (features - mean) * scale

    def _slopes(self, x: FloatArray, value: Callable[[Any, Any], Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns predictions, distances to the nearest, and the slope of what is wanted, of codes in units."""
        import torch

        codes = torch.from_numpy(self._shell.codes(x).astype(np.float32)).to(self._device).requires_grad_()
        found, where = self._seen(codes)
        near = nearest(where)
        (back,) = torch.autograd.grad(value(found, near).sum(), codes)
        return (
            found.detach().double().cpu().numpy(),
            near.detach().double().cpu().numpy(),
            self._shell.tangents(back.double().cpu().numpy(), x),
        )

    def _moved(self, x: FloatArray, slope: FloatArray, step: int, steps: int) -> FloatArray:
        size = np.radians(6.0) * 0.1 ** (step / max(steps - 1, 1))  # 6° in the beginning, a tenth of it at the end
        length = np.linalg.norm(slope, axis=1, keepdims=True)
        return self._shell.moved(x, slope / np.maximum(length, 1e-300), np.where(length[:, 0] > 0, size, 0))

    def made(self, count: int, steps: int, rng: np.random.Generator) -> xr.Dataset:
        """Makes the set."""
        import torch

        x = self._shell.inside(self._shell.units(self._generator.space.sample(count, rng)))
        top, high = x.copy(), np.full(count, -np.inf)
        for step in range(steps):
            found, near, slope = self._slopes(x, lambda found, _: found)
            better = found > high
            top[better], high = x[better], np.where(better, found, high)
            x = self._moved(x, slope, step, steps)
        order = np.argsort(-high, kind="stable")
        x, best = top[order], float(high.max())
        if not best > 0:
            raise InvalidArgumentError(
                f"unit: expected one of which the model promises more than 0, got {best:.4g} after {steps} steps."
            )
        first, least, far = x[:1].copy(), self._above * best, np.full(count, -np.inf)

        def wanted(found: Any, near: Any) -> Any:
            # What a response misses and a distance are both shares; the first counts 20 times as much.
            return near - 20.0 * torch.relu(1 - found / least)

        kept = x.copy()
        start: FloatArray = np.empty(0)
        for step in range(steps):
            found, near, slope = self._slopes(x, wanted)
            start = near if step == 0 else start
            farther = (found >= least) & (near > far)
            kept[farther], far = x[farther], np.where(farther, near, far)
            x = np.concatenate([first, self._moved(x, slope, step, steps)[1:]])
        return self._told(np.concatenate([first, kept[1:]]), least, float(np.median(start)))

    def _told(self, x: FloatArray, least: float, start: float) -> xr.Dataset:
        """Returns the images of which enough is predicted, as they are shown."""
        import torch

        codes = self._shell.codes(x)
        images = quantize(make_images(self._generator, codes))
        predicted = record_images(self._model, images, "model")[:, self._unit].astype(float)
        enough = (predicted >= 0.99 * least) | (np.arange(len(x)) == 0)  # 8 bits may take a little
        codes, images, predicted = codes[enough], images[enough], predicted[enough]
        with torch.no_grad():
            _, where = self._seen(torch.from_numpy(codes.astype(np.float32)).to(self._device))
            near = nearest(where).double().cpu().numpy() if len(codes) > 1 else np.full(1, np.nan)
        dims = ("copy", "rgb", "row", "col")
        return xr.Dataset(
            {
                "image": (dims, images.astype(np.float32)),
                "code": (("copy", "dim"), codes),
                "predicted": ("copy", predicted),
                "distance": ("copy", near),
            },
            {"copy": np.arange(len(codes)), "start_distance": start, "apart": self._apart, "above": self._above},
        )


def nearest(where: Any) -> Any:
    """Returns 1 - cosine to the nearest other one of places ``(n, dimensions)``, ``(n,)``, graph kept."""
    import torch

    unit = where / where.norm(dim=1, keepdim=True).clamp(min=1e-12)
    apart = 1 - unit @ unit.T + 4 * torch.eye(len(where)).to(where)
    return apart.min(1).values


def as_images(found: xr.Dataset) -> NDArray[np.float32]:
    """Returns the images of a set, ``(n, 3, h, w)``, as `closedloop.protocols.verify` takes them."""
    return np.asarray(found["image"].values, np.float32)
