"""The program: it assembles the commands. Each is imported when it is asked for, so that ``--help`` answers at once."""

from __future__ import annotations

import importlib
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from closedloop.cli.options import Command
from closedloop.errors import ClosedLoopError, reason

#: Each command, and the module that holds it.
COMMANDS = {
    "evolve": "evolve",
    "ascend": "ascend",
    "compare": "compare",
    "atlas": "atlas",
    "landscape": "landscape",
    "map-field": "map_field",
    "gratings": "gratings",
    "selectivity": "selectivity",
    "invariance": "invariance",
    "cross-units": "cross_units",
    "elites": "elites",
    "lca": "lca",
    "develop": "develop",
    "treat": "treat",
    "judge": "judge",
    "record": "record",
    "search-natural": "search_natural",
    "fit-twin": "fit_twin",
    "verify": "verify",
    "controversial": "controversial",
    "stretch-and-squeeze": "stretch_and_squeeze",
    "pareto": "pareto",
    "resume": "resume",
    "units": "units",
    "show": "show",
    "report": "report",
    "rig-sim": "rig_sim",
    "serve": "serve",
    "plan": "plan",
    "analyze": "analyze",
    "attribute": "attribute",
    "diagnose": "diagnose",
    "export": "export",
    "import": "import_",
    "pack": "pack",
    "sweep": "sweep",
    "runs": "runs",
    "stop": "stop",
    "view": "view",
    "train-generator": "train_generator",
}
#: How help is asked for, for click.
_HELP = {"help_option_names": ["-h", "--help"]}


def find_command(name: str) -> Command:
    """Returns a command by its name."""
    module = importlib.import_module(f"closedloop.cli.{COMMANDS[name]}")
    command: Command = module.COMMAND
    return command


class Late(TyperCommand):
    """A command whose options are made when they are asked for: their definitions may import much."""

    def __init__(self, name: str) -> None:
        self._own = find_command(name)
        super().__init__(name, help=self._own.help, rich_markup_mode="rich", context_settings=dict(_HELP))

    @cached_property
    def _whole(self) -> Any:
        app = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings=dict(_HELP))
        app.command(self.name)(self._own.function())
        return get_command(app)

    def get_params(self, ctx: Any) -> Any:
        """Returns its options and arguments."""
        return self._whole.get_params(ctx)

    def invoke(self, ctx: Any) -> Any:
        """Runs it."""
        return self._whole.invoke(ctx)


class Commands(TyperGroup):
    """All commands, in the order of `COMMANDS`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands.update({name: Late(name) for name in COMMANDS})


app: typer.Typer = typer.Typer(
    name="closedloop",
    cls=Commands,
    help="What does this neuron want to see? Evolve images that excite a unit of a network, without a gradient.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings=dict(_HELP),
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from closedloop.recipes import version

        typer.echo(f"closedloop {version()}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """What does this neuron want to see? Evolve images that excite a unit of a network, without a gradient."""


def _end(stderr: Console, message: str, error: BaseException | None) -> NoReturn:
    """Ends the program with one message and status 2, or with the error itself."""
    if error is not None:
        raise error
    stderr.print(f"Error: {message}", style="red", markup=False)
    raise SystemExit(2) from None


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Whatever goes wrong ends it with status 2 and one message; --debug shows the traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        _make_ready(stderr)
        with terminable():
            get_command(app)([w for w in words if w != "--debug"], prog_name="closedloop")
    except SystemExit as end:
        stop: BaseException | None = end
        while stop is not None and not isinstance(stop, KeyboardInterrupt):
            stop = stop.__context__  # typer makes an exit of it
        if stop is not None:
            raise SystemExit(_stopped(stderr, stop)) from None
        if end.code:
            raise
    except ClosedLoopError as error:
        _end(stderr, f"{error}", error if debug else None)
    except OSError as error:  # a full disk, a read-only place, a name that is too long
        what = " ".join(repr(name) for name in (error.filename, error.filename2) if name) or "a file"
        _end(stderr, f"cannot read or write {what}: {error.strerror or reason(error)}.", error if debug else None)
    except Exception as error:  # noqa: BLE001 - of a package that is called, or our own
        told = f"{reason(error)}. That should not happen: it is a fault of closedloop, or of a package that it calls."
        _end(stderr, f"{told} 'closedloop --debug …' shows where.", error if debug else None)
    except KeyboardInterrupt as stop:
        raise SystemExit(_stopped(stderr, stop)) from None


def _make_ready(stderr: Console) -> None:
    """Has names that are no UTF-8 shown as well as can be, and warnings as a line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_rest, **_more: stderr.print(
        f"Warning: {message}", style="yellow", markup=False
    )


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as a cluster or `kill` does; it ends as at Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Makes SIGTERM raise `Terminated`, so that files under way are cleared and a person is told what is safe."""

    def terminate(*_: Any) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are for that one alone
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(stderr: Console, stop: KeyboardInterrupt) -> int:
    """Says what is safe after Ctrl-C or SIGTERM; returns the status with which a process ends then."""
    ended = isinstance(stop, Terminated)
    notes = getattr(stop, "__notes__", []) or ["Nothing was left half written."]
    stderr.print(f"{'Terminated' if ended else 'Interrupted'}. {' '.join(notes)}", markup=False)
    return 143 if ended else 130
