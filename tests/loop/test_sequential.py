"""Stopping when sure: a probability that is calibrated, a test that keeps its level over all looks."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import CMAES, Beats, Futility, Session, Thread, Unit, open_recording
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.loop.experiment import build_rules, parse_experiment
from closedloop.loop.sequential import Naturals, chance_of_gain, largest_p, parse_rule
from closedloop.loop.stopping import Plateau, Scored, Target
from closedloop.protocols import resume
from closedloop.subjects import FunctionSubject, GaborSubject, Poisson


def history(means, images=20):
    return [Scored(m + 1, m, images * (i + 1)) for i, m in enumerate(means)]


def test_the_probability_of_a_gain_is_calibrated():
    """Curves whose pace, rise and noise are drawn: of those with a chance near q a share near q does gain."""
    rng, said, true = np.random.default_rng(0), [], []
    i = 20.0 * np.arange(1, 26)
    for _ in range(500):
        pace = np.exp(rng.uniform(np.log(0.05), np.log(20))) * i[-1]
        b, seen = rng.uniform(-0.2, 1), 1 - np.exp(-(i - i[0]) / pace)
        more = 1 - np.exp(-(i[-1] + 300 - i[0]) / pace)
        y = 1 + b * seen / seen[-1] + 0.1 * rng.standard_normal(len(i))
        said.append(chance_of_gain(history(y), 300, 0.05))
        true.append(b * (more / seen[-1] - 1) > 0.05 * (1 + b))
    said, true = np.array(said), np.array(true)
    assert true[said < 0.05].mean() < 0.04
    assert true[said > 0.95].mean() > 0.93
    middle = (said > 0.25) & (said < 0.75)
    assert abs(true[middle].mean() - said[middle].mean()) < 0.15


def test_futility_seldom_errs_though_it_looks_after_each_generation():
    """Of drawn evolutions few end where 500 more images would have gained more than 5 %; with p = 0.1 too many do."""
    i, false = 40.0 * np.arange(1, 51), {0.02: 0, 0.1: 0}
    for run in range(80):
        rng = np.random.default_rng([run, 4])
        pace = i[-1] * np.exp(rng.uniform(np.log(0.05), np.log(20)))
        rise = rng.uniform(0, 1) / -np.expm1(-i[-1] / pace)
        noise = 0.05 * rng.standard_normal(len(i))
        for probability in false:
            said = history(1 - rise * np.expm1(-i / pace) + noise, 40)
            stop = next((n for n in range(6, 51) if Futility(500, 0.05, probability)(said[:n])), None)
            if stop is not None:
                now, later = (1 - rise * np.expm1(-images / pace) for images in (i[stop - 1], i[stop - 1] + 500))
                false[probability] += later > 1.05 * now
    assert false[0.02] <= 0.08 * 80 < false[0.1]
    assert Futility().probability == 0.02


def test_futility_stops_what_has_risen_and_lets_go_on_what_rises():
    rng, i = np.random.default_rng(1), np.arange(1, 61)
    flat = 10 - 5 * np.exp(-i / 5) + 0.1 * rng.standard_normal(60)
    rising = 5 + 0.1 * i + 0.1 * rng.standard_normal(60)
    stopped = [n for n in range(61) if Futility(500, 0.05, 0.1)(history(flat[:n]))]
    assert 10 < stopped[0] < 45
    assert not any(Futility(500, 0.05, 0.1)(history(rising[:n])) for n in range(12, 61))
    assert "500 more images" in Futility(500, 0.05, 0.1)(history(flat))
    assert chance_of_gain(history(flat[:5]), 500, 0.05) == 1
    assert chance_of_gain(history([np.nan] * 30), 500, 0.05) == 1
    assert chance_of_gain(history([3.0] * 30), 500, 0.05) < 1e-6


def sessions(runs, evolved, references, generations=24, interleave=4, rule=Beats(0.05, every=2)):  # noqa: B008
    """Returns the share of drawn sessions that stop: Poisson responses, images of a generation that differ."""
    rng, stopped = np.random.default_rng(5), 0
    for _ in range(runs):
        naturals = Naturals.none(len(references))
        naturals = naturals.with_scores(np.arange(len(references)), rng.poisson(references).astype(float))
        for g in range(1, generations + 1):
            which = ((g - 1) * interleave + np.arange(interleave)) % len(references)
            naturals = naturals.with_scores(which, rng.poisson(references[which]).astype(float))
            images = evolved * np.exp(0.1 * rng.standard_normal(30) - 0.005)
            if rule.compare(rng.poisson(images).astype(float), naturals, g):
                stopped += 1
                break
    return stopped / runs


def test_it_keeps_its_level_over_all_looks():
    one = np.r_[20.0, np.full(23, 5.0)]  # the hardest case: one reference is as good as the generation
    assert sessions(400, 20.0, one) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert sessions(200, 20.0, np.linspace(5, 20, 24)) < 0.05
    assert sessions(100, 40.0, one) > 0.9


@pytest.mark.long
def test_it_keeps_its_level_in_many_sessions():
    one = np.r_[20.0, np.full(23, 5.0)]
    assert sessions(4000, 20.0, one) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 4000)


def test_the_p_value_is_that_of_welch():
    from scipy import stats

    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 2, 20), rng.normal(4, 2, 12)
    naturals = Naturals.none(1).with_scores(np.zeros(12, np.int64), y)
    assert naturals.mean[0] == pytest.approx(y.mean())
    assert naturals.squares[0] == pytest.approx(((y - y.mean()) ** 2).sum())
    expected = stats.ttest_ind(x, y, equal_var=False, alternative="greater").pvalue
    assert largest_p(x, naturals) == pytest.approx(expected)
    more = naturals.with_scores(np.zeros(3, np.int64), np.array([np.nan, 7.0, np.nan]))
    assert more.n[0] == 13


def test_where_nothing_can_be_tested():
    assert largest_p(np.array([5.0, 6.0]), Naturals.none(3)) == 1
    once = Naturals.none(2).with_scores(np.arange(2), np.array([1.0, 2.0]))
    assert largest_p(np.array([5.0, 6.0]), once) == 1
    constant = Naturals.none(1).with_scores(np.zeros(4, np.int64), np.ones(4))
    assert largest_p(np.array([np.nan, 2.0, 2.0]), constant) == 0
    assert largest_p(np.array([1.0, 1.0]), constant) == 1


def run(subject, save=None, stop=(), images=600, **options):
    space = Fourier(16, 3)
    threads = [Thread(space, CMAES(space.space, seed=1, population=12), Unit(0))]
    references = np.random.default_rng(3).random((6, 3, 16, 16), np.float32)
    settings = {"images": images, "interleave": 3, "retest_candidates": 0, "progress": False, **options}
    return Session(subject, threads, references=references, stop=stop, save=save, **settings)


def test_a_session_ends_when_it_beats_the_references(tmp_path):
    subject = Poisson(GaborSubject(resolution=16), best=0.3, seed=1)
    session = run(subject, tmp_path / "run", [Beats(0.05, every=2)])
    session.run()
    assert session.reason.startswith("main: beats: the mean of the generation is above every reference")
    again = run(Poisson(GaborSubject(resolution=16), best=0.3, seed=1), tmp_path / "again", [Beats(0.05, every=2)])

    class Stops:
        left = 5

        def begin(self, session):
            pass

        def generation(self, generation):
            self.left -= 1
            if not self.left:
                raise RuntimeError("enough")

        def end(self, session):
            pass

    again.observers = (Stops(),)
    with pytest.raises(Exception, match="enough"):
        again.run()
    resumed = resume(tmp_path / "again", progress=False)
    whole = open_recording(tmp_path / "run")
    np.testing.assert_array_equal(resumed.score.values, whole.score.values)


def test_a_flat_session_does_not_end_by_beating():
    session = run(FunctionSubject(lambda images: np.ones(len(images)), name="flat"), stop=[Beats()], images=120)
    session.run()
    assert session.reason == "main: budget: 120 of 120 images"
    futile = run(FunctionSubject(lambda images: np.ones(len(images)), name="flat"), stop=[Futility()], images=240)
    futile.run()
    assert futile.reason.startswith("main: futility")


def test_rules_by_name():
    content = {
        "subject": "gabor",
        "generator": "fourier",
        "stop": ["futility:300:0.02", "beats", "plateau:7", "target:2"],
    }
    rules = build_rules(parse_experiment(content, "x"))
    assert list(rules) == [Futility(300, 0.02), Beats(), Plateau(7), Target(2.0)]
    assert parse_rule("beats:0.01:3") == {"name": "beats", "alpha": 0.01, "every": 3}


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("bets", "expected one of beats, futility, plateau, target"),
        ("beats:a", "expected numbers"),
        ("beats:0.1:2:3", "at most 2 numbers"),
        ("beats:nan", "alpha"),
    ],
)
def test_refuses_words(word, match):
    with pytest.raises(InvalidArgumentError, match=match):
        parse_rule(word)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Futility(0), "Futility: images"),
        (lambda: Futility(gain=0), "Futility: gain"),
        (lambda: Futility(probability=1.5), "Futility: probability"),
        (lambda: Beats(0), "Beats: alpha"),
        (lambda: Beats(every=0), "Beats: every"),
    ],
)
def test_refuses_numbers(make, match):
    with pytest.raises(InvalidArgumentError, match=match):
        make()
