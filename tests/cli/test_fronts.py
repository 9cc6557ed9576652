"""``closedloop pareto``, ``stretch-and-squeeze`` and ``controversial``: runs are shown, and their files repeat them."""

import pytest
import yaml

from closedloop import open_recording
from closedloop.cli import main

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

TWO = "{name: gabor, count: 2, resolution: 16, seed: 1}"
ONE = "{name: gabor, count: 1, resolution: 16, seed: 1}"
FOURIER = "{name: fourier, resolution: 16, cutoff: 2}"
SIZES = ["--images", "16", "--population", "8", "--retest-candidates", "2", "--retest-repeats", "2"]


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def repeats(command, work, name="run"):
    main([command, "--config", f"{name}/experiment.yaml", "--out", "again"])
    one, two = (yaml.safe_load((work / run / "experiment.yaml").read_text()) for run in (name, "again"))
    assert one == two
    return open_recording(name).load().equals(open_recording("again").load())


def fails(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    return " ".join(capsys.readouterr().err.split())


def test_a_front_of_two_objectives(work, capsys):
    words = ["--objective", "unit(0)", "--objective", "-1*unit(1)"]
    main(["pareto", "--subject", TWO, "--generator", FOURIER, *SIZES, *words, "--out", "run"])
    assert "The front of unit(0) and -unit(1)" in " ".join(capsys.readouterr().out.split())
    assert repeats("pareto", work)
    main(["analyze", "run", "--what", "front"])
    assert "pareto-g0" in capsys.readouterr().out
    assert "objectives: expected two" in fails(["pareto", "--subject", TWO, "--objective", "unit(0)"], capsys)


def test_around_an_evolved_image(work, capsys):
    main(["evolve", "--subject", ONE, "--generator", FOURIER, "--images", "40", "--optimizer", "isotropic",
          "--references", "none", "--retest-repeats", "2", "--out", "evolved"])  # fmt: skip
    main(["stretch-and-squeeze", "evolved", *SIZES, "--margin", "0.2", "--out", "run"])
    assert "Far from the reference at a held response" in capsys.readouterr().out
    assert repeats("stretch-and-squeeze", work)
    assert "expected the folder of an evolution's run, or --config FILE" in fails(["stretch-and-squeeze"], capsys)
    assert "no thread 'x'" in fails(["stretch-and-squeeze", "evolved", "--thread", "x"], capsys)


def test_two_models_disagree(work, capsys):
    models = [
        word
        for angle in (0.0, 90.0)
        for word in ("--model", f"{{name: gabor, resolution: 16, orientation_deg: {angle}}}")
    ]
    sizes = ["--copies", "1", "--steps", "3", "--images", "40", "--naturals", "3", "--repeats", "2"]
    main(["controversial", *models, "--subject", ONE, "--generator", FOURIER, *sizes, "--out", "run"])
    assert "Images about which the models disagree" in capsys.readouterr().out
    assert repeats("controversial", work)
    main(["analyze", "run", "--what", "controversy"])
    assert "second-00" in capsys.readouterr().out
    assert "models: expected two" in fails(["controversial", *models[:2]], capsys)
    assert "model_units: expected one or two" in fails(["controversial", *models, "--model-units", "a"], capsys)
