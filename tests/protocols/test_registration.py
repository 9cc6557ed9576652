"""A protocol of somebody else, in one file: it runs, is killed, goes on, is shown, reported and exported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError
from closedloop.protocols import RunProtocol, register, resume
from closedloop.recording.reader import open_recording
from closedloop.report import write_report

TOY = Path(__file__).with_name("toy_protocol.py")


def test_experiments_load_no_figures():
    code = "import sys, closedloop.protocols; print([name for name in sys.modules if name.startswith('matplotlib')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture
def package(tmp_path) -> dict[str, str]:
    """An environment in which a package with the protocol is installed, known by its entry point."""
    site = tmp_path / "site"
    facts = site / "toy-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "toy_protocol.py").write_text(TOY.read_text())
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[closedloop.protocols]\ntoy = toy_protocol:PROTOCOL\n")
    return {**os.environ, "PYTHONPATH": str(site)}


def python(code: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def closedloop(words: list[str], environment: dict[str, str], folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "closedloop", *words], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.long
def test_a_protocol_in_one_file(tmp_path, package):
    begun = python("from toy_protocol import grey_levels; grey_levels(10, 'run', die_at=4)", package, tmp_path)
    assert begun.returncode == -signal.SIGKILL, begun.stderr
    assert open_recording(tmp_path / "run").sizes["presentation"] == 4
    assert "Responses to grey levels" in closedloop(["show", "run"], package, tmp_path)
    assert "A toy was here." in closedloop(["resume", "run"], package, tmp_path)
    found = open_recording(tmp_path / "run")
    assert found.attrs["reason"] == "all levels were shown"
    np.testing.assert_array_equal(found["level"].values, np.arange(10) / 10)
    closedloop(["report", "run", "--out", "run.html"], package, tmp_path)
    assert "Responses to grey levels" in (tmp_path / "run.html").read_text()
    closedloop(["export", "run", "--to", "csv", "--out", "run.csv"], package, tmp_path)
    assert "level" in (tmp_path / "run.csv").read_text().splitlines()[0]
    again = python("from toy_protocol import grey_levels; grey_levels(10, 'run', 'resume')", package, tmp_path)
    assert again.returncode == 0, again.stderr
    other = python("from toy_protocol import grey_levels; grey_levels(11, 'run', 'resume')", package, tmp_path)
    assert "levels is 10 there, and 11 here" in other.stderr


def test_a_run_whose_protocol_is_not_installed(tmp_path, package):
    python("from toy_protocol import grey_levels; grey_levels(3, 'run')", package, tmp_path)
    with pytest.raises(UnknownNameError, match="not known here, 'toy'; install the package"):
        resume(tmp_path / "run")
    assert write_report([tmp_path / "run"], tmp_path / "run.html").exists()


def test_registration_in_a_process(tmp_path):
    mine = RunProtocol("mine-only", lambda run, content, handed: open_recording(run))
    assert register(mine) is mine
    assert register(mine) is mine
    with pytest.raises(InvalidArgumentError, match="'mine-only' is taken"):
        register(RunProtocol("mine-only", lambda run, content, handed: None))
    with pytest.raises(InvalidArgumentError, match="'evolve' is taken"):
        register(RunProtocol("evolve", lambda run, content, handed: None))
    with pytest.raises(InvalidArgumentError, match="expected a RunProtocol"):
        register("toy")


@pytest.mark.long
def test_what_exists_may_be(tmp_path, package):
    toy = "from toy_protocol import grey_levels; "
    assert "exists: expected 'fail' or 'resume'" in python(toy + "grey_levels(3, 'x', 'go')", package, tmp_path).stderr
    assert "save: expected the folder" in python(toy + "grey_levels(3, None, 'resume')", package, tmp_path).stderr
    assert not (tmp_path / "x").exists()
    python(toy + "grey_levels(3, 'x')", package, tmp_path)
    twice = python(toy + "grey_levels(3, 'x')", package, tmp_path)
    assert "expected a new or empty folder" in twice.stderr
    assert RecordingError.__name__ in twice.stderr
