"""Writes a whole recording as one netCDF4 file: what is in the run's arrays, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

from closedloop.errors import require
from closedloop.files import complete
from closedloop.formats.hdf5 import hdf5_file
from closedloop.recording.readers.netcdf import WIDENED


def write(recording: xr.Dataset, out: Path) -> None:
    """Writes a recording as netCDF4 (HDF5), compressed.

    Args:
        recording: What is to be written; it is read part by part.
        out: The file, ending in ``.nc``; must not exist.

    Raises:
        RecordingError: The file exists, or cannot be written.
        MissingExtraError: The extra "netcdf" is not installed.
    """
    h5netcdf = require("h5netcdf", "netcdf", "the format netcdf")
    dataset = recording.drop_encoding()
    for name, variable in dataset.variables.items():
        if variable.dtype == np.float16:
            dataset[name] = dataset[name].astype(np.float32).assign_attrs({WIDENED: "float16"})
    numeric = [n for n, v in dataset.data_vars.items() if v.dtype.kind in "fiu"]
    encoding = {n: {"zlib": True, "complevel": 4, "shuffle": True} for n in numeric}
    with complete(out) as temporary, hdf5_file(temporary) as plain, h5netcdf.File(plain, "w") as file:
        dataset.dump_to_store(H5NetCDFStore(file), encoding=encoding)
