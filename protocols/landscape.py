"""Sample the sphere of codes around a preferred stimulus, plane by plane: its tuning landscape."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from closedloop.analysis.codes import principal_axes
from closedloop.analysis.landscapes import fit_kent, sphere_points
from closedloop.analysis.preferred import evolved_codes, preferred
from closedloop.analysis.summary import thread_objectives
from closedloop.checks import make_images
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError, closest
from closedloop.interfaces import FloatArray, Generator, Subject
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunProtocol, RunSummary, summarize_responses
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.recipes import fingerprint, generator_of_run, recipe, version
from closedloop.recording.layout import EVOLUTION
from closedloop.recording.reader import open_recording, read_kept
from closedloop.recording.titles import recorded_title, recorded_titles
from closedloop.recording.writer import Recording
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

from .present import Library, Presentation
from .stored import check_complete, stored_settings, subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Stands in the columns `thread` and `kind`.
LANDSCAPE = "landscape"
#: The file in a run's folder that holds the directions of its planes.
BASIS = "basis.npz"
#: Two directions by name, such as ("pc1", "random"), or as one text, "pc1-random".
Plane = str | tuple[str, str]


@settings
class LandscapeSettings(Timing):
    """The numbers of a landscape."""

    steps: int = option(default=11, help="Points along each angle, odd so that the center is one of them.")
    extent_deg: float = option(default=90.0, unit="degrees", help="Largest angle, at most 90 degrees.")
    radius: float | None = option(
        default=None,
        unit="a length",
        shown="that of the last generation",
        help="Length of all codes; by default the mean length of the last generation's codes, or that of the center.",
    )
    repeats: int = option(default=1, least=1, help="Presentations of each image.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 3 or self.steps % 2 == 0:
            raise InvalidArgumentError(
                "steps: expected an odd number of at least 3, so that the center is among the points; got "
                f"{self.steps!r}."
            )
        if self.extent_deg > 90:
            raise InvalidArgumentError(
                f"extent_deg: expected an angle above 0 and at most 90 degrees, got {self.extent_deg!r}."
            )


@at_door
def landscape(
    subject: Subject,
    generator: Generator,
    center: xr.Dataset | ArrayLike,
    *,
    thread: str | None = None,
    codes: ArrayLike | None = None,
    planes: Sequence[Plane] | Mapping[str, ArrayLike] = (("pc1", "pc2"), ("pc1", "random")),
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Records responses to images on the sphere of codes around a preferred one (Wang & Ponce 2022, *Cell Reports*).

    In each plane two directions at right angles to the center span a half sphere with it. The code at longitude theta
    and latitude phi is radius · (cos θ cos φ center + sin θ cos φ first + sin φ second), so (0, 0) is the center.
    Usual grids are 11 × 11 points 18° apart (in vivo) and 21 × 21 points 9° apart (in silico), both over ±90°.

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images; its space must be unbounded.
        center: The recording of an evolution, whose re-tested image is the center (without a re-test the mean code of
            the last generation); or a code ``(dim,)``.
        thread: Which evolution of the recording; needed where there are several.
        codes: Codes ``(n, dim)`` whose principal axes are "pc1", "pc2" …, after the direction of the center is taken
            out of them; default those of the evolution.
        planes: Pairs of directions: "pc1", "pc2" …, or "random"; or the planes themselves by name, the directions of
            center and axes as orthonormal rows ``(3, dim)``, such as `stored_planes` reads.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of images shown so far and of all.
        **numbers: ``steps``, ``extent_deg``, ``radius``, ``repeats``, ``seed`` …; see `LandscapeSettings`.

    Returns:
        The recording, with `kind` and `thread` "landscape", codes, and the coordinates `plane`, `theta_deg` and
        `phi_deg` on presentations; for `closedloop.analysis.fit_kent` and `closedloop.analysis.radial_tuning`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(LandscapeSettings, numbers)
    _check_space(generator)
    point, explored, length = _center(center, thread, generator)
    if codes is not None:
        explored = generator.space.check(np.asarray(codes, dtype=float))
    if isinstance(planes, Mapping):
        basis = {name: _checked_plane(name, rows, generator) for name, rows in planes.items()}
    else:
        basis = _basis(point, explored, [_pair(p) for p in planes], chosen.seed)
    chosen = replace(chosen, radius=float(chosen.radius or length))
    experiment = {
        "closedloop": version(),
        "protocol": LANDSCAPE,
        "subject": recipe(subject),
        "generator": recipe(generator),
        "planes": list(basis),
        **asdict(chosen),
        "fingerprints": fingerprints(subject=subject, generator=generator, planes=_pack(basis)),
    }
    library = landscape_library(generator, basis, chosen)
    return record(
        Presentation(subject, library, chosen, progress, files={BASIS: _pack(basis)}),
        experiment,
        save,
        exists,
    )


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a landscape; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, LandscapeSettings, "subject", "generator", "planes")
    chosen = stored_settings(LandscapeSettings, content)
    basis = stored_planes(run, content["planes"])
    generator = generator_of_run(run, content, handed.generator)
    subject = subject_of(run, content, handed)
    check_fingerprints(run, content, fingerprints(subject=subject, generator=generator))
    library = landscape_library(generator, basis, chosen)
    return run_course(Presentation(subject, library, chosen, handed.progress), Recording.reopen(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns the images that each unit likes best, and the landscape of the first units in each plane."""
    figures = {}
    for unit in range(min(recording.sizes["neuroid"], 3)):
        for plane in dict.fromkeys(str(p) for p in recording["plane"].values if str(p)):
            name = recorded_title(recording, unit)
            figures[f"landscape-{unit}-{plane}"] = RunFigure(
                partial(_draw, recording, plane, unit),
                f"Tuning landscape of {name}, {plane}: mean response; cross and line are peak and half height of the "
                "Kent fit.",
            )
    names = recorded_titles(recording)
    question = f"The tuning landscape of {'; '.join(names[:2])}{'; …' if len(names) > 2 else ''}"
    return replace(summarize_responses(run, recording), figures=figures, question=question)


