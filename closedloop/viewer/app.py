"""Puts the viewer together: the routes of its parts, the package's files, and the manners around them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from os import PathLike, stat_result
from pathlib import Path
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Generator, Subject
from closedloop.recipes import version
from closedloop.signatures import at_door
from closedloop.viewer.asked import RequestError
from closedloop.viewer.manners import HANDLERS, LOCAL, Manners, check_token
from closedloop.viewer.pages import STATIC
from closedloop.viewer.shown import Shown


class Part(NamedTuple):
    """One part of the viewer.

    Attributes:
        name: In the navigation.
        module: Its ``routes(shown)`` make it.
        begins: Where its pages begin.
        needs: How the viewer is to be started so that it is there.
    """

    name: str
    module: str
    begins: str
    needs: str


#: All parts, in the order of the navigation. Their ``routes`` return none where what they need was not given.
PARTS = (
    Part("look", "closedloop.viewer.look", "/look", "a subject: closedloop view --subject NAME"),
    Part("units", "closedloop.viewer.units", "/units", "an atlas: closedloop view --atlas FOLDER"),
    Part("runs", "closedloop.viewer.runs", "/runs", "a folder of runs: closedloop view FOLDER"),
    Part(
        "errors",
        "closedloop.viewer.errors_page",
        "/errors",
        "a subject and images with labels: closedloop view --subject NAME --labelled FOLDER",
    ),
)


@at_door
def create_app(
    subject: Subject | str | None = None,
    *,
    runs: str | Path | None = None,
    labelled: str | Path | None = None,
    images: str | Path | None = None,
    generator: Generator | str | None = None,
    atlas: str | Path | None = None,
    token: str | None = None,
    hosts: Sequence[str] = LOCAL,
    framed: Sequence[str] = (),
) -> Starlette:
    """Returns the viewer as an application for any ASGI server, which is to listen at 127.0.0.1.

    Args:
        subject: The subject that is looked at, or its name.
        runs: The folder of a run, or one of many runs.
        labelled: A folder of images in folders by class, or with a ``labels.csv``, for the errors page.
        images: A folder of images to look at.
        generator: What makes images from codes, or its name.
        atlas: The folder that ``closedloop atlas`` has filled.
        token: What must be known to be answered; needed where the server listens on the network.
        hosts: Names by which it may be asked.
        framed: Origins whose pages may show it in a frame, such as ``"http://localhost:8888"``.

    Raises:
        InvalidArgumentError: A folder is not there, or a name is not known.
    """
    check_token(token)
    if not all(isinstance(host, str) and host for host in hosts):
        raise InvalidArgumentError(f"hosts: expected a list of names, got {hosts!r:.60}.")
    shown = Shown(
        _subject(subject),
        _folder("runs", runs),
        _folder("labelled", labelled),
        _folder("images", images),
        _generator(generator),
        _folder("atlas", atlas),
    )
    if shown.shelf is not None:
        _ = shown.network  # told before it is asked: that runs the network once
    made = {part: _routes(part, shown) for part in PARTS}
    present = [part for part, found in made.items() if found]
    routes = [route for part in present for route in made[part]]
    app = Starlette(
        routes=[*_own(present), *routes, *_absent([part for part in PARTS if part not in present])],
        middleware=[Middleware(_manners, tuple(h.lower() for h in hosts), token, tuple(framed))],
        exception_handlers=HANDLERS,
    )
    app.state.parts = [part.name for part in present]
    app.state.subject = None if shown.subject is None else shown.subject.name
    return app


def _manners(app: Any, hosts: tuple[str, ...], token: str | None, framed: tuple[str, ...]) -> Manners:
    return Manners(app, hosts, token, framed)


def _routes(part: Part, shown: Shown) -> list[BaseRoute]:
    found: list[BaseRoute] = importlib.import_module(part.module).routes(shown)
    return found


def _subject(given: Subject | str | None) -> Subject | None:
    if not isinstance(given, str):
        return given
    from closedloop.subjects import load_subject

    return load_subject(given)


def _generator(given: Generator | str | None) -> Generator | None:
    if not isinstance(given, str):
        return given
    from closedloop.generators import load_generator

    return load_generator(given)


def _folder(name: str, given: str | Path | None) -> Path | None:
    """Returns a folder that was given, with all links followed.

    Raises:
        InvalidArgumentError: It is not there.
    """
    if given is None:
        return None
    path = Path(given)
    if not path.is_dir():
        raise InvalidArgumentError(f"{name}: expected a folder, and there is none at {path}.")
    return path.resolve()


def _own(present: list[Part]) -> list[BaseRoute]:
    """Returns the routes that every viewer has: the way in, its health, and the package's files."""

    async def begin(request: Request) -> Response:
        return RedirectResponse(present[0].begins if present else "/api/health", 307)

    async def health(request: Request) -> Response:
        return JSONResponse({"ok": True, "version": version(), "parts": [part.name for part in present]})

    return [
        Route("/", begin),
        Route("/api/health", health),
        Mount("/static", _Files(directory=STATIC), name="static"),
    ]


def _absent(parts: Sequence[Part]) -> list[BaseRoute]:
    """Returns routes that say what parts need that are not shown: a link may come from another viewer."""

    def telling(part: Part) -> Callable[[Request], Response]:
        def tell(request: Request) -> Response:
            raise RequestError(f"{part.name}: this page needs {part.needs}.", 404)

        return tell

    return [Route(where, telling(part)) for part in parts for where in (part.begins, part.begins + "/{rest:path}")]


class _Files(StaticFiles):
    """The package's files; an address that names the version is kept by browsers."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        kept = f"v={version()}".encode() in scope.get("query_string", b"")
        answer.headers["Cache-Control"] = "max-age=31536000, immutable" if kept else "no-cache"
        return answer
