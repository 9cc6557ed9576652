"""The classes of ImageNet, and which class of a classifier a label means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

from closedloop.checks import is_whole
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.readable import wordnet_id

#: Labels that an error names.
_NAMED = 5


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns the names of the 1,000 classes in the order of a classifier's outputs, as torchvision has them.

    From a file of our own: importing torchvision for them takes seconds.
    """
    return tuple(_lines("imagenet_classes.txt"))


@cache
def imagenet_wordnet() -> tuple[tuple[str, str], ...]:
    """Returns WordNet id and names, with commas between them, of the 1,000 classes in the order of `imagenet_classes`.

    From timm's list of synsets and their lemmas.
    """
    pairs = (line.partition(" ") for line in _lines("imagenet_wordnet.txt"))
    return tuple((known, names) for known, _, names in pairs)


def _lines(name: str) -> list[str]:
    return resources.files(__package__).joinpath(name).read_text("utf-8").splitlines()


@cache
def _synsets() -> dict[str, str]:
    """Returns for each WordNet id what a person calls its class: its first name, and the id where others have that."""
    first = {known: names.partition(",")[0] for known, names in imagenet_wordnet()}
    counts = Counter(first.values())
    return {known: name if counts[name] == 1 else f"{name} ({known})" for known, name in first.items()}


def class_index(label: str | int) -> int:
    """Returns the index of an ImageNet class from what it is called, as `match_classes` reads it, or from itself.

    Raises:
        UnknownNameError: No such class.
        InvalidArgumentError: Several are called so.
    """
    names = imagenet_classes()
    if isinstance(label, str):
        found = _named_imagenet().find(label)
        if not found:
            raise UnknownNameError(f"label: no ImageNet class {label!r}.{closest(_plain(label), names)}")
        if len(found) > 1:
            meant = ", ".join(f"{i} ({imagenet_wordnet()[i][1]})" for i in found[:_NAMED])
            raise InvalidArgumentError(f"label: several ImageNet classes are called {label!r}; give a number: {meant}.")
        return found[0]
    if not is_whole(label) or not 0 <= label < len(names):
        raise UnknownNameError(f"label: expected an ImageNet class by name or 0 to {len(names) - 1}, got {label!r}.")
    return int(label)


def class_words(label: str) -> str:
    """Returns what a person calls the class of a folder's or a file's name: of a WordNet id of ImageNet its name."""
    return _synsets().get(wordnet_id(label), label)


def match_classes(labels: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Returns for each label the number of the class that it means.

    A label that begins with a WordNet id means that synset of ImageNet. Another means the class that is called so: all
    of its text, or one of the names that commas part in it; where no class is, the one whose names in WordNet have it.
    Capitals do not count, and an underscore is a space. Nothing else is tried.

    Args:
        labels: As folders or a table have them; the same may come several times.
        classes: What the outputs of a network are called, in their order; those without a name by their number.

    Raises:
        UnknownNameError: Labels mean no class; the error counts and names them.
        InvalidArgumentError: One means several.
    """
    names = _Names(classes)
    counts = Counter(labels)
    found = {label: names.find(label) for label in counts}
    unknown = [label for label, numbers in found.items() if not numbers]
    if unknown:
        some = ", ".join(f"{label!r} ({counts[label]} images)" for label in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise UnknownNameError(
            f"labelled: {len(unknown)} of {len(counts)} labels are no class of the network: {some}{more}."
            f"{closest(unknown[0], [name for name in classes if name])} Labels are names of its {len(classes)} "
            "classes, or WordNet ids of ImageNet's."
        )
    several = next((label for label, numbers in found.items() if len(numbers) > 1), None)
    if several is not None:
        meant = ", ".join(f"{i} ({classes[i]!r})" for i in found[several][:_NAMED])
        raise InvalidArgumentError(
            f"labelled: the label {several!r} means several classes: {meant}; use all of a class's name, or a WordNet "
            "id."
        )
    return {label: numbers[0] for label, numbers in found.items()}


@cache
def _named_imagenet() -> _Names:
    return _Names(imagenet_classes())


class _Names:
    """What classes are called, for quick looks."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._whole = _index((_plain(text or str(i)), i) for i, text in enumerate(classes))
        self._parts = _index((name, i) for i, text in enumerate(classes) for name in _names(text or str(i)))
        self._imagenet = {known: (i, _names(names)) for i, (known, names) in enumerate(imagenet_wordnet())}
        self._common = _index((name, i) for i, names in self._imagenet.values() for name in names)

    def find(self, label: str) -> list[int]:
        """Returns the numbers of the classes that a label may mean; none where it means no class."""
        known = wordnet_id(label)
        if known:
            return self._synset(*self._imagenet[known]) if known in self._imagenet else []
        name = _plain(label)
        exact = self._whole.get(name) or self._parts.get(name)
        if exact:
            return exact
        synsets = self._common.get(name, [])
        return self._synset(synsets[0], [name, *self._names_of(synsets[0])]) if len(synsets) == 1 else []

    def _names_of(self, number: int) -> list[str]:
        return _names(imagenet_wordnet()[number][1])

    def _synset(self, number: int, names: Sequence[str]) -> list[int]:
        """Returns the classes that are called as a synset is; of several the one at its place in ImageNet's order."""
        called = [_plain(imagenet_classes()[number]), *names]
        exact = {i for name in called[:1] for i in self._whole.get(name, [])}
        found = exact | {i for name in called for i in self._parts.get(name, [])}
        return [number] if number in found else sorted(exact or found)


def _index(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, number in pairs:
        if number not in (known := found.setdefault(name, [])):
            known.append(number)
    return found


def _names(text: str) -> list[str]:
    return [_plain(part) for part in text.split(",")]


def _plain(text: str) -> str:
    """Returns a name as it is compared."""
    return " ".join(text.replace("_", " ").casefold().split())
