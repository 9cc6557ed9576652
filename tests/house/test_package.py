"""The package as it is built: one import root, every folder listed, nothing missing, nothing foreign."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def folders() -> set[str]:
    """The packages that the folders hold, by their installed names."""
    found = set()
    for top in ("closedloop", "subjects", "generators", "protocols"):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if top == "closedloop" else ("closedloop", *parts)))
    return found


def test_packages_are_listed():
    assert folders() == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_wheel_contents(wheel):
    result = subprocess.run(
        [sys.executable, "-m", "check_wheel_contents", str(wheel)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_wheel_has_one_root_types_and_photographs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"closedloop"}
    assert "closedloop/py.typed" in names
    assert "closedloop/references/CREDITS.md" in names
    assert sum(n.startswith("closedloop/references/") and n.endswith(".jpg") for n in names) >= 100
    assert not [n for n in names if n.endswith(".pyi")]


def test_entry_points_load():
    from importlib import metadata

    for kind in ("subjects", "generators", "optimizers"):
        entries = metadata.entry_points(group=f"closedloop.{kind}")
        declared = PROJECT["project"]["entry-points"][f"closedloop.{kind}"]
        assert {e.name for e in entries} >= set(declared)
        for entry in entries:
            assert callable(entry.load())


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    project, recipe = PROJECT["project"], (ROOT / "conda" / "meta.yaml").read_text()
    assert f'version = "{project["version"]}"' in recipe
    content = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", re.sub(r"\{%.*?%\}", "", recipe)))
    asked = {line.replace(" ", "").replace("matplotlib-base", "matplotlib") for line in content["requirements"]["run"]}
    assert asked == {*project["dependencies"], "python" + project["requires-python"]}


@pytest.mark.long
def test_wheel_and_sdist_run_away_from_the_repository(wheel, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)], check=True
    )
    (sdist,) = tmp_path.glob("*.tar.gz")
    for i, made in enumerate((wheel, sdist)):
        packages, run = tmp_path / f"packages{i}", tmp_path / f"run{i}"
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            str(packages),
            str(made),
        ]
        subprocess.run(install, check=True, cwd=tmp_path)
        small = ["--subject", "gabor", "--generator", "fourier", "--images", "40", "--out", str(run)]
        command = [sys.executable, "-m", "closedloop", "evolve", *small]
        subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(packages)})
        where = [sys.executable, "-c", "import closedloop; print(closedloop.__file__)"]
        found = subprocess.run(
            where,
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(packages)},
        )
        assert found.stdout.startswith(str(packages))
        assert (run / "SUMMARY.json").exists()
