"""A diagnosis: errors, the units behind them, and runs that go on."""

import sys

import numpy as np
import pytest
import xarray as xr

from closedloop import Units, open_recording
from closedloop.analysis import answers_of, driving_units, single_units
from closedloop.errors import ClosedLoopError, SubjectError
from closedloop.images.eight_bit import write_png
from closedloop.loop.commits import is_finished
from closedloop.loop.protocol import shown_protocol
from closedloop.protocols import diagnose, resume
from closedloop.recording.evolutions import experiment_of
from closedloop.subjects import FunctionSubject
from tests.planted import planted_folder, planted_subject


@pytest.fixture
def folder(tmp_path):
    return planted_folder(tmp_path / "pictures")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_spurious_unit_is_found_without_being_told(folder, seed):
    subject = planted_subject(seed)
    found = diagnose(subject, folder, layer="relu", seed=seed)
    answers = answers_of(found)
    assert answers["image"].values[answers["wrong"].values].tolist() == [f"green/0{i}.png" for i in range(3)]
    units = driving_units(found)
    assert units["corrects"].values.tolist() == [3 * (i == subject.model.spurious) for i in range(8)]
    assert int(units["breaks"][subject.model.spurious]) == 0
    shares = single_units(found)
    assert float(shares["corrected"]) == 1
    assert float(shares["random_unit"]) == 1 / 8


def test_what_is_recorded(folder):
    found = diagnose(planted_subject(), folder, controls=4, soa_s=0.5)
    kinds, counts = np.unique(found["kind"].values, return_counts=True)
    assert dict(zip(kinds.tolist(), counts.tolist(), strict=True)) == {"labelled": 24, "explained": 3, "correct": 4}
    assert found["attribution_wrong"].dims == ("presentation", "unit")
    assert found["diagnosed_layer"].item() == "relu"  # the last one with places
    survey = found["kind"].values == "labelled"
    assert np.isnan(found["ablated_difference"].values[survey]).all()
    assert (found["ablated_answer"].values[survey] == -1).all()
    controls = found["kind"].values == "correct"
    assert (found["target"].values[controls] != found["answer"].values[controls]).all()
    few = diagnose(planted_subject(), folder, every=2, most=1, controls=0)
    assert np.bincount(np.unique(few["kind"].values, return_inverse=True)[1]).tolist() == [1, 12]
    none = diagnose(planted_subject(), folder, explain="none")
    assert "ablated_answer" not in none


def test_a_black_box_is_told_its_errors_alone(folder):
    known = planted_subject()
    box = FunctionSubject(known.record, units=Units(("a", "b"), {"label": ("red", "green")}), name="box")
    found = diagnose(box, folder)
    assert int(answers_of(found)["wrong"].sum()) == 3
    assert "ablated_answer" not in found
    with pytest.raises(ClosedLoopError, match="layer: 'box' is a black box, without layers"):
        diagnose(box, folder, layer="relu")
    bare = FunctionSubject(known.record, units=Units.numbered("box", 2), name="box")
    assert int(answers_of(diagnose(bare, folder, classes=["red", "green"]))["wrong"].sum()) == 3


def same(found: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(found.variables) == set(expected.variables)
    for name in expected.variables:
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)


@pytest.mark.parametrize("block", range(4))
def test_what_was_broken_off_goes_on(folder, tmp_path, block, monkeypatch):
    module = sys.modules["closedloop.protocols.diagnose"]
    monkeypatch.setattr(module, "BLOCK", 12)
    monkeypatch.setattr(module, "EXPLAINED_BLOCK", 2)
    whole = diagnose(planted_subject(), folder, controls=2)

    class Dies:
        """The same network, until the cable comes off."""

        def __init__(self):
            self.calls, self.inner = 0, planted_subject()
            self.name, self.units, self.resolution = self.inner.name, self.inner.units, 16
            self.fingerprint = self.inner.fingerprint
            self.state, self.restore, self.opened = self.inner.state, self.inner.restore, self.inner.opened

        def record(self, images):
            self.calls += 1
            if self.calls > block:
                raise ValueError("the cable came off")
            return self.inner.record(images)

    with pytest.raises(SubjectError, match="the cable came off"):
        diagnose(Dies(), folder, controls=2, save=tmp_path / "run")
    assert not is_finished(tmp_path / "run")
    same(resume(tmp_path / "run", subject=planted_subject()), whole)
    same(resume(tmp_path / "run", subject=planted_subject()), whole)  # a finished one comes as it is
    again = shown_protocol(experiment_of(open_recording(tmp_path / "run")), "run")
    tables = again.summary(tmp_path / "run", whole).tables
    assert [t.title for t in tables][1:] == [
        "Most frequent confusions",
        "Units whose ablation corrects the most errors",
    ]
    assert tables[1].rows == [["green", "red", "3", tables[1].rows[0][3]]]


def test_images_that_changed_meanwhile(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["closedloop.protocols.diagnose"], "BLOCK", 12)
    told = []

    def watch(done, of):
        told.append((done, of))
        raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        diagnose(planted_subject(), folder, save=tmp_path / "run", progress=watch)
    assert told == [(12, 24)]
    write_png(folder / "red" / "00.png", np.zeros((3, 16, 16), np.float32))
    with pytest.raises(ClosedLoopError, match="images: expected the images with which"):
        resume(tmp_path / "run", subject=planted_subject())


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"layer": "rel"}, "no layer 'rel'"),
        ({}, {"classes": ["red"]}, "classes: expected 2 names, one for each output, got 1"),
        ({}, {"classes": ["red", "blue"]}, r"1 of 2 labels are no class .*'green' \(12 images\)"),
        ({}, {"explain": "all"}, "explain: expected 'errors' or 'none'"),
        ({}, {"every": 0}, "every: expected"),
        ({"units": "0"}, {}, 'expected all 2 outputs .* load it with layer="output" and units="all"'),
        ({"layer": "conv"}, {}, "expected all 2 outputs"),
    ],
)
def test_wrong_arguments(folder, tmp_path, change, options, message):
    with pytest.raises(ClosedLoopError, match=message):
        diagnose(planted_subject(**change), folder, save=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
