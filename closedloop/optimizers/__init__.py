"""Optimizers: ask for codes, tell their scores. One algorithm, one file."""

from closedloop.optimizers.auto import Auto
from closedloop.optimizers.cholesky import CholeskyCMAES
from closedloop.optimizers.cmaes import CMAES
from closedloop.optimizers.controls import NoiseScores, ShuffledScores
from closedloop.optimizers.fdgd import FDGD
from closedloop.optimizers.genetic import GeneticAlgorithm
from closedloop.optimizers.gradient.adam import Adam
from closedloop.optimizers.gradient.ascent import GradientAscent
from closedloop.optimizers.gradient.ppgn import PPGN
from closedloop.optimizers.hessian import HessianCMA
from closedloop.optimizers.isotropic import IsotropicES
from closedloop.optimizers.loading import load_optimizer
from closedloop.optimizers.nes import NES
from closedloop.optimizers.random_search import RandomSearch
from closedloop.optimizers.separable import SeparableCMA
from closedloop.optimizers.sphere import SphereCMA

__all__ = [
    "CMAES",
    "FDGD",
    "NES",
    "PPGN",
    "Adam",
    "Auto",
    "CholeskyCMAES",
    "GeneticAlgorithm",
    "GradientAscent",
    "HessianCMA",
    "IsotropicES",
    "NoiseScores",
    "RandomSearch",
    "SeparableCMA",
    "ShuffledScores",
    "SphereCMA",
    "load_optimizer",
]
