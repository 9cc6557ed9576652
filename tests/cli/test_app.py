"""The command line, from the words that a user types to what stands on the terminal and on the disk."""

import contextlib
import io
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

import closedloop
from closedloop.cli import main
from closedloop.cli.app import Terminated
from closedloop.cli.evolve import merge
from closedloop.loop.experiment import Experiment
from closedloop.recording import Recording, open_recording

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

SMALL = ["--subject", "gabor", "--images", "120", "--references", "none"]
FEW = ["--images", "20", "--references", "none"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL_EXPERIMENT = {
    "subject": {"name": "gabor", "resolution": 16},
    "generator": {"name": "fourier", "resolution": 16, "cutoff": 4},
    "optimizer": {"name": "isotropic", "population": 10},
    "images": 100,
    "interleave": 2,
    "retest_repeats": 3,
}


@pytest.fixture
def config(work):
    """A small experiment on a model neuron."""
    path = work / "experiment.yaml"
    path.write_text(yaml.safe_dump(SMALL_EXPERIMENT))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run of that experiment, beside what its command said."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "experiment.yaml").write_text(yaml.safe_dump(SMALL_EXPERIMENT))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["evolve", "--config", str(folder / "experiment.yaml"), "--out", str(folder / "run")])
    (folder / "said").write_text(said.getvalue())
    return folder / "run"


def fails(arguments, capsys):
    """The one message of a command that ends with status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    message = capsys.readouterr().err
    assert message.count("Error: ") == 1
    assert "Traceback" not in message
    return " ".join(message.split())


def test_help_names_every_command():
    result = subprocess.run([sys.executable, "-m", "closedloop", "--help"], capture_output=True, text=True, check=True)
    for word in ("evolve", "resume", "units", "record", "show", "export", "import", "--debug"):
        assert word in result.stdout


def test_evolve_writes_a_run_a_table_and_a_figure(finished):
    out = (finished.parent / "said").read_text()
    for word in ("evolved best ± s.e.", "best natural reference", "evolved ÷ natural", "images", "seconds", "gabor"):
        assert word in out
    with Image.open(finished / "summary.png") as figure:
        assert figure.width > 1000
        assert np.asarray(figure.convert("L")).std() > 10
    ds = closedloop.open_recording(finished)
    assert ds.attrs["finished"] == 1
    assert set(ds.kind.values) == {"evolved", "reference", "retest"}


def test_the_file_in_the_run_repeats_it(finished, work):
    main(["evolve", "--config", str(finished / "experiment.yaml"), "--out", "second"])
    first, second = closedloop.open_recording(finished), closedloop.open_recording("second")
    assert first.load().equals(second.load())


def test_options_take_precedence_over_the_file(config):
    main(["evolve", "--config", str(config), "--images", "50", "--seed", "3", "--references", "none", "--out", "run"])
    ds = closedloop.open_recording("run")
    assert int((ds.kind == "evolved").sum()) == 50
    assert int(ds.seed) == 3
    assert "reference" not in set(ds.kind.values)


def test_seed_changes_the_evolution(config):
    for seed in ("1", "2"):
        main(["evolve", "--config", str(config), "--seed", seed, *FEW, "--out", f"run{seed}"])
    one, two = (closedloop.open_recording(f"run{s}") for s in "12")
    assert not np.array_equal(one.score, two.score, equal_nan=True)


def test_the_seed_of_a_repeated_run_can_be_changed(config):
    main(["evolve", "--config", str(config), *FEW, "--out", "run"])
    main(["evolve", "--config", "run/experiment.yaml", "--seed", "5", "--out", "other"])
    assert yaml.safe_load((config.parent / "other" / "experiment.yaml").read_text())["optimizer"]["seed"] == 5
    one, two = (closedloop.open_recording(run) for run in ("run", "other"))
    assert not np.array_equal(one.latent_code, two.latent_code, equal_nan=True)


def test_several_threads_in_a_file(config, capsys):
    content = yaml.safe_load(config.read_text())
    generator = content.pop("generator")
    optimizer = content.pop("optimizer")
    content["threads"] = [{"name": n, "generator": generator, "optimizer": optimizer} for n in ("a", "b")]
    config.write_text(yaml.safe_dump(content))
    main(["evolve", "--config", str(config), *FEW, "--out", "run"])
    ds = closedloop.open_recording("run")
    codes = [ds.latent_code.values[(ds.thread == n).values & (ds.generation == 0).values] for n in ("a", "b")]
    assert codes[0].shape == codes[1].shape == (10, codes[0].shape[1])
    assert not np.isin(codes[0], codes[1]).any()
    assert "summary-a.png" in capsys.readouterr().out


def test_resume_of_a_finished_run_shows_it(finished, capsys):
    capsys.readouterr()
    main(["resume", str(finished)])
    assert "evolved best ± s.e." in capsys.readouterr().out


def test_show_writes_a_figure_elsewhere(finished, work):
    main(["show", str(finished), "--figure", "figure.pdf"])
    assert (work / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_record_and_show_of_recorded_images(work, capsys):
    folder = work / "images"
    folder.mkdir()
    for name in ("dark", "light"):
        Image.new("RGB", (40, 30), (250, 240, 230) if name == "light" else (5, 10, 20)).save(folder / f"{name}.png")
    main(["record", "--images", "images", "--subject", "lite0", "--layer", "conv_stem", "--units", "0-4",
          "--engine", "eager", "--repeats", "2", "--out", "recorded"])  # fmt: skip
    ds = closedloop.open_recording("recorded")
    assert dict(ds.sizes) == {"presentation": 4, "neuroid": 5}
    assert set(ds.stimulus_id.values) == {"dark", "light"}
    main(["show", "recorded"])
    assert "light" in capsys.readouterr().out


def test_units_lists_layers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["units", "--layer", "blocks.2"])
    out = capsys.readouterr().out
    for word in ("blocks.2", "40×28×28", "31360", "67", "8", "86:153", "computed"):
        assert word in out


def test_units_of_a_model_neuron(capsys):
    main(["units", "--subject", "energy"])
    assert "orientation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evolve", "--layer", "blocks.9x"], "Did you mean 'blocks"),
        (
            ["record", "--subject", "energy", "--unit", "0"],
            "subject 'energy' takes no --units; all of its units",
        ),
        (["record", "--subject", "energy", "--unit", "0"], "'{name: energy, OPTION: VALUE}', where OPTION is orientat"),
        (
            ["evolve", "--subject", "gabor", "--layer", "x"],
            "layer: subject 'gabor' takes no --layer; leave --lay",
        ),
        (["units", "--subject", "gabor", "--weights", "w"], "weights: subject 'gabor' takes no --weights"),
        (["record", "--subject", "onnx"], "subject 'onnx': it needs path. Its options: path"),
        (["record", "--subject", "gabor:3"], "it takes nothing more behind its name"),
        (["record", "--subject", "{name: gabor, units: 3}"], "it has no option 'units'. Did you mean 'count'"),
        (["evolve", "--unit", "1000"], "1000 is out of range; layer 'output' has channels 0 to 999"),
        (["evolve", "--layer", "blocks.2", "--engine", "eager"], "expected one unit to excite, got 40 of 'lite0'"),
        (["evolve", "--subject", "lite9"], "Did you mean 'lite"),
        (["evolve", *SMALL, "--optimizer", "cmaa"], "Did you mean 'cma"),
        (["evolve", *SMALL, "--generator", "fourrier"], "Did you mean 'fourier'"),
        (["evolve", *SMALL, "--images", "3"], "images: expected at least one generation"),
        (["evolve", *SMALL, "--keep", "some"], "keep: expected 'best', 'all' or 'none'"),
        (["evolve", *SMALL, "--objective", "unit(4)"], "expected a response column 4"),
        (["evolve", *SMALL, "--objective", "unti(0)"], "Did you mean 'unit'"),
        (["evolve", *SMALL[:-1], "nowhere"], "nowhere, which is not a folder"),
        (["evolve", "--weights", "nowhere.pt"], "nowhere.pt, which does not exist"),
        (["evolve", "--config", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["show", "nowhere"], "not a run of closedloop"),
        (["resume", "nowhere"], "not a run of closedloop"),
        (["record", "--images", "nowhere", "--subject", "gabor"], "nowhere, which is not a folder"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_nothing_is_written(work, capsys, arguments, message):
    assert message in fails(arguments, capsys)
    assert list(work.iterdir()) == []


def test_a_pickle_is_refused_as_weights(work, capsys):
    import pickle

    (work / "evil.pt").write_bytes(pickle.dumps(print))
    assert "evil.pt" in fails(["evolve", "--weights", "evil.pt"], capsys)


def test_an_existing_folder_is_left_alone(work, capsys):
    (work / "run").mkdir()
    (work / "run" / "mine.txt").write_text("keep")
    assert "expected a new or empty folder" in fails(["evolve", *SMALL, "--out", "run"], capsys)
    assert [p.name for p in (work / "run").iterdir()] == ["mine.txt"]


def test_an_unreadable_image_is_named(work, capsys):
    (work / "images").mkdir()
    (work / "images" / "broken.jpg").write_bytes(b"no image")
    assert "broken.jpg as a JPEG image" in fails(["evolve", *SMALL[:-1], "images"], capsys)


def test_an_invalid_file_names_each_entry(work, capsys):
    (work / "bad.yaml").write_text("subject: {name: gabor}\nimages: many\nimagse: 3\n")
    message = fails(["evolve", "--config", "bad.yaml"], capsys)
    assert "images: Input should be a valid integer" in message
    assert "imagse: no such entry. Did you mean 'images'?" in message


def test_debug_shows_the_traceback(work):
    with pytest.raises(closedloop.ClosedLoopError, match="not a run"):
        main(["--debug", "show", "nowhere"])


def test_free_names_are_counted(config):
    for _ in range(2):
        main(["evolve", "--config", str(config), *FEW])
    assert sorted(p.name for p in (config.parent / "runs").iterdir()) == ["gabor-output", "gabor-output-2"]


def test_merge_keeps_the_files_thread_options():
    file = Experiment.model_validate({"subject": "gabor", "generator": {"name": "pixels", "resolution": 8},
                                      "optimizer": "random", "objective": "-unit(0)"})  # fmt: skip
    merged = merge(file, {"images": 7, "plateau": 4})
    assert merged.threads[0].generator.options == {"resolution": 8}
    assert merged.threads[0].objective == "-unit(0)"
    assert merged.images == 7
    assert merged.stop[0].options == {"generations": 4}


@pytest.mark.parametrize(("number", "status", "word"), [("SIGINT", 130, "Interrupted"), ("SIGTERM", 143, "Terminated")])
def test_who_stops_a_run_is_told_what_is_safe(tmp_path, capsys, monkeypatch, number, status, word):
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    keep, commits = Recording.append, []

    def append(recording, *rows):
        keep(recording, *rows)
        commits.append(1)
        if len(commits) == 3:
            signal.raise_signal(getattr(signal, number))

    monkeypatch.setattr(Recording, "append", append)
    try:
        with pytest.raises(SystemExit, match=str(status)) as ended:
            main(["evolve", "--subject", "gabor", "--generator", "fourier", "--images", "200", "--out", "run"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == status
    said = " ".join(capsys.readouterr().err.split())
    assert f"{word}. 3 finished generations (" in said
    assert "are safe in run; go on with: closedloop resume run" in said
    assert open_recording("run").attrs["n_generations"] == 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


STOPPED_EARLY = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt  # Ctrl-C while the program is still being imported
sys.meta_path.insert(0, Finder())
from closedloop.cli import main
main(["view"])
"""


def test_who_stops_it_while_it_is_imported_sees_no_traceback():
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED_EARLY], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == "Interrupted. Nothing was left half written.\n"
    assert ended.returncode == 130


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_an_export_that_is_stopped_leaves_nothing(named, work, capsys, monkeypatch, error, status):
    def stop(part):
        raise error

    monkeypatch.setattr("closedloop.formats.csv._table", stop)
    with pytest.raises(SystemExit, match=str(status)) as ended:
        main(["export", str(named), "--to", "csv", "--out", "table.csv"])
    assert ended.value.code == status
    assert "Nothing was left half written" in capsys.readouterr().err
    assert list(work.iterdir()) == []


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """The run of a single thread that has a name."""
    run = tmp_path_factory.mktemp("named") / "run"
    main(["evolve", "--subject", "{name: gabor, resolution: 16}", "--images", "40", "--references", "none",
          "--thread", "cells: generator=fourier", "--out", str(run)])  # fmt: skip
    return run


@pytest.mark.parametrize("given", [[], ["--images", "50"], ["--optimizer", "nes"]])
def test_a_single_thread_keeps_its_name(named, work, given):
    main(["evolve", "--config", str(named / "experiment.yaml"), *given, "--out", "again"])
    first, again = (yaml.safe_load((run / "experiment.yaml").read_text()) for run in (named, work / "again"))
    assert [t["name"] for t in again["threads"]] == [t["name"] for t in first["threads"]] == ["cells"]
    if not given:
        assert again == first
        found, expected = (open_recording(run).load() for run in (work / "again", named))
        assert found.drop_attrs().identical(expected.drop_attrs())
