"""The settings of the paper, on made-up files in the real formats."""

import importlib
import sys
from pathlib import Path

import pytest

from closedloop.cli.building import read_config
from closedloop.cli.lca import training_options
from closedloop.errors import InvalidArgumentError
from closedloop.protocols import train
from tests.images.test_published import write_cifar10, write_mnist

EXAMPLES = Path(__file__).parents[2] / "examples"
SETTINGS = sorted(path.stem.removeprefix("lca_") for path in EXAMPLES.glob("lca_*.yaml"))


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What is said by a file and its command, in a folder with data."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("CLOSEDLOOP_DATA", str(tmp_path))

    def options(name):
        given = {"config": EXAMPLES / f"lca_{name}.yaml", "script": f"lca_paper:{name}"}
        return training_options(given, read_config(given, "lca"), "lca")

    yield options
    sys.modules.pop("lca_paper", None)


def test_all_four_are_there():
    assert SETTINGS == ["cifar_allcnn", "cifar_resnet20", "mnist_fc", "mnist_lenet"]


@pytest.mark.parametrize(
    "name",
    [n if n == "mnist_fc" else pytest.param(n, marks=pytest.mark.long) for n in SETTINGS],
)
def test_a_step_is_shared_out(name, told, tmp_path):
    (write_mnist if name.startswith("mnist") else write_cifar10)(tmp_path)
    options = told(name)
    assert options["rule"] == "adaptive-simpson"
    assert options["steps"] in (2200, 4500)
    found = train(**{**options, "steps": 1})
    assert abs(float(found["residual"][0])) <= options["tolerance"] or int(found["splits"][0]) == 32
    assert found.sizes["step"] == 1


@pytest.mark.parametrize("name", SETTINGS)
def test_its_parts_are_made_of_what_is_read(name, told, tmp_path):
    grey = name.startswith("mnist")
    (write_mnist if grey else write_cifar10)(tmp_path)
    told(name)  # the folder of examples is where modules are looked for
    made = getattr(importlib.import_module("lca_paper"), name)(0)
    held_out = 1 if grey else 2  # of 12, of 20
    assert made.data[0].shape == ((11, 1, 28, 28) if grey else (18, 3, 32, 32))
    assert len(made.losses["validation"][1]) == held_out
    made.learn(0)
    first = next(made.model.parameters()).grad.clone()
    made.learn(1)
    made.learn(0)  # the batch, and what dropout draws, follow from the number of the step
    if grey:
        assert first.equal(next(made.model.parameters()).grad)


@pytest.mark.parametrize("name", SETTINGS)
def test_missing_data_are_named(name, told, monkeypatch, tmp_path):
    with pytest.raises(InvalidArgumentError, match="They are not fetched: put them there, or name their folder"):
        train(**told(name))
    monkeypatch.setenv("CLOSEDLOOP_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InvalidArgumentError, match="CLOSEDLOOP_DATA: expected the folder with the files of MNIST or"):
        train(**told(name))
