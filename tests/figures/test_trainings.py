from closedloop.figures import plot_trainings
from closedloop.figures.allocation import HELPS, HURTS
from tests.small_trainings import trainings


def marks(ax):
    """Colours of the means, row by row."""
    return [line.get_color() for line in ax.lines if line.get_marker() == "D"]


def test_layers_and_changes_are_coloured_by_what_is_certain():
    figure = plot_trainings(trainings())
    layers, loss, accuracy = figure.axes
    assert [label.get_text() for label in layers.get_yticklabels()] == ["fc1", "$out$"]
    assert marks(layers) == [HELPS, HURTS]
    assert marks(loss) == marks(accuracy) == [HURTS]  # a loss that rises, an accuracy that falls
    assert [label.get_text() for label in loss.get_yticklabels()] == ["freeze=$out$"]
    assert "4 seeds" in layers.get_title(loc="left")


def test_one_seed_has_dots_and_no_interval():
    figure = plot_trainings(trainings(1))
    assert HELPS not in marks(figure.axes[0])
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "None" and line.get_linewidth() == 2]
