"""One array of numbers in every form in which people hand it over, and arrays that are none."""

from __future__ import annotations

import array

import numpy as np

from tests.strategies import UNREAL

#: Types in which numbers come; "whole" ones hold the values of images that are 0 or 1.
FLOATS = ("float16", "float32", "float64", "longdouble", ">f4", ">f8", "<f2")
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i4", "bool")


class Handing:
    """What numpy reads by its protocol, as arrays of other libraries are read."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._values, dtype)


class Own(np.ndarray):
    """An array of a class of somebody's own."""


def _layouts(a, rng):
    """The same values lying in memory in another way."""
    how = int(rng.integers(7))
    if how == 0:
        return np.asfortranarray(a)
    if how == 1:
        a = a.copy()
        a.flags.writeable = False
        return a
    if how == 2:
        return np.repeat(a, 2, axis=-1)[..., ::2]
    if how == 3:
        return a[::-1].copy()[::-1]
    if how == 4:
        fields = np.zeros(a.shape, [("x", a.dtype), ("y", "u1")])
        fields["x"] = a
        return fields["x"]
    if how == 5:
        return a.view(Own)
    return a


def dressed(values, rng, *, whole=False, booleans=False, lost=True):
    """Numbers in some type, layout and container, and what they must be read as, in float64.

    Args:
        values: float64, finite or NaN.
        rng: Draws.
        whole: Whether they may come as whole numbers.
        booleans: Whether they may come as yes and no besides.
        lost: Whether a masked array may be masked somewhere.
    """
    types = (WHOLE if booleans else WHOLE[:-1]) if whole and rng.random() < 0.4 else FLOATS
    dtype = np.dtype(str(rng.choice(types)))
    if dtype.kind in "iub":
        values = np.round(np.nan_to_num(values) * 100) if dtype.kind != "b" else values > 0.5
        values = np.clip(values, 0, 120) if dtype.kind != "b" else values
    with np.errstate(all="ignore"):
        a = np.asarray(values).astype(dtype)
    expected = a.astype(float)
    containers = ("list", "rows", "masked", "handing", "table", "labelled", "tensor", "buffer")
    kind = str(rng.choice(["array"] * 5 + list(containers)))
    if kind == "list" and dtype.itemsize <= 8:
        return f"{dtype} list", a.tolist(), expected
    if kind == "rows":
        return f"{dtype} rows", list(_layouts(a, rng)), expected
    if kind == "masked":
        mask = rng.random(a.shape) < (0.2 if lost else 0)
        filled = np.ma.masked_array(np.where(mask, a.dtype.type(1), a), mask=mask)
        return f"{dtype} masked", filled, np.where(mask, np.nan, expected)
    if kind == "handing":
        return f"{dtype} __array__", Handing(a), expected
    if kind == "table" and a.ndim == 2 and dtype.isnative and dtype != np.longdouble:
        import pandas as pd

        return f"{dtype} DataFrame", pd.DataFrame(a), expected
    if kind == "labelled":
        import xarray as xr

        return f"{dtype} DataArray", xr.DataArray(a), expected
    if kind == "tensor" and dtype.isnative and dtype.name in ("float16", "float32", "float64", "int64", "uint8"):
        try:
            import torch
        except ImportError:
            return f"{dtype} array", a, expected
        return f"{dtype} tensor", torch.from_numpy(a.copy()), expected
    if kind == "buffer" and a.ndim == 1 and dtype == np.float64:
        return "array.array", array.array("d", a), expected
    return f"{dtype} array", _layouts(a, rng), expected


def spoilt(values, rng, *, lost, rows=True):
    """What is no array of finite numbers of this shape, with a word for it.

    Args:
        values: float64.
        rng: Draws.
        lost: Whether a number may be missing there; NaN and masked ones are no fault then.
        rows: Whether the number of rows is given.
    """
    kinds = ["flat", "axis", "unreal", "texts", "infinite", "ragged", "objects", "lazy", "empty"]
    kind = str(rng.choice(kinds + ["more", "fewer"] * rows + ["nan", "masked"] * (not lost)))
    a = values.copy()
    place = tuple(int(rng.integers(n)) for n in a.shape)
    if kind in ("infinite", "nan"):
        a[place] = np.nan if kind == "nan" else rng.choice([np.inf, -np.inf])
        return kind, a.astype(rng.choice(["float32", "float64"]))
    made = {
        "more": lambda: np.concatenate([a, a[:1]]),
        "fewer": lambda: a[:-1],
        "flat": lambda: a.ravel()[:-1] if a.ndim == 1 else a.ravel(),
        "axis": lambda: a[None, None, None],
        "unreal": lambda: np.zeros(a.shape, rng.choice(UNREAL)),
        "texts": lambda: a.astype(str).tolist(),
        "ragged": lambda: [*a.tolist()[:-1], [1.0, [2.0]]],
        "objects": lambda: a.astype(object),
        "lazy": lambda: iter(a),
        "empty": list,
        "masked": lambda: np.ma.masked_array(a, mask=np.ones(a.shape, bool)),
    }[kind]()
    return kind, made
