"""Pages from templates: the one place that turns values into HTML, in which all of them are escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from closedloop.recipes import version
from closedloop.report.wording import true_minus

#: Where the templates of pages lie.
TEMPLATES = Path(__file__).parent / "templates"
#: Where the files lie that pages load.
STATIC = Path(__file__).parent / "static"


@cache
def environment() -> Environment:
    """Returns the environment of all templates; what stands in them is escaped, and a misspelt name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["minus"] = true_minus
    return made


def static_address(path: str) -> str:
    """Returns the address of a file of the package; it names the version, so that browsers may keep the file."""
    return f"/static/{path}?v={version()}"


def render_text(
    name: str,
    parts: Sequence[str] = (),
    static: Callable[[str], str] = static_address,
    root: str = "/",
    **context: Any,
) -> str:
    """Renders a template as text, for the server or for a folder of files.

    Args:
        name: Its file in `TEMPLATES`.
        parts: What the viewer shows, for the navigation: of "look", "units", "runs" and "errors".
        static: Turns the name of a file of the package, such as "css/base.css", into its address.
        root: What addresses of pages begin with; it ends in a slash.
        **context: Its values.
    """
    known = {"parts": list(parts), "static": static, "root": root, "version": version()}
    return environment().get_template(name).render(**known, **context)


def render(request: Request, name: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Renders a template as an answer; it knows the viewer's parts, its subject, and the path that was asked for.

    Args:
        request: What was asked.
        name: The template's file in `TEMPLATES`.
        status: Of the answer.
        **context: Its values.
    """
    state = request.app.state if "app" in request.scope else None
    shared = {} if state is None else {"parts": state.parts, "subject": state.subject}
    page = render_text(name, **shared | {"path": request.url.path, "status": status} | context)
    return HTMLResponse(page, status)
