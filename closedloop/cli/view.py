"""``closedloop view``: a subject, runs and errors in the browser."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from closedloop.cli.building import in_torch, load, read_named, subject_recipe
from closedloop.cli.console import say, tell
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError, require
from closedloop.loop.parts import SubjectPart
from closedloop.loop.settings import option, settings


@settings
class ViewPart:
    """What is shown beside a subject, and where."""

    labelled: Path | None = option(
        default=None,
        metavar="FOLDER",
        shown="none",
        help="Images with their classes (folders by class, or labels.csv) for the errors page.",
    )
    images: Path | None = option(
        default=None, metavar="FOLDER", shown="bundled photographs", help="Images to look at, beside the bundled ones."
    )
    generator: str = option(
        default="native", metavar="NAME", help="What makes images from codes; see: closedloop evolve."
    )
    atlas: Path | None = option(
        default=None, metavar="FOLDER", shown="none", help="Folder that 'closedloop atlas' has filled."
    )
    port: int | None = option(default=None, least=0, shown="the first free one from 8765 on", help="Where it listens.")
    host: tuple[str, ...] = option(
        default=("127.0.0.1",),
        metavar="ADDRESS",
        help="IP address that it listens at; another one than 127.0.0.1 takes a token. Given again, a name by which "
        "others may ask for it.",
    )
    token: str | None = option(default=None, metavar="TEXT", shown="none", help="What visitors must know.")
    browser: bool = option(default=True, help="Open a browser.")


def view(
    given: Mapping[str, Any],
    run: Annotated[Path | None, typer.Argument(metavar="[RUN|FOLDER]", help="A run, or a folder of runs.")] = None,
) -> None:
    """Look at a network, at runs while they go on, and at errors, in the browser."""
    for module in ("starlette", "uvicorn"):
        require(module, "viewer", "closedloop view")
    from closedloop.rigs.places import is_loopback
    from closedloop.viewer import create_app
    from closedloop.viewer.manners import LOCAL, check_token
    from closedloop.viewer.serving import address_of, leave, listen, serve

    host, *names = given.get("host", ViewPart.host)
    token = given.get("token")
    check_token(token)
    folders: dict[str, Any] = {name: _folder(name, given.get(name)) for name in ("labelled", "images", "atlas")}
    runs = _folder("run", run)
    with listen(host, given.get("port"), token) as listening:
        subject = _subject(given, runs)
        generator = _generator(given)
        address, elsewhere = address_of(listening, token), address_of(listening, token, elsewhere=True)
        hosts = (*LOCAL, host, urlsplit(elsewhere).hostname or host, *names)
        app = create_app(subject, runs=runs, **folders, generator=generator, token=token, hosts=hosts)
        shown = [*([] if subject is None else [subject.name]), *([] if runs is None else [f"runs in {runs}"])]
        shown += [f"{name} in {path}" for name, path in folders.items() if path is not None]
        say(f"{', '.join(shown)}: {address}")
        if not is_loopback(host):
            say(f"From another computer: {elsewhere}")
            tell("Whoever reaches this computer and has the token sees it. The connection is not encrypted.", "yellow")
        tell("Ctrl-C stops it.")
        try:
            serve(app, listening, address if given.get("browser", ViewPart.browser) else None)
        except KeyboardInterrupt:  # that is how it is stopped
            tell("Stopped.")
            gc.freeze()  # what was imported need not be looked through for garbage before the process ends
            leave()


COMMAND = Command(
    view,
    (SubjectPart, ViewPart),
    without=("engine", "layer"),
    helps={"subject": "What is looked at: lite0, torchvision:NAME, timm:NAME, onnx:FILE, gabor, energy …"},
    says={"subject": "lite0, or none where a run is given"},
)


def _subject(given: Mapping[str, Any], runs: Path | None) -> Any:
    """Loads the subject; none where runs alone are to be shown."""
    if runs is not None and not {"subject", "labelled"} & given.keys():
        return None
    return load(in_torch(subject_recipe(given)))


def _generator(given: Mapping[str, Any]) -> Any:
    """Loads the generator that was named; None leaves it to the viewer, which loads its own when it is needed."""
    if "generator" not in given:
        return None
    from closedloop.generators import load_generator

    return load_generator(**read_named(given["generator"]))


def _folder(name: str, path: Path | None) -> Path | None:
    """Returns a folder that was given, before anything is loaded.

    Raises:
        InvalidArgumentError: It is not there.
    """
    if path is not None and not path.is_dir():
        raise InvalidArgumentError(f"{name}: expected a folder, and there is none at {path}.")
    return path
