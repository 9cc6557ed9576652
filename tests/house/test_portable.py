"""The computers of rigs often run Windows: what runs there calls nothing that POSIX alone has."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What a rig's computer runs: both sides of the protocol, the journal's state, and files under their final names.
RIG_SIDE = [
    *sorted((ROOT / "closedloop" / "rigs").glob("*.py")),
    ROOT / "closedloop" / "cli" / "rig_sim.py",
    ROOT / "closedloop" / "cli" / "serve.py",
    ROOT / "closedloop" / "files.py",
    ROOT / "closedloop" / "recording" / "states.py",
    ROOT / "examples" / "rigs" / "closedloop_client.py",
    ROOT / "examples" / "rigs" / "psychopy_rig.py",
]
#: Modules that Windows does not have, and one that there knows sockets alone.
MODULES = {
    "fcntl",
    "grp",
    "pwd",
    "pty",
    "resource",
    "termios",
    "tty",
    "posix",
    "syslog",
    "crypt",
    "select",
    "selectors",
}
#: Functions and constants that Windows does not have, or that mean something else there.
NAMES = {
    *("os.fork", "os.forkpty", "os.kill", "os.killpg", "os.setsid", "os.getuid", "os.geteuid", "os.chown", "os.mkfifo"),
    *("os.statvfs", "os.sync", "os.uname", "os.wait", "os.waitpid", "os.sched_getaffinity", "os.posix_fallocate"),
    *("signal.SIGKILL", "signal.SIGHUP", "signal.SIGUSR1", "signal.SIGALRM", "signal.alarm", "signal.pause"),
    *("socket.AF_UNIX", "socket.SO_REUSEPORT", "os.rename", "os.link", "os.symlink"),
}
#: Where one of them is called behind a question for the system.
ASKED = {("files.py", "os.kill")}


@pytest.mark.parametrize("path", RIG_SIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_side_of_the_rig_calls_nothing_that_posix_alone_has(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} & MODULES
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & NAMES
        elif isinstance(node, ast.Attribute):
            found |= {ast.unparse(node)} & NAMES
    assert not {name for name in found if (path.name, name) not in ASKED}


def test_a_file_takes_the_place_of_another_everywhere():
    """`Path.rename` refuses on Windows where something has the name; `Path.replace` does not."""
    for path in RIG_SIDE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "rename":
                # a folder of a block, which is new: where it is there already nothing is renamed
                assert path.name == "folder.py", f"{path}:{node.lineno}: expected replace()"


def test_files_are_opened_with_their_encoding():
    """Windows reads and writes texts in an encoding of its own unless one is named."""
    for path in RIG_SIDE:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            named = any(k.arg == "encoding" for k in node.keywords) or (name == "read_text" and bool(node.args))
            assert name not in ("read_text", "write_text") or named, f"{path}:{node.lineno}"
