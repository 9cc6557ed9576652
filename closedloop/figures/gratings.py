"""Draws tuning to gratings: all of them, and the curves through the best one."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from closedloop.analysis.fitting import Grouped
from closedloop.analysis.gratings import FULL_WIDTH, GratingTable, bump, fit_gratings, grating_responses, tuned
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import COLOUR_MAP, EVOLVED, INK, NATURAL, caption, colour_bar, dress
from closedloop.images.patterns import Screen
from closedloop.interfaces import FloatArray
from closedloop.readable import with_error
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door


@at_door
def plot_gratings(recording: xr.Dataset, unit: int = 0) -> Figure:
    """Draws a unit's tuning: orientation by frequency, and along both and the phase through the best grating.

    Args:
        recording: Of `closedloop.protocols.gratings`.
        unit: Column of the responses.

    Returns:
        The figure of four axes. Dots are mean responses, or of simple cells the amplitude over phases; lines are the
        fit, and in the last one a cosine of amplitude F1.

    Raises:
        RecordingError: It is no recording of gratings.
        InvalidArgumentError: No such unit.
    """
    table, screen = grating_responses(recording), Screen.of_recording(recording)
    if not 0 <= unit < table.responses.shape[-1]:
        raise InvalidArgumentError(f"unit: expected a column from 0 to {table.responses.shape[-1] - 1}, got {unit!r}.")
    fit = fit_gratings(recording, units=[unit]).isel(neuroid=0)
    chosen, facts = tuned(table, unit)
    first, second = np.unravel_index(int(np.where(np.isnan(chosen), -np.inf, chosen).argmax()), chosen.shape)
    best = int(first), int(second)
    per = 1.0 if screen.px_per_deg is None else screen.px_per_deg / screen.resolution
    frequency, unit_of = table.cycles_per_image * per, "image" if screen.px_per_deg is None else "°"
    figure = Figure(figsize=(12.4, 3.3), dpi=150, layout="constrained")
    whole, over_angle, over_cycles, over_phase = (figure.add_subplot(1, 4, i + 1) for i in range(4))
    what = "amplitude over phases, F1" if facts["cell"] == "simple" else "mean over phases, F0"
    drawn = whole.pcolormesh(
        table.orientation_deg,
        np.log2(frequency),
        np.ma.masked_invalid(chosen.T),
        cmap=COLOUR_MAP,
        shading="nearest",
        rasterized=True,
    )
    whole.set_yticks(np.log2(frequency), labels=[f"{f:.2g}" for f in frequency])
    whole.set_xlabel("orientation (°)")
    whole.set_ylabel(f"cycles per {unit_of}")
    colour_bar(whole, drawn, what)
    over_angle.plot(table.orientation_deg, chosen[:, best[1]], "o", ms=4.5, color=NATURAL)
    over_cycles.plot(frequency, chosen[best[0]], "o", ms=4.5, color=NATURAL)
    parameters = _parameters(fit)
    if np.isfinite(parameters).all():
        _draw_fit((over_angle, over_cycles), table, chosen, parameters, best, per)
    over_angle.set_xlabel("orientation (°)")
    over_angle.set_ylabel(what)
    over_cycles.set_xscale("log", base=2)
    over_cycles.set_xticks(frequency, labels=[f"{f:.2g}" for f in frequency])
    over_cycles.minorticks_off()
    over_cycles.set_xlabel(f"cycles per {unit_of}")
    _draw_phases(over_phase, table, unit, best)
    ratio = f"F1/F0 = {facts['f1_f0']:.2f}: " if np.isfinite(facts["f1_f0"]) else ""
    caption(over_phase, ratio + facts["cell"])
    for ax, box in ((whole, True), (over_angle, False), (over_cycles, False), (over_phase, False)):
        dress(ax, box=box)
    said = f"{recorded_title(recording, unit)}: {_words(fit, unit_of, per)}"
    figure.suptitle(said, x=0.01, ha="left", fontsize=9, color=INK)
    return figure


def _parameters(fit: xr.Dataset) -> FloatArray:
    """Returns the parameters of the fit again from its numbers; NaN where it lacks one."""
    theta, half, cycles, octaves = (
        float(fit[n])
        for n in ("preferred_orientation_deg", "half_width_deg", "preferred_cycles_per_image", "bandwidth_octaves")
    )
    kappa = np.log(2) / max(1 - np.cos(2 * np.deg2rad(half)), 1e-12)
    return np.array([theta, np.log(kappa), np.log2(cycles), np.log(octaves / FULL_WIDTH)])


def _draw_fit(
    axes: tuple[Axes, Axes],
    table: GratingTable,
    chosen: FloatArray,
    parameters: FloatArray,
    best: tuple[int, int],
    per: float,
) -> None:
    """Draws the fitted surface along both axes through the best grating."""
    theta, octave = table.grid
    known = ~np.isnan(chosen.ravel())
    data = Grouped(chosen.ravel()[known], np.zeros(int(known.sum()), np.intp))
    (level,), (amplitude,) = data.linear(bump(theta[known], octave[known], parameters))
    angles = np.linspace(table.orientation_deg[0], 180, 181)
    octaves = np.linspace(np.log2(table.cycles_per_image[0]), np.log2(table.cycles_per_image[-1]), 181)
    at = np.full(181, np.log2(table.cycles_per_image[best[1]])), np.full(181, table.orientation_deg[best[0]])
    axes[0].plot(angles, level + amplitude * bump(angles, at[0], parameters), color=EVOLVED, lw=1.8)
    axes[1].plot(2.0**octaves * per, level + amplitude * bump(at[1], octaves, parameters), color=EVOLVED, lw=1.8)


def _draw_phases(ax: Axes, table: GratingTable, unit: int, best: tuple[int, int]) -> None:
    """Draws the responses to the phases of the best grating, and the cosine through them."""
    y = table.responses[(*best, slice(None), unit)]
    wave = (y * np.exp(-1j * np.deg2rad(table.phase_deg))).mean()
    fine = np.linspace(0, 360, 181)
    ax.plot(table.phase_deg, y, "o", ms=4.5, color=NATURAL)
    if np.isfinite(wave):
        ax.plot(fine, y.mean() + 2 * (wave * np.exp(1j * np.deg2rad(fine))).real, color=EVOLVED, lw=1.8)
    if np.isfinite(table.blank[unit]):
        ax.axhline(table.blank[unit], color=INK, lw=0.8, ls=(0, (3, 3)))
        ax.annotate("grey", (360, table.blank[unit]), fontsize=8, ha="right", va="bottom", color=INK)
    ax.set_xticks((0, 90, 180, 270, 360))
    ax.set_xlabel("phase of the best grating (°)")
    ax.set_ylabel("mean response")


def _words(fit: xr.Dataset, unit_of: str, per: float) -> str:
    """Returns the fit's numbers, and what it lacks."""
    found = []
    theta, cycles = float(fit["preferred_orientation_deg"]), float(fit["preferred_cycles_per_image"]) * per
    if np.isfinite(theta):
        found.append(f"prefers {with_error(theta, float(fit['preferred_orientation_deg_se']))}°")
    if np.isfinite(cycles):
        error = float(fit["preferred_cycles_per_image_se"]) * per
        found.append(f"{with_error(cycles, error)} cycles per {unit_of}")
    if reason := fit["reason"].item():
        found.append(str(reason))
    return ", ".join(found)
