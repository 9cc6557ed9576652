"""Protocols: experiments as functions over subjects, generators and optimizers."""

if __name__ != "closedloop.protocols":
    raise ImportError("import closedloop.protocols; the folder protocols/ is not a package of its own.")

from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunMovie, RunProtocol, RunSummary, RunTable, register

from . import sweep_costs as sweep_costs  # what a sweep is made of is for the command line, and no public name
from . import sweep_work as sweep_work
from .ascend import AscendSettings, ascend, read_ascent
from .atlas import AtlasSettings, atlas
from .compare import CompareSettings, compare, read_comparison, transfer
from .contenders import CONTENDERS, PUBLISHED, Contender
from .controls import pure_noise, random_codes, shuffled_scores
from .controversial import ControversialSettings, controversial
from .cross_units import CrossUnitsSettings, cross_units
from .develop import DevelopSettings, develop
from .diagnose import DiagnoseSettings, diagnose
from .diagnose import Study as Study  # what a diagnosis is made of is for the viewer, and no public name
from .diagnose import study_of as study_of
from .diagnose import why_closed as why_closed
from .elites import ElitesSettings, evolve_elites
from .evolve import evolve
from .explaining import Explanation as Explanation
from .fronts import FrontSettings
from .gratings import GratingSettings, gratings
from .invariance import InvarianceSettings, invariance
from .judge import JudgeSettings, judge
from .landscape import LandscapeSettings, landscape, stored_planes
from .lca import AllocationSettings, LossChangeAllocation
from .map_field import MapFieldSettings, map_field
from .map_field import at_field as at_field  # for the command line, and no public name
from .map_field import check_width as check_width  # likewise
from .parameters import stored_parameters
from .pareto import pareto
from .present import PresentSettings, present
from .resume import resume
from .search_natural import SearchSettings, search_natural
from .selectivity import SelectivitySettings, selectivity
from .stretch_and_squeeze import StretchSettings, stretch_and_squeeze
from .stretch_and_squeeze import stored_reference as stored_reference
from .surveying import LayerSurvey as LayerSurvey
from .surveying import Survey as Survey
from .sweep import sweep
from .sweep_work import SweepResult
from .train import Training, TrainSettings, train
from .trainings import SeedsSettings, train_seeds
from .treat import TreatSettings, treat
from .verify import VerifySettings, verify

__all__ = [
    "CONTENDERS",
    "PUBLISHED",
    "AllocationSettings",
    "Analysis",
    "AscendSettings",
    "AtlasSettings",
    "CompareSettings",
    "Contender",
    "ControversialSettings",
    "CrossUnitsSettings",
    "DevelopSettings",
    "DiagnoseSettings",
    "ElitesSettings",
    "FrontSettings",
    "GratingSettings",
    "Handed",
    "InvarianceSettings",
    "JudgeSettings",
    "LandscapeSettings",
    "LossChangeAllocation",
    "MapFieldSettings",
    "PresentSettings",
    "RunFigure",
    "RunMovie",
    "RunProtocol",
    "RunSummary",
    "RunTable",
    "SearchSettings",
    "SeedsSettings",
    "SelectivitySettings",
    "StretchSettings",
    "SweepResult",
    "TrainSettings",
    "Training",
    "TreatSettings",
    "VerifySettings",
    "ascend",
    "atlas",
    "compare",
    "controversial",
    "cross_units",
    "develop",
    "diagnose",
    "evolve",
    "evolve_elites",
    "gratings",
    "invariance",
    "judge",
    "landscape",
    "map_field",
    "pareto",
    "present",
    "pure_noise",
    "random_codes",
    "read_ascent",
    "read_comparison",
    "register",
    "resume",
    "search_natural",
    "selectivity",
    "shuffled_scores",
    "stored_parameters",
    "stored_planes",
    "stretch_and_squeeze",
    "sweep",
    "train",
    "train_seeds",
    "transfer",
    "treat",
    "verify",
]
