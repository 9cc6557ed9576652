"""``closedloop search-natural``: a folder is searched, its run is shown, and its file repeats it."""

import pytest
import yaml

from closedloop import open_recording
from closedloop.cli import main
from tests.small_runs import POOL

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

WORDS = [
    *("search-natural", "--images", str(POOL), "--subject", "{name: gabor, count: 1, resolution: 16, seed: 1}"),
    *("--features", "{name: gabor, resolution: 16, count: 12, seed: 3}", "--budget", "16", "--start", "10"),
    *("--batch", "3", "--retest-candidates", "2", "--retest-repeats", "2"),
]


def test_it_is_shown_and_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([*WORDS, "--noise", "gain:0.2", "--out", "run"])
    said = capsys.readouterr().out
    assert "Of 24 images 16 were shown." in " ".join(said.split())
    main(["search-natural", "--config", "run/experiment.yaml", "--out", "again"])
    one, two = (yaml.safe_load((tmp_path / name / "experiment.yaml").read_text()) for name in ("run", "again"))
    assert one == two
    assert open_recording("run").load().equals(open_recording("again").load())
    main(["analyze", "run", "--what", "search"])
    assert "predicted" in capsys.readouterr().out


def test_without_a_folder_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["search-natural"])
    assert "images: expected a folder of images, got none; say which one with --images" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(SystemExit, match="2"):
        main(["search-natural", "--images", "nowhere"])
    assert not list(tmp_path.iterdir())