def _draw(recording: xr.Dataset, plane: str, unit: int) -> Figure:
    from closedloop.figures import plot_landscape
    from closedloop.figures.style import whole_figure

    return whole_figure(plot_landscape(recording, plane=plane, unit=unit))


def _section(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns the figures and the question; a report shows the images itself."""
    return replace(_summary(run, recording), tables=())


#: What others must know of landscapes.
PROTOCOL = RunProtocol(
    LANDSCAPE,
    _resume,
    _summary,
    _section,
    command="landscape",
    analyses={"fit_kent": Analysis(fit_kent, "unit")},
)


def _check_space(generator: Generator) -> None:
    if generator.space.bounded:
        raise InvalidArgumentError(
            f"generator: expected an unbounded space of codes, for a landscape lies on a sphere; {generator.name!r} is "
            f"bounded to [{generator.space.low}, {generator.space.high}]."
        )


def _center(
    center: xr.Dataset | ArrayLike, thread: str | None, generator: Generator
) -> tuple[FloatArray, FloatArray | None, float]:
    """Returns the code at the center ``(dim,)``, the codes explored, and the length of codes on the sphere."""
    if not isinstance(center, xr.Dataset):
        point = np.asarray(center, dtype=float)
        if point.ndim != 1:
            raise InvalidArgumentError(f"center: expected a recording or one code (dim,), got shape {point.shape}.")
        generator.space.check(point[None])
        explored, length = None, float(np.linalg.norm(point))
    else:
        name, objective = _thread(center, thread)
        found = preferred(center, name, objective).code
        if found is None or len(found) != generator.space.dim:
            raise InvalidArgumentError(
                f"center: expected a recording with codes of the generator, of length {generator.space.dim}, got "
                f"{'none' if found is None else len(found)}."
            )
        point, (explored, rows) = found, evolved_codes(center, name)
        generation = center["generation"].values[rows]
        length = float(np.linalg.norm(explored[generation == generation.max()], axis=1).mean())
    if not np.linalg.norm(point) > 0:
        raise InvalidArgumentError("center: expected a code that is not zero, for it gives the direction of the peak.")
    return point, explored, length


def _thread(recording: xr.Dataset, thread: str | None) -> tuple[str, str]:
    """Returns the name and the objective of the evolution that is asked for."""
    names = dict(thread_objectives(recording))
    if thread is None and len(names) > 1:
        raise InvalidArgumentError(f"thread: the recording has several, {list(names)}; say which one.")
    if thread is not None and thread not in names:
        raise UnknownNameError(f"thread: no thread {thread!r} in the recording.{closest(thread, names)}")
    name = next(iter(names)) if thread is None else thread
    return name, names[name]


def _pair(plane: Plane) -> tuple[str, str]:
    """Returns the names of two directions."""
    pair = tuple(plane.split("-")) if isinstance(plane, str) else tuple(plane)
    known = all(isinstance(p, str) and (p == "random" or re.fullmatch(r"pc\d{1,18}", p)) for p in pair)
    if len(pair) != 2 or not known or (pair[0] == pair[1] != "random") or "pc0" in pair:
        raise InvalidArgumentError(
            f"planes: expected pairs of different directions, 'pc1', 'pc2' … or 'random', got {plane!r}."
        )
    return pair[0], pair[1]


def _basis(
    center: FloatArray, codes: FloatArray | None, planes: Sequence[tuple[str, str]], seed: int
) -> dict[str, FloatArray]:
    """Returns center and two directions of each plane, orthonormal ``(3, dim)``, by the plane's name."""
    if not planes:
        raise InvalidArgumentError("planes: expected at least one pair of directions, got none.")
    peak = center / np.linalg.norm(center)
    highest = max((int(name[2:]) for plane in planes for name in plane if name != "random"), default=0)
    components = _components(peak, codes, highest)
    rng = named_generator(seed, LANDSCAPE)
    basis: dict[str, FloatArray] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for plane in planes:
        chosen = [components[int(name[2:]) - 1] if name != "random" else None for name in plane]
        rows = [peak, *(direction for direction in chosen if direction is not None)]
        while len(rows) < 3:
            rows.append(_random_direction(rows, rng))
        if plane[0] == "random" != plane[1]:
            rows = [rows[0], rows[2], rows[1]]
        seen[plane] += 1
        basis["-".join(plane) + (f"-{seen[plane]}" if seen[plane] > 1 else "")] = np.stack(rows)
    return basis


def _checked_plane(name: str, rows: ArrayLike, generator: Generator) -> FloatArray:
    """Returns the rows of a plane if they are orthonormal ``(3, dim)``."""
    frame = np.asarray(rows, dtype=float)
    if frame.shape != (3, generator.space.dim) or not np.allclose(frame @ frame.T, np.eye(3), atol=1e-6):
        raise InvalidArgumentError(
            f"planes: {name!r}: expected orthonormal rows of shape (3, {generator.space.dim}), got shape {frame.shape}."
        )
    return frame


def _components(peak: FloatArray, codes: FloatArray | None, count: int) -> FloatArray:
    """Returns the principal axes of the codes without the direction of the peak, ``(count, dim)``."""
    if count == 0:
        return np.empty((0, len(peak)))
    if codes is None:
        raise InvalidArgumentError(
            "codes: expected codes (n, dim) for the directions 'pc1' …; hand them over, give a recording as center, or "
            "choose planes of 'random' directions."
        )
    axes, _ = principal_axes(codes - np.outer(codes @ peak, peak), count)
    if len(axes) < count:
        raise InvalidArgumentError(
            f"planes: expected directions up to 'pc{len(axes)}', as many as the codes vary along, got 'pc{count}'."
        )
    return axes


def _random_direction(others: Sequence[FloatArray], rng: np.random.Generator) -> FloatArray:
    """Draws a unit vector at right angles to others that are orthonormal."""
    known = np.stack(others)
    if known.shape[1] <= len(known):
        raise InvalidArgumentError(f"planes: codes of length {known.shape[1]} have no {len(known) + 1} directions.")
    draw: FloatArray = rng.standard_normal((known.shape[1],))
    for _ in range(2):  # twice: the first pass leaves a rounding error
        draw = draw - known.T @ (known @ draw)
    unit: FloatArray = draw / np.linalg.norm(draw)
    return unit


def landscape_library(generator: Generator, basis: Mapping[str, FloatArray], chosen: LandscapeSettings) -> Library:
    """Makes the images of all planes when they are shown.

    Args:
        generator: Turns codes into images.
        basis: Center and two directions of each plane, ``(3, dim)``.
        chosen: `steps`, `extent_deg` and `radius`.
    """
    steps, half = chosen.steps, chosen.steps // 2
    angles = chosen.extent_deg * np.arange(-half, half + 1) / half  # the middle one is exactly 0
    plane, i, j = (index.ravel() for index in np.indices((len(basis), steps, steps)))
    names, frames = np.array(list(basis), dtype=object), np.stack(list(basis.values()))
    theta, phi = angles[i], angles[j]

    def codes(which: NDArray[np.int64]) -> FloatArray:
        points = sphere_points(theta[which], phi[which])
        made: FloatArray = chosen.radius * np.einsum("nk,nkd->nd", points, frames[plane[which]])
        return made

    return Library(
        ids=tuple(f"{names[p]}-{a:02d}-{b:02d}" for p, a, b in zip(plane, i, j, strict=True)),
        read=lambda which: make_images(generator, codes(which)),
        thread=LANDSCAPE,
        kind=LANDSCAPE,
        latent=frames.shape[2],
        codes=codes,
        coords={"plane": names[plane], "theta_deg": theta, "phi_deg": phi},
        evolutions={
            EVOLUTION: [LANDSCAPE],
            "generator": [generator.name],
            "generator_sha256": [fingerprint(generator)],
            "generator_recipe": [json.dumps(recipe(generator))],
        },
    )


def _pack(basis: Mapping[str, FloatArray]) -> bytes:
    """Returns planes as an ``.npz`` file, the same bytes for the same planes: without the time of day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, frame in basis.items():
            array = io.BytesIO()
            np.lib.format.write_array(array, np.asarray(frame), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue())
    return buffer.getvalue()


@at_door
def stored_planes(run: str | Path, planes: Sequence[str]) -> dict[str, FloatArray]:
    """Returns the planes of a landscape that was begun, from its folder: by name, each ``(3, dim)``.

    Raises:
        RecordingError: The folder does not hold them.
    """
    try:
        with np.load(io.BytesIO(read_kept(run, BASIS) or b""), allow_pickle=False) as file:
            return {name: file[name] for name in planes}
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise RecordingError(
            f"{run}: it ended before its directions were stored, or {BASIS} is damaged ({error}); "
            "begin it again, in the same folder."
        ) from error
