"""Controls of an evolution: they cost what it costs, record what it records, and reach nothing."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import IsotropicES
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.protocols import evolve, pure_noise, random_codes, resume, shuffled_scores
from closedloop.subjects import GaborSubject

GENERATOR = Fourier(resolution=16, cutoff=3, shell=False)
CELL = GaborSubject(orientation_deg=45.0, cycles_per_image=2.0, resolution=16)
OPTIONS = {"references": None, "images": 600, "retest_candidates": 1, "retest_repeats": 1}


def last_generation(recording):
    evolved = recording["kind"].values == "evolved"
    last = recording["generation"].values[evolved].max()
    return recording["score"].values[evolved & (recording["generation"].values == last)].mean()


def test_controls_stay_where_the_evolution_climbs():
    optimizer = IsotropicES(GENERATOR.space, seed=1)
    evolved = last_generation(evolve(CELL, GENERATOR, optimizer, **OPTIONS))
    for control in (shuffled_scores, pure_noise):
        found = control(CELL, GENERATOR, IsotropicES(GENERATOR.space, seed=1), seed=2, **OPTIONS)
        assert last_generation(found) < evolved / 2
    random = random_codes(CELL, GENERATOR, seed=2, **OPTIONS)
    assert last_generation(random) < evolved / 2
    assert random["optimizer"].item() == "random"


@pytest.mark.parametrize("control", [shuffled_scores, pure_noise])
def test_the_recording_holds_the_true_scores(control):
    found = control(CELL, GENERATOR, IsotropicES(GENERATOR.space, seed=1), seed=2, **OPTIONS)
    evolved = found.isel(presentation=np.flatnonzero(found["kind"].values == "evolved"))
    np.testing.assert_allclose(evolved["score"].values, evolved["responses"].values[:, 0])


def test_same_seed_same_control():
    optimizers = [IsotropicES(GENERATOR.space, seed=1) for _ in range(3)]
    one, again, other = (
        shuffled_scores(CELL, GENERATOR, optimizer, seed=seed, **OPTIONS)
        for optimizer, seed in zip(optimizers, (2, 2, 3), strict=True)
    )
    np.testing.assert_array_equal(one["latent_code"], again["latent_code"])
    assert not np.array_equal(one["latent_code"], other["latent_code"])


class Stop:
    """An observer that interrupts after three blocks."""

    blocks = 0

    def begin(self, session):
        pass

    def generation(self, generation):
        self.blocks += 1
        if self.blocks == 3:
            raise KeyboardInterrupt("stop")

    def end(self, session):
        pass


def test_resumed_from_its_file(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stop"):
        shuffled_scores(
            CELL, GENERATOR, IsotropicES(GENERATOR.space, seed=1), seed=2, save=tmp_path / "run", observers=[Stop()],
            **OPTIONS,
        )  # fmt: skip
    expected = shuffled_scores(CELL, GENERATOR, IsotropicES(GENERATOR.space, seed=1), seed=2, **OPTIONS)
    np.testing.assert_array_equal(resume(tmp_path / "run")["latent_code"], expected["latent_code"])


def test_names_are_not_parts():
    with pytest.raises(InvalidArgumentError, match="optimizer: expected an Optimizer, got 'cma'; names are loaded by"):
        shuffled_scores(CELL, GENERATOR, "cma")
    with pytest.raises(InvalidArgumentError, match="generator: expected a Generator, got 'fourier'"):
        random_codes(CELL, "fourier")
