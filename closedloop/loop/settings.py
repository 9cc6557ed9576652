"""The numbers of an experiment: each is named, explained, bounded and given its default here, and nowhere else.

A protocol's settings are a class made by `settings`, whose fields are made by `option`. From these come the arguments
of the Python functions, the entries of an experiment's file and their checks, and the options of the command line with
their help and defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import numpy as np

from closedloop.checks import check_flag, check_whole, is_number, is_whole
from closedloop.errors import InvalidArgumentError, closest
from closedloop.interfaces import BUDGET
from closedloop.loop.drift_correction import METHODS

T = TypeVar("T")
#: The largest number of images, repeats, steps and the like.
MOST = 10**9


def option(
    *,
    default: Any = MISSING,
    help: str,  # noqa: A002 - what the command line calls it
    least: int | None = None,
    unit: str = "",
    choices: Sequence[str] = (),
    shown: str = "",
    hidden: bool = False,
    names: Sequence[str] = (),
    metavar: str = "",
    later: bool = False,
) -> Any:
    """Defines one setting.

    Args:
        default: Its value where none is given; without one it is required.
        help: What it is, in a sentence.
        least: The least whole number that it may be.
        unit: The unit of a real number, which must then be above 0.
        choices: The texts that it may be.
        shown: What stands for the default in a help text; by default the value itself.
        hidden: Whether the command line has no option for it.
        names: Further names of its option on the command line, such as ``"--unit"``.
        metavar: What stands for its value in a help text, where that says more than the type.
        later: Whether runs of older versions do not say it; the default is taken for them.
    """
    facts = {
        "help": help,
        "least": least,
        "unit": unit,
        "choices": tuple(choices),
        "shown": shown,
        "hidden": hidden,
        "names": tuple(names),
        "metavar": metavar,
        "later": later,
    }
    return field(metadata=facts) if default is MISSING else field(default=default, metadata=facts)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def settings(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass of named values, whose texts become part of its docstring."""
    made = dataclass(frozen=True, kw_only=True)(cls)
    lines = [f"    {f.name}: {f.metadata['help']}" for f in fields(made)]  # type: ignore[arg-type]
    made.__doc__ = "\n".join([made.__doc__ or "", "", "Attributes:", *lines])
    return made


def option_types(made: type[Any]) -> dict[str, tuple[type[Any], bool]]:
    """Returns the type of each field of a class of settings, and whether it may be None."""
    found = {}
    for name, hint in get_type_hints(made).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        found[name] = (next(kind for kind in kinds if kind is not NoneType), NoneType in kinds)
    return found


def check_options(values: Any) -> None:
    """Checks every field of a settings object against its definition.

    Raises:
        InvalidArgumentError: A value is of another type, or out of bounds; the error names it.
    """
    types = option_types(type(values))
    for entry in fields(values):
        kind, optional = types[entry.name]
        value = getattr(values, entry.name)
        if not (value is None and optional):
            _check_option(entry, kind, value)


def _check_option(entry: Field[Any], kind: type[Any], value: Any) -> None:
    name, facts = entry.name, entry.metadata
    if kind is int:
        check_whole(name, value, 0 if facts["least"] is None else facts["least"])
        if name != "seed" and value > MOST:
            raise InvalidArgumentError(f"{name}: expected a number of at most {MOST}, got {value!r}.")
    elif kind is bool:
        check_flag(name, value)
    elif kind is float and not (is_number(value) and np.isfinite(value) and (not facts["unit"] or value > 0)):
        wanted = f"{facts['unit']} above 0" if facts["unit"] else "a finite number"
        raise InvalidArgumentError(f"{name}: expected {wanted}, got {value!r}.")
    elif kind is str and not isinstance(value, str):
        raise InvalidArgumentError(f"{name}: expected a text, got {value!r:.80}.")
    elif get_origin(kind) is tuple and not (isinstance(value, tuple) and all(isinstance(v, str) for v in value)):
        raise InvalidArgumentError(f"{name}: expected a text, or several in a list, got {value!r:.80}.")
    else:
        check_choice(entry, value)


