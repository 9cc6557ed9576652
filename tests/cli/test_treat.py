"""The commands that treat and judge: tables in the terminal, files that repeat them, errors in a line."""

import numpy as np
import pytest

from closedloop.cli import main
from closedloop.protocols import resume

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    rng = np.random.default_rng(0)
    sets = {}
    for name in ("", "_labelled", "_test"):
        y = rng.integers(0, 2, 30)
        sets |= {f"x{name}": (0.5 * rng.random((30, 3, 8, 8)) + 0.4 * y[:, None, None, None]).astype(np.float32),
                 f"y{name}": y}  # fmt: skip
    np.savez("task.npz", **sets)
    return ["--data", "task.npz", "--steps", "10", "--more", "10", "--every", "10", "--batch", "10"]


def test_one_treatment_is_shown_and_repeated_from_its_file(task, capsys):
    main(["treat", *task, "--treatment", "reweight", "--treatment", "freeze:conv1", "--out", "run"])
    out = capsys.readouterr().out
    assert "Accuracy under the treatment reweight+freeze:conv1" in out
    assert "Network: --subject treated:run" in out
    main(["treat", "--config", "run/experiment.yaml", "--out", "again"])
    assert resume("again").identical(resume("run"))


def test_a_judgement_is_shown(task, capsys):
    main(["judge", *task, "--treatments", "none", "--treatments", "freeze:conv1", "--seeds", "3", "--out", "run"])
    out = capsys.readouterr().out
    assert "Accuracy of the test" in out
    assert "Gain in the worst group" in out
    main(["judge", "--config", "run/experiment.yaml", "--out", "again"])
    assert resume("again").identical(resume("run"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["treat", "--treatment", "magic"], "treatment: expected one of none, reweight"),
        (["judge", "--treatments", "magic"], "treatment: expected one of none, reweight"),
        (["treat", "--share", "2"], "share: expected a share of at most 1"),
    ],
)
def test_errors_are_one_line(task, words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*words, *task, "--out", "run"])
    assert message in capsys.readouterr().err
