"""CPPNs: against slow networks, colours with known codes, and the topology."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.generators import CPPN
from closedloop.generators.cppn import FUNCTIONS, INPUTS, Node, draw_topology, hls_to_rgb, lucid_weights, places
from closedloop.testing import GeneratorContract


def constant(generator, values):
    """The code in which only the constant input reaches the outputs, with these values before the sigmoid."""
    code = np.zeros(generator.space.dim)
    for node, value in zip(generator.topology[-3:], values, strict=True):
        assert node.sources[0] == 3
        code[node.first] = value / (generator.spread / len(node.sources) ** 0.5)
    return code


class TestFoolingContract(GeneratorContract):
    tolerance = 1e-3  # float32 and float64 part where a unit grows large before a sine

    def make(self):
        return CPPN(12)

    def small(self):
        return CPPN(5, nodes=2)

    def red_code(self):
        return constant(self.make(), [-20, 0, 20])  # hue 0, lightness 1/2, saturation 1


class TestFoolingRgbContract(GeneratorContract):
    tolerance = 1e-3

    def make(self):
        return CPPN(9, colors="rgb", nodes=5, seed=3)

    def red_code(self):
        return constant(self.make(), [9, -9, -9])


class TestLucidContract(GeneratorContract):
    tolerance = 1e-4

    def make(self):
        return CPPN(8, "lucid")

    def red_code(self):
        return np.concatenate([np.zeros(8475 - 3), [30, -30, -30]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


SLOW = {
    "sine": np.sin,
    "gaussian": lambda x: 2 * np.exp(-(x**2)) - 1,
    "sigmoid": lambda x: 2 * sigmoid(x) - 1,
    "linear": lambda x: x,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("colors", ["hls", "rgb"])
def test_fooling_against_a_slow_network(seed, colors):
    size = 6
    generator = CPPN(size, colors=colors, seed=seed, spread=1.0)
    code = generator.space.sample(1, np.random.default_rng(seed))[0]
    picture = generator(code[None])[0]
    for row in (0, 2, 5):
        for column in (0, 3, 5):
            x, y = -1 + 2 * column / (size - 1), -1 + 2 * row / (size - 1)
            values = [x, y, np.hypot(x, y), 1.0]
            for node in generator.topology:
                weights = code[node.first : node.first + len(node.sources)] / np.sqrt(len(node.sources))
                values.append(
                    SLOW[node.function](sum(w * values[s] for w, s in zip(weights, node.sources, strict=True)))
                )
            expected = sigmoid(np.array(values[-3:]))
            if colors == "hls":
                expected = colorsys.hls_to_rgb(*expected)
            np.testing.assert_allclose(picture[:, row, column], expected, atol=1e-3)


def test_lucid_against_a_slow_network():
    size = 5
    generator = CPPN(size, "lucid", spread=1.2)
    code = generator.space.sample(1, np.random.default_rng(0))[0]
    assert generator.space.dim == lucid_weights() == 3 * 24 + 24 + 7 * (48 * 24 + 24) + 48 * 3 + 3
    picture = generator(code[None])[0]
    for row, column in ((0, 0), (2, 4), (3, 1)):
        x, y = (3**0.5 * (-1 + 2 * k / (size - 1)) for k in (column, row))
        values, left = np.array([x, y, np.hypot(x, y)]), code
        for layer in range(9):
            outputs = 24 if layer < 8 else 3
            weights, bias = np.split(left[: outputs * (len(values) + 1)], [outputs * len(values)])
            left = left[outputs * (len(values) + 1) :]
            values = weights.reshape(outputs, -1) @ values * 1.2 / np.sqrt(len(values)) + 0.1 * bias
            if layer < 8:
                values = np.concatenate([np.arctan(values) / 0.67, np.arctan(values) ** 2 / 0.6])
        assert len(left) == 0
        np.testing.assert_allclose(picture[:, row, column], sigmoid(values), atol=1e-4)


def test_hls_is_that_of_colorsys():
    hls = np.random.default_rng(0).random((2, 3, 4, 5))
    expected = np.moveaxis(
        [[[colorsys.hls_to_rgb(*p) for p in row] for row in image] for image in np.moveaxis(hls, 1, 3)], 3, 1
    )
    np.testing.assert_allclose(hls_to_rgb(hls, np), expected, atol=1e-12)
    np.testing.assert_allclose(hls_to_rgb(torch.from_numpy(hls), torch).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("nodes", [1, 3, 24, 60])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_topology_is_ordered_and_without_dead_ends(nodes, seed):
    topology = draw_topology(nodes, seed)
    assert topology == draw_topology(nodes, seed)
    used = set()
    for i, node in enumerate(topology):
        assert all(source < INPUTS + i for source in node.sources)
        assert len(set(node.sources)) == len(node.sources)
        assert node.function in FUNCTIONS
        used |= set(node.sources)
    assert used >= set(range(INPUTS, INPUTS + len(topology) - 3))
    firsts = [node.first for node in topology]
    assert firsts == np.cumsum([0, *(len(node.sources) for node in topology[:-1])]).tolist()
    outputs = topology[-3:]
    assert [node.function for node in outputs] == ["linear"] * 3
    assert all(isinstance(node, Node) and node.sources[0] == 3 for node in outputs)


def test_seeds_give_different_topologies():
    assert len({draw_topology(24, seed) for seed in range(5)}) == 5


def test_every_coordinate_has_an_effect():
    generator = CPPN(16, nodes=10)
    codes = generator.space.sample(1, np.random.default_rng(0))
    pictures = generator(codes + 0.3 * np.eye(generator.space.dim))
    assert (np.abs(pictures - generator(codes)).reshape(len(pictures), -1).max(1) > 1e-6).all()


def test_more_pixels_show_the_same_pattern():
    codes = CPPN(9).space.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(CPPN(17)(codes)[..., ::2, ::2], CPPN(9)(codes), atol=1e-2)


def test_places():
    x, y, radius, one = places(3, 2.0).reshape(4, 3, 3)
    np.testing.assert_array_equal(x[0], [-2, 0, 2])
    np.testing.assert_array_equal(y[:, 0], [-2, 0, 2])
    assert radius[1, 1] == 0
    assert radius[0, 0] == pytest.approx(8**0.5)
    assert (one == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "neat"}, "network: expected 'fooling' or 'lucid', got 'neat'"),
        ({"colors": "lab"}, "colors: expected 'hls' or 'rgb', got 'lab'"),
        ({"spread": 0}, "spread: expected a finite number above 0, got 0"),
        ({"nodes": 0}, "nodes: expected a whole number of at least 1, got 0"),
        ({"nodes": 2.5}, r"nodes: expected a whole number of at least 1, got 2\.5"),
        ({"resolution": 0}, "resolution: expected 2 to 4096 pixels"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        CPPN(**{"resolution": 8, **options})
