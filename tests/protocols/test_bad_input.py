"""Bad input to a protocol's call or command: an error of ours, and the place where the run was to be is as before."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from closedloop import load_optimizer
from closedloop.cli import main
from closedloop.errors import ClosedLoopError, InvalidArgumentError
from closedloop.generators import Fourier, Pixels
from closedloop.images.eight_bit import write_png
from closedloop.protocols import ascend, compare, evolve, evolve_elites, landscape, present
from closedloop.subjects import GaborSubject
from tests.small_runs import RUNS, SIDE, cells, classifier, network, pictures, run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The place of the runs, with images among which one is none."""
    images = tmp_path / "images"
    images.mkdir()
    for i, picture in enumerate(pictures(70)):
        write_png(images / f"{i:02d}.png", picture)
    (images / "69.png").write_bytes((images / "69.png").read_bytes()[:60])
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


GENERATOR = Fourier(SIDE, 2)


def optimizer(space=GENERATOR.space):
    return load_optimizer("isotropic", space, seed=1)


def twice(codes):
    return np.concatenate([GENERATOR(codes)] * 2)


CALLS = {
    "an unreadable image": lambda save: present(cells(), "images", save=save),
    "an unreadable reference": lambda save: evolve(cells(), GENERATOR, optimizer(), objective="unit(0)",
                                                   references="images", save=save),
    "an unreadable natural image": lambda save: compare(network(), [0], ["raw"], naturals="images", save=save),
    "no budget": lambda save: evolve(cells(), GENERATOR, optimizer(), objective="unit(0)", images=1, save=save),
    "another space": lambda save: evolve(cells(), GENERATOR, optimizer(Pixels(4).space), objective="unit(0)",
                                         save=save),
    "no unit": lambda save: evolve(cells(), GENERATOR, optimizer(), objective="unit(9)", save=save),
    "another size": lambda save: present(GaborSubject(resolution=32, count=1), pictures(2), save=save),
    "a column of another length": lambda save: present(cells(), pictures(3), parameters={"a": [1, 2]}, save=save),
    "no classifier": lambda save: evolve_elites(GaborSubject(resolution=SIDE), Pixels(4), save=save),
    "no class": lambda save: evolve_elites(classifier(), Pixels(4), classes=[9], save=save),
    "a bounded space": lambda save: landscape(cells(), Pixels(4), np.ones(48), save=save),
    "a center without a direction": lambda save: landscape(
        cells(), GENERATOR, np.zeros(GENERATOR.space.dim), planes=["random-random"], save=save
    ),
    "no gradient": lambda save: ascend(classifier(), unit=0, steps=2, save=save),
    "no such method": lambda save: ascend(network(), method="rawer", unit=0, save=save),
    "no such contender": lambda save: compare(network(), [0], ["rawer"], naturals=pictures(3), save=save),
    "no such column": lambda save: compare(network(), [7], ["raw"], naturals=pictures(3), save=save),
}  # fmt: skip


def state(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.sampled(12)
@pytest.mark.parametrize("place", ["run", "runs/new/run"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_leaves_nothing(folder, call, place):
    before = state(folder)
    with pytest.raises(ClosedLoopError, match=r"."):
        call(folder / place)
    assert state(folder) == before


@pytest.mark.sampled(16)
@pytest.mark.parametrize("save", ["file", "file/run", "x" * 300, "new/" + "x" * 300, "a\0b", "images"])
@pytest.mark.parametrize("name", RUNS)
def test_a_place_that_cannot_be(folder, name, save):
    before = state(folder)
    with pytest.raises(ClosedLoopError, match=r"save|cannot write|name"):
        run(name, save)
    assert state(folder) == before


COMMANDS = [
    ["record", "--images", "images", "--subject", "gabor", "--resolution", "32"],
    ["record", "--images", "1" * 20],
    ["record", "--images", "images", "--subject", "nobody"],
    ["evolve", "--subject", "gabor", "--resolution", "16"],
    ["evolve", "--subject", "gabor", "--images", "9" * 20],
    ["evolve", "--subject", "gabor", "--generator", "fourier", "--objective", "unit("],
    ["elites", "--subject", "gabor", "--images", "30"],
    ["landscape", "file"],
    ["ascend", "--subject", "gabor", "--unit", "99"],
    ["compare", "--subject", "gabor", "--methods", "rawer"],
]


@pytest.mark.sampled(16)
@pytest.mark.parametrize("out", [None, "out", "[/red]", "b\udcff"])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:40])
def test_a_command_leaves_nothing(folder, words, out, capsys, tally):
    tally("bad input that leaves nothing")
    before = state(folder)
    with pytest.raises(SystemExit, match="2") as ended:
        main([*words, *([] if out is None else ["--out", out])])
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert state(folder) == before


def test_images_that_are_links_to_nowhere(folder):
    """Such as those of a dataset that was not fetched: left out in silence, the rest would be taken for all."""
    (folder / "images" / "70.png").symlink_to(folder / "nowhere.png")
    (folder / "images" / "69.png").unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "images" / "71.png")
    with pytest.raises(InvalidArgumentError, match=r"images/70.png is a link to a file that is not there"):
        present(cells(), "images", resolution=SIDE, save=folder / "run")
    assert not (folder / "run").exists()
    (folder / "images" / "70.png").unlink()
    assert present(cells(), "images", resolution=SIDE, save=folder / "run").sizes["presentation"] == 70
