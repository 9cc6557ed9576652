"""The direction of imports: rooms import the core and never each other; the core imports no room and no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("subjects", "generators", "protocols")
#: Where concrete things meet: these may import everything.
EDGE = ("closedloop/cli/", "closedloop/__main__.py")


def room_of(path: Path) -> str:
    """The room of a source file: a room's name, "edge" or "core"."""
    relative = path.relative_to(ROOT).as_posix()
    if relative.startswith(EDGE):
        return "edge"
    head = relative.split("/")[0]
    return head if head in ROOMS else "core"


def imported(path: Path) -> set[str]:
    """Absolute names of what a file imports, also inside functions; not what only a type checker sees."""
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    unseen = {id(n) for i in ast.walk(tree) if _for_types(i) for n in ast.walk(i)}
    for node in (n for n in ast.walk(tree) if id(n) not in unseen):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def forbidden(room: str, name: str) -> bool:
    """Whether a file of this room may not import this name."""
    if name.split(".")[0] in ROOMS:
        return True  # the bare name of a room
    parts = name.split(".")
    target = parts[1] if parts[0] == "closedloop" and len(parts) > 1 else ""
    if room == "edge":
        return False
    return target in (*ROOMS, "cli") or (room == "core" and parts[0] in ("torch", "torchvision", "timm"))


def sources() -> list[Path]:
    return [p for folder in ("closedloop", *ROOMS) for p in sorted((ROOT / folder).rglob("*.py"))]


#: Torch here serves what only torch users ask for: no other file of the core imports these, and the rooms share them.
TORCH_INSIDE = (
    "closedloop/gradients/",
    "closedloop/networks/",
    "closedloop/objectives/captions/clip.py",
    "closedloop/objectives/captions/sentence_encoder.py",
    "closedloop/testing/",
)


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_arrows(path):
    wrong = {name for name in imported(path) if forbidden(room_of(path), name)}
    if path.relative_to(ROOT).as_posix().startswith(TORCH_INSIDE):
        wrong -= {name for name in wrong if name.split(".")[0] == "torch"}
    assert not wrong


def test_the_rule_can_fail():
    assert forbidden("subjects", "closedloop.generators")
    assert forbidden("core", "closedloop.cli")
    assert forbidden("core", "torch.nn")
    assert forbidden("edge", "subjects")
    assert not forbidden("subjects", "closedloop.interfaces")


def house(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "house.py"), *words], capture_output=True, text=True, check=False
    )


def test_no_circle_and_no_import_that_runs_back_up():
    result = house()
    assert result.returncode == 0, result.stdout
    assert "circles: 0" in result.stdout


def test_the_script_finds_a_circle_and_an_upward_import(tmp_path):
    for name, text in {
        "closedloop/__init__.py": "",
        "closedloop/errors.py": "def late():\n    from closedloop.loop import session\n",
        "closedloop/loop/__init__.py": "",
        "closedloop/loop/session.py": "from closedloop import errors\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    result = house("--root", str(tmp_path))
    assert result.returncode == 1
    assert "closedloop.errors <-> closedloop.loop.session" in result.stdout
    assert "closedloop.errors:2 -> closedloop.loop.session" in result.stdout


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_core_runs_without_torch(tmp_path):
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "onnxruntime", "onnx"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import closedloop, closedloop.testing, closedloop.figures, closedloop.generators, closedloop.protocols
import numpy as np
from closedloop.generators import Fourier
from closedloop.protocols import evolve
class Rig:
    name, units = "rig", closedloop.Units.numbered("rig", 1)
    def record(self, images): return images.mean((1, 2, 3))[:, None]
space = Fourier(16, 3).space
ds = evolve(Rig(), Fourier(16, 3), closedloop.IsotropicES(space, 0), images=60, references=None)
assert ds.sizes["presentation"] >= 60
"""
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_bare_room_is_refused(room):
    result = run_python(f"import {room}", ROOT)
    assert f"import closedloop.{room}" in result.stderr


def test_a_users_own_module_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "subjects.py").write_text("mine = 1\n")
    result = run_python("import subjects, closedloop.subjects; assert subjects.mine == 1", tmp_path)
    assert result.returncode == 0, result.stderr
