"""A run that is followed: read once, as committed, while it grows, and after its process was killed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import closedloop
from closedloop.analysis import generation_scores
from closedloop.loop.ending import run_state
from closedloop.loop.protocol import protocol_of
from closedloop.loop.settings import Settings
from closedloop.viewer.live import Follower
from tests import slow_run, small_runs


class Looks:
    """Looks at a run with each of its commits."""

    def __init__(self, folder):
        self.follower, self.known, self.seen = Follower(folder), -2, []

    def begin(self, session):
        pass

    def generation(self, generation):
        found = self.follower.snapshot(self.known)
        self.seen.append(found)
        self.known = max([self.known, *(t["generation"][-1] for t in found["threads"] if t["generation"])])

    def end(self, session):
        pass


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched") / "run"
    looks = Looks(folder)
    slow_run.run(folder, images=30, observers=[looks])
    return folder, looks


def test_what_was_seen_piece_by_piece_is_the_whole(watched):
    folder, looks = watched
    whole = Follower(folder).snapshot()
    assert [found["commits"] for found in looks.seen] == list(range(1, whole["commits"] + 1))
    assert {found["state"] for found in looks.seen} == {"running"}
    for i, thread in enumerate(whole["threads"]):
        for name in ("generation", "mean", "low", "high", "best", "best_id", "images"):
            pieces = [
                value for found in looks.seen for value in (found["threads"][i][name] if found["threads"] else [])
            ]
            assert pieces == thread[name]


def test_the_curves_are_those_of_the_analysis(watched):
    folder, _ = watched
    recording = closedloop.open_recording(folder)
    for thread in Follower(folder).curves()["threads"]:
        expected = generation_scores(recording, thread["name"])
        np.testing.assert_allclose(thread["mean"], expected["mean"])
        np.testing.assert_array_equal(thread["best"], expected["best"])
        assert thread["best_id"] == expected["best_id"].values.tolist()
        assert thread["images"] == expected["images"].values.tolist()
        assert (np.diff([thread["low"], thread["mean"], thread["high"]], axis=0) >= 0).all()
        last = expected["score"].values[-1]
        assert [one["score"] for one in thread["population"]] == sorted(last.tolist(), reverse=True)


def test_progress_and_end(watched):
    folder, looks = watched
    middle, whole = looks.seen[3], Follower(folder).snapshot()
    assert (middle["done"], middle["total"]) == (36, 60)
    assert middle["per_s"] > 0
    assert middle["left_s"] > 0
    assert middle["can_end"]
    assert (whole["state"], whole["left_s"], whole["can_end"]) == ("finished", None, False)
    assert whole["kind"] == "retest"
    assert whole["references"]["generation"][0] == -1
    assert whole["references"]["drift"]["cell-0"] == [0.0] * len(whole["references"]["generation"])


def test_the_protocol_says_how_many_images_there_will_be(watched, monkeypatch):
    folder, _ = watched
    of_evolutions = protocol_of({}, "")
    assert Follower(folder).snapshot()["total"] == 60
    monkeypatch.setattr("closedloop.viewer.live.shown_protocol", lambda *_: replace(of_evolutions, budget=lambda _: 50))
    assert Follower(folder).snapshot()["total"] == 100
    assert of_evolutions.budget({}) == Settings.images
    assert protocol_of({"protocol": "elites"}, "").budget({"images": 7}) == 7
    assert protocol_of({"protocol": "present"}, "").budget({"images": 7}) is None


def test_cautions_pictures_and_what_is_missing(watched):
    folder, _ = watched
    follower = Follower(folder)
    assert {"text", "serious"} == set(follower.cautions()[0])
    names = [one["id"] for one in follower.curves()["threads"][0]["population"]]
    assert follower.generation_of(names[2]) == [names[2], names[0], names[1], *names[3:]]
    assert follower.generation_of("other") == ["other"]
    assert all(picture.shape == (16, 16, 3) for picture in follower.pictures(names))
    assert follower.pictures(["nothing"]) == [None]


def test_only_new_rows_are_read(watched, monkeypatch):
    folder, _ = watched
    follower = Follower(folder)
    assert follower.look()
    monkeypatch.setattr("closedloop.viewer.live.open_recording", lambda path: pytest.fail("nothing has changed"))
    assert not follower.look()
    follower.snapshot()


def test_a_run_that_was_cut_off_and_one_that_has_not_begun(tmp_path):
    cut = small_runs.cut_off("evolve", tmp_path / "cut")
    found = Follower(cut).snapshot()
    assert (found["state"], found["can_end"], found["left_s"]) == ("interrupted", False, None)
    assert found["presentations"] > 0
    born = small_runs.cut_off("evolve", tmp_path / "born", blocks=0)
    if born.exists():
        assert Follower(born).snapshot()["presentations"] == 0
    assert run_state(cut, {"finished": True, "reason": "main: ended on request after generation 3"}) == "stopped"


def test_another_run_in_its_place_is_read_anew(tmp_path):
    folder = tmp_path / "run"
    slow_run.run(folder, images=30)
    follower = Follower(folder)
    names = [t["name"] for t in follower.snapshot()["threads"]]
    folder.rename(tmp_path / "old")
    small_runs.cut_off("evolve", folder)
    assert [t["name"] for t in follower.snapshot()["threads"]] == ["cells", "pixels"]
    folder.rename(tmp_path / "older")
    (tmp_path / "old").rename(folder)  # one with as many rows and more
    assert [t["name"] for t in follower.snapshot()["threads"]] == names


def test_recorded_images_have_tables(tmp_path):
    small_runs.run("present", tmp_path / "run")
    follower = Follower(tmp_path / "run")
    assert follower.tables()[0]["title"] == "Images with the highest mean response"
    assert follower.curves()["threads"] == []


@pytest.mark.long
def test_the_kill_of_the_writer_is_survived(tmp_path):
    process = slow_run.start(tmp_path / "run", 0.1, generations=4)
    follower = Follower(tmp_path / "run")
    assert follower.snapshot()["state"] == "running"
    process.kill()
    process.wait(30)
    found = follower.snapshot()
    assert found["state"] == "interrupted"
    assert found["presentations"] == closedloop.open_recording(tmp_path / "run").sizes["presentation"]
