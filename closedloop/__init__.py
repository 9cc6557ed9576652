"""closedloop: what does this neuron want to see?

A network or a neuron is a *subject*: it is shown images and its responses are recorded. A *generator* turns codes into
images, an *optimizer* proposes codes and learns only from scores, and the loop goes round. This package imports without
torch; networks live in `closedloop.subjects`, generators in `closedloop.generators`, experiments in
`closedloop.protocols`. What is named here is imported when it is first asked for, so that a command waits for what it
uses alone.
"""

from typing import TYPE_CHECKING

from closedloop.errors import late_import

if TYPE_CHECKING:
    from closedloop.analysis.summary import summarize
    from closedloop.errors import ClosedLoopError
    from closedloop.formats import export, to_pynapple, to_rsatoolbox
    from closedloop.images.sets import ImageSet, natural_references
    from closedloop.interfaces import Generator, Objective, Optimizer, Space, Subject, Units
    from closedloop.loop.session import Session
    from closedloop.loop.stopping import Plateau, Target
    from closedloop.loop.thread import Thread
    from closedloop.objectives import Difference, Direction, Mean, Suppression, Unit, parse_objective
    from closedloop.optimizers import CMAES, Auto, IsotropicES, RandomSearch, SphereCMA, load_optimizer
    from closedloop.recording.reader import open_recording
    from closedloop.recording.render import render

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
    "export": "formats",
    "load_optimizer": "optimizers",
    "natural_references": "images.sets",
    "open_recording": "recording.reader",
    "parse_objective": "objectives",
    "render": "recording.render",
    "summarize": "analysis.summary",
    "to_pynapple": "formats",
    "to_rsatoolbox": "formats",
}
__getattr__ = late_import(__name__, _HOMES)

__all__ = [
    "CMAES",
    "Auto",
    "ClosedLoopError",
    "Difference",
    "Direction",
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
    "export",
    "load_optimizer",
    "natural_references",
    "open_recording",
    "parse_objective",
    "render",
    "summarize",
    "to_pynapple",
    "to_rsatoolbox",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
