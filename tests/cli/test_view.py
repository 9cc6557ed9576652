"""``closedloop view``: what it is given, what it says, and that it ends."""

import re

import numpy as np
import pytest
from starlette.testclient import TestClient

from closedloop.cli import main
from closedloop.images import encode_png
from closedloop.viewer import serving


@pytest.fixture
def served(monkeypatch):
    """Keeps what would be served."""
    seen = []
    monkeypatch.setattr(serving, "serve", lambda app, listening, opened: seen.append((app, opened)))
    return seen


def test_it_says_what_it_shows_and_where(served, capsys, tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((3, 8, 8), np.float32)))
    main(["view", "--subject", "gabor", "--images", str(tmp_path), "--no-browser"])
    printed = capsys.readouterr().out
    assert "gabor, images in" in printed
    assert "http://127.0.0.1:" in printed
    assert "Ctrl-C" in printed
    ((app, opened),) = served
    assert (app.state.parts[0], opened) == ("look", None)


def test_runs_alone_load_no_subject(served, tmp_path):
    main(["view", str(tmp_path)])
    ((app, opened),) = served
    assert app.state.subject is None
    assert opened.startswith("http://127.0.0.1:")


def test_other_computers_need_a_token(served, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["view", "--subject", "gabor", "--host", "0.0.0.0"])
    assert "token" in capsys.readouterr().err
    main(["view", "--subject", "gabor", "--host", "0.0.0.0", "--token", "secret1234", "--no-browser"])
    said = capsys.readouterr().out
    assert "not encrypted" in said
    (elsewhere,) = re.findall(r"From another computer: http://([\w.-]+):\d+/\?token=secret1234", said)
    assert elsewhere != "0.0.0.0"


def test_the_name_that_is_told_is_answered(served, capsys, monkeypatch, tmp_path):
    """In no network the computer's name stands for its address."""
    monkeypatch.setattr(serving, "_outward", lambda family: "Rig-Room")
    main(["view", str(tmp_path), "--host", "0.0.0.0", "--token", "secret1234", "--no-browser"])
    ((app, _),) = served
    assert "http://Rig-Room:" in capsys.readouterr().out
    asking = TestClient(app, base_url="http://10.0.0.7:8765", follow_redirects=False)
    for name, status in (("rig-room:8765", 303), ("elsewhere:8765", 403)):
        assert asking.get("/api/health?token=secret1234", headers={"host": name}).status_code == status


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labelled", "nowhere"], "labelled: expected a folder"),
        (["nowhere"], "run: expected a folder"),
        (["--token", "short"], "token: expected at least 8"),
        (["--port", "99999999"], "port: expected 0 to 65535"),
        (["--host", "", "--token", "secret1234"], "expected an IP address"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(served, capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        main(["view", *words])
    assert said in capsys.readouterr().err
    assert served == []
