"""One rule of types: what is kept, what is refused, and that nothing is rounded without a word."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.arrays import as_array, as_names, as_numbers, is_plain, narrowed
from closedloop.errors import ClosedLoopError, InvalidArgumentError, SubjectError
from tests.strategies import BAD_NAMES, bad_names, counted_settings, good_names, real_arrays, spoilt_arrays


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint32", "int64", ">f8", ">i2"])
def test_numbers_are_widened_to_float64(dtype):
    made = as_numbers("x", np.arange(6, dtype=dtype).reshape(2, 3))
    assert made.dtype == np.float64
    np.testing.assert_array_equal(made, np.arange(6).reshape(2, 3))


def test_single_precision_stays():
    assert as_numbers("x", np.ones(2, np.float32)).dtype == np.float32
    assert as_numbers("x", np.ones(2, ">f4")).dtype == np.dtype("=f4")


def test_the_result_is_a_copy_that_can_be_written():
    for dtype in (np.float32, np.float64):
        buffer = np.ones((2, 2), dtype, order="F")
        buffer.flags.writeable = False
        made = as_numbers("x", buffer)
        assert not np.shares_memory(made, buffer)
        assert made.flags.writeable
        assert made.flags.c_contiguous


def test_what_is_masked_is_lost_or_refused():
    masked = np.ma.masked_array([[1.0, 99.0]], mask=[[False, True]])
    np.testing.assert_array_equal(as_numbers("x", masked, lost=True), [[1, np.nan]])
    np.testing.assert_array_equal(as_numbers("x", [masked[0], masked[0]], lost=True), [[1, np.nan]] * 2)
    whole = np.ma.masked_array([1, 2**60], mask=[False, True])
    np.testing.assert_array_equal(as_numbers("x", whole, lost=True), [1, np.nan])
    narrow = np.ma.masked_array(np.ones(2, np.float32), mask=[True, False])
    np.testing.assert_array_equal(as_numbers("x", narrow, lost=True), [np.nan, 1])
    with pytest.raises(InvalidArgumentError, match="x: expected a number everywhere, got 1 masked ones"):
        as_numbers("x", masked)
    np.testing.assert_array_equal(as_numbers("x", np.ma.masked_array([1.0, 2.0])), [1, 2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(2, complex), "x: expected numbers, got complex128; take its real part, or its absolute value."),
        (np.array([None, 1.0]), "x: expected numbers, got object from ndarray; an array of objects is not read"),
        ([["a"]], "x: expected numbers, got <U1 from list; texts are not read as numbers."),
        (np.zeros(2, "datetime64[s]"), "got datetime64[s]; give seconds as numbers."),
        (np.zeros(2, [("a", float)]), "give one of its fields"),
        (np.array([True]), "got bool; give 1.0 and 0.0 if that is what is meant."),
        (np.array([2**53 + 1]), "expected numbers that float64 holds exactly, got np.int64(9007199254740993) as int64"),
        (np.array([2**63], np.uint64), "as uint64; scale or round them"),
        (np.array([1, 3], np.longdouble) / 3, "as float128" if np.longdouble(1).nbytes == 16 else "x"),
        ([[1.0], [2.0, 3.0]], "x: expected an array, got list (ValueError"),
        (None, "x: expected numbers, got object from NoneType"),
        (10**400, "got object from int"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(SubjectError, match=re.escape(message)):
        as_numbers("x", values, error=SubjectError)


def test_yes_and_no_are_numbers_where_it_is_said():
    np.testing.assert_array_equal(as_numbers("x", [True, False], booleans=True), [1, 0])


def test_something_that_fails_when_it_is_read():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("the amplifier is off")

    with pytest.raises(InvalidArgumentError, match=r"x: expected an array, got Broken .*the amplifier is off"):
        as_array("x", Broken())


def test_arrays_of_other_libraries():
    pandas = pytest.importorskip("pandas")
    xarray = pytest.importorskip("xarray")
    np.testing.assert_array_equal(as_numbers("x", pandas.DataFrame({"a": [1, 2]})), [[1], [2]])
    np.testing.assert_array_equal(as_numbers("x", xarray.DataArray([1.5])), [1.5])
    with pytest.raises(InvalidArgumentError, match="expected numbers, got object from Series"):
        as_numbers("x", pandas.Series(["a", None]))
    with pytest.raises(InvalidArgumentError, match="expected an array, got Dataset"):
        as_numbers("x", xarray.Dataset({"a": 1}))


def test_tensors():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(as_numbers("x", torch.ones(2)), [1, 1])
    for wrong in (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, requires_grad=True), torch.ones(2, device="meta")):
        with pytest.raises(InvalidArgumentError, match="x: expected an array, got Tensor"):
            as_numbers("x", wrong)


def test_narrowed():
    values = np.array([1.5, np.nan, 0.0])
    assert narrowed("x", values, np.float16, SubjectError).dtype == np.float16
    assert narrowed("x", values.astype(np.float32), np.float64, SubjectError).dtype == np.float64
    for wrong, name in (([1e6], "float16"), ([1 / 3], "float32")):
        with pytest.raises(SubjectError, match=f"x: they came as {name} before, which cannot hold"):
            narrowed("x", np.array(wrong), name, SubjectError)


def test_names():
    assert as_names("ids", np.array(["a", "ü/b c"])) == ("a", "ü/b c")
    assert as_names("ids", []) == ()
    assert is_plain("…")
    with pytest.raises(InvalidArgumentError, match="ids: each must be unique, got 'a' twice"):
        as_names("ids", ["a", "b", "a"])
    for wrong in ("ab", None, 3):
        with pytest.raises(InvalidArgumentError, match="ids: expected several texts, got "):
            as_names("ids", wrong)
    for wrong in BAD_NAMES:
        with pytest.raises(InvalidArgumentError, match="ids: expected texts of one line that a file can hold, got "):
            as_names("ids", ["fine", wrong])


def test_any_real_array_is_kept_and_any_other_is_refused(counted):
    @counted_settings(counted)
    @given(st.data())
    def holds(data):
        shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
        good = data.draw(real_arrays(shape))
        try:
            made = as_numbers("x", good, booleans=True)
        except ClosedLoopError:
            assert getattr(good, "dtype", None) == np.longdouble
        else:
            assert made.dtype in (np.float32, np.float64)
            np.testing.assert_array_equal(made, np.asarray(good).astype(float))
        kind, bad = data.draw(spoilt_arrays(shape))
        if kind in ("type", "ragged", "large"):
            with pytest.raises(InvalidArgumentError, match=r"^x: expected"):
                as_numbers("x", bad)
        else:
            with contextlib.suppress(ClosedLoopError):
                assert as_numbers("x", bad).dtype in (np.float32, np.float64)

    holds()


def test_any_name_is_kept_or_refused(counted):
    @counted_settings(counted)
    @given(st.lists(good_names(), unique=True, max_size=4), bad_names())
    def holds(good, bad):
        assert as_names("ids", good) == tuple(good)
        with pytest.raises(InvalidArgumentError, match=r"^ids: expected texts"):
            as_names("ids", [*good, bad])

    holds()


def test_tensors_that_numpy_cannot_read_are_told_how():
    torch = pytest.importorskip("torch")
    for tensor in (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, requires_grad=True)):
        with pytest.raises(SubjectError, match=r"got Tensor \(.*return tensor.detach\(\).float\(\).cpu\(\).numpy\(\)"):
            as_numbers("subject 'cell'", tensor, error=SubjectError)
