"""The command that finds errors: a lean table, and messages without a traceback."""

import pytest

from closedloop.cli import main
from tests.planted import planted_folder, planted_subject

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    asked = []

    def load(recipe):
        asked.append(recipe)
        return planted_subject()

    monkeypatch.setattr("closedloop.cli.diagnose.load", load)

    def run(*words):
        try:
            main(["diagnose", *words])
            status = 0
        except SystemExit as end:
            status = end.code
        found = capsys.readouterr()
        return status, found.out + found.err

    run.asked = asked
    return run


def test_a_table_of_errors_and_units(command, tmp_path):
    folder = planted_folder(tmp_path / "pictures")
    status, said = command("--labelled", str(folder), "--layer", "relu", "--out", str(tmp_path / "run"))
    assert not status
    for text in ("Most frequent confusions", "errors that one unit's ablation corrects", "100.0 % of 3", "relu"):
        assert text in said
    assert "layer" not in command.asked[0]  # that of the recorded units stays the output
    status, said = command("--labelled", str(folder), "--explain", "none", "--out", str(tmp_path / "other"))
    assert not status
    assert "nothing is said of why" in said
    status, said = command("--config", str(tmp_path / "run" / "experiment.yaml"), "--out", str(tmp_path / "again"))
    assert (status, "repeat the run from Python" in said) == (2, True)  # this subject has no name


def test_errors_are_one_line(command, tmp_path):
    status, said = command()
    assert (status, "labelled: expected a folder of labelled images" in said) == (2, True)
    status, said = command("--labelled", str(tmp_path / "gone"))
    assert (status, "labelled: expected a folder of labelled images, got" in said) == (2, True)
    assert not command.asked
    folder = planted_folder(tmp_path / "pictures")
    (folder / "red").rename(folder / "crimson")
    status, said = command("--labelled", str(folder), "--out", str(tmp_path / "run"))
    assert (status, "'crimson' (12 images)" in said) == (2, True)
