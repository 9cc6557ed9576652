"""Recipes: how the parts of an experiment are found by name, described in plain values, and made again."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from functools import cache, lru_cache, partial
from importlib import metadata
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_generated, is_number, is_whole, kind_of
from closedloop.errors import (
    ClosedLoopError,
    InvalidArgumentError,
    MissingExtraError,
    UnknownNameError,
    closest,
    extras_named,
    reason,
)
from closedloop.interfaces import (
    STILL,
    Answering,
    Described,
    Generator,
    Located,
    Presenting,
    Resolved,
    Stateful,
    Subject,
    Wrapping,
    form_of,
)

#: Stands for something that was handed over as a Python object and has no name to load it by.
OBJECT = "python-object"
#: The plain types that options have, each with what fits it and what an error calls it.
_PLAIN: dict[Any, tuple[Callable[[Any], bool], str]] = {
    NoneType: (lambda value: value is None, "null"),
    bool: (lambda value: isinstance(value, (bool, np.bool_)), "True or False"),
    int: (is_whole, "a whole number"),
    float: (is_number, "a number"),
    str: (lambda value: isinstance(value, str), "a text"),
}
#: Entries that say how a rig is reached and how long it is waited for, by the name of its subject: a rig may move.
_REACHED = {"rig": {"patience_s", "give_up_s", "connect_s", "supersede", "token_file", "encoding"}}
_REACHED["served"] = _REACHED["rig"] | {"listen", "journal"}
#: The optimizer that is taken where none is named: on the command line and in an experiment's file.
OPTIMIZER = "auto"
#: What the natural photographs that come with closedloop are called where a folder may be given.
BUNDLED = "bundled"
#: Begins the fingerprint of a generator that is told by its images.
_IMAGES = "images:"
#: The weights of `native` in a recipe that names none.
_FIRST = "native-1"


def recipe(part: Any) -> dict[str, Any]:
    """Returns how a subject, generator or optimizer is loaded again."""
    known = part.recipe if isinstance(part, Described) else None
    if not isinstance(known, Mapping):
        return {"name": OBJECT, "description": f"{type(part).__name__} {part.name}"}
    if not isinstance(known.get("name"), str):
        raise InvalidArgumentError(
            f"{kind_of(part)} {part.name!r}: recipe: expected a mapping with the name by which it is loaded, got "
            f"{known!r:.80}; give None for none."
        )
    return {key: plain(value) for key, value in known.items()}


def fingerprint(part: Any) -> str:
    """Returns a SHA-256 that tells a subject or generator from one of other weights; of its recipe where it has none.

    A generator without either is told by two of its images, made small; compare by `same_fingerprint`. Empty for a
    subject built by hand that cannot tell, of which `closedloop.loop.contents` says what it holds.
    """
    said = fingerprint_of(part)
    if said is not None:
        return said
    known = recipe(part)
    if known["name"] != OBJECT:
        return _sha256(known)
    return _small_images(part) if isinstance(part, Generator) else ""


def network_fingerprint(subject: Subject) -> str:
    """Returns a fingerprint of a subject whatever is recorded of it, and whatever noise is around; empty for none."""
    while inspect.getattr_static(subject, "subject", None) is not None and isinstance(subject, Wrapping):
        subject = subject.subject
    return fingerprint(subject.answering() if isinstance(subject, Answering) else subject)


def fingerprint_of(part: Any) -> str | None:
    """Returns the fingerprint that something declares and that is a text; else None.

    What answers to any name, such as a proxy of an object elsewhere or a mock, declares none, and is not asked.
    """
    if inspect.getattr_static(part, "fingerprint", None) is None:
        return None
    said = getattr(part, "fingerprint", None)
    return said if isinstance(said, str) else None


def same_fingerprint(one: str, other: str) -> bool:
    """Tells whether two fingerprints are of the same part; small images may differ as those of two devices do."""
    if one == other or not (one.startswith(_IMAGES) and other.startswith(_IMAGES)):
        return one == other
    (_, form, pixels), (_, other_form, other_pixels) = one.split(":"), other.split(":")
    return form == other_form and _alike(_decoded(pixels), _decoded(other_pixels))


def _decoded(pixels: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(pixels), np.uint8)


def _alike(one: NDArray[np.uint8], other: NDArray[np.uint8], levels: int = 3) -> bool:
    """Tells whether images differ by so many grey levels of 255 at most, everywhere."""
    return one.shape == other.shape and bool((abs(one.astype(int) - other.astype(int)) <= levels).all())


def _small_images(generator: Generator) -> str:
    """Returns a generator's small images of two fixed codes as a text; empty where it gives others when asked again."""
    space = generator.space
    codes = space.clip(space.center + space.scale * np.sin(np.arange(2.0 * space.dim)).reshape(2, space.dim))
    try:
        images, again = (check_generated(generator(codes.copy()), 2, generator).astype(float) for _ in range(2))
        small = _eight_bits(_averaged(images))
        same = images.shape == again.shape and _alike(small, _eight_bits(_averaged(again)), 1)
    except Exception:  # noqa: BLE001 - the loop asks it next, and says what is wrong
        return ""
    return f"{_IMAGES}{'x'.join(map(str, images.shape))}:{small.tobytes().hex()}" if same else ""


