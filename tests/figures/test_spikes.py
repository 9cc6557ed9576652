"""Responses in time: which lines, in which units, over which bins."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from closedloop import analysis, open_recording
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures import EVOLVED, NATURAL, plot_psth
from closedloop.protocols import present
from closedloop.subjects import FunctionSubject
from tests.loop.test_answers import photographs, session
from tests.small_rig import SIDE, SmallRig


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "run"
    session(SmallRig(lost=0.1), folder, images=120).run()
    return open_recording(folder)


def test_kinds_have_their_colours_and_the_rates_of_the_analysis(ds):
    ax = plot_psth(ds, 1, bins_s=(-0.1, 0.05, 8), window_s=(0.05, 0.2))
    steps = {patch.get_label().split("  ")[0]: patch for patch in ax.patches if "n = " in str(patch.get_label())}
    assert set(steps) == {"evolved", "reference", "evolved, re-tested", "reference, re-tested"}
    assert to_hex(steps["evolved"].get_edgecolor()) == EVOLVED.lower()
    assert to_hex(steps["reference"].get_edgecolor()) == NATURAL.lower()
    found = analysis.psth(ds, bins_s=(-0.1, 0.05, 8)).sel(kind="evolved")["mean"].values[:, 1]
    np.testing.assert_allclose(steps["evolved"].get_data().values, found)
    np.testing.assert_allclose(steps["evolved"].get_data().edges, np.arange(-100, 301, 50))
    assert ax.get_ylabel() == "spikes per second"
    again, natural = ds["kind"] == "retest", ds["thread"] == "reference"
    for name, which in (("evolved, re-tested", again & ~natural), ("reference, re-tested", again & natural)):
        assert f"(n = {int((which & (ds['status'] == 'ok')).sum())})" in steps[name].get_label()


def test_many_generations_are_joined_to_parts(ds):
    ax = plot_psth(ds, by="generation")
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(words) == 5
    assert words[0].startswith("0 to ")  # the survey of references is no generation
    n = sum(int(word.split("n = ")[1].rstrip(")")) for word in words)
    assert n == int(((ds["status"] == "ok") & (ds["kind"] == "evolved")).sum())


def test_a_caption_stays_within_its_figure(ds):
    figure = Figure(figsize=(3, 2.5), layout="constrained")
    ax = plot_psth(ds, by="generation", ax=figure.add_subplot())
    FigureCanvasAgg(figure).draw()
    place = ax._left_title.get_window_extent()
    assert place.x1 <= figure.bbox.x1
    assert place.y1 <= figure.bbox.y1


def test_of_responses_with_bins_and_what_has_no_time(ds, tmp_path):
    rig = SmallRig(bins_s=(0.0, 0.02, 10))
    binned = present(rig, photographs(4), resolution=SIDE, repeats=3, progress=False)
    ax = plot_psth(binned)
    assert (ax.get_xlim(), ax.get_ylabel()) == ((0, 200), "response")
    with pytest.raises(InvalidArgumentError, match="unit: expected a column from 0 to 2, got 3"):
        plot_psth(ds, 3)
    with pytest.raises(InvalidArgumentError, match="by: expected a coordinate of presentations"):
        plot_psth(ds, by="mood")
    flat = present(FunctionSubject(lambda x: x.mean((1, 2, 3)), name="flat"), photographs(4), progress=False)
    with pytest.raises(RecordingError, match="expected one with spikes"):
        plot_psth(flat)
