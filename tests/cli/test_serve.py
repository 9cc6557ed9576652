"""``closedloop serve``: from a bare folder to a finished run, and what does not fit leaves nothing."""

from __future__ import annotations

import threading

import pytest

from closedloop import open_recording
from closedloop.cli import main
from tests.rigs.test_serving import EXPERIMENT, client, free_port, play


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuesday.yaml").write_text(EXPERIMENT)
    return tmp_path


def test_a_session_in_a_bare_folder(work, capsys):
    port = free_port()

    def rig():
        play(client.Client(port=port))

    thread = threading.Thread(target=rig, daemon=True)
    thread.start()
    main(["serve", "tuesday.yaml", "--listen", f"127.0.0.1:{port}"])
    thread.join(10)
    assert sorted(path.name for path in (work / "runs").iterdir()) == [
        "served-tuesday",
        "served-tuesday.journal.sqlite",
    ]
    ds = open_recording(work / "runs" / "served-tuesday")
    assert ds.attrs["finished"]
    assert "At the rig" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("objective: unit(0)", "objective: unit(7)", "unit(7)"),
        ("images: 30", "images: 3", "images"),
        ("references: null", "references: nowhere", "nowhere"),
        ("units: [a, b]", "units: 0", "units: expected names of the units"),
        ("name: served", "name: gabor", "other subjects are asked by closedloop evolve"),
    ],
)
def test_what_does_not_fit(work, capsys, old, new, message):
    (work / "tuesday.yaml").write_text(EXPERIMENT.replace(old, new))
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "tuesday.yaml", "--listen", f"127.0.0.1:{free_port()}"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in work.iterdir()] == ["tuesday.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--listen", "x"], "listen: expected HOST:PORT"),
        (["--listen", "0.0.0.0:5581"], "other computers reach 0.0.0.0:5581"),
        (["--journal", "/proc/x"], "journal: cannot open /proc/x"),
        (["--exists", "go"], "exists: expected 'fail' or 'resume', got 'go'"),
        (["--out", "tuesday.yaml"], "tuesday.yaml"),
    ],
)
def test_options_that_do_not_fit(work, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "tuesday.yaml", "--listen", f"127.0.0.1:{free_port()}", *words])
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in work.iterdir()] == ["tuesday.yaml"]
