"""``closedloop rig-sim`` and an evolution at it: the rehearsal from a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from closedloop import open_recording
from closedloop.cli import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


def begin(tmp_path, *words):
    arguments = ["rig-sim", "--subject", "gabor", "--listen", f"folder:{tmp_path / 'exchange'}", "--pace", "0", *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "closedloop", *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline()


def test_a_rehearsal(tmp_path, capsys):
    process, line = begin(tmp_path, "--faults", "lost:0.2,double", "--journal", "shown.sqlite")
    try:
        assert line.startswith("Rig: gabor, 1 unit, at folder:")
        words = ["--subject", f"rig:folder:{tmp_path / 'exchange'}", "--generator", "fourier", "--references", "none"]
        main(["evolve", *words, "--images", "40", "--out", str(tmp_path / "run"), "--optimizer", "cma-diagonal"])
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Stopped" in rest
    assert (tmp_path / "shown.sqlite").exists()
    ds = open_recording(tmp_path / "run")
    assert (ds.status == "not_shown").any()
    assert ds.sizes["spike"] > 0
    assert "lost trials" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--faults", "losst"], "no fault named 'losst'"),
        (["--listen", "tcp://x"], "expected zmq://HOST:PORT or folder:DIR"),
        (["--spikes", "-1"], "expected numbers from 0"),
        (["--token-file", "none"], "token_file: cannot read none"),
    ],
)
def test_what_does_not_fit(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["rig-sim", "--subject", "gabor", "--spikes", "0", *words])
    assert message in " ".join(capsys.readouterr().err.split())
