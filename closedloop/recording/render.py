"""The images of a recording, made again: evolved ones from their codes, reference images from the run's own copy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.checks import make_images
from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError, closest
from closedloop.images.eight_bit import quantize
from closedloop.images.forms import shown_as
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, as_image_set, folder_images, in_colours, read_images
from closedloop.interfaces import FloatArray, Generator
from closedloop.recipes import BUNDLED, fingerprint, is_same_part
from closedloop.recording.evolutions import EVOLUTION_THREAD, experiment_of, places, siblings, tables
from closedloop.recording.layout import EVOLUTION, REFERENCE, REFERENCES, is_run, recorded_form, were_rounded
from closedloop.recording.references import read_references, stored_references
from closedloop.signatures import at_door

#: Which presentations: a number, a slice, numbers, a mask ``(n,)``, the name of an image, or several names.
Which = int | slice | str | Sequence[int] | Sequence[str] | NDArray[Any]


@at_door
def render(
    recording: xr.Dataset,
    which: Which = slice(None),
    *,
    generators: Mapping[str, Generator] | None = None,
    references: ImageSet | str | Path | None = None,
) -> NDArray[np.float32]:
    """Makes images of a recording again, as they were shown.

    An evolved image comes from its code, by the generator that the recording names; its fingerprint is compared with
    the recorded one. A reference image comes from the run's folder.

    Args:
        recording: What `open_recording` or a protocol returned, or a part of it.
        which: Presentations: a number, a slice, numbers, a mask ``(presentation,)``, the `stimulus_id` of an image,
            or several of them. Default all.
        generators: By thread, where the generator was a Python object that has no name.
        references: Where the reference images are, if not in the folder the recording was opened from: a run's folder,
            a folder of images, ``"bundled"``, or an `ImageSet`.

    Returns:
        ``(n, 3, h, w)`` float32, RGB in [0, 1], in the order asked for; as large as they were shown. Of a grey subject
        ``(n, 1, h, w)``, of one of movies ``(n, frames, channels, h, w)``.

    Raises:
        InvalidArgumentError: No such presentation, or a generator that cannot be loaded by name was not handed over.
        RecordingError: A reference image is not to be found.

    Warns:
        UserWarning: The generator's weights are not those that made the images.
    """
    rows = positions(recording, which)
    part = recording.isel(presentation=rows)
    if not len(rows):
        return np.empty((0, *recorded_form(recording).leading, 0, 0), np.float32)
    makers = _Makers(part, generators or {})
    coded = np.flatnonzero(part["thread"].values != REFERENCE)
    natural = np.flatnonzero(part["thread"].values == REFERENCE)
    made = makers.images(coded)
    found = _reference_images(part, part["stimulus_id"].values[natural].tolist(), references)
    size = {image.shape for image in (*made, *found)}
    if len(size) > 1:
        raise InvalidArgumentError(
            f"which: expected images of one size, got {sorted(size)}; ask for those of each run by itself."
        )
    images = np.empty((len(rows), *size.pop()), np.float32)
    for place, image in zip((*coded, *natural), (*made, *found), strict=True):
        images[place] = image
    return images


def positions(recording: xr.Dataset, which: Which) -> NDArray[np.int64]:
    """Returns numbers ``(n,)`` of the presentations that are asked for; of an image, its first presentation.

    Raises:
        InvalidArgumentError: There is no such presentation or image.
    """
    count = recording.sizes["presentation"]
    if isinstance(which, slice):
        return np.arange(count)[which]
    asked = np.atleast_1d(np.asarray(which))
    if asked.dtype.kind in "UOT":
        return _named(recording["stimulus_id"].values, [str(name) for name in asked])
    if asked.dtype == bool:
        if asked.shape != (count,):
            raise InvalidArgumentError(f"which: expected a mask of shape ({count},), got {asked.shape}.")
        return np.flatnonzero(asked)
    if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
        raise InvalidArgumentError(f"which: expected numbers, names or a mask of presentations, got {which!r:.80}.")
    if asked.size and not -count <= asked.min() <= asked.max() < count:
        raise InvalidArgumentError(f"which: expected numbers of 0 to {count - 1}, got {asked.min()} to {asked.max()}.")
    return np.asarray(asked, np.int64) % max(count, 1)


def _named(ids: NDArray[Any], names: list[str]) -> NDArray[np.int64]:
    first: dict[str, int] = {}
    for i, name in enumerate(ids.tolist()):
        first.setdefault(name, i)
    missing = [name for name in names if name not in first]
    if missing:
        raise InvalidArgumentError(f"which: no image named {missing[0]!r}.{closest(missing[0], first)}")
    return np.array([first[name] for name in names], dtype=np.int64)


class _Makers:
    """The generators of a recording, or of several that were concatenated.

    Args:
        part: The presentations that are asked for.
        given: Generators by thread, which are used instead of the recorded ones.
    """

    def __init__(self, part: xr.Dataset, given: Mapping[str, Generator]) -> None:
        self._part, self._given = part, given
        self._known: dict[str, Generator] = {}

    def images(self, rows: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """Makes the images of these rows' codes, each ``(3, h, w)``, as large as they were shown."""
        if not len(rows):
            return []
        part, codes = self._part, self._part["latent_code"].isel(presentation=rows).values
        rounded = (part["kind"].values == "retest") | were_rounded(part)
        place, known = places(part), _recipes(part)
        images: list[Any] = [None] * len(rows)
        alike = all(not table.strides[0] for table in known.values())  # one line for all presentations
        keyed = {i: self._key(i, place, known) for i in {(place[i] if alike else i): i for i in rows}.values()}
        of_place = {place[i]: key for i, key in keyed.items()}
        keys = [of_place[place[i]] if alike else keyed[i] for i in rows]
        for key in dict.fromkeys(keys):
            own = [i for i, other in enumerate(keys) if other == key]
            shown = shown_as(self._shown(codes[own], *key), recorded_form(self._part.isel(presentation=[rows[own[0]]])))
            again = rounded[rows[own]].reshape(-1, *[1] * (shown.ndim - 1))
            shown = np.where(again, quantize(shown), shown)  # as the session shows them
            for i, image in zip(own, shown, strict=True):
                images[i] = image
        return images

    def _key(
        self, row: int, place: NDArray[np.int64], known: Mapping[str, NDArray[Any]]
    ) -> tuple[int, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Tells which of the run's evolutions made an image; and all evolutions' names, recipes and fingerprints."""
        if place[row] < 0:
            raise RecordingError(
                f"recording: it does not say which generator made the images of thread "
                f"{self._part['thread'].values[row]!r}."
            )
        own = siblings(self._part, int(place[row]))
        columns = (
            tuple(map(str, known[name][row, own])) for name in ("thread", "generator_recipe", "generator_sha256")
        )
        return (own.tolist().index(place[row]), *columns)

    def _shown(
        self, codes: FloatArray, place: int, names: Sequence[str], recipes: Sequence[str], hashes: Sequence[str]
    ) -> NDArray[np.float32]:
        """Makes the images of the codes of one thread."""
        made = [self._generator(n, r) for n, r in zip(names, recipes, strict=True)]
        generator = made[place]
        _compare(generator, names[place], hashes[place])
        images = make_images(generator, codes[:, : generator.space.dim])
        return resize_images(images, max(other.resolution for other in made))

    def _generator(self, thread: str, recipe: str) -> Generator:
        if thread in self._given:
            return self._given[thread]
        if recipe not in self._known:
            self._known[recipe] = _load(thread, json.loads(recipe))
        return self._known[recipe]


def _recipes(part: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Returns threads' names, and how their generators are loaded and told apart, ``(presentation, evolution)`` each.

    Raises:
        RecordingError: The recording does not say it.
    """
    known = tables(part) if EVOLUTION in part.coords else {}
    if "generator_recipe" not in known:
        raise RecordingError("recording: it does not say which generator made its images.")
    names = part[EVOLUTION_THREAD if EVOLUTION_THREAD in part.coords else EVOLUTION].values
    none = np.full(known["generator_recipe"].shape, "", dtype=object)
    return {"generator_sha256": none, **known, "thread": np.broadcast_to(names, none.shape)}


def _load(thread: str, recipe: dict[str, Any]) -> Generator:
    generator: Generator = recipes.build_again(
        "generators",
        recipes.as_recorded(recipe),
        f"generators: the generator of thread {thread!r}",
        f"hand it over: render(…, generators={{{thread!r}: generator}})",
    )
    return generator


def _compare(generator: Generator, thread: str, recorded: str) -> None:
    """Warns if a generator is not the one that was recorded."""
    if not is_same_part(generator, recorded):
        now = fingerprint(generator)
        warnings.warn(
            f"generator {generator.name!r}: its weights or options ({now[:20]}…) are not those that made the "
            f"images of thread {thread!r} ({recorded[:20]}…); what it makes now may look different.",
            UserWarning,
            stacklevel=5,
        )


def _reference_images(
    part: xr.Dataset, names: list[str], references: ImageSet | str | Path | None
) -> list[NDArray[np.float32]]:
    """Returns reference images by name, each ``(3, h, w)``, as they were shown."""
    if not names:
        return []
    form = recorded_form(part)
    source = _reference_source(part) if references is None else references
    found = {} if source is None else _read_named(source, set(names), part)
    missing = [name for name in names if name not in found]
    if missing:
        where = "this recording does not say where they are" if source is None else "it is not where they should be"
        raise RecordingError(
            f"references: no reference image {missing[0]!r}: {where}; say it: render(…, references=RUN)."
        )
    return [shown_as(in_colours(found[name], form)[None], form)[0] for name in names]


def _reference_source(part: xr.Dataset) -> str | None:
    """Says where a recording's reference images are: in its folder, or where its experiment took them from."""
    if part["subject"].ndim or part["seed"].ndim:  # concatenated: folder and experiment are those of one run alone
        return None
    folder = part.encoding.get("source")
    if folder is not None and is_run(folder) and read_references(Path(folder)) is not None:
        return str(folder)
    content = experiment_of(part)
    named = [content[n] for n in ("references", "naturals", "images") if isinstance(content.get(n), str)]
    source = named[0] if named else REFERENCES
    return None if source == REFERENCES or not (source == BUNDLED or Path(source).is_dir()) else source


def _read_named(source: ImageSet | str | Path, names: set[str], part: xr.Dataset) -> dict[str, NDArray[np.float32]]:
    """Returns those of the named images that a source holds."""
    form = recorded_form(part)
    if isinstance(source, ImageSet) or str(source) == BUNDLED:
        known = as_image_set(source, _resolution(part), form)
        return dict(zip(known.ids, known.images, strict=True))
    stored = read_references(Path(source)) or stored_references(Path(source))
    if stored is not None:
        return dict(zip(stored.ids, stored.images, strict=True))
    side = _resolution(part)
    inside = {name: Path(source) / name for name in names if _is_within(Path(source), name)}
    if len(inside) < len(names):  # only what is asked for: a folder may hold more than memory
        ids, paths = folder_images(source)
        inside |= {name: path for name, path in zip(ids, paths, strict=True) if name in names}
    return {name: read_images([path], side, form)[0] for name, path in inside.items()}


def _is_within(folder: Path, name: str) -> bool:
    """Tells whether a name is the path of a file in a folder, as a search of a large one names its images."""
    place = Path(name)
    try:
        return not place.is_absolute() and ".." not in place.parts and (folder / place).is_file()
    except OSError:  # no disk can hold it
        return False


def _resolution(part: xr.Dataset) -> int:
    """Returns height and width at which the reference images were shown."""
    content = experiment_of(part)
    if "resolution" in content:
        return int(content["resolution"])
    recipes = _recipes(part)["generator_recipe"][0].tolist()
    return max(_load("", json.loads(recipe)).resolution for recipe in recipes)


def recorded_generator(recording: xr.Dataset, thread: str) -> Generator | None:
    """Returns the generator of a thread of one run, loaded again; None where that is not possible."""
    try:
        known = _recipes(recording.isel(presentation=[0]))
        place = known["thread"][0].tolist().index(thread)
        return _load(thread, json.loads(known["generator_recipe"][0, place]))
    except ClosedLoopError:
        return None
