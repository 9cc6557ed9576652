"""Show a subject what was made for it, beside controls, in fresh repeats: how much of what a twin promised is true?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.diversities import ENOUGH, diversity
from closedloop.analysis.verifications import CONTRAST, EVOLVED, NATURAL, SPECTRUM, SYNTHESIZED, verification
from closedloop.checks import check_images, record_images
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.eight_bit import quantize
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, natural_references
from closedloop.interfaces import STILL, Subject, form_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.readable import percent
from closedloop.recipes import recipe, version
from closedloop.recording.layout import REFERENCE, REFERENCES
from closedloop.recording.reader import open_recording
from closedloop.recording.render import render
from closedloop.recording.writer import Recording
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

from .parameters import PARAMETERS, pack_parameters, read_parameters, stored_parameters
from .present import Library, Presentation
from .stored import check_complete, stored_images, stored_settings, subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Its name in the files of runs.
VERIFY = "verify"
#: Units that a table is shown of.
MOST = 20


@settings
class VerifySettings(Timing):
    """The numbers of a verification."""

    repeats: int = option(default=10, least=2, help="Presentations of each image.")


@at_door
def verify(
    subject: Subject,
    images: ImageSet | NDArray[Any],
    units: Sequence[int],
    *,
    twin: Subject | None = None,
    twin_units: Sequence[int] | None = None,
    recording: xr.Dataset | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Shows each unit what was made for it, and controls, and says what was promised and what is true.

    Beside each image stand: the best natural image of a recording and the best evolved one (where there is a
    recording), the best natural image with the mean and the contrast of the image in each colour, and noise with its
    amplitude spectrum. All images are shown to all units, so the image that was made for another unit is a control,
    too. Of one unit there may be several images, the best first, such as those of `closedloop.twins.diverse_images`;
    `closedloop.analysis.diversity` says how many of them are as good in truth. Every presentation is a fresh
    one, and no number of the twin is among the responses.

    Args:
        subject: The network or animal that is shown images.
        images: ``(k, 3, h, w)`` in [0, 1]; rounded to 8 bits.
        units: Columns of the subject's responses that they were made for, k of them; several of one unit in succession.
        twin: What predicted them; its predictions for all images, controls too, are kept beside the responses.
        twin_units: Columns of the twin's responses for these units, one for each different unit; by default those whose
            names are the units'.
        recording: Where the best natural and the best evolved image of each unit are taken from, of this subject. Its
            evolved images are those of its threads, re-tested ones where there are some. Without one the natural image
            is that of the bundled photographs for which the twin predicts most, and without a twin the first.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar says how far it is; or a function, see `present`.
        **numbers: ``repeats``, ``seed`` …; see `VerifySettings`.

    Returns:
        The recording, with the coordinates `role` (see `closedloop.analysis.verification`), `target` (the unit's name)
        and `predicted` (NaN without a twin) on presentations.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(VerifySettings, numbers)
    if form_of(subject) != STILL:
        raise InvalidArgumentError("subject: expected one of colour stills; others cannot be verified yet.")
    made = check_images(images.images if isinstance(images, ImageSet) else images)
    columns = _columns(subject, units, len(made))
    if made.shape[-2] != made.shape[-1]:
        raise InvalidArgumentError(f"images: expected square images, got {made.shape[-2]} × {made.shape[-1]}.")
    of = [subject.units.neuroid_id[c] for c in columns]
    names = list(dict.fromkeys(of))
    predicting = None if twin is None else _twin_columns(twin, twin_units, names)
    sets = [made[[i for i, name in enumerate(of) if name == wanted]] for wanted in names]
    shown, roles, targets = _shown(sets, names, twin, predicting, recording, chosen.seed)
    predicted = np.full(len(shown), np.nan)
    if twin is not None and predicting is not None:
        found = record_images(twin, shown)
        at = [predicting[names.index(target)] for target in targets]
        predicted = found[np.arange(len(shown)), at].astype(float)
    ids = _ids(roles, targets, names)
    held = ImageSet(ids, shown)
    coords = read_parameters({"role": roles, "target": targets, "predicted": predicted}, ids, subject.units)
    packed = pack_parameters(coords)
    library = _library(held, coords)
    experiment = {
        "closedloop": version(),
        "protocol": VERIFY,
        "subject": recipe(subject),
        "twin": None if twin is None else recipe(twin),
        "images": REFERENCES,
        "resolution": int(shown.shape[-1]),
        "units": names,
        "parameters": list(coords),
        **asdict(chosen),
        "fingerprints": fingerprints(subject=subject, images=library.fingerprint, parameters=packed),
    }
    course = Presentation(subject, library, chosen, progress, True, {PARAMETERS: packed})
    return record(course, experiment, save, exists)


def _columns(subject: Subject, units: Sequence[int], images: int) -> list[int]:
    """Returns the columns of the units, one for each image."""
    columns = [int(unit) for unit in units]
    if len(columns) != images or columns != sorted(columns, key=list(dict.fromkeys(columns)).index):
        raise InvalidArgumentError(
            f"units: expected a unit for each of {images} images, those of one unit in succession, got {columns}."
        )
    if not all(0 <= column < len(subject.units) for column in columns):
        raise InvalidArgumentError(f"units: expected columns of 0 to {len(subject.units) - 1}, got {columns}.")
    return columns


def _twin_columns(twin: Subject, given: Sequence[int] | None, names: Sequence[str]) -> list[int]:
    """Returns the columns of a twin that predict the units of these names."""
    if given is not None:
        columns = [int(column) for column in given]
        if len(columns) != len(names) or not all(0 <= column < len(twin.units) for column in columns):
            raise InvalidArgumentError(
                f"twin_units: expected {len(names)} columns of 0 to {len(twin.units) - 1}, got {columns}."
            )
        return columns
    known = {name.removeprefix("twin."): i for i, name in enumerate(twin.units.neuroid_id)}
    missing = [name for name in names if name not in known]
    if missing:
        raise InvalidArgumentError(
            f"twin: it has no unit {missing[0]!r}, only {', '.join(list(known)[:3])} …; say which with twin_units."
        )
    return [known[name] for name in names]


def _ids(roles: Sequence[str], targets: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of images; further ones that were made for a unit are numbered."""
    found: list[str] = []
    for role, target in zip(roles, targets, strict=True):
        name = f"{role}-{names.index(target):03d}"
        again = sum(known == name or known.startswith(f"{name}-") for known in found)
        found.append(f"{name}-{again:02d}" if again else name)
    return tuple(found)


