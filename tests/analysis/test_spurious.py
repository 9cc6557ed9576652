"""Tests by transplants, against pairs counted by hand."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from closedloop.analysis import spurious_units
from closedloop.errors import InvalidArgumentError


def recording(suspects):
    """A diagnosis of three classes: of each suspect the answers to 20 images with each window; it speaks for 1."""
    rows = []
    for unit, (pasted, control, held) in suspects.items():
        for kind, answers in (("pasted", pasted), ("pasted-control", control)):
            rows += [(kind, unit, f"image-{i}", a, h, 4 + 4 * (i == 0)) for i, (a, h) in enumerate(zip(answers, held))]  # noqa: B905
        rows.append(("removed", unit, "donor", 0, -1, 4))
    kind, unit, ids, answer, held, y = zip(*rows, strict=True)
    each = np.ones(len(rows), int)
    columns = {
        "kind": kind, "suspect": unit, "speaks_for": each, "recipient": ids, "answer": answer, "held_answer": held,
        "target": 0 * each, "window_y": y, "window_x": 2 * each, "window_side": 4 * each,
    }  # fmt: skip
    coords = {name: ("presentation", list(values)) for name, values in columns.items()}
    return xr.Dataset(coords=coords | {"label": ("neuroid", ["a", "b", "c"])}).assign(
        responses=(("presentation", "neuroid"), np.zeros((len(rows), 3)))
    )


def test_pairs_are_counted():
    half = [1] * 15 + [0] * 5, [1] * 2 + [0] * 18, [0] * 9 + [1] * 11
    none = [0] * 20, [0] * 20, [0] * 20
    found = spurious_units(recording({7: half, 3: none}))
    assert found["unit"].values.tolist() == [7, 3]
    assert found["class_name"].values.tolist() == ["b", "b"]
    np.testing.assert_allclose(found["turned"].values, [0.75, 0])
    np.testing.assert_allclose(found["turned_control"].values, [0.1, 0])
    np.testing.assert_allclose(found["p"].values, [stats.binom.sf(12, 13, 0.5), 1])
    np.testing.assert_allclose(found["p_holm"].values[0], 2 * found["p"].values[0])
    assert found["spurious"].values.tolist() == [True, False]
    assert float(found["carried"][0]) == 9 / 15
    assert np.isnan(found["carried"][1])
    assert found["mended"].values.tolist() == [1, 1]
    assert found["y"].values.tolist() == [4, 4]  # the most frequent window


def test_many_images_and_a_small_share_are_not_enough():
    few = [1] * 7 + [0] * 13, [0] * 20, [0] * 20
    assert float(spurious_units(recording({1: few}))["p"][0]) < 0.01
    assert not spurious_units(recording({1: few}))["spurious"].any()
    assert spurious_units(recording({1: few}), share=0.3)["spurious"].all()


def test_a_window_that_turns_whatever_it_holds_is_not():
    same = [1] * 20, [1] * 20, [0] * 20
    assert not spurious_units(recording({1: same}))["spurious"].any()


def test_other_recordings_are_refused():
    with pytest.raises(InvalidArgumentError, match="recording: expected a run of diagnose that tested units"):
        spurious_units(xr.Dataset())
