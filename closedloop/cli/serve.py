"""``closedloop serve``: hold a session for a rig that drives itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from closedloop.cli.building import run_folder
from closedloop.cli.console import say, tell
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import RunPart
from closedloop.loop.settings import option, settings
from closedloop.rigs.places import SESSION

if TYPE_CHECKING:
    from closedloop.loop.experiment import Experiment
    from closedloop.subjects import Served

#: The subject that waits for a rig which asks.
SERVED = "served"


@settings
class ServePart:
    """Where the session is asked."""

    listen: str | None = option(
        default=None, metavar="HOST:PORT", shown=SESSION, help="Where the rig asks; port 0 for a free one."
    )
    journal: Path | None = option(
        default=None,
        metavar="FILE",
        shown="RUN.journal.sqlite",
        help="What the rig has told; with it the run goes on after a crash of either side.",
    )
    token_file: Path | None = option(
        default=None, metavar="FILE", shown="CLOSEDLOOP_RIG_TOKEN_FILE", help="File of mode 0600 with the token."
    )


def serve(
    given: Mapping[str, Any],
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.yaml", help="With 'subject: {name: served, units: 32}'.")
    ],
) -> None:
    """Hold a session for a rig that drives itself: it asks for blocks and tells what became of them, over TCP."""
    from closedloop.loop.experiment import build_subject, parse_experiment, read_experiment_file
    from closedloop.subjects import Served

    read = read_experiment_file(experiment)
    if read.subject.name != SERVED:
        raise InvalidArgumentError(
            f"experiment: expected 'subject: {{name: {SERVED}, units: 32}}' in {experiment}, got "
            f"{read.subject.name!r}; other subjects are asked by closedloop evolve."
        )
    folder = run_folder(given, SERVED, experiment.stem)
    said = {name: str(given[name]) for name in ServePart.__dataclass_fields__ if name in given}
    known = {"journal": f"{folder.resolve()}.journal.sqlite", **read.subject.options, **said}
    content = {**read.model_dump(exclude_unset=True), "subject": {"name": SERVED, **known}}
    content.pop("fingerprints", None)
    chosen = parse_experiment(content, str(experiment))
    with _parent_of(Path(known["journal"]).expanduser(), "journal" not in {**read.subject.options, **said}):
        subject = build_subject(chosen)
        if not isinstance(subject, Served):
            raise InvalidArgumentError(f"experiment: expected the subject {SERVED!r}, got {subject.name!r}.")
        _hold(subject, chosen, given, folder, known)


def _hold(
    subject: Served, chosen: Experiment, given: Mapping[str, Any], folder: Path, known: Mapping[str, Any]
) -> None:
    """Holds the session until it is over, and shows what it found."""
    from closedloop.cli.evolve import Bar
    from closedloop.cli.show import show_run
    from closedloop.loop.experiment import build_rules, build_threads
    from closedloop.loop.session import Session

    try:
        session = Session(
            subject,
            build_threads(chosen, subject),
            references=chosen.references,
            stop=build_rules(chosen),
            save=folder,
            observers=[Bar()],
            progress=False,
            **{"exists": given["exists"]} if "exists" in given else {},
            **chosen.settings,
        )
        host = known.get("listen", "127.0.0.1:0").rpartition(":")[0]
        say(f"Session: {len(subject.units):,} units, at {host}:{subject.port}; journal {known['journal']}")
        tell("It waits for the rig to ask. Ctrl-C ends it; --exists resume goes on.")
        session.run()
        subject.desk.end(session.reason or "the session is over")
        show_run(folder)
    finally:
        subject.close("the session was stopped")


@contextmanager
def _parent_of(journal: Path, make: bool) -> Iterator[None]:
    """Makes the folder of a journal, where asked to; what it made and is empty at the end, it removes."""
    made = [path for path in journal.parents if make and not path.exists()]
    if made:
        made[0].mkdir(parents=True)
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # it holds something
                path.rmdir()


COMMAND = Command(serve, (ServePart, RunPart))
