from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from torch.nn.functional import cross_entropy

from closedloop import open_recording
from closedloop.analysis import read_allocation
from closedloop.cli import main
from closedloop.images.movies import decode_movie
from closedloop.protocols import LossChangeAllocation
from closedloop.recording.reader import read_experiment
from closedloop.report import repeating
from tests.protocols.test_lca import small

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")


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
    out = capsys.readouterr().out
    assert "mlp, 2 seeds; means with" in out
    assert "Change of the loss by each layer" in out
    main(["show", "runs", "--figure", "seeds.png"])
    assert Path("seeds.png").is_file()
    main(["report", "runs", "--out", "page.html"])
    page = Path("page.html").read_text()
    assert "2 trainings were recorded, of mlp." in page
    assert "closedloop lca --config runs/experiment.yaml --out runs-again" in page
    main(["lca", "--config", "runs/experiment.yaml", "--out", "again"])
    assert open_recording("again").load().equals(open_recording("runs").load())
    assert read_allocation("runs/seed-6").attrs["seed"] == 6


def test_changes_of_training_are_compared_over_seeds(task, capsys):
    changes = ["--against", "freeze=output", "--against", "remove=fc3 l2=0.01"]
    main(["lca", *task, "--seeds", "2", *changes, "--out", "runs"])
    out = capsys.readouterr().out
    assert "parameters that help in a step" in out
    assert "freeze=output: what it does" in out
    assert "(2 pairs)" in out
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
        ("", "against: expected OPTION=VALUE, such as freeze=output, got ''"),
        ("freeze=fc9", "against 'freeze=fc9': freeze: expected a layer of fc1, fc2, fc3, output, got 'fc9'"),
        ("rate=-1", "against 'rate=-1': rate: expected a rate above 0, got -1.0"),
        ("remove=fc1", "against 'remove=fc1': remove: expected a layer whose output has the shape of its input"),
        ("subset=99", "against 'subset=99': subset: expected at most 40 examples, got 99"),
        ("start=nowhere", "against 'start=nowhere': start: nowhere"),
        ("network=vgg", "against 'network=vgg': network: expected 'mlp', 'conv' or 'resnet', got 'vgg'"),
    ],
)
def test_a_change_that_cannot_be_read_is_named_before_anything_is_trained(word, message, task, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["lca", *task, "--seeds", "2", "--against", word, "--out", "runs"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()


def test_changes_are_named_once_and_need_seeds_to_compare_over(task, capsys):
    for words, message in (
        (
            ["--seeds", "2", "--against", "l2=1", "--against", "l2=1"],
            "against: expected changes that differ, got 'l2=1'",
        ),
        (["--against", "l2=1"], "against: expected seeds of at least 2 to compare over, got 1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["lca", *task, *words, "--out", "runs"])
        assert message in " ".join(capsys.readouterr().err.split())
        assert not Path("runs").exists()


@pytest.mark.parametrize("entry", [[1, 2], "mlp", 5, None])
@pytest.mark.parametrize("command", ["lca", "develop", "treat", "judge"])
def test_a_file_whose_training_is_no_list_of_options_is_named(command, entry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(yaml.safe_dump({"protocol": command, "training": entry}))
    with pytest.raises(SystemExit, match="2"):
        main([command, "--config", "e.yaml", "--out", "run"])
    assert "config: expected options by name under training in e.yaml" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("command", "entry", "message"),
    [
        ("treat", {"treatment": 0.5}, "treatment: expected a text, or several in a list, got 0.5"),
        ("treat", {"treatment": 5}, "treatment: expected one of none, reweight"),
        ("treat", {"treatments": "cut"}, "treatments: no such setting. Did you mean 'treatment'"),
        ("judge", {"treatments": {"a": 1}}, "treatments: expected a text, or several in a list"),
        ("judge", {"stpes": 20}, "stpes: no such setting. Did you mean 'steps'"),
        ("lca", {"data": 5}, "data: expected a text, got 5"),
        ("lca", {"seed": "x"}, "seed: expected a whole number of at least 0, got 'x'"),
        ("lca", {"freeze": [["fc1"]]}, "freeze: expected a text, or several in a list"),
    ],
)
def test_an_entry_of_a_file_that_does_not_fit_is_named(command, entry, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(yaml.safe_dump({"protocol": command, "training": entry}))
    with pytest.raises(SystemExit, match="2"):
        main([command, "--config", "e.yaml", "--out", "run"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("run").exists()


SCRIPT = """
from tests.protocols.test_lca import small
import torch
from torch.nn.functional import cross_entropy
from closedloop.protocols import Training

def made(seed):
    model, data = small(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    def learn(step):
        optimizer.zero_grad()
        cross_entropy(model(data[0]), data[1]).backward()
    return Training(model, cross_entropy, data, optimizer, learn)
"""


def test_a_report_promises_no_command_that_fails(task, tmp_path):
    Path("mine.py").write_text(SCRIPT)
    main(["lca", "--script", "mine.py:made", "--steps", "2", "--out", "scripted"])
    commands = dict(repeating.commands(Path("scripted"), read_experiment("scripted"), finished=False))
    words = "closedloop lca --config scripted/experiment.yaml --script mine.py:made"
    assert commands["go on with it"] == f"{words} --exists resume --out scripted"
    assert commands["repeat it, bit for bit"] == f"{words} --out scripted-again"
    main(commands["repeat it, bit for bit"].split()[1:])
    main(commands["go on with it"].split()[1:])
    model, data = small()
    with LossChangeAllocation(model, cross_entropy, data, save="own") as lca:
        lca.stepped()
    assert [what for what, _ in repeating.commands(Path("own"), read_experiment("own"), False)] == [
        "see table and figure"
    ]
    main(["report", "own", "--out", "page.html"])
    page = Path("page.html").read_text()
    assert "1 steps of training were recorded" in page
    assert "repeat it from Python" in page
    assert "images were shown" not in page
    assert "lost presentations" not in page


def test_a_wrong_number_ends_it_in_one_line(task, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["lca", *task, "--seeds", "0"])
    assert "seeds: expected a whole number of at least 1, got 0" in capsys.readouterr().err
