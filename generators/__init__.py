"""Generators: from codes to images."""

if __name__ != "closedloop.generators":
    raise ImportError("import closedloop.generators; the folder generators/ is not a package of its own.")

from typing import TYPE_CHECKING, Any

from closedloop import recipes
from closedloop.errors import late_import
from closedloop.interfaces import Generator
from closedloop.signatures import at_door

if TYPE_CHECKING:
    from .accented import Accented
    from .biggan import BigGAN
    from .cppn import CPPN
    from .deepsim import DeePSiM
    from .fourier import Fourier
    from .fourier_movie import FourierMovie
    from .inversion import invert
    from .judges import FeatureTaps
    from .metric import image_metric
    from .native import Native
    from .native_class import NativeClass
    from .onnx_generator import OnnxGenerator
    from .phase import PhaseOnly
    from .pixels import Pixels
    from .torch_generator import TorchGenerator
    from .training import train_native
    from .training_settings import TrainingSettings
    from .wrappers import Masked, Placed, Subspace, Truncated

__all__ = [
    "CPPN",
    "Accented",
    "BigGAN",
    "DeePSiM",
    "FeatureTaps",
    "Fourier",
    "FourierMovie",
    "Masked",
    "Native",
    "NativeClass",
    "OnnxGenerator",
    "PhaseOnly",
    "Pixels",
    "Placed",
    "Subspace",
    "TorchGenerator",
    "TrainingSettings",
    "Truncated",
    "image_metric",
    "invert",
    "load_generator",
    "train_native",
]

#: Imported when first asked for: some need torch, and the room imports without it.
_HOMES = {
    "Accented": "accented",
    "BigGAN": "biggan",
    "CPPN": "cppn",
    "DeePSiM": "deepsim",
    "FeatureTaps": "judges",
    "Fourier": "fourier",
    "FourierMovie": "fourier_movie",
    "Masked": "wrappers",
    "Native": "native",
    "NativeClass": "native_class",
    "OnnxGenerator": "onnx_generator",
    "PhaseOnly": "phase",
    "Pixels": "pixels",
    "Placed": "wrappers",
    "Subspace": "wrappers",
    "TorchGenerator": "torch_generator",
    "TrainingSettings": "training_settings",
    "Truncated": "wrappers",
    "image_metric": "metric",
    "invert": "inversion",
    "train_native": "training",
}
__getattr__ = late_import(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@at_door
def load_generator(name: str, **options: Any) -> Generator:
    """Builds a generator by name, of this package or one that a plug-in adds.

    Args:
        name: "native", "native-class", "fourier", "pixels", "phase", "cppn", "deepsim:LAYER", "biggan:SIZE",
            "onnx:FILE", "accented:PHOTOGRAPH", the wrappers "truncated", "subspace", "placed" and "masked" (whose
            option `generator` is a name, or a mapping with a name and options), or one that a plug-in adds.
        **options: Options of its class, such as `resolution` or `weights`.

    Raises:
        UnknownNameError: No such generator.
        InvalidArgumentError: It does not take an option, or its value does not fit.
        WeightsError: The weights are missing, cannot be read, or do not fit. Never silently random.
        MissingExtraError: What it needs is not installed.
    """
    generator: Generator = recipes.build("generators", name, **options)
    return generator
