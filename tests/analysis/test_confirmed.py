"""Success by fresh presentations: its null on optimizers that are told nonsense, and what it finds where they learn."""

import numpy as np
import pytest

from closedloop import Session, Thread, load_optimizer
from closedloop.analysis import concat, success, success_over_runs
from closedloop.analysis.confirmed import sign_flip
from closedloop.errors import InvalidArgumentError
from closedloop.generators import load_generator
from closedloop.subjects import FunctionSubject


def of(evolution, first, again, *, codes=None, late=5.0, confirmed=(), seed=0):
    """A run that begins with ``first`` scores, and whose mean code is answered with ``again``."""
    scores = [first, *(late + 0.1 * np.random.default_rng(seed).standard_normal((4, len(first))))]
    return evolution(scores, retests={"main-center": (list(again), list(confirmed))}, codes=codes, seed=seed)


def test_p_is_the_rank_among_the_first(evolution):
    first = np.arange(40.0)
    found = success(of(evolution, first, [36.0, 37.0]), "main")
    assert found["unchosen"].item() == 36.5
    assert found["p_confirmed"].item() == 4 / 41  # 37, 38, 39 and itself
    assert (found["begin"], found["n_begin"], found["success"]) == (19.5, 40, 0)
    assert success(of(evolution, first, [41.0]), "main")["success"].item() == 1


def test_a_late_rise_is_no_success_by_itself(evolution, rng):
    """The scores of the last generations do not count, and neither does the best of them."""
    recording = of(evolution, rng.standard_normal(40), [0.0], late=50.0)
    assert success(recording, "main")["success"].item() == 0
    assert success(recording, "main", alternative="end")["success"].item() == 1


def test_small_generations_are_pooled(evolution):
    scores = np.arange(100.0).reshape(10, 10)
    found = success(evolution(scores, retests={"main-center": ([100.0], [])}), "main")
    assert found["n_begin"].item() == 40
    short = success(evolution(scores[:4], retests={"main-center": ([100.0], [])}), "main")
    assert short["n_begin"].item() == 20  # never the later half


def test_what_was_chosen_by_its_score_has_no_p(evolution, rng):
    found = success(evolution(rng.standard_normal((6, 40)), retests={"main-g0000-001": ([9.0], [9.0])}), "main")
    assert np.isnan([found["p_confirmed"], found["success"]]).all()
    said = "unchosen, distance, p_confirmed: no image that its own score did not choose was re-tested"
    assert said in found["reason"].item()
    assert found["winner"].item() == 9


def test_codes_of_another_length_are_not_judged(evolution, rng):
    scores, codes = rng.standard_normal((6, 40)), rng.standard_normal((6, 40, 100))
    recording = evolution(scores, retests={"main-center": ([9.0], [9.0])}, codes=codes)
    center = np.flatnonzero(recording["stimulus_id"].values == "main-center")
    for length, judged in ((1.0, True), (3.0, False), (0.1, False)):
        recording["latent_code"].values[center] = length
        found = success(recording, "main")
        assert found["distance"].item() == pytest.approx(length, abs=0.2)
        assert np.isfinite(found["p_confirmed"].item()) == judged
    assert "times as far out as those of the beginning" in found["reason"].item()


GENERATOR = load_generator("fourier", resolution=8)


def unit(seed):
    """A random network of two layers on the pixels, with noise."""
    rng = np.random.default_rng(seed)
    inner, outer, noise = rng.standard_normal((192, 16)), rng.standard_normal(16), np.random.default_rng(seed + 1)

    def answer(images):
        hidden = np.maximum((images.reshape(len(images), -1) - 0.5) @ inner, 0)
        return (hidden @ outer + noise.standard_normal(len(images)))[:, None]

    return FunctionSubject(answer)


def evolved(names, seed, images=200):
    threads = [
        Thread(GENERATOR, load_optimizer(name, GENERATOR.space, seed, images=images), name=name.replace(":", "-"))
        for name in names
    ]
    return Session(unit(seed), threads, images=images).run()


@pytest.mark.long
@pytest.mark.parametrize("name", ["shuffled:sphere-cma", "noise:nes", "random"])
def test_false_alarms_of_controls(name):
    found = [success(evolved([name], seed), permutations=1)["success"].item() for seed in range(60)]
    assert np.nanmean(found) <= 0.15  # of 60 with .05, at most nine in 99.8 %
    assert np.isfinite(found).all()


def test_runs_with_controls():
    runs = {str(seed): evolved(["sphere-cma", "shuffled:sphere-cma"], seed) for seed in range(5)}
    found = success_over_runs(runs)
    assert found["against"].item() == "control"
    assert (found["n"], found["p"]) == (5, 1 / 32)
    assert 0 < found["low"] < found["difference"] < found["high"]
    one = success(runs["0"]).sel(thread="sphere-cma")
    assert one["n_controls"].item() == 1
    assert one["success"].item() == 1
    assert success(runs["0"]).sel(thread="shuffled-sphere-cma")["success"].item() == 0


def test_a_unit_counts_once(evolution, rng):
    first = rng.standard_normal(40)
    runs = [of(evolution, first, [2.0, 2.0], seed=seed) for seed in range(4)]
    assert success_over_runs(concat(runs))["n"].item() == 4  # one unit: the runs are the replicates
    other = of(evolution, first, [3.0, 3.0]).assign_coords(neuroid_id=("neuroid", np.array(["v4.9"], dtype=object)))
    found = success_over_runs([*runs, other])
    assert (found["n"], found["against"].item()) == (2, "first")
    expected = (np.array([2.0, 3.0]) - first.mean()) / first.std(ddof=1)
    assert found["difference"].item() == pytest.approx(expected.mean())
    alone = success_over_runs(runs[0])
    assert "fewer than two units or runs can be told (1)" in alone["reason"].item()


def test_sign_flips_are_uniform(rng):
    """Exact below 13 values, and drawn above: as often below each level as it says, or less."""
    for n in (6, 20):
        p = np.array([sign_flip(rng.laplace(size=n), 499, i) for i in range(600)])
        for level in (0.1, 0.25, 0.5, 0.75):
            assert (p <= level).mean() == pytest.approx(level, abs=0.06)
    assert sign_flip(np.arange(1.0, 7), 9999, 0) == 1 / 64


def test_wrong_arguments(evolution):
    with pytest.raises(InvalidArgumentError, match="permutations: expected a whole number of at least 99"):
        success_over_runs(of(evolution, np.arange(40.0), [1.0]), permutations=5)
