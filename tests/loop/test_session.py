"""The closed loop: what is shown, what is counted, what is recorded, and what is reported."""

from __future__ import annotations

import errno
import json
import os
import re
import threading

import numpy as np
import pytest
from PIL import Image

from closedloop import (
    CMAES,
    IsotropicES,
    Mean,
    Plateau,
    RandomSearch,
    Session,
    Space,
    Target,
    Thread,
    Unit,
    Units,
    analysis,
    summarize,
)
from closedloop.errors import (
    CallOrderError,
    GeneratorError,
    InvalidArgumentError,
    RecordingError,
    SubjectError,
    SubjectTimeoutError,
)
from closedloop.generators import Fourier, Pixels
from closedloop.images.eight_bit import quantize
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet
from closedloop.interfaces import BUDGET
from closedloop.loop.experiment import parse_experiment
from closedloop.loop.settings import Settings
from closedloop.optimizers import load_optimizer
from closedloop.protocols import evolve, resume
from closedloop.recording.reader import open_recording
from closedloop.recording.render import render
from closedloop.seeds import generator_state, restore_generator
from closedloop.subjects import GaborSubject

SIDE = 16
SMALL = {"images": 24, "interleave": 2, "retest_candidates": 2, "retest_repeats": 3, "seed": 1}


class Spy:
    """Two linear cells that remember what they saw; `trouble(call, images, answer)` may change an answer or raise."""

    name = "spy"
    fingerprint = ""  # its trouble is the cable's, not its own
    units = Units(("spy.0", "spy.1"), {"layer": ("l", "l")})

    def __init__(self, trouble=lambda call, images, answer: answer, noise=0.0):
        self.trouble, self.noise = trouble, noise
        self.seen = []
        self.rng = np.random.default_rng(7)
        self.weights = np.random.default_rng(8).standard_normal((3 * SIDE**2, 2)) / SIDE

    def record(self, images):
        self.seen.append(images.copy())
        answer = (images.reshape(len(images), -1).astype(float) - 0.5) @ self.weights
        answer += self.noise * self.rng.standard_normal(answer.shape)
        return self.trouble(len(self.seen) - 1, images, answer)

    def state(self):
        return {"rng": generator_state(self.rng), "calls": len(self.seen)}

    def restore(self, state):
        restore_generator(self.rng, state["rng"])
        self.seen = [None] * state["calls"]

    @property
    def all_seen(self):
        return np.concatenate(self.seen)


def fourier(name="main", seed=1, population=6, objective=None, **options):
    generator = Fourier(resolution=SIDE, cutoff=2, **options)
    return Thread(generator, IsotropicES(generator.space, seed=seed, population=population), objective or Unit(0), name)


def pixels(name="px", seed=2, population=5, resolution=8):
    generator = Pixels(resolution)
    return Thread(generator, CMAES(generator.space, seed=seed, population=population), Unit(1) - 0.5 * Unit(0), name)


def pictures(n=4, seed=0):
    return np.random.default_rng(seed).random((n, 3, SIDE, SIDE), dtype=np.float32)


def run(subject=None, threads=None, references=None, save=None, **options):
    settings = {**SMALL, **options}
    subject = subject or Spy()
    return Session(subject, threads or [fourier()], references=references, save=save, **settings).run()


def assert_equal(found, expected):
    assert set(found.variables) == set(expected.variables)
    for name in expected.variables:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)


def lose(which):
    """Trouble that loses the presentations for which ``which(call, i)`` holds."""

    def trouble(call, images, answer):
        answer[[which(call, i) for i in range(len(images))]] = np.nan
        return answer

    return trouble


# One row for each image shown -----------------------------------------------------------------------------------------


def test_every_image_shown_is_a_row_and_can_be_made_again():
    subject = Spy()
    threads = [fourier(), pixels()]
    found = run(subject, threads, pictures(), repeats=2)
    seen = subject.all_seen
    assert found.sizes["presentation"] == len(seen)
    assert found.sizes["latent"] == 192
    references = {f"image-{i:05d}": p for i, p in enumerate(np.rint(pictures() * 255) / np.float32(255))}
    for row, image in enumerate(seen):
        name, thread = str(found["stimulus_id"][row].item()), str(found["thread"][row].item())
        code = found["latent_code"].values[row]
        if thread == "reference":
            assert np.isnan(code).all()
            np.testing.assert_allclose(references[name], image, atol=1e-7)
            continue
        generator = {t.name: t.generator for t in threads}[thread]
        assert np.isnan(code[generator.space.dim :]).all()
        again = resize_images(generator(code[None, : generator.space.dim]), SIDE)[0]
        np.testing.assert_allclose(quantize(again), image, atol=1e-6)
    np.testing.assert_allclose(found["responses"], Spy().record(seen), rtol=0, atol=1e-12)


