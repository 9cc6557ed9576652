"""The numbers of a training of the native generator; they stand apart because they import without torch."""

from __future__ import annotations

from closedloop.errors import InvalidArgumentError
from closedloop.loop.settings import check_options, option, settings

#: Sides of images, in pixels: the least, the largest, and of what they must be a multiple: twice the network's stride.
_LEAST, _LARGEST, _MULTIPLE = 64, 512, 32


@settings
class TrainingSettings:
    """The numbers of a training."""

    model: str = option(
        default="spatial",
        choices=("spatial", "two-part"),
        help="Which model learns: the first, whose codes are spatial, or the second, whose codes say what is seen and "
        "how it is laid out. The second begins at weights of the first.",
    )
    steps: int = option(default=8000, least=1, help="Updates of the weights.")
    batch: int = option(
        default=16, least=1, help="Photographs in a step; as many draws from the prior stand beside them."
    )
    resolution: int = option(default=128, least=64, help="Height and width of the images in pixels, a multiple of 32.")
    crops: int = option(
        default=20, least=1, help="Random crops that are cut out of each photograph beforehand, half of them mirrored."
    )
    smallest_crop: float = option(
        default=0.45, help="Side of the smallest crop, as a share of the photograph's shorter side."
    )
    saturation: float = option(
        default=2.0, help="Half of the crops have their colours strengthened, by a factor between 1 and this one."
    )
    hue: float = option(default=0.25, help="Share of the crops whose hue is turned by a random angle.")
    pixel_weight: float = option(default=3.0, help="Weight of the mean absolute difference of pixels.")
    feature_weight: float = option(
        default=1.0,
        help="Weight of the mean absolute difference of features, each layer's divided by its mean magnitude.",
    )
    adversary_weight: float = option(default=0.4, help="Weight of the adversary.")
    moments_weight: float = option(
        default=1.0,
        help="Weight of the mean absolute difference between the second moments of the features of draws and of "
        "photographs, which gives draws the contrast and the fine detail of photographs.",
    )
    recovery_weight: float = option(
        default=1.0,
        help="Weight of the mean absolute difference between the codes of draws and what the encoder reads off "
        "their images, divided by the codes' mean deviation; it keeps different codes from the same picture.",
    )
    draws_start: int = option(
        default=2000,
        least=0,
        help="Step at which draws and adversary come in; their weights are full after as many steps again.",
    )
    leaning: float = option(
        default=0.6,
        help="Every other draw leans towards few axes, as codes do that a search has found: each axis is stretched "
        "by a log-normal factor of this standard deviation and shrunk by its rank to a power between 0 and "
        "half of this.",
    )
    code_noise: float = option(default=0.05, help="Standard deviation of the noise that is added to codes.")
    code_penalty: float = option(default=0.01, help="Weight of the mean square of codes.")
    learning_rate: float = option(default=1e-3, help="Of encoder and decoder; falls to 3 % over the last quarter.")
    adversary_rate: float = option(default=3e-4, help="Learning rate of the adversary.")
    average: float = option(default=0.998, help="Share of the old weights that the running average keeps at each step.")
    precision: str = option(
        default="quicker",
        choices=("quicker", "single", "bfloat16"),
        help="In which the dear parts of a step are computed; which is quicker is measured once, at the beginning.",
    )
    seed: int = option(default=0, least=0, help="Of everything random.")

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("saturation", "leaning", "adversary_weight", "moments_weight", "recovery_weight"):
            if getattr(self, name) < 0:
                raise InvalidArgumentError(f"{name}: expected a number of at least 0, got {getattr(self, name)!r}.")
        if not 0 <= self.hue <= 1:
            raise InvalidArgumentError(f"hue: expected a share from 0 to 1, got {self.hue!r}.")
        if not _LEAST <= self.resolution <= _LARGEST or self.resolution % _MULTIPLE:
            raise InvalidArgumentError(
                f"resolution: expected a multiple of {_MULTIPLE} from {_LEAST} to {_LARGEST} pixels, got "
                f"{self.resolution!r}."
            )