def _averaged(images: NDArray[Any]) -> NDArray[Any]:
    """Averages images ``(n, …, c, h, w)`` in 16 x 16 fields, and movies in 4 parts in time; fewer if smaller."""
    images = np.clip(images, 0, 1)
    fields = {images.ndim - 2: 16, images.ndim - 1: 16, **({1: 4} if images.ndim == 5 else {})}
    for axis, n in fields.items():
        parts = np.array_split(images, min(n, images.shape[axis]), axis)
        images = np.concatenate([part.mean(axis, keepdims=True) for part in parts], axis)
    return images


def _eight_bits(images: Any) -> NDArray[np.uint8]:
    return (255 * np.clip(np.asarray(images, np.float64), 0, 1)).round().astype(np.uint8)


def older_fingerprints(part: Any) -> set[str]:
    """Returns what versions before noted for a part that is told by its recipe, by whichever engine it ran."""
    if not isinstance(part, Described) or part.recipe is None:
        return set()
    told = recipe(part)
    before = (told, _unsaid(told), _unplaced(told))
    engines = ("", "onnx", "eager", "compile", "auto")  # those that recipes have names for, and none
    return {_sha256(_by_engine(known, engine)) for known in before for engine in engines}


def is_same_part(part: Any, held: str) -> bool:
    """Tells whether a part is that of a fingerprint which this version noted, or one before; so if either is empty."""
    now = fingerprint(part)
    return not (held and now) or held in older_fingerprints(part) or same_fingerprint(held, now)


def _unsaid(known: Any) -> Any:
    """Returns a recipe as it was when `native` had its first weights alone and did not name them; see `as_recorded`."""
    if not isinstance(known, Mapping):
        return known
    first = known.get("name") == "native" and known.get("weights") == _FIRST
    return {key: _unsaid(value) for key, value in known.items() if not (first and key == "weights")}


def _unplaced(known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a recipe without the places of a rig that drives itself, of which its fingerprint was made once."""
    return {key: value for key, value in known.items() if key not in ("listen", "journal", "token_file")}


def _by_engine(known: Any, engine: str) -> Any:
    """Returns a recipe with another engine in it, where it names one; "" for the one that it names."""
    if not isinstance(known, Mapping) or not engine:
        return known
    return {key: engine if key == "engine" else _by_engine(value, engine) for key, value in known.items()}


def _sha256(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def same_recipe(one: Any, other: Any) -> bool:
    """Tells whether two plain values of an experiment's file stand for the same experiment.

    The engine that ran and the device are noted and not compared: the fastest engine is another one on another
    processor. What a noise measured of the network is the same up to the rounding in which engines differ. Of a rig
    neither its address nor how long it is waited for is compared.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        one, other = wherever(one), wherever(other)
        keys = (one.keys() | other.keys()) - {"engine", "device"}  # by what and where it was computed, not what it is
        return all(_same_entry(key, one.get(key), other.get(key)) and (key in one) == (key in other) for key in keys)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_recipe, one, other))
    return bool(one == other)


