from pathlib import Path

import numpy as np
import pytest

from closedloop import open_recording
from closedloop.cli import main
from closedloop.images.movies import decode_movie

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

SCRIPT = """
import torch
from torch import nn
from closedloop.networks.modules import born
from closedloop.protocols import Training

def made(seed):
    x = torch.linspace(-1, 1, 320).reshape(20, 1, 4, 4)
    y = (torch.arange(20) > 9).long()
    model = born(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    def learn(step):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
    return Training(model, nn.functional.cross_entropy, (x, y), optimizer, learn)
"""
LITTLE = ["--looks", "2", "--images", "24", "--starts", "1", "--examples", "8", "--generator", "pixels"]
STRATEGY = ["--strategy", "{name: isotropic, population: 8}"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    np.savez("task.npz", x=rng.standard_normal((40, 4, 4)) + y[:, None, None], y=y)
    return tmp_path


def test_a_run_is_shown_repeated_analyzed_and_reported(work, capsys):
    told = ["--data", "task.npz", "--steps", "3", "--batch", "8", "--layers", "fc2,output", "--units", "0,1"]
    main(["develop", *told, *LITTLE, *STRATEGY, "--out", "run"])
    out = capsys.readouterr().out
    assert "fc2: medians over 2 units" in out
    assert decode_movie(Path("run/development.webp")).pictures.shape[:2] == (2, 3)
    assert Path("run/development.png").exists()
    main(["develop", "--config", "run/experiment.yaml", "--out", "again"])
    assert open_recording("run").load().equals(open_recording("again").load())
    main(["analyze", "run", "--what", "development", "--csv", "table.csv"])
    assert "drive" in Path("table.csv").read_text().splitlines()[0]
    main(["report", "run", "--out", "report.html"])
    report = Path("report.html").read_text()
    assert "while it is trained" in report
    assert "The images that each unit likes best" not in report
    assert "split-half" not in report  # the network was another at each look
    capsys.readouterr()
    main(["show", "run"])
    assert "output: medians over 2 units" in capsys.readouterr().out
    main(["lca", *told[:6], "--out", "alone"])
    assert capsys.readouterr().out.count("Loss change allocation of mlp") == 1


def test_a_script_is_followed_and_never_started_by_a_file(work, monkeypatch, capsys):
    (work / "mine_to_develop.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(work)
    script = ["--script", "mine_to_develop:made"]
    main(["develop", *script, "--steps", "2", "--units", "0,1", *LITTLE, *STRATEGY, "--out", "run"])
    assert "output: medians over 2 units" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["develop", "--config", "run/experiment.yaml", "--out", "again"])
    assert "is a script, which no file may start" in " ".join(capsys.readouterr().err.split())
    main(["develop", "--config", "run/experiment.yaml", *script, "--exists", "resume", "--out", "run"])
