"""Measures the house: modules at the top, module constants, circles of imports, and imports that run back up.

    python scripts/house.py            # prints the counts and exits 1 if there is a circle or an upward import
    python scripts/house.py --rooms    # also which room imports which

All imports are read, also those inside functions and those for type checkers alone. The rooms stand in the order of
`FLOORS`: a file may import what lies in its own room or on a floor below, and nothing beside or above it.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: Folders at the top of the repository that are installed below `closedloop`.
OUTER = ("subjects", "generators", "protocols")
#: The rooms from the ground up. Those on one floor never import each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "workers"),
    ("capability", "blame"),
    ("files", "arrays", "yaml_text", "readable", "presentations"),
    ("interfaces",),
    ("checks",),
    ("signatures",),
    ("recipes", "references", "seeds"),
    ("images", "networks"),
    ("objectives", "recording"),
    ("optimizers",),
    ("gradients",),
    ("loop",),
    ("formats", "rigs"),
    ("analysis",),
    ("twins",),
    ("figures",),
    ("report", "notebooks"),
    ("",),
    ("testing",),
    OUTER,
    ("viewer",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


class Arrow(NamedTuple):
    """One import: from a module, to a module of the project, at a line."""

    source: str
    target: str
    line: int


def modules(root: Path) -> dict[str, Path]:
    """The modules of a checkout by their installed names."""
    found = {}
    for folder in ("closedloop", *OUTER):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts if folder == "closedloop" else ("closedloop", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(known: Mapping[str, Path]) -> Iterator[Arrow]:
    """All imports between the project's modules."""
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = _base(name, path, node)
                wanted = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
            else:
                continue
            for target in dict.fromkeys(wanted):
                if target in known and target != name:
                    yield Arrow(name, target, node.lineno)


def _base(name: str, path: Path, node: ast.ImportFrom) -> str:
    """The absolute name of the module that an import statement names."""
    if node.level == 0:
        return node.module or ""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def room(name: str) -> str:
    """The room of a module: the part behind ``closedloop``; empty for the package's own ``__init__``."""
    return name.split(".")[1] if "." in name else ""


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def upward(found: list[Arrow]) -> list[Arrow]:
    """The imports of what lies beside or above the importing module's own room."""
    return [
        a
        for a in found
        if room(a.source) != room(a.target)
        and {room(a.source), room(a.target)} <= HEIGHT.keys()
        and HEIGHT[room(a.target)] >= HEIGHT[room(a.source)]
    ]


def constants(known: Mapping[str, Path]) -> tuple[int, float]:
    """How many statements at the top of modules name constants in capitals, and for each 1,000 lines."""
    count = lines = 0
    for path in known.values():
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        for node in ast.parse(text).body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                count += bool(re.fullmatch(r"_?[A-Z][A-Z0-9_]*(, _?[A-Z][A-Z0-9_]*)*", ast.unparse(target).strip("()")))
    return count, 1000 * count / lines


def main() -> int:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description="Circles of imports, and imports that run back up.")
    parser.add_argument("--rooms", action="store_true", help="also print which room imports which")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    options = parser.parse_args()
    known = modules(options.root)
    unknown = sorted({room(name) for name in known} - HEIGHT.keys())
    if unknown:
        print(f"rooms without a floor: {len(unknown)} ({', '.join(unknown)}); add them to FLOORS.")
    found = list(arrows(known))
    graph: dict[str, set[str]] = {name: set() for name in known}
    rooms: dict[str, set[str]] = {}
    for arrow in found:
        graph[arrow.source].add(arrow.target)
        if room(arrow.source) != room(arrow.target):
            rooms.setdefault(room(arrow.source), set()).add(room(arrow.target))
    if options.rooms:
        for name in sorted(rooms, key=lambda r: -HEIGHT.get(r, 0)):
            print(f"{name or 'closedloop'} -> {', '.join(sorted(rooms[name]))}")
    top = [n for n, path in known.items() if path.parent == options.root / "closedloop"]
    rounds, back = circles(graph) + circles(rooms), upward(found)
    print(f"modules at the top of closedloop/: {len(top)}")
    count, share = constants(known)
    print(f"module constants: {count} ({share:.1f} in 1,000 lines)")
    print(f"circles: {len(rounds)}")
    for group in rounds:
        print("  " + " <-> ".join(group))
    print(f"upward imports: {len(back)}")
    for arrow in back:
        print(f"  {arrow.source}:{arrow.line} -> {arrow.target}")
    return 1 if rounds or back or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