def test_images_of_a_whole_batch_are_made_again_bit_by_bit():
    subject, thread = Spy(), fourier()
    found = run(subject, [thread]).isel(presentation=slice(0, 6))
    assert found["generation"].values.tolist() == [0] * 6
    order = np.argsort(found["stimulus_id"].values)
    images = thread.generator(found["latent_code"].values[order][:, : thread.generator.space.dim])
    np.testing.assert_array_equal(quantize(images), subject.seen[0][order])


def test_kinds_add_up():
    found = run(threads=[fourier(), pixels()], references=pictures(), repeats=2)
    table = found[["thread", "kind", "generation"]].to_dataframe()
    shown = table.groupby(["kind", "thread"]).size().to_dict()
    assert shown["evolved", "main"] == 24
    assert shown["evolved", "px"] == 24
    assert shown["reference", "reference"] == 4 + 2 * 3
    assert shown["retest", "main"] == shown["retest", "px"] == (2 + 1) * 3 + 3
    assert shown["retest", "reference"] >= 2 * 3 + 3
    assert len(shown) == 6
    assert sum(shown.values()) == found.sizes["presentation"]
    assert sorted(set(table["generation"])) == [-1, 0, 1, 2, 3, 4]
    assert found["onset_s"].values == pytest.approx(0.2 * np.arange(len(table)))
    assert set(table[table.generation == -1].kind) == {"reference"}
    assert set(table[table.generation >= 3].kind) == {"retest"}


def test_repeats_and_scores():
    found = run(repeats=3, images=36)
    evolved = found.isel(presentation=np.flatnonzero(found["kind"].values == "evolved"))
    for _, group in evolved.groupby("stimulus_id"):
        assert sorted(group["repeat"].values.tolist()) == [0, 1, 2]
        np.testing.assert_allclose(group["score"], group["responses"][:, 0].mean(), rtol=1e-12)
    assert np.isnan(run(references=pictures())["score"].values[:4]).all()


def test_coordinates_name_the_run_and_its_evolutions():
    found = run(threads=[fourier(), pixels()])
    assert found["subject"].item() == "spy"
    assert found["evolution"].values.tolist() == ["main", "px"]
    assert found["generator"].values.tolist() == ["fourier", "pixels"]
    assert found["optimizer"].values.tolist() == ["isotropic", "cma"]
    assert found["objective"].values.tolist() == ["unit(0)", "unit(1) - 0.5*unit(0)"]
    assert found.sel(evolution="px")["optimizer"].item() == "cma"
    assert found["seed"].item() == 1
    assert found["layer"].values.tolist() == ["l", "l"]


def test_a_time_axis_reaches_the_recording():
    found = run(Spy(lambda call, images, answer: np.repeat(answer[..., None], 3, 2)), references=pictures())
    assert found["responses"].dims == ("presentation", "neuroid", "time_bin")
    assert summarize(found)[0].evolved.n == 3


# The order of presentation --------------------------------------------------------------------------------------------


def test_the_order_is_shuffled_and_follows_from_the_seed():
    one, same, other = (run(references=pictures(), seed=s)["stimulus_id"].values.tolist() for s in (1, 1, 2))
    assert one == same
    assert one != other
    assert one[4:12] != sorted(one[4:12])
    assert sorted(one[:12]) == sorted(other[:12])


def test_references_take_turns():
    found = run(references=pictures(5), interleave=2, images=36)
    for generation in range(6):
        rows = (found["generation"].values == generation) & (found["kind"].values == "reference")
        expected = {f"image-{(2 * generation + i) % 5:05d}" for i in range(2)}
        assert set(found["stimulus_id"].values[rows]) == expected
    assert (run(references=pictures(2), interleave=9, images=6)["kind"].values[2:] == "reference").sum() == 2
    assert "reference" not in run(references=None)["kind"].values
    no = run(references=pictures(), interleave=0)
    assert (no["kind"].values == "reference").sum() == 4


