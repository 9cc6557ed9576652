import pytest

from closedloop.analysis import treatment_accuracy
from closedloop.figures import plot_judgement, plot_treatment
from tests.analysis.test_treatments import ARMS, SEEDS, accuracy, judgement  # noqa: F401 - a fixture


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_verdicts_stand_beside_the_dots(accuracy):  # noqa: F811
    ax = plot_judgement(judgement(ARMS, SEEDS, accuracy))
    assert [text.get_text() for text in ax.get_yticklabels()] == ARMS
    assert words(ax) == ["", "helps", "helps"]
    assert "5 seeds" in ax.get_title(loc="left")


def test_two_seeds_have_no_interval(accuracy):  # noqa: F811
    ax = plot_judgement(judgement(ARMS, SEEDS[:2], [a[:2] for a in accuracy]))
    assert words(ax) == ["", "not known", "not known"]


def test_the_course_of_a_treatment():
    import numpy as np
    import xarray as xr

    recording = xr.Dataset(
        {"responses": (("presentation", "neuroid"), np.array([[0.5, 0.1], [0.5, 0.1], [0.6, 0.9]])),
         "loss": ("presentation", [2.0, 2.0, 1.0]), "found": ("presentation", [0, 1, 1])},
        {"neuroid_id": ("neuroid", ["a", "$b$"]), "group_size": ("neuroid", [30, 10]),
         "phase": ("presentation", ["before", "treated", "treated"]), "step": ("presentation", [10, 10, 20]),
         "treatment": "cut", "data": "toy", "seed": 1, "subject": "conv"},
    )  # fmt: skip
    ax = plot_treatment(treatment_accuracy(recording))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a (30)", "$b$ (10)", "overall"]
    assert ax.lines[-1].get_xdata()[0] == 10
    with pytest.raises(Exception, match="found"):
        plot_treatment(None)
