"""States as files: exact, and nothing is ever run."""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from closedloop.errors import RecordingError
from closedloop.recording.states import copied, pack_state, unpack_state

arrays = nps.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_, np.dtype("<U3"), np.dtype(">f8")]),
    nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**200), 2**200), st.floats(), st.text(max_size=5))
trees = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.one_of(plain, arrays),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=8,
    ),
    max_size=4,
)


def same(a, b):
    """Equal in type, structure, bits and kind of array."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, float):
        assert (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    else:
        assert a == b


@given(trees)
@settings(max_examples=120)
def test_round_trip_is_exact(state):
    same(unpack_state(pack_state(state)), state)


@given(trees)
@settings(max_examples=60)
def test_a_copy_is_the_same_and_shares_nothing(state):
    other = copied(state)
    same(other, state)

    def spoil(value):
        if isinstance(value, dict):
            for each in value.values():
                spoil(each)
            value["more"] = 1
        elif isinstance(value, list):
            for each in value:
                spoil(each)
            value.append(1)
        elif isinstance(value, np.ndarray):
            value[...] = 0

    before = pack_state(other)
    spoil(state)
    assert pack_state(other) == before


def test_random_generators_come_back_exactly():
    rng = np.random.default_rng(0)
    rng.standard_normal(7)
    state = unpack_state(pack_state({"rng": dict(rng.bit_generator.state)}))
    again = np.random.default_rng(1)
    again.bit_generator.state = state["rng"]
    np.testing.assert_array_equal(again.standard_normal(9), rng.standard_normal(9))


def test_memory_order_is_kept():
    matrix = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert unpack_state(pack_state({"m": matrix}))["m"].flags.f_contiguous


def test_numpy_scalars_and_tuples_become_plain():
    state = unpack_state(pack_state({"a": np.float32(0.1), "b": np.int8(-3), "c": np.bool_(True), "d": (1, 2)}))
    assert state == {"a": float(np.float32(0.1)), "b": -3, "c": True, "d": [1, 2]}
    assert [type(state[k]) for k in "abc"] == [float, int, bool]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"state\.x\[1\]: cannot save a object"),
        (b"raw", "cannot save a bytes"),
        ({1, 2}, "cannot save a set"),
        (1j, "cannot save a complex"),
        (np.complex128(1), "cannot save a complex"),
        (np.datetime64("2020-01-01"), "cannot save a date"),
        (np.array([None]), "cannot save an array of Python objects"),
        (np.ma.masked_array([1, 2], [0, 1]), "cannot save a masked array"),
        ({1: 2}, "cannot save the key 1"),
        ({"__array__": "a0"}, "cannot save the key '__array__'"),
    ],
)
def test_refuses_what_is_not_plain(value, message):
    with pytest.raises(RecordingError, match=message):
        pack_state({"x": [0, value]})


def test_what_holds_itself_is_refused():
    endless = {}
    endless["x"] = [endless]
    for call in (pack_state, copied):
        with pytest.raises(RecordingError, match=r"state\.x.* more than 100 deep; does one of them hold itself"):
            call(endless)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


def numpy_file(save, *arguments, **arrays):
    buffer = io.BytesIO()
    save(buffer, *arguments, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"PK\x03\x04",
        pickle.dumps(Trap()),
        numpy_file(np.save, np.zeros(3)),
        numpy_file(np.save, np.array(Trap()), allow_pickle=True),
        numpy_file(np.savez, other=np.zeros(3)),
        numpy_file(np.savez, tree=np.array(Trap(), dtype=object)),
        numpy_file(np.savez, tree=np.array("{not json")),
        numpy_file(np.savez, tree=np.array("[1, 2]")),
        numpy_file(np.savez, tree=np.array('{"a": {"__array__": "missing"}}')),
    ],
)
def test_refuses_other_files_and_runs_nothing(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordingError, match="state: not a saved state of closedloop"):
        unpack_state(data)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_never_gives_another_error():
    good = pack_state({"a": np.arange(5.0), "b": {"c": [1, 2.5, None, "x"]}})
    for i in range(0, len(good), 3):
        for data in (good[:i], good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :]):
            try:
                unpack_state(data)
            except RecordingError as error:
                assert "damaged" in str(error) or "no tree" in str(error)  # noqa: PT017 - some damage does no harm
