"""What a response is invariant to, and what breaks it, against neurons of which both are known exactly."""

import numpy as np
import pytest

from closedloop.analysis import pareto_front
from closedloop.errors import ClosedLoopError, InvalidArgumentError, SubjectError
from closedloop.figures import plot_front
from closedloop.generators import Fourier, Pixels
from closedloop.protocols import resume, stretch_and_squeeze
from closedloop.subjects import EnergySubject, FunctionSubject
from tests.small_runs import Cut

SIDE = 8
WEIGHTS = np.random.default_rng(1).standard_normal(3 * SIDE**2)
WEIGHTS /= np.linalg.norm(WEIGHTS)
SMALL = {"images": 600, "population": 20, "retest_candidates": 4, "retest_repeats": 2, "progress": False, "seed": 1}


def linear():
    """A linear unit, whose null space is all that is orthogonal to its weights."""
    return FunctionSubject(lambda x: (x.reshape(len(x), -1) - 0.5) @ WEIGHTS[:, None], units=["linear"], name="linear")


def reference():
    return (0.5 + 0.8 * WEIGHTS.reshape(3, SIDE, SIDE)).clip(0, 1)


@pytest.fixture(scope="module")
def around_linear():
    generator = Pixels(SIDE)
    return generator, stretch_and_squeeze(
        linear(), generator, reference().astype(np.float32), **{**SMALL, "images": 3000}
    )


def member(found, thread, place=0):
    own = found.isel(image=np.flatnonzero(found["thread"].values == thread))
    return own.isel(image=place)


def changes(run, found, thread):
    """What the images of a thread's front differ by from the reference, as pixels."""
    from closedloop.recording.render import render

    ids = found["stimulus_id"].values[found["thread"].values == thread].tolist()
    original = np.rint(reference() * 255) / 255
    return render(run, ids, references=None).reshape(len(ids), -1) - original.ravel()


def test_far_images_at_a_held_response_lie_in_the_null_space(around_linear):
    _, run = around_linear
    found = pareto_front(run)
    change = changes(run, found, "stretch")
    held = found["second"].values[found["thread"].values == "stretch"] == 0
    assert held.any()
    along = np.abs(change[held] @ WEIGHTS) / np.linalg.norm(change[held], axis=1)
    assert along.max() < 0.05
    best = float(member(found, "stretch")["first"])
    assert best > 0.2


def test_near_images_without_a_response_move_along_the_weights(around_linear):
    _, run = around_linear
    found = pareto_front(run)
    own = found.isel(image=np.flatnonzero((found["thread"].values == "squeeze") & (found["second"].values >= 0.9)))
    nearest = -float(own["first"].values.max())
    # Of all changes that take 90 % of a response r away, that along the weights is the shortest: 0.9 r long.
    response = float((np.rint(reference() * 255) / 255 - 0.5).ravel() @ WEIGHTS)
    shortest = 0.9 * response / np.sqrt(3 * SIDE**2)
    assert shortest * 0.99 < nearest < 2 * shortest


def test_the_invariant_set_of_an_energy_neuron_is_its_phase():
    """In the stage of its two filters only the phase is left: the farthest held response is the opposite phase."""
    neuron = EnergySubject(resolution=16)
    weights = np.asarray(neuron._weights)

    def filters(images):
        return neuron._signals(images.astype(float)) @ weights.T

    generator = Fourier(16, 3)
    code = np.random.default_rng(0).standard_normal(generator.space.dim)
    stage = FunctionSubject(filters, 2, name="filters")
    run = stretch_and_squeeze(neuron, generator, code, stage=stage, **{**SMALL, "images": 1500})
    found = pareto_front(run)
    from closedloop.recording.render import render

    one = member(found, "stretch")
    own = found.isel(image=np.flatnonzero((found["thread"].values == "stretch") & (found["second"].values == 0)))
    far = own.isel(image=int(own["first"].values.argmax()))
    at = filters(render(run, [str(far["stimulus_id"].item())]))[0]
    start = filters(run.attrs.get("reference", render_reference(generator, code)))[0]
    angle = np.degrees(np.arccos(at @ start / np.linalg.norm(at) / np.linalg.norm(start)))
    assert angle > 150
    ratio = np.linalg.norm(at) / np.linalg.norm(start)
    assert 0.89 < ratio < 1.11
    assert float(one["first"]) >= float(far["first"])


def render_reference(generator, code):
    return (np.rint(generator(code[None]) * 255) / 255).astype(np.float32)