# Budget, stopping and lost presentations ------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "repeats", "shown"), [(6, 1, 6), (23, 1, 23), (24, 2, 24), (35, 2, 34)])
def test_the_budget_is_never_exceeded(images, repeats, shown):
    found = run(images=images, repeats=repeats)
    assert (found["kind"].values == "evolved").sum() == shown


def test_an_optimizer_is_not_asked_for_codes_that_no_budget_is_left_for(monkeypatch):
    """Some fail at it: those of nevergrad that were told a budget, once it is used up."""
    thread, calls = fourier(), []
    propose = type(thread.optimizer)._propose
    monkeypatch.setattr(type(thread.optimizer), "_propose", lambda self: calls.append(1) or propose(self))
    found = run(Spy(), [thread], images=24)
    assert len(calls) == 24 // 6
    assert (found["kind"].values == "evolved").sum() == 24


@pytest.mark.filterwarnings("ignore:subject 'spy'. not a single response")
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_budget_holds_with_lost_presentations_too(share):
    rng = np.random.default_rng(0)
    subject = Spy(lose(lambda call, i: rng.random() < share))
    found = run(subject, [fourier(), pixels()], pictures(), images=50, retries=3, lost_blocks=1000)
    for thread in ("main", "px"):
        shown = ((found["kind"].values == "evolved") & (found["thread"].values == thread)).sum()
        assert 38 < shown <= 50


def test_lost_presentations_are_shown_again_up_to_the_limit():
    always = Spy(lambda call, images, answer: np.where(images[:, 0, 0, :1] > 0.5, np.nan, answer))
    found = run(always, images=60, retries=2)
    evolved = found.isel(presentation=np.flatnonzero(found["kind"].values == "evolved"))
    counts = set()
    for _, group in evolved.groupby("stimulus_id"):
        lost = bool(np.isnan(group["responses"]).all())
        counts.add((lost, group.sizes["presentation"]))
        assert np.isnan(group["score"]).all() == lost
    assert {(False, 1), (True, 3)} <= counts
    again = run(Spy(lose(lambda call, i: call == 0 and i < 3)), images=60)
    first = again.isel(presentation=slice(0, 9))
    assert np.isnan(first["responses"]).all("neuroid").sum() == 3
    assert not np.isnan(first["score"]).any()


@pytest.mark.filterwarnings("ignore:subject 'spy'. not a single response")
@pytest.mark.parametrize("answer", [np.nan, 0.0, 3.0])
def test_a_subject_without_a_preference_is_no_success(tmp_path, answer):
    subject = Spy(lambda call, images, responses: np.full_like(responses, answer))
    found = run(subject, [fourier(), pixels()], pictures(), save=tmp_path / "run")
    for thread in summarize(found):
        if np.isnan(answer):
            assert thread.evolved.n == 0
            assert np.isnan(thread.evolved.mean)
            assert np.isnan(thread.ratio)
        else:
            assert thread.evolved.mean == thread.natural.mean
            assert not thread.ratio > 1
    assert found.attrs["finished"] == 1
    names = list((tmp_path / "run").glob("images/*"))
    assert bool(names) == (not np.isnan(answer))


def test_one_thread_stops_while_others_go_on():
    def patience(history):
        return "enough" if len(history) == 2 and history[0].images == 5 else None

    session = Session(Spy(), [fourier(), pixels()], stop=[patience], **SMALL)
    found = session.run()
    evolved = found["kind"].values == "evolved"
    generations = {t: set(found["generation"].values[evolved & (found["thread"].values == t)]) for t in ("main", "px")}
    assert generations == {"main": {0, 1, 2, 3}, "px": {0, 1}}
    assert session.reasons == {"px": "enough", "main": "budget: 24 of 24 images"}
    assert {t.thread: t.evolved.n for t in summarize(found)} == {"main": 3, "px": 3}


def test_rules_stop():
    session = Session(
        Spy(lambda c, i, a: np.ones_like(a)), [fourier()], stop=[Plateau(2, 0.1)], **{**SMALL, "images": 600}
    )
    session.run()
    assert "plateau" in session.reasons["main"]
    assert session.evolutions[0].images == 24
    session = Session(Spy(), [fourier()], stop=[Target(-100.0)], **SMALL)
    session.run()
    assert session.reasons["main"].startswith("target")
    assert session.evolutions[0].images == 6


