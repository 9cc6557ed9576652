"""One evolution from arguments alone."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import CMAES, IsotropicES, Plateau, RandomSearch, Unit, Units, open_recording, summarize
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.protocols import evolve
from closedloop.protocols.evolve import default_objective
from closedloop.subjects import FunctionSubject, GaborSubject

GENERATOR = Fourier(resolution=16, cutoff=3)
SMALL = {"images": 24, "retest_candidates": 1, "retest_repeats": 2, "references": None}


@pytest.mark.parametrize("make", [CMAES, IsotropicES, RandomSearch])
def test_a_known_best_image_is_approached(make):
    subject = GaborSubject(resolution=16, cycles_per_image=2)
    options = {**SMALL, "images": 1200}
    found = evolve(subject, GENERATOR, make(GENERATOR.space, seed=1), **options)
    scores = found["score"].values[found["kind"].values == "evolved"]
    (summary,) = summarize(found)
    assert summary.evolved.sem == 0
    assert summary.evolved.mean >= 0.99 * scores.max()
    if make is not RandomSearch:
        assert scores[-100:].mean() > 2 * max(scores[:100].mean(), 0.05)


def test_the_bundled_references_are_shown_by_default(tmp_path):
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3)))
    options = {k: v for k, v in SMALL.items() if k != "references"}
    found = evolve(subject, GENERATOR, IsotropicES(GENERATOR.space, population=6), save=tmp_path / "run", **options)
    survey = found["generation"].values == -1
    assert survey.sum() >= 20
    assert set(found["kind"].values[survey]) == {"reference"}
    assert summarize(found)[0].natural.n == 2
    assert (tmp_path / "run" / "references" / "ids.json").exists()


def test_objective_and_rules_and_observers(tmp_path):
    told = []

    class Watch:
        def begin(self, session):
            told.append(session.stop)

        def generation(self, generation):
            told.append(generation.phase)

        def end(self, session):
            told.append(session.reasons["main"])

    subject = FunctionSubject(lambda images: np.ones((len(images), 3)), units=3)
    optimizer = IsotropicES(GENERATOR.space, population=6)
    options = {**SMALL, "images": 600}
    found = evolve(
        subject,
        GENERATOR,
        optimizer,
        objective=Unit(2),
        stop=[Plateau(2)],
        observers=[Watch()],
        save=tmp_path / "run",
        **options,
    )
    assert found["objective"].item() == "unit(2)"
    assert told[0] == (Plateau(2),)
    assert told[1:-1] == ["evolve"] * 4 + ["select", "confirm"]
    assert told[-1].startswith("plateau")
    assert open_recording(tmp_path / "run").sizes == found.sizes


def test_the_default_objective_is_of_the_only_unit(tmp_path):
    assert default_objective(FunctionSubject(lambda images: images.mean((1, 2, 3)))) == Unit(0)
    two = FunctionSubject(lambda images: np.zeros((len(images), 2)), units=Units(("a", "b"), {}))
    with pytest.raises(InvalidArgumentError, match="objective: the subject records 2 units; say what to maximize"):
        evolve(two, GENERATOR, IsotropicES(GENERATOR.space), save=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_images(tmp_path):
    subject = GaborSubject(resolution=16)
    with pytest.raises(InvalidArgumentError, match="references: no image in"):
        evolve(subject, GENERATOR, IsotropicES(GENERATOR.space), save=tmp_path / "run", references=tmp_path)
    assert not (tmp_path / "run").exists()


def test_an_objective_may_be_text():
    subject, generator = GaborSubject(resolution=16), Fourier(16, cutoff=3)
    optimizer = IsotropicES(generator.space, seed=0, population=6)
    found = evolve(subject, generator, optimizer, objective="-unit(0)", images=12, references=None)
    assert found["objective"].item() == "-unit(0)"
    assert found.attrs["reason"] == "main: budget: 12 of 12 images"


@pytest.mark.parametrize("name", ["subject", "generator", "optimizer"])
def test_a_name_in_place_of_an_object(name):
    generator = Fourier(16, cutoff=3)
    parts = {"subject": GaborSubject(resolution=16), "generator": generator, "optimizer": IsotropicES(generator.space)}
    with pytest.raises(
        InvalidArgumentError, match=rf"{name}: expected an? .*, got 'lite0'; names are loaded by load_{name}"
    ):
        evolve(**{**parts, name: "lite0"}, images=40, references=None)
