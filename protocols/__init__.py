"""Protocols: experiments as functions over subjects, generators and optimizers."""

if __name__ != "closedloop.protocols":
    raise ImportError("import closedloop.protocols; the folder protocols/ is not a package of its own.")

from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunProtocol, RunSummary, RunTable, register

from .ascend import AscendSettings, ascend, read_ascent
from .atlas import AtlasSettings, atlas
from .compare import CompareSettings, compare, read_comparison, transfer
from .contenders import CONTENDERS, PUBLISHED, Contender
from .controls import pure_noise, random_codes, shuffled_scores
from .diagnose import DiagnoseSettings, Study, diagnose, study_of, why_closed
from .elites import ElitesSettings, evolve_elites
from .evolve import evolve
from .explaining import Explanation, Means, explain, mean_activations
from .landscape import LandscapeSettings, landscape, stored_planes
from .lca import AllocationSettings, LossChangeAllocation
from .parameters import stored_parameters
from .present import PresentSettings, present
from .resume import resume
from .train import Training, TrainSettings, train

__all__ = [
    "CONTENDERS",
    "PUBLISHED",
    "AllocationSettings",
    "Analysis",
    "AscendSettings",
    "AtlasSettings",
    "CompareSettings",
    "Contender",
    "DiagnoseSettings",
    "ElitesSettings",
    "Explanation",
    "Handed",
    "LandscapeSettings",
    "LossChangeAllocation",
    "Means",
    "PresentSettings",
    "RunFigure",
    "RunProtocol",
    "RunSummary",
    "RunTable",
    "Study",
    "TrainSettings",
    "Training",
    "ascend",
    "atlas",
    "compare",
    "diagnose",
    "evolve",
    "evolve_elites",
    "explain",
    "landscape",
    "mean_activations",
    "present",
    "pure_noise",
    "random_codes",
    "read_ascent",
    "read_comparison",
    "register",
    "resume",
    "shuffled_scores",
    "stored_parameters",
    "stored_planes",
    "study_of",
    "train",
    "transfer",
    "why_closed",
]
