"""``closedloop report`` from the words that are typed to the file."""

import shutil

import pytest
import yaml

from closedloop.cli import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small finished run."""
    folder = tmp_path_factory.mktemp("report")
    content = {
        "subject": {"name": "gabor", "resolution": 16},
        "generator": {"name": "fourier", "resolution": 16, "cutoff": 4},
        "optimizer": {"name": "isotropic", "population": 10},
        "images": 30, "references": None, "retest_repeats": 2,
    }  # fmt: skip
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content))
    main(["evolve", "--config", str(folder / "experiment.yaml"), "--out", str(folder / "my-run")])
    return folder / "my-run"


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """It in the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "my-run")
    return tmp_path


def test_the_file_has_the_runs_name(run, capsys):
    capsys.readouterr()
    main(["report", "my-run"])
    assert "Report: my-run.html" in capsys.readouterr().out
    page = (run / "my-run.html").read_text(encoding="utf-8")
    assert "What does gabor.0 want to see?" in page
    assert "closedloop report my-run --out my-run.html" in page


def test_out_names_it(run):
    main(["report", "my-run", "--out", "talk.html"])
    assert (run / "talk.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "not a run"),
        (["report", "my-run", "--out", "a.pdf"], "ends in .html"),
        (["report", "my-run", "my-run"], "got one twice"),
    ],
)
def test_bad_input_is_one_message(run, capsys, arguments, message):
    before = sorted(run.iterdir())
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(run.iterdir()) == before
