"""closedloop: what does this neuron want to see?

A network or a neuron is a *subject*: it is shown images and its responses are recorded. A *generator* turns codes into
images, an *optimizer* proposes codes and learns only from scores, and the loop goes round. This package imports without
torch; networks live in `closedloop.subjects`, generators in `closedloop.generators`, experiments in
`closedloop.protocols`.
"""

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
