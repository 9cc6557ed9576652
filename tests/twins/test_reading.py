"""Which readout is taken, what its intervals hold, and that every kind goes all the way."""

import numpy as np
import pytest

from closedloop import load_optimizer
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.generators import load_generator
from closedloop.protocols import evolve, present
from closedloop.subjects import FunctionSubject, load_subject
from closedloop.testing.common import through_a_file
from closedloop.twins import fit_twin
from closedloop.twins.judging import LEVELS
from closedloop.twins.online import OnlineTwin
from closedloop.twins.reading import KINDS, Read, chosen_kinds
from tests import small_places
from tests.small_places import GRID, SIZE, Patches

IMAGES = small_places.shown(120)


def recorded(subject, images=IMAGES):
    return present(subject, images, progress=False, resolution=SIZE)


def test_each_unit_gets_the_kind_that_predicts_it():
    """One looks at a place; the other one everywhere, with a weight of its own for each place."""
    anywhere = np.random.default_rng(5).standard_normal((3, GRID, GRID))

    def answer(x):
        levels = x[:, :, :: SIZE // GRID, :: SIZE // GRID] - 0.5
        return np.stack([small_places.drives(x)[:, 0], np.einsum("ncyx,cyx->n", levels, anywhere)], 1) - 5

    twin = fit_twin(recorded(FunctionSubject(answer, units=2)), Patches(), readout="auto", references=IMAGES)
    assert twin.table["readout"].values.tolist() == ["factorized", "ridge"]
    assert np.isfinite(twin.table["mask"].values[0]).all()
    assert np.isnan(twin.table["mask"].values[1]).all()
    assert (twin.table["r"].values > 0.9).all()


def test_a_kind_is_chosen_by_the_images_of_the_fit_alone():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 20)).astype(np.float32)
    y = (x @ rng.standard_normal(20))[:, None] + 20
    read, fit = Read.of(x, {"features": np.arange(20)}), np.arange(40)
    before = chosen_kinds(read.rows(fit), ("ridge", "poisson"), y[fit], np.ones(40), 0)
    x[40:] = 1e6
    assert (
        chosen_kinds(Read.of(x, {"features": np.arange(20)}).rows(fit), ("ridge", "poisson"), y[fit], np.ones(40), 0)
        == before
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize("readout", KINDS)
def test_a_stored_twin_says_the_same(tmp_path, readout):
    features = {"name": "lite0", "resolution": 32, "weights": "random", "engine": "eager"}
    known = recorded(small_places.spiking(), small_places.shown(40))
    held = small_places.shown(40)
    twin = fit_twin(known, features, ["blocks.0", "blocks.2"], readout=readout, references=held)
    again = load_subject(f"twin:{twin.save(tmp_path / 'twin').recipe['name'].removeprefix('twin:')}")
    np.testing.assert_array_equal(again.record(held.images[:3]), twin.record(held.images[:3]))
    assert again.table.equals(twin.table)
    assert again.fingerprint == twin.fingerprint
    for ends in zip(again.intervals(held.images[:3]), twin.intervals(held.images[:3]), strict=True):
        np.testing.assert_array_equal(*ends)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("subject", "readout"), [("spiking", "poisson"), ("looking", "factorized")])
def test_intervals_hold_as_many_fresh_images_as_they_say(subject, readout):
    """Over six subjects; docs/twins.md says what more of them gave."""
    inside = {level: [] for level in LEVELS[:-1]}
    for seed in range(6):
        made = getattr(small_places, subject)(1.0, seed=seed)
        images, fresh = small_places.shown(100, seed), small_places.shown(300, 100 + seed).images
        twin, answers = (
            fit_twin(recorded(made, images), Patches(), readout=readout, references=images),
            made.record(fresh),
        )
        for level, held in inside.items():
            low, high = twin.intervals(fresh, level)
            held.append(((low <= answers) & (answers <= high)).mean())
    for level, held in inside.items():
        assert np.mean(held) == pytest.approx(level, abs=0.06)


def test_an_interval_needs_images_and_a_level_that_is_kept():
    few = small_places.shown(20)
    twin = fit_twin(recorded(small_places.looking(), few), Patches(), references=few)
    assert np.isnan(twin.intervals(few.images, 0.99)[0]).all()
    with pytest.raises(InvalidArgumentError, match=r"level: expected one of 0.5, 0.8, 0.9, 0.95, 0.99, got 0.7"):
        twin.intervals(few.images, 0.7)


def told(readout, generations=6, negative=False):
    generator = load_generator("pixels", resolution=SIZE)
    twin, rng = OnlineTwin(generator.space, Patches(), readout), np.random.default_rng(0)
    twin.see(generator)
    subject = small_places.spiking(3.0)
    for _ in range(generations):
        codes = generator.space.sample(20, rng)
        twin.learn(codes, subject.record(generator(codes))[:, 0] - 2 * negative)
    return generator, twin


@pytest.mark.parametrize("readout", [*KINDS, "auto"])
def test_within_a_session_it_goes_on_bit_by_bit(readout):
    generator, twin = told(readout)
    if readout != "auto":
        assert twin._beliefs.kind == readout
    again = OnlineTwin(generator.space, Patches(), readout)
    again.see(generator)
    again.restore(through_a_file(twin.state()))
    codes = [each.propose(6, np.random.default_rng(1)) for each in (twin, again)]
    np.testing.assert_array_equal(*codes)
    values = small_places.drives(generator(codes[0]))[:, 0]
    assert (
        values.mean()
        > small_places.drives(generator(generator.space.sample(100, np.random.default_rng(2))))[:, 0].mean()
    )


def test_a_state_of_an_older_version_is_read():
    generator, twin = told("ridge")
    state = {name: value for name, value in twin.state().items() if name not in ("kind", "mask")}
    again = OnlineTwin(generator.space, Patches())
    again.see(generator)
    again.restore(state)
    np.testing.assert_array_equal(again.top(), twin.top())


def test_scores_below_zero_are_read_linearly():
    assert told("factorized-poisson", negative=True)[1]._beliefs.kind == "factorized"


@pytest.mark.parametrize("name", ["twin", "auto"])
def test_an_evolution_by_it(name):
    generator = load_generator("pixels", resolution=SIZE)
    optimizer = load_optimizer(name, generator.space, seed=0, features=Patches(), readout="factorized-poisson")
    subject = load_subject("gabor", resolution=SIZE, seed=0, count=1)
    found = evolve(subject, generator, optimizer, images=80, references=None, progress=False)
    assert (found["proposed_by"].values == "twin").any()
    with pytest.raises(UnknownNameError, match="readout: expected ridge"):
        load_optimizer(name, generator.space, features=Patches(), readout="spikes")
