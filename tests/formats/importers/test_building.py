"""Arrays from files that may not run code."""

import numpy as np
import pytest

from closedloop.errors import RecordingError
from closedloop.formats.importers.building import Presentations, check_folder, read_arrays
from closedloop.recording.layout import REFERENCE


def test_reads_plain_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "b.npz", x=np.arange(2), y=["ü"])
    assert read_arrays(tmp_path / "a.npy")[""].tolist() == [0, 1, 2]
    assert {k: v.tolist() for k, v in read_arrays(tmp_path / "b.npz").items()} == {"x": [0, 1], "y": ["ü"]}


def test_refuses_everything_else(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}]))
    (tmp_path / "text.npy").write_text("no array")
    for name in ("objects.npy", "text.npy"):
        with pytest.raises(RecordingError, match=f"{name}: it holds pickled Python objects"):
            read_arrays(tmp_path / name)
    np.save(tmp_path / "cut.npy", np.arange(100))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:200])
    with pytest.raises(RecordingError, match=r"cut\.npy: cannot read it as a numpy file"):
        read_arrays(tmp_path / "cut.npy")
    with pytest.raises(RecordingError, match="which is a file"):
        check_folder(tmp_path / "cut.npy")


def test_rows_of_presentations():
    part = Presentations()
    part.add("main", "a", np.array([1.0, 2.0]), 3.0, np.array([4.0]))
    part.add(REFERENCE, "b", np.array([5.0, 6.0]), 7.0)
    rows = part.rows(2, latent=2)
    np.testing.assert_array_equal(rows.responses, [[1, 2], [5, 6]])
    np.testing.assert_array_equal(rows.codes, [[4, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(rows.scores, [3, np.nan])
    assert rows.coords["kind"].tolist() == ["evolved", "reference"]
    assert rows.coords["generation"].tolist() == [2, 2]