def wherever(known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the recipe of a rig without what says how it is reached; any other as it is."""
    kind = str(known.get("name")).partition(":")[0]
    if kind not in _REACHED:
        return known
    return {key: kind if key == "name" else value for key, value in known.items() if key not in _REACHED[kind]}


def _same_entry(key: str, one: Any, other: Any) -> bool:
    if key == "best" and isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return bool(np.allclose(one, other, rtol=1e-2, atol=0))  # so far apart may engines measure it
    return same_recipe(one, other)


def as_recorded(content: Any) -> Any:
    """Adds to what an older run wrote of its parts what it did not say; leaves all else as it is.

    That is how parts drew; and that images were those of the first weights of `native`, when there were no others.

    Args:
        content: A recipe, or a file with recipes.
    """
    if isinstance(content, list):
        return [as_recorded(value) for value in content]
    if not isinstance(content, dict):
        return content
    found = {key: as_recorded(value) for key, value in content.items()}
    name = str(found.get("name", "")).partition(":")[0]
    # Their recipe holds a seed in the place of what is drawn from it.
    if name in ("biggan", "conv3d", "cppn", "subspace") and "seed" in found and "stream" not in found:
        found["stream"] = 1
    if name == "native" and "engine" in found and "weights" not in found:  # a recipe that a generator wrote
        found["weights"] = _FIRST
    return found


def plain(value: Any) -> Any:
    """Turns values into those that YAML can hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def generator_of_run(run: str | Path, content: Mapping[str, Any], generator: Generator | None) -> Generator:
    """Returns the generator of a run: the one that was handed over, else the one that its file names.

    Raises:
        InvalidArgumentError: It was a Python object without a name, and was not handed over.
    """
    if generator is not None:
        return generator
    again = "hand it over again: resume(RUN, generator=…)"
    made: Generator = build_again("generators", as_recorded(content["generator"]), f"{run}: its generator", again)
    return made


def build_again(kind: str, known: Mapping[str, Any], what: str, cure: str, *arguments: Any) -> Any:
    """Makes a part of a run again from its recipe.

    Args:
        kind: "subjects", "generators" or "optimizers".
        known: Its recipe, as the run's file has it.
        what: What the error calls it.
        cure: What the error says that a person can do.
        *arguments: Handed on, see `build`.

    Raises:
        InvalidArgumentError: It was handed over as a Python object, which no file can hold; and as `build`.
    """
    options = dict(known)
    name = options.pop("name", OBJECT)
    if name == OBJECT:
        raise InvalidArgumentError(by_hand(options, what, cure))
    return build(kind, name, *arguments, **options)


def by_hand(known: Mapping[str, Any], what: str, cure: str) -> str:
    """Returns the error for a part that was handed over as a Python object, and has no name to load it by."""
    said = f" ({known['description']})" if known.get("description") else ""
    return f"{what} was handed over as a Python object{said} and has no name to load it by; {cure}."


def names(kind: str) -> list[str]:
    """Returns the known names of a kind: "subjects", "generators" or "optimizers"."""
    return sorted(entry.name for entry in installed(kind))


def installed(kind: str) -> tuple[metadata.EntryPoint, ...]:
    """Returns the entry points of a kind; they are read again when something was installed since."""
    return _installed(kind, tuple(map(_seen, sys.path)))


@lru_cache(maxsize=16)
def _installed(kind: str, folders: tuple[tuple[str, int, int], ...]) -> tuple[metadata.EntryPoint, ...]:
    """Reads the facts of every installed package, which takes as long as a small experiment's generation."""
    return tuple(metadata.entry_points(group=f"closedloop.{kind}"))


def _seen(folder: str) -> tuple[str, int, int]:
    """Returns what changes about a folder of packages when one is added or taken away."""
    try:
        found = os.stat(folder or ".")
    except OSError:
        return folder, 0, 0
    return folder, found.st_ino, found.st_mtime_ns


def check_name(kind: str, name: str) -> None:
    """Raises UnknownNameError unless a name, without its own argument, is known; nothing is imported."""
    head, known = str(name).partition(":")[0], names(kind)
    if head not in known:
        raise _unknown(kind, name, known)


def _unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Returns the error for a name that stands for nothing, with the cure where it is a file's."""
    said = f"{kind[:-1]}: no {kind[:-1]} named {name!r}."
    end = str(name).lower().rpartition(".")[2]
    if end == "onnx":
        return UnknownNameError(f"{said} An ONNX file is asked for by 'onnx:{name}'.")
    if kind == "subjects" and end in ("pt", "pth", "bin", "ckpt", "safetensors", "h5"):
        return UnknownNameError(
            f"{said} A file of weights says nothing of its network: name that too, --subject torchvision:NAME "
            f"--weights {name}. A network of your own is loaded in Python, TorchSubject(model, layer=…), or saved as "
            "ONNX and asked for by 'onnx:FILE'."
        )
    return UnknownNameError(f"{said}{closest(str(name).partition(':')[0], known)}")


def check_recipe(kind: str, known: Any) -> None:
    """Looks at the name of a recipe, and at the names and types of its options, without making anything.

    Raises:
        UnknownNameError: No such name.
        InvalidArgumentError: It is no recipe, it does not take one of the options, or one has another type.
        MissingExtraError: What it needs is not installed.
    """
    if not isinstance(known, Mapping) or not isinstance(known.get("name"), str):
        raise InvalidArgumentError(f"{kind[:-1]}: expected a name, or a name with options, got {known!r:.80}.")
    name, given = known["name"], {str(key): value for key, value in known.items() if key != "name"}
    check_name(kind, name)
    factory, what = find(kind, name), f"{kind[:-1]} {name!r}"
    taken = inspect.signature(factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        for option in given:
            if option not in taken:
                raise InvalidArgumentError(f"{what}: it has no option {option!r}.{closest(option, taken)}")
    _check_types(what, factory, given)


def build(kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Calls what a name stands for.

    Args:
        kind: "subjects", "generators", "optimizers" or "protocols".
        name: A known name, with its own argument after a colon where it takes one.
        *arguments: Handed on, after the name's own argument.
        **options: Handed on.

    Raises:
        UnknownNameError: No such name.
        InvalidArgumentError: It does not take one of the options, an option has another type than it states, or it
            cannot be made for another reason.
        MissingExtraError: What it needs is not installed.
    """
    kept = _KEPT.get()
    if kept is not None and kind in ("subjects", "generators") and not arguments:
        return kept.made(kind, name, options)
    return _built(kind, name, *arguments, **options)


def _built(kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Does what `build` does, always anew."""
    factory = find(kind, name)
    tail = name.partition(":")[2]
    given = (tail, *arguments) if tail else arguments
    what = f"{kind[:-1]} {name!r}"
    _check_options(what, factory, given, options)
    _check_types(what, factory, options)
    try:
        return factory(*given, **options)
    except ClosedLoopError:
        raise
    except Exception as error:  # of a library, or of a package that adds a name
        said = ", ".join(f"{option}={value!r:.40}" for option, value in options.items())
        raise InvalidArgumentError(
            f"{what}: it cannot be made with {said or 'its defaults'} ({reason(error)})."
        ) from error


class KeptParts:
    """Subjects and generators that stay loaded for the next run, the last ones that were used.

    One with a state, such as a noisy subject with its random generator, is put back to that in which it was made. A rig
    is no such thing: it is made anew each time.

    Args:
        most: How many of each kind stay.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._held: dict[str, dict[str, tuple[Any, Any]]] = {}

    def made(self, kind: str, name: str, options: Mapping[str, Any]) -> Any:
        """Returns what is kept, or makes it."""
        held = self._held.setdefault(kind, {})
        try:
            key = json.dumps([name, options], sort_keys=True)
        except TypeError:  # something that no recipe holds
            return _built(kind, name, **options)
        part, state = held.pop(key, (None, None))
        if part is None:
            part = _built(kind, name, **options)
            if isinstance(part, Presenting):
                return part
            state = deepcopy(part.state()) if isinstance(part, Stateful) else None
        elif isinstance(part, Stateful):
            part.restore(deepcopy(state))
        held[key] = (part, state)
        for old in list(held)[: -self._most]:
            del held[old]
        return part


#: The parts that stay loaded while `keeping` lasts.
_KEPT: ContextVar[KeptParts | None] = ContextVar("kept parts", default=None)


@contextmanager
def keeping(parts: KeptParts) -> Iterator[None]:
    """Lets subjects and generators that are built within be those that are kept, where their recipe is the same."""
    token = _KEPT.set(parts)
    try:
        yield
    finally:
        _KEPT.reset(token)


def takes(kind: str, name: str, option: str) -> bool:
    """Tells whether what a name stands for takes an option; raises as `build` does if the name is not known."""
    return option in inspect.signature(find(kind, name)).parameters


def options(kind: str, name: str) -> list[str]:
    """Returns the options of what a name stands for, by name; raises as `build` does."""
    return [n for n, p in inspect.signature(find(kind, name)).parameters.items() if p.kind is not p.VAR_KEYWORD]


def has_option(kind: str, name: str, option: str) -> bool:
    """Tells whether what a name stands for takes an option, or hands all options on; raises as `build` does."""
    parameters = inspect.signature(find(kind, name)).parameters
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def find(kind: str, name: str) -> Any:
    """Returns what a name, without its own argument, stands for; raises as `build` does."""
    head = name.partition(":")[0]
    found = [entry for entry in installed(kind) if entry.name == head]
    if not found:
        raise _unknown(kind, name, names(kind))
    try:
        with extras_named(f"{kind[:-1]} {head!r}"):
            return found[0].load()
    except ClosedLoopError:
        raise
    except ImportError as error:  # of a package that adds a name
        cure = f" Install what it needs: pip install {error.name}" if error.name else ""
        raise MissingExtraError(f"{kind[:-1]} {head!r}: {error}.{cure}") from error


def _check_options(what: str, factory: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Turns a wrong option into a clear error before anything is called."""
    signature = inspect.signature(factory)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        known = {n: p for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
        if wrong := next((option for option in options if option not in known), None):
            raise InvalidArgumentError(f"{what}: it has no option {wrong!r}.{closest(wrong, known)}") from error
        missing = [n for n, p in known.items() if p.default is p.empty and n not in options][len(arguments) :]
        said = f"it needs {', '.join(missing)}" if missing else "it takes nothing more behind its name"
        raise InvalidArgumentError(f"{what}: {said}. Its options: {', '.join(known)}.") from error


def _check_types(what: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Holds options, which may come from a file or a command line, to the types that the factory states for them."""
    stated = _stated_types(factory)
    for name, value in options.items():
        kind = stated.get(name, Any)
        if not _fits(value, kind):
            raise InvalidArgumentError(f"{what}: {name}: expected {_in_words(kind)}, got {value!r:.80}.")


def _stated_types(factory: Callable[..., Any]) -> dict[str, Any]:
    """Returns the types of a factory's arguments; of those whose names lead nowhere here, nothing."""
    called = factory.func if isinstance(factory, partial) else factory
    function = called.__init__ if inspect.isclass(called) else inspect.unwrap(called)
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError, ImportError):  # names that are imported for type checkers alone
        return {}


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a value is of a type; what is no plain type is left to whoever takes the value."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        if isinstance(value, np.ndarray) or set(inner[1:]) - {Ellipsis} or not inner:
            return True
        whole = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return whole and all(_fits(each, inner[0]) for each in value)
    if kind in _PLAIN:
        return _PLAIN[kind][0](value)
    if inspect.isclass(kind) and issubclass(kind, os.PathLike) and isinstance(value, str):
        return True
    other = kind is Any or origin is not None or not inspect.isclass(kind)
    return other or not any(fits(value) for fits, _ in _PLAIN.values())


def _in_words(kind: Any) -> str:
    """Returns what an error calls a type."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_in_words(each) for each in get_args(kind)))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if kind in _PLAIN:
        return _PLAIN[kind][1]
    return "a list" if isinstance(get_origin(kind), type) else f"a {getattr(kind, '__name__', kind)}"


def matched(options: Mapping[str, Any], subject: Subject, resolution: int | None = None) -> dict[str, Any]:
    """Returns the options of a generator with what it can take from the subject, where that is not given.

    That is its resolution and its GPU; for a subject of grey images or of movies also `channels`, `frames`, `rate_hz`.

    Args:
        options: What the generator is loaded with, its ``name`` among them.
        subject: The network or animal that is shown images.
        resolution: For a subject that has none of its own; None leaves it to the generator.

    Raises:
        UnknownNameError: No such generator.
    """
    own = _with(options, "resolution", subject.resolution if isinstance(subject, Resolved) else resolution)
    if (form := form_of(subject)) != STILL:
        own = _formed(own, {"channels": form.channels, "frames": form.frames, "rate_hz": form.rate_hz})
    if isinstance(subject, Located) and subject.torch_device != "cpu":
        return _placed(own, subject.torch_device)
    return own


def _formed(options: dict[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a generator, and of one that it is wrapped around, with the form of its images."""
    inner = options.get("generator")
    named = {"name": inner} if isinstance(inner, str) else inner
    if isinstance(named, Mapping) and "name" in named:  # a generator itself stays as it is
        options = {**options, "generator": _formed(dict(named), form)}
    for key, value in form.items():
        options = _with(options, key, value)
    return options


def _placed(options: dict[str, Any], device: str) -> dict[str, Any]:
    """Returns the options of a generator, and of one that it is wrapped around, with a device."""
    return _formed(options, {"device": device})


def _with(options: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Returns the options of a generator with one more, where it takes it and it is not given."""
    wanted = value is not None and options.get(key) is None and takes("generators", options["name"], key)
    return {**options, key: value} if wanted else dict(options)


def matched_generator(options: Mapping[str, Any], subject: Subject, resolution: int | None = None) -> Generator:
    """Loads the generator of `matched` options; raises as `closedloop.generators.load_generator` does."""
    generator: Generator = build("generators", **matched(options, subject, resolution))
    return generator


@cache
def version() -> str:
    """Returns the installed version of closedloop."""
    return metadata.version("closedloop")
