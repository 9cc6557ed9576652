"""The frame that all pages of reports share: head, style, heading and the command at the end."""

from __future__ import annotations

import datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from closedloop.recipes import version


def _text(name: str) -> str:
    return (resources.files("closedloop.report") / name).read_text(encoding="utf-8")


def page_of(template: str, **shown: Any) -> str:
    """Returns a page: a template that fills the blocks of ``frame.html``, with what it shows; texts are escaped."""
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        version=version(),
        style=Markup(_text("style.css")),  # ours, and no place for markup
        **shown,
    )
