"""The door: data from outside is checked here once, and trusted inside."""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import as_array, as_numbers, check_labels
from closedloop.arrays import is_number as is_number  # beside `is_whole`, for the floors above
from closedloop.capability import lacking
from closedloop.errors import GeneratorError, InvalidArgumentError, SubjectError, blamed
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
PARTS: dict[str, tuple[str, type[Any], tuple[str, ...]]] = {
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
    words, protocol, attributes = PARTS[kind]
    name = name or kind
    if isinstance(value, type):
        raise InvalidArgumentError(f"{name}: expected {words}, got the class {value.__name__}; make one of it first.")
    with blamed(name, InvalidArgumentError):
        if not isinstance(value, protocol):
            came = " ".join(repr(value).split())
            raise InvalidArgumentError(f"{name}: expected {words}, got {came:.80}{cure_of(kind, value)}.")
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


def kind_of(part: Any) -> str:
    """Returns which part of an experiment an object is, such as "subject"; "part" where it is none."""
    return next((kind for kind, (_, protocol, _) in PARTS.items() if isinstance(part, protocol)), "part")


def cure_of(kind: str, value: Any) -> str:
    """Says what an object lacks to be a part of a kind, or how such a one is made of it.

    Raises:
        InvalidArgumentError: It has a property that fails with an AttributeError, which reads as though it lacked it.
    """
    lacks, most = (lacking(PARTS[kind][1], each) for each in (value, object()))
    for name in lacks:
        if inspect.getattr_static(value, name, None) is not None:
            with blamed(f"{kind}: {name}", InvalidArgumentError):
                getattr(value, name)
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
