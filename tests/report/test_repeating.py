"""The commands are those that repeat the run."""

import shlex
from pathlib import Path

import pytest

from closedloop import open_recording
from closedloop.cli import main
from closedloop.recording.reader import read_experiment
from closedloop.report.repeating import commands, experiment_text, objects

OBJECT = {"name": "python-object", "description": "Rig rig"}


def command(run, experiment, what, finished=True):
    found = dict(commands(Path(run), experiment, finished))
    return found.get(what)


def test_an_evolution_is_repeated_by_its_command(gabor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command(gabor, read_experiment(gabor), "repeat it, bit for bit"))
    words[words.index("--out") + 1] = "again"
    main(words[1:])
    assert open_recording("again").load().equals(open_recording(gabor).load())


def test_recorded_images_are_repeated_by_their_command(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16), (80 * i, 90, 30)).save(tmp_path / "my photos" / f"{i}.png")
    main(["record", "--layer", "conv_stem", "--units", "0-4", "--engine", "eager", "--images", "my photos",
          "--repeats", "2", "--seed", "3", "--out", "a b"])  # fmt: skip
    words = shlex.split(command("a b", read_experiment("a b"), "repeat it, bit for bit"))
    main(words[1:])
    assert open_recording("a b-again").load().equals(open_recording("a b").load())


def test_an_unfinished_run_goes_on_and_folders_are_quoted():
    assert command("my run", {"protocol": "evolve"}, "go on with it", finished=False) == "closedloop resume 'my run'"
    assert command("my run", {"protocol": "evolve"}, "go on with it") is None


@pytest.mark.parametrize("experiment", [{"subject": OBJECT}, {"threads": [{"name": "a", "generator": OBJECT}]}])
def test_python_objects_cannot_be_repeated_by_a_command(experiment):
    assert objects(experiment) == ["Rig rig"]
    assert [what for what, _ in commands(Path("run"), experiment, False)] == ["see table and figure"]


@pytest.mark.parametrize(
    ("protocol", "word"),
    [("present", "record"), ("ascend", "ascend"), ("elites", "elites"), ("landscape", "landscape"),
     ("compare", "compare"), ("evolve", "evolve"), ("map_field", "map-field"), ("gratings", "gratings"),
     ("selectivity", "selectivity"), ("invariance", "invariance")],
)  # fmt: skip
def test_every_protocol_is_repeated_by_its_command(protocol, word):
    said = command("run", {"protocol": protocol, "subject": {"name": "gabor"}}, "repeat it, bit for bit")
    assert said == f"closedloop {word} --config run/experiment.yaml --out run-again"


@pytest.mark.parametrize(
    "experiment", [{"protocol": "import"}, {"protocol": "unheard-of"}, {"protocol": "ascend", "start": True}]
)
def test_what_no_command_repeats(experiment):
    assert command("run", experiment, "repeat it, bit for bit") is None


def test_the_text_is_that_of_the_file(gabor):
    assert experiment_text(read_experiment(gabor)) == (gabor / "experiment.yaml").read_text()