# The re-test ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_reported_mean_is_unbiased_where_the_noisy_maximum_is_far_too_high():
    errors, maxima, within = [], [], []
    for seed in range(40):
        subject = Spy(noise=3.0)
        subject.rng = np.random.default_rng(seed)
        thread = fourier(seed=seed)
        found = run(subject, [thread], seed=seed, images=60, retest_repeats=8)
        (summary,) = summarize(found)
        rows = found["stimulus_id"].values == summary.evolved.stimulus_id
        code = found["latent_code"].values[rows][0]
        truth = Spy().record(thread.generator(code[None]))[0, 0]
        errors.append(summary.evolved.mean - truth)
        maxima.append(summary.noisy_maximum - truth)
        within.append(abs(errors[-1]) < 2 * summary.evolved.sem)
        assert summary.evolved.n == 8
    standard_error = 3.0 / np.sqrt(8 * 40)
    assert abs(np.mean(errors)) < 3 * standard_error
    assert np.mean(maxima) > 15 * standard_error
    assert np.mean(within) > 0.75


@pytest.mark.parametrize("seed", range(6))
def test_the_confirmed_image_is_the_best_of_the_selection_in_fresh_presentations(seed):
    subject = Spy(noise=5.0)
    subject.rng = np.random.default_rng(seed)
    found = run(subject, [fourier(seed=seed)], pictures(6))
    select = found.isel(presentation=np.flatnonzero(found["generation"].values == 4))
    confirm = found.isel(presentation=np.flatnonzero(found["generation"].values == 5))
    means = (
        select.isel(presentation=np.flatnonzero(select["thread"].values == "main"))
        .groupby("stimulus_id")
        .mean()["score"]
    )
    chosen = set(confirm["stimulus_id"].values[confirm["thread"].values == "main"])
    assert chosen == {str(means["stimulus_id"][int(np.argmax(means.values))].item())}
    assert len(means) == 3
    assert (confirm["thread"].values == "reference").sum() == 3
    assert found["generation"].values.max() == 5


def test_without_a_retest():
    found = run(retest_candidates=0)
    assert set(found["kind"].values) == {"evolved"}
    assert summarize(found)[0].evolved.n == 0


# Images kept ----------------------------------------------------------------------------------------------------------


def test_images_kept(tmp_path):
    subject = Spy()
    found = run(subject, save=tmp_path / "best", references=pictures())
    scores = found["score"].values
    names = {p.stem for p in (tmp_path / "best" / "images").iterdir()}
    for generation in range(4):
        rows = np.flatnonzero((found["generation"].values == generation) & (found["kind"].values == "evolved"))
        best = rows[np.argmax(scores[rows])]
        name = str(found["stimulus_id"][best].item())
        with Image.open(tmp_path / "best" / "images" / f"{name}.png") as stored:
            np.testing.assert_array_equal(np.asarray(stored), np.rint(subject.all_seen[best] * 255).transpose(1, 2, 0))
        assert sum(n.startswith(f"main-g{generation:04d}") for n in names) >= 1
    assert len(names) <= 6
    everything = run(save=tmp_path / "all", keep="all", references=pictures())
    ids = set(everything["stimulus_id"].values[everything["thread"].values == "main"])
    assert {p.stem for p in (tmp_path / "all" / "images").iterdir()} == ids
    run(save=tmp_path / "none", keep="none")
    assert not (tmp_path / "none" / "images").exists()


def test_observers_see_each_committed_generation(tmp_path):
    calls = []

    class Watch:
        def begin(self, session):
            calls.append("begin")

        def generation(self, generation):
            committed = json.loads((tmp_path / "run" / "COMMITTED.json").read_text())["n_generations"]
            calls.append((generation.index, generation.phase, committed))

        def end(self, session):
            calls.append("end")

    run(save=tmp_path / "run", images=12, references=pictures(), observers=[Watch()])
    phases = [(-1, "survey", 1), (0, "evolve", 2), (1, "evolve", 3), (2, "select", 4), (3, "confirm", 5)]
    assert calls == ["begin", *phases, "end"]


