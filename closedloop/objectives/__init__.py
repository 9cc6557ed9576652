"""What is to be maximized, as values with arithmetic: ``Unit(3) - 0.5 * Mean([0, 1]) - 2 * TotalVariation()``.

An objective maps responses ``(n, units)`` to scores ``(n,)``, for numpy arrays and for torch tensors alike; responses
with a time axis are averaged over time first. NaN in, NaN out. Units are columns of the responses. Terms that look at
the images too are scored with `evaluate`.
"""

from closedloop.interfaces import ImageTextModel
from closedloop.objectives.algebra import Combination, Linear, Product, Term
from closedloop.objectives.captions.terms import CaptionDirection, CaptionSimilarity
from closedloop.objectives.evaluating import ImageObjective, evaluate, looks_at_images
from closedloop.objectives.image_terms import L1, L2, AlphaNorm, Sharpness, TotalVariation
from closedloop.objectives.linear import Difference, Direction, Mean, Suppression, Unit
from closedloop.objectives.nonlinear import Contrast, Cosine, Diversity, Layer, LogProbability, Probability
from closedloop.objectives.parsing import parse_objective
from closedloop.objectives.population import Controversial, OneHot, Pattern, Stretch

__all__ = [
    "L1",
    "L2",
    "AlphaNorm",
    "CaptionDirection",
    "CaptionSimilarity",
    "Combination",
    "Contrast",
    "Controversial",
    "Cosine",
    "Difference",
    "Direction",
    "Diversity",
    "ImageObjective",
    "ImageTextModel",
    "Layer",
    "Linear",
    "LogProbability",
    "Mean",
    "OneHot",
    "Pattern",
    "Probability",
    "Product",
    "Sharpness",
    "Stretch",
    "Suppression",
    "Term",
    "TotalVariation",
    "Unit",
    "evaluate",
    "looks_at_images",
    "parse_objective",
]
