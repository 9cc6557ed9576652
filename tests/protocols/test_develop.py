"""Development: looks at a network while it is trained, going on after a stop, what a person sees."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from closedloop.analysis import development, read_allocation
from closedloop.errors import InvalidArgumentError, RecordingError, TrainingError
from closedloop.loop.protocol import protocol_of
from closedloop.loop.settings import read_settings
from closedloop.networks.modules import born
from closedloop.networks.small import SMALL, small_network
from closedloop.protocols import DevelopSettings, Training, develop, resume, train
from closedloop.protocols.develop import FOLLOWED as NAMED
from closedloop.protocols.develop import moments
from closedloop.recording.reader import open_recording, read_experiment
from closedloop.subjects import TorchSubject

FOLLOWED = {"layers": "fc1,output", "units": "0,1", "at": ("0,3",), "images": 24, "examples": 12, "starts": 2}
PARTS = {"generator": "pixels", "strategy": {"name": "isotropic", "population": 8}}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A small set of images of two classes, as a file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = rng.standard_normal((60, 4, 4)) + y[:, None, None]
    path = tmp_path_factory.mktemp("task") / "task.npz"
    np.savez(path, x=x[:40], y=y[:40], x_validation=x[40:], y_validation=y[40:])
    return {"data": str(path), "batch": 10, "steps": 6, "every": 2}


@pytest.fixture(scope="module")
def run(task, tmp_path_factory):
    """The folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    develop(**task, **FOLLOWED, **PARTS, save=folder)
    return folder


@pytest.fixture(scope="module")
def whole(run):
    """Its recordings."""
    return open_recording(run).load(), read_allocation(run / "training").load()


def stop_at(done):
    """Interrupts a run when so many parts are committed."""

    def progress(so_far, of, what):
        if so_far == done:
            raise KeyboardInterrupt("stop")

    return progress


def test_each_unit_is_followed_on_one_axis(run):
    found = development(open_recording(run))
    assert found["step"].values.tolist() == [0, 3, 6]
    assert found["layer"].values.tolist() == ["fc1", "fc1", "output", "output"]
    assert found["image"].shape == (3, 4, 2, 1, 4, 4)
    shares = read_allocation(run / "training")
    for layer, unit in (("fc1", 0), ("output", 2)):
        own = shares["by_layer"].sel(layer=layer).values
        np.testing.assert_allclose(found["allocation"][:, unit], [0, own[:3].sum(), own[3:].sum()])
    np.testing.assert_allclose(found["loss"], [shares["loss_before"][0], shares["loss"][2], shares["loss"][5]])
    assert set(found["preferred_class"].values.ravel()) <= {"0", "1"}
    recording = open_recording(run)
    kinds = recording.to_dataframe().drop_duplicates(["stimulus_id", "repeat", "generation"])["kind"].value_counts()
    assert kinds.to_dict() == {"reference": 3 * 12, "retest": 3 * 4 * 2 * 2, "earlier": (1 + 2) * 4 * 2}


def test_scores_come_from_fresh_presentations_and_beat_the_fixed_set(task, tmp_path):
    found = develop(**task, **{**FOLLOWED, "images": 80}, **PARTS, save=tmp_path / "run")
    recording = open_recording(tmp_path / "run")
    own = recording.isel(presentation=np.flatnonzero(recording["kind"].values == "retest"))
    row = own.isel(presentation=int(np.flatnonzero((own["unit"] == 1) & (own["training_step"] == 6))[0]))
    start = int(row["start"])
    assert float(row["responses"][1]) == pytest.approx(float(found["response"][2, 1, start]), rel=1e-6)
    assert (found["response"].mean("start") > found["best"]).mean() > 0.5
    assert (found["drive"] > 1).mean() > 0.8


@pytest.mark.parametrize("network", SMALL)
def test_every_bundled_network_has_layers_that_are_followed_where_none_are_named(network):
    layers = dict(small_network(network, 1, 8, 2, 0).named_modules())
    assert set(NAMED[network]) <= layers.keys()


def test_marked_digits_in_colours_are_followed():
    pytest.importorskip("sklearn")
    told = {"data": "watermarked-digits", "network": "conv", "steps": 2, "subset": 50, "units": "0,1", "starts": 1}
    found = develop(**told, looks=2, images=24, examples=12, **PARTS)
    assert found["layer"].values.tolist() == ["conv1"] * 2 + ["conv3"] * 2 + ["output"] * 2
    assert np.isfinite(found["drive"]).all()


