"""One rule of types for all arrays that come from outside: responses, scores, codes, images, settings.

Numbers are kept as float64, and as float32 where they came so; what these cannot hold exactly is refused, and never
rounded without a word. What is masked is lost: NaN where a lost value has a meaning, and refused elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeGuard, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import ClosedLoopError, InvalidArgumentError, SubjectError, reason

#: The largest whole number up to which float64 holds every one.
EXACT = 2**53
#: What may help, by the letter that numpy has for a kind of type.
_CURES = {
    "b": "give 1.0 and 0.0 if that is what is meant",
    "c": "take its real part, or its absolute value",
    "O": "an array of objects is not read; give an array of float, of a sparse one .toarray()",
    "U": "texts are not read as numbers",
    "S": "texts are not read as numbers",
    "M": "give seconds as numbers",
    "m": "give seconds as numbers",
    "V": "give one of its fields",
}


def as_array(name: str, values: Any, error: type[ClosedLoopError] = InvalidArgumentError) -> NDArray[Any]:
    """Returns values as an array of numpy, a masked one where some are masked.

    Args:
        name: What they are, for the error.
        values: An array of any library that numpy can read, or nested lists.
        error: What is raised.

    Raises:
        ClosedLoopError: They are no array; of the type asked for.
    """
    try:
        if _has_masked(values):
            return np.ma.asarray(np.ma.array(values))
        return np.asarray(values)
    except Exception as cause:
        cure = "; return tensor.detach().float().cpu().numpy()" if _is_tensor(values) else ""
        raise error(f"{name}: expected an array, got {type(values).__name__} ({reason(cause)}){cure}.") from cause


def _is_tensor(values: Any) -> bool:
    """Tells whether values are a torch tensor, which numpy reads without gradients, on the processor, in few types."""
    return type(values).__module__.partition(".")[0] == "torch"


def is_number(value: Any) -> TypeGuard[float | np.integer[Any] | np.floating[Any]]:
    """Tells whether ``value`` is one real number, of Python or numpy; yes and no are none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _has_masked(values: Any) -> bool:
    """Tells whether an array is masked, or lists hold one that is."""
    if isinstance(values, np.ma.MaskedArray):
        return True
    return isinstance(values, (list, tuple)) and any(_has_masked(v) for v in values if not isinstance(v, float))


def as_numbers(
    name: str,
    values: Any,
    *,
    lost: bool = False,
    booleans: bool = False,
    error: type[ClosedLoopError] = InvalidArgumentError,
) -> NDArray[np.floating[Any]]:
    """Returns a copy of real numbers of any shape, float32 where they came so and otherwise float64.

    Nothing is lost on the way: float16 and whole numbers are widened. It is always a copy, for the caller may go on
    to change what it handed over.

    Args:
        name: What they are, for the error.
        values: An array of any library that numpy can read, or nested lists.
        lost: Whether a number may be missing: what is masked becomes NaN.
        booleans: Whether yes and no are taken for 1 and 0.
        error: What is raised.

    Raises:
        ClosedLoopError: They are no numbers, complex, masked where none may be missing, or more than float64 can hold
            exactly; of the type asked for.
    """
    array = as_array(name, values, error)
    kind = array.dtype.kind
    if kind not in "fiu" and not (kind == "b" and booleans):
        came = f"{array.dtype} from {type(values).__name__}" if kind in "OUSV" else str(array.dtype)
        raise error(f"{name}: expected numbers, got {came}; {_CURES.get(kind, 'give an array of float64')}.")
    masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    if masked is not None and masked.any() and not lost:
        raise error(
            f"{name}: expected a number everywhere, got {masked.sum()} masked ones; fill them, or leave them out."
        )
    made = _held(name, np.asarray(np.ma.getdata(array)), masked, error)
    if masked is not None:
        made[masked] = np.nan
    return made


def _held(
    name: str, array: NDArray[Any], masked: NDArray[np.bool_] | None, error: type[ClosedLoopError]
) -> NDArray[np.floating[Any]]:
    """Returns a copy as float32 or float64, whichever holds every number that is not masked."""
    if not array.flags.aligned:  # a field of packed records; numpy 2.0 may crash where it turns such into floats
        array = array.copy()
    if array.dtype.newbyteorder("=") == np.float32:
        return np.array(array, dtype=np.float32, order="C")
    with np.errstate(over="ignore"):
        made: NDArray[np.floating[Any]] = np.array(array, dtype=np.float64, order="C")
    if array.dtype.kind in "iu":
        rounded = (array > EXACT) | (array < -EXACT) if array.dtype.itemsize == 8 else np.zeros(array.shape, bool)
    else:
        rounded = (made != array) & ~np.isnan(made) if array.dtype.itemsize > 8 else np.zeros(array.shape, bool)
    if masked is not None:
        rounded &= ~masked
    if rounded.any():
        raise error(
            f"{name}: expected numbers that float64 holds exactly, got {array[rounded][0]!r} as {array.dtype}; scale "
            "or round them before they are handed over."
        )
    return made


