"""The pages of units, and the atlas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from urllib.parse import quote, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from closedloop.errors import InvalidArgumentError
from closedloop.viewer.asked import absent
from closedloop.viewer.atlases import Book, Shelf
from closedloop.viewer.pages import render
from closedloop.viewer.shown import Shown
from closedloop.viewer.unit_pages import layer_page, shelf_page, unit_page


def routes(shown: Shown) -> list[BaseRoute]:
    """Returns its routes; none where no atlas was given."""
    if shown.shelf is None:
        return []
    pages = UnitPages(shown.shelf, shown)
    return [
        Route("/units", pages.page),
        Route("/units/{rest:path}", pages.page),
        Route("/api/atlas/{book:int}/{name}.webp", pages.picture),
    ]


def preferred(shown: Shown, layer: str, only: Collection[int] | None = None) -> Mapping[int, NDArray[np.uint8]]:
    """Returns the preferred stimulus of each channel of a layer for which one was made, ``(h, w, 3)`` 8-bit RGB.

    What the unit at the channel's central position sees of the image that drives it most, with more contrast where it
    has little. An atlas of another subject knows nothing of it.

    Args:
        shown: What the viewer was given.
        layer: The layer.
        only: The channels that are wanted; None for all.
    """
    known = _known(shown, layer)
    found = {
        channel: _preferred(books, layer, str(channel))
        for channel, books in known.items()
        if only is None or channel in only
    }
    return {channel: picture for channel, picture in found.items() if picture is not None}


def unit_addresses(shown: Shown, layer: str) -> Mapping[int, str]:
    """Returns the address of the page of each channel of a layer of the subject that has one."""
    return {channel: Served().unit(layer, str(channel)) for channel in _known(shown, layer)}


def _known(shown: Shown, layer: str) -> Mapping[int, Sequence[Book]]:
    """Returns the atlases of the subject that know each channel of a layer at its central position."""
    if shown.shelf is None:
        return {}
    units = shown.shelf.layers.get(layer, {})
    return {
        int(key): own
        for key, books in units.items()
        if key.isdecimal() and (own := [book for book in books if shown.is_of(book)])
    }


def _preferred(books: Sequence[Book], layer: str, key: str) -> NDArray[np.uint8] | None:
    """Returns the preferred stimulus by that of several atlases whose image drives the unit most."""
    made = [(book, book.pages.made(book.pages.column(layer, key))) for book in books]
    best = max(made, key=lambda e: np.nan_to_num(e[1][0].response.mean, nan=-np.inf) if e[1] else -np.inf)
    return best[0].preferred(layer, key)


class Served:
    """Addresses on this server; whatever stands in a name, it stays one part of the path."""

    def layer(self, layer: str) -> str:
        """Returns the address of a layer's page; of "" that of all layers."""
        return f"/units/{quote(layer, safe='')}" if layer else "/units"

    def unit(self, layer: str, key: str) -> str:
        """Returns the address of a unit's page."""
        return f"{self.layer(layer)}/{quote(key, safe='')}"

    def picture(self, book: Book, name: str) -> str:
        """Returns the address of a picture of a page."""
        return f"/api/atlas/{book.number}/{name}.webp"


class UnitPages:
    """Answers for an atlas; Starlette runs its methods in threads of their own.

    Args:
        shelf: The atlases.
        shown: What the viewer was given: the subject that is looked at may be another one.
    """

    def __init__(self, shelf: Shelf, shown: Shown) -> None:
        self._shelf, self._shown, self._to = shelf, shown, Served()

    def page(self, request: Request) -> Response:
        """Shows the list of layers, a layer, or a unit, as the parts of the path say."""
        parts = _parts(request)
        foreign = next(filter(None, map(self._shown.foreign, self._shelf.books)), "")
        # There jobs are begun, if the viewer begins any.
        jobs = not foreign and any(getattr(route, "path", "") == "/api/jobs" for route in request.app.routes)
        page = partial(render, request, foreign=foreign)
        if not parts:
            layers = list(self._shelf.layers)
            if len(layers) == 1:
                return RedirectResponse(self._to.layer(layers[0]), 307)
            return _response(shelf_page(page, self._shelf, self._to))
        try:
            if len(parts) == 1:
                return _response(layer_page(page, self._shelf, parts[0], self._to))
            if len(parts) == 2:
                return _response(unit_page(page, self._shelf, parts[0], parts[1], self._to, jobs=jobs))
        except InvalidArgumentError as error:
            raise absent(str(error)) from error
        raise absent("there is nothing at this address; a unit's is /units/LAYER/UNIT.")

    def picture(self, request: Request) -> Response:
        """Sends a picture of a page."""
        place, name = request.path_params["book"], request.path_params["name"]
        found = self._shelf.books[place].encoded(name) if place < len(self._shelf.books) else None
        if found is None:
            raise absent(f"picture: no picture {name[:60]!r} in this atlas.")
        return Response(found, media_type="image/webp", headers={"Cache-Control": "max-age=60"})


def _response(page: Response) -> Response:
    return page


def _parts(request: Request) -> list[str]:
    """Returns the parts of the path below ``/units``, taken apart before they are decoded: a name may hold a slash."""
    raw: bytes = request.scope.get("raw_path") or quote(request.url.path).encode()
    path = raw.partition(b"?")[0].decode("ascii", "replace")
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in path.split("/")[2:] if part]
    except UnicodeDecodeError as error:
        raise absent("there is nothing at this address.") from error
    return parts