def test_training_goes_on_as_if_nobody_had_looked(task, tmp_path):
    for network in ("mlp", "resnet"):
        layers = {"layers": "fc1" if network == "mlp" else "block1"}
        told = {**task, "network": network, "steps": 3, "rate": 0.01}
        develop(**told, **{**FOLLOWED, **layers, "at": ("1",)}, **PARTS, save=tmp_path / network / "looked")
        train(**told, save=tmp_path / network / "alone")
        looked = read_allocation(tmp_path / network / "looked" / "training")
        assert looked.identical(read_allocation(tmp_path / network / "alone"))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("done", [1, 4, 6])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(task, tmp_path, done, whole):
    with pytest.raises(KeyboardInterrupt, match="stop"):
        develop(**task, **FOLLOWED, **PARTS, save=tmp_path / "run", progress=stop_at(done))
    assert not open_recording(tmp_path / "run").attrs["finished"]
    found = resume(tmp_path / "run", progress=False)
    assert found.identical(development(whole[0]))
    assert open_recording(tmp_path / "run").load().equals(whole[0])
    assert read_allocation(tmp_path / "run" / "training").identical(whole[1])
    assert resume(tmp_path / "run").identical(found)


def test_what_was_evolved_before_a_stop_within_the_first_look_is_shown_again_later(task, tmp_path, whole):
    with pytest.raises(KeyboardInterrupt, match="stop"):
        develop(**task, **FOLLOWED, **PARTS, save=tmp_path / "run", progress=stop_at(2))
    resume(tmp_path / "run", progress=False)
    assert open_recording(tmp_path / "run").load().equals(whole[0])


def test_training_that_was_stopped_between_two_looks_goes_on(task, tmp_path, whole, monkeypatch):
    from closedloop.protocols.lca import LossChangeAllocation

    step = LossChangeAllocation.stepped

    def stopped(self):
        if self.steps_done == 4:
            raise KeyboardInterrupt("stop")
        step(self)

    monkeypatch.setattr(LossChangeAllocation, "stepped", stopped)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        develop(**task, **FOLLOWED, **PARTS, save=tmp_path / "run")
    monkeypatch.undo()
    same = develop(**task, **FOLLOWED, **PARTS, save=tmp_path / "run", exists="resume")
    assert same.identical(development(whole[0]))


def test_in_memory_it_is_the_same(task, whole):
    assert develop(**task, **FOLLOWED, **PARTS).identical(development(whole[0]))


def test_another_experiment_is_not_gone_on_with(task, tmp_path):
    develop(**{**task, "steps": 3}, **FOLLOWED, **PARTS, save=tmp_path / "run")
    with pytest.raises(RecordingError, match="holds another experiment: starts is 2 there, and 1 here"):
        develop(**{**task, "steps": 3}, **{**FOLLOWED, "starts": 1}, **PARTS, save=tmp_path / "run", exists="resume")


def test_a_person_sees_layers_a_filmstrip_and_what_likeness_is_held_against(run):
    recording = open_recording(run)
    summary = protocol_of(read_experiment(run), "run").summary(run, recording)
    assert [table.title for table in summary.tables] == ["fc1: medians over 2 units", "output: medians over 2 units"]
    assert [row[0] for row in summary.tables[0].rows] == ["0", "3", "6"]
    words = " ".join(summary.lines)
    assert "Two evolutions of the same unit at the last look" in words
    assert "What was evolved at step 0 drives its unit at the end by" in words
    assert "seed 0" in words
    assert len(summary.figures["development"].draw().axes) == 8


