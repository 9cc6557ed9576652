"""What strangers hand over: arrays of every type and shape, names, and objects that belong nowhere.

Each strategy of arrays gives values with a word for them; `counted_settings` takes the number of cases from the
fixture `counted`.
"""

import datetime
from types import SimpleNamespace

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def counted_settings(counted, quick=200, reduced=2000, full=100_000):
    """Settings of hypothesis for as many cases as are asked for; of a property that is made inside a test."""
    return settings(
        max_examples=counted(quick=quick, reduced=reduced, full=full),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


#: Types that hold real numbers, and types that do not.
REAL = ("float16", "float32", "float64", "longdouble", "int8", "int32", "int64", "uint8", "uint64", "bool")
UNREAL = ("complex64", "complex128", "object", "U3", "S3", "datetime64[s]", "timedelta64[s]", "V4")


def _filled(shape, dtype, seed, largest):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-largest, largest, shape)
    if np.dtype(dtype).kind in "ub":
        values = np.abs(values)
    with np.errstate(all="ignore"):
        return values.astype("int64").astype(dtype) if np.dtype(dtype).kind in "Mm" else values.astype(dtype)


def _reordered(array, how):
    """The same values lying in memory in another way."""
    if how == "fortran":
        return np.asfortranarray(array)
    if how == "read-only":
        array = array.copy()
        array.flags.writeable = False
        return array
    if how == "strided":
        return np.repeat(array, 2, axis=0)[::2] if array.ndim else array
    if how == "swapped" and array.dtype.kind in "fiu" and array.dtype.itemsize in (2, 4, 8):
        return array.astype(array.dtype.newbyteorder())
    return array


@st.composite
def real_arrays(draw, shape, largest=100.0):
    """Finite real numbers of a shape, in any type and any order of memory."""
    dtype = draw(st.sampled_from(REAL))
    order = draw(st.sampled_from(("plain", "fortran", "read-only", "strided", "swapped")))
    array = _filled(shape, dtype, draw(st.integers(0, 2**32 - 1)), min(largest, 100))
    form = draw(st.sampled_from(("array", "array", "list", "masked")))
    if form == "list" and dtype != "longdouble":
        return array.tolist()
    return np.ma.masked_array(array) if form == "masked" else _reordered(array, order)


@st.composite
def spoilt_arrays(draw, shape):
    """What is no array of finite real numbers of a shape; a word for what is wrong, and the thing."""
    kind = draw(st.sampled_from(("shape", "type", "infinite", "large", "thing", "ragged", "wide")))
    seed = draw(st.integers(0, 2**32 - 1))
    if kind == "shape":
        other = draw(st.lists(st.integers(0, 4), max_size=5).map(tuple).filter(lambda s: s != tuple(shape)))
        return kind, np.random.default_rng(seed).random(other)
    if kind == "type":
        return kind, _filled(shape, draw(st.sampled_from(UNREAL)), seed, 100)
    values = np.random.default_rng(seed).random(shape)
    if kind == "ragged":
        return kind, [[1.0], [2.0, 3.0]]
    if kind == "thing":
        return kind, draw(things())
    if kind == "large":
        whole = np.ones(shape, dtype=draw(st.sampled_from(("int64", "uint64"))))
        whole.flat[-1] = 2**53 + draw(st.integers(1, 2**40))
        return kind, whole
    if kind == "wide":
        return kind, values.astype(np.longdouble) + np.longdouble(1) / 3
    values.flat[draw(st.integers(0, values.size - 1))] = draw(st.sampled_from((np.inf, -np.inf)))
    return kind, values


#: Objects that stand for nothing in an experiment.
THINGS = (
    None,
    0,
    -1,
    3.5,
    1j,
    True,
    "a text",
    "",
    b"bytes",
    (),
    [],
    {},
    {"a": 1},
    {1, 2},
    object(),
    object,
    len,
    SimpleNamespace(name="x"),
    datetime.date(2020, 1, 1),
    np.datetime64("2020-01-01"),
    np.float64("nan"),
    float("inf"),
    10**400,
    slice(3),
    NotImplemented,
    ...,
)


def things():
    """One of them."""
    return st.sampled_from(THINGS)


#: Texts that no recording can hold as a name.
BAD_NAMES = ("", "two\nlines", "a\rb", "nul\x00", "tab\t", "../x", "a/../b", "..", "half \ud83d", "line\u2028", "\x85")


def bad_names():
    """Names that are no text, or that a recording cannot hold."""
    wrong = st.one_of(st.none(), st.integers(), st.floats(), st.binary(max_size=3), st.tuples(st.text(max_size=2)))
    return st.one_of(st.sampled_from(BAD_NAMES), wrong)


def good_names():
    """Names that a recording can hold, however unusual."""
    letters = st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"), blacklist_characters="/\\.")
    return st.text(letters, min_size=1, max_size=12)
