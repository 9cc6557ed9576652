from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from closedloop.analysis import read_allocation
from closedloop.cli import main
from closedloop.images.movies import decode_movie


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    np.savez("task.npz", x=rng.standard_normal((40, 4, 4)) + y[:, None, None], y=y)
    return ["--data", "task.npz", "--steps", "4", "--batch", "8"]


def test_one_run_is_shown_and_repeated_from_its_file(task, capsys):
    main(["lca", *task, "--freeze", "fc2@1", "--out", "run"])
    out = capsys.readouterr().out
    assert "Loss change allocation of mlp" in out
    assert "of the parameters help" in out
    assert decode_movie(Path("run/allocation.webp")).pictures.shape[:2] == (4, 3)
    main(["show", "run", "--movie", "learns.webp"])
    assert Path("learns.webp").read_bytes() == Path("run/allocation.webp").read_bytes()
    main(["lca", "--config", "run/experiment.yaml", "--out", "again"])
    assert read_allocation("again").identical(read_allocation("run"))
    main(["lca", "--config", "run/experiment.yaml", "--steps", "2", "--out", "less"])
    assert read_allocation("less").sizes["step"] == 2


def test_layers_that_hurt_are_tested_over_seeds(task, capsys):
    main(["lca", *task, "--seeds", "2", "--seed", "5", "--out", "runs"])
    assert "Change of the loss by each layer over 2 seeds" in capsys.readouterr().out
    assert read_allocation("runs/seed-6").attrs["seed"] == 6


def test_changes_of_training_are_compared_over_seeds(task, capsys):
    changes = ["--against", "freeze=output", "--against", "remove=fc3 l2=0.01"]
    main(["lca", *task, "--seeds", "2", *changes, "--out", "runs"])
    out = capsys.readouterr().out
    assert "Over 2 seeds, 95 % intervals" in out
    assert "parameters that help in a step" in out
    assert "freeze=output: differences over 2 seeds" in out
    frozen = read_allocation("runs/freeze=output/seed-1")
    assert (frozen.by_layer.sel(layer="output") == 0).all()
    assert "fc3" not in read_allocation("runs/remove=fc3-l2=0.01/seed-0").layer.values
    table = pd.read_csv("runs/observations.csv")
    assert set(table["table"]) == {"observed", "freeze=output", "remove=fc3 l2=0.01"}
    assert set(table["measure"].dropna()) == {"loss_train", "accuracy_train"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("freeze", "against: expected OPTION=VALUE, an option of training such as freeze=output, got 'freeze'"),
        ("freze=output", "got 'freze=output'. Did you mean 'freeze'"),
        ("rate=fast", "against: expected a number for rate, got 'fast'"),
    ],
)
def test_a_change_that_cannot_be_read_is_named_before_anything_is_trained(word, message, task, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["lca", *task, "--seeds", "2", "--against", word, "--out", "runs"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()


def test_a_wrong_number_ends_it_in_one_line(task, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["lca", *task, "--seeds", "0"])
    assert "seeds: expected a whole number of at least 1, got 0" in capsys.readouterr().err
