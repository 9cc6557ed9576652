"""CSV: every number reads back as the same."""

import csv

import numpy as np
import pandas as pd

from closedloop import open_recording
from closedloop.formats import export

from .conftest import Cells, evolution


def numbers(cells):
    return np.vectorize(lambda cell: float(cell or "nan"))(cells.to_numpy())


def test_reads_back(any_run, tmp_path):
    recording = open_recording(any_run)
    path = export(any_run, "csv", tmp_path / "run.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(table.columns[:6]) == ["thread", "generation", "kind", "stimulus_id", "repeat", "onset_s"]
    for name in ("thread", "generation", "kind", "stimulus_id", "repeat"):
        assert table[name].tolist() == recording[name].values.astype(str).tolist()
    np.testing.assert_array_equal(numbers(table["score"]), recording["score"])
    responses = recording["responses"].values.reshape(len(table), -1)
    dtype = recording["responses"].dtype
    np.testing.assert_array_equal(numbers(table.iloc[:, -responses.shape[1] :]).astype(dtype), responses)
    assert set(table["subject"]) == {"cells/12"}
    if "optimizer" not in recording.coords:
        return
    known = dict(zip(recording["evolution"].values, recording["optimizer"].values, strict=True))
    assert table["optimizer"].tolist() == [known.get(thread, "") for thread in recording["thread"].values]


def test_columns_of_a_time_axis(tmp_path):
    recording = evolution(None, Cells(2, bins=2), threads=1)
    with export(recording, "csv", tmp_path / "run.csv").open() as file:
        header = next(csv.reader(file))
    assert header[-4:] == ["cell.0[0]", "cell.0[1]", "cell.1[0]", "cell.1[1]"]
