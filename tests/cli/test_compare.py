"""``closedloop compare``."""

import pytest
from PIL import Image

from closedloop.cli import main
from closedloop.cli.compare_options import parse_budgets
from closedloop.errors import InvalidArgumentError


@pytest.mark.long
def test_compares_and_goes_on(tmp_path, capsys) -> None:
    """A table, figures and numbers; called again it runs nothing twice."""
    out = tmp_path / "compared"
    words = ["compare", "--unit", "292,7", "--methods", "raw,dgn-am", "--budgets", "50", "--out", str(out)]
    main(words)
    said = capsys.readouterr().out
    assert "dgn-am" in said
    assert "50 forward-equivalents" in said
    with Image.open(out / "contenders.png") as picture:
        assert picture.width > picture.height / 2
    lines = (out / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2
    assert {"response", "confidence", "percentile", "tv", "feature_distance", "failure"} <= set(lines[0].split(","))
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if "zarr" in file.name}
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "expected a new or empty folder" in " ".join(capsys.readouterr().err.split())
    main([*words, "--exists", "resume"])
    assert before
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.usefixtures("warm_parts")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--methods", "raw,lucyd"], "no method 'lucyd'"),
        (["--budgets", "many"], "budgets: expected numbers or 'published'"),
        (["--unit", "4000"], "units: 4000 is out of range"),
    ],
)
def test_says_what_does_not_fit(words, text, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["compare", *words, "--out", str(tmp_path / "new")])
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_reads_budgets() -> None:
    assert parse_budgets("1000, 3000,published") == [1000, 3000, "published"]
    with pytest.raises(InvalidArgumentError, match="budgets: expected numbers"):
        parse_budgets("-3")
