"""Blocks at a rig: what it is asked, what it answers, and what remains of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from closedloop import CMAES, Session, Thread, Unit, Units, analysis, open_recording
from closedloop.errors import InvalidArgumentError, SubjectError
from closedloop.generators import Fourier
from closedloop.interfaces import Presenting
from closedloop.loop import answers as answers_module
from closedloop.loop import session as session_module
from closedloop.loop.presenter import Presenter, Telling
from closedloop.presentations import Answers, Spikes
from closedloop.protocols import present
from closedloop.seeds import named_generator
from tests.small_rig import SIDE, SmallRig


def photographs(n=5):
    return np.random.default_rng(5).integers(0, 256, (n, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)


def session(rig, save=None, images=24, **settings):
    space = Fourier(SIDE, 2)
    thread = Thread(space, CMAES(space.space, seed=1, population=6), Unit(0), "main")
    chosen = {"retest_repeats": 2, "retest_candidates": 1, "interleave": 2, "seed": 4, "progress": False} | settings
    return Session(rig, [thread], references=photographs(), images=images, save=save, **chosen)


def show(rig, n=6, repeats=1, **options):
    images = photographs(n)
    ids = [f"i{k}" for k in range(n)]
    told = Telling(["main"] * n, ["evolved"] * n, "evolve", 3)
    return Presenter(rig, soa_s=0.2, **options).show(
        images, np.full(n, repeats), named_generator(0, "order"), ids=ids, telling=told
    )


def test_a_rig_is_told_what_is_shown_and_why():
    rig = SmallRig(lost=0.5)
    shown = show(rig, repeats=2, retries=2)
    first, *later = rig.asked
    assert isinstance(rig, Presenting)
    assert len(first) == 12
    assert sorted(first.ids) == [f"i{k}" for k in range(6)]
    assert (set(first.threads), set(first.kinds), first.phase, first.generation) == ({"main"}, {"evolved"}, "evolve", 3)
    assert first.soa_s == 0.2
    np.testing.assert_array_equal(first.images, photographs(6))
    assert [asked.again for asked in rig.asked] == list(range(len(rig.asked)))
    for asked in later:  # only what was lost, and no image that is not shown
        assert set(asked.order.tolist()) == set(range(len(asked.images)))
    assert len(shown.stimulus) == sum(map(len, rig.asked))
    ok = np.asarray(shown.answers.status) == "ok"
    np.testing.assert_array_equal(~np.isnan(shown.responses).all(1), ok)


def test_what_is_not_ok_has_no_response_whatever_came():
    shown = show(SmallRig(lost=1.0, spikes=False), retries=0)
    assert np.isnan(shown.responses).all()
    assert set(shown.answers.status) <= {"fixation_break", "dropped_frame", "aborted", "not_shown", "artifact"}


def test_presentations_come_in_the_order_in_which_they_happened():
    rig = SmallRig(lost=0, shuffle=True)
    shown = show(rig, n=8, retries=0)
    assert (np.diff(shown.answers.onset_s) > 0).all()
    asked = rig.asked[0]
    by_name = dict(zip([f"t{k:06d}" for k in range(8)], asked.order.tolist(), strict=True))
    assert [by_name[name] for name in shown.answers.trial_id] == shown.stimulus.tolist()
    assert shown.stimulus.tolist() != asked.order.tolist()


def test_spikes_are_counted_in_the_window_and_in_bins():
    rig, binned = SmallRig(lost=0), SmallRig(lost=0, bins_s=(0.0, 0.05, 4))
    shown, bins = show(rig), show(binned)
    spikes = shown.answers.spikes
    for row in range(6):
        own = slice(spikes.offsets[row], spikes.offsets[row + 1])
        inside = (spikes.time_s[own] >= 0.05) & (spikes.time_s[own] < 0.2)
        np.testing.assert_array_equal(shown.responses[row], np.bincount(spikes.unit[own][inside], minlength=3))
    assert bins.responses.shape == (6, 3, 4)
    np.testing.assert_array_equal(bins.responses[..., 1:].sum(2), shown.responses)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": ["ok"]}, r"status: expected one for each of 2 presentations, got 1"),
        ({"status": ["ok", "blinked"]}, r"status: expected 'ok' or .*got 'blinked'"),
        ({"trial_id": ["a", "a"]}, r"expected different trial ids in a block, got 'a' twice"),
        ({"responses": None}, r"expected responses or spikes, got neither"),
        ({"responses": np.ones((2, 4))}, r"expected responses of shape \(2, 3\)"),
        ({"onset_s": [1.0]}, r"expected onset_s and attempt of 2 presentations"),
        ({"onset_source": ["guess", "ttl"]}, r"onset_source: expected .*got 'guess'"),
        ({"quality": {"shape": np.ones(3)}}, r"quality: expected snr, rate_hz, artifact_fraction"),
        ({"spikes": Spikes(np.zeros(1), np.array([3]), np.array([0, 1, 1]))}, r"spikes: expected a unit from 0 to 2"),
        ({"spikes": Spikes(np.zeros(1), np.array([0]), np.array([0, 1]))}, r"spikes: expected offsets of 2"),
        ({"spikes": Spikes(np.full(1, np.nan), np.array([0]), np.array([0, 1, 1]))}, r"spikes: expected finite times"),
        (
            {"spikes": Spikes(np.zeros(0), np.zeros(0, int), np.zeros(3, int)), "responses": None, "window_s": (1, 0)},
            r"window_s, bins_s: expected rising times",
        ),
    ],
)
def test_an_answer_that_is_none_is_refused(change, message):
    class Odd(SmallRig):
        def present(self, asked):
            return Answers(**{"status": ["ok"] * 2, "responses": np.ones((2, 3)), **change})

    with pytest.raises(SubjectError, match=message):
        show(Odd(), n=2)


def test_present_returns_answers():
    class Odd(SmallRig):
        def present(self, asked):
            return np.ones((2, 3))

    with pytest.raises(SubjectError, match=r"expected Answers from present\(\), got ndarray"):
        show(Odd(), n=2)


@pytest.mark.parametrize("saved", [False, True])
def test_all_of_it_is_recorded(saved, tmp_path):
    rig = SmallRig()
    ds = session(rig, tmp_path / "run" if saved else None).run()
    n = ds.sizes["presentation"]
    assert n == sum(map(len, rig.asked))
    assert set(np.unique(ds.status.values)) > {"ok"}
    np.testing.assert_array_equal(np.isnan(ds.responses).all("neuroid"), ds.status != "ok")
    assert sorted(ds.trial_id.values) == [f"t{k:06d}" for k in range(n)]
    np.testing.assert_array_equal(np.isnan(ds.onset_s), ds.status == "not_shown")
    assert set(ds.onset_source.values[ds.status.values != "not_shown"]) == {"photodiode"}
    assert set(ds.attempt.values) == {1}
    assert set(ds.day.values) == {answers_module.today()}
    assert len(set(ds.session.values)) == 1
    assert ds.sizes["block"] == ds.block_number.values.max() + 1 == ds.attrs["n_generations"]
    np.testing.assert_array_equal(ds.unit_snr, np.tile([3.0, 4.0, 5.0], (ds.sizes["block"], 1)))
    assert np.isnan(ds.unit_rate_hz).all()
    assert ds.sizes["spike"] == ds.spike_count.sum() == len(ds.spike_time_s)
    np.testing.assert_array_equal(analysis.counts(ds, (0.05, 0.2)), ds.responses)


def test_time_bins_have_begin_end_and_width():
    ds = session(SmallRig(bins_s=(-0.1, 0.02, 15))).run()
    np.testing.assert_allclose(ds.time_bin_start, np.arange(15) * 20 - 100)
    np.testing.assert_allclose(ds.time_bin_end, np.arange(15) * 20 - 80)
    np.testing.assert_allclose(ds.time_bin_width, 20)


def test_a_rig_without_spikes():
    ds = session(SmallRig(spikes=False, quality=False)).run()
    assert "spike" not in ds.dims
    assert "status" in ds.coords
    assert np.isnan(ds.unit_snr).all()


def test_many_units_in_a_lean_recording_keep_all_spikes():
    ds = session(SmallRig(), responses="own").run()
    assert "response_own" in ds
    assert ds.sizes["spike"] == ds.spike_count.sum() > 0
    assert ds.unit_snr.dims == ("block", "neuroid")
    counted = analysis.counts(ds, (0.05, 0.2)).values[:, 0]
    own = (ds.own_neuroid == "u0").values
    np.testing.assert_array_equal(counted[own], ds.response_own.values[own])


def test_a_rig_that_measures_no_onset_has_nominal_ones():
    class Silent(SmallRig):
        def present(self, asked):
            return replace(super().present(asked), onset_s=(), onset_source=())

    ds = session(Silent(lost=0.3)).run()
    shown = (ds.status != "not_shown").values
    assert set(ds.onset_source.values[shown]) == {"nominal"}
    assert set(ds.onset_source.values[~shown]) == {""}
    np.testing.assert_allclose(ds.onset_s.values[shown], 0.2 * np.flatnonzero(shown))
    assert np.isnan(ds.onset_s.values[~shown]).all()


def test_any_protocol_records_it():
    ds = present(SmallRig(), photographs(), resolution=SIDE, repeats=3, progress=False)
    np.testing.assert_array_equal(np.isnan(ds.responses).all("neuroid"), ds.status != "ok")
    assert ds.sizes["spike"] > 0


def test_a_plain_subject_has_none_of_this():
    class Plain:
        name, units, fingerprint = "plain", Units.numbered("plain", 1), ""

        def record(self, images):
            return images.mean((1, 2, 3))[:, None]

    ds = session(Plain()).run()
    assert not {"status", "day", "trial_id", "block_number", "unit_snr"} & set(ds.variables)
    assert set(ds.dims) == {"presentation", "neuroid", "latent", "evolution"}


def test_columns_of_units_may_not_have_the_names_that_are_needed():
    rig = SmallRig()
    rig.units = Units(("a", "b", "c"), {"status": (1, 2, 3)})
    with pytest.raises(InvalidArgumentError, match="'status' has the name of something recorded"):
        session(rig).run()
    rig.units = Units(("a", "b", "c"), {"unit_number": (1, 2, 3)})
    with pytest.raises(InvalidArgumentError, match="'unit_number' has the name of something recorded of a rig"):
        session(rig).run()


class StopError(Exception):
    pass


class Ending:
    """Ends a session after some blocks."""

    def __init__(self, blocks):
        self.left = blocks

    def begin(self, session):
        pass

    def generation(self, generation):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt("enough")

    def end(self, session):
        pass


def same(one, two, besides=("session",)):
    for name in {*one.variables, *two.variables} - set(besides):
        np.testing.assert_array_equal(one[name].values, two[name].values, err_msg=str(name))


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_run_goes_on_as_if_it_had_not_been_interrupted(blocks, tmp_path):
    whole = session(SmallRig(), tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt, match="enough"):
        session(SmallRig(), tmp_path / "run", observers=[Ending(blocks)]).run()
    assert open_recording(tmp_path / "run").attrs["n_generations"] == blocks
    rest = session(SmallRig(), tmp_path / "run", exists="resume").run()
    same(rest, whole)
    assert len(np.unique(rest.session.values)) in (1, 2)


def test_on_another_day_the_references_are_surveyed_again(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt, match="enough"):
        session(SmallRig(lost=0), tmp_path / "run", observers=[Ending(3)], drift="divide").run()
    monkeypatch.setattr(answers_module, "today", lambda: "2031-05-06")
    monkeypatch.setattr("closedloop.loop.session.today", lambda: "2031-05-06")
    ds = session(SmallRig(lost=0), tmp_path / "run", exists="resume", drift="divide").run()
    second = ds.isel(presentation=(ds.day == "2031-05-06").values)
    first_block = second.isel(presentation=(second.block_number == second.block_number[0]).values)
    assert set(first_block.kind.values) == {"reference"}
    assert len(set(first_block.stimulus_id.values)) == 5
    assert (ds.kind == "evolved").sum() == 24
    assert ds.attrs["finished"]


def test_a_session_that_waited_for_its_rig_over_night_surveys_again(tmp_path, monkeypatch):
    """Nobody ended it, and it is the next day: the block that was waited for is answered, then come all references."""
    day = ["2031-05-06"]

    class Waited(SmallRig):
        def present(self, asked):
            if len(self.asked) == 3:
                day[0] = "2031-05-07"
            return super().present(asked)

    for module in (answers_module, session_module):
        monkeypatch.setattr(module, "today", lambda: day[0])
    ds = session(Waited(lost=0), tmp_path / "run", drift="divide").run()
    blocks = [ds.isel(presentation=(ds.block_number == k).values) for k in range(6)]
    assert [set(block.day.values) for block in blocks] == [{"2031-05-06"}] * 3 + [{"2031-05-07"}] * 3
    assert [set(block.kind.values) == {"reference"} for block in blocks] == [True, False, False, False, True, False]
    assert len(set(blocks[4].stimulus_id.values)) == 5
    assert (ds.kind == "evolved").sum() == 24
    day[0] = "2031-05-06"
    with pytest.raises(KeyboardInterrupt, match="enough"):
        session(Waited(lost=0), tmp_path / "cut", drift="divide", observers=[Ending(4)]).run()
    rig = Waited(lost=0)
    rig.asked += [None] * 4
    same(session(rig, tmp_path / "cut", drift="divide", exists="resume").run(), ds)


def test_a_run_that_died_in_its_first_block_asks_for_it_alike(tmp_path):
    """The rig's state is kept before the first block, so that the rig can tell that it is the same one."""

    class Named(SmallRig):
        def __init__(self, name):
            super().__init__()
            self.session, self.dies = name, name == "first"

        def present(self, asked):
            if self.dies:
                raise StopError
            return super().present(asked)

        def state(self):
            return {**super().state(), "session": self.session}

        def restore(self, state):
            super().restore(state)
            self.session = state["session"]

    with pytest.raises(SubjectError, match="StopError"):
        session(Named("first"), tmp_path / "run").run()
    again = Named("second")
    session(again, tmp_path / "run", exists="resume").run()
    assert again.session == "first"
