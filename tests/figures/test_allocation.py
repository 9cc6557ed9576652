import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from closedloop import figures
from closedloop.errors import InvalidArgumentError


@pytest.fixture
def allocation():
    """Forty steps of two layers of a network with three neurons each and ten parameters."""
    rng = np.random.default_rng(0)
    by_neuron = rng.standard_normal((40, 6)) * 0.1 - 0.05
    by_layer = by_neuron.reshape(40, 2, 3).sum(-1)
    change = by_layer.sum(1)
    parts = np.stack([by_layer, 0 * by_layer, 0.1 * by_layer], -1)
    loss = 20 + np.cumsum(change)
    counts = np.full((40, 2), 2)
    return xr.Dataset(
        {
            "by_neuron": (("step", "neuron"), by_neuron),
            "by_layer": (("step", "layer"), by_layer),
            "by_part": (("step", "layer", "part"), parts),
            "by_parameter": (("step", "parameter"), rng.standard_normal((40, 10))),
            **{n: ("step", v) for n, v in [("loss", loss), ("reconstructed", loss + 0.1), ("change", change)]},
            "residual": ("step", 0.01 * change),
            **dict.fromkeys(("helped", "hurt"), (("step", "layer"), counts)),
            "still": (("step", "layer"), counts // 2),
            "parameters": ("layer", [5, 5]),
            "steps_helped": ("parameter", np.arange(10)),
            "steps_hurt": ("parameter", np.arange(10)[::-1] % 9),
        },
        {"layer": ["fc1", "$out$"], "step": np.arange(40), "part": ["kernel", "bias", "norm"],
         "neuron_layer": ("neuron", ["fc1"] * 3 + ["$out$"] * 3), "neuron_index": ("neuron", [0, 1, 2] * 2),
         "parameter_layer": ("parameter", ["fc1"] * 5 + ["$out$"] * 5)},
        {"of": "train", "rule": "simpson", "subject": "mlp", "seed": 3},
    )  # fmt: skip


def test_the_page(allocation, tmp_path):
    figure = figures.plot_allocation(allocation)
    assert isinstance(figure, Figure)
    assert "mlp" in figure.get_suptitle()
    figure.savefig(tmp_path / "page.png", dpi=30)
    assert len(figure.axes) == 8  # with the bar of colours


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (figures.plot_reconstruction, "missed in all: "),
        (figures.plot_layer_totals, "of 2 layers hurt, net"),
        (figures.plot_cumulative, "layers, cumulative"),
        (figures.plot_step_shares, "help 40.0 %, hurt 40.0 %; of those that move 50.0 % help"),
        (figures.plot_parameter_shares, "9 parameters, mean"),
        (figures.plot_neurons, "6 neurons; colours end at the 99th percentile"),
        (figures.plot_parameters, "5 parameters of each sort"),
        (figures.plot_peaks, "times as often as by chance, p = "),
    ],
)
def test_each_figure_says_its_numbers(draw, words, allocation, tmp_path):
    ax = draw(allocation)
    assert words in ax.get_title(loc="left")
    ax.figure.savefig(tmp_path / "one.png", dpi=30)


def test_of_many_layers_those_are_named_that_came_to_most(allocation):
    many = xr.concat([allocation["by_layer"].isel(layer=0) * n for n in range(20)], "layer").transpose("step", "layer")
    many = xr.Dataset({"by_layer": many.assign_coords(layer=[f"l{n}" for n in range(20)])}, attrs=allocation.attrs)
    ax = figures.plot_cumulative(many)
    assert ax.get_legend() is None  # it lay over the lines
    assert {text.get_text() for text in ax.texts} == {f"l{n}" for n in range(10, 20)}
    assert all(text.get_position()[0] > 1 for text in ax.texts)
    places = sorted(text.get_position()[1] for text in ax.texts)
    low, high = ax.get_ylim()
    assert min(np.diff(places)) > 0.05 * (high - low)
    assert low <= places[0]
    assert places[-1] <= high
    assert "grey: 10 that came to less" in ax.get_title(loc="left")


def test_what_hurts_little_is_seen_beside_what_helps_much(allocation):
    values = allocation["by_parameter"].values.copy()
    values[:, :5] = -np.abs(values[:, :5]) * 1000
    ax = figures.plot_parameters(allocation.assign(by_parameter=(("step", "parameter"), values)))
    assert ax.get_yscale() == "symlog"
    assert figures.plot_parameters(allocation).get_yscale() == "linear"


def test_what_the_loss_is_stands_on_the_page(allocation):
    told = {
        "examples": 5,
        "examples_whole": 9,
        "chunk": 3,
        "batch_norm": "batch",
        "dropout": "off",
        "changes": "a frozen",
    }
    figure = figures.plot_allocation(allocation.assign_attrs(told))
    assert "mean loss over 5 of 9 examples, dropout off, batch norm by" in figure.get_supxlabel()
    assert "a frozen" in figure.get_supxlabel()


def test_colours_show_neurons_up_to_the_percentile(allocation):
    ax = figures.plot_neurons(allocation, "$out$")
    shown = allocation.by_neuron.values[:, 3:]
    assert ax.images[0].get_clim()[1] == pytest.approx(np.percentile(np.abs(shown), 99))
    np.testing.assert_array_equal(ax.images[0].get_array(), shown.T)


def test_what_is_missing_is_named(allocation):
    with pytest.raises(InvalidArgumentError, match=r"no layer 'fc2'.* Did you mean 'fc1'"):
        figures.plot_neurons(allocation, "fc2")
    with pytest.raises(InvalidArgumentError, match="parameters=True"):
        figures.plot_parameter_shares(allocation.drop_vars("steps_helped"))


def test_the_movie_colours_neurons_by_help_and_harm(allocation):
    movie = figures.allocation_movie(allocation, frames=10, cell=8, rows=2)
    assert movie.shape[:2] == (10, 3)
    own = allocation.by_neuron.values.reshape(10, 4, 6).sum(1)
    top, left = 82, 14  # below the words and the names, which stand upright
    for frame in range(10):
        for place, neuron in (((0, 0), 0), ((1, 0), 1), ((0, 1), 2), ((0, 3), 3)):  # two columns, one free, two columns
            red, _, blue = movie[frame, :, top + 8 * place[0] + 3, left + 8 * place[1] + 3].astype(int)
            assert (red > blue) == (own[frame, neuron] > 0)
    assert (movie[:, :, top + 11, left + 11] == 255).all()  # no fourth neuron
    assert (movie[0] != movie[1]).any()


def test_layers_without_peaks_are_drawn(allocation):
    flat = allocation.assign(by_layer=0 * allocation.by_layer)
    assert figures.plot_peaks(flat).get_title(loc="left") == "too few peaks of learning"
