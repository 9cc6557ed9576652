"""One optimizer against another, on runs whose re-tested means are known."""

import numpy as np
import pytest
from scipy import stats

from closedloop import Session, Thread, load_optimizer, summarize
from closedloop.analysis import concat, paired_difference
from closedloop.errors import InvalidArgumentError
from closedloop.generators import load_generator
from closedloop.protocols import evolve
from closedloop.subjects import FunctionSubject


def run(evolution, mean, optimizer, unit, *, seed=0, generator="g"):
    """A run of one unit whose evolved image is confirmed with a mean."""
    found = evolution([[1.0, 2.0]], retests={"main-g0000-001": ([2.0], [mean - 1, mean + 1])}, seed=seed)
    names = ("neuroid", np.array([unit], dtype=object))
    return found.assign_coords(
        optimizer=("evolution", [optimizer]), generator=("evolution", [generator]), neuroid_id=names
    )


def runs(evolution, table, **options):
    """Runs of ``{unit: (mean of a, mean of b)}``."""
    pairs = [(unit, "ab"[i], mean) for unit, means in table.items() for i, mean in enumerate(means)]
    return [run(evolution, mean, optimizer, unit, **options) for unit, optimizer, mean in pairs]


TABLE = {"u0": (10.0, 8.0), "u1": (4.0, 3.0), "u2": (5.0, 6.0), "u3": (20.0, 10.0)}


def test_the_mean_of_the_differences_over_the_most_of_each_unit(evolution):
    found = paired_difference(runs(evolution, TABLE), "a", "b")
    parts = [0.2, 0.25, -1 / 6, 0.5]
    assert found["estimate"].item() == pytest.approx(np.mean(parts))
    ends = stats.ttest_1samp(parts, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high))
    assert (found["n_units"], found["n_pairs"], found["reason"].item()) == (4, 4, "")
    scores = paired_difference(runs(evolution, TABLE), "a", "b", relative=False)
    assert scores["estimate"].item() == pytest.approx((2 + 1 - 1 + 10) / 4)
    back = paired_difference(runs(evolution, TABLE), "b", "a", relative=False)
    assert back["estimate"].item() == -scores["estimate"].item()


def test_seeds_are_averaged_within_a_unit_first(evolution):
    """The unit with many seeds counts as one unit; a third optimizer sets the most."""
    many = [*runs(evolution, TABLE), *(r for s in (1, 2) for r in runs(evolution, {"u0": (10.0, 2.0)}, seed=s))]
    found = paired_difference([*many, run(evolution, 40.0, "c", "u3")], "a", "b")
    assert found["estimate"].item() == pytest.approx(np.mean([np.mean([0.2, 0.8, 0.8]), 0.25, -1 / 6, 0.25]))
    assert (found["n_units"], found["n_pairs"]) == (4, 6)


def test_what_has_no_partner_does_not_count(evolution):
    alone = [run(evolution, 99.0, "a", "u9"), run(evolution, 1.0, "b", "u0", seed=7)]
    found = paired_difference([*runs(evolution, TABLE), *alone], "a", "b", relative=False)
    assert found["estimate"].item() == pytest.approx(3.0)
    other = run(evolution, 5.0, "b", "u9", generator="h")
    lonely = paired_difference([alone[0], other], "a", "b")
    assert np.isnan(lonely["estimate"])
    assert "no pair of evolutions" in lonely["reason"].item()


def test_by_generator(evolution):
    units = ("u0", "u1", "u2")
    made = [run(evolution, 3.0 + 2 * (g == "h"), "a", u, generator=g) for u in units for g in "gh"]
    assert paired_difference(made, "h", "g", by="generator", relative=False)["estimate"].item() == 2.0


def test_real_runs_of_a_subject():
    generator = load_generator("pixels", resolution=4)
    subject = FunctionSubject(lambda x: x.reshape(len(x), -1)[:, :3] - x.mean((1, 2, 3))[:, None], units=3)
    found = []
    for name in ("isotropic", "random"):
        for unit in range(3):
            optimizer = load_optimizer(name, generator.space, 0, images=400)
            found.append(evolve(subject, generator, optimizer, objective=f"unit({unit})", images=400, references=None))
    difference = paired_difference(concat(found), "isotropic", "random")
    assert difference["low"] > 0
    assert (difference["n_units"], difference["n_pairs"]) == (3, 3)


def test_threads_of_one_run_are_told_apart():
    generator = load_generator("pixels", resolution=4)
    subject = FunctionSubject(lambda x: x.mean((1, 2, 3))[:, None], units=1)
    threads = [Thread(generator, load_optimizer(n, generator.space, 0), name=n[:3]) for n in ("isotropic", "random")]
    recording = Session(subject, threads, images=400).run()
    found = paired_difference(recording, "isotropic", "random", relative=False)
    first, second = (part.evolved.mean for part in summarize(recording))
    assert found["estimate"].item() == pytest.approx(first - second)
    assert first > second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": "z"}, "first: expected one of 'a', 'b', got 'z'"),
        ({"second": "z"}, "second: expected one of 'a', 'b', got 'z'"),
        ({"by": "layer"}, "by: expected 'optimizer', 'generator' or 'subject', got 'layer'"),
        ({"level": 2}, "level: expected"),
    ],
)
def test_bad_arguments(evolution, change, message):
    with pytest.raises(InvalidArgumentError, match=message):
        paired_difference(runs(evolution, TABLE), **{"first": "a", "second": "b", **change})
