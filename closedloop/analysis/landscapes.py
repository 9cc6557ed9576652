"""Tuning landscapes: the Kent function on the sphere of codes, and tuning along image distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from closedloop.analysis.runs import check_recording
from closedloop.analysis.similarity import Features, embedding, squared_distances
from closedloop.analysis.units import Moments, means, pieces, select, unit_coords
from closedloop.checks import check_whole, make_images, real_numbers
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import FloatArray, Generator, Subject
from closedloop.objectives.naming_units import UnitSpec, parse_columns
from closedloop.signatures import at_door

#: Parameters of the Kent function, in their order.
PARAMETERS = ("theta_deg", "phi_deg", "psi_deg", "kappa", "beta", "amplitude", "baseline")


def sphere_points(theta_deg: ArrayLike, phi_deg: ArrayLike) -> FloatArray:
    """Returns points of the unit sphere ``(n, 3)`` at longitude theta and latitude phi.

    (cos θ cos φ, sin θ cos φ, sin φ): (0, 0) is the first axis, the peak of a landscape.
    """
    theta, phi = np.deg2rad(np.asarray(theta_deg, float)), np.deg2rad(np.asarray(phi_deg, float))
    return np.stack([np.cos(theta) * np.cos(phi), np.sin(theta) * np.cos(phi), np.sin(phi)], axis=-1)


@at_door
def kent(theta_deg: ArrayLike, phi_deg: ArrayLike, parameters: Sequence[float] | FloatArray) -> FloatArray:
    """Evaluates the Kent function on the sphere, as a tuning curve.

    baseline + amplitude · exp(κ (μ₁·z − 1) + β ((μ₂·z)² − (μ₃·z)²)): Kent 1982, in the form of Wang & Ponce 2022 with
    the peak's height as amplitude.

    Args:
        theta_deg: Longitudes ``(n,)`` in degrees.
        phi_deg: Latitudes ``(n,)`` in degrees.
        parameters: Longitude and latitude of the peak, rotation of the ellipse (degrees), κ, β, amplitude, baseline.

    Returns:
        ``(n,)``.
    """
    shape, numbers = np.shape(theta_deg), real_numbers("parameters", parameters)
    if shape != np.shape(phi_deg):
        raise InvalidArgumentError(
            f"theta_deg, phi_deg: expected as many of one as of the other, got shapes {shape} and {np.shape(phi_deg)}."
        )
    if numbers.shape != (len(PARAMETERS),):
        raise InvalidArgumentError(
            f"parameters: expected {len(PARAMETERS)} numbers ({', '.join(PARAMETERS)}), got shape {numbers.shape}."
        )
    theta, phi, psi, kappa, beta, amplitude, baseline = numbers
    z = sphere_points(theta_deg, phi_deg)
    value: FloatArray = baseline + amplitude * _shape(z, theta, phi, psi, kappa, beta)
    return value


def _shape(z: FloatArray, theta: float, phi: float, psi: float, kappa: float, beta: float) -> FloatArray:
    """Returns exp(κ (μ₁·z − 1) + β ((μ₂·z)² − (μ₃·z)²)) ``(n,)`` at z ``(n, 3)``, angles in degrees; 1 at the peak."""
    t, p, s = np.deg2rad([theta, phi, psi])
    # μ₁ is the peak; east and north span its tangent plane; μ₂ and μ₃ are these, turned by ψ.
    peak = np.array([np.cos(t) * np.cos(p), np.sin(t) * np.cos(p), np.sin(p)])
    east = np.array([-np.sin(t), np.cos(t), 0.0])
    north = np.cross(peak, east)
    major, minor = np.cos(s) * east + np.sin(s) * north, -np.sin(s) * east + np.cos(s) * north
    shape: FloatArray = np.exp(kappa * (z @ peak - 1) + beta * ((z @ major) ** 2 - (z @ minor) ** 2))
    return shape


@dataclass(frozen=True)
class KentFit:
    """One fit of the Kent function.

    Attributes:
        parameters: ``(7,)`` as in `kent`; NaN where it failed.
        r_squared: Share of the variance of the mean responses that it explains.
        reason: Why it failed; "" where it did not.
    """

    parameters: FloatArray
    r_squared: float
    reason: str


def fit_kent_function(theta_deg: FloatArray, phi_deg: FloatArray, responses: FloatArray) -> KentFit:
    """Fits the Kent function to responses ``(n,)`` at points of the sphere by least squares, from several starts.

    Bounds: κ in [0, 1000], 0 ≤ β ≤ κ / 2 (one peak), amplitude ≥ 0, and a baseline not below the lowest response nor,
    where that is positive, below 0: without it a cosine would be fitted by κ near 0 on a baseline far below 0.
    Amplitude and baseline are linear and solved for in each step (variable projection, Golub & Pereyra 1973).
    """
    known = ~np.isnan(responses)
    y = responses[known]
    if len(y) < 10:
        return _failed(f"{len(y)} points of the grid have a response; the fit needs at least 10")
    total = float(((y - y.mean()) ** 2).sum())
    if total <= 1e-20 * max(float((y**2).sum()), 1e-300):
        return _failed("the response is the same everywhere")
    z = sphere_points(theta_deg[known], phi_deg[known])
    # From the highest response, with a broad, a middling and a sharp peak (half width at half height 72°, 31° and 14°)
    # and an ellipse of 2 β / κ = 0.2 to either side: the error has several minima.
    top = int(np.argmax(y))
    candidates = [
        _descend(z, y, np.array([theta_deg[known][top], phi_deg[known][top], psi, kappa, 0.2]))
        for kappa in (1.0, 5.0, 25.0)
        for psi in (-45.0, 45.0)
    ]
    fits = [c for c in candidates if c is not None]
    if not fits:
        return _failed(f"the fit converged from none of its {len(candidates)} starts")
    error, parameters = min(fits, key=lambda fit: fit[0])
    if parameters[5] <= 1e-9 * np.sqrt(total / len(y)):
        return _failed("no peak: the best fit is flat")
    return KentFit(parameters, 1 - error / total, "")


def _failed(reason: str) -> KentFit:
    """Returns no fit, and why."""
    return KentFit(np.full(len(PARAMETERS), np.nan), np.nan, reason)


def _descend(z: FloatArray, y: FloatArray, start: FloatArray) -> tuple[float, FloatArray] | None:
    """Returns the squared error and the seven parameters from one start; None where it does not converge.

    The ellipse enters as the fraction 2 β / κ, so that its bound is a box.
    """
    lowest = min(0.0, float(y.min()))

    def linear(x: FloatArray) -> tuple[FloatArray, float, float]:
        """Returns the shape of θ, φ, ψ, κ, 2 β / κ, and the amplitude and baseline that fit y best with it."""
        shape = _shape(z, x[0], x[1], x[2], x[3], x[3] * x[4] / 2)
        centered = shape - shape.mean()
        size = float(centered @ centered)
        # Simple regression of y on the shape: slope = cov / var, not below 0; the baseline follows from the means.
        amplitude = max(float(centered @ y) / size, 0.0) if size > 0 else 0.0
        baseline = float(y.mean() - amplitude * shape.mean())
        if baseline < lowest:  # the bound holds: regression through it
            amplitude, baseline = float(shape @ (y - lowest)) / float(shape @ shape), lowest
        return shape, amplitude, baseline

    def residual(x: FloatArray) -> FloatArray:
        """Returns fitted minus recorded responses ``(n,)``."""
        shape, amplitude, baseline = linear(x)
        return baseline + amplitude * shape - y

    # θ, φ and ψ may pass once around, so that no start lies at a bound; κ up to 1000, a half width of 2°; 2 β / κ ≤ 1.
    bounds = ([-360.0, -180.0, -360.0, 1e-3, 0.0], [360.0, 180.0, 360.0, 1000.0, 1.0])
    found = optimize.least_squares(residual, start, bounds=bounds, x_scale=(10, 10, 30, 1, 0.2), max_nfev=300)
    if not found.success:
        return None
    _, amplitude, baseline = linear(found.x)
    theta, phi, psi = _canonical(*found.x[:3])
    parameters = np.array([theta, phi, psi, found.x[3], found.x[3] * found.x[4] / 2, amplitude, baseline])
    return float(2 * found.cost), parameters


def _canonical(theta: float, phi: float, psi: float) -> tuple[float, float, float]:
    """Returns the same peak and ellipse with theta in [-180, 180), phi in [-90, 90] and psi in [-90, 90)."""
    phi = (phi + 180) % 360 - 180
    if abs(phi) > 90:  # over the pole: the same direction from the other side, its frame turned by 180 degrees
        theta, phi = theta + 180, np.sign(phi) * 180 - phi
    return (theta + 180) % 360 - 180, phi, (psi + 90) % 180 - 90


def half_width_deg(kappa: ArrayLike) -> FloatArray:
    """Returns the angle where exp(κ (cos ω − 1)) is one half, in degrees; NaN where it is above one half everywhere."""
    k = np.asarray(kappa, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = 1 - np.log(2) / k  # exp(κ (cos ω − 1)) = ½
        width: FloatArray = np.where(cosine >= -1, np.rad2deg(np.arccos(np.clip(cosine, -1, 1))), np.nan)
    return width


@at_door
def fit_kent(recording: xr.Dataset, *, units: UnitSpec | None = None) -> xr.Dataset:
    """Fits the Kent function to each plane and unit of a tuning landscape (Wang & Ponce 2022, *Cell Reports*).

    Args:
        recording: Of `closedloop.protocols.landscape`.
        units: Columns of the responses, see `closedloop.objectives.naming_units`; None for all.

    Returns:
        Over ``plane`` and ``neuroid``: the peak at `theta_deg`, `phi_deg`; `psi_deg`, the rotation of its ellipse;
        `kappa` (concentration), `beta` (ellipticity), `amplitude` above `baseline`; `width_deg`, the angle from the
        peak to half height (of the round part, from κ); `offset_deg`, the angle from the center of the landscape to the
        peak; and `r_squared`. NaN with the reason where there are too few points, no variation, or no convergence.
    """
    chosen = _units(recording, units)
    tables = landscape_responses(recording, units)
    shape = (len(tables), len(chosen))
    found = {name: np.full(shape, np.nan) for name in (*PARAMETERS, "r_squared")}
    reason = np.full(shape, "", dtype=object)
    for i, (theta, phi, table) in enumerate(tables.values()):
        for j in range(len(chosen)):
            fit = fit_kent_function(theta, phi, table[:, j])
            for name, value in zip(PARAMETERS, fit.parameters, strict=True):
                found[name][i, j] = value
            found["r_squared"][i, j], reason[i, j] = fit.r_squared, fit.reason
    found["width_deg"] = half_width_deg(found["kappa"])
    wide = np.isnan(found["width_deg"]) & (reason == "")
    reason[wide] = "width_deg: the peak does not fall to half its height on the sphere"
    peaks = sphere_points(found["theta_deg"], found["phi_deg"])
    # The center of a landscape is the first axis, so its cosine with the peak is the peak's first coordinate.
    found["offset_deg"] = np.rad2deg(np.arccos(np.clip(peaks[..., 0], -1, 1)))
    dims = ("plane", "neuroid")
    coords = {name: (dim, values[chosen]) for name, (dim, values) in unit_coords(recording).items()}
    return xr.Dataset(
        {name: (dims, values) for name, values in found.items()},
        coords={"plane": list(tables), **coords, "reason": (dims, reason)},
    )


def _units(recording: xr.Dataset, units: UnitSpec | None) -> NDArray[np.intp]:
    """Returns columns of the responses as an array; all where none are named.

    Raises:
        InvalidArgumentError: They are no columns.
    """
    check_recording(recording, "responses")
    count = recording.sizes["neuroid"]
    return np.arange(count) if units is None else np.array(parse_columns(units, count), np.intp)


@at_door
def landscape_responses(
    recording: xr.Dataset, units: UnitSpec | None = None
) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
    """Returns mean responses by plane: longitudes, latitudes ``(n,)`` in degrees, responses ``(n, units)``.

    Raises:
        RecordingError: It is not the recording of a landscape.
    """
    _check_landscape(recording)
    narrow = recording.isel(neuroid=_units(recording, units))
    selection = select(narrow, "landscape")
    table = means(narrow, selection)
    first = selection.rows[np.searchsorted(selection.index, np.arange(len(selection.names)))]
    plane, theta, phi = (recording[c].values[first] for c in ("plane", "theta_deg", "phi_deg"))
    return {
        str(name): (theta[plane == name], phi[plane == name], table[plane == name])
        for name in dict.fromkeys(recording["plane"].values[np.sort(first)].tolist())
    }


def _check_landscape(recording: xr.Dataset) -> None:
    """Raises unless it is the recording of a landscape."""
    check_recording(recording)
    if not {"plane", "theta_deg", "phi_deg"} <= set(map(str, recording.coords)):
        raise RecordingError(
            "recording: expected a tuning landscape, with plane, theta_deg and phi_deg on presentations; record one "
            "with closedloop.protocols.landscape."
        )


@at_door
def distance_to_peak(
    recording: xr.Dataset, generator: Generator, features: Subject | Features | None = None, *, batch: int = 64
) -> xr.DataArray:
    """Returns the distance of each presentation's image from the image at the center of its landscape.

    Args:
        recording: Of `closedloop.protocols.landscape`.
        generator: The one that made its images.
        features: What measures images, see `closedloop.analysis.embedding`; None compares pixels.
        batch: Images that are made at once.

    Returns:
        Over ``presentation``: the distance, the square root of LPIPS-like or mean squared differences.

    Raises:
        RecordingError: It is not the recording of a landscape, or lacks its center.
    """
    _check_landscape(recording)
    codes = recording["latent_code"].values
    middle = np.flatnonzero((recording["theta_deg"].values == 0) & (recording["phi_deg"].values == 0))
    if len(middle) == 0:
        raise RecordingError("recording: the center of the landscape (theta 0, phi 0) was not shown.")
    ids, first, index = np.unique(recording["stimulus_id"].values.astype(str), return_index=True, return_inverse=True)

    def points(which: FloatArray) -> FloatArray:
        return embedding(make_images(generator, which), features)

    center = points(codes[middle[:1]])
    parts = [squared_distances(points(codes[first[i : i + batch]]), center)[:, 0] for i in range(0, len(ids), batch)]
    distance = np.sqrt(np.concatenate(parts))[index]
    return xr.DataArray(distance, dims="presentation", name="distance")


@at_door
def radial_tuning(recording: xr.Dataset, distance: xr.DataArray | ArrayLike | str, *, bins: int = 10) -> xr.Dataset:
    """Relates the response to an image's distance from the preferred one (Wang & Ponce 2022, *Cell Reports*).

    Args:
        recording: Of `closedloop.protocols.landscape`, or any other.
        distance: Distance of each presentation's image, ``(presentation,)``, at least 0: from `distance_to_peak`, or a
            coordinate's name. Presentations where it is NaN are left out.
        bins: Number of bins, equally wide from 0 to the largest distance.

    Returns:
        Over ``bin`` and ``neuroid``: `mean`, `sem` (over presentations), `n`; `distance (bin)`, the middle of each bin.
        Over ``neuroid``: `spearman`, the rank correlation of response and distance, `half_distance`, where the
        decreasing function that fits best (isotonic regression) has fallen half way from its highest to its lowest
        value. NaN with the reason where the response does not vary, or does not fall.
    """
    count = check_whole("bins", bins, 2)
    x = _distances(recording, distance)
    used = np.flatnonzero(~np.isnan(x))
    if len(used) < 3 or np.ptp(x[used]) == 0:
        raise InvalidArgumentError("distance: expected at least three presentations at different distances.")
    edges = np.linspace(0, x[used].max(), count + 1)
    place = np.full(len(x), np.nan)
    place[used] = np.minimum(np.searchsorted(edges, x[used], side="right") - 1, count - 1)
    marked = recording.assign_coords(bin=("presentation", place))
    chosen = select(marked, None, by="bin")
    found, fitted = [], []
    for _, values in pieces(marked, chosen.rows):
        found.append(Moments.of(values, chosen))
        fitted += [_radial(x[chosen.rows], column) for column in values.T]
    spearman, half = (np.array([f[i] for f in fitted], dtype=float) for i in (0, 1))
    reason = np.array([f[2] for f in fitted], dtype=object)
    numbers = chosen.names.astype(int)
    columns = {name: np.concatenate([getattr(f, name) for f in found], axis=1) for name in ("mean", "sem", "n")}
    return xr.Dataset(
        {
            **{name: (("bin", "neuroid"), column) for name, column in columns.items()},
            "distance": ("bin", ((edges[1:] + edges[:-1]) / 2)[numbers]),
            "spearman": ("neuroid", spearman),
            "half_distance": ("neuroid", half),
        },
        coords={"bin": numbers, **unit_coords(recording), "reason": ("neuroid", reason)},
    )


def _distances(recording: xr.Dataset, distance: xr.DataArray | ArrayLike | str) -> FloatArray:
    """Returns distances of presentations ``(presentation,)``, NaN where unknown; from a coordinate's name, too.

    Raises:
        InvalidArgumentError: They are not numbers of at least 0, one for each presentation.
    """
    given = recording[distance].values if isinstance(distance, str) and distance in recording.variables else distance
    if isinstance(given, str):
        raise InvalidArgumentError(f"distance: expected numbers or a coordinate's name, got {distance!r}.")
    x = np.asarray(given, dtype=float)
    if x.shape != (recording.sizes["presentation"],) or np.isinf(x).any() or np.nanmin(x, initial=0) < 0:
        raise InvalidArgumentError(
            f"distance: expected one finite number of at least 0 for each of {recording.sizes['presentation']} "
            f"presentations, got shape {x.shape}."
        )
    return x


def _radial(x: FloatArray, y: FloatArray) -> tuple[float, float, str]:
    """Returns the rank correlation and where the isotonic fit has fallen half way; with the reason for NaN."""
    known = ~np.isnan(y)
    x, y = x[known], y[known]
    if len(y) < 3 or np.ptp(y) == 0 or np.ptp(x) == 0:
        return np.nan, np.nan, "the response does not vary"
    spearman = float(stats.spearmanr(x, y).statistic)
    order = np.argsort(x, kind="stable")
    unique, start, count = np.unique(x[order], return_index=True, return_counts=True)
    # One mean for each distance that occurs, weighted by its presentations; then the best function that never rises.
    level = np.add.reduceat(y[order], start) / count
    fit = optimize.isotonic_regression(level, weights=count, increasing=False).x
    if not fit[0] > fit[-1]:
        return spearman, np.nan, "half_distance: the response does not fall with distance"
    # The first distance at which the fit is at or below the middle of its highest and lowest value.
    below = int(np.argmax(fit <= (fit[0] + fit[-1]) / 2))
    return spearman, float((unique[below - 1] + unique[below]) / 2), ""
