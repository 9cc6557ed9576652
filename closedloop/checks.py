"""The door: data from outside is checked here once, and trusted inside."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ParamSpec, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import as_array, as_numbers, check_labels
from closedloop.arrays import is_number as is_number  # beside `is_whole`, for the floors above
from closedloop.blame import parts_named
from closedloop.capability import lacking
from closedloop.errors import ClosedLoopError, GeneratorError, InvalidArgumentError, SubjectError, blamed, reason
from closedloop.files import can_be_path, is_too_long
from closedloop.interfaces import (
    STILL,
    Encoding,
    FloatArray,
    Form,
    Generator,
    Objective,
    Optimizer,
    Subject,
    Units,
    form_of,
)

P = ParamSpec("P")
T = TypeVar("T")

#: The largest response: sums of a hundred million such do not overflow.
LARGEST = 1e300
#: How far beyond [0, 1] rounding may carry a pixel before it counts as out of range; such values are clipped.
ROUNDING = 1e-4


def check_images(
    images: Any, *, resolution: int | None = None, name: str = "images", form: Form = STILL
) -> NDArray[np.float32]:
    """Returns ``images`` as float32 if they are ``(n, 3, h, w)``, finite, RGB in [0, 1].

    Args:
        images: The array to check; where some of it is masked it is refused.
        resolution: Height and width that are required, in pixels; None for any.
        name: The argument's name in the error.
        form: What they must be, where it is not colour stills: grey, or movies.

    Raises:
        InvalidArgumentError: With what was expected, what came and the likely cure.
    """
    array = as_array(name, images)
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.getmaskarray(array).any():
            raise InvalidArgumentError(f"{name}: expected every pixel, got masked ones; fill them first.")
        array = np.asarray(array)
    _check_shape(array, resolution, name, form)
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidArgumentError(
            f"{name}: expected floating-point RGB in [0, 1], got {array.dtype}"
            + ("; divide 8-bit images by 255." if array.dtype.kind in "iu" else ".")
        )
    if array.size == 0:
        return array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if np.isnan(low):
        bad = np.unique(np.nonzero(np.isnan(array))[0])[:5].tolist()
        raise InvalidArgumentError(f"{name}: expected finite values in [0, 1], got NaN in image {bad}.")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise InvalidArgumentError(
            f"{name}: expected {'RGB' if form.channels == 3 else 'grey'} in [0, 1], got values in "
            f"[{low:.4g}, {high:.4g}]; " + ("divide by 255." if high > 2 else "undo the normalization, or clip.")
        )
    return np.clip(array, 0, 1, dtype=np.float32) if low < 0 or high > 1 else array.astype(np.float32, copy=False)


def check_any_images(images: Any, name: str = "images") -> NDArray[np.float32]:
    """Returns ``images`` as `check_images` does, of whichever form their shape is: colour or grey, stills or movies."""
    images = as_array(name, images)
    shape = images.shape
    channels = 1 if len(shape) in (4, 5) and shape[-3] == 1 else 3
    frames = shape[1] if len(shape) == 5 and shape[1] else None
    return check_images(images, name=name, form=Form(channels, frames, None if frames is None else 1.0))


def _check_shape(array: NDArray[Any], resolution: int | None, name: str, form: Form) -> None:
    lead = form.leading
    if array.ndim != len(lead) + 3 or array.shape[1:-2] != lead or 0 in array.shape[-2:]:
        expected = (
            f"(n, {', '.join(map(str, lead))}, {'h, w' if resolution is None else f'{resolution}, {resolution}'})"
        )
        raise InvalidArgumentError(f"{name}: expected shape {expected}, got {array.shape}.{_cure(array.shape, form)}")
    if resolution is not None and array.shape[-2:] != (resolution, resolution):
        raise InvalidArgumentError(
            f"{name}: expected shape (n, {', '.join(map(str, lead))}, {resolution}, {resolution}), got {array.shape}; "
            f"resize them, or use a generator with resolution={resolution}."
        )


def _cure(shape: tuple[int, ...], form: Form) -> str:
    """Says what may help where an array has a wrong shape."""
    lead = form.leading
    if shape[:-2] == lead:
        return " Add a batch axis: images[None]."
    if len(shape) == len(lead) + 3 and shape[-1] == form.channels and shape[1:-3] == lead[:-1]:
        axes = "(0, 3, 1, 2)" if form.frames is None else "(0, 1, 4, 2, 3)"
        return f" The colours come last here: images.transpose{axes}."
    if len(shape) >= 3 and shape[-3] in (1, 3) and shape[-3] != form.channels:
        return " closedloop.images.forms.shown_as turns colours into grey, and grey into colours."
    return ""


def make_images(generator: Generator, codes: Any, whose: str = "") -> NDArray[np.float32]:
    """Returns the images of codes ``(n, dim)``, checked: of the form and size that the generator states, in [0, 1].

    The images are a copy, and so are the codes that the generator is given: neither can change behind anyone's back.

    Args:
        generator: Turns codes into images.
        codes: ``(n, dim)``.
        whose: The thread, in words for the error, such as ``"thread 'main': "``.

    Raises:
        GeneratorError: It raised, or returned no such images.
        InvalidArgumentError: The codes are none of its space.
    """
    with blamed(f"{whose}generator {generator.name!r}", GeneratorError):
        checked = generator.space.check(codes)
        return np.array(check_generated(generator(checked), len(checked), generator))


def encode_images(generator: Generator, images: NDArray[np.float32]) -> FloatArray:
    """Returns the codes ``(n, dim)`` that a generator's own encoder finds for images, checked but for bounds.

    Raises:
        GeneratorError: It raised, or returned no finite numbers of that shape.
        InvalidArgumentError: It has no encoder.
    """
    if not isinstance(generator, Encoding):
        raise InvalidArgumentError(f"generator: expected one with an encoder (encode), got {generator.name!r}.")
    whose = f"generator {generator.name!r}, encode()"
    with blamed(whose, GeneratorError):
        raw = generator.encode(images)
    codes = as_numbers(whose, raw, error=GeneratorError).astype(float)
    if codes.shape != (len(images), generator.space.dim) or not np.isfinite(codes).all():
        bad = "" if np.isfinite(codes).all() else " with NaN or infinity"
        raise GeneratorError(
            f"{whose}: expected finite codes ({len(images)}, {generator.space.dim}), got shape {codes.shape}{bad}."
        )
    return codes


def check_generated(images: NDArray[Any], n: int, generator: Generator) -> NDArray[np.float32]:
    """Returns a generator's images if they are of the form it states, ``(n, 3, h, w)`` in [0, 1] if it states none.

    Raises:
        GeneratorError: Otherwise.
    """
    try:
        checked = check_images(
            images, name=f"generator {generator.name!r}", form=form_of(generator), resolution=generator.resolution
        )
    except InvalidArgumentError as error:
        raise GeneratorError(str(error)) from error
    if len(checked) != n:
        raise GeneratorError(f"generator {generator.name!r}: expected {n} images for {n} codes, got {len(checked)}.")
    return checked


def check_responses(
    responses: Any,
    n: int,
    units: int,
    subject: str,
    images: Sequence[str] | None = None,
    neuroids: Sequence[str] | None = None,
) -> FloatArray:
    """Returns a copy of a subject's responses if they are ``(n, units)`` or ``(n, units, time)`` real numbers.

    NaN is a lost presentation and passes, as what is masked does; infinity, and what is beyond `LARGEST`, do not.

    Args:
        responses: What the subject returned.
        n: How many images it was shown.
        units: How many units it records.
        subject: Its name.
        images: Names of the images, in their order, for the error.
        neuroids: Names of the units, likewise.

    Raises:
        SubjectError: Otherwise; it names the presentation of which a response is infinite.
    """
    check_labels(responses, subject, neuroids)
    array = as_numbers(f"subject {subject!r}", responses, lost=True, booleans=True, error=SubjectError)
    if array.ndim not in (2, 3) or array.shape[:2] != (n, units) or 0 in array.shape[2:]:
        cure = "" if array.shape[:1] == (n,) else " Return a row for each image."
        if array.shape == (n,) and units == 1:
            cure = " Return responses[:, None] for a single unit."
        raise SubjectError(
            f"subject {subject!r}: expected responses of shape ({n}, {units}) or ({n}, {units}, time) "
            f"for {n} images and {units} units, got {array.shape}.{cure}"
        )
    infinite = np.argwhere(np.abs(array) > min(LARGEST, float(np.finfo(array.dtype).max)))
    if len(infinite):
        row, unit = (int(i) for i in infinite[0][:2])
        image = f"image {row}" if images is None else f"image {images[row]!r}"
        neuroid = f"unit {unit}" if neuroids is None else f"unit {neuroids[unit]!r}"
        others = f", and {len(infinite) - 1} more" if len(infinite) > 1 else ""
        found = array[tuple(infinite[0])]
        came = "infinite" if np.isinf(found) else f"{found:.3g}, of which no mean can be taken"
        raise SubjectError(
            f"subject {subject!r}: the response of {neuroid} to {image}, presentation {row} of the block, is "
            f"{came}{others}; expected finite numbers, or NaN where a presentation was lost: return NaN for it."
        )
    return array


#: What a part of an experiment must be, in words, with its protocol and the attributes that are looked at.
_PARTS: dict[str, tuple[str, type[Any], tuple[str, ...]]] = {
    "subject": ("a Subject", Subject, ("name", "units")),
    "generator": ("a Generator", Generator, ("name", "space", "resolution")),
    "optimizer": ("an Optimizer", Optimizer, ("name", "space", "needs_gradient")),
    "objective": ("an Objective", Objective, ()),
}


def check_part(kind: str, value: Any, name: str = "") -> None:
    """Raises unless a value is a part of an experiment, of a kind.

    Args:
        kind: "subject", "generator", "optimizer" or "objective".
        value: What was handed over.
        name: The argument's name in the error; default the kind.

    Raises:
        InvalidArgumentError: It is something else, such as a name or a class.
        ClosedLoopError: One of its attributes raises, or is none.
    """
    words, protocol, attributes = _PARTS[kind]
    name = name or kind
    if isinstance(value, type):
        raise InvalidArgumentError(f"{name}: expected {words}, got the class {value.__name__}; make one of it first.")
    with blamed(name, InvalidArgumentError):
        if not isinstance(value, protocol):
            came = " ".join(repr(value).split())
            raise InvalidArgumentError(f"{name}: expected {words}, got {came:.80}{_cure_of(kind, value)}.")
        if attributes and not isinstance(value.name, str):
            raise InvalidArgumentError(f"{name}: expected a text as its name, got {value.name!r:.80}.")
        if "units" in attributes:
            units_of(value)
        if "space" in attributes and not callable(getattr(value.space, "check", None)):
            raise InvalidArgumentError(f"{name}: expected a Space as its space, got {value.space!r:.80}.")
        if "needs_gradient" in attributes:
            check_flag("needs_gradient", value.needs_gradient)
        if "resolution" in attributes:
            check_whole("resolution", value.resolution, 1)


def _cure_of(kind: str, value: Any) -> str:
    """Says what an object lacks to be a part of a kind, or how such a one is made of it."""
    lacks, most = (lacking(_PARTS[kind][1], each) for each in (value, object()))
    if any(c.__module__.startswith("torch.nn.") for c in type(value).__mro__) and kind == "subject":
        return "; a network of torch is made one by TorchSubject(network, resolution=…)"
    if inspect.isroutine(value) and kind == "subject":
        return "; a function is made one by FunctionSubject(function, units=…)"
    if inspect.isroutine(value) and kind == "objective":
        return "; write a class with __call__(responses) and describe(), or a text such as 'unit(0)'"
    if len(lacks) < len(most):
        return f"; it has no {', '.join(lacks)}"
    return "; write it as a text such as 'unit(0)'" if kind == "objective" else f"; names are loaded by load_{kind}(…)"


def units_of(subject: Subject) -> Units:
    """Returns what a subject records, checked.

    Raises:
        InvalidArgumentError: It is not known, or has names that no recording can hold.
    """
    with blamed(f"subject {subject.name!r}: its units", InvalidArgumentError):
        found: Any = subject.units
        if not isinstance(found, Units):
            if not hasattr(found, "neuroid_id") or not hasattr(found, "coords"):
                raise InvalidArgumentError(f"units: expected Units, got {found!r:.80}; see closedloop.Units.")
            found = Units(found.neuroid_id, found.coords)
        if not len(found):
            raise InvalidArgumentError("units: expected at least one, got none.")
        checked: Units = found
        return checked


def is_whole(value: Any) -> TypeGuard[int | np.integer[Any]]:
    """Tells whether ``value`` is a whole number, of Python or numpy; yes and no are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_finite(value: float | np.integer[Any] | np.floating[Any]) -> bool:
    """Tells whether a number is neither NaN nor larger than a float can be."""
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number of Python, which has no largest
        return False


