"""Subjects: networks, functions and model neurons behind the black-box interface of an experiment."""

if __name__ != "closedloop.subjects":
    raise ImportError("import closedloop.subjects; the folder subjects/ is not a package of its own.")

from typing import TYPE_CHECKING

from closedloop.errors import late_import

if TYPE_CHECKING:
    from .analytic import EnergySubject, GaborSubject, NormalizationSubject
    from .displayed import Displayed
    from .encoder import Encoder
    from .function import FunctionSubject
    from .inside import Inside, as_maps, grid_of
    from .joined import Joined
    from .layers import Layer, layers_of
    from .loading import load_subject
    from .motion import MotionEnergySubject
    from .noise import Drift, Gain, NegativeBinomial, Poisson, best_natural
    from .onnx_file import OnnxSubject
    from .pooled import Pooled
    from .replay import Replay
    from .rig import RigSubject
    from .served import Served
    from .torch_subject import TorchSubject
    from .trained import TrainedSubject
    from .twin import Twin
    from .wrapping import Lossy, Repeated, inner_of

#: Networks need torch, and the room imports without it.
_HOMES = {
    "Displayed": "displayed",
    "Drift": "noise",
    "Encoder": "encoder",
    "EnergySubject": "analytic",
    "FunctionSubject": "function",
    "GaborSubject": "analytic",
    "Inside": "inside",
    "Gain": "noise",
    "Joined": "joined",
    "Layer": "layers",
    "Lossy": "wrapping",
    "MotionEnergySubject": "motion",
    "NegativeBinomial": "noise",
    "NormalizationSubject": "analytic",
    "OnnxSubject": "onnx_file",
    "Poisson": "noise",
    "Pooled": "pooled",
    "Repeated": "wrapping",
    "Replay": "replay",
    "RigSubject": "rig",
    "Served": "served",
    "TorchSubject": "torch_subject",
    "TrainedSubject": "trained",
    "Twin": "twin",
    "as_maps": "inside",
    "best_natural": "noise",
    "grid_of": "inside",
    "inner_of": "wrapping",
    "layers_of": "layers",
    "load_subject": "loading",
}
__getattr__ = late_import(__name__, _HOMES)

__all__ = [
    "Displayed",
    "Drift",
    "Encoder",
    "EnergySubject",
    "FunctionSubject",
    "GaborSubject",
    "Gain",
    "Inside",
    "Joined",
    "Layer",
    "Lossy",
    "MotionEnergySubject",
    "NegativeBinomial",
    "NormalizationSubject",
    "OnnxSubject",
    "Poisson",
    "Pooled",
    "Repeated",
    "Replay",
    "RigSubject",
    "Served",
    "TorchSubject",
    "TrainedSubject",
    "Twin",
    "as_maps",
    "best_natural",
    "grid_of",
    "inner_of",
    "layers_of",
    "load_subject",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
