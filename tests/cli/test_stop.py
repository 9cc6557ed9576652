"""``closedloop stop``: what cannot be ended says why; the rest is `request_end`'s."""

from __future__ import annotations

import pytest

from closedloop.cli import main
from closedloop.recording.ownership import OwnFolder
from tests import small_runs


def test_a_run_is_asked_to_end(tmp_path, capsys):
    folder = small_runs.cut_off("evolve", tmp_path / "run")
    with pytest.raises(SystemExit, match="2"):
        main(["stop", str(folder)])
    assert "no process is writing it now" in capsys.readouterr().err
    own = OwnFolder(folder)
    main(["stop", str(folder)])
    own.release()
    assert (folder / "END").exists()
    assert "to end after the generation under way" in capsys.readouterr().out