def own_training(subject=None):
    """A linear network of colour images whose training is handed over."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((30, 3, 4, 4), dtype=np.float32))
    y = (x[:, 0].mean((1, 2)) > 0.5).long()
    model = born(lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def learn(step):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()

    made = None if subject is None else subject(model)
    return Training(model, nn.functional.cross_entropy, (x, y), optimizer, learn, subject=made)


def test_a_training_of_ones_own_is_followed_and_its_recording_goes_on(tmp_path):
    told = {**FOLLOWED, "layers": "output", "steps": 4, "at": ("0,2",), **PARTS}
    found = develop(own_training(), **told, save=tmp_path / "whole")
    assert found["image"].shape[3:] == (3, 4, 4)
    assert found.attrs["subject"] == read_allocation(tmp_path / "whole" / "training").attrs["subject"] == "Sequential"
    assert np.isfinite(found["allocation"]).all()  # the output is that of the last layer, "1"
    with pytest.raises(KeyboardInterrupt, match="stop"):
        develop(own_training(), **told, save=tmp_path / "run", progress=stop_at(4))
    with pytest.raises(RecordingError, match="its training was handed over; call develop with it again"):
        resume(tmp_path / "run")
    with pytest.raises(RecordingError, match="holds another experiment: steps is 4 there, and 5 here"):
        develop(own_training(), **{**told, "steps": 5}, save=tmp_path / "run", exists="resume")
    assert develop(own_training(), **told, save=tmp_path / "run", exists="resume").identical(found)


def test_a_subject_of_ones_own_needs_images_and_must_follow_the_weights(tmp_path):
    def subject(model):
        return TorchSubject(model, resolution=4, mean=(0, 0, 0), std=(1, 1, 1), engine="eager")

    told = {"steps": 3, "at": ("0",), "images": 24, "strategy": PARTS["strategy"], "generator": "pixels"}
    pictures = np.random.default_rng(1).random((6, 3, 4, 4), dtype=np.float32)
    found = develop(own_training(subject), references=pictures, **told)
    assert found.attrs["selectivity"] == "sparseness"
    by_class = develop(own_training(subject), **told)  # its inputs are images, too, and have classes
    assert by_class.attrs["selectivity"] == "share of variance explained by class"

    def older(model):
        return subject(born(lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), 1))

    with pytest.raises(KeyboardInterrupt, match="stop"):
        develop(own_training(older), references=pictures, **told, save=tmp_path / "run", progress=stop_at(4))
    with pytest.raises(TrainingError, match="expected other responses than before the last 3 steps of training"):
        develop(own_training(older), references=pictures, **told, save=tmp_path / "run", exists="resume")
    with pytest.raises(TrainingError, match="expected other responses than before the last 3 steps of training"):
        develop(own_training(older), references=pictures, **told)


def test_nothing_is_left_of_a_run_that_fails_before_its_first_look(task, tmp_path, monkeypatch):
    from closedloop.loop.presenter import Presenter

    def fails(self, *args, **options):
        raise InvalidArgumentError("no images today")

    monkeypatch.setattr(Presenter, "show", fails)
    with pytest.raises(InvalidArgumentError, match="no images today"):
        develop(**task, **FOLLOWED, **PARTS, save=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("told", "expected"),
    [({"looks": 5}, (0, 6, 25, 56, 100)), ({"at": ("7", "3, 50")}, (3, 7, 50, 100)), ({"at": (0, 100)}, (0, 100))],
)
def test_looks_come_closer_at_the_beginning_or_where_they_are_said(told, expected):
    assert moments(read_settings(DevelopSettings, told), 100) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": ("0,7",)}, "at: expected steps from 0 to 6, such as 0,10,100"),
        ({"at": ("soon",)}, "at: expected steps"),
        ({"at": "²"}, "at: expected steps"),
        ({"images": 7}, "images: expected at least one generation of thread 'unit-0', 8 images, got 7"),
        ({"layers": "fc9"}, "no layer 'fc9'"),
        ({"units": "99"}, "units"),
        ({"generator": "pixel"}, "no generator named 'pixel'"),
        ({"strategy": "autos"}, "no optimizer named 'autos'"),
        ({"references": "nowhere"}, "references: expected a folder of images, got nowhere"),
        ({"speed": 1}, "speed: no such setting"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_written(options, message, task, tmp_path):
    with pytest.raises(InvalidArgumentError, match=message):
        develop(**{**task, **FOLLOWED, **PARTS, **options}, save=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_inputs_that_are_no_images_are_named():
    model = nn.Linear(3, 2)
    data = torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])
    mine = Training(model, nn.functional.cross_entropy, data, torch.optim.SGD(model.parameters(), 0.1), print)
    with pytest.raises(
        InvalidArgumentError, match=r"training: expected inputs \(n, 3 or 1, side, side\), got \(4, 3\)"
    ):
        develop(mine, steps=2)


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_at_random_moments_it_goes_on_to_the_same(task, tmp_path):
    words = ["develop", "--data", task["data"], "--steps", "40", "--batch", "10", "--every", "2", "--looks", "6",
             "--layers", "fc1,output", "--units", "0,1", "--images", "60", "--examples", "12", "--generator", "pixels",
             "--strategy", "{name: isotropic, population: 8}"]  # fmt: skip
    code = "import sys\nfrom closedloop.cli import main\nmain(sys.argv[1:])"

    def started(folder):
        command = [sys.executable, "-c", code, *words, "--exists", "resume", "--out", str(folder)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    assert started(tmp_path / "whole").wait() == 0
    whole_s, rng = time.monotonic() - began, np.random.default_rng()
    for _ in range(3):
        child = started(tmp_path / "run")
        time.sleep(whole_s * rng.uniform(0.4, 0.9))
        child.kill()
        child.wait()
    assert started(tmp_path / "run").wait() == 0
    for part in (".", "training"):
        one, other = (open_recording(tmp_path / name / part).load() for name in ("run", "whole"))
        assert one.equals(other)
