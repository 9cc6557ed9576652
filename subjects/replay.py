"""A recording as a subject: each image is answered with the responses that it had."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.spikes import spikes_of
from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError, SubjectWarning
from closedloop.images.eight_bit import to_bytes
from closedloop.images.sets import ImageSet
from closedloop.interfaces import RECORDED, FloatArray, Generator, State, Units
from closedloop.presentations import QUALITIES, Answers, Asked, Spikes
from closedloop.readable import ReadableSubject
from closedloop.recording.layout import BLOCK, REFERENCE, SPIKE_NAMES, recorded_form
from closedloop.recording.lean import CURE, is_lean
from closedloop.recording.reader import open_recording
from closedloop.recording.render import recorded_generator, render
from closedloop.seeds import check_seed, generator_state, named_generator, restore_generator

#: Images that are made again at a time.
CHUNK = 64
#: Cells along each side of an image by whose means it is known again where another engine rounded it otherwise.
CELLS = 8
#: Differences of these means in levels of 255, the largest and the average, up to which two images are the same.
ROUNDING = (1.0, 0.02)


@final
class Replay(ReadableSubject):
    """Answers each image as a recording did, trial by trial; what was lost there is lost again.

    Images are known by their pixels. Those of the recording are made again from its codes, and those that differ from
    what is shown by rounding alone are the same. Of a rig's recording also spikes, statuses, onsets and qualities come
    back (`Presenting`). The recorded experiment on this subject, with the same seed, gives the same recording bit for
    bit.

    Args:
        run: The folder of a run, or what `open_recording` returned.
        order: "recorded": the first time that an image is shown it gets its first trial, then the next; when all were
            given it begins again, with a warning. "resampled": each time one of its trials, drawn with replacement.
        unknown: What an image gets that the recording does not have: an "error", or it is "lost" (NaN).
        seed: Of the draws.
        generators: By thread, where a generator was a Python object that has no name.
        references: Where its reference images are, if not in its own folder; as in `closedloop.render`.

    Raises:
        RecordingError: There is no such recording, it holds no presentation, or only the response of one unit of each
            image.
        InvalidArgumentError: An argument does not fit.
    """

    def __init__(
        self,
        run: str | Path | xr.Dataset,
        order: str = "recorded",
        unknown: str = "error",
        seed: int = 0,
        generators: Mapping[str, Generator] | None = None,
        references: ImageSet | str | Path | None = None,
    ) -> None:
        for name, value, known in (
            ("order", order, ("recorded", "resampled")),
            ("unknown", unknown, ("error", "lost")),
        ):
            if value not in known:
                raise InvalidArgumentError(f"{name}: expected {' or '.join(map(repr, known))}, got {value!r:.80}.")
        recording = run if isinstance(run, xr.Dataset) else open_recording(run)
        self._source = None if isinstance(run, xr.Dataset) else str(Path(run).resolve())
        self._recording = _check_recording(recording)
        self._resampled, self._lost = order == "resampled", unknown == "lost"
        self._options = {"order": order, "unknown": unknown, "seed": check_seed(seed)}
        self._rng = named_generator(seed, "replay")
        self.name: str = f"replay-{recording['subject'].item()}" if "subject" in recording.coords else "replay"
        self.units: Units = _units(recording)
        self._form = recorded_form(recording)
        self.channels: int = self._form.channels
        self.frames: int | None = self._form.frames
        self.rate_hz: float | None = self._form.rate_hz
        self._responses: FloatArray = recording["responses"].transpose("presentation", "neuroid", ...).values
        self._known = _Known(recording, generators or {}, references)
        self._shown: dict[int, int] = {}
        self._begun_again = False
        if "status" in recording.coords:
            self.present = self._present

    @cached_property
    def resolution(self) -> int:
        """Height and width of the recorded images in pixels."""
        return self._known.side

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_subject` makes it again; None where a recording was handed over."""
        return None if self._source is None else {"name": f"replay:{self._source}", **self._options}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the recorded responses, of the images' names, and of its options."""
        found = hashlib.sha256(repr(sorted(self._options.items())).encode())
        found.update("\n".join(map(str, self._recording["stimulus_id"].values)).encode())
        found.update(np.ascontiguousarray(self._responses).tobytes())
        return found.hexdigest()

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Returns recorded responses ``(n, units[, time])`` to images ``(n, 3, h, w)``, or of the form it states.

        Raises:
            SubjectError: The recording does not have such an image, unless that is "lost".
        """
        return self._answered(self._trials(check_images(images, form=self._form)))

    def _answered(self, trials: NDArray[np.int64]) -> FloatArray:
        """Returns the responses of trials by number, NaN for -1."""
        found = np.full((len(trials), *self._responses.shape[1:]), np.nan, self._responses.dtype)
        found[trials >= 0] = self._responses[trials[trials >= 0]]
        return found

    def _present(self, asked: Asked) -> Answers:
        """Says of each presentation of a block what the rig said, and gives its spikes."""
        images = check_images(asked.images, form=self._form)
        trials = self._trials(images[asked.order])
        ds, there = self._recording, trials >= 0

        def column(name: str, missing: Any) -> NDArray[Any]:
            found = np.full(len(trials), missing, object if isinstance(missing, str) else None)
            found[there] = ds[name].values[trials[there]]
            return found

        ids = column("trial_id", "")
        return Answers(
            status=column("status", "not_shown"),
            responses=self._answered(trials),
            spikes=self._spikes(trials) if "spike_start" in ds else None,
            trial_id=ids if len(set(ids)) == len(ids) else (),
            onset_s=np.where(column("onset_source", "") == "", np.nan, column("onset_s", np.nan)),
            onset_source=column("onset_source", ""),
            attempt=column("attempt", 1),
            bins_s=_bins(ds),
            quality=self._quality(trials),
        )

    def _spikes(self, trials: NDArray[np.int64]) -> Spikes:
        """Returns the spikes of trials by number, none for -1."""
        spikes = spikes_of(self._recording)
        none = len(spikes)  # one presentation more, without a spike
        padded = Spikes(spikes.time_s, spikes.unit, np.append(spikes.offsets, spikes.offsets[-1]))
        return padded.taken(np.where(trials < 0, none, trials))

    def _quality(self, trials: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Returns what the rig said of its units after the block of the last of these trials."""
        ds, there = self._recording, trials[trials >= 0]
        if not len(there) or BLOCK not in ds.dims:
            return {}
        block = int(ds["block_number"].values[there.max()])
        known = [name for name in QUALITIES if f"unit_{name}" in ds and 0 <= block < ds.sizes[BLOCK]]
        return {name: ds[f"unit_{name}"].transpose(BLOCK, "neuroid").values[block].astype(float) for name in known}

    def _trials(self, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns which recorded presentation answers each image, in their order; -1 for none."""
        return np.array([self._trial(image) for image in images], np.int64)

    def _trial(self, image: NDArray[np.float32]) -> int:
        known = self._known.find(image)
        if known is None:
            if self._lost:
                return -1
            raise SubjectError(
                f"subject {self.name!r}: the recording has no such image of {image.shape[-2]} × {image.shape[-1]} "
                "pixels (nor one that differs by rounding alone); replay the recorded experiment with its seed, show "
                "its images, or say unknown='lost'."
            )
        if self._resampled:
            rows = self._known.all_trials(known)
            return rows[int(self._rng.integers(len(rows)))]
        times = self._shown.get(known, 0)
        self._shown[known] = times + 1
        rows = self._known.trials(known, times)
        if times >= len(rows) and not self._begun_again:
            self._begun_again = True
            warnings.warn(
                f"subject {self.name!r}: image {self._recording['stimulus_id'].values[known]!r} is shown more often "
                f"than the {len(rows)} times of the recording; its trials are given again from the first.",
                SubjectWarning,
                stacklevel=4,
            )
        return int(rows[times % len(rows)])

    def state(self) -> State:
        """Returns how often each image was shown, and the random generator."""
        known = sorted(self._shown)
        return {
            "rng": generator_state(self._rng),
            "images": np.array(known, np.int64),
            "shown": np.array([self._shown[image] for image in known], np.int64),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        restore_generator(self._rng, state["rng"])
        self._shown = dict(zip(np.asarray(state["images"]).tolist(), np.asarray(state["shown"]).tolist(), strict=True))


@final
class _Known:
    """The images of a recording, made again in the order in which they were first shown, as far as they are needed.

    An image goes by the number of the presentation that first showed it.

    Args:
        recording: Of one run.
        given: Generators by thread.
        references: Where its reference images are.
    """

    def __init__(
        self, recording: xr.Dataset, given: Mapping[str, Generator], references: ImageSet | str | Path | None
    ) -> None:
        self._recording, self._given, self._references = recording, dict(given), references
        _, first, inverse = np.unique(
            recording["stimulus_id"].values.astype(str), return_index=True, return_inverse=True
        )
        order = np.argsort(first, kind="stable")
        by_stimulus = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        self._first: list[int] = first[order].tolist()
        self._rows: list[list[int]] = [by_stimulus[i].tolist() for i in order]
        self._made = 0
        self._exact: dict[bytes, int] = {}
        self._trials: dict[int, list[int]] = {}
        self._means: list[NDArray[np.float32]] = []
        self._of_means: list[int] = []
        self._shape: tuple[int, ...] = ()

    @cached_property
    def side(self) -> int:
        """Height and width of the images."""
        if not self._made:
            self._make_more()
        return int(self._shape[-1])

    def find(self, image: NDArray[np.float32]) -> int | None:
        """Returns the number of an image ``(3, h, w)``; None where the recording does not have it."""
        levels = to_bytes(image)
        while (found := self._look_up(levels)) is None and self._made < len(self._first):
            self._make_more()
        return found

    def trials(self, image: int, times: int) -> Sequence[int]:
        """Returns the presentations of an image, as many as are needed to know which one followed `times` others."""
        rows = self._trials[image]
        while self._made < len(self._first) and (times >= len(rows) or rows[times] > self._first[self._made]):
            self._make_more()  # another name of the same image may have been shown before
            rows = self._trials[image]
        return rows

    def all_trials(self, image: int) -> Sequence[int]:
        """Returns all presentations of an image, with those under other names."""
        while self._made < len(self._first):
            self._make_more()
        return self._trials[image]

    def _look_up(self, levels: NDArray[np.uint8]) -> int | None:
        if not self._made or levels.shape != self._shape:
            return None
        exact = self._exact.get(_digest(levels))
        if exact is not None:
            return exact
        apart = np.abs(np.stack(self._means) - _means(levels))
        nearest = int(apart.mean(axis=1).argmin())
        alike = apart[nearest].max() <= ROUNDING[0] and apart[nearest].mean() <= ROUNDING[1]
        return self._of_means[nearest] if alike else None

    def _make_more(self) -> None:
        """Makes the next images again."""
        which = range(self._made, min(self._made + CHUNK, len(self._first)))
        rows = [self._first[i] for i in which]
        for thread in sorted({str(name) for name in self._recording["thread"].values[rows]} - {REFERENCE, ""}):
            if thread not in self._given and (made := recorded_generator(self._recording, thread)) is not None:
                self._given[thread] = made
        images = to_bytes(render(self._recording, rows, generators=self._given, references=self._references))
        for i, levels in zip(which, images, strict=True):
            self._shape = levels.shape
            self._made = i
            known = self._look_up(levels)
            number = self._first[i] if known is None else known
            if known is None:
                self._means.append(_means(levels))
                self._of_means.append(number)
            self._exact.setdefault(_digest(levels), number)
            self._trials[number] = sorted([*self._trials.get(number, []), *self._rows[i]])
        self._made = which.stop


def _digest(levels: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(levels).tobytes()).digest()


def _means(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns means over the cells of an image ``(…, h, w)`` in levels of 255, as one row."""
    cells: NDArray[np.float32] = levels.astype(np.float32)
    for axis in (-2, -1):
        side = levels.shape[axis]
        edges = np.unique(np.arange(min(CELLS, side)) * side // min(CELLS, side))
        widths = np.diff(np.append(edges, side)).astype(np.float32)
        summed: NDArray[np.float32] = np.add.reduceat(cells, edges, axis=axis)
        cells = (summed / (widths[:, None] if axis == -2 else widths)).astype(np.float32)
    return cells.reshape(-1)


def _check_recording(recording: xr.Dataset) -> xr.Dataset:
    """Returns a recording that can answer.

    Raises:
        RecordingError: It is lean, of several runs, without images, or empty.
    """
    if is_lean(recording):
        raise RecordingError(f"run: expected responses of all units to replay, but this recording is lean. {CURE}")
    if missing := [n for n in ("stimulus_id", "thread", "responses") if n not in recording.variables]:
        raise RecordingError(f"run: expected a recording of images and responses, this one has no {missing[0]}.")
    if not recording.sizes["presentation"]:
        raise RecordingError("run: expected a recording with presentations, this one has none yet.")
    if any(recording[name].ndim for name in ("subject", "seed") if name in recording.coords):
        raise RecordingError("run: expected the recording of one run, got several that were joined; replay each alone.")
    return recording


def _bins(recording: xr.Dataset) -> tuple[float, float, int] | None:
    """Returns begin, width and number of a rig's time bins in seconds; None where it has none."""
    if "time_bin_start" not in recording.coords:
        return None
    start, end = (recording[f"time_bin_{name}"].values.astype(float) / 1000 for name in ("start", "end"))
    return (float(start[0]), float(end[0] - start[0]), len(start))


def _units(recording: xr.Dataset) -> Units:
    """Returns the units of a recording with their columns."""
    own = {
        str(name): tuple(column.values.tolist())
        for name, column in recording.coords.items()
        if column.dims == ("neuroid",) and name not in RECORDED and name not in SPIKE_NAMES
    }
    return Units(tuple(map(str, recording["neuroid_id"].values)), own)
