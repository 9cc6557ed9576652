"""The field's questions, asked of a recording: from a Dataset of `closedloop.open_recording` to labelled results.

Every function says its definition and source. Where the data cannot carry a number it is NaN, and the coordinate
`reason` of the result says why; it is empty where nothing is missing.
"""

from typing import TYPE_CHECKING

from closedloop.analysis.runs import concat, runs  # a function of its module's name cannot come late
from closedloop.errors import late_import

if TYPE_CHECKING:
    from closedloop.analysis.allocation import (
        allocation_dataset,
        extreme_parameters,
        layer_allocations,
        oscillation,
        read_allocation,
        step_shares,
    )
    from closedloop.analysis.atlas import AtlasPages, atlas_table
    from closedloop.analysis.categories import category_selectivity
    from closedloop.analysis.codes import code_geometry, latent_regression
    from closedloop.analysis.comparison import best_of_k, evolved_vs_reference, reference_means, winners_curse
    from closedloop.analysis.confirmed import success_over_runs
    from closedloop.analysis.contenders import advantage, contender_table
    from closedloop.analysis.controls import control_scores
    from closedloop.analysis.controversies import controversy
    from closedloop.analysis.days import reference_days, sittings
    from closedloop.analysis.developments import development, layer_table
    from closedloop.analysis.diversities import diversity
    from closedloop.analysis.drift import reference_drift
    from closedloop.analysis.elites import class_elites, class_probabilities
    from closedloop.analysis.errors import (
        answers_of,
        confusions,
        driving_units,
        error_clusters,
        explanations,
        single_units,
    )
    from closedloop.analysis.fields import field_box, field_responses, fit_field
    from closedloop.analysis.fronts import pareto_front
    from closedloop.analysis.gratings import fit_gratings, grating_responses
    from closedloop.analysis.landscapes import distance_to_peak, fit_kent, kent, landscape_responses, radial_tuning
    from closedloop.analysis.natural import naturalness
    from closedloop.analysis.observations import (
        trained_change,
        trained_layers,
        trained_observations,
        training_change,
        training_observations,
    )
    from closedloop.analysis.pairing import paired_difference
    from closedloop.analysis.pilots import pilot_models
    from closedloop.analysis.planning import Design, NoiseModel, plan, simulated_power, success_probability, welch_power
    from closedloop.analysis.provenance import proposers
    from closedloop.analysis.reliability import fano_factor, noise_ceiling, noise_correlation, selectivity, split_half
    from closedloop.analysis.resampling import (
        benjamini_hochberg,
        bootstrap,
        holm,
        mean_interval,
        median_interval,
        success_rate,
    )
    from closedloop.analysis.searches import natural_search, search_regret
    from closedloop.analysis.similarity import cross_driving, embedding, preference_similarity
    from closedloop.analysis.spikes import counts
    from closedloop.analysis.spurious import spurious_units, suspected_units
    from closedloop.analysis.synchrony import hurting_layers, learning_peaks, peak_synchrony
    from closedloop.analysis.tolerances import tolerance, tolerance_curves
    from closedloop.analysis.trajectories import generation_scores, generations_to, images_to, success, trajectory
    from closedloop.analysis.treatments import judged_treatments, treatment_accuracy
    from closedloop.analysis.tuning import psth, signal_correlation, sparseness, tuning_curve
    from closedloop.analysis.verifications import verification

