"""Figures of a recording. Each draws on given matplotlib axes, or on those of a new figure, and returns them.

Nothing is shown, and matplotlib's global state is neither read nor written: ``plot_trajectory(ds).figure.savefig(…)``
writes PNG, PDF or SVG. Figures carry units, the number of presentations, the seed, and say what an interval is.
"""

from closedloop.analysis import generation_scores
from closedloop.analysis.summary import best_references
from closedloop.figures.allocation import (
    plot_allocation,
    plot_cumulative,
    plot_layer_totals,
    plot_neurons,
    plot_parameter_shares,
    plot_parameters,
    plot_peaks,
    plot_reconstruction,
    plot_step_shares,
)
from closedloop.figures.ascents import plot_ascents
from closedloop.figures.attribution import plot_attributions
from closedloop.figures.categories import plot_selectivity
from closedloop.figures.comparison import plot_evolved_vs_reference
from closedloop.figures.contenders import plot_budgets, plot_contenders
from closedloop.figures.controversies import plot_controversy
from closedloop.figures.development import development_movie, plot_development
from closedloop.figures.elites import best_elites, plot_elites, plot_elites_course
from closedloop.figures.fields import plot_field
from closedloop.figures.fronts import plot_front
from closedloop.figures.gratings import plot_gratings
from closedloop.figures.landscape import plot_landscape
from closedloop.figures.learning_movie import allocation_movie
from closedloop.figures.page import plot_evolution
from closedloop.figures.plan import plot_plan
from closedloop.figures.population import plot_code_plane, plot_population
from closedloop.figures.searches import plot_natural_search
from closedloop.figures.showing import imshow, show
from closedloop.figures.sittings import plot_sittings
from closedloop.figures.spikes import plot_psth
from closedloop.figures.spurious import plot_spurious
from closedloop.figures.style import EVOLVED, INK, NATURAL
from closedloop.figures.tolerances import plot_tolerance
from closedloop.figures.trainings import plot_trainings
from closedloop.figures.trajectory import plot_threads, plot_trajectory
from closedloop.figures.treatments import plot_judgement, plot_treatment
from closedloop.figures.twins import plot_twin
from closedloop.figures.unit_map import plot_unit_map
from closedloop.figures.units import plot_cross_driving, plot_reliability
from closedloop.figures.verification import plot_verification, plot_verification_matrix

__all__ = [
    "EVOLVED",
    "INK",
    "NATURAL",
    "allocation_movie",
    "best_elites",
    "best_references",
    "development_movie",
    "generation_scores",
    "imshow",
    "plot_allocation",
    "plot_ascents",
    "plot_attributions",
    "plot_budgets",
    "plot_code_plane",
    "plot_contenders",
    "plot_controversy",
    "plot_cross_driving",
    "plot_cumulative",
    "plot_development",
    "plot_elites",
    "plot_elites_course",
    "plot_evolution",
    "plot_evolved_vs_reference",
    "plot_field",
    "plot_front",
    "plot_gratings",
    "plot_judgement",
    "plot_landscape",
    "plot_layer_totals",
    "plot_natural_search",
    "plot_neurons",
    "plot_parameter_shares",
    "plot_parameters",
    "plot_peaks",
    "plot_plan",
    "plot_population",
    "plot_psth",
    "plot_reconstruction",
    "plot_reliability",
    "plot_selectivity",
    "plot_sittings",
    "plot_spurious",
    "plot_step_shares",
    "plot_threads",
    "plot_tolerance",
    "plot_trainings",
    "plot_trajectory",
    "plot_treatment",
    "plot_twin",
    "plot_unit_map",
    "plot_verification",
    "plot_verification_matrix",
    "show",
]
