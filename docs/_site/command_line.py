"""A directive, ``command-line``: every command with its options, as the program itself says them."""

from __future__ import annotations

from typing import Any

from commands import page_of
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx


class CommandLine(Directive):
    """All commands of the program."""

    def run(self) -> list[nodes.Node]:
        """Returns the nodes of the page."""
        from closedloop.cli.app import app

        whole = nodes.section()
        lines = StringList(page_of(app), "closedloop --help")
        self.state.nested_parse(lines, self.content_offset, whole, match_titles=True)
        return list(whole.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Makes it known to Sphinx."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
