"""What Python lets us see of parts that were handed over as objects, so that a run goes on with no others.

A function or an object of one's own has no recipe and no fingerprint. What it holds can be read without calling it: the
numbers and arrays of a function's closure, defaults and globals and of a partial's arguments, the arrays of an object's
attributes and of the objects that it holds, and the weights of torch networks among them. A run notes SHA-256 of each.
Numbers and texts in an object's attributes are counters, clocks and ports as often as settings: a run goes on with
others, and says so. What else changes while a subject is used is told by comparing once more after the first block, and
is not compared any more.
"""

from __future__ import annotations

import dis
import hashlib
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from numbers import Real
from pathlib import Path
from types import CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from closedloop.capability import Capability
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Described, State
from closedloop.recipes import fingerprint_of

#: Ends the name under which the code of a part stands.
CODE = "code"
#: Ends the name of a number or a text in an attribute, which may be a setting or a counter; beside it stands its value.
SETTING = " (setting)"
#: Bytes of an array up to which all of it is read; of a larger one `_SAMPLE` bytes at most are, evenly spread.
_LARGEST, _SAMPLE = 2**28, 2**20
#: Entries of a list up to which all of it is read; of a longer one as many at most are, evenly spread.
_LONGEST = 10_000
#: How deep lists in lists, functions that functions hold, and objects in objects are followed.
_DEPTH = 4
#: Objects of which the attributes are read, at most: what holds more, such as a tree of nodes, is read in part.
_OBJECTS = 1000


@runtime_checkable
class Handing(Capability, Protocol):
    """A capability of courses: parts beside the subject that may be objects without a name."""

    @property
    def handed(self) -> Mapping[str, Any]:
        """The parts, each by what an error calls it."""
        ...


class Held:
    """What the parts of a run under way hold.

    Args:
        parts: Subject, objectives …, each by what an error calls it.
        saved: What `state` gave for this run before; None at its beginning.
    """

    def __init__(self, parts: Mapping[str, Any], saved: State | None = None) -> None:
        self._parts, self._looked = parts, False
        self._now = self._read()
        self._changing = set() if saved is None else set(saved["changing"])

    def _read(self) -> dict[str, str]:
        return {f"{name}: {where}": sha for name, part in self._parts.items() for where, sha in contents(part).items()}

    def look_again(self) -> None:
        """Notes, after the first block, what the use of the parts has changed."""
        if not self._looked and self._now:
            after = self._read()
            self._changing |= {
                name for name in self._now.keys() | after.keys() if self._now.get(name) != after.get(name)
            }
        self._looked = True

    def state(self) -> State:
        """Returns what each part held, and which of it changes; for the state of the run."""
        return {"contents": self._now, "changing": sorted(self._changing)}

    def check(self, run: str, saved: State, finished: bool = False) -> None:
        """Raises unless the parts hold what those of the run held; where their code alone is another, it warns.

        Args:
            run: The run's folder.
            saved: What `state` gave.
            finished: Whether its results would be returned without asking these parts anything.

        Raises:
            InvalidArgumentError: A number, an array or a network is another, or, of a finished run, the code.
        """
        known = {name: sha for name, sha in saved["contents"].items() if name not in saved["changing"]}
        if not self._now or not known:
            return
        parts = {name.partition(":")[0] for name in self._now}
        values = set(self._now.values())
        for name, sha in known.items():
            if name.partition(":")[0] not in parts or name.endswith((f": {CODE}", SETTING)):
                continue
            if self._now.get(name, sha if sha in values else "") != sha:
                raise InvalidArgumentError(_other(name, run))
        for name in (f"{part}: {CODE}" for part in sorted(parts)):
            if _another_code(known.get(name), self._now.get(name)):
                _say_code(name.partition(":")[0], run, finished)
        others = [(name, was, self._now[name]) for name, was in known.items() if self._now.get(name, was) != was]
        for part in sorted(parts):
            _say_settings(part, [other for other in others if other[0].startswith(f"{part}: ")], run, finished)


def _say_settings(part: str, others: Sequence[tuple[str, str, str]], run: str, finished: bool) -> None:
    """Warns of numbers and texts of a part that are not what they were when the run began, with both values."""
    changes = [
        f"{name.partition(': ')[2].removesuffix(SETTING)} was {was} and is {now}"
        for name, was, now in others
        if name.endswith(SETTING)
    ]
    if changes:
        told = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
        then = "the results there are those of the former" if finished else "the run goes on with what is now"
        warnings.warn(
            f"{part}: attributes are not what they were when {run} began: {told}. If one of them is a setting, restore "
            f"it; {then}.",
            UserWarning,
            stacklevel=2,
        )


def _other(name: str, run: str) -> str:
    part, _, where = name.partition(": ")
    return (
        f"{part}: expected the {part} with which {run} began, got another: its {where} is not the same; restore it. A "
        "part of your own that says a `fingerprint` (a text) is compared by that alone, and with '' by nothing."
    )