#: Where the names of this room come from when they are first asked for.
_HOMES = {
    "AtlasPages": "atlas",
    "Design": "planning",
    "NoiseModel": "planning",
    "advantage": "contenders",
    "allocation_dataset": "allocation",
    "answers_of": "errors",
    "atlas_table": "atlas",
    "benjamini_hochberg": "resampling",
    "best_of_k": "comparison",
    "bootstrap": "resampling",
    "category_selectivity": "categories",
    "class_elites": "elites",
    "tolerance": "tolerances",
    "tolerance_curves": "tolerances",
    "class_probabilities": "elites",
    "code_geometry": "codes",
    "confusions": "errors",
    "contender_table": "contenders",
    "control_scores": "controls",
    "controversy": "controversies",
    "counts": "spikes",
    "cross_driving": "similarity",
    "development": "developments",
    "distance_to_peak": "landscapes",
    "diversity": "diversities",
    "driving_units": "errors",
    "embedding": "similarity",
    "error_clusters": "errors",
    "evolved_vs_reference": "comparison",
    "explanations": "errors",
    "extreme_parameters": "allocation",
    "fano_factor": "reliability",
    "field_box": "fields",
    "field_responses": "fields",
    "fit_field": "fields",
    "fit_gratings": "gratings",
    "fit_kent": "landscapes",
    "generation_scores": "trajectories",
    "generations_to": "trajectories",
    "grating_responses": "gratings",
    "holm": "resampling",
    "hurting_layers": "synchrony",
    "images_to": "trajectories",
    "judged_treatments": "treatments",
    "kent": "landscapes",
    "landscape_responses": "landscapes",
    "latent_regression": "codes",
    "layer_allocations": "allocation",
    "layer_table": "developments",
    "learning_peaks": "synchrony",
    "mean_interval": "resampling",
    "median_interval": "resampling",
    "natural_search": "searches",
    "naturalness": "natural",
    "noise_ceiling": "reliability",
    "noise_correlation": "reliability",
    "oscillation": "allocation",
    "paired_difference": "pairing",
    "pareto_front": "fronts",
    "peak_synchrony": "synchrony",
    "pilot_models": "pilots",
    "plan": "planning",
    "preference_similarity": "similarity",
    "proposers": "provenance",
    "psth": "tuning",
    "radial_tuning": "landscapes",
    "read_allocation": "allocation",
    "reference_days": "days",
    "reference_drift": "drift",
    "reference_means": "comparison",
    "search_regret": "searches",
    "selectivity": "reliability",
    "signal_correlation": "tuning",
    "simulated_power": "planning",
    "single_units": "errors",
    "sittings": "days",
    "sparseness": "tuning",
    "split_half": "reliability",
    "spurious_units": "spurious",
    "step_shares": "allocation",
    "success": "trajectories",
    "success_over_runs": "confirmed",
    "success_probability": "planning",
    "success_rate": "resampling",
    "suspected_units": "spurious",
    "trained_change": "observations",
    "trained_layers": "observations",
    "trained_observations": "observations",
    "training_change": "observations",
    "training_observations": "observations",
    "trajectory": "trajectories",
    "treatment_accuracy": "treatments",
    "tuning_curve": "tuning",
    "welch_power": "planning",
    "verification": "verifications",
    "winners_curse": "comparison",
}
__getattr__ = late_import(__name__, _HOMES)

__all__ = [
    "AtlasPages",
    "Design",
    "NoiseModel",
    "advantage",
    "allocation_dataset",
    "answers_of",
    "atlas_table",
    "benjamini_hochberg",
    "best_of_k",
    "bootstrap",
    "category_selectivity",
    "class_elites",
    "class_probabilities",
    "code_geometry",
    "concat",
    "confusions",
    "contender_table",
    "control_scores",
    "controversy",
    "counts",
    "cross_driving",
    "development",
    "distance_to_peak",
    "diversity",
    "driving_units",
    "embedding",
    "error_clusters",
    "evolved_vs_reference",
    "explanations",
    "extreme_parameters",
    "fano_factor",
    "field_box",
    "field_responses",
    "fit_field",
    "fit_gratings",
    "fit_kent",
    "generation_scores",
    "generations_to",
    "grating_responses",
    "holm",
    "hurting_layers",
    "images_to",
    "judged_treatments",
    "kent",
    "landscape_responses",
    "latent_regression",
    "layer_allocations",
    "layer_table",
    "learning_peaks",
    "mean_interval",
    "median_interval",
    "natural_search",
    "naturalness",
    "noise_ceiling",
    "noise_correlation",
    "oscillation",
    "paired_difference",
    "pareto_front",
    "peak_synchrony",
    "pilot_models",
    "plan",
    "preference_similarity",
    "proposers",
    "psth",
    "radial_tuning",
    "read_allocation",
    "reference_days",
    "reference_drift",
    "reference_means",
    "runs",
    "search_regret",
    "selectivity",
    "signal_correlation",
    "simulated_power",
    "single_units",
    "sittings",
    "sparseness",
    "split_half",
    "spurious_units",
    "step_shares",
    "success",
    "success_over_runs",
    "success_probability",
    "success_rate",
    "suspected_units",
    "tolerance",
    "tolerance_curves",
    "trained_change",
    "trained_layers",
    "trained_observations",
    "training_change",
    "training_observations",
    "trajectory",
    "treatment_accuracy",
    "tuning_curve",
    "verification",
    "welch_power",
    "winners_curse",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
