"""closedloop ascend: from the words that a user types to the table, the figure and the run."""

import numpy as np
import pytest
import yaml
from PIL import Image

import closedloop
from closedloop.cli import main
from closedloop.cli.ascend import parse_options
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import write_png
from closedloop.protocols import read_ascent

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

SMALL = ["--subject", "energy", "--method", "tv", "--steps", "6", "--every", "3"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def fails(arguments, capsys):
    """The one message of a command that ends with status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    message = capsys.readouterr().err
    assert message.count("Error: ") == 1
    assert "Traceback" not in message
    return " ".join(message.split())


def test_a_run_a_table_and_a_figure(work, capsys):
    main(["ascend", *SMALL, "--set", "rate=0.1", "--seed", "3", "--references", "bundled", "--out", "run"])
    out = capsys.readouterr().out
    for word in ("tv on energy", "energy.0", "response", "best natural", "steps", "cost", "run/ascents.png"):
        assert word in out
    assert "confidence" not in out  # a model neuron is no class
    assert "Nothing went wrong that is looked for." in out
    with Image.open(work / "run" / "ascents.png") as figure:
        assert figure.width > 500
        assert np.asarray(figure.convert("L")).std() > 10
    content = yaml.safe_load((work / "run" / "experiment.yaml").read_text())
    assert (content["protocol"], content["method"], content["options"]["rate"]) == ("ascend", "tv", 0.1)
    found = read_ascent("run")
    assert found["seed"].item() == 3
    assert found.sizes["step"] == 6


def test_show_resume_and_report_know_it(work, capsys):
    main(["ascend", *SMALL, "--out", "run"])
    whole = capsys.readouterr().out
    (work / "run" / "ascents.png").unlink()
    main(["show", "run", "--figure", "figure.pdf"])
    assert (work / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert whole.count("tv on energy") == capsys.readouterr().out.count("tv on energy") == 1
    main(["resume", "run"])
    assert "tv on energy" in capsys.readouterr().out
    main(["report", "run", "--out", "report.html"])
    assert "unit-0" in (work / "report.html").read_text() or "energy.0" in (work / "report.html").read_text()
    main(["analyze", "run", "--what", "trajectory"])
    assert "unit-0" in capsys.readouterr().out


def test_failures_are_told_in_words(work, capsys):
    main(["ascend", *SMALL, "--subject", "gabor", "--set", "tv=0", "--set", "norm=0", "--generator", "pixels",
          "--objective", "unit(0) - unit(0)", "--out", "run"])  # fmt: skip
    out = " ".join(capsys.readouterr().out.split())
    assert "dead gradient: it was zero in every step" in out
    assert "Nothing went wrong" not in out


def test_an_ascent_from_a_photograph(work, capsys):
    write_png(work / "photo.png", np.random.default_rng(0).random((3, 40, 60), dtype=np.float32))
    message = fails(["ascend", *SMALL, "--start", "photo.png", "--generator", "cppn", "--out", "run"], capsys)
    assert "start: generator 'cppn' cannot encode an image" in message
    assert "does not exist" in fails(["ascend", *SMALL, "--start", "no.png", "--out", "run"], capsys)
    assert not (work / "run").exists()


def test_a_network_records_all_outputs(work, capsys):
    main(["ascend", "--unit", "292,7", "--method", "raw", "--steps", "2", "--engine", "eager", "--out", "run"])
    out = capsys.readouterr().out
    for word in ("tiger", "cock", "confidence"):
        assert word in out
    assert closedloop.open_recording("run").sizes["neuroid"] == 1000
    assert read_ascent("run")["column"].values.tolist() == [292, 7]


def test_a_run_is_repeated_from_its_file(work, capsys):
    main(["ascend", *SMALL, "--set", "rate=0.1", "--seed", "3", "--references", "bundled", "--out", "run"])
    main(["ascend", "--config", "run/experiment.yaml", "--out", "again"])
    one, two = (read_ascent(run) for run in ("run", "again"))
    assert one.equals(two)
    other = ["--seed", "4", "--steps", "9", "--set", "tv=0", "--objective", "suppression(0)", "--references", "none"]
    main(["ascend", "--config", "run/experiment.yaml", *other, "--out", "other"])
    content = yaml.safe_load((work / "other" / "experiment.yaml").read_text())
    assert (content["seed"], content["steps"], content["every"], content["references"]) == (4, 9, 3, None)
    assert content["options"] == {"rate": 0.1, "tv": 0, "norm": 1.0, "l1": 0.0}
    assert content["objectives"] == ["-unit(0)"]
    main(["ascend", "--config", "other/experiment.yaml", "--method", "deepdream", "--out", "dream"])
    dreamt = yaml.safe_load((work / "dream" / "experiment.yaml").read_text())
    assert (dreamt["method"], dreamt["steps"], dreamt["seed"]) == ("deepdream", 40, 4)
    assert dreamt["objectives"] == ["-unit(0)"]


def test_a_resolution_is_that_of_the_methods_own_generator_too(work, capsys):
    raw = ["--unit", "7", "--method", "raw", "--steps", "1", "--engine", "eager"]
    main(["ascend", *raw, "--resolution", "20", "--out", "run"])
    assert yaml.safe_load((work / "run" / "experiment.yaml").read_text())["generator"]["resolution"] == 20
    main(["ascend", "--config", "run/experiment.yaml", "--resolution", "24", "--out", "again"])
    assert read_ascent("again")["image"].sizes["row"] == 24


def test_files_that_cannot_be_repeated(work, capsys):
    main(["ascend", *SMALL, "--out", "run"])
    path = work / "run" / "experiment.yaml"
    content = yaml.safe_load(path.read_text())

    def message(*arguments, **changes):
        changed = {k: v for k, v in {**content, **changes}.items() if v != "gone"}
        (work / "file.yaml").write_text(yaml.safe_dump(changed))
        return fails(["ascend", "--config", "file.yaml", *arguments, "--out", "new"], capsys)

    assert "config: expected the experiment.yaml of a run of ascend, got file.yaml: it is none" in message(
        protocol=None
    )
    assert "it has no entry 'steps'" in message(steps="gone")
    assert "config: the generator of file.yaml was built by hand" in message(generator=None)
    assert "start: the run of file.yaml began at an image; name the file with --start" in message(start=True)
    assert "cannot read no.yaml as YAML" in fails(["ascend", "--config", "no.yaml", "--out", "new"], capsys)
    (work / "file.yaml").write_text("- 1")
    assert "expected entries such as" in fails(["ascend", "--config", "file.yaml", "--out", "new"], capsys)
    assert not (work / "new").exists()


def test_a_hand_made_experiment_file_takes_a_gradient_method(work, capsys):
    content = {
        "subject": {"name": "energy", "resolution": 16},
        "generator": {"name": "pixels", "resolution": 16},
        "optimizer": {"name": "adam", "steps": 6, "rate": 0.02},
        "gradient": {"view": "Roll(px=2) | Noise(std=0.01)", "every": 2, "seed": 4},
        "images": 20,
        "references": None,
    }
    (work / "file.yaml").write_text(yaml.safe_dump(content))
    main(["evolve", "--config", "file.yaml", "--out", "run"])
    main(["evolve", "--config", "run/experiment.yaml", "--out", "again"])
    one, two = (closedloop.open_recording(run).load() for run in ("run", "again"))
    assert one.equals(two)
    assert int((one.kind == "evolved").sum()) == 3
    stored = yaml.safe_load((work / "run" / "experiment.yaml").read_text())["gradient"]
    assert (stored["every"], stored["seed"]) == (2, 4)
    assert stored["view"].startswith("Roll(")
    content["gradient"]["view"] = "Rolling(2)"
    (work / "file.yaml").write_text(yaml.safe_dump(content))
    message = fails(["evolve", "--config", "file.yaml", "--out", "third"], capsys)
    assert "thread 'main': view: no view named 'Rolling'" in message
    assert "handed over from Python" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lucit"], "no method 'lucit'. Did you mean 'lucid'"),
        (["--set", "rat=1"], "rat: method 'tv' has no such option. Did you mean 'rate'"),
        (["--set", "rate"], "set: expected NAME=VALUE, such as rate=0.1, got 'rate'"),
        (["--unit", "x"], "units: cannot read 'x'; expected for instance '7'"),
        (["--unit", "3"], "units: 3 is out of range; the subject has response columns 0 to 0"),
        (["--unit", "0", "--objective", "unit(0)"], "units: expected none beside an objective"),
        (["--objective", "unit("], "objective: expected an expression"),
        (["--generator", "pixel"], "no generator named 'pixel'"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(work, capsys, arguments, message):
    assert message in fails(["ascend", *SMALL, *arguments, "--out", "run"], capsys)
    assert not (work / "run").exists()


def test_words_for_options_and_units():
    assert parse_options(["rate=0.1", "exact=false", "smooth=[3, 1]", "max_rate=null"]) == {
        "rate": 0.1, "exact": False, "smooth": [3, 1], "max_rate": None,
    }  # fmt: skip
    with pytest.raises(InvalidArgumentError, match=r"set: .*cannot read this YAML"):
        parse_options(["rate=[1"])
