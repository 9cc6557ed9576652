"""Training that is treated by what was seen: each treatment does what it says, and a run goes on after a stop."""

import csv
import sys
from dataclasses import replace

import numpy as np
import pytest

from closedloop.analysis import spurious_units
from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError
from closedloop.images.eight_bit import write_png
from closedloop.loop.protocol import protocol_of
from closedloop.networks.kept import read_network
from closedloop.protocols import resume, treat
from closedloop.protocols import treating as engine
from closedloop.protocols.spurious import Window
from closedloop.protocols.tasks import read_task
from closedloop.protocols.train import TrainSettings
from closedloop.protocols.treating import Feature, Findings, Network, early_errors, parse_treatments, read_group
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording, read_experiment

GROUPS = ["left", "left, marked", "right", "right, marked"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of 8 x 8 pixels, whose left or right half is bright; in training a red corner says the same."""
    rng = np.random.default_rng(0)

    def made(n, share):
        y = rng.integers(0, 2, n)
        x = 0.2 * rng.random((n, 3, 8, 8))
        x[y == 0, :, :, :4] += 0.3
        x[y == 1, :, :, 4:] += 0.3
        mark = rng.random(n) < np.where(y == 1, share, 1 - share)
        x[mark, :, 6:, 6:] = np.array([1, 0, 0])[:, None, None]
        return np.clip(x, 0, 1).astype(np.float32), y, mark

    (x, y, _), (xl, yl, _), (xt, yt, mark) = made(60, 1.0), made(40, 0.5), made(40, 0.5)
    path = tmp_path_factory.mktemp("task") / "task.npz"
    np.savez(path, x=x, y=y, x_labelled=xl, y_labelled=yl, x_test=xt, y_test=yt, group_test=2 * yt + mark,
             groups=np.array(GROUPS), classes=np.array(["l", "r"]))  # fmt: skip
    return str(path)


@pytest.fixture
def told(data):
    return {"data": data, "network": "conv", "steps": 20, "more": 10, "every": 10, "batch": 10, "rate": 0.05}


@pytest.fixture
def seen():
    """What a diagnosis might have seen."""
    images = np.zeros((2, 3, 8, 8), np.float32)
    images[:, 0] = 1
    errors = np.full((4, 3, 8, 8), 0.5, np.float32), np.array([0, 0, 1, 1])
    feature = Feature(3, 1, Window(6, 6, 2), images)
    return Findings("relu3", (feature,), (feature,), errors, ("conv2",))


def network(data, **changes):
    settings = {"data": data, "network": "conv", "steps": 20, "batch": 10}
    return Network(TrainSettings(**settings), read_task(data), **{"share": 0.5, "weight": 20, **changes})


def weights(one):
    return {name: value.clone() for name, value in one.model.state_dict().items()}


def test_it_trains_measures_and_keeps_the_networks(told, tmp_path):
    found = treat(**told, treatment="none", save=tmp_path / "run")
    assert found["step"].values.tolist() == [10, 20, 20, 30]
    assert found["phase"].values.tolist() == ["before", "before", "treated", "treated"]
    assert found["group"].values.tolist() == GROUPS
    assert np.array_equal(found["accuracy"][1], found["accuracy"][2])  # at once nothing has happened
    sizes = found["group_size"].values
    expected = (found["accuracy"].values * sizes).sum(1) / 40
    np.testing.assert_allclose(found["overall"].values, expected)
    np.testing.assert_allclose(found["worst"].values, found["accuracy"].values.min(1))
    before, facts = read_network(tmp_path / "run" / "before.safetensors")
    after, _ = read_network(tmp_path / "run")
    assert facts.classes == ("l", "r")
    assert any((a != b).any() for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True))
    assert treat(**told, treatment="none").identical(found)


def test_a_start_is_gone_on_from_as_if_it_had_been_trained_here(told, tmp_path):
    whole = treat(**told, treatment="none", save=tmp_path / "run")
    found = treat(**told, treatment="none", start=str(tmp_path / "run"))
    assert found["phase"].values.tolist() == ["before", "treated", "treated"]
    np.testing.assert_array_equal(found["accuracy"].values, whole["accuracy"].values[1:])
    assert [read_network(tmp_path / "run" / f"{name}.safetensors")[1].steps for name in ("before", "network")] == [
        20,
        30,
    ]
    for steps, name in ((10, ""), (20, "network.safetensors")):
        with pytest.raises(
            InvalidArgumentError, match=f"start: expected a network that was trained for steps={steps}, "
        ):
            treat(**told | {"steps": steps}, treatment="none", start=str(tmp_path / "run" / name))
    with pytest.raises(InvalidArgumentError, match=r"start: expected .* trained with seed=1, got .* with 0"):
        treat(**told, treatment="none", start=str(tmp_path / "run"), seed=1)
    with pytest.raises(InvalidArgumentError, match="start: expected a network 'mlp'"):
        treat(**{**told, "network": "mlp"}, treatment="none", start=str(tmp_path / "run"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("treatment", ["none", "reweight", "evolved", "ablate"])
@pytest.mark.parametrize("stop", [10, 20, 30])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(told, tmp_path, treatment, stop, seen, monkeypatch):
    module = sys.modules["closedloop.protocols.treat"]
    monkeypatch.setattr(module, "read_diagnosis", lambda run, task: seen)
    monkeypatch.setattr(module, "diagnosed", lambda *words, **numbers: tmp_path)
    told = told | {"more": 20}
    whole = treat(**told, treatment=treatment)

    def watch(done, of):
        if done == stop:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        treat(**told, treatment=treatment, save=tmp_path / "run", progress=watch)
    assert not open_recording(tmp_path / "run").attrs["finished"]
    assert resume(tmp_path / "run").identical(whole)
    assert resume(tmp_path / "run").identical(whole)
    assert (tmp_path / "run" / "network.safetensors").is_file()


def test_counter_examples_have_the_feature_or_have_it_taken_out_and_keep_their_label(data, seen):
    one = network(data, share=1.0)
    plain_x, plain_y = one._batch(3)
    one.treat([("evolved", "")], seen, early=None)
    x, y = one._batch(3)
    assert (y == plain_y).all()
    assert (x[:, :, :6] == plain_x[:, :, :6]).all()
    feature = one._normalized(seen.evolved[0].images)[0, :, 6:, 6:]
    pasted = [bool((image[:, 6:, 6:] == feature).all()) for image in x]
    assert 0 < sum(pasted) < len(x)
    others = {image[:, 6:, 6:].numpy().tobytes() for image, t in zip(one._x, one._y, strict=True) if t != 1}
    assert all(image[:, 6:, 6:].numpy().tobytes() in others for image, p in zip(x, pasted, strict=True) if not p)
    assert one.found == 1


def test_errors_are_trained_on(data, seen):
    one = network(data)
    one.treat([("errors", "")], seen, early=None)
    x, _ = one._batch(3)
    grey = one._normalized(np.full((1, 3, 8, 8), 0.5, np.float32))
    assert [bool((image == grey[0]).all()) for image in x] == [False] * 5 + [True] * 5
    assert one.found == 4


def test_early_errors_are_drawn_more_often(data):
    one = network(data, weight=50)
    wrong = np.zeros(60, bool)
    wrong[7] = True
    one.treat([("reweight", "")], Findings(), early=lambda: wrong)
    drawn = sum(int((image == one._x[7]).all()) for step in range(20) for image in one._batch(step)[0])
    assert 40 < drawn < 150  # of 200 some 92
    assert early_errors(one.told, one.task).shape == (60,)


def test_spurious_units_are_held_at_their_means(data, seen):
    one = network(data)
    one.advance(10)
    relu3 = []
    one.model.relu3.register_forward_hook(lambda module, inputs, output: relu3.append(output))
    one.named(one._x)
    mean = relu3[0].mean(0)[3]
    one.treat([("ablate", "")], seen, early=None)
    held = []
    one.model.relu3.register_forward_hook(lambda module, inputs, output: held.append(output))
    one.named(one._x[:4])
    assert all((image[3] == held[0][0][3]).all() for image in held[0])
    np.testing.assert_allclose(held[0][0][3].numpy(), mean.numpy(), rtol=1e-5)
    assert (one.facts.held, one.facts.channels) == ("relu3", (3,))
    one.advance(2)  # it trains on


def test_layers_are_frozen_and_removed(data, seen):
    one = network(data)
    before = weights(one)
    one.treat([("freeze", "conv1"), ("remove", "")], seen, early=None)
    one.advance(5)
    after = weights(one)
    assert all((before[name] == after[name]).all() for name in ("conv1.weight", "conv1.bias"))
    assert (before["output.weight"] != after["output.weight"]).any()
    assert "conv2.weight" not in after  # it hurt
    assert one.facts.removed == ("conv2",)
    assert one.found == 2


def test_a_layer_that_hurts_and_cannot_be_removed_stays(data, seen):
    one = network(data)
    one.treat([("remove", "")], replace(seen, hurting=("conv1",)), early=None)
    assert one.found == 0
    assert "conv1.weight" in weights(one)


@pytest.mark.filterwarnings("ignore:The shares miss")  # steps so large that layers hurt
def test_what_hurts_is_asked_of_loss_change_allocation(told, tmp_path):
    found = treat(**told, treatment="freeze", save=tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match=r"lca: expected a run of the network .* such as fc1, fc2"):
        treat(**told | {"network": "mlp"}, treatment="freeze", lca=str(tmp_path / "run" / "lca"), progress=pytest.fail)
    hurting = engine.hurting_layers_of(tmp_path / "run" / "lca", network(told["data"]).layers)
    assert found.attrs["found"] == len(hurting) > 0
    again = treat(**told, treatment="freeze", lca=str(tmp_path / "run" / "lca"))
    assert again.identical(found)


def test_a_group_of_errors_that_the_viewer_exported(told, data, tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(3):
        write_png(tmp_path / "images" / f"{i}.png", np.full((3, 8, 8), 0.2 * i, np.float32))
    with (tmp_path / "group.csv").open("w") as file:
        csv.writer(file).writerows([["path", "label", "predicted", "group"],
                                    *([f"images/{i}.png", "lr"[i % 2], "r", "l → r"] for i in range(3))])  # fmt: skip
    images, targets = read_group(tmp_path / "group.csv", read_task(data))
    assert images.shape == (3, 3, 8, 8)
    assert targets.tolist() == [0, 1, 0]
    found = treat(**told, treatment="errors", group=str(tmp_path / "group.csv"), save=tmp_path / "run")
    assert found.attrs["found"] == 3
    assert not (tmp_path / "run" / "diagnosis").exists()  # the group says all


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "group: expected rows with the columns path and label"),
        ("path,label\na.png,x\n", r"labels \['x'\], which are no class"),
        ("path,label\na.png,l\n", "no image 'a.png'"),
    ],
)
def test_a_group_that_does_not_fit(data, tmp_path, text, message):
    (tmp_path / "group.csv").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        read_group(tmp_path / "group.csv", read_task(data))
    with pytest.raises(InvalidArgumentError, match=r"group: expected a group.csv of the viewer"):
        read_group(tmp_path / "gone.csv", read_task(data))


def test_a_diagnosis_is_read(told, data, tmp_path):
    with np.load(data) as file:
        held = {name: file[name] for name in file.files}
    held["y_labelled"][:5] = 1 - held["y_labelled"][:5]  # what is labelled wrongly is an error
    np.savez(tmp_path / "task.npz", **held)
    told = told | {"data": str(tmp_path / "task.npz")}
    found = treat(**told, treatment="errors", save=tmp_path / "run", preferred=50)
    run = tmp_path / "run" / "diagnosis"
    seen = engine.read_diagnosis(run, read_task(told["data"]))
    wrong = 0 if seen.errors is None else len(seen.errors[1])
    assert found.attrs["found"] == wrong > 0
    assert seen.layer == "relu3"
    again = treat(**told, treatment="errors", diagnosis=str(run))
    assert again.identical(found)
    start = {"start": str(tmp_path / "run"), "diagnosis": str(run)}
    np.testing.assert_array_equal(treat(**told, treatment="errors", **start)["accuracy"][-1], found["accuracy"][-1])
    other = told | {"rate": 0.01}
    with pytest.raises(InvalidArgumentError, match="diagnosis: expected one of the network that is treated"):
        treat(**other, treatment="errors", diagnosis=str(run), save=tmp_path / "other")
    treat(**other, treatment="none", save=tmp_path / "begun")
    start = {"start": str(tmp_path / "begun"), "diagnosis": str(run)}
    with pytest.raises(InvalidArgumentError, match="diagnosis: expected one of the network that is treated"):
        treat(**other, treatment="errors", **start, progress=pytest.fail)  # before anything is trained
    held["classes"] = np.array(["left", "right"])
    np.savez(tmp_path / "renamed.npz", **held)
    other = told | {"data": str(tmp_path / "renamed.npz"), "diagnosis": str(run)}
    with pytest.raises(InvalidArgumentError, match=r"diagnosis: expected one .* with the 2 classes of .* left"):
        treat(**other, treatment="errors", progress=pytest.fail)
    with pytest.raises(RecordingError, match="diagnosis: expected a finished run of diagnose"):
        treat(**told, treatment="errors", diagnosis=str(tmp_path / "run"), progress=pytest.fail)
    with pytest.raises(RecordingError, match="diagnosis: expected a finished run of diagnose"):
        engine.read_diagnosis(tmp_path / "run", read_task(told["data"]))


def test_a_person_sees_before_at_once_and_after(told, tmp_path):
    treat(**told, treatment="freeze:conv1", save=tmp_path / "run")
    content = read_experiment(tmp_path / "run")
    summary = protocol_of(content, "run").summary(tmp_path / "run", open_recording(tmp_path / "run"))
    (table,) = summary.tables
    assert table.columns == ("group", "before", "at once", "at the end")
    assert [row[0] for row in table.rows][-2:] == ["overall", "worst"]
    assert summary.lines == ["The treatment made use of 1 layers."]
    assert summary.figures["treatment"].draw() is not None


def test_a_treated_network_is_no_start(told, tmp_path):
    treat(**told, treatment="remove:conv2", save=tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match=r"start: expected a network that was not treated .* were removed"):
        treat(**told | {"steps": 30}, treatment="none", start=str(tmp_path / "run" / "network.safetensors"))


def test_treatments_are_read():
    assert parse_treatments(("cut", "freeze:conv1")) == [("cut", ""), ("freeze", "conv1")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"treatment": "magic"}, "treatment: expected one of none, reweight, .* got 'magic'"),
        ({"treatment": ("none", "cut")}, "treatment: expected 'none' alone"),
        ({"treatment": "cut:conv1"}, "got 'cut:conv1'"),
        ({"share": 1.5}, "share: expected a share of at most 1, got 1.5"),
        ({"treatment": "freeze:"}, "got 'freeze:'"),
        ({"batch": 61}, "batch: expected at most 60, the examples that are trained on, got 61"),
        ({"layer": "output"}, "it is the answer itself"),
        ({"lca": "nowhere", "treatment": "freeze"}, "lca: nowhere: not a run"),
        ({"diagnosis": "nowhere"}, "diagnosis: nowhere: not a run"),
        ({"start": "nowhere"}, "start: network: expected a run of treat"),
        ({"steps": 15}, "steps: expected a multiple of every=10, got 15"),
        ({"data": "nowhere.npz"}, "data: expected 'digits' or an .npz file, got nowhere.npz"),
        ({"treatment": "freeze:conv9"}, "freeze: expected a layer of conv1, conv2, conv3, output, got 'conv9'"),
        ({"treatment": "remove:conv1"}, "remove: expected a layer whose output has the shape of its input"),
        ({"group": "gone.csv"}, "group: expected a group.csv"),
    ],
)
def test_what_does_not_fit_is_named(told, tmp_path, options, message):
    with pytest.raises(ClosedLoopError, match=message):
        treat(**{**told, "treatment": "errors", **options}, save=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_the_watermark_is_found_shown_in_its_colour_and_trained_away(tmp_path):
    pytest.importorskip("sklearn")
    found = treat(seed=2, treatment="evolved", save=tmp_path / "run")
    recording = open_recording(tmp_path / "run" / "diagnosis")
    units = spurious_units(recording)
    own = units.isel(suspect=units["spurious"].values)
    assert own.sizes["suspect"] > 0
    assert set(own["class_name"].values.tolist()) == {"8"}
    assert set(own["y"].values.tolist()) == set(own["x"].values.tolist()) == {12}
    corners = [Pictures(recording).kept(f"unit-{u}-8-evolved")[-4:, -4:].mean((0, 1)) for u in own["unit"].values]
    assert any(red > 200 and green < 60 and blue > 200 for red, green, blue in corners)
    before = float(found["worst"].values[found["phase"].values == "before"][-1])
    assert float(found["worst"].values[-1]) > before + 0.3


def stopped(told, folder, **options):
    """A treatment that was stopped after its first measurement."""

    def watch(done, of):
        if done:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        treat(**told, save=folder, progress=watch, **options)


@pytest.mark.parametrize("array", ["x", "y", "x_labelled", "y_labelled", "x_test", "group_test"])
def test_a_run_goes_on_with_no_other_images(told, data, tmp_path, array):
    own = tmp_path / "task.npz"
    with np.load(data) as file:
        held = {name: file[name] for name in file.files}
    np.savez(own, **held)
    told = told | {"data": str(own)}
    stopped(told, tmp_path / "run", treatment="none")
    np.savez(own, **held | {array: held[array][::-1]})
    with pytest.raises(InvalidArgumentError, match="images: expected the images with which"):
        resume(tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match="images: expected the images with which"):
        treat(**told, treatment="none", save=tmp_path / "run", exists="resume")
    np.savez(own, **held)
    assert resume(tmp_path / "run").equals(treat(**told, treatment="none"))


def test_a_run_goes_on_with_no_other_start(told, tmp_path):
    treat(**told, treatment="none", save=tmp_path / "first")
    treat(**told | {"rate": 0.01}, treatment="none", save=tmp_path / "second")
    start = tmp_path / "before.safetensors"
    start.write_bytes((tmp_path / "first" / "before.safetensors").read_bytes())
    stopped(told, tmp_path / "run", treatment="freeze:conv1", start=str(start))
    start.write_bytes((tmp_path / "second" / "before.safetensors").read_bytes())
    with pytest.raises(InvalidArgumentError, match="start: expected the start with which"):
        resume(tmp_path / "run")


def test_a_network_that_learnt_other_images_is_no_start(told, tmp_path):
    digits = told | {"data": "watermarked-digits"}
    treat(**digits, treatment="none", save=tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match=r"start: .* was trained on other images .* with seed 1"):
        treat(**digits, treatment="none", start=str(tmp_path / "run"), seed=1)


@pytest.mark.parametrize(
    ("name", "treatment"),
    [("group", "evolved"), ("diagnosis", "freeze"), ("diagnosis", "none"), ("lca", "freeze:conv1")],
)
def test_what_no_treatment_uses_is_refused(name, treatment, told):
    with pytest.raises(InvalidArgumentError, match=f"{name}: expected a treatment that uses it .* got {treatment}"):
        treat(**told, treatment=treatment, **{name: "of-mine"}, progress=pytest.fail)
