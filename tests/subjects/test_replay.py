"""A recording as a subject: a run that is replayed from itself is the same, whatever happened in it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from closedloop import CMAES, Session, Thread, Unit, open_recording
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError, SubjectWarning
from closedloop.generators import Fourier, Pixels
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Presenting
from closedloop.protocols import present
from closedloop.subjects import Drift, FunctionSubject, GaborSubject, Lossy, Poisson, Replay, load_subject
from closedloop.subjects.replay import ROUNDING, _means
from closedloop.testing import SubjectContract
from tests.small_rig import SIDE, SmallRig

#: What differs between a run and its replay: the name of the subject, and when a sitting began.
OWN = {"subject", "session", "day"}


def session(subject, save=None, images=36, **settings):
    side = getattr(subject, "resolution", SIDE)
    generators = [Fourier(side, 2), Pixels(6)]
    threads = [
        Thread(g, CMAES(g.space, seed=i, population=6), Unit(0), name)
        for i, (g, name) in enumerate(zip(generators, ("one", "two"), strict=True))
    ]
    references = np.random.default_rng(3).random((5, 3, side, side), np.float32)
    chosen = {"images": images, "repeats": 2, "interleave": 2, "retest_candidates": 2, "retest_repeats": 3, **settings}
    return Session(subject, threads, references=references, save=save, progress=False, seed=4, **chosen)


def noisy():
    return Drift(Lossy(Poisson(GaborSubject(resolution=16), best=1.0, seed=1), 0.1, seed=2), seed=3)


def assert_same(one, other):
    assert set(one.variables) == set(other.variables)
    for name in set(one.variables) - OWN:
        assert one[name].dtype == other[name].dtype, name
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))


class TestReplay(SubjectContract):
    noisy = True
    resolution = 16

    @pytest.fixture(autouse=True)
    def _run(self, tmp_path):
        subject = GaborSubject(resolution=16)
        self.shown = np.random.default_rng(0).random((4, 3, 16, 16), np.float32)
        images = np.concatenate([self.shown, 1 - self.shown])
        present(subject, images, repeats=9, save=tmp_path / "run", progress=False)
        self.path = tmp_path / "run"

    def images(self, n=4):
        return self.shown[:n]

    def make(self):
        return load_subject(f"replay:{self.path}")


def test_a_noisy_run_replayed_from_itself_is_the_same(tmp_path):
    made = session(noisy(), tmp_path / "run").run()
    assert np.isnan(made.responses.values).any()
    replay = load_subject(f"replay:{tmp_path / 'run'}")
    assert replay.name == f"replay-{made.subject.item()}"
    assert replay.resolution == 16
    again = session(replay, tmp_path / "again").run()
    assert_same(open_recording(tmp_path / "run"), again)
    assert_same(open_recording(tmp_path / "run"), session(Replay(made)).run())  # which is in memory


@pytest.mark.parametrize("options", [{}, {"bins_s": (0.0, 0.05, 3)}, {"spikes": False}, {"quality": False}])
def test_a_run_at_a_rig_replayed_from_itself_is_the_same(tmp_path, options):
    made = session(SmallRig(shuffle=False, **options), tmp_path / "run", repeats=1).run()
    replay = Replay(tmp_path / "run")
    assert isinstance(replay, Presenting)
    assert_same(made, session(replay, tmp_path / "again", repeats=1).run())


def test_a_resumed_replay_is_the_same(tmp_path):
    class TiredError(Exception):
        pass

    class Stops:
        left = 4

        def begin(self, session):
            pass

        def generation(self, generation):
            self.left -= 1
            if not self.left:
                raise TiredError

        def end(self, session):
            pass

    made = session(noisy(), tmp_path / "run").run()
    stopped = session(Replay(tmp_path / "run"), tmp_path / "again")
    stopped.observers = (Stops(),)
    with pytest.raises(Exception, match=r"TiredError|Stops"):
        stopped.run()
    on = session(Replay(tmp_path / "run"), tmp_path / "again")
    on.exists = "resume"
    assert_same(made, on.run())


def test_trials_come_in_order_and_then_again():
    ds = numbered(images=3, repeats=4)
    replay, images = replayed(ds), shown(3)
    for row in range(4):
        own = ds.responses.values[ds.stimulus_id.values == ds.stimulus_id.values[0], 0]
        first = images[int(own[0]) % 3]
        assert replay.record(first[None])[0, 0] == own[row]
    with pytest.warns(SubjectWarning, match="more often than the 4 times"):
        assert replay.record(first[None])[0, 0] == own[0]
    assert replay.record(first[None])[0, 0] == own[1]  # it is said once


def test_resampled_trials_are_those_of_the_image():
    replay, images = replayed(numbered(3, 4), order="resampled", seed=1), shown(3)
    drawn = np.array([replay.record(images)[:, 0] for _ in range(400)])
    np.testing.assert_array_equal(drawn % 3, np.broadcast_to(np.arange(3), drawn.shape))
    _, counts = np.unique(drawn[:, 0], return_counts=True)
    assert len(counts) == 4
    assert ((counts - 100) ** 2 / 100).sum() < 16.3  # χ² of 3 degrees of freedom, 0.1 %


def test_the_same_image_under_another_name_shares_its_trials(monkeypatch):
    ds = numbered(3, 2)
    names = ds.stimulus_id.values.copy()
    rows = np.flatnonzero(names == names[0])
    names[rows[1]] = "another-name"
    ds = ds.assign_coords(stimulus_id=("presentation", names))
    number = int(ds.responses.values[0, 0]) % 3
    monkeypatch.setattr("closedloop.subjects.replay.CHUNK", 1)
    images = np.concatenate([shown(3), shown(3)[[number]]])
    replay = Replay(ds, references=ImageSet((*NAMES[:3], "another-name"), images))
    image = images[[number]]
    np.testing.assert_array_equal([replay.record(image)[0, 0] for _ in range(2)], ds.responses.values[rows, 0])


def test_an_image_that_was_rounded_otherwise_is_known():
    ds = numbered(3, 1)
    changed = shown(3).copy()
    changed[0, 0, 3, 3] += 1 / 255
    np.testing.assert_array_equal(np.sort(replayed(ds).record(changed)[:, 0] % 3), [0, 1, 2])
    levels = np.random.default_rng(0).integers(1, 255, (2, 3, 16, 16)).astype(np.uint8)
    assert np.abs(_means(levels[0]) - _means(levels[1])).mean() > 100 * ROUNDING[1]
    assert _means(levels[0][:, :11, :7]).shape == (3 * 8 * 7,)
    np.testing.assert_allclose(_means(levels[0]).reshape(3, -1).mean(1), levels[0].mean((1, 2)), rtol=1e-5)


def test_unknown_images():
    ds, strange = numbered(3, 1), np.full((1, 3, 16, 16), 0.5, np.float32)
    with pytest.raises(SubjectError, match="no such image of 16 × 16 pixels"):
        replayed(ds).record(strange)
    with pytest.raises(SubjectError, match="no such image of 8 × 8 pixels"):
        replayed(ds).record(strange[..., :8, :8])
    assert np.isnan(replayed(ds, unknown="lost").record(strange)).all()


def test_a_rig_does_not_show_unknown_images():
    rig = SmallRig(lost=0.0)
    ds = present(rig, np.random.default_rng(0).random((4, 3, SIDE, SIDE), np.float32), resolution=SIDE, progress=False)
    strange = np.random.default_rng(1).random((3, 3, SIDE, SIDE), np.float32)
    images = ImageSet(NAMES[:4], np.random.default_rng(0).random((4, 3, SIDE, SIDE), np.float32))
    again = present(Replay(ds, unknown="lost", references=images), strange, resolution=SIDE, retries=0, progress=False)
    assert set(again.status.values) == {"not_shown"}
    assert np.isnan(again.responses).all()


def test_refuses(tmp_path):
    ds = numbered(2, 1)
    for options, match in [({"order": "any"}, "order: expected"), ({"unknown": "guess"}, "unknown: expected")]:
        with pytest.raises(InvalidArgumentError, match=match):
            Replay(ds, **options)
    with pytest.raises(RecordingError, match="none yet"):
        Replay(ds.isel(presentation=[]))
    with pytest.raises(RecordingError, match="no responses"):
        Replay(ds.drop_vars("responses"))
    with pytest.raises(RecordingError, match="several that were joined"):
        Replay(xr.concat([ds, ds], "presentation", coords="all"))
    with pytest.raises(RecordingError, match=r"run|COMMITTED"):
        load_subject(f"replay:{tmp_path}")


NAMES = tuple(f"image-{i:05d}" for i in range(8))


def replayed(ds, **options):
    """Replays a recording of `numbered`, which is in memory and so without its images."""
    return Replay(ds, references=ImageSet(NAMES[:3], shown(3)), **options)


def shown(n):
    return np.random.default_rng(5).random((n, 3, 16, 16), np.float32).round(2)


def numbered(images, repeats):
    """Records a subject that answers an image by its number and how often it was shown: number + 3 times."""
    times = dict.fromkeys(range(images), 0)

    def answer(batch):
        found = []
        for image in batch:
            number = int(np.abs(shown(images) - image).max((1, 2, 3)).argmin())
            found.append(number + 3 * times[number])
            times[number] += 1
        return np.array(found, float)

    return present(FunctionSubject(answer), shown(images), resolution=16, repeats=repeats, progress=False)