def check_choice(entry: Field[Any], value: Any) -> None:
    """Raises unless a value is one of the texts that a definition names, if it names any.

    Raises:
        InvalidArgumentError: The error names them.
    """
    choices = entry.metadata["choices"]
    if choices and value not in choices:
        *first, last = map(repr, choices)
        raise InvalidArgumentError(f"{entry.name}: expected {', '.join(first)} or {last}, got {value!r}.")


@settings
class Timing:
    """What every protocol needs to know of presentations."""

    retries: int = option(default=2, least=0, help="How often a lost presentation is shown again before it stays NaN.")
    timeout_s: float | None = option(
        default=None,
        unit="seconds",
        shown="no limit",
        help="Seconds that the subject may take for one block of images; the largest is the survey of all references.",
    )
    soa_s: float = option(
        default=0.2,
        unit="seconds",
        help="Nominal seconds from one presentation to the next; they give the coordinate onset_s.",
    )
    lost_blocks: int = option(
        default=10,
        least=1,
        help="Blocks in a row without a single response after which the run stops, so that a dead rig does not use up "
        "the budget; what was recorded is safe, and the run can go on.",
        later=True,
    )
    seed: int = option(default=0, least=0, help="Seed of the whole experiment.")

    def __post_init__(self) -> None:
        check_options(self)


@settings
class Settings(Timing):
    """The numbers of a session."""

    images: int = option(
        default=BUDGET,
        least=1,
        help="Budget of evolved presentations of each thread, repeats included; it is never exceeded.",
    )
    repeats: int = option(default=1, least=1, help="Presentations of each evolved image.")
    interleave: int = option(
        default=2,
        least=0,
        help="References shown in each generation, taken in turn; they do not count as evolved presentations.",
    )
    drift: str = option(
        default="none",
        choices=METHODS,
        help="What is done about slow drift of the subject, before scores reach the optimizers: nothing, or to divide "
        "by or regress on the interleaved references (see closedloop.loop.drift_correction). It pays where these tell "
        "more than noise: some 20 in each generation.",
    )
    drift_memory: float = option(
        default=2.0,
        unit="generations",
        help="Generations within which a reference's response is forgotten (to 1/e) in the drift correction.",
    )
    retest_candidates: int = option(
        default=5,
        least=0,
        help="Images of each thread that are re-tested, recommended by its optimizer or best-scored, and references; "
        "0 for no re-test.",
    )
    retest_repeats: int = option(
        default=10, least=1, help="Fresh presentations of each in the re-test, and again of the selected one."
    )
    keep: str = option(
        default="best",
        choices=("best", "all", "none"),
        help="Which evolved images become PNG files: the best of each generation, all or none.",
    )
    responses: str = option(
        default="all",
        choices=("all", "own"),
        help="Which responses to evolved images are recorded: of all units, or of each image that of the one unit that "
        "it is evolved for; those to references are recorded of all units.",
        later=True,
    )
    failures: str = option(
        default="stop",
        choices=("stop", "thread"),
        help="What an error of one of several threads ends: the session, or that thread alone.",
        later=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drift != "none" and self.interleave == 0:
            raise InvalidArgumentError(
                f"interleave: expected references in each generation for drift={self.drift!r}, got 0."
            )


def read_settings(made: type[T], given: Mapping[str, Any]) -> T:
    """Returns settings of a class from values by name.

    A file's list, or a single text, stands for several texts; among these a whole number, and a path anywhere, for its
    text.

    Raises:
        InvalidArgumentError: There is no such setting (with what a misspelt one may have meant), or a value does not
            fit.
    """
    known = made.__dataclass_fields__  # type: ignore[attr-defined]
    for name in given:
        if name not in known:
            raise InvalidArgumentError(f"{name}: no such setting.{closest(name, known)}")
    types = option_types(made)
    return made(**{name: _as_told(types[name][0], value) for name, value in given.items()})


def _as_told(kind: Any, value: Any) -> Any:
    """Returns a value in the type of its definition, where it came in that of a file or of a path."""
    if kind is str and isinstance(value, PurePath):
        return str(value)
    if get_origin(kind) is not tuple:
        return value
    several = value if isinstance(value, (list, tuple)) else [value]
    found = tuple(str(one) if isinstance(one, PurePath) or is_whole(one) else one for one in several)
    return found if all(isinstance(one, str) for one in found) else value
