"""The field's questions, asked of a recording: from a Dataset of `closedloop.open_recording` to labelled results.

Every function says its definition and source. Where the data cannot carry a number it is NaN, and the coordinate
`reason` of the result says why; it is empty where nothing is missing.
"""

from closedloop.analysis.codes import code_geometry, latent_regression
from closedloop.analysis.comparison import best_of_k, evolved_vs_reference, reference_means, winners_curse
from closedloop.analysis.contenders import advantage, contender_table
from closedloop.analysis.drift import reference_drift
from closedloop.analysis.elites import class_elites, class_probabilities
from closedloop.analysis.landscapes import distance_to_peak, fit_kent, kent, landscape_responses, radial_tuning
from closedloop.analysis.natural import naturalness
from closedloop.analysis.pairing import paired_difference
from closedloop.analysis.reliability import fano_factor, noise_ceiling, noise_correlation, selectivity, split_half
from closedloop.analysis.resampling import bootstrap, holm, success_rate
from closedloop.analysis.runs import concat, runs
from closedloop.analysis.similarity import cross_driving, embedding, preference_similarity
from closedloop.analysis.trajectories import generation_scores, generations_to, images_to, success, trajectory
from closedloop.analysis.tuning import psth, signal_correlation, sparseness, tuning_curve

__all__ = [
    "advantage",
    "best_of_k",
    "bootstrap",
    "class_elites",
    "class_probabilities",
    "code_geometry",
    "concat",
    "contender_table",
    "cross_driving",
    "distance_to_peak",
    "embedding",
    "evolved_vs_reference",
    "fano_factor",
    "fit_kent",
    "generation_scores",
    "generations_to",
    "holm",
    "images_to",
    "kent",
    "landscape_responses",
    "latent_regression",
    "naturalness",
    "noise_ceiling",
    "noise_correlation",
    "paired_difference",
    "preference_similarity",
    "psth",
    "radial_tuning",
    "reference_drift",
    "reference_means",
    "runs",
    "selectivity",
    "signal_correlation",
    "sparseness",
    "split_half",
    "success",
    "success_rate",
    "trajectory",
    "tuning_curve",
    "winners_curse",
]
