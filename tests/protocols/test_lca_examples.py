"""The examples of loss change allocation in other people's training loops, where their packages are installed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Runs an example; torchvision, which these packages import where it is there, may lack its compiled operators.
CODE = """
import runpy, sys
from closedloop.networks.torchvision import import_torchvision
import_torchvision()
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "needs"),
    [("lca_loop", "torch"), ("lca_lightning", "pytorch_lightning"), ("lca_trainer", "accelerate")],
)
def test_the_shares_add_up(name, needs, tmp_path):
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    command = [sys.executable, "-c", CODE, str(EXAMPLES / f"{name}.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = re.search(r"the loss changed by (-?[\d.]+), the shares add up to (-?[\d.]+)", result.stdout)
    assert float(found[1]) < -0.05
    assert float(found[2]) == pytest.approx(float(found[1]), rel=1e-3)


@pytest.mark.long
def test_development_is_followed(tmp_path):
    pytest.importorskip("sklearn")
    command = [sys.executable, str(EXAMPLES / "development.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "layer output, medians over its units" in result.stdout
    assert (tmp_path / "development.png").exists()
