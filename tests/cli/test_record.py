"""``closedloop record`` for subjects of every size."""

import pytest

import closedloop
from closedloop.cli import main

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")


@pytest.mark.parametrize("images", [[], ["--images", "bundled"]])
def test_a_model_neuron_is_shown_photographs_at_its_own_size(tmp_path, monkeypatch, images):
    monkeypatch.chdir(tmp_path)
    main(["record", "--subject", "gabor", *images, "--out", "run"])
    recording = closedloop.open_recording("run")
    assert recording.sizes["presentation"] == 160
    assert recording["responses"].max() > 0.3


def test_a_folder_named_bundled_is_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundled").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["record", "--subject", "gabor", "--images", "bundled", "--out", "run"])
    assert "bundled" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