def narrowed(name: str, values: NDArray[Any], dtype: Any, error: type[ClosedLoopError]) -> NDArray[Any]:
    """Returns values as another type if it holds each of them exactly.

    Raises:
        ClosedLoopError: It does not; of the type asked for.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        made = values.astype(dtype)
    if np.can_cast(values.dtype, dtype, "safe"):
        return made
    lossy = (made != values) & ~(np.isnan(made) & np.isnan(values))
    if lossy.any():
        raise error(
            f"{name}: they came as {np.dtype(dtype).name} before, which cannot hold {values[lossy].flat[0]!r} of those "
            f"that come now as {values.dtype}; return float64 from the beginning."
        )
    return made


#: Axes of responses, by their names in a recording.
_AXES = ("presentation", "neuroid", "time_bin")


def check_labels(responses: Any, subject: str, neuroids: Sequence[str] | None = None) -> None:
    """Raises if responses bear labels, of rows, columns or axes, in another order than they are read in.

    Args:
        responses: What a subject returned.
        subject: Its name.
        neuroids: Names of its units, in their order.

    Raises:
        SubjectError: They are those of other images, units or bins.
    """
    columns = list(map(str, getattr(responses, "columns", ())))  # of a table of pandas
    if neuroids is not None and set(columns) == set(neuroids) and columns != list(neuroids):
        raise SubjectError(
            f"subject {subject!r}: expected a column for each unit in the order of its units, {neuroids[0]!r} "
            f"first, got {columns[0]!r} first; return the table with [list of units]."
        )
    rows = list(getattr(getattr(responses, "index", None), "values", ()))  # of a table of pandas
    if all(isinstance(row, (int, np.integer)) for row in rows) and rows != sorted(rows) == list(range(len(rows))):
        raise SubjectError(
            f"subject {subject!r}: expected a row for each image in their order, got a table whose rows are numbered "
            f"{', '.join(map(str, rows[:4]))} …; return it sorted: .sort_index()."
        )
    dims = tuple(map(str, getattr(responses, "dims", ())))  # of an array of xarray
    if any(dims[i] != name and name in dims for i, name in enumerate(_AXES[: len(dims)])):
        raise SubjectError(
            f"subject {subject!r}: expected axes (presentation, neuroid[, time_bin]), got {dims}; transpose them."
        )


def as_names(name: str, values: Any, error: type[ClosedLoopError] = InvalidArgumentError) -> tuple[str, ...]:
    """Returns names as a tuple of texts, each of which files and tables of other programs can hold.

    Raises:
        ClosedLoopError: One is no text, empty, there twice, holds a control character such as the end of a line or
            half a character of UTF-16, or climbs out of a folder; of the type asked for.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise error(f"{name}: expected several texts, got {values!r:.80}.")
    found = list(values)
    if not all(isinstance(text, str) for text in found):
        wrong = next(text for text in found if not isinstance(text, str))
        raise error(f"{name}: expected texts, got {wrong!r:.80}, of type {type(wrong).__name__}; take str of it.")
    if not all(found) or not is_plain("".join(found)) or any(".." in text and _climbs(text) for text in found):
        wrong = next(text for text in found if not text or not is_plain(text) or _climbs(text))
        raise error(
            f"{name}: expected texts of one line that a file can hold, got {wrong!r:.80}; give it another name."
        )
    if len(set(found)) != len(found):
        twice = next(text for text, count in Counter(found).items() if count > 1)
        raise error(f"{name}: each must be unique, got {twice!r:.80} twice.")
    return tuple(str(text) for text in found)


def is_plain(text: str) -> bool:
    """Tells whether a text has no control character, and no half of a character of UTF-16."""
    # U+2028 and U+2029 end lines, too.
    return re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text) is None


def _climbs(text: str) -> bool:
    """Tells whether a text, read as a path, leaves its folder."""
    return ".." in re.split(r"[/\\]", text)


@final
class LateColumns(Mapping[str, tuple[Any, ...]]):
    """Columns of units of which some are computed when one of them is first asked for.

    Args:
        known: Those that cost nothing.
        names: Names of the others.
        compute: Returns the others.
    """

    def __init__(
        self,
        known: Mapping[str, tuple[Any, ...]],
        names: Sequence[str],
        compute: Callable[[], Mapping[str, tuple[Any, ...]]],
    ) -> None:
        self.known = known
        self._names = tuple(names)
        self._compute = compute

    @cached_property
    def _late(self) -> Mapping[str, tuple[Any, ...]]:
        return self._compute()

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        return self._late[name] if name in self._names else self.known[name]

    def __contains__(self, name: object) -> bool:
        return name in self.known or name in self._names

    def __iter__(self) -> Iterator[str]:
        yield from self.known
        yield from self._names

    def __len__(self) -> int:
        return len(self.known) + len(self._names)
