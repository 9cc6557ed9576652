"""Who proposed the images: from a session of `auto` with eyes to the words of a report and the points of a figure."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import Session, Thread, load_optimizer, open_recording, summarize
from closedloop.analysis import proposers
from closedloop.analysis.provenance import proposers_in_words
from closedloop.figures import plot_trajectory
from closedloop.interfaces import Space
from closedloop.protocols import resume
from closedloop.protocols.evolve import PROTOCOL
from closedloop.report.wording import table_rows
from closedloop.subjects import FunctionSubject
from tests.small_sights import Levels, Nothing, Stripes

SPACE = Space(20)
TOP = np.random.default_rng(5).standard_normal(20)


def subject(noise=0.1):
    rng = np.random.default_rng(3)
    read = Levels(20)
    return FunctionSubject(
        lambda images: (read.record(images)[:, :20] @ TOP + noise * rng.standard_normal(len(images)))[:, None],
        units=["stripes"],
        name="striped",
    )


def session(optimizer, folder=None, observers=(), images=80, noise=0.1):
    return Session(
        subject(noise),
        [Thread(Stripes(SPACE), optimizer)],
        images=images,
        retest_candidates=3,
        retest_repeats=2,
        save=folder,
        observers=observers,
        progress=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes") / "run"
    session(load_optimizer("auto", SPACE, 1, features=Levels(20)), folder).run()
    return folder


def test_a_recording_says_who_proposed_each_image(run):
    recording = open_recording(run)
    evolved = recording["kind"].values == "evolved"
    ways = recording["proposed_by"].values
    assert set(ways[evolved]) == {"prior", "codes", "twin"}
    assert list(ways[:10]) == ["prior"] * 10
    assert set(ways[~evolved]) <= {"codes", "twin"}
    found = proposers(recording)
    assert found["images"].sum() == 80
    own = recording["score"].values[evolved & (ways == "twin")]
    assert found["mean"].sel(way="twin") == pytest.approx(own.mean())
    assert found.attrs["selected"] in ("codes", "twin")


def test_it_is_said_in_words_and_drawn(run):
    recording = open_recording(run)
    words = proposers_in_words(recording)
    selected = proposers(recording).attrs["selected"]
    count = int((recording["proposed_by"].values[recording["kind"].values == "evolved"] == "twin").sum())
    assert words.startswith("10 by draws from the prior, ")
    assert f"{count} by the twin" in words
    assert words.endswith("; the re-tested one by " + {"twin": "the twin", "codes": "learning from codes"}[selected])
    assert [row for row in table_rows(recording, summarize(recording)) if row[0] == "who proposed the images"] == [
        ("who proposed the images", [words])
    ]
    assert f"Images of main:  {words}" in PROTOCOL.summary(run, recording).lines
    drawn = {line.get_label(): len(line.get_xdata()) for line in plot_trajectory(recording).lines}
    assert drawn["proposed by the twin"] == count


def test_a_twin_that_does_not_predict_is_said_to_have_proposed_none():
    recording = session(load_optimizer("auto", SPACE, 1, features=Nothing(20)), images=30).run()
    ways = recording["proposed_by"].values.copy()
    ways[ways == "twin"] = "codes"
    found = recording.assign_coords(proposed_by=("presentation", ways))
    assert "; the twin did not predict, so it proposed none" in proposers_in_words(found)


def test_other_optimizers_say_nothing():
    recording = session(load_optimizer("auto", SPACE, 1), images=20).run()
    assert "proposed_by" not in recording.coords
    assert proposers_in_words(recording) == ""
    assert proposers(recording).sizes == {"way": 0}
    assert all(name != "who proposed the images" for name, _ in table_rows(recording, summarize(recording)))


class Stop:
    def __init__(self, blocks):
        self.left = blocks

    def begin(self, session):
        pass

    def generation(self, generation):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt("stop")

    def end(self, session):
        pass


@pytest.mark.parametrize("blocks", [1, 5, 9])
def test_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path, blocks):
    """Stopped while it evolves, and between the re-test that selects and the one that confirms."""

    def made():
        return load_optimizer("auto", SPACE, 1, features=Levels(20))

    whole = session(made(), noise=0).run()
    with pytest.raises(KeyboardInterrupt, match="stop"):
        session(made(), tmp_path / "run", [Stop(blocks)], noise=0).run()
    found = resume(tmp_path / "run", subject=subject(0), threads=[Thread(Stripes(SPACE), made())])
    for name in ("latent_code", "responses", "proposed_by", "stimulus_id"):
        np.testing.assert_array_equal(found[name].values, whole[name].values)