def _shown(
    sets: Sequence[NDArray[np.float32]],
    names: Sequence[str],
    twin: Subject | None,
    predicting: Sequence[int] | None,
    recording: xr.Dataset | None,
    seed: int,
) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Returns all images, what each is, and the unit that it is for; controls are those of each unit's first image."""
    made = np.stack([own[0] for own in sets])
    side, rng = made.shape[-1], named_generator(seed, "spectrum")
    naturals, evolved = _naturals(made, names, twin, predicting, recording)
    rows: list[tuple[str, str, NDArray[np.float32]]] = []
    made = quantize(made)
    for i, (name, image) in enumerate(zip(names, made, strict=True)):
        natural = resize_images(naturals[i][None], side)[0]
        rows += [(SYNTHESIZED, name, one) for one in sets[i]]
        rows.append((NATURAL, name, natural))
        if evolved[i] is not None:
            rows.append((EVOLVED, name, resize_images(evolved[i][None], side)[0]))  # type: ignore[index]
        rows.append((CONTRAST, name, contrast_matched(natural, image)))
        rows.append((SPECTRUM, name, spectrum_matched(image, rng)))
    images = quantize(np.stack([row[2] for row in rows]))
    return images, [row[0] for row in rows], [row[1] for row in rows]


def _naturals(
    made: NDArray[np.float32],
    names: Sequence[str],
    twin: Subject | None,
    predicting: Sequence[int] | None,
    recording: xr.Dataset | None,
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32] | None]]:
    """Returns the best natural image of each unit, and its best evolved one, if any."""
    if recording is not None:
        found = [_best(recording, name) for name in names]
        naturals = [natural for natural, _ in found]
        if all(natural is not None for natural in naturals):
            return [n for n in naturals if n is not None], [image for _, image in found]
        evolved = [image for _, image in found]
    else:
        evolved = [None] * len(names)
    known = natural_references(made.shape[-1]).images
    at = [0] * len(names)
    if twin is not None and predicting is not None:
        at = record_images(twin, known)[:, list(predicting)].argmax(0).tolist()
    return [known[i] for i in at], evolved


