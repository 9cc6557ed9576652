"""Protocols: experiments as functions over subjects, generators and optimizers."""

if __name__ != "closedloop.protocols":
    raise ImportError("import closedloop.protocols; the folder protocols/ is not a package of its own.")

from closedloop.loop.protocol import Handed, RunProtocol, RunSummary, RunTable, register

from .ascend import ascend, read_ascent
from .compare import CONTENDERS, PUBLISHED, Contender, compare, transfer
from .controls import pure_noise, random_codes, shuffled_scores
from .elites import evolve_elites
from .evolve import evolve
from .landscape import landscape
from .present import present
from .resume import resume

__all__ = [
    "CONTENDERS",
    "PUBLISHED",
    "Contender",
    "Handed",
    "RunProtocol",
    "RunSummary",
    "RunTable",
    "ascend",
    "compare",
    "evolve",
    "evolve_elites",
    "landscape",
    "present",
    "pure_noise",
    "random_codes",
    "read_ascent",
    "register",
    "resume",
    "shuffled_scores",
    "transfer",
]
