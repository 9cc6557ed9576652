"""Commands from definitions: options, their help and their shown defaults come from classes of settings.

A `Command` names a function and the classes whose fields are its options. Only options that were given reach the
function, as a mapping; so a file's entries and the definitions' defaults stand where nothing was said.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.loop.settings import option_types

#: A class of settings, or the place of one that is imported when its command is asked for: ``"module:Class"``.
Definition = type[Any] | str
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        run: What it does. Its argument ``given`` takes the options that were given, by name; its other arguments are
            the command's own. Its docstring is the command's help.
        definitions: Where its options are defined.
        without: Fields of these that are no options here.
        defaults: What stands where nothing was said, and differs from the definitions.
        helps: Help of fields for which the command has better words.
        says: Likewise for what stands for a default, where that depends on other options.
    """

    run: Callable[..., None]
    definitions: Sequence[Definition] = ()
    without: Sequence[str] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    helps: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)

    @property
    def help(self) -> str:
        """What it does, in a sentence."""
        return inspect.getdoc(self.run) or ""

    def fields(self) -> dict[str, tuple[Field[Any], type[Any]]]:
        """Returns the definition and the type of each option, by name."""
        found = {}
        for made in map(_made, self.definitions):
            types = option_types(made)
            for name, entry in made.__dataclass_fields__.items():
                if not entry.metadata["hidden"] and name not in self.without:
                    found[name] = (entry, types[name][0])
        return found

    def shown(self, entry: Field[Any]) -> str:
        """Returns the default as the help says it."""
        if entry.name in self.says:
            return self.says[entry.name]
        if entry.name in self.defaults:
            return as_text(self.defaults[entry.name])
        return entry.metadata["shown"] or as_text(entry.default)

    def function(self) -> Callable[..., None]:
        """Returns a function with the options in its signature, for typer."""
        own = [p for p in inspect.signature(self.run, eval_str=True).parameters.values() if p.name != "given"]
        options = [self._parameter(entry, kind) for entry, kind in self.fields().values()]
        names = {p.name for p in options}

        def call(**values: Any) -> None:
            given = {name: v for name, v in values.items() if name in names and v is not None and v != []}
            rest = {name: v for name, v in values.items() if name not in names}
            self.run(**rest, **({"given": given} if names else {}))

        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *options)]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        call.__doc__ = self.help
        return call

    def _parameter(self, entry: Field[Any], kind: Any) -> inspect.Parameter:
        facts, flag = entry.metadata, f"--{entry.name.rstrip('_').replace('_', '-')}"
        flags = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag, *facts["names"])
        wanted: Any = list[str] if kind == tuple[str, ...] else kind
        made = typer.Option(
            *flags,
            help=self.helps.get(entry.name, facts["help"]) + _choices(facts["choices"]),
            metavar=facts["metavar"] or None,
            show_default="required" if entry.default is MISSING else self.shown(entry),
        )
        annotation = Annotated[wanted | None, made]
        return inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _made(definition: Definition) -> type[Any]:
    """Returns a class of settings, imported if its place is named."""
    if not isinstance(definition, str):
        return definition
    module, _, name = definition.partition(":")
    made: type[Any] = getattr(importlib.import_module(module), name)
    return made


def _choices(choices: Sequence[str]) -> str:
    """Returns the texts that an option may be, for its help."""
    return f" One of: {', '.join(choices)}." if choices else ""


def as_text(value: Any) -> str:
    """Returns a default as a person types it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