def _best(recording: xr.Dataset, name: str) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Returns the natural and the evolved image of a recording with the highest mean response of a unit."""
    ids = recording["neuroid_id"].values.tolist()
    if name not in ids:
        raise InvalidArgumentError(f"recording: it has no unit {name!r}; hand over one of this subject.")
    responses = recording["responses"].isel(neuroid=ids.index(name)).values.astype(float)
    responses = responses.mean(-1) if responses.ndim == 2 else responses
    natural = recording["thread"].values == REFERENCE
    retested = recording["kind"].values == "retest"
    evolved = ~natural & retested if (~natural & retested).any() else ~natural
    return tuple(_top(recording, responses, rows) for rows in (natural, evolved))  # type: ignore[return-value]


def _top(recording: xr.Dataset, responses: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Returns the image with the highest mean response among some presentations; None for none."""
    at = np.flatnonzero(rows & ~np.isnan(responses))
    if not len(at):
        return None
    _, first, number = np.unique(
        recording["stimulus_id"].values[at].astype(str), return_index=True, return_inverse=True
    )
    mean = np.bincount(number, responses[at]) / np.bincount(number)
    image: NDArray[np.float32] = render(recording, [int(at[first[mean.argmax()]])])[0]
    return image


def contrast_matched(image: NDArray[np.float32], like: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns an image ``(3, h, w)`` with the mean and the standard deviation of another one in each colour."""
    mean, sd = image.mean((1, 2), keepdims=True), image.std((1, 2), keepdims=True)
    scaled = (image - mean) / np.where(sd > 0, sd, 1) * like.std((1, 2), keepdims=True)
    found: NDArray[np.float32] = np.clip(scaled + like.mean((1, 2), keepdims=True), 0, 1).astype(np.float32)
    return found


def spectrum_matched(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns noise with the amplitude spectrum of an image ``(3, h, w)``.

    The same random phase is added in all colours, so that their relations stay (Galerne et al. 2011, *IEEE Transactions
    on Image Processing*); what leaves [0, 1] is cut.
    """
    phase = np.angle(np.fft.fft2(rng.standard_normal(image.shape[1:])))
    phase[0, 0] = 0  # the mean stays
    noise = np.fft.ifft2(np.fft.fft2(image) * np.exp(1j * phase)).real
    return np.clip(noise, 0, 1).astype(np.float32)


def _library(held: ImageSet, coords: Mapping[str, NDArray[Any]]) -> Library:
    """Returns the images with what each is."""
    known = Library.of(held, held.images.shape[-1])
    return replace(known, kind="verification", coords=coords)  # fresh ones, which nothing was chosen by


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a verification; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, VerifySettings, "subject", "images", "units")
    subject = subject_of(run, content, handed)
    chosen = stored_settings(VerifySettings, content)
    stored = stored_images(run, REFERENCES)
    if stored is None:  # not with this source, of which a run has a copy or there is an error
        raise RecordingError(f"{run}: its images were not stored; begin it again, in the same folder.")
    library = _library(stored, stored_parameters(run, content))
    check_fingerprints(run, content, fingerprints(subject=subject, images=library.fingerprint))
    return run_course(Presentation(subject, library, chosen, handed.progress), Recording.reopen(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what was promised and what is true, of each unit, and the figure."""
    found = verification(recording)
    targets = list(dict.fromkeys(map(str, found["target"].values)))
    tables = [_table(found, target) for target in targets[:MOST]]
    lines = [_line(found, target) for target in targets]
    if len(targets) < int((found["role"].values == SYNTHESIZED).sum()):
        lines += _many(diversity(recording))
    said = "Confirmed responses with 95 % intervals, and what the twin promised."
    figure = RunFigure(partial(_draw, recording), said)
    figures = {"verification": figure}
    if len(targets) > 1:
        words = "Responses to the images of all units, as a share of what each unit's own image reaches."
        figures["matrix"] = RunFigure(partial(_draw_matrix, recording), words)
    return RunSummary(tables, lines, figures, "Is what was promised true?")


def _table(found: xr.Dataset, target: str) -> RunTable:
    """Returns what was promised and what is true of the images for one unit."""
    of = found.isel(image=np.flatnonzero(found["target"].values == target))
    rows = []
    for one in (of.isel(image=i) for i in range(of.sizes["image"])):
        words = str(one["role"].item()), _number(one["predicted"]), _between(one, "confirmed"), _between(one, "gap")
        rows.append(list(words))
    return RunTable(
        f"{target}: predicted and confirmed",
        ("image", "predicted", "confirmed (95 %)", "gap (95 %)"),
        rows,
        "Confirmed: mean of fresh presentations. Predicted: by the twin, no response. Gap: predicted - confirmed.",
    )


def _number(value: Any) -> str:
    return f"{float(value):.3g}" if np.isfinite(float(value)) else "–"


def _between(one: xr.Dataset, name: str) -> str:
    """Writes a number with its interval."""
    low, high = float(one[f"{name}_low"]), float(one[f"{name}_high"])
    ends = f" ({low:.3g} to {high:.3g})" if np.isfinite([low, high]).all() else ""
    return f"{_number(one[name])}{ends}"


def _line(found: xr.Dataset, target: str) -> str:
    """Says of a unit whether its image excites it more than the best natural one."""
    rows = found.isel(image=np.flatnonzero(found["target"].values == target))
    made = rows.isel(image=rows["role"].values.tolist().index(SYNTHESIZED))
    low, high = float(made["beyond_natural_low"]), float(made["beyond_natural_high"])
    said = "more than" if low > 0 else "less than" if high < 0 else "not measurably more or less than"
    text = f"{target}: its image excites it {said} its best natural image ({_between(made, 'beyond_natural')})."
    gap = float(made["gap"])
    return text if not np.isfinite(gap) else f"{text} Twin-fooling gap: {_between(made, 'gap')}."


def _many(found: xr.Dataset) -> list[str]:
    """Says of each unit how many of its images drive it nearly as much as the best one."""
    lines = []
    for target in dict.fromkeys(found["target"].values.tolist()):
        own = found.isel(image=np.flatnonzero(found["target"].values == target))
        share, low = own["share"].values[1:], own["share_low"].values[1:]
        if len(share):
            lines.append(
                f"{target}: of {len(share)} other images {int((share >= ENOUGH).sum())} drive it by at least "
                f"{percent(ENOUGH)} of what its first one does, {int((low >= ENOUGH).sum())} of them beyond doubt "
                f"(share {np.nanmin(share):.2f} to {np.nanmax(share):.2f}); their pixels correlate by "
                f"{np.nanmean(own['alike'].values):.2f} on average."
            )
    return lines


def _draw(recording: xr.Dataset) -> Figure:
    from closedloop.figures import plot_verification
    from closedloop.figures.style import whole_figure

    return whole_figure(plot_verification(recording))


def _draw_matrix(recording: xr.Dataset) -> Figure:
    from closedloop.figures import plot_verification_matrix
    from closedloop.figures.style import whole_figure

    return whole_figure(plot_verification_matrix(recording))


def _images(recording: xr.Dataset) -> xr.Dataset:
    """Returns what is known of each image, without the matrix of units, for a table."""
    found = verification(recording).drop_vars(["matrix", "matrix_sem", "made_for", "unit"])
    return found.reset_coords(["role", "target"])


#: What others must know of verifications.
PROTOCOL = RunProtocol(
    VERIFY,
    _resume,
    _summary,
    analyses={"verification": Analysis(_images, "runs"), "diversity": Analysis(diversity, "runs")},
)
