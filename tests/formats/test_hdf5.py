"""Files under HDF5 on a disk that fails."""

import h5py
import numpy as np
import pytest

from closedloop.formats.hdf5 import PatientFile, hdf5_file


def fill(file, size):
    """Writes two arrays, one of them compressed, and reads the first one back."""
    values = np.random.default_rng(0).random(size)
    with h5py.File(file, "w") as opened:
        opened.create_dataset("plain", data=values)
        opened.create_dataset("packed", data=values, compression="gzip", chunks=(100,))
        np.testing.assert_array_equal(opened["plain"][:], values)
        opened.attrs["note"] = "ü" * 100
    return values


def test_what_is_written_is_there(tmp_path):
    with hdf5_file(tmp_path / "x.h5") as file:
        values = fill(file, 5000)
    with h5py.File(tmp_path / "x.h5") as found:
        np.testing.assert_array_equal(found["packed"][:], values)
        assert found.attrs["note"] == "ü" * 100


@pytest.mark.parametrize("room", [0, 100, 3000, 40000, 60000, 75000])
def test_a_full_disk_is_an_error_at_the_end(tmp_path, monkeypatch, room, tally):
    tally("full disks")
    left = [room]

    class Disk:
        def __init__(self, raw):
            self.raw = raw

        def __getattr__(self, name):
            return getattr(self.raw, name)

        def write(self, data):
            left[0] -= len(data)
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return self.raw.write(data)

    begin = PatientFile.__init__
    monkeypatch.setattr(PatientFile, "__init__", lambda file, raw: begin(file, Disk(raw)))
    with pytest.raises(OSError, match="No space left on device"), hdf5_file(tmp_path / "x.h5") as file:
        fill(file, 5000)


def test_an_error_of_another_kind_stays(tmp_path):
    def fail(file):
        file.write(b"something")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), hdf5_file(tmp_path / "x.h5") as file:
        fail(file)
