"""Two linear units of a known overlap: their front is known in closed form, and the search lies on it."""

import numpy as np
import pytest

from closedloop.analysis import pareto_front
from closedloop.errors import ClosedLoopError, RecordingError, SubjectError
from closedloop.figures import plot_front
from closedloop.generators import Pixels
from closedloop.interfaces import Space
from closedloop.protocols import pareto, present, resume
from closedloop.subjects import FunctionSubject
from tests.small_runs import Cut, pictures

SIDE, OVERLAP = 4, 0.6
SMALL = {"images": 400, "population": 20, "retest_candidates": 4, "retest_repeats": 2, "progress": False, "seed": 2}


def directions():
    """Two directions of length 1 in the space of images, at a known cosine."""
    a, b = np.linalg.qr(np.random.default_rng(0).standard_normal((3 * SIDE**2, 2)))[0].T
    return np.stack([a, OVERLAP * a + np.sqrt(1 - OVERLAP**2) * b])


class Ball:
    """Images within a ball around grey, by codes on all of space: what leaves it is drawn back."""

    name, resolution, space = "ball", SIDE, Space(3 * SIDE**2)
    reach = 0.4

    def __call__(self, codes):
        size = np.linalg.norm(codes, axis=1, keepdims=True)
        away = codes * np.minimum(1, self.reach / np.maximum(size / 4, 1e-9)) / 4
        return (0.5 + away).clip(0, 1).reshape(-1, 3, SIDE, SIDE).astype(np.float32)


def units():
    w = directions()
    return FunctionSubject(lambda x: (x.reshape(len(x), -1) - 0.5) @ w.T, units=["a", "b"], name="linear")


@pytest.fixture(scope="module")
def searched():
    options = {**SMALL, "images": 3000, "population": 40}
    return pareto(units(), Ball(), ["unit(0)", "-1*unit(1)"], references=small_pictures(), **options)


def small_pictures():
    return pictures(6)[:, :, :SIDE, :SIDE].copy()


def test_its_front_is_that_of_the_ball(searched):
    """Of images in a ball of radius r, a·d₁ = r cos α goes with -b·d at most r cos(α - π + arccos overlap)."""
    found = pareto_front(searched)
    own = found.isel(image=np.flatnonzero(found["thread"].values == "pareto"))
    a, b = own["first"].values, own["second"].values
    reach = Ball.reach
    # In the plane of both directions, α from the first: a = r cos α, -b = r cos(π - θ - α), cos θ = overlap.
    angle = np.arccos(np.clip(a / reach, -1, 1))
    most = reach * np.cos(np.pi - np.arccos(OVERLAP) - angle)
    assert (b <= most + 0.02).all()
    assert (b > most - 0.08).all()
    assert a.max() > 0.85 * reach
    assert b.max() > 0.85 * reach


def test_natural_images_stand_beside_it(searched):
    found = pareto_front(searched)
    natural = found.isel(image=np.flatnonzero(found["thread"].values == "reference"))
    assert 1 <= natural.sizes["image"] <= 4
    assert (searched["thread"].values == "reference").sum() == 6 + 2 * natural.sizes["image"]
    assert natural["first"].values == pytest.approx(natural["first_found"].values)


def test_it_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    options = {**SMALL, "images": 70}

    def call(blocks, place, exists="fail"):
        return pareto(
            Cut(units(), blocks), Pixels(SIDE), ["unit(0)", "unit(1)"], references=small_pictures(), save=place,
            exists=exists, **options,
        )  # fmt: skip

    whole = call(-1, tmp_path / "whole").load().drop_attrs()
    for blocks in (0, 2, 4):
        with pytest.raises(SubjectError, match="cable"):
            call(blocks, tmp_path / f"cut{blocks}")
        again = (
            call(-1, tmp_path / f"cut{blocks}", "resume")
            if blocks % 4
            else resume(tmp_path / f"cut{blocks}", subject=Cut(units(), -1))
            if blocks
            else call(-1, tmp_path / "cut0", "resume")
        )
        assert again.load().drop_attrs().identical(whole)


def test_what_a_person_sees(searched, tmp_path):
    from closedloop.report import write_report

    figure = plot_front(searched)
    assert figure.axes[0].get_xlabel() == "unit(0)"
    run = tmp_path / "run"
    pareto(
        units(), Pixels(SIDE), ["unit(0)", "unit(1)"], references=small_pictures(), save=run, **{**SMALL, "images": 40}
    )
    write_report([run], tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert "The front of unit(0) and unit(1)" in text
    assert "natural images" in text


BAD = [
    ({"objectives": ["unit(0)"]}, "objectives: expected two"),
    ({"objectives": "unit(0)"}, r"objectives: expected a list, got 'unit\(0\)'"),
    ({"objectives": ["unit(0)", "unit(0)"]}, "expected two different ones"),
    ({"objectives": ["unit(0)", "unit(9)"]}, "unit"),
    ({"objectives": ["unit(0)", 3]}, r"objectives\[1\]"),
    ({"objectives": ["unit(0)", "unit("]}, "objective"),
    ({"objectives": None}, "objectives"),
    ({"images": 4}, "images: expected at least the 20"),
    ({"population": 0}, "population"),
    ({"retest_candidates": 0}, "retest_candidates"),
    ({"retest_repeats": 1.5}, "retest_repeats"),
    ({"references": "nowhere"}, "references"),
    ({"references": np.zeros((2, 2))}, "references"),
    ({"generator": "pixels"}, "generator"),
    ({"subject": 3}, "subject"),
    ({"exists": "resume"}, "save: expected the folder"),
    ({"seed": "one"}, "seed"),
    ({"image": 40}, "image: no such setting. Did you mean 'images'"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD, ids=[f"{next(iter(w))}-{i}" for i, (w, _) in enumerate(BAD)])
def test_bad_input_is_named_and_leaves_nothing(wrong, said, tmp_path):
    given = {"subject": units(), "generator": Pixels(SIDE), "objectives": ["unit(0)", "unit(1)"], **SMALL, **wrong}
    given = {"references": small_pictures(), "save": tmp_path / "run", **given}
    given |= {"save": None} if wrong == {"exists": "resume"} else {}
    with pytest.raises(ClosedLoopError, match=said):
        pareto(given.pop("subject"), given.pop("generator"), given.pop("objectives"), **given)
    assert not (tmp_path / "run").exists()


def test_errors_of_the_analysis(searched):
    with pytest.raises(RecordingError, match="pareto or stretch_and_squeeze returned"):
        pareto_front(present(units(), small_pictures(), progress=False))
    with pytest.raises(RecordingError, match="no image of a front was shown again yet"):
        pareto_front(searched.isel(presentation=slice(0, 30)))
