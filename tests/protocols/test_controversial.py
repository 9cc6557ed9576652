"""Images about which two models disagree: made by gradients and without, and judged by a third subject."""

import numpy as np
import pytest

from closedloop.analysis import controversy
from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError, SubjectError
from closedloop.figures import plot_controversy
from closedloop.generators import Fourier, Pixels
from closedloop.protocols import controversial, present, resume
from closedloop.subjects import FunctionSubject, GaborSubject
from tests.small_runs import SIDE, Cut, pictures

SMALL = {
    "copies": 2,
    "steps": 25,
    "images": 200,
    "optimizer": "isotropic",
    "naturals": 18,
    "repeats": 3,
    "progress": False,
    "seed": 1,
}


def model(orientation):
    return GaborSubject(resolution=SIDE, orientation_deg=orientation)


def judge(noise=0.02):
    """The first of the two models is right about it."""
    rng = np.random.default_rng(0)
    inner = model(0.0)
    return FunctionSubject(lambda x: inner.record(x) + noise * rng.normal(size=(len(x), 1)), units=["it"], name="judge")


def dispute(blocks=-1, **given):
    options = {"subject": Cut(judge(0), blocks), "generator": Fourier(SIDE, 3), "references": pictures(20), **SMALL}
    return controversial([model(0.0), model(90.0)], 0, **{**options, **given})


@pytest.fixture(scope="module")
def disputed():
    return dispute(subject=judge())


def test_the_models_disagree_about_what_was_made(disputed):
    found = controversy(disputed)
    made = found.isel(image=np.flatnonzero(found["kind"].values == "synthesized"))
    assert made["thread"].values.tolist() == ["first", "second"] * 2
    assert made["promised_by"].values.tolist() == [0, 1] * 2
    apart = made["predicted_0"].values - made["predicted_1"].values
    assert (np.abs(apart) > 3).all()
    control = found.isel(image=np.flatnonzero(found["kind"].values == "control"))
    assert 1 <= control.sizes["image"] <= 2
    natural = np.abs(control["predicted_0"].values - control["predicted_1"].values)
    assert np.abs(apart).min() > natural.max()


def test_the_judge_says_which_model_is_right(disputed):
    found = controversy(disputed)
    own = found["thread"].values
    np.testing.assert_allclose(found["share"].values[own == "first"], 1, atol=0.45)
    np.testing.assert_allclose(found["share"].values[own == "second"], 0, atol=0.35)
    assert (found["n"].values == 3).all()
    assert (found["confirmed_low"] <= found["confirmed_high"]).all()


def test_predictions_are_no_responses(disputed):
    assert disputed["neuroid_id"].values.tolist() == ["it"]
    assert int(disputed["by_gradient"]) == 1
    assert (disputed["kind"].values == "reference").sum() == 18


def test_without_a_gradient_images_are_evolved():
    run = dispute(gradient=False, copies=1, images=300)
    assert int(run["by_gradient"]) == 0
    found = controversy(run)
    made = found.isel(image=np.flatnonzero(found["kind"].values == "synthesized"))
    apart = made["predicted_0"].values - made["predicted_1"].values
    assert apart[0] > 1 > -1 > apart[1]


def test_it_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    few = {"steps": 4, "images": 40}
    whole = dispute(save=tmp_path / "whole", **few).load().drop_attrs()
    for blocks in (0, 1, 3):
        with pytest.raises(SubjectError, match="cable"):
            dispute(blocks, save=tmp_path / f"cut{blocks}", **few)
        if blocks == 3:
            again = resume(tmp_path / "cut3", subject=Cut(judge(0), -1))
        else:
            again = dispute(save=tmp_path / f"cut{blocks}", exists="resume", **few)
        assert again.load().drop_attrs().identical(whole)


def test_what_a_person_sees(disputed, tmp_path):
    from closedloop.report import write_report

    figure = plot_controversy(disputed)
    assert "predicted by the first model" in figure.axes[0].get_legend_handles_labels()[1]
    dispute(save=tmp_path / "run", copies=1, steps=3, images=40)
    write_report([tmp_path / "run"], tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert "Images about which the models disagree" in text
    assert "Of what the first model alone promises" in text


def flat():
    return FunctionSubject(lambda x: np.zeros((len(x), 1)), units=["flat"], name="flat")


BAD = [
    ({"models": [model(0.0)]}, "models: expected two subjects"),
    ({"models": "lite0"}, "models"),
    ({"models": [model(0.0), 3]}, "subject"),
    ({"models": [model(0.0), flat()]}, "predicts the same of all"),
    ({"units": [0, 4]}, "units: expected columns of 'gabor' from 0 to 0"),
    ({"units": [0]}, "units: expected a column of each model"),
    ({"units": "first"}, "units"),
    ({"units": [0, -1]}, "unit"),
    ({"subject": None}, "subject"),
    ({"generator": "native"}, "generator"),
    ({"objective": "unit(3)"}, "unit"),
    ({"references": np.zeros((1, 2))}, "references"),
    ({"references": pictures(1)}, "tell the 1 natural images apart"),
    ({"copies": 0}, "copies"),
    ({"steps": 1.5}, "steps"),
    ({"repeats": 1}, "repeats: expected a whole number of at least 2"),
    ({"naturals": 1}, "naturals"),
    ({"gradient": "yes"}, "gradient"),
    ({"exists": "go"}, "exists"),
    ({"seed": None}, "seed"),
    ({"copy": 2}, "copy: no such setting. Did you mean 'copies'"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD, ids=[f"{next(iter(w))}-{i}" for i, (w, _) in enumerate(BAD)])
def test_bad_input_is_named_and_leaves_nothing(wrong, said, tmp_path):
    given = {"models": [model(0.0), model(90.0)], "units": 0, "subject": judge(), "generator": Pixels(SIDE)}
    given = {**given, "references": pictures(6), "save": tmp_path / "run", **SMALL, **wrong}
    with pytest.raises(ClosedLoopError, match=said):
        controversial(given.pop("models"), given.pop("units"), **given)
    assert not (tmp_path / "run").exists()


def test_a_model_that_was_an_object_is_asked_for(tmp_path):
    plain = FunctionSubject(lambda x: x.mean((1, 2, 3))[:, None], units=["light"], name="light")
    given = {"generator": Fourier(SIDE, 2), "references": pictures(6), **SMALL, "images": 40}
    with pytest.raises(SubjectError, match="cable"):
        controversial([plain, model(0.0)], 0, subject=Cut(judge(0), 2), save=tmp_path / "run", **given)
    with pytest.raises(InvalidArgumentError, match="models: one of them was handed over as a Python object"):
        resume(tmp_path / "run", subject=Cut(judge(0), -1))


def test_errors_of_the_analysis():
    with pytest.raises(RecordingError, match="controversial returned"):
        controversy(present(judge(), pictures(3), progress=False))
