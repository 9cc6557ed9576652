"""Many units at once: one session, a thread for each unit, and what becomes of one that fails."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import Session, Thread, Unit, load_optimizer, summarize
from closedloop.errors import GeneratorError, InvalidArgumentError, ObjectiveError, OptimizerError
from closedloop.generators import Fourier
from closedloop.interfaces import Units
from closedloop.loop.each import each_unit, threads_of_units, unit_seed
from closedloop.loop.protocol import protocol_of
from closedloop.optimizers import IsotropicES
from closedloop.protocols import evolve, resume
from closedloop.recording.reader import open_recording
from closedloop.subjects import FunctionSubject, GaborSubject

SIDE = 16
SMALL = {"images": 36, "retest_candidates": 2, "retest_repeats": 2, "seed": 3, "progress": False}


def cells(count=4):
    return GaborSubject(resolution=SIDE, count=count, seed=1)


def pictures(n=6):
    return np.random.default_rng(0).integers(0, 256, (n, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)


class OneByOne:
    """A subject that answers image by image, so that no answer depends on the size of a batch."""

    def __init__(self, subject):
        self._subject = subject

    def __getattr__(self, name):
        return getattr(self._subject, name)

    def record(self, images):
        return np.concatenate([self._subject.record(images[i : i + 1]) for i in range(len(images))])


class Codes:
    """A generator that notes how many codes it was asked for at once."""

    def __init__(self):
        self._inner, self.calls = Fourier(SIDE, 2), []
        self.name, self.space, self.resolution = "noted", self._inner.space, SIDE
        self.fingerprint = "noted"

    def __call__(self, codes):
        self.calls.append(len(codes))
        return self._inner(codes)


# Threads of units -----------------------------------------------------------------------------------------------------


def test_threads_are_named_for_their_units():
    units = Units(("lite0.output.7", "lite0.blocks.4.30@7,7", "é"), {})
    found = each_unit(units, "all", 3)
    assert [one.name for one in found] == ["unit-7", "unit-30-7-7", "unit-0"]
    assert [one.column for one in each_unit(units, "2,0", 3)] == [2, 0]
    assert [one.seed for one in found] == [unit_seed(3, name) for name in units.neuroid_id]
    assert len({one.seed for one in found}) == 3
    twins = Units(("a.7", "b.7", "a-7"), {})
    assert len({one.name for one in each_unit(twins, "all", 0)}) == 3
    long = Units(("x" * 200, "y" * 200), {})
    assert all(len(one.name) <= 100 for one in each_unit(long, "all", 0))


def test_a_units_seed_depends_on_no_other_unit():
    units = Units(tuple(f"a.{i}" for i in range(9)), {})
    some, every = each_unit(units, "random:3", 5), each_unit(units, "all", 5)
    assert all(one in every for one in some)


@pytest.mark.parametrize(
    "optimizer",
    ["isotropic", {"name": "isotropic", "population": 6}, lambda space, seed: IsotropicES(space, seed=seed)],
)
def test_optimizers_are_made_by_name_by_recipe_or_by_a_function(optimizer):
    generator = Fourier(SIDE, 2)
    threads = threads_of_units(cells().units, "0-1", generator, optimizer, 3)
    assert all(t.generator is generator for t in threads)
    assert len({id(t.optimizer) for t in threads}) == 2


def test_one_optimizer_cannot_serve_many():
    generator = Fourier(SIDE, 2)
    with pytest.raises(InvalidArgumentError, match="optimizer: expected a name such as 'auto', or a function"):
        evolve(cells(), generator, load_optimizer("isotropic", generator.space), units="all", **SMALL)
    with pytest.raises(InvalidArgumentError, match="optimizer: expected an Optimizer"):
        evolve(cells(1), generator, "isotropic", **SMALL)
    with pytest.raises(InvalidArgumentError, match="objective: expected none with units"):
        evolve(cells(), generator, "isotropic", units="all", objective="unit(0)", **SMALL)


def test_own_responses_need_objectives_of_one_unit():
    generator = Fourier(SIDE, 2)
    thread = Thread(generator, IsotropicES(generator.space), Unit(0) - Unit(1))
    with pytest.raises(InvalidArgumentError, match=r"responses: expected 'all', for thread 'main'.*reads 2 units"):
        Session(cells(), [thread], responses="own")


# What they find, and how they are shown -------------------------------------------------------------------------------


def test_images_of_threads_are_made_in_one_call():
    generator = Codes()
    evolve(cells(), generator, {"name": "isotropic", "population": 6}, units="all", references=None, **SMALL)
    evolving = [count for count in generator.calls if count == 24]
    assert len(evolving) == 6  # generations of four threads with six codes each


@pytest.mark.parametrize("optimizer", ["isotropic", "cma-diagonal", "auto"])
def test_each_unit_finds_bit_by_bit_what_its_run_alone_finds(optimizer):
    """Where generator and subject answer to an image alone: what is told of others reaches no thread."""
    subject, generator = OneByOne(cells()), Fourier(SIDE, 2)
    many = evolve(subject, generator, optimizer, units="all", references=pictures(), **SMALL)
    for column, (name, found) in enumerate(zip(many["evolution"].values, summarize(many), strict=True)):
        seed = unit_seed(3, subject.units.neuroid_id[column])
        alone = evolve(
            subject,
            generator,
            load_optimizer(optimizer, generator.space, seed=seed),
            objective=f"unit({column})",
            references=pictures(),
            **SMALL,
        )
        (single,) = summarize(alone)
        assert single.evolved.mean == found.evolved.mean
        assert single.natural == found.natural
        own = many["thread"].values == name
        for kind in ("evolved", "retest"):
            codes, others = (
                ds["latent_code"].values[rows & (ds["kind"].values == kind)]
                for ds, rows in ((many, own), (alone, alone["thread"].values == "main"))
            )
            assert len(codes) == len(others)
            assert {code.tobytes() for code in codes} == {code.tobytes() for code in others}


# Failures -------------------------------------------------------------------------------------------------------------


class Breaking:
    """Optimizers of which the one of a seed breaks at a call."""

    def __init__(self, seed, call, after=None, error="a bug of somebody's"):
        self.seed, self.call, self.after, self.error = seed, call, after or 2, error

    def __call__(self, space, seed):
        made = IsotropicES(space, seed=seed, population=6)
        if seed != self.seed:
            return made
        inner, count = getattr(made, self.call), [0]

        def broken(*args, **kwargs):
            count[0] += 1
            if count[0] > self.after:
                raise ZeroDivisionError(self.error)
            return inner(*args, **kwargs)

        setattr(made, self.call, broken)
        return made


@pytest.mark.parametrize("call", ["ask", "tell", "state"])
def test_a_thread_that_fails_does_not_end_the_others(tmp_path, call):
    subject = cells()
    bad = unit_seed(3, subject.units.neuroid_id[1])
    with pytest.warns(UserWarning, match=r"thread 'unit-1' failed after \d+ images, and the others go on: .*a bug of"):
        found = evolve(
            subject, Fourier(SIDE, 2), Breaking(bad, call), units="all", references=pictures(), save=tmp_path / "r",
            **SMALL,
        )  # fmt: skip
    assert "unit-1: failed: " in found.attrs["reason"]
    good = evolve(
        subject, Fourier(SIDE, 2), {"name": "isotropic", "population": 6}, units="all", references=pictures(), **SMALL
    )
    for one, other in zip(summarize(found), summarize(good), strict=True):
        if one.thread != "unit-1":
            assert one.evolved == other.evolved
            assert one.images == 36
    failed = summarize(found)[1]
    assert failed.images < 36
    assert failed.evolved.n == (0 if not failed.images else 2)  # what it found is re-tested


def test_why_a_thread_of_many_failed_is_told_whole(tmp_path):
    subject = cells(7)
    bad = unit_seed(3, subject.units.neuroid_id[1])
    broken = Breaking(bad, "tell", error="too small; a: make it larger")
    with pytest.warns(UserWarning, match="failed"):
        found = evolve(subject, Fourier(SIDE, 2), broken, units="all", references=None, save=tmp_path / "r", **SMALL)
    (line,) = (line for line in protocol_of({}, "").summary(tmp_path / "r", found).lines if line.startswith("Ended:"))
    assert "too small; a: make it larger" in line
    assert line.endswith("; 6 threads by budget: 36 of 36 images")


def test_all_fail_ends_the_session():
    def broken(space, seed):
        made = IsotropicES(space, seed=seed, population=6)
        made.tell = lambda codes, scores: 1 / 0
        return made

    with pytest.warns(UserWarning, match="failed"), pytest.raises(OptimizerError, match="ZeroDivisionError"):
        evolve(cells(2), Fourier(SIDE, 2), broken, units="all", references=None, **SMALL)


def test_a_failure_ends_all_where_it_shall():
    subject = cells()
    bad = unit_seed(3, subject.units.neuroid_id[1])
    with pytest.raises(OptimizerError, match="a bug of somebody's"):
        evolve(subject, Fourier(SIDE, 2), Breaking(bad, "tell"), units="all", references=None, failures="stop", **SMALL)


def test_a_generator_that_fails_for_some_codes_fails_their_thread_alone():
    class Picky(Codes):
        def __call__(self, codes):
            if (codes == self.poison).all(1).any():
                raise FloatingPointError("this one code")
            return super().__call__(codes)

    generator = Picky()
    generator.poison = np.full(generator.space.dim, np.inf)
    subject = cells()
    threads = threads_of_units(subject.units, "all", generator, {"name": "isotropic", "population": 6}, 3)
    generator.poison = threads[2].optimizer.ask()[3]
    with pytest.warns(UserWarning, match="thread 'unit-2' failed after 0 images"):
        found = Session(subject, threads, responses="own", failures="thread", references=None, **SMALL).run()
    assert [s.images for s in summarize(found)] == [36, 36, 0, 36]
    with pytest.raises(GeneratorError, match="this one code"):
        Session(
            subject, threads_of_units(subject.units, "all", generator, {"name": "isotropic", "population": 6}, 3),
            references=None, **SMALL,
        ).run()  # fmt: skip


def test_an_objective_that_fails_fails_its_thread_alone(tmp_path):
    class Moody:
        columns = (1,)

        def __call__(self, responses):
            raise KeyError("no mood")

        def describe(self):
            return "unit(1)"

    subject, generator = cells(2), Fourier(SIDE, 2)
    threads = [
        Thread(generator, IsotropicES(generator.space, seed=1, population=6), Unit(0), "good"),
        Thread(generator, IsotropicES(generator.space, seed=2, population=6), Moody(), "moody"),
    ]
    with pytest.warns(UserWarning, match="thread 'moody' failed"):
        found = Session(subject, threads, failures="thread", references=pictures(), **SMALL).run()
    assert summarize(found)[0].images == 36
    with pytest.raises(ObjectiveError, match="no mood"):
        Session(
            subject,
            [
                Thread(generator, IsotropicES(generator.space, seed=1, population=6), Unit(0), "good"),
                Thread(generator, IsotropicES(generator.space, seed=2, population=6), Moody(), "moody"),
            ],
            references=pictures(),
            **SMALL,
        ).run()


def test_a_session_with_a_failed_thread_goes_on(tmp_path):
    """The failure is part of the state: the thread stays out, and the others end as they would have."""
    subject = cells()
    bad = unit_seed(3, subject.units.neuroid_id[1])

    class Stop:
        def begin(self, session):
            self.left = 5

        def generation(self, generation):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt("enough")

        def end(self, session):
            pass

    def session(save, observers=()):
        threads = threads_of_units(subject.units, "all", Fourier(SIDE, 2), Breaking(bad, "tell"), 3)
        return Session(
            subject, threads, responses="own", failures="thread", references=pictures(), save=save,
            observers=observers, **SMALL,
        )  # fmt: skip

    with pytest.warns(UserWarning, match="failed"):
        whole = session(tmp_path / "whole").run()
    with pytest.warns(UserWarning, match="failed"), pytest.raises(KeyboardInterrupt, match="enough"):
        session(tmp_path / "cut", [Stop()]).run()
    threads = threads_of_units(subject.units, "all", Fourier(SIDE, 2), Breaking(bad, "tell"), 3)
    resume(tmp_path / "cut", subject=subject, threads=threads)
    found = open_recording(tmp_path / "cut")
    assert found.attrs["reason"] == whole.attrs["reason"]
    np.testing.assert_array_equal(found["score"].values, whole["score"].values)


def test_a_subject_of_functions_has_units_too():
    subject = FunctionSubject(lambda x: x.reshape(len(x), -1)[:, :3].astype(float), 3, name="f")
    found = evolve(subject, Fourier(SIDE, 2), "isotropic", units="random:2", references=None, **SMALL)
    assert found.sizes["evolution"] == 2


def test_many_units_on_a_gpu():
    """The same session with network and generator on a GPU; benchmarks/scale.py measures how busy it keeps that."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    from closedloop.recipes import matched_generator
    from closedloop.subjects import load_subject

    subject = load_subject("lite0", layer="output", units="0-7", device="cuda")
    generator = matched_generator({"name": "native"}, subject)
    found = evolve(subject, generator, "auto", units="all", references=None, **SMALL)
    assert np.isfinite([s.evolved.mean for s in summarize(found)]).all()


@pytest.mark.parametrize(
    ("make", "why"),
    [(lambda space, seed: 1 / 0, "ZeroDivisionError"), (lambda space: None, "positional argument")],
)
def test_a_function_that_makes_no_optimizer_is_named_with_its_thread(make, why):
    units, generator = Units(("a.0", "a.1"), {}), Fourier(8, 1)
    with pytest.raises(OptimizerError, match=rf"thread 'unit-0': optimizer, called as f\(space, seed\).*{why}"):
        threads_of_units(units, "all", generator, make, 0)
