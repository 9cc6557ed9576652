"""Examples and benchmarks start; their long runs are not for the test suite."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_take_quick(path):
    result = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, check=True)
    assert "--quick" in result.stdout


def test_the_rehearsal_runs(tmp_path):
    example = ROOT / "examples" / "rehearsal.py"
    result = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "winner's curse" in result.stdout
    assert result.stdout.count("re-tested") == 2


def test_readme_says_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "pip install -e '.[networks]' && closedloop evolve\n" in readme
    assert "pip install -e '.[test]' && pytest\n" in readme
    assert "pip install -e '.[test]' && pytest\n" in (ROOT / ".ci" / "run").read_text()


def test_code_in_the_readme_is_python():
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
    assert len(blocks) >= 2
    for block in blocks:
        ast.parse(block.split("```")[0])
