from closedloop.analysis import treatment_accuracy
from closedloop.figures import plot_judgement, plot_treatment
from tests.small_treatments import ARMS, SEEDS, accuracies, judgement, treatment


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_verdicts_stand_beside_the_dots():
    ax = plot_judgement(judgement())
    assert [text.get_text() for text in ax.get_yticklabels()] == ARMS
    assert words(ax) == ["", "not known", "helps"]  # the gain of the second is the same for every seed
    assert "5 seeds" in ax.get_title(loc="left")


def test_two_seeds_have_no_interval():
    ax = plot_judgement(judgement(ARMS, SEEDS[:2], [a[:2] for a in accuracies()]))
    assert words(ax) == ["", "not known", "not known"]


def test_the_course_of_a_treatment():
    ax = plot_treatment(treatment_accuracy(treatment()))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a (30)", "$b$ (10)", "overall"]
    assert ax.lines[-1].get_xdata()[0] == 10
