"""Subjects: networks, functions and model neurons behind the black-box interface of an experiment."""

if __name__ != "closedloop.subjects":
    raise ImportError("import closedloop.subjects; the folder subjects/ is not a package of its own.")

from .analytic import EnergySubject, GaborSubject, NormalizationSubject
from .function import FunctionSubject
from .layers import Layer, layers_of
from .motion import MotionEnergySubject
from .named import load_subject
from .noise import Drift, Gain, NegativeBinomial, Poisson
from .onnx_file import OnnxSubject
from .torch_subject import TorchSubject
from .wrapping import Lossy, Repeated

__all__ = [
    "Drift",
    "EnergySubject",
    "FunctionSubject",
    "GaborSubject",
    "Gain",
    "Layer",
    "Lossy",
    "MotionEnergySubject",
    "NegativeBinomial",
    "NormalizationSubject",
    "OnnxSubject",
    "Poisson",
    "Repeated",
    "TorchSubject",
    "layers_of",
    "load_subject",
]
