"""Trainings with several seeds, plain and changed: what is observed over them, and a run that goes on after a stop."""

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import (
    hurting_layers,
    trained_change,
    trained_layers,
    trained_observations,
    training_change,
    training_observations,
)
from closedloop.errors import InvalidArgumentError
from closedloop.figures import plot_trainings
from closedloop.loop.protocol import protocol_of
from closedloop.protocols import resume, train, train_seeds
from closedloop.recording.reader import open_recording, read_experiment


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A small set of images of two classes, as a file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = rng.standard_normal((60, 4, 4)) + y[:, None, None]
    path = tmp_path_factory.mktemp("task") / "task.npz"
    np.savez(path, x=x[:40], y=y[:40], x_validation=x[40:], y_validation=y[40:])
    return {
        "data": str(path),
        "batch": 10,
        "steps": 4,
        "seed": 3,
        "seeds": 3,
        "against": ("freeze=output", "remove=fc3"),
    }


@pytest.fixture(scope="module")
def run(told, tmp_path_factory):
    place = tmp_path_factory.mktemp("trainings") / "run"
    train_seeds(**told, save=place)
    return place


def test_it_says_what_the_runs_themselves_say(told, run):
    recording = open_recording(run)
    own = {name: value for name, value in told.items() if name not in ("seeds", "against")}
    plain = [train(**own | {"seed": seed}) for seed in (3, 4, 5)]
    assert recording["run_seed"].values.tolist() == [3, 4, 5] * 3
    xr.testing.assert_allclose(trained_observations(recording), training_observations(plain))
    layers = trained_layers(recording)
    xr.testing.assert_allclose(layers.drop_vars(("by_seed", "seed")), hurting_layers(plain))
    changed = [train(**own | {"seed": seed, "remove": "fc3"}) for seed in (3, 4, 5)]
    expected = training_change(plain, changed).set_index(measure="measure")
    found = trained_change(recording, "remove=fc3").set_index(measure="measure")
    for name in ("plain", "changed", "difference", "low", "high", "p"):
        np.testing.assert_allclose(found[name].sel(measure=expected["measure"]), expected[name])
    assert found["by_seed"].shape == (4, 3)
    own = recording.isel(
        presentation=recording["change"].values == "remove=fc3", neuroid=recording["measure"].values == "fc3"
    )
    assert np.isnan(own["responses"]).all()
    with pytest.raises(
        InvalidArgumentError, match=r"change: expected one of \['freeze=output', 'remove=fc3'\], got 'l2=1'"
    ):
        trained_change(recording, "l2=1")
    with pytest.raises(InvalidArgumentError, match="recording: expected a run of train_seeds"):
        trained_layers(xr.Dataset(coords={"change": ("presentation", [""]), "run_seed": ("presentation", [0])}))


@pytest.mark.parametrize("stop", [1, 4])
def test_trainings_that_were_stopped_go_on_as_if_they_had_not(told, run, tmp_path, stop):
    def watch(done, of):
        assert of == 9
        if done == stop:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        train_seeds(**told, save=tmp_path / "run", progress=watch)
    part = open_recording(tmp_path / "run")  # what is done is shown meanwhile
    assert plot_trainings(part).axes
    assert protocol_of(read_experiment(tmp_path / "run"), "run").summary(tmp_path / "run", part).tables
    assert resume(tmp_path / "run").load().equals(open_recording(run).load())


def test_a_person_sees_layers_changes_and_a_figure(run, tmp_path):
    recording = open_recording(run)
    summary = protocol_of(read_experiment(run), "run").summary(run, recording)
    assert [table.title for table in summary.tables] == [
        "Observed",
        "Change of the loss by each layer",
        "freeze=output: what it does",
        "remove=fc3: what it does",
    ]
    assert [row[0] for row in summary.tables[1].rows] == ["fc1", "fc2", "fc3", "output"]
    assert summary.lines[0].startswith("Layers that hurt, net, beyond chance")
    assert summary.lines[1].startswith("With freeze=output: ")
    figure = summary.figures["trainings"].draw()
    figure.savefig(tmp_path / "page.png", dpi=30)
    assert len(figure.axes) == 5
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["freeze=output", "remove=fc3"]
