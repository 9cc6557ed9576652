"""Every command of the program with its options, as Markdown; it needs nothing but the program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer


def _plain(text: str | None) -> str:
    """One paragraph of the help, with what Markdown would take for its own escaped."""
    found = " ".join(re.sub(r"\[/?(bold|dim|cyan|green|red|yellow|italic)\]", "", text or "").split())
    return re.sub(r"([\\*_<>\[\]|`{}$])", r"\\\1", found)


def _option(option: Any, context: Any) -> str | None:
    record = option.get_help_record(context)
    if record is None or "--help" in option.opts:
        return None
    said = record[1].replace("[default: (none)]", "").replace("[default: (", "[default: ").replace(")]", "]")
    return f"| `{record[0]}` | {_plain(said)} |"


def commands_of(app: typer.Typer) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yields name, context and parameters of each command of a program."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("closedloop", [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        yield name, inner, command.get_params(inner)


def page_of(app: typer.Typer) -> list[str]:
    """Returns the lines of Markdown of all commands of a program."""
    lines: list[str] = []
    for name, context, parameters in commands_of(app):
        given = [p.metavar or p.name.upper() for p in parameters if p.param_type_name == "argument"]
        rows = [row for option in parameters if (row := _option(option, context))]
        lines += [f"## {name}", "", _plain(context.command.help), ""]
        lines += ["```text", " ".join(["closedloop", name, *given, "[OPTIONS]"]), "```", ""]
        lines += ["| option | meaning |", "|---|---|", *rows, ""] if rows else []
    return lines
