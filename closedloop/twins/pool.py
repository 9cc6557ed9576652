"""Features of a folder of images, found once and kept in a file: a million images fit, and read block by block.

Activations of a network are standardized and, where a layer has many, projected at random to fewer, which keeps inner
products up to 1 / √columns (Johnson & Lindenstrauss 1984). Beside its places stand the channels of a layer, averaged
over all places: few numbers, of which a few images tell much. They are kept as 16-bit numbers, 3.5 kB for each image
where lite0 is the network. The file lies in the user's cache (``CLOSEDLOOP_CACHE`` names another one), and grows block
by block: what a killed process has found is not found again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.checks import record_images
from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError
from closedloop.files import make_folders, replace_file
from closedloop.images.eight_bit import from_bytes
from closedloop.images.opening import FORMATS
from closedloop.images.sets import read_image
from closedloop.interfaces import FloatArray, Subject, resolution_of
from closedloop.loop.sparing import one_thread
from closedloop.seeds import named_generator
from closedloop.twins.fitting import layer_columns, standardization

#: Columns to which the activations of a layer are projected, at most.
KEPT = 256
#: Images over which features are standardized, drawn at random.
PILOT = 512
#: Images that are read, and turned into features, together.
AT_ONCE = 64
#: Blocks of these that are brought to the disk together.
TOGETHER = 16
#: Rows that are read from the file together when images are searched for.
ROWS = 32_768
#: Version of what is kept.
FORMAT = "closedloop-pool/2"


@dataclass(frozen=True)
class Folder:
    """The images of a folder and of all folders in it, by number.

    Attributes:
        place: The folder.
        ids: Path of each image within it, with "/" between parts, sorted.
        sizes: Bytes of each file.
        times: When each file was written, in nanoseconds.
    """

    place: Path
    ids: tuple[str, ...]
    sizes: tuple[int, ...] = field(repr=False)
    times: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, folder: str | Path) -> Folder:
        """Lists the images; none is opened.

        Raises:
            InvalidArgumentError: There is no such folder, or no image in it.
        """
        place = Path(folder)
        if not place.is_dir():
            raise InvalidArgumentError(f"images: expected a folder of images, got {place}, which is not a folder.")
        files = sorted(_image_files(place))
        if not files:
            raise InvalidArgumentError(f"images: no image in {place}; expected files ending in {', '.join(FORMATS)}.")
        return cls(place, *zip(*files, strict=True))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the names and sizes of the files; their contents would take hours to read."""
        return self._digest(zip(self.ids, self.sizes, strict=True))

    @cached_property
    def stamp(self) -> str:
        """SHA-256 of names, sizes and times: whether features that were found before are still those of the files."""
        return self._digest(zip(self.ids, self.sizes, self.times, strict=True))

    @staticmethod
    def _digest(rows: Any) -> str:
        digest = hashlib.sha256()
        for row in rows:
            digest.update("\0".join(map(str, row)).encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def read(self, which: Sequence[int] | NDArray[np.int64], side: int) -> NDArray[np.float32]:
        """Returns images by number, the central square of each, ``(n, 3, side, side)`` float32 in [0, 1].

        Raises:
            InvalidArgumentError: One of them cannot be read.
        """
        with ThreadPoolExecutor() as threads:  # Pillow lets go of the interpreter while it unpacks
            read = threads.map(lambda i: read_image(self.place / self.ids[int(i)], side), which)
            return from_bytes(np.stack(list(read)))


def _image_files(place: Path) -> Iterator[tuple[str, int, int]]:
    """Yields path within a folder, bytes and time of each image in it and in all folders below."""
    for top, _, names in os.walk(place):
        within = Path(top).relative_to(place)
        for name in names:
            if os.path.splitext(name)[1].lower() in FORMATS:
                with suppress(OSError):  # a link that leads nowhere
                    facts = os.stat(os.path.join(top, name))
                    yield (within / name).as_posix(), facts.st_size, facts.st_mtime_ns


@dataclass(frozen=True)
class Sketch:
    """Standardizes features and the channels of each layer, averaged over places, and projects each to fewer.

    Attributes:
        mean: Of each feature over the pilot images, and then of each averaged channel.
        scale: What multiplies it after that; 0 for one that does not vary.
        layers: Columns of the features of each layer by name, and behind them those of its averaged channels.
        channels: Of each layer with places, its columns, channel by channel, and the number of channels.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    layers: Mapping[str, NDArray[np.int64]]
    channels: Sequence[tuple[NDArray[np.int64], int]] = ()

    @cached_property
    def _projections(self) -> dict[str, NDArray[np.float32] | None]:
        found: dict[str, NDArray[np.float32] | None] = {}
        for name, at in self.layers.items():
            found[name] = None
            if len(at) > KEPT:
                rng = named_generator(0, f"sketch {name}")
                found[name] = rng.standard_normal((len(at), KEPT)).astype(np.float32) / np.float32(np.sqrt(KEPT))
        return found

    @cached_property
    def columns(self) -> dict[str, NDArray[np.int64]]:
        """Columns of what it returns, of each layer."""
        ends = np.cumsum([min(len(at), KEPT) for at in self.layers.values()])
        return {
            name: np.arange(end - min(len(at), KEPT), end)
            for (name, at), end in zip(self.layers.items(), ends.tolist(), strict=True)
        }

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float16]:
        """Turns features ``(n, features)`` into columns ``(n, columns)``; of 16 bits, within their range."""
        x = (averaged(features, self.channels) - self.mean) * self.scale
        parts = []
        for name, at in self.layers.items():
            projection = self._projections[name]
            # A projected layer of d features has the inner products of all d; they are brought to those of KEPT.
            parts.append(x[:, at] if projection is None else x[:, at] @ projection * np.sqrt(KEPT / len(at)))
        found: NDArray[np.float16] = np.clip(np.concatenate(parts, 1), -6e4, 6e4).astype(np.float16)
        return found


def averaged(features: NDArray[np.float32], channels: Sequence[tuple[NDArray[np.int64], int]]) -> NDArray[np.float32]:
    """Returns features ``(n, features)``, and behind them the mean over places of each channel; see `Sketch`."""
    means = [features[:, at].reshape(len(features), count, -1).mean(2) for at, count in channels]
    return np.concatenate([features, *means], 1) if means else features


def _channels(features: Subject, layers: Mapping[str, NDArray[np.int64]]) -> dict[str, tuple[NDArray[np.int64], int]]:
    """Returns, of each layer that has several places for each channel, its columns and the number of its channels."""
    named = features.units.coords.get("channel")
    if named is None:
        return {}
    numbers = np.array(named)
    found = {}
    for layer, at in layers.items():
        channel = numbers[at]
        count = len(np.unique(channel))
        if count < len(at) and np.array_equal(channel, np.repeat(channel[:: len(at) // count], len(at) // count)):
            found[layer] = (at, count)
    return found


@dataclass(frozen=True)
class Pool:
    """Images with their features.

    Attributes:
        folder: The images.
        features: ``(images, columns)`` float16, in a file; a row of NaN for an image that cannot be read.
        columns: Columns of each layer.
        unreadable: Numbers of the images that cannot be read.
    """

    folder: Folder
    features: NDArray[np.float16]
    columns: Mapping[str, NDArray[np.int64]]
    unreadable: NDArray[np.int64]

    def rows(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the features of images by number, ``(n, columns)``."""
        return np.asarray(self.features[which], np.float32)

    def best(self, weights: FloatArray, keep: int, without: NDArray[np.bool_]) -> tuple[NDArray[np.int64], FloatArray]:
        """Returns the numbers of the images for which readouts predict most, and what they predict, less the bias.

        The file is read once, in blocks, whatever the number of readouts.

        Args:
            weights: ``(columns, readouts)``.
            keep: Images of each readout.
            without: Images that are left out, ``(images,)``.

        Returns:
            Both ``(readouts, ≤ keep)``, the best first; of equal ones the first in the folder.
        """
        w = np.asarray(weights, np.float32)
        numbers: NDArray[np.int64] = np.empty((w.shape[1], 0), np.int64)
        scores: NDArray[np.float32] = np.empty((w.shape[1], 0), np.float32)
        with one_thread():
            for start in range(0, len(self.folder), ROWS):
                block = np.asarray(self.features[start : start + ROWS], np.float32)
                own = np.flatnonzero(~without[start : start + ROWS] & ~np.isnan(block[:, 0]))
                if not len(own):
                    continue
                found = (block[own] @ w).T
                scores = np.concatenate([scores, found], 1)
                numbers = np.concatenate([numbers, np.broadcast_to(own + start, found.shape)], 1)
                order = np.argsort(-scores, axis=1, kind="stable")[:, :keep]
                scores = np.take_along_axis(scores, order, 1)
                numbers = np.take_along_axis(numbers, order, 1)
        return numbers, scores.astype(float)


def gather_pool(
    folder: Folder, features: Subject, cache: str | Path | None = None, progress: Callable[..., None] | None = None
) -> Pool:
    """Finds the features of all images, those alone that were not found before, and keeps them.

    Args:
        folder: The images.
        features: Turns images into features; see `closedloop.twins.fitting.feature_network`.
        cache: Where features are kept; None for the user's cache. Those of a network that cannot tell its weights are
            kept for this process alone.
        progress: Is told how many images have features so far, and of how many.

    Raises:
        SubjectError: The network failed.
        RecordingError: The cache cannot be written.

    Warns:
        UserWarning: Some images cannot be read; they are left out.
    """
    known = recipes.fingerprint(features)
    if not known:
        with tempfile.TemporaryDirectory(prefix="closedloop-pool-") as temporary:
            pool = _found(Path(temporary), folder, features, progress)
            return Pool(folder, np.array(pool.features), pool.columns, pool.unreadable)
    facts = [FORMAT, known, folder.stamp, KEPT, PILOT, AT_ONCE, resolution_of(features)]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    place = (_cache() if cache is None else Path(cache)) / "pools" / name
    try:
        make_folders(place)
        with FileLock(place / "LOCK"):
            return _found(place, folder, features, progress)
    except OSError as error:
        raise RecordingError(
            f"cache: cannot keep features in {place} ({error.strerror or error}); make room, or name another folder."
        ) from error


def _cache() -> Path:
    named = os.environ.get("CLOSEDLOOP_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("closedloop", appauthor=False))


def _found(place: Path, folder: Folder, features: Subject, progress: Callable[..., None] | None) -> Pool:
    """Goes on with the features that a folder of the cache holds, to the end."""
    side = resolution_of(features)
    sketch = _sketch(place / "pilot.npz", folder, features, side)
    width = sum(len(at) for at in sketch.columns.values())
    path, total = place / "features.f16", len(folder)
    done = _done(place, path, 2 * width)
    if done["rows"] < total:
        _extend(place, path, folder, features, sketch, side, done, progress)
    unreadable = np.array(done["unreadable"], np.int64)
    if len(unreadable) == total:
        raise InvalidArgumentError(f"images: none of the {total} images in {folder.place} can be read.")
    if len(unreadable):
        first = folder.ids[int(unreadable[0])]
        warnings.warn(
            f"images: {len(unreadable)} of {total} images in {folder.place} cannot be read and are left out, the "
            f"first {first}.",
            UserWarning,
            stacklevel=4,
        )
    rows = np.memmap(path, np.float16, "r", shape=(total, width))
    return Pool(folder, rows, sketch.columns, unreadable)


def _sketch(path: Path, folder: Folder, features: Subject, side: int) -> Sketch:
    """Returns how features are standardized and projected: as was kept, or by images that are drawn now."""
    own = layer_columns(features)
    known = _channels(features, own)
    ends = len(features.units) + np.cumsum([count for _, count in known.values()])
    more = {f"{name}, averaged": np.arange(e - known[name][1], e) for name, e in zip(known, ends.tolist(), strict=True)}
    layers, channels = {**own, **more}, tuple(known.values())
    with suppress(OSError, ValueError, KeyError), np.load(path, allow_pickle=False) as kept:
        return Sketch(kept["mean"], kept["scale"], layers, channels)
    drawn = named_generator(0, "pilot").permutation(len(folder))[: 2 * PILOT]
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(drawn), AT_ONCE):
        images, _ = _readable(folder, np.sort(drawn[start : start + AT_ONCE]), side)
        if len(images):
            rows.append(record_images(features, images, "features").astype(np.float32))
        if sum(map(len, rows)) >= PILOT:
            break
    if not rows:
        raise InvalidArgumentError(f"images: none of the first {len(drawn)} images of {folder.place} can be read.")
    mean, scale = standardization(averaged(np.concatenate(rows), channels))
    temporary = path.with_suffix(".partial.npz")
    np.savez(temporary, mean=mean, scale=scale)
    temporary.replace(path)
    return Sketch(mean, scale, layers, channels)


def _readable(folder: Folder, which: NDArray[np.int64], side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns those images that can be read, and which these are."""
    try:
        return folder.read(which, side), np.ones(len(which), bool)
    except ClosedLoopError:
        fine, images = np.zeros(len(which), bool), []
        for place, i in enumerate(which.tolist()):
            with suppress(ClosedLoopError):
                images.append(folder.read([i], side))
                fine[place] = True
        return np.concatenate(images) if images else np.empty((0, 3, side, side), np.float32), fine


def _done(place: Path, path: Path, row: int) -> dict[str, Any]:
    """Returns how many rows are safe, and which images could not be read; cuts off what is not."""
    done: dict[str, Any] = {"rows": 0, "unreadable": []}
    with suppress(OSError, ValueError, KeyError, TypeError):
        read = json.loads((place / "done.json").read_text(encoding="utf-8"))
        if path.stat().st_size >= int(read["rows"]) * row:
            done = {"rows": int(read["rows"]), "unreadable": [int(i) for i in read["unreadable"]]}
    with path.open("ab") as file:
        file.truncate(done["rows"] * row)
    return done


def _extend(
    place: Path,
    path: Path,
    folder: Folder,
    features: Subject,
    sketch: Sketch,
    side: int,
    done: dict[str, Any],
    progress: Callable[..., None] | None,
) -> None:
    """Finds the features that are missing, block by block, and notes from time to time how many are safe."""
    total = len(folder)
    with path.open("ab") as file:
        for block, start in enumerate(range(done["rows"], total, AT_ONCE), 1):
            which = np.arange(start, min(start + AT_ONCE, total))
            images, fine = _readable(folder, which, side)
            rows = np.full((len(which), sum(len(at) for at in sketch.columns.values())), np.nan, np.float16)
            if fine.any():
                with one_thread():
                    rows[fine] = sketch(record_images(features, images, "features").astype(np.float32))
            file.write(rows.tobytes())
            done["rows"] = int(which[-1]) + 1
            done["unreadable"] += which[~fine].tolist()
            if block % TOGETHER == 0 or done["rows"] == total:
                file.flush()
                os.fsync(file.fileno())
                replace_file(place / "done.json", json.dumps(done).encode())
            if progress is not None:
                progress(done["rows"], total)
