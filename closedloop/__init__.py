"""closedloop: what does this neuron want to see?

A network or a neuron is a *subject*: it is shown images and its responses are recorded. A *generator* turns codes into
images, an *optimizer* proposes codes and learns only from scores, and the loop goes round. This package imports without
torch; networks live in `closedloop.subjects`, generators in `closedloop.generators`, experiments in
`closedloop.protocols`. What is named here is imported when it is first asked for, so that a command waits for what it
uses alone.
"""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from closedloop.errors import late_import
from closedloop.notebooks import in_notebooks

if TYPE_CHECKING:
    from closedloop.analysis.catalogue import catalogue
    from closedloop.analysis.summary import summarize
    from closedloop.errors import ClosedLoopError
    from closedloop.figures.paper import style
    from closedloop.figures.showing import imshow, show
    from closedloop.formats import export, to_pynapple, to_rsatoolbox
    from closedloop.images.sets import ImageSet, natural_references
    from closedloop.interfaces import Generator, Objective, Optimizer, Space, Subject, Units
    from closedloop.loop.sequential import Beats, Futility
    from closedloop.loop.session import Session
    from closedloop.loop.stopping import Plateau, Target
    from closedloop.loop.thread import Thread
    from closedloop.objectives import Difference, Direction, Mean, Suppression, Unit, parse_objective
    from closedloop.optimizers import CMAES, Auto, IsotropicES, RandomSearch, SphereCMA, load_optimizer
    from closedloop.recording.reader import open_recording
    from closedloop.recording.render import render

    __version__: str

#: Where the names of this package come from when they are first asked for.
_HOMES = {
    "CMAES": "optimizers",
    "Auto": "optimizers",
    "ClosedLoopError": "errors",
    "Difference": "objectives",
    "Direction": "objectives",
    "Generator": "interfaces",
    "ImageSet": "images.sets",
    "IsotropicES": "optimizers",
    "Mean": "objectives",
    "Objective": "interfaces",
    "Optimizer": "interfaces",
    "Beats": "loop.sequential",
    "Futility": "loop.sequential",
    "Plateau": "loop.stopping",
    "RandomSearch": "optimizers",
    "Session": "loop.session",
    "Space": "interfaces",
    "SphereCMA": "optimizers",
    "Subject": "interfaces",
    "Suppression": "objectives",
    "Target": "loop.stopping",
    "Thread": "loop.thread",
    "Unit": "objectives",
    "Units": "interfaces",
    "catalogue": "analysis.catalogue",
    "export": "formats",
    "imshow": "figures.showing",
    "load_optimizer": "optimizers",
    "natural_references": "images.sets",
    "open_recording": "recording.reader",
    "parse_objective": "objectives",
    "render": "recording.render",
    "show": "figures.showing",
    "style": "figures.paper",
    "summarize": "analysis.summary",
    "to_pynapple": "formats",
    "to_rsatoolbox": "formats",
}
_late = late_import(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # read from the installation, which takes a while, when it is asked for
        return importlib.import_module("closedloop.recipes").version()
    return _late(name)


#: Where modules stand whose former paths README and documents named; both paths lead to the same module.
_MOVED = {
    "ascents": "analysis.ascents",
    "attribution": "gradients.attribution",
    "captions": "objectives.captions.objective",
    "cautions": "analysis.quality",
    "describe": "recipes",
    "drift": "loop.drift_correction",
    "engines": "networks.engines",
    "evolution": "loop.thread",
    "experiment": "loop.experiment",
    "exports": "formats",
    "importers": "formats.importers",
    "matching": "recipes",
    "naturalness": "images.naturalness",
    "optimizers.adam": "optimizers.gradient.adam",
    "optimizers.ascent": "optimizers.gradient.ascent",
    "optimizers.ppgn": "optimizers.gradient.ppgn",
    "optimizers.regularizers": "optimizers.gradient.regularizers",
    "pictures": "recording.pictures",
    "presenting": "loop.presenter",
    "registry": "recipes",
    "settings": "loop.settings",
    "states": "recording.states",
    "stimuli": "recording.render",
    "stopping": "loop.stopping",
    "summary": "analysis.summary",
    "weights": "networks.weights",
}


class _MovedModules(MetaPathFinder, Loader):
    """Finds modules under their former paths; nothing is imported before it is asked for."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        known = fullname.startswith("closedloop.") and fullname.partition(".")[2] in _MOVED
        return ModuleSpec(fullname, self) if known else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(f"closedloop.{_MOVED[name.partition('.')[2]]}")


sys.meta_path.append(_MovedModules())
in_notebooks()

__all__ = [
    "CMAES",
    "Auto",
    "Beats",
    "ClosedLoopError",
    "Difference",
    "Direction",
    "Futility",
    "Generator",
    "ImageSet",
    "IsotropicES",
    "Mean",
    "Objective",
    "Optimizer",
    "Plateau",
    "RandomSearch",
    "Session",
    "Space",
    "SphereCMA",
    "Subject",
    "Suppression",
    "Target",
    "Thread",
    "Unit",
    "Units",
    "__version__",
    "catalogue",
    "export",
    "imshow",
    "load_optimizer",
    "natural_references",
    "open_recording",
    "parse_objective",
    "render",
    "show",
    "style",
    "summarize",
    "to_pynapple",
    "to_rsatoolbox",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