def whole_number(text: str) -> int | None:
    """Returns the whole number that a text says in digits, such as "12" or "-3"; None where it says none.

    Python reads no number of more than 4,300 digits, and nobody means one of more than 18.
    """
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None


def read_whole(name: str, text: str) -> int:
    """Returns the whole number that a text says.

    Raises:
        InvalidArgumentError: It says none, or has more than 18 digits.
    """
    number = whole_number(text)
    if number is None:
        raise InvalidArgumentError(f"{name}: expected a whole number of at most 18 digits, got {text!r:.60}.")
    return number


def check_whole(name: str, value: Any, least: int) -> int:
    """Returns ``value`` if it is a whole number of at least ``least``.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if not is_whole(value) or value < least:
        raise InvalidArgumentError(f"{name}: expected a whole number of at least {least}, got {value!r}.")
    return int(value)


def check_number(name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """Returns ``value`` if it is a finite number from ``low`` to ``high``.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if not is_number(value) or not is_finite(value) or not low <= value <= high:
        limits = "" if np.isinf(low) else f" of at least {low:g}" if np.isinf(high) else f" from {low:g} to {high:g}"
        raise InvalidArgumentError(f"{name}: expected a finite number{limits}, got {value!r}.")
    return float(value)


def check_memory(name: str, *shape: int) -> None:
    """Raises where an array of float32 is larger than this computer's memory, instead of working until it fails.

    Args:
        name: The argument that makes it so large.
        shape: The shape of the array.

    Raises:
        InvalidArgumentError: With both sizes.
    """
    needed = 4 * math.prod(shape)
    if needed > (memory := _memory_bytes()):
        size, takes = " x ".join(map(str, shape)), f"{needed // 10**9:,}"
        raise InvalidArgumentError(
            f"{name}: an array of {size:.80} numbers takes {takes:.40} GB, and this computer has {memory / 1e9:,.0f}; "
            "give a smaller one."
        )


