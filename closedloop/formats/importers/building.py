"""Gives the importers what they share: arrays from files that may not run code, and a run made of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.arrays import as_names, as_numbers
from closedloop.errors import ClosedLoopError, RecordingError, reason
from closedloop.interfaces import FloatArray, Units
from closedloop.recipes import OBJECT, plain, version
from closedloop.recording.layout import EVOLUTION, REFERENCE, Layout, Rows
from closedloop.recording.writer import Recording


@dataclass
class Presentations:
    """A generation under construction, with a list for each column of `Rows`."""

    thread: list[str] = field(default_factory=list)
    stimulus_id: list[str] = field(default_factory=list)
    repeat: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    responses: list[FloatArray] = field(default_factory=list)
    codes: list[FloatArray | None] = field(default_factory=list)

    def add(
        self,
        thread: str,
        stimulus_id: str,
        responses: FloatArray,
        score: float = float("nan"),
        code: FloatArray | None = None,
        repeat: int = 0,
    ) -> None:
        """Adds a presentation; `responses` is ``(units,)``. A reference image has no score."""
        self.thread.append(thread)
        self.stimulus_id.append(stimulus_id)
        self.repeat.append(repeat)
        self.score.append(float("nan") if thread == REFERENCE else float(score))
        self.responses.append(responses)
        self.codes.append(code)

    def rows(self, generation: int, latent: int) -> Rows:
        """Returns the presentations as they are recorded; when they were shown is not known.

        Args:
            generation: Its number.
            latent: Length of the codes; shorter ones end in NaN.
        """
        n = len(self.thread)
        thread = np.array(self.thread)
        codes = np.full((n, latent), np.nan)
        for i, code in enumerate(self.codes):
            if code is not None:
                codes[i, : len(code)] = code
        coords = {
            "thread": thread,
            "generation": np.full(n, generation, np.int32),
            "kind": np.where(thread == REFERENCE, "reference", "evolved"),
            "stimulus_id": np.array(self.stimulus_id),
            "repeat": np.array(self.repeat, np.int32),
            "onset_s": np.full(n, np.nan),
        }
        return Rows(coords, np.stack(self.responses), codes, np.array(self.score))


@dataclass(frozen=True)
class Source:
    """The facts that identify an imported run.

    Attributes:
        system: "XDream" …
        folder: Where it was.
        subject: The network or animal that was shown images.
        threads: Names of the evolutions.
        generators: Of each thread, in words.
        optimizers: Likewise.
        objectives: What each thread maximized, as `closedloop.parse_objective` reads it.
        seed: -1 where it was not recorded.
        parameters: All else that the folder says, as plain values.
    """

    system: str
    folder: Path
    subject: str
    threads: Sequence[str]
    generators: Sequence[str]
    optimizers: Sequence[str]
    objectives: Sequence[str]
    seed: int
    parameters: Mapping[str, Any]

    def scalars(self) -> dict[str, str | int | float]:
        """Returns the scalar coordinates of the run."""
        return {"subject": self.subject, "seed": self.seed, "closedloop_version": version()}

    def evolutions(self) -> dict[str, Sequence[str]]:
        """Returns what is known of each evolution, as `Layout.evolutions` takes it."""
        words = [{"name": OBJECT, "description": f"{self.system}: {name}"} for name in self.generators]
        return {
            EVOLUTION: self.threads,
            "generator": self.generators,
            "generator_sha256": ["" for _ in self.generators],
            "generator_recipe": [json.dumps(recipe) for recipe in words],
            "optimizer": self.optimizers,
            "objective": self.objectives,
        }


def make_run(
    source: Source,
    units: Units,
    generations: Mapping[int, Presentations],
    save: str | Path | None,
) -> xr.Dataset:
    """Writes what was read as a finished run, or keeps it in memory.

    Args:
        source: What identifies it.
        units: One for each response.
        generations: By number, -1 for a survey of references.
        save: Folder of the run; must be new.

    Returns:
        The recording, see `closedloop.open_recording`.

    Raises:
        RecordingError: The folder exists, or cannot be written.
    """
    lengths = [len(code) for g in generations.values() for code in g.codes if code is not None]
    latent, sizes = max(lengths, default=0), [len(g.thread) for g in generations.values()]
    layout = Layout(sum(sizes), latent, units, source.scalars(), evolutions=source.evolutions())
    experiment = {
        "closedloop": version(),
        "protocol": "import",
        "system": source.system,
        "folder": str(source.folder.resolve()),
        "parameters": plain(source.parameters),
    }
    rows = [generations[number].rows(number, latent) for number in sorted(generations)]  # before anything is written
    recording = Recording.create(save, layout, experiment)
    try:
        for each in rows:
            recording.append(each, {})
        recording.finish({}, f"imported from {source.system}")
        return recording.dataset()
    except BaseException:
        recording.discard(whole=True)  # a half import is of no use, and its folder would be in the way
        raise
    finally:
        recording.close()


@contextlib.contextmanager
def importing(system: str, folder: str | Path) -> Iterator[None]:
    """Turns whatever a strange folder makes an importer raise into one error that names the folder.

    Raises:
        RecordingError: From what was raised.
    """
    try:
        yield
    except ClosedLoopError:
        raise
    except Exception as error:
        raise RecordingError(f"{folder}: it is not laid out as {system} writes it ({reason(error)}).") from error


def read_array(path: Path) -> NDArray[Any]:
    """Reads the array of an ``.npy`` file.

    Raises:
        RecordingError: As `read_arrays`; or the file holds several.
    """
    arrays = read_arrays(path)
    if "" not in arrays:
        raise RecordingError(f"{path}: expected one array, got a file of several: {', '.join(arrays) or 'none'}.")
    return arrays[""]


def numbers(what: str, values: Any, shape: Sequence[int | None], lost: bool = True) -> NDArray[np.float64]:
    """Returns numbers from a file, if they have a shape and none is infinite.

    Args:
        what: The file, and what it holds, for the error.
        values: An array.
        shape: Length of each axis; None for any of at least 1.
        lost: Whether NaN may stand for a value that was lost.

    Raises:
        RecordingError: Otherwise.
    """
    found = as_numbers(what, values, lost=lost, error=RecordingError)
    fits = found.ndim == len(shape) and all(
        n == m or (m is None and n) for n, m in zip(found.shape, shape, strict=True)
    )
    if not fits:
        words = ", ".join("any" if n is None else str(n) for n in shape)
        raise RecordingError(f"{what}: expected numbers of shape ({words}), got {found.shape}.")
    if np.isinf(found).any() or (not lost and np.isnan(found).any()):
        raise RecordingError(f"{what}: expected finite numbers{', NaN where one was lost' * lost}, got others.")
    return found.astype(np.float64)


def whole_numbers(what: str, values: Any, shape: Sequence[int | None], least: int) -> NDArray[np.int64]:
    """Returns whole numbers of at least ``least`` from a file; raises as `numbers` does."""
    found = numbers(what, values, shape, lost=False)
    if (found != np.round(found)).any() or (found < least).any() or (found > np.iinfo(np.int32).max).any():
        raise RecordingError(f"{what}: expected whole numbers of at least {least}, got others.")
    return found.astype(np.int64)


def texts(what: str, values: NDArray[Any]) -> list[str]:
    """Returns names of images from a file, if it is one axis of them.

    Raises:
        RecordingError: Otherwise; or one is empty, or no name that a file can hold.
    """
    if values.ndim != 1 or values.dtype.kind not in "USiu" or len(values) == 0:
        raise RecordingError(
            f"{what}: expected names (n,) of at least one image, got {values.dtype} of shape {values.shape}."
        )
    found = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
    as_names(what, sorted(set(found)), error=RecordingError)
    return found


def entries(value: Any) -> Mapping[str, Any]:
    """Returns a mapping as it is, and an empty one for anything else that a file of parameters may hold."""
    return value if isinstance(value, Mapping) else {}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the arrays of an ``.npz`` file, or the one of an ``.npy`` file under the name "". No pickle is ever loaded.

    Raises:
        RecordingError: The file is damaged, or holds pickled objects.
    """
    try:
        with path.open("rb") as file:  # numpy leaves a damaged one open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # zipfile, zlib and numpy each have errors of their own for a damaged file
        if "pickle" in str(error).lower():
            raise RecordingError(
                f"{path}: it holds pickled Python objects, which run code when they are loaded, or is no numpy file; "
                "nothing was loaded. If you trust its source, load it there and save plain arrays again: "
                "np.savez(path, scores=np.asarray(scores, float), image_ids=np.asarray(image_ids, str))."
            ) from error
        raise RecordingError(f"{path}: cannot read it as a numpy file ({error}); it is damaged.") from error


def check_folder(folder: str | Path) -> Path:
    """Returns the folder, if it is one.

    Raises:
        RecordingError: It is not.
    """
    path = Path(folder)
    if not path.is_dir():
        what = "a file" if path.exists() else "not there"
        raise RecordingError(f"folder: expected a folder, got {path}, which is {what}.")
    return path
