"""``closedloop sweep``: what it says before, while and after, and the commands that it prints."""

from __future__ import annotations

import pytest
import yaml

from closedloop.cli import main
from closedloop.cli.sweep import say_result
from closedloop.protocols import SweepResult
from closedloop.protocols.sweep_runs import FAILED, Outcome, mark_failed
from closedloop.protocols.sweep_work import read_plan

PLAN = {
    "out": "s",
    "subject": {"name": "gabor", "resolution": 16, "count": 2, "seed": 1},
    "generator": {"name": "fourier", "cutoff": 2},
    "optimizer": {"name": "isotropic", "population": 6},
    "images": 12,
    "references": "none",
    "retest_candidates": 1,
    "retest_repeats": 2,
    "units": "0-1",
}


@pytest.fixture
def plan(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(PLAN))
    return file


def test_a_dry_run_says_what_it_takes_and_writes_nothing(plan, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("closedloop.protocols.sweep_costs._SECONDS", 0.01)
    main(["sweep", str(plan), "--dry-run"])
    said = capsys.readouterr().out
    for words in ("Runs:    2 (0 done, 0 failed before)", "Images:  24", "Minutes: ", "Disk:    ", "unit 2"):
        assert words in said
    assert {p.name for p in tmp_path.iterdir()} == {"plan.yaml"}


def test_it_does_all_and_says_what_is_next(plan, capsys, tmp_path):
    main(["sweep", str(plan), "--workers", "0"])
    said = capsys.readouterr().out
    assert "2 of 2 runs done, 0 failed, 0 left" in said
    assert f"closedloop runs {tmp_path / 's'}" in said
    main(["sweep", str(plan), "--dry-run"])
    assert "as 2 finished runs took" in capsys.readouterr().out


def test_commands_for_any_other_queue(plan, capsys, tmp_path):
    main(["sweep", str(plan), "--list"])
    commands = capsys.readouterr().out.strip().splitlines()
    assert len(commands) == 2
    main(commands[0].split()[1:])
    assert ": done" in capsys.readouterr().out
    main(["sweep", str(tmp_path / "s"), "--list"])
    assert capsys.readouterr().out.strip().splitlines() == commands[1:]


def test_failures_are_said_with_their_reasons_and_end_with_a_status(plan, capsys):
    plan.write_text(yaml.safe_dump({**PLAN, "units": "0,7,8"}))
    with pytest.raises(SystemExit, match="1"):
        main(["sweep", str(plan), "--workers", "0"])
    said = capsys.readouterr().out
    assert "1 of 3 runs done, 2 failed, 0 left" in said
    assert f"closedloop sweep {plan} --retry" in said


def test_what_is_next_keeps_to_the_folder_that_was_given(plan, capsys, tmp_path):
    plan.write_text(yaml.safe_dump({**PLAN, "units": "0,7"}))
    with pytest.raises(SystemExit, match="1"):
        main(["sweep", str(plan), "--workers", "0", "--out", str(tmp_path / "other")])
    assert f"closedloop sweep {plan} --out {tmp_path / 'other'} --retry" in capsys.readouterr().out


def test_the_same_reason_of_several_runs_is_one(tmp_path, capsys):
    why = {
        identity: f"{tmp_path}/{identity[:2]}/{identity[2:4]}/{identity}: cannot write" for identity in ("abcd", "efgh")
    }
    say_result(SweepResult(tmp_path, 2, 0, why), tmp_path / "plan.yaml")
    said = capsys.readouterr()
    assert "2 × its folder: cannot write" in said.out + said.err


def test_runs_that_failed_are_listed_where_they_are_tried_again(plan, capsys):
    plan.write_text(yaml.safe_dump({**PLAN, "units": "0,7"}))
    with pytest.raises(SystemExit, match="1"):
        main(["sweep", str(plan), "--workers", "0"])
    capsys.readouterr()
    main(["sweep", str(plan), "--list"])
    said = capsys.readouterr()
    assert said.out == ""
    assert "1 of 2 runs failed before and are not listed; with them: --list --retry" in said.err
    main(["sweep", str(plan), "--list", "--retry"])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_dry_run_of_trainings_counts_steps_and_promises_nothing(tmp_path, capsys):
    file = tmp_path / "plan.yaml"
    trained = {"protocol": "lca", "data": "watermarked-digits", "network": "mlp", "vary": {"steps": [2, 3]}}
    file.write_text(yaml.safe_dump({"out": "s", **trained}))
    main(["sweep", str(file), "--dry-run"])
    said = capsys.readouterr().out
    assert "Steps:   5 of training, 5 of them left" in said
    assert "Images:" not in said
    assert "Minutes: those of 5 steps are known when one run of them is finished" in said
    assert "Disk:    not known before one run is finished" in said
    main(["sweep", str(file), "--list"])
    main(capsys.readouterr().out.splitlines()[0].split()[1:])
    main(["sweep", str(file), "--dry-run"])
    said = capsys.readouterr().out
    assert "(as 1 finished runs took)" in said
    assert "not known" not in said


def test_a_dry_run_does_not_count_on_runs_that_failed(plan, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("closedloop.protocols.sweep_costs._SECONDS", 0.01)
    (run, *_) = read_plan(plan).runs
    (tmp_path / "s" / run.place).mkdir(parents=True)
    mark_failed(tmp_path / "s" / run.place, Outcome(run.id, FAILED, "the disk was full"))
    main(["sweep", str(plan), "--dry-run"])
    said = capsys.readouterr().out
    assert "Runs:    2 (0 done, 1 failed before)" in said
    assert "Minutes: at least 0.1 with" in said


def test_what_does_not_fit_is_said(plan, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", str(plan), "--dry-run", "--list"])
    plan.write_text(yaml.safe_dump({**PLAN, "optimizers": ["auto"]}))
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", str(plan)])
    assert "expected optimizers or optimizer, got both" in capsys.readouterr().err


def test_each_unit_by_one_command(capsys, tmp_path):
    subject = "{name: gabor, resolution: 16, count: 8, seed: 1}"
    main(
        ["evolve", "--subject", subject, "--each", "--generator", "{name: fourier, cutoff: 2}", "--optimizer",
         "{name: isotropic, population: 6}", "--images", "12", "--retest-repeats", "2", "--retest-candidates", "1",
         "--out", str(tmp_path / "run")]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "8 units" in said
    assert "8 threads by budget" in said
    assert (tmp_path / "run" / "summary.png").is_file()
    with pytest.raises(SystemExit, match="2"):
        main(["evolve", "--subject", subject, "--each", "--objective", "unit(0)", "--out", str(tmp_path / "other")])
    assert "each: expected one evolution" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
