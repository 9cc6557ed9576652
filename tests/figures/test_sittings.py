"""A session at a rig as it went: its panels, its days, and what stands in terminal and report."""

import numpy as np
import pytest

from closedloop import open_recording
from closedloop.cli import main
from closedloop.errors import RecordingError
from closedloop.figures import plot_sittings
from closedloop.figures.sittings import rig_summary
from closedloop.protocols import present, resume
from closedloop.report import write_report
from closedloop.subjects import FunctionSubject
from tests.loop.test_answers import photographs, session
from tests.small_rig import SIDE, SmallRig


class Stops:
    def __init__(self, blocks):
        self.left = blocks

    def begin(self, session):
        pass

    def generation(self, generation):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def end(self, session):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that goes on another day, at a rig that loses trials."""
    folder = tmp_path_factory.mktemp("figures") / "run"
    one = session(SmallRig(lost=0.2), folder, images=240, interleave=5)
    one.observers = (Stops(15),)
    with pytest.raises(KeyboardInterrupt, match="are safe in"):
        one.run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("closedloop.loop.answers.today", lambda: "2099-05-06")
        patch.setattr("closedloop.loop.session.today", lambda: "2099-05-06")
        resume(folder, subject=SmallRig(lost=0.2), threads=[e.thread for e in session(SmallRig()).evolutions])
    return folder


def test_the_panels(folder):
    ds = open_recording(folder)
    figure = plot_sittings(ds)
    lost, references, quality = figure.axes
    assert [ax.get_ylabel() for ax in figure.axes] == ["lost trials (%)", "references ÷ first", "signal ÷ noise"]
    status = ds["status"].values.astype(str)
    stacked = {p.get_label(): p.get_data() for p in lost.patches if not str(p.get_label()).startswith("_")}
    assert set(stacked) == {s.replace("_", " ") for s in set(status) - {"ok"}}
    total = sum(((d.values - np.asarray(d.baseline)) / 100 * np.diff(d.edges)).sum() for d in stacked.values())
    assert total == pytest.approx((status != "ok").sum())
    assert f"{100 * (status != 'ok').mean():.1f} %" in lost.get_title(loc="left")
    assert [text.get_text() for text in lost.texts] == list(dict.fromkeys(ds["day"].values))
    assert len(quality.get_legend().get_texts()) == 3
    assert len(references.containers) == 1


def test_what_stands_in_terminal_and_report(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = rig_summary(open_recording(folder))
    (table,) = found.tables
    assert list(table.columns) == ["day", "presentations", "lost", "references"]
    assert table.rows[1][0] == "2099-05-06"
    assert ", r = " in table.rows[1][3]
    main(["show", str(folder), "--figure", str(tmp_path / "x.png")])
    said = capsys.readouterr().out
    assert "At the rig" in said
    assert (tmp_path / "x-rig.png").stat().st_size > 10_000
    assert "At the rig" in write_report([folder], tmp_path / "x.html").read_text()


def test_other_recordings_have_none():
    flat = present(FunctionSubject(lambda x: x.mean((1, 2, 3)), name="flat"), photographs(4), progress=False)
    assert not rig_summary(flat).tables
    with pytest.raises(RecordingError, match="made at a rig"):
        plot_sittings(flat)


def test_of_many_units_the_median_is_drawn():
    ds = present(SmallRig(units=12, lost=0.2), photographs(6), resolution=SIDE, repeats=9, progress=False)
    figure = plot_sittings(ds)
    assert figure.axes[-1].get_legend() is None
    assert "median and middle half of 12 units" in figure.axes[-1].get_title(loc="left")