def test_both_are_compared_with_the_reference_again(around_linear):
    found = pareto_front(around_linear[1])
    own = found.isel(image=np.flatnonzero(found["thread"].values == "reference"))
    scores = dict(zip(own["stimulus_id"].values.tolist(), own["score"].values, strict=True))
    assert abs(scores["grey"]) < 0.05
    assert scores["the-reference"] > 0.5
    assert np.isnan(own["first"].values).all()


def test_it_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    options = {**SMALL, "images": 60}

    def call(blocks, place, exists="fail"):
        return stretch_and_squeeze(
            Cut(linear(), blocks), Pixels(SIDE), reference(), save=place, exists=exists, **options
        )

    whole = call(-1, tmp_path / "whole").load().drop_attrs()
    for blocks in (0, 1, 3, 4):
        with pytest.raises(SubjectError, match="cable"):
            call(blocks, tmp_path / f"cut{blocks}")
        if blocks % 2:
            again = resume(tmp_path / f"cut{blocks}", subject=Cut(linear(), -1))
        else:
            again = call(-1, tmp_path / f"cut{blocks}", "resume")
        assert again.load().drop_attrs().identical(whole)


def test_the_budget_of_each_holds_and_lost_presentations_are_taken():
    rng = np.random.default_rng(0)

    def answer(x):
        return np.where(rng.random((len(x), 1)) < 0.3, np.nan, (x.reshape(len(x), -1) - 0.5) @ WEIGHTS[:, None])

    lossy = FunctionSubject(answer, units=["lossy"], name="lossy")
    run = stretch_and_squeeze(lossy, Pixels(SIDE), reference(), **{**SMALL, "images": 70})
    searched = run["kind"].values == "searched"
    for thread in ("stretch", "squeeze"):
        assert (searched & (run["thread"].values == thread)).sum() <= 70


def test_what_a_person_sees(around_linear, tmp_path):
    from closedloop.report import write_report

    figure = plot_front(around_linear[1])
    assert "response" in figure.axes[0].get_ylabel()
    stretch_and_squeeze(linear(), Pixels(SIDE), reference(), save=tmp_path / "run", **{**SMALL, "images": 40})
    write_report([tmp_path / "run"], tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert "Far from the reference at a held response" in text
    assert "A usual distance" in text


BAD = [
    ({"reference": np.zeros((2, 2))}, "reference: expected a code"),
    ({"reference": "image"}, "reference: expected a code"),
    ({"reference": np.zeros(5)}, "codes: expected shape"),
    ({"reference": np.full(192, 7.0)}, "codes: expected values in"),
    ({"reference": np.full(192, np.nan)}, "codes: expected finite"),
    ({"reference": np.full((3, SIDE, SIDE), 3.0)}, r"\[0, 1\]"),
    ({"reference": np.full((3, SIDE, SIDE), 0.5)}, "drives the subject more than a grey image"),
    ({"stage": "blocks.1"}, "stage: expected 'pixels' or another subject"),
    ({"stage": 3}, "stage"),
    ({"margin": 0}, "margin"),
    ({"margin": 1.5}, "margin: expected a share"),
    ({"images": 10}, "images: expected at least the 20 of a generation"),
    ({"population": 2}, "population"),
    ({"retest_repeats": 0}, "retest_repeats"),
    ({"retest_candidates": "all"}, "retest_candidates"),
    ({"objective": "unit(4)"}, "unit"),
    ({"objective": "tv("}, "objective"),
    ({"generator": "pixels"}, "generator"),
    ({"subject": None}, "subject"),
    ({"exists": "go"}, "exists"),
    ({"margn": 0.2}, "margn: no such setting. Did you mean 'margin'"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD, ids=[f"{next(iter(w))}-{i}" for i, (w, _) in enumerate(BAD)])
def test_bad_input_is_named_and_leaves_nothing(wrong, said, tmp_path):
    given = {"subject": linear(), "generator": Pixels(SIDE), "reference": reference(), **SMALL, **wrong}
    with pytest.raises(ClosedLoopError, match=said):
        stretch_and_squeeze(
            given.pop("subject"), given.pop("generator"), given.pop("reference"), save=tmp_path / "run", **given
        )
    assert not (tmp_path / "run").exists()


def test_a_stage_that_was_an_object_is_asked_for(tmp_path):
    stage = FunctionSubject(lambda x: x.mean((2, 3)), 3, name="means")
    options = {**SMALL, "images": 60}
    with pytest.raises(SubjectError, match="cable"):
        stretch_and_squeeze(Cut(linear(), 2), Pixels(SIDE), reference(), stage=stage, save=tmp_path / "run", **options)
    with pytest.raises(InvalidArgumentError, match="stage: the subject was handed over as a Python object"):
        resume(tmp_path / "run", subject=linear())
