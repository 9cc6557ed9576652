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


def heeds_interrupts():
    """Tests that a shell runs in the background ignore Ctrl-C, and so would what they begin."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin(tmp_path, *words):
    arguments = ["rig-sim", "--subject", "gabor", "--listen", f"folder:{tmp_path / 'exchange'}", "--pace", "0", *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "closedloop", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_interrupts,
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
        (["--faults", "lost:0.1,lost:0.2"], "lost is named twice"),
        (["--faults", "lost:nan"], "'lost:nan': expected a number from 0 to 1 as rate, got 'nan'"),
        (["--faults", "drift:-2"], "'drift:-2': expected a number from -0.999 to 10 as change"),
        (["--faults", "drift:-0.3:0"], "expected a number from 1 as over, got '0'"),
        (["--faults", "silent:0.5:-1"], "expected a number from 0 to 86400 as seconds"),
        (["--faults", "dead:0.5"], "expected a whole number from 0 as unit"),
        (["--faults", "swap:1:1"], "expected two different units"),
        (["--faults", "dead:1"], "dead: expected a unit from 0 to 0, got 1"),
        (["--listen", "folder:/proc/x"], "listen: cannot make the folder /proc/x"),
        (["--journal", "."], "journal: cannot open ."),
        (["--subject", "rig:folder:x"], "subject: expected who looks, such as lite0 or gabor, got a rig"),
        (["--listen", "tcp://x", "--subject", "timm:none"], "listen: expected zmq://HOST:PORT or folder:DIR"),
        (["--spikes", "-1"], "expected numbers from 0"),
        (["--token-file", "none"], "token_file: cannot read none"),
    ],
)
def test_what_does_not_fit(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["rig-sim", "--subject", "gabor", "--spikes", "0", "--listen", "folder:rig", *words])
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_units_of_a_rig_are_chosen_by_the_objective(tmp_path, capsys):
    """What an error advises is what works."""
    process, _ = begin(tmp_path, "--subject", "{name: gabor, count: 3, resolution: 16}")
    words = ["evolve", "--subject", f"rig:folder:{tmp_path / 'exchange'}", "--generator", "fourier", "--references",
             "none", "--images", "20"]  # fmt: skip
    try:
        for more in ([], ["--unit", "1"]):
            with pytest.raises(SystemExit, match="2"):
                main([*words, *more])
            assert "'unit(0)'" in capsys.readouterr().err
        main([*words, "--objective", "unit(1)", "--out", str(tmp_path / "run")])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert open_recording(tmp_path / "run").sizes["neuroid"] == 3
