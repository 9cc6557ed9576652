"""BrainIO: the three files, as Brain-Score reads them."""

import csv
import io
import zipfile

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from closedloop import open_recording, render
from closedloop.errors import InvalidArgumentError
from closedloop.formats import export
from closedloop.images.eight_bit import to_bytes

from .conftest import Cells, evolution


def test_the_files_agree_with_the_recording(run, tmp_path):
    recording = open_recording(run)
    folder = export(run, "brainio", tmp_path / "out", identifier="lab.Author2026", region="V4")
    assert sorted(p.name for p in folder.iterdir()) == [
        "assy_lab_Author2026.nc", "stimulus_lab_Author2026_stimuli.csv", "stimulus_lab_Author2026_stimuli.zip"
    ]  # fmt: skip
    with xr.open_dataset(folder / "assy_lab_Author2026.nc", engine="h5netcdf") as assembly:
        assert list(assembly.data_vars) == ["data"]
        data = assembly["data"]
        assert data.dims == ("presentation", "neuroid")
        np.testing.assert_array_equal(data, recording["responses"])
        assert data["stimulus_id"].values.tolist() == recording["stimulus_id"].values.tolist()
        assert data["repetition"].values.tolist() == recording["repeat"].values.tolist()
        assert data["neuroid_id"].values.tolist() == ["cell.0", "cell.1", "cell.2"]
        assert set(data["region"].values) == {"V4"}
        assert set(data["model"].values) == {"cells/12"}
        assert assembly.attrs["identifier"] == "lab.Author2026"
        assert assembly.attrs["stimulus_set_identifier"] == "lab.Author2026.stimuli"
        assert dict(zip(data["thread"].values, data["generator_sha256"].values, strict=True)) == {
            **dict(zip(recording["evolution"].values, recording["generator_sha256"].values, strict=True)),
            "reference": "",
        }
    with (folder / "stimulus_lab_Author2026_stimuli.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len({row["stimulus_id"] for row in table}) == len(table)
    assert {row["stimulus_id"] for row in table} == set(recording["stimulus_id"].values)
    with zipfile.ZipFile(folder / "stimulus_lab_Author2026_stimuli.zip") as archive:
        assert sorted(archive.namelist()) == sorted(row["filename"] for row in table)
        for row in table[::9]:
            with Image.open(io.BytesIO(archive.read(row["filename"]))) as image:
                expected = to_bytes(render(recording, row["stimulus_id"]))[0].transpose(1, 2, 0)
                np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_time_axis(tmp_path):
    recording = evolution(None, Cells(2, bins=3), threads=1, references=False)
    folder = export(recording, "brainio", tmp_path / "out")
    with xr.open_dataset(next(folder.glob("*.nc")), engine="h5netcdf") as assembly:
        assert assembly["data"].dims == ("presentation", "neuroid", "time_bin")
        assert assembly["time_bin_start"].values.tolist() == [0, 1, 2]
        assert assembly["time_bin_end"].values.tolist() == [1, 2, 3]


def test_a_missing_image_leaves_nothing_behind(run, tmp_path):
    recording = open_recording(run).drop_encoding()
    recording.encoding = {}
    with pytest.raises(Exception, match="no reference image"):
        export(recording, "brainio", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_bad_identifier(run, tmp_path):
    with pytest.raises(InvalidArgumentError, match="identifier: expected letters"):
        export(run, "brainio", tmp_path / "out", identifier="a/b")