def _memory_bytes() -> float:
    """Returns the memory of this computer; without end where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def check_positive(name: str, value: Any) -> float:
    """Returns ``value`` if it is a finite number above 0.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if not is_number(value) or not (is_finite(value) and value > 0):
        raise InvalidArgumentError(f"{name}: expected a finite number above 0, got {value!r}.")
    return float(value)


def check_within(name: str, value: Any, example: float) -> float:
    """Returns ``value`` if it is a number between 0 and 1, and neither of them.

    Raises:
        InvalidArgumentError: Otherwise; it gives ``example`` as one.
    """
    if not is_number(value) or not 0 < value < 1:
        raise InvalidArgumentError(f"{name}: expected a number between 0 and 1 such as {example}, got {value!r}.")
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """Returns ``value`` if it is True or False.

    Raises:
        InvalidArgumentError: Otherwise; "no" is a text, which Python would take for True.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidArgumentError(f"{name}: expected True or False, got {value!r}.")
    return bool(value)


def real_numbers(name: str, values: Any) -> NDArray[np.float64]:
    """Returns ``values`` as real numbers, of any shape; NaN stands for a missing one, as what is masked does.

    Raises:
        InvalidArgumentError: Something in it is not a number, or infinite.
    """
    found = as_numbers(name, values, lost=True, booleans=True)
    if np.isinf(found).any():
        raise InvalidArgumentError(f"{name}: expected finite numbers, NaN where one is missing, got an infinite one.")
    return found.astype(np.float64)


def at_door(function: Callable[P, T]) -> Callable[P, T]:
    """Holds the arguments of a public function to the types that its signature states.

    What is no path, part or space, where one belongs, is refused before the function begins. All else is looked at only
    where the function fails with an exception of Python or of another package: an argument that is not of its type, or
    a Dataset that lacks what was looked up, is then named as the cause. What fails for another reason stays as it is.

    Raises:
        InvalidArgumentError: An argument is of another type; the error names it.
    """
    stated: list[tuple[int, str, str]] = []

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if not stated:
            stated.extend(_stated(function))
        for name, kind, value in _given(stated, args, kwargs):
            _check_at_once(name, kind, value)
        try:
            with parts_named():
                return function(*args, **kwargs)
        except ClosedLoopError:
            raise
        except Exception as error:
            given = list(_given(stated, args, kwargs))
            for blame in (_blame_type, _blame_content):
                for name, kind, value in given:
                    blame(name, kind, value, error, getattr(function, "__globals__", {}))
            raise

    return checked


def check_fields(made: Any) -> None:
    """Raises unless the fields of a dataclass are of the types that it states; for its ``__post_init__``.

    Raises:
        InvalidArgumentError: One is not; the error names it.
    """
    for field in fields(made):
        value = getattr(made, field.name)
        if not _fits(str(field.type), value):
            raise InvalidArgumentError(f"{field.name}: expected {_words(str(field.type))}, got {_came(value)}.")


def record_images(subject: Subject, images: NDArray[np.float32], who: str = "") -> FloatArray:
    """Returns the responses ``(n, units[, time])`` of a subject to images, each shown once in their order, checked.

    Args:
        subject: The network or animal that is shown images.
        images: ``(n, 3, h, w)``, RGB in [0, 1].
        who: The argument as which the subject was handed over, for the error.

    Raises:
        SubjectError: It raised, or returned no responses.
    """
    name = f"{who}: subject {subject.name!r}" if who else f"subject {subject.name!r}"
    with blamed(name, SubjectError):
        raw = subject.record(images.copy())
    return check_responses(raw, len(images), len(units_of(subject)), subject.name)


def _stated(function: Callable[..., Any]) -> Iterator[tuple[int, str, str]]:
    """Yields position, name and stated type, in words, of each argument that has one."""
    for i, parameter in enumerate(inspect.signature(function).parameters.values()):
        said = parameter.annotation
        if said is not parameter.empty and parameter.kind in (0, 1, 3):
            words = said if isinstance(said, str) else getattr(said, "__name__", str(said))
            yield i, parameter.name, _spelt_out(words, getattr(function, "__globals__", {}))


def _spelt_out(kind: str, known: Mapping[str, Any]) -> str:
    """Returns an annotation with what short names of types in it stand for, such as ``Kind`` for ``str | None``."""

    def stands_for(word: re.Match[str]) -> str:
        alias = known.get(word[0])
        return str(alias) if hasattr(alias, "__args__") and word[0] not in _KINDS else word[0]

    return re.sub(r"[\w.]+", stands_for, kind)


def _given(
    stated: Sequence[tuple[int, str, str]], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, str, Any]]:
    """Yields name, stated type and value of each argument that was given."""
    for i, name, kind in stated:
        if i < len(args) or name in kwargs:
            yield name, kind, args[i] if i < len(args) else kwargs[name]


def _alternatives(kind: str) -> list[tuple[str, str]]:
    """Returns the types that an annotation allows, each with what stands in its brackets."""
    found, depth, start = [], 0, 0
    for i, letter in enumerate(kind + "|"):
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and depth == 0:
            head, _, inner = kind[start:i].strip().partition("[")
            found.append((head.rpartition(".")[2], inner.removesuffix("]")))
            start = i + 1
    return found


def _fits(kind: str, value: Any) -> bool:
    """Tells whether a value is of a stated type; so is all where a type is none of `_KINDS`."""
    return any(_is(head, inner, value) for head, inner in _alternatives(kind))


def _is(head: str, inner: str, value: Any) -> bool:
    if head == "Literal":
        return isinstance(value, (str, int)) and value in ast.literal_eval(f"({inner},)")
    if head not in _KINDS:
        return True
    if not _KINDS[head][1](value):
        return False
    if head == "Mapping":
        return all(_fits(inner.partition(",")[2], v) for v in value.values())
    return head != "Sequence" or all(_fits(inner, v) for v in value)


def _words(kind: str) -> str:
    known = {head: words for head, (words, _) in _KINDS.items()}
    said = (f"one of {inner}" if head == "Literal" else known.get(head, head) for head, inner in _alternatives(kind))
    return " or ".join(dict.fromkeys(said))


def _check_at_once(name: str, kind: str, value: Any) -> None:
    """Raises where a path, a part of an experiment or a space is stated, and something else was given.

    So it does where several texts are stated and one was given, which Python would take apart into its letters.
    """
    heads = [head for head, _ in _alternatives(kind)]
    if isinstance(value, str) and "Sequence" in heads and _of_texts(kind) and not _fits(kind, value):
        raise InvalidArgumentError(f"{name}: expected {_words(kind)}, got {value!r:.60}; make it [{value!r:.40}].")
    if not _AT_ONCE.intersection(heads):
        return
    if value is None and "None" in heads:
        return
    if heads[0].lower() in _PARTS and set(heads[1:]) <= {"None"}:
        check_part(heads[0].lower(), value, name)
    elif not _fits(kind, value):
        raise InvalidArgumentError(f"{name}: expected {_words(kind)}, got {_came(value)}{_cure_in(heads, value)}.")
    elif "Path" in heads and isinstance(value, (str, Path)) and not can_be_path(value):
        raise InvalidArgumentError(
            f"{name}: expected a path, got {str(value)!r:.80} with a NUL character or half a character of UTF-16 in it."
        )
    elif "Path" in heads and isinstance(value, (str, Path)) and is_too_long(value):
        raise InvalidArgumentError(
            f"{name}: expected a path, got {str(value)!r:.60} …, of {len(str(value)):,} letters and with a name of "
            f"{max(map(len, Path(value).parts)):,}, which is longer than this system takes (most take names of 255)."
        )


def _of_texts(kind: str) -> bool:
    """Tells whether several texts are of a stated type."""
    inside = [_alternatives(inner) for head, inner in _alternatives(kind) if head == "Sequence"]
    return any(head == "str" for several in inside for head, _ in several)


def _blame_type(name: str, kind: str, value: Any, error: Exception, known: Mapping[str, Any]) -> None:
    """Raises an error that names an argument if it is not of its stated type; classes are looked up among `known`."""
    allowed = _alternatives(kind)
    classes: list[Any] = [known.get(head) for head, _ in allowed if head not in _KINDS]
    fits = _fits(kind, value)
    if fits and classes and all(type(each) is type for each in classes):  # no protocols
        fits = isinstance(value, tuple(classes)) or any(_is(*each, value) for each in allowed if each[0] in _KINDS)
    if not fits:
        cure = _cure_in([head for head, _ in allowed], value)
        raise InvalidArgumentError(f"{name}: expected {_words(kind)}, got {_came(value)}{cure}.") from error


def _blame_content(name: str, kind: str, value: Any, error: Exception, _: Mapping[str, Any]) -> None:
    """Raises an error that names an argument if it lacks what was looked up in it."""
    if any(head == "Dataset" for head, _ in _alternatives(kind)) and _is_dataset(value) and _lacks(value, error):
        raise InvalidArgumentError(
            f"{name}: expected {_words(kind)}, got a Dataset that does not fit ({reason(error)}); "
            f"it holds {', '.join(sorted(map(str, value.variables))) or 'nothing'}."
        ) from error

    if any(head == "DataArray" for head, _ in _alternatives(kind)) and _is_data_array(value) and _lacks(value, error):
        raise InvalidArgumentError(
            f"{name}: expected {_words(kind)}, got a DataArray over {', '.join(map(str, value.dims)) or 'nothing'}, "
            f"which does not fit ({reason(error)})."
        ) from error


def _lacks(data: Any, error: Exception) -> bool:
    """Tells whether an error comes of what data of xarray lack: another package raised it, or they are none of ours.

    What our own lines raise is a fault of ours, and stays what it is.
    """
    place = error.__traceback__
    if place is None or place.tb_next is None:
        return False  # the call itself failed, for arguments that are missing or not known
    while place.tb_next is not None:
        place = place.tb_next
    by = str(place.tb_frame.f_globals.get("__name__", ""))
    return not by.startswith("closedloop") or "closedloop_version" not in getattr(data, "variables", data.coords)


def _cure_in(heads: Sequence[str], value: Any) -> str:
    """Says what an object lacks to be the part that is among types; empty for what is plain, and where none is."""
    parts = [head.lower() for head in heads if head.lower() in _PARTS]
    plain = value is None or isinstance(value, (type, str, int, float, list, tuple, Path))
    return _cure_of(parts[0], value) if parts and not plain else ""


def _came(value: Any) -> str:
    """Says what was given, in words that are short for any object."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, (str, int, float, list, tuple, Path)):
        return f"{value!r:.80}"
    return f"an object of type {type(value).__name__}"


