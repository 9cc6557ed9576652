"""Reading back a recording that was exported as netCDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from closedloop.errors import RecordingError, require
from closedloop.recording.lean import OWN

if TYPE_CHECKING:
    import xarray as xr

#: Attribute of a variable that was widened because netCDF has no such type: the type it had.
WIDENED = "closedloop_dtype"


def read_netcdf(path: Path) -> xr.Dataset:
    """Opens what `write` wrote, lazily.

    Raises:
        RecordingError: Another file, or a damaged one.
        MissingExtraError: The extra "netcdf" is not installed.
    """
    import xarray as xr  # slow to import, and not needed before the first images are shown

    require("h5netcdf", "netcdf", "a file ending in .nc")
    try:
        dataset: xr.Dataset = xr.open_dataset(path, engine="h5netcdf", decode_times=False)
        for name, variable in dataset.variables.items():
            if WIDENED in variable.attrs:
                dataset[name] = _narrowed(dataset[name])
            if variable.dtype.kind == "U":  # a scalar text
                dataset[name] = dataset[name].astype(object)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise RecordingError(
            f"{path}: cannot read it as netCDF ({error}); it is damaged, or another format."
        ) from error
    if not {"closedloop_schema", "finished"} <= dataset.attrs.keys() or not {"responses", OWN} & set(dataset.variables):
        dataset.close()
        raise RecordingError(
            f"{path}: a netCDF file, but not a recording; closedloop export RUN --to netcdf makes one."
        )
    attributes: dict[str, Any] = {k: v.item() if isinstance(v, np.generic) else v for k, v in dataset.attrs.items()}
    dataset.attrs = attributes
    return dataset


def _narrowed(array: xr.DataArray) -> xr.DataArray:
    """Returns the array in the type it had before it was written."""
    dtype = array.attrs.pop(WIDENED)
    narrow: xr.DataArray = array.astype(dtype)
    return narrow
