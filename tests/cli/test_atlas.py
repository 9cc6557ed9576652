"""``closedloop atlas``."""

import pytest

from closedloop.cli import main
from closedloop.recording.reader import read_experiment
from tests import small_atlas

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")


def said(capsys):
    found = capsys.readouterr()
    return " ".join((found.out + found.err).split())


def test_fills_goes_on_and_exports(tmp_path, capsys) -> None:
    """A model neuron, evolved; the table, the pages; called again it fills nothing twice; its file repeats it."""
    pytest.importorskip("jinja2")
    run, naturals = tmp_path / "run", small_atlas.photographs(tmp_path / "naturals")
    words = [
        "atlas", "--subject", "{name: gabor, resolution: 16, count: 2}", "--methods", "evolved", "--budget", "60",
        "--top", "2", "--naturals", str(naturals), "--out", str(run),
    ]  # fmt: skip
    main(words)
    assert "30 natural images" in said(capsys)
    main([*words, "--exists", "resume", "--export", str(tmp_path / "site")])
    assert "open" in said(capsys)
    assert (tmp_path / "site" / "index.html").is_file()
    main(["atlas", "--out", str(run), "--export", str(tmp_path / "site")])
    assert "Pages: 4 in" in said(capsys)
    main(["atlas", "--config", str(run / "experiment.yaml"), "--out", str(tmp_path / "again")])
    first, again = (read_experiment(place) for place in (run, tmp_path / "again"))
    assert first == again


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "layers: expected one or more layers of lite0, got none; closedloop units --subject lite0 lists them"),
        (["--export", "site"], "out: there is no atlas in"),
        (["--subject", "gabor", "--layers", "0"], "layer: subject 'gabor' takes no --layer"),
        (["--subject", "gabor", "--methods", "lucyd"], "no method 'lucyd'"),
        (["--subject", "gabor", "--methods", "evolved", "--budget", "3"], "budget: expected 0, or at least 50"),
        (["--subject", "gabor", "--methods", "evolved", "--naturals", "nowhere"], "naturals: expected a folder"),
    ],
)
def test_says_what_does_not_fit(words, text, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["atlas", *words, "--out", str(tmp_path / "new")])
    assert text in said(capsys)
    assert not (tmp_path / "new").exists()