def _is_dataset(value: Any) -> bool:
    """Tells whether a value is an xarray.Dataset; xarray is not imported for it."""
    return any(c.__name__ == "Dataset" and c.__module__.startswith("xarray.") for c in type(value).__mro__)


def _is_data_array(value: Any) -> bool:
    """Tells whether a value is an xarray.DataArray; xarray is not imported for it."""
    return any(c.__name__ == "DataArray" and c.__module__.startswith("xarray.") for c in type(value).__mro__)


def _is_numeric(value: Any) -> bool:
    """Tells whether a value is read as an array of numbers by numpy."""
    try:
        return not isinstance(value, type) and np.asarray(value).dtype.kind in "fiubc"
    except Exception:  # noqa: BLE001 - whatever the object of a stranger raises: it is no array
        return False


def _is_several(value: Any) -> bool:
    text = isinstance(value, (str, bytes, type, Mapping))
    return isinstance(value, Iterable) and hasattr(value, "__len__") and not text and getattr(value, "ndim", 1) != 0


def _is_space(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("dim", "bounded", "center", "check")) and not isinstance(value, type)


def _is_part(kind: str) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, type) and isinstance(value, _PARTS[kind][1])


#: Types that signatures state, with words for them and what tells that a value is of them.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "None": ("None", lambda value: value is None),
    "str": ("a text", lambda value: isinstance(value, str)),
    "Path": ("a path", lambda value: isinstance(value, (str, Path))),
    "int": ("a whole number", is_whole),
    "float": ("a number", is_number),
    "bool": ("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    "Dataset": ("a Dataset of closedloop, such as open_recording returns", _is_dataset),
    "DataArray": ("a DataArray", _is_data_array),
    "Sequence": ("a list", _is_several),
    "tuple": ("a tuple", _is_several),
    "list": ("a list", _is_several),
    "Mapping": ("a mapping", lambda value: isinstance(value, Mapping)),
    "dict": ("a mapping", lambda value: isinstance(value, Mapping)),
    "Callable": ("a function", callable),
    "NDArray": ("an array of numbers", _is_numeric),
    "FloatArray": ("an array of numbers", _is_numeric),
    "ArrayLike": ("an array of numbers", _is_numeric),
    "Subject": ("a Subject", _is_part("subject")),
    "Generator": ("a Generator", _is_part("generator")),
    "Optimizer": ("an Optimizer", _is_part("optimizer")),
    "Objective": ("an Objective", _is_part("objective")),
    "Space": ("a Space, such as generator.space", _is_space),
}
#: Those that are looked at before a function begins.
_AT_ONCE = {"Path", "Subject", "Generator", "Optimizer", "Space"}