def _say_code(part: str, run: str, finished: bool) -> None:
    """Warns that the code of a part is another than the run began with; of a finished run refuses."""
    said = f"{part}: its code is not that with which {run} began"
    if finished:
        raise InvalidArgumentError(
            f"{said}, so the results there may not be its own. closedloop.open_recording reads them as they are; for "
            "results of this code give a new folder."
        )
    warnings.warn(f"{said}; the run goes on with the new code.", UserWarning, stacklevel=2)


def _another_code(known: str | None, now: str | None) -> bool:
    """Returns whether two codes differ; bytecode of two versions of Python says nothing."""
    if known is None or now is None:
        return known != now
    return known != now and known.partition(" ")[0] == now.partition(" ")[0]


def contents(part: Any) -> dict[str, str]:
    """Returns SHA-256 of what a Python object holds, by where it holds it, and of its code; it is never called.

    Args:
        part: A subject or objective. One that can be loaded by its name, says its fingerprint, or is an objective of
            closedloop, whose text says all, needs none of this: nothing is returned.
    """
    if isinstance(part, Described) and isinstance(part.recipe, Mapping):
        return {}
    inner = part.subject if inspect.getattr_static(part, "subject", None) is not None else None
    said = fingerprint_of(part)
    reading = _Reading()
    if said and _ours(type(part)) and (network := getattr(part, "model", None)) is not None:
        reading.network(network, "model")  # its fingerprint covers the weights, not what else its modules hold
        return reading.result()
    if said or (said is not None and inner is None):
        return {}
    if inner is not None or not _ours(type(part)) or hasattr(part, "record"):
        reading.open(part)
    if inner is not None:
        held = contents(inner)
        reading.codes.append(held.pop(CODE, ""))
        reading.found |= {f"subject.{where}": sha for where, sha in held.items()}
    return reading.result()


class _Reading:
    """Follows what functions and objects hold, once each."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.codes: list[str] = []
        self.objects = 0
        self._seen: set[int] = set()

    def result(self) -> dict[str, str]:
        codes = [code for code in self.codes if code]
        if not codes:
            return self.found
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return {**self.found, CODE: f"{version} {hashlib.sha256(''.join(codes).encode()).hexdigest()}"}

    def open(self, thing: Any, where: str = "", depth: int = _DEPTH) -> None:
        """Reads the attributes of an object, and notes the code of its class if the user wrote it."""
        self.objects += 1
        if self.objects > _OBJECTS:
            return
        written = not _installed(type(thing))
        for name, value in _attributes(thing).items():
            label = f"{where}.{name.strip('_')}".lstrip(".")
            if written and (
                isinstance(value, str) or (isinstance(value, (int, float)) and not _of_this_process(value))
            ):
                self.found[label + SETTING] = f"{value!r:.60}"
            else:
                self.follow(value, label, depth - 1, numbers=False)
        if written:
            methods = sorted((n, f) for n, f in vars(type(thing)).items() if isinstance(f, FunctionType))
            self.codes += [_code(method.__code__) for _, method in methods]

    def network(self, network: Any, where: str) -> None:
        """Reads what the user's own modules of a torch network hold beside their weights."""
        for name, module in network.named_modules():
            if not _installed(type(module)):
                self.open(module, f"{where}.{name}".rstrip("."))

    def follow(self, value: Any, where: str, depth: int = _DEPTH, numbers: bool = True) -> None:
        """Reads an array, or one of `numbers`, and follows a function or an object."""
        data = _sha256_of(value, numbers)
        torch = sys.modules.get("torch")
        if data is not None:
            self.found[where] = data
            if torch is not None and isinstance(value, torch.nn.Module):
                self.network(value, where)
        elif id(value) not in self._seen and depth > 0 and not isinstance(value, (type, ModuleType, complex, Real)):
            self._seen.add(id(value))
            for name, held in self._inside(value, where, depth):
                self.follow(held, name, depth - 1)

    def _inside(self, value: Any, where: str, depth: int) -> Iterator[tuple[str, Any]]:
        """Yields what a function or a partial holds; opens an object."""
        if isinstance(value, MethodType):
            yield from ((where, value.__func__), (where, value.__self__))
        elif isinstance(value, partial):
            yield where, value.func
            given = chain(enumerate(value.args), value.keywords.items())
            yield from ((f"{where}.{name}", argument) for name, argument in given)
        elif isinstance(value, FunctionType):
            if not _installed(value):
                self.codes.append(_code(value.__code__))
            yield from ((f"{where}.{name}", held) for name, held in _held_by(value))
        elif isinstance(value, (list, tuple)) and len(value) <= _OBJECTS:
            yield from ((f"{where}.{i}", held) for i, held in enumerate(value))
        elif isinstance(value, dict) and len(value) <= _OBJECTS:
            yield from ((f"{where}.{name}", held) for name, held in value.items())
        else:
            self.open(value, where, depth)


def _of_this_process(number: float) -> bool:
    """Returns whether a number is as large as times since 1970 and addresses in memory, which are never settings."""
    return abs(number) >= 1e9


