"""Tuning to gratings: preferred orientation and spatial frequency, bandwidths, and simple or complex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from closedloop.analysis.fitting import LEVEL, Grouped, Search, error_of, search
from closedloop.analysis.units import means, stimuli, unit_coords
from closedloop.images.patterns import Screen
from closedloop.interfaces import FloatArray
from closedloop.objectives.naming_units import UnitSpec, parse_columns
from closedloop.signatures import at_door

#: The kind of presentations.
GRATING = "grating"
#: Their coordinates; NaN for the blank image.
COLUMNS = ("grating_orientation_deg", "grating_cycles_per_image", "grating_phase_deg")
#: Full width at half height of a Gaussian, in standard deviations: 2 √(2 ln 2).
FULL_WIDTH = 2 * np.sqrt(2 * np.log(2))
#: Numbers that are fitted to each unit.
_FITTED = ("preferred_orientation_deg", "half_width_deg", "preferred_cycles_per_image", "bandwidth_octaves")


@dataclass(frozen=True)
class GratingTable:
    """Mean responses to gratings.

    Attributes:
        orientation_deg: ``(a,)``, rising.
        cycles_per_image: ``(f,)``, rising.
        phase_deg: ``(p,)``, rising.
        responses: ``(a, f, p, units)``, NaN where all presentations were lost.
        blank: Mean response to the grey image ``(units,)``.
    """

    orientation_deg: FloatArray
    cycles_per_image: FloatArray
    phase_deg: FloatArray
    responses: FloatArray
    blank: FloatArray

    @property
    def grid(self) -> tuple[FloatArray, FloatArray]:
        """Orientation, and base-2 logarithm of the frequency, of each grating whatever its phase, ``(a · f,)``."""
        theta, octave = np.meshgrid(self.orientation_deg, np.log2(self.cycles_per_image), indexing="ij")
        return theta.ravel(), octave.ravel()

    def harmonics(self, unit: int) -> tuple[FloatArray, FloatArray]:
        """Returns F0, the mean over phases less the response to the blank image, and F1, the amplitude at one cycle.

        Each ``(a, f)``. F1 = 2 |Σ r e^(−iφ)| ÷ n, NaN where a phase is lost.
        """
        table = self.responses[..., unit]
        known = ~np.isnan(table)
        total = np.where(known, table, 0).sum(-1)
        blank = self.blank[unit] if np.isfinite(self.blank[unit]) else 0.0
        f0 = np.where(known.any(-1), total / np.maximum(known.sum(-1), 1) - blank, np.nan)
        wave = np.exp(-1j * np.deg2rad(self.phase_deg))
        return f0, 2 * np.abs((table * wave).sum(-1)) / len(wave)


def bump(orientation_deg: FloatArray, octave: FloatArray, parameters: FloatArray) -> FloatArray:
    """Returns von Mises over orientation times Gauss over the logarithm of frequency, 1 at the peak, ``(n,)``.

    exp(κ (cos 2(θ − θ₀) − 1)) · exp(−½ ((o − o₀) ÷ s)²).

    Args:
        orientation_deg: ``(n,)``.
        octave: Base-2 logarithm of the frequency, ``(n,)``.
        parameters: θ₀ in degrees, ln κ, o₀, ln s.
    """
    theta, kappa, middle, width = parameters[0], np.exp(parameters[1]), parameters[2], np.exp(parameters[3])
    around = np.exp(kappa * (np.cos(2 * np.deg2rad(orientation_deg - theta)) - 1))
    found: FloatArray = around * np.exp(-0.5 * ((octave - middle) / width) ** 2)
    return found


def _described(parameters: FloatArray) -> FloatArray:
    """Returns preferred orientation, half width at half height, preferred frequency, full bandwidth in octaves."""
    theta, kappa, middle, width = parameters[0], np.exp(parameters[1]), parameters[2], np.exp(parameters[3])
    # cos 2Δ = 1 − ln 2 ÷ κ at half height; 90° where the curve does not fall so far.
    half = np.rad2deg(np.arccos(np.clip(1 - np.log(2) / kappa, -1, 1))) / 2
    return np.array([theta, half, 2.0**middle, FULL_WIDTH * width])


@at_door
def fit_gratings(recording: xr.Dataset, *, units: UnitSpec | None = None, seed: int = 0) -> xr.Dataset:
    """Fits orientation and spatial frequency of each unit, and tells simple from complex cells.

    Where F1 ÷ F0 at the best grating is above 1 the cell is simple, and F1 is fitted, else F0 (Skottun et al. 1991,
    *Vision Research*): the mean over phases less the response to grey, and the amplitude with which the response
    follows the phase. The model is level + amplitude · von Mises (orientation) · log-Gauss (frequency), by least
    squares; standard errors are those of HC3, see `closedloop.analysis.fitting`.

    Args:
        recording: Of `closedloop.protocols.gratings`.
        units: Columns of the responses; None for all.
        seed: Of the shuffles behind `p`.

    Returns:
        Over ``neuroid``: `preferred_orientation_deg` in [0, 180), of the stripes, counterclockwise from horizontal;
        `half_width_deg` at half height; `preferred_cycles_per_image`, and where the screen is known
        `preferred_cycles_per_deg`; `bandwidth_octaves`, the full width at half height; each with a standard error,
        `…_se`; `f0`, `f1` and `f1_f0` at the best grating; `osi`, 1 − circular variance over orientations at the best
        frequency; `r_squared`; and `p`, by shuffling gratings. The coordinate `cell` is "simple" or "complex". NaN with
        the reason where responses do not depend on the grating (p ≥ 0.01), where orientations are all alike, or where
        the best frequency lies beyond those shown.

    Raises:
        RecordingError: It is no recording of gratings.
    """
    table = grating_responses(recording)
    count = table.responses.shape[-1]
    columns = list(range(count)) if units is None else parse_columns(units, count)
    found = [fit_unit(table, column, seed) for column in columns]
    whole = {name: np.array([f[name] for f in found]) for name in found[0]}
    texts = {name: ("neuroid", whole.pop(name).astype(object)) for name in ("cell", "reason")}
    screen = Screen.of_recording(recording)
    if screen.px_per_deg is not None:
        scale = screen.px_per_deg / screen.resolution  # images per degree
        for end in ("", "_se"):
            whole[f"preferred_cycles_per_deg{end}"] = whole[f"preferred_cycles_per_image{end}"] * scale
    coords = {name: (dim, values[columns]) for name, (dim, values) in unit_coords(recording).items()}
    return xr.Dataset(
        {name: ("neuroid", values.astype(float)) for name, values in whole.items()},
        coords={**coords, **screen.scalars(), **texts},
    )


@at_door
def grating_responses(recording: xr.Dataset) -> GratingTable:
    """Returns mean responses by orientation, frequency and phase.

    Raises:
        RecordingError: It is no recording of gratings.
    """
    chosen, columns = stimuli(recording, GRATING, COLUMNS, "responses to gratings", "gratings")
    values = np.stack(columns).astype(float)
    table, drawn = means(recording, chosen), ~np.isnan(values[0])
    axes = [np.unique(v[drawn]) for v in values]
    responses = np.full((*map(len, axes), table.shape[1]), np.nan)
    responses[tuple(np.searchsorted(a, v[drawn]) for a, v in zip(axes, values, strict=True))] = table[drawn]
    grey = table[~drawn]
    return GratingTable(axes[0], axes[1], axes[2], responses, grey[0] if len(grey) else np.full(table.shape[1], np.nan))


def tuned(table: GratingTable, unit: int) -> tuple[FloatArray, dict[str, Any]]:
    """Returns what is fitted, F1 or F0, ``(a, f)``, and the harmonics at the best grating."""
    f0, f1 = table.harmonics(unit)
    level = np.where(np.isnan(f1), -np.inf, np.maximum(np.where(np.isnan(f0), -np.inf, f0), f1))
    best = np.unravel_index(int(level.argmax()), level.shape)
    mean, wave = float(f0[best]), float(f1[best])
    simple = len(table.phase_deg) > 2 and wave > max(mean, 0.0)
    ratio = wave / mean if mean > 0 else np.nan
    chosen = f1 if simple else f0
    row = np.maximum(np.nan_to_num(chosen[:, best[1]]), 0.0)
    around = np.abs((row * np.exp(2j * np.deg2rad(table.orientation_deg))).sum())
    osi = float(around / row.sum()) if row.sum() > 0 else np.nan
    facts = {"f0": mean, "f1": wave, "f1_f0": ratio, "osi": osi, "cell": "simple" if simple else "complex"}
    return chosen, facts


def fit_unit(table: GratingTable, unit: int, seed: int = 0) -> dict[str, Any]:
    """Returns what `fit_gratings` says of one unit."""
    chosen, facts = tuned(table, unit)
    theta, octave = table.grid
    y, known = chosen.ravel(), ~np.isnan(chosen.ravel())
    if known.sum() < 12 or len(table.orientation_deg) < 4 or len(table.cycles_per_image) < 3:
        return _none("too few gratings have a response: the fit needs 12, of 4 orientations and 3 frequencies", {})
    data = Grouped(y[known], np.zeros(int(known.sum()), np.intp))
    whole = table.responses[..., unit]
    spread = data.centred(data.y)
    if float(spread @ spread) <= 1e-20 * max(float(np.nansum(whole**2)), 1e-300):
        return _none("the response is the same to all gratings", {})
    at = theta[known], octave[known]
    octaves = np.log2(table.cycles_per_image)
    shapes = [(np.log(k), np.log(s)) for k in (1.0, 4.0, 12.0) for s in (0.4, 1.0)]
    candidates = np.array([(t, k, o, s) for t in table.orientation_deg for o in octaves for k, s in shapes])
    share, p = data.scan(np.array([bump(*at, c) for c in candidates]), seed)
    if p >= LEVEL:
        return _none(f"the responses do not depend on the grating (p = {p:.2g})", {**facts, "p": p})
    best = [candidates[i] for i in np.argsort(-share, kind="stable")[:3]]
    around = best[0][0]
    best = [np.array([around + (c[0] - around + 90) % 180 - 90, *c[1:]]) for c in best]
    low = np.array([around - 135, np.log(0.05), octaves[0] - 1, np.log(0.1)])
    high = np.array([around + 135, np.log(200), octaves[-1] + 1, np.log(6.0)])
    found = search(data, lambda v: bump(*at, v), best, (low, high))
    if found is None:
        return _none("the fit converged from none of its starts", {**facts, "p": p})
    if data.linear(bump(*at, found.parameters))[1][0] < 0:
        return _none("gratings lower the response; there is no preferred one", {**facts, "p": p})
    return _fitted(found, {**facts, "p": p}, low)


def _fitted(found: Search, facts: Mapping[str, Any], low: FloatArray) -> dict[str, Any]:
    """Returns the numbers of a fit, without those that its gratings cannot tell."""
    values, errors = _described(found.parameters), error_of(_described, found)
    values[0] %= 180
    reasons = []
    if found.at_bound[1] and found.parameters[1] < low[1] + 1:
        values[:2] = errors[:2] = np.nan
        reasons.append("orientation: all drive the unit alike")
    if found.at_bound[2:].any():
        values[2:] = errors[2:] = np.nan
        reasons.append("frequency: the best one lies beyond those shown, or all drive the unit alike")
    return {
        **dict(zip(_FITTED, values.tolist(), strict=True)),
        **{f"{name}_se": e for name, e in zip(_FITTED, errors.tolist(), strict=True)},
        **facts,
        "r_squared": found.r_squared,
        "reason": "; ".join(reasons),
    }


def _none(reason: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns no fit, and why."""
    names = (*_FITTED, *(f"{n}_se" for n in _FITTED), "f0", "f1", "f1_f0", "osi", "p", "r_squared")
    return {**dict.fromkeys(names, np.nan), "cell": "", **facts, "reason": reason}