# Wrong arguments: nothing is written ----------------------------------------------------------------------------------


SHARED = fourier("a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 0}, "images: expected a whole number of at least 1, got 0"),
        ({"images": 10.0}, "images: expected a whole number"),
        ({"repeats": True}, "repeats: expected a whole number"),
        ({"retries": -1}, "retries: expected a whole number of at least 0"),
        ({"retest_repeats": 0}, "retest_repeats: expected"),
        ({"soa_s": 0}, "soa_s: expected seconds above 0, got 0"),
        ({"soa_s": None}, "soa_s: expected seconds above 0, got None"),
        ({"soa_s": np.inf}, "soa_s: expected seconds above 0, got inf"),
        ({"timeout_s": "1"}, "timeout_s: expected seconds above 0, got '1'"),
        ({"timeout_s": np.nan}, "timeout_s: expected"),
        ({"keep": "some"}, "keep: expected 'best', 'all' or 'none', got 'some'"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"imagse": 5}, "imagse: no such setting. Did you mean 'images'"),
        ({"images": 5}, "images: expected at least one generation of thread 'main', 6 images, got 5"),
        ({"images": 11, "repeats": 2}, "12 images, got 11"),
        ({"references": pictures()[:0]}, "references: expected at least one image, got none"),
        ({"references": pictures() * 3}, r"expected RGB in \[0, 1\]"),
        ({"threads": [fourier(objective=Unit(2))]}, r"'unit\(2\)': expected a response column 2, got 2 units"),
        ({"threads": [fourier(), fourier()]}, r"expected one or more with different names, got \['main', 'main'\]"),
        ({"threads": [SHARED, Thread(SHARED.generator, SHARED.optimizer, Unit(0), "b")]}, "share one optimizer"),
    ],
)  # fmt: skip
def test_wrong_arguments(tmp_path, settings, message):
    subject = Spy()
    with pytest.raises(InvalidArgumentError, match=message):
        run(subject, save=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    assert not subject.seen


def test_a_session_runs_once():
    again = Session(Spy(), [fourier()], images=12)
    again.run()
    with pytest.raises(CallOrderError, match="it has run already; build a new one"):
        again.run()


def test_no_thread_at_all():
    with pytest.raises(InvalidArgumentError, match="threads: expected one or more"):
        Session(Spy(), [])


def test_settings_take_numpy_numbers(tmp_path):
    run(save=tmp_path / "run", images=np.int64(12), soa_s=np.float32(0.5), timeout_s=np.int16(60))
    assert open_recording(tmp_path / "run").attrs["finished"] == 1
    assert Settings(images=np.int64(3)).images == 3


def test_gradients_are_for_subjects_that_have_them():
    thread = fourier()
    thread.optimizer.needs_gradient = True
    with pytest.raises(InvalidArgumentError, match=r"subject: expected a differentiable one.*got 'spy'"):
        Session(Spy(), [thread])


def test_the_settings_leave_the_optimizer_as_it_was():
    thread, other = fourier(), fourier()
    session = Session(Spy(), [thread], **SMALL)
    session.layout()
    np.testing.assert_array_equal(thread.optimizer.ask(), other.optimizer.ask())


# Failures: what was finished is safe, and the run goes on ------------------------------------------------------------


def at(call, what):
    """Trouble in one call, and again and again after it."""

    def trouble(now, images, answer):
        return what(images, answer) if now >= call else answer

    return trouble


def fail(error):
    def what(images, answer):
        raise error

    return what


def hang(images, answer):
    threading.Event().wait(1.0)
    return answer


FAILURES = {
    "raises": (fail(OSError("the rig is off")), SubjectError, "subject 'spy' raised OSError: the rig is off"),
    "shape": (lambda images, a: a[:, :1], SubjectError, r"expected responses of shape \(\d+, 2\)"),
    "time": (
        lambda images, a: np.stack([a, a], 2),
        SubjectError,
        r"expected responses of shape \(2,\) .* as before",
    ),
    "infinite": (lambda images, a: a / 0.0, SubjectError, "is infinite"),
    "slow": (hang, SubjectTimeoutError, r"no answer to \d+ images within timeout_s=0\.2"),
    "interrupt": (fail(KeyboardInterrupt("stop")), KeyboardInterrupt, "stop"),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("call", [0, 2, 5])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_failing_subject_leaves_a_run_that_goes_on(tmp_path, failure, call):
    what, kind, message = FAILURES[failure]
    if failure == "time" and call == 0:
        pytest.skip("there is no shape before the first answer")
    options = {"references": pictures(), "timeout_s": 0.2 if failure == "slow" else None}
    whole = run(Spy(noise=1.0), **options)
    folder = tmp_path / "run"
    with pytest.raises(kind, match=message) as caught:
        run(Spy(at(call, what), noise=1.0), save=folder, **options)
    if call == 0:
        with pytest.raises(RecordingError, match="no finished generation yet"):
            open_recording(folder)
    else:
        found = open_recording(folder)
        assert found.attrs["n_generations"] == call
        assert_equal(found, whole.isel(presentation=slice(0, found.sizes["presentation"])))
    assert_equal(resume(folder, subject=Spy(noise=1.0)), whole)
    assert caught.value  # its traceback holds the session all the time, and yet the lock is free


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images * np.nan, "generator 'spoilt': .*NaN"),
        (lambda images: images * 255, r"generator 'spoilt': expected RGB in \[0, 1\].*divide by 255"),
        (lambda images: images[1:], "generator 'spoilt': expected 4 images for 4 codes, got 3"),
        (lambda images: images[:, 0], r"generator 'spoilt': expected shape \(n, 3, 16, 16\)"),
        (lambda images: images[..., 1:], r"generator 'spoilt': expected shape \(n, 3, 16, 16\), got \(4, 3, 16, 15\)"),
        (lambda images: images.round().astype(np.uint8), "generator 'spoilt': expected floating-point RGB"),
    ],
)
def test_a_generator_that_returns_no_images(tmp_path, spoil, message):
    class Spoilt:
        name, resolution, space = "spoilt", SIDE, Space(3 * SIDE**2, 0.0, 1.0)

        def __call__(self, codes):
            return spoil(codes.reshape(-1, 3, SIDE, SIDE).astype(np.float32))

    generator = Spoilt()
    thread = Thread(generator, RandomSearch(generator.space, population=4))
    with pytest.raises(GeneratorError, match=message):
        run(threads=[thread], save=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_objective_that_returns_no_scores():
    class Odd:
        answer = np.zeros((3, 3))

        def __call__(self, responses):
            return self.answer

        def describe(self):
            return "odd"

    with pytest.raises(
        InvalidArgumentError, match=r"expected 6 finite scores \(or NaN\) from its objective, got shape \(3, 3"
    ):
        run(threads=[fourier(objective=Odd())])
    Odd.answer = np.full(6, np.inf)
    with pytest.raises(InvalidArgumentError, match="with infinity"):
        run(threads=[fourier(objective=Odd())])


def test_an_optimizer_that_asks_for_nothing():
    thread = fourier()
    optimizer = thread.optimizer

    class Mute:
        name, needs_gradient, space = "mute", False, optimizer.space

        def ask(self):
            return np.empty((0, self.space.dim))

        def tell(self, codes, scores, gradients=None):
            pass

        def state(self):
            return {}

        def restore(self, state):
            pass

    message = r"thread 'main': optimizer 'mute', ask\(\): .*the optimizer asked for no code at all"
    with pytest.raises(InvalidArgumentError, match=message):
        run(threads=[Thread(thread.generator, Mute())])


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("generation", [0, 2, 6])
def test_a_full_disk_leaves_a_run_that_goes_on(tmp_path, monkeypatch, call, generation, tally):
    tally("full disks")
    genuine, full = getattr(os, call), []

    def sometimes(*arguments, **options):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return genuine(*arguments, **options)

    def fill(now, images, answer):
        if now == generation:
            full.append(True)
        return answer

    whole = run(Spy(noise=1.0), references=pictures())
    with monkeypatch.context() as patch:
        patch.setattr(os, call, sometimes)
        safe = "Every finished generation is safe" if generation else "No generation was finished"
        with pytest.raises(RecordingError, match=rf"No space left on device.*{safe}; make room"):
            run(Spy(fill, noise=1.0), references=pictures(), save=tmp_path / "run")
    if not generation:
        run(Spy(noise=1.0), references=pictures(), save=tmp_path / "run")
    else:
        found = open_recording(tmp_path / "run")
        assert found.attrs["n_generations"] == generation
        assert_equal(found, whole.isel(presentation=slice(0, found.sizes["presentation"])))
    assert_equal(resume(tmp_path / "run", subject=Spy(noise=1.0)), whole)


def test_an_existing_run_and_a_second_writer(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(SubjectError, match="raised ValueError"):
        run(Spy(at(2, fail(ValueError("x")))), save=folder)
    with pytest.raises(RecordingError, match=f"or go on with it: closedloop resume {re.escape(str(folder))}"):
        run(save=folder)

    def second(now, images, answer):
        if now == 3:
            with pytest.raises(RecordingError, match="this process is writing this run already"):
                resume(folder, subject=Spy())
        return answer

    assert resume(folder, subject=Spy(second)).attrs["finished"] == 1


def test_a_finished_run_stays_as_it_is(tmp_path):
    whole = run(save=tmp_path / "run")
    before = (tmp_path / "run" / "COMMITTED.json").read_bytes()
    assert_equal(resume(tmp_path / "run"), whole)
    assert (tmp_path / "run" / "COMMITTED.json").read_bytes() == before


def test_references_of_another_size_and_named_sets():
    names = ImageSet(("cat", "dog"), np.random.default_rng(0).random((2, 3, 40, 40), dtype=np.float32))
    found = run(references=names, threads=[fourier(), pixels()])
    assert set(found["stimulus_id"].values[:2]) == {"cat", "dog"}


def test_mean_of_units_without_a_column():
    with pytest.raises(InvalidArgumentError, match="expected a response column 5"):
        Session(Spy(), [fourier(objective=Mean([0, 5]))])


# One budget, in one place --------------------------------------------------------------------------------------------


def test_the_session_hands_its_budget_to_optimizers():
    space = Fourier(16, 3).space
    threads = [
        Thread(Fourier(16, 3), load_optimizer(name, space, seed=i), name=f"t{i}")
        for i, name in enumerate(("auto", "sphere-cma", "shuffled:auto", "isotropic"))
    ]
    Session(Spy(), threads, images=200, repeats=2).run()
    assert [t.optimizer.budget for t in threads[:3]] == [100, 100, 100]
    assert threads[0].optimizer.images == 100
    assert threads[1].optimizer.generations == 2


def test_another_budget_is_said():
    space = Fourier(16, 3).space
    thread = Thread(Fourier(16, 3), load_optimizer("auto", space, images=500))
    with pytest.warns(UserWarning, match="thread 'main': its optimizer plans with 500 codes, but the session has 60"):
        Session(Spy(), [thread], images=60, repeats=2).run()
    assert thread.optimizer.budget == 500


def test_a_resumed_optimizer_has_the_same_budget(tmp_path):
    """Handed over again without a budget, it gets that of the session, as at the beginning."""

    def threads():
        generator = Fourier(16, 3)
        return [Thread(generator, load_optimizer("auto", generator.space, seed=3))]

    whole = Session(Spy(), threads(), images=120).run()
    with pytest.raises(KeyboardInterrupt, match="stop"):
        Session(Spy(), threads(), images=120, save=tmp_path / "run", observers=[Stop(4)]).run()
    found = resume(tmp_path / "run", subject=Spy(), threads=threads())
    np.testing.assert_array_equal(found["latent_code"].values, whole["latent_code"].values)


class Stop:
    """Stops a session after some blocks."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks

    def begin(self, session) -> None:
        pass

    def generation(self, generation) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt("stop")

    def end(self, session) -> None:
        pass


def typed(*kinds):
    """Trouble that answers in other types of numbers, one for each call; the last one for all further ones."""
    return lambda call, images, answer: kinds[min(call, len(kinds) - 1)](answer)


def test_half_precision_first_and_large_numbers_later():
    found = run(Spy(typed(lambda r: r.astype(np.float16), lambda r: r * 1e6)), retest_candidates=0)
    assert found["responses"].dtype == np.float64
    assert 1e5 < np.abs(found["responses"].values[found["generation"].values > 0]).max() < np.inf


def test_single_precision_first_and_double_later_is_refused_before_it_is_learnt(tmp_path):
    with pytest.raises(SubjectError, match="responses: they came as float32 before, which cannot hold"):
        run(Spy(typed(np.float32, lambda r: r / 3.0)), save=tmp_path / "run")
    assert open_recording(tmp_path / "run").attrs["n_generations"] == 1


def test_masked_responses_are_lost_presentations():
    trouble = typed(lambda r: np.ma.masked_array(np.where(r > 0, r, -999), mask=~(r > 0)))
    found = run(Spy(trouble), retest_candidates=0, retries=0)
    assert found["responses"].min() >= 0
    assert np.isnan(found["responses"]).any()


@pytest.mark.parametrize("spoil", [lambda r: r + 1j, lambda r: r[..., None][..., :0], lambda r: r.astype(str)])
def test_responses_that_are_no_numbers(spoil):
    with pytest.raises(SubjectError, match="subject 'spy': expected"):
        run(Spy(typed(spoil)))


class Watching:
    """A noiseless subject that keeps what it was shown."""

    name, resolution = "watching", 16

    def __init__(self):
        self.inner, self.seen = GaborSubject(orientation_deg=30.0, cycles_per_image=3.0, resolution=16), []
        self.units = self.inner.units

    def record(self, images):
        self.seen.append(images.copy())
        return self.inner.record(images)


@pytest.mark.parametrize("optimizer", ["auto", "sphere-cma", "xdream-ga"])
def test_everything_is_shown_as_a_file_holds_it(optimizer):
    """Evolving images, too: a subject without noise has no winner's curse at all."""
    subject, generator = Watching(), Fourier(16, cutoff=5)
    found = evolve(subject, generator, load_optimizer(optimizer, generator.space, 3), images=300)
    shown = np.concatenate(subject.seen)
    np.testing.assert_array_equal(shown, quantize(shown))
    np.testing.assert_array_equal(render(found, found["kind"].values == "evolved")[:20], evolved_of(found, shown)[:20])
    (summary,) = summarize(found)
    assert summary.curse == 0
    assert analysis.winners_curse(found)["mean_gap"].item() == 0


def evolved_of(found, shown):
    return shown[found["kind"].values == "evolved"]


def test_a_run_that_began_with_exact_images_goes_on_with_them():
    generator = Fourier(16, cutoff=5)
    session = Session(Watching(), [Thread(generator, RandomSearch(generator.space))], images=80, keep="none")
    state = session.state()
    del state["rules"]
    session.restore(state)
    shown = session.show() is not None and session.subject.seen[0]
    assert not np.array_equal(shown, quantize(shown))
    assert "rules" not in session.state()


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_threads_with_generations_that_do_not_fit_have_the_same_budget(repeats):
    threads = [fourier(), pixels()]
    for thread, population in zip(threads, (23, 20), strict=True):
        object.__setattr__(thread, "optimizer", RandomSearch(thread.generator.space, population=population))
    found = run(threads=threads, images=80, repeats=repeats, retest_candidates=0)
    evolved = found["thread"].values[found["kind"].values == "evolved"]
    assert {name: int((evolved == name).sum()) for name in ("main", "px")} == dict.fromkeys(
        ("main", "px"), 80 // repeats * repeats
    )
    assert [s.images for s in summarize(found)] == [80 // repeats * repeats] * 2


def test_a_shortened_generation_tells_the_rest_as_lost():
    told, thread = [], fourier()
    optimizer = RandomSearch(thread.generator.space, population=20)
    plain = optimizer.tell
    optimizer.tell = lambda codes, scores, gradients=None: told.append(np.isnan(scores)) or plain(codes, scores)
    object.__setattr__(thread, "optimizer", optimizer)
    run(threads=[thread], images=50)
    assert [len(lost) for lost in told] == [20, 20, 20]
    assert np.flatnonzero(told[-1]).tolist() == list(range(10, 20))


def test_one_budget_where_nothing_is_said():
    """In Python, in a file, on the command line, and of optimizers that plan."""
    assert Settings().images == BUDGET == load_optimizer("auto", Space(8)).images
    experiment = parse_experiment({"subject": "gabor", "generator": "fourier"}, "here")
    assert experiment.settings["images"] == BUDGET
    optimizer = load_optimizer("auto", Fourier(16, cutoff=5).space)
    evolve(Watching(), Fourier(16, cutoff=5), optimizer, images=60, repeats=2)
    assert optimizer.images == 30