def _attributes(thing: Any) -> dict[str, Any]:
    """Returns an object's own attributes, those in slots too; a proxy's are its own, not those of what it stands for.

    Of a module of torch what it holds beside its weights and its parts.
    """
    try:
        found = dict(object.__getattribute__(thing, "__dict__"))
    except AttributeError:
        found = {}
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            member = vars(kind).get(name)
            if isinstance(member, MemberDescriptorType):
                try:
                    found[name] = member.__get__(thing)
                except AttributeError:  # not set
                    continue
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(thing, torch.nn.Module):
        own = vars(torch.nn.Module())
        found = {name: value for name, value in found.items() if name not in own}
    return found


def _held_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yields the names and values that a function was made with, and the globals that it loads and does not set."""
    changed = set(_named(function.__code__, "STORE_GLOBAL", "STORE_NAME", "STORE_DEREF"))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if name not in changed:
            yield name, held
    yield from (function.__kwdefaults__ or {}).items()
    yield from ((f"default {i}", value) for i, value in enumerate(function.__defaults__ or ()))
    known = {} if _installed(function) else function.__globals__
    for name in sorted(set(_named(function.__code__, "LOAD_GLOBAL", "LOAD_NAME")) - changed):
        value = known.get(name)
        if not isinstance(value, FunctionType) or value.__module__ == function.__module__:
            yield name, value


def _named(code: CodeType, *operations: str) -> Iterator[str]:
    """Yields the names on which a code, and those inside it, do one of these operations; attributes are other ones."""
    yield from (str(step.argval) for step in dis.get_instructions(code) if step.opname in operations)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _named(const, *operations)


def _code(code: CodeType) -> str:
    """Returns a SHA-256 of what a code does, whatever its file and lines."""
    consts = [
        _code(c) if isinstance(c, CodeType) else repr(sorted(map(repr, c)) if isinstance(c, frozenset) else c)
        for c in code.co_consts
    ]
    parts = (code.co_code.hex(), consts, code.co_names, code.co_freevars, code.co_varnames)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _ours(thing: Any) -> bool:
    """Returns whether a class or function is of this package, whose code changes with its versions alone."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "closedloop"


def _installed(thing: Any) -> bool:
    """Returns whether a class or function came with Python or a package, whose code changes with its version alone."""
    module = sys.modules.get(str(getattr(thing, "__module__", "")))
    file = str(getattr(module, "__file__", None) or "")
    places = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return _ours(thing) or bool(places) or file.startswith(sysconfig.get_path("stdlib"))


def _sha256_of(value: Any, numbers: bool = True, depth: int = _DEPTH, most: int = _LONGEST) -> str | None:
    """Returns SHA-256 of an array, a network, those in a list, or of a part that says it; else None.

    Args:
        value: Any Python object.
        numbers: Whether of a Python number, too.
        depth: How many lists within lists are read.
        most: How many entries are read in all of them; of more as many, evenly spread.
    """
    if isinstance(value, (bool, int, float, complex, np.number, np.bool_)):
        return _sha256(repr(value.item() if isinstance(value, np.generic) else value).encode()) if numbers else None
    if isinstance(value, np.ndarray):
        return None if value.dtype.hasobject else _array(value)
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "to_numpy"):
        return _sha256_of(value.to_numpy())
    if isinstance(value, (list, tuple, Mapping)) and depth:
        return _list(value, numbers, depth, most)
    torch = sys.modules.get("torch")
    if not isinstance(value, type) and (said := fingerprint_of(value)) is not None:
        return said or None
    if torch is not None and isinstance(value, (torch.Tensor, torch.nn.Module)):
        return _weights(value)
    return None


def _list(value: Any, numbers: bool, depth: int, most: int) -> str | None:
    """Returns SHA-256 of the entries of a list or mapping that can be read, and of its length if it is longer."""
    entries = list(value.items() if isinstance(value, Mapping) else enumerate(value))
    step = -(-len(entries) // most) or 1
    inside = max(1, most // max(1, len(entries)))
    known = [(str(k), data) for k, entry in entries[::step] if (data := _sha256_of(entry, numbers, depth - 1, inside))]
    length = f"{len(entries)} " if step > 1 else ""
    return _sha256(f"{length}{known!r}".encode()) if known else None


def _array(value: np.ndarray[Any, Any]) -> str:
    step = 1 if value.nbytes <= _LARGEST else -(-value.nbytes // _SAMPLE)
    flat = np.ascontiguousarray(value.reshape(-1) if step == 1 else value.flat[::step])
    return _sha256(f"{value.dtype.str} {value.shape};".encode() + flat.tobytes())


def _weights(value: Any) -> str | None:
    """Returns SHA-256 of a tensor or of a network's weights; None where they cannot be read."""
    from closedloop.networks.weights import weights_sha256

    try:
        return weights_sha256(value.state_dict() if hasattr(value, "state_dict") else {"": value})
    except Exception:  # noqa: BLE001 - on no device, or of a kind of its own: then it says nothing
        return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
