"""Examples and benchmarks start; their long runs are not for the test suite."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_take_quick(path):
    result = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, check=True)
    assert "--quick" in result.stdout


def test_the_rehearsal_runs(tmp_path):
    example = ROOT / "examples" / "rehearsal.py"
    result = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "winner's curse" in result.stdout
    assert result.stdout.count("re-tested") == 2


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="time zones and signals")
def test_an_evening_runs_from_the_mapping_of_fields_to_the_report(tmp_path):
    places = "y: [16, 20, 24, 28], x: [30, 26, 22, 24], orientation_deg: [0, 45, 90, 135]"
    cells = f"{{name: energy, resolution: 48, cycles_per_image: 5, {places}}}"
    script = f"""
from pathlib import Path
from evening import evening
fourier = {{"name": "fourier", "resolution": 16, "cutoff": 3}}
optimizer = {{"name": "isotropic", "population": 6}}
shared = {{"generator": fourier, "optimizer": optimizer}}
threads = [{{"name": f"t{{i}}", "objective": f"unit({{i}})", **shared}} for i in range(4)]
evening(Path("made"), ("--subject", {cells!r}, "--spikes", "300"), naturals=6, looks=2, images=24, interleave=2,
        subject={{"resolution": 48, "size_deg": 4}}, threads=threads, retest_repeats=2,
        mapping={{"steps": 7, "sizes": 2, "pictures": 3}})
"""
    env = os.environ | {"PYTHONPATH": str(ROOT / "examples")}
    words = [sys.executable, "-c", script]
    result = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path, env=env)
    assert "The animal has had enough for today." in result.stdout
    assert "References on the second day: [" in result.stdout
    assert (tmp_path / "made" / "report.html").exists()
    assert (tmp_path / "made" / "evening.nwb").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    ["xdream_figure2.py 2 40", "yosinski_figure4.py 3", "mei_against_evolved.py 60"],
    ids=lambda w: w.split()[0],
)
def test_figures_of_the_field_are_drawn(words, tmp_path):
    name, *counts = words.split()
    subprocess.run([sys.executable, str(ROOT / "examples" / name), *counts], check=True, cwd=tmp_path)
    assert (tmp_path / name.replace(".py", ".png")).read_bytes().startswith(b"\x89PNG")


def test_readme_says_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "pip install -e '.[networks]' && closedloop evolve\n" in readme
    assert "pip install -e '.[test]' && pytest\n" in readme
    assert "pip install -e '.[test]' && pytest\n" in (ROOT / ".ci" / "run").read_text()


def chores():
    """The scripts that are called by their bare names."""
    return sorted(p for p in (ROOT / "scripts").iterdir() if p.is_file() and not p.suffix)


@pytest.mark.parametrize("path", chores(), ids=lambda p: p.name)
def test_a_chore_can_be_run_says_what_it_does_and_is_done_in_ci(path):
    assert os.access(path, os.X_OK)
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("#!")
    assert second.startswith("# ")
    if path.name != "fuzz":  # a part of scripts/long
        assert f" scripts/{path.name}" in (ROOT / ".ci" / "run").read_text()
    assert f"`scripts/{path.name}`" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_citation_names_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert [str(r["year"]) for r in citation["references"]] == ["2019", "2020", "2017"]
