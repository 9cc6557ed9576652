"""The live window: a subject looks at pictures, and all channels of a layer are shown.

A request names the tab that it comes from in its header ``X-Tab``; of two that wait in one tab the newer one counts.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import isfinite
from typing import Any, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from closedloop.errors import ClosedLoopError
from closedloop.interfaces import Generator, Subject
from closedloop.viewer import backward
from closedloop.viewer.asked import (
    RequestError,
    body_json,
    choice,
    entry_number,
    entry_numbers,
    entry_whole,
    number,
    whole,
)
from closedloop.viewer.asked import text as asked_text
from closedloop.viewer.codes import MOST_SEED, MOST_STEPS, REACH, Codes
from closedloop.viewer.inputs import DECODED, Inputs, Stimulus, ending_of, picture
from closedloop.viewer.looking import SORTS, Seen, Sight, sight_of
from closedloop.viewer.pages import render
from closedloop.viewer.shown import Shown
from closedloop.viewer.tiles import Sprite, hatched, shrunk, sprite_of, sprite_of_pictures
from closedloop.viewer.units import preferred

T = TypeVar("T")
#: How pictures that are not square are fitted, and what tiles show.
FITS, MODES = ("crop", "stretch"), ("activations", "backward", "patterns")
#: Largest side of a preferred stimulus among tiles, in pixels.
PATTERN_SIDE = 64
#: Images of a measurement that the model is shown before others may ask it something.
AT_A_TIME = 4


def routes(shown: Shown) -> list[BaseRoute]:
    """Returns its routes; none where there is no subject."""
    if shown.subject is None:
        return []
    window = Window(shown, shown.subject)
    return [
        Route("/api/look", window.look, methods=["POST"]),  # first, for it is asked most
        Route("/look", window.page),
        Route("/api/subject", window.about),
        Route("/api/inputs", window.inputs_listed, methods=["GET"]),
        Route("/api/inputs", window.input_dropped, methods=["POST"]),
        Route("/api/inputs/{name}.jpg", window.input_drawn),
        Route("/api/codes", window.codes_about, methods=["GET"]),
        Route("/api/codes", window.code_made, methods=["POST"]),
        Route("/api/selectivity", window.selectivity),
        Route("/api/backward", window.back, methods=["POST"]),
    ]


@dataclass(frozen=True)
class Asked:
    """What is to be shown of a layer.

    Attributes:
        layer: The layer.
        sort: One of `SORTS`.
        unit: The selected channel; -1 for the strongest.
        at: Row and column in its map; -1 for where it is strongest.
        gamma: Exponent of the size of values.
        individual: Share of a tile's own scale.
        mode: One of `MODES`.
        origin: Of the mode "backward": layer, channel, and row and column; "" for the network's strongest class.
    """

    layer: str
    sort: str
    unit: int
    at: tuple[int, int]
    gamma: float
    individual: float
    mode: str
    origin: tuple[str, int, tuple[int, int]]


def _asked_for(request: Request) -> Asked:
    """Returns what a request asks for.

    Raises:
        RequestError: A parameter is none.
    """

    def at(before: str) -> tuple[int, int]:
        return whole(request, f"{before}y", -1, -1, 10**5), whole(request, f"{before}x", -1, -1, 10**5)

    return Asked(
        asked_text(request, "layer"),
        choice(request, "sort", SORTS),
        whole(request, "unit", -1, -1, 10**7),
        at(""),
        number(request, "boost", 1.0, 0.1, 4),
        number(request, "individual", 0.0, 0, 1),
        choice(request, "mode", MODES),
        (asked_text(request, "from_layer", ""), whole(request, "from_unit", 0, 0, 10**7), at("from_")),
    )


@final
class Window:
    """What the routes share: the subject as it is looked at, its inputs, and what was seen last.

    Args:
        shown: What the viewer was given.
        subject: The subject.
    """

    def __init__(self, shown: Shown, subject: Subject) -> None:
        self.shown: Shown = shown
        self.desk = shown.desk
        self.sight: Sight = sight_of(subject)
        self.inputs: Inputs = Inputs(self.sight.resolution, self.sight.form, shown.images)
        self._seen: OrderedDict[tuple[str, bool, str], Seen] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = asyncio.Semaphore(DECODED)
        self._patterned: tuple[tuple[str, tuple[int, ...]], dict[int, NDArray[np.uint8]]] = (("", ()), {})
        self._settled = False
        self._about: dict[str, Any] | None = None
        self._made_of: dict[str, Any] | None = None

    @cached_property
    def codes(self) -> Codes:
        """The generator that makes inputs; the native one where none was given."""
        return Codes(self.shown.generator or _native())

    async def page(self, request: Request) -> Response:
        """Sends the page."""
        return render(request, "look.html")

    async def _asked(self, request: Request, kind: str, do: Callable[[], T]) -> T:
        """Calls a function at the desk, in the lane of the tab that asks and of what it asks for."""
        return await self.desk.run(self._lane(request, kind), do)

    @staticmethod
    def _lane(request: Request, kind: str) -> object:
        tab = request.headers.get("x-tab", "")[:64]
        return (kind, tab) if tab else object()

    async def about(self, request: Request) -> Response:
        """Says what the subject is, and its layers; the model is asked for them once."""
        if self._about is None:
            self._about = await self.desk.run(object(), self._facts)
        return JSONResponse(self._about)

    def _facts(self) -> dict[str, Any]:
        sight = self.sight
        return {
            "name": sight.subject.name,
            "resolution": sight.resolution,
            "form": sight.form.describe(),
            "channels": sight.form.channels,
            "frames": sight.form.frames,
            "differentiable": not sight.why_not,
            "why_not": sight.why_not,
            "labels": sight.labels is not None,
            "layers": sight.layers(),
        }

    # --- inputs

    async def inputs_listed(self, request: Request) -> Response:
        """Lists all inputs."""
        return JSONResponse(self.inputs.listed())

    async def input_dropped(self, request: Request) -> Response:
        """Keeps a picture."""
        stretch = choice(request, "fit", FITS) == "stretch"
        title = asked_text(request, "title", "dropped")
        kind = request.headers.get("content-type", "")
        ending_of(kind)
        content = await request.body()
        async with self._decoding:
            entry = await run_in_threadpool(self.inputs.drop, content, kind, title, stretch)
        return JSONResponse(entry.facts())

    async def input_drawn(self, request: Request) -> Response:
        """Sends an input as a picture."""
        size = whole(request, "size", 0, 0, 1024)
        stretch = choice(request, "fit", FITS) == "stretch"

        name = request.path_params["name"]

        def draw() -> tuple[bytes, str]:
            return picture(self.inputs.stimulus(name, stretch), self.sight.form, size or None)

        if self.inputs.known(name, stretch):
            content, kind = await run_in_threadpool(draw)
        else:
            async with self._decoding:  # many large pictures at once would take all memory
                content, kind = await run_in_threadpool(draw)
        return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    # --- codes

    async def codes_about(self, request: Request) -> Response:
        """Says which generator makes inputs; it is loaded once."""
        if self._made_of is None:
            self._made_of = await self.desk.run(object(), lambda: self.codes.facts())
        return JSONResponse(self._made_of)

    async def code_made(self, request: Request) -> Response:
        """Makes an image of a code, which is an input from then on."""
        body = await body_json(request, ("amounts", "seed", "morph", "walk"))
        amounts = entry_numbers(body, "amounts", -REACH, REACH, 64)
        seed = entry_whole(body, "seed", 0, 0, MOST_SEED)
        step = entry_number(body, "walk", 0.0, 0, MOST_STEPS)
        morph = _morph(body)

        def make() -> Stimulus:
            fit = amounts[: len(self.codes.directions)]
            return self.inputs.as_shown(self.codes.image(self.codes.code(fit, seed, morph, step)))

        stimulus = await self._asked(request, "codes", make)
        return JSONResponse(self.inputs.add(stimulus, "from a code", "generator").facts())

    # --- looking

    async def look(self, request: Request) -> Response:
        """Shows all channels of a layer for an input, or for the picture in the body, which is not kept."""
        asked = _asked_for(request)
        see = await self._seeing(request, asked.layer)
        if asked.sort == "selectivity":
            await self._measured(asked.layer)
        lane, answer = self._lane(request, "look"), lambda: self._answer(asked, *see())
        if self._needs_no_model(request, asked):
            self.desk.clear(lane)
            content = await run_in_threadpool(answer)
        else:
            content = await self.desk.run(lane, answer)
        self._settle()
        return Response(content, media_type="application/octet-stream")

    def _needs_no_model(self, request: Request, asked: Asked) -> bool:
        """Tells whether all that is asked for was seen before; then nobody else's call of the model is waited for."""
        stretch, name = choice(request, "fit", FITS) == "stretch", request.query_params.get("input")
        known = name is not None and (name, stretch, asked.layer) in self._seen
        return self._settled and known and asked.mode != "backward"

    def _answer(self, asked: Asked, stimulus: Stimulus, seen: Seen) -> bytes:
        """Returns the header and the sprite."""
        order = self.sight.order(asked.sort, seen, asked.layer)
        header: dict[str, Any] = {
            "layer": asked.layer,
            "order": order.tolist(),
            "values": _plain(seen.peaks),
            "lost": seen.lost,
            "unit": self._unit(seen, asked.layer, asked.unit, asked.at),
            "top": self.sight.top(seen.answer),
            "ms": round(seen.ms, 3),
        }
        if asked.mode == "patterns":
            sprite, missing = self._patterns(asked.layer, order)
            header |= {"missing": missing, "foreign": self._foreign() if missing else ""}
        else:
            maps = seen.maps if asked.mode == "activations" else self._driven(asked, stimulus, seen)
            sprite = sprite_of(maps[order], asked.gamma, asked.individual)
        return packed(header | sprite.facts(), sprite.content)

    def _driven(self, asked: Asked, stimulus: Stimulus, seen: Seen) -> Any:
        """Returns how the origin's value changes with what the layer gives; without one the strongest class is it."""
        layer, unit, at = asked.origin
        if not layer:
            known = self.sight.layers()[-1]["name"] if seen.answer is None else "output"
            layer, unit = known, 0 if seen.answer is None else int(np.argmax(seen.answer))
        place = place_of(self.sight.see(stimulus, layer), unit, at)
        return self.sight.driven(stimulus, asked.layer, layer, unit, *place)

    def _patterns(self, layer: str, order: Any) -> tuple[Sprite, list[int]]:
        """Returns the preferred stimuli of a layer's channels, and the channels that have none."""
        key = (layer, self.shown.stamps)
        if self._patterned[0] != key:  # they are read from the disk, and made small, once for as long as none is added
            found = preferred(self.shown, layer)
            side = min([PATTERN_SIDE, *(len(image) for image in found.values())])
            self._patterned = (key, {channel: shrunk(image, side) for channel, image in found.items()})
        known = self._patterned[1]
        none = hatched(len(next(iter(known.values()))) if known else PATTERN_SIDE)
        tiles = [known.get(c, none) for c in order.tolist()]
        return sprite_of_pictures(np.stack(tiles)), [c for c in order.tolist() if c not in known]

    def _foreign(self) -> str:
        """Says what is to be known of atlases whose patterns are not shown."""
        books = [] if self.shown.shelf is None else self.shown.shelf.books
        return next(filter(None, map(self.shown.foreign, books)), "")

    async def _seeing(self, request: Request, layer: str) -> Callable[[], tuple[Stimulus, Seen]]:
        """Returns what looks at the picture that a request carries or names; it asks the model when it is called."""
        stretch = choice(request, "fit", FITS) == "stretch"
        name = request.query_params.get("input")
        if name is not None:
            return lambda: (self.inputs.stimulus(name, stretch), self._remembered(name, stretch, layer))
        decode = await self._carried(request, stretch)

        def see() -> tuple[Stimulus, Seen]:
            stimulus = decode()
            return stimulus, self.sight.see(stimulus, layer)

        return see

    async def _carried(self, request: Request, stretch: bool) -> Callable[[], Stimulus]:
        """Returns what decodes the picture in a request's body."""
        ending = ending_of(request.headers.get("content-type", ""))
        content = await request.body()
        return lambda: self.inputs.decoded(content, ending, stretch)

    def _remembered(self, name: str, stretch: bool, layer: str) -> Seen:
        key = (name, stretch, layer)
        with self._lock:
            known = self._seen.get(key)
            if known is not None:
                self._seen.move_to_end(key)
                return known
        seen = self.sight.see(self.inputs.stimulus(name, stretch), layer)
        with self._lock:
            self._seen[key] = seen
            while len(self._seen) > 8:  # of these a click on another unit asks the model nothing
                self._seen.popitem(last=False)
        return seen

    def _unit(self, seen: Seen, layer: str, unit: int, at: tuple[int, int]) -> dict[str, Any]:
        """Returns what is said of the selected unit, which is the strongest one where none was named."""
        channel = int(np.nanargmax(np.nan_to_num(seen.peaks, nan=-np.inf))) if unit < 0 else unit
        y, x = place_of(seen, channel, at)
        value = float(seen.maps[channel, y, x])
        return {
            "channel": channel,
            "y": y,
            "x": x,
            "value": value if np.isfinite(value) else None,
            "box": self.sight.box(layer, channel, y, x),
            "label": self.sight.label(layer, channel),
            "extra": _plain(seen.extra[:, channel]),
        }

    def _settle(self) -> None:
        """Has the model made quicker, once, after the first answer was given."""
        if not self._settled:
            self._settled = True
            self.desk.later(self.sight.settle)

    async def selectivity(self, request: Request) -> Response:
        """Says how selective each channel of a layer is among the bundled photographs."""
        layer = asked_text(request, "layer")
        values = await self._measured(layer)
        return JSONResponse({"layer": layer, "values": _plain(values), "images": len(self._photographs())})

    def _photographs(self) -> list[str]:
        return [entry["id"] for entry in self.inputs.listed() if entry["source"] == "bundled"]

    async def _measured(self, layer: str) -> Any:
        """Returns the selectivity of a layer's channels, measured now if it was not, while others may ask the model."""
        known = self.sight.selectivity(layer)
        if known is not None:
            return known
        names = self._photographs()
        rows: list[Any] = []
        for first in range(0, len(names), AT_A_TIME):
            some = names[first : first + AT_A_TIME]
            rows += await self.desk.run(object(), partial(self._peaks, some, layer))
        return self.sight.measure(layer, np.stack(rows))

    def _peaks(self, names: list[str], layer: str) -> list[Any]:
        return [self.sight.see(self.inputs.stimulus(name), layer).peaks for name in names]

    async def back(self, request: Request) -> Response:
        """Propagates one unit at one position back to the pixels."""
        layer = asked_text(request, "layer")
        unit = whole(request, "unit", None, 0, 10**7)
        at = whole(request, "y", -1, -1, 10**5), whole(request, "x", -1, -1, 10**5)
        method, way = choice(request, "method", backward.METHODS), choice(request, "filter", backward.FILTERS)
        stretch, name = choice(request, "fit", FITS) == "stretch", request.query_params.get("input")
        carried = await self._carried(request, stretch) if name is None else None

        def work() -> tuple[bytes, str, str]:
            stimulus = carried() if carried is not None else self.inputs.stimulus(str(name), stretch)
            place = self._place(stimulus, layer, unit, at, None if name is None else (name, stretch))
            found = backward.propagated(self.sight, stimulus, layer, unit, place, method)
            return *backward.drawn(found, way, self.sight.form.rate_hz, quick=name is None), found.info()

        content, kind, info = await self._asked(request, "backward", work)
        return Response(content, media_type=kind, headers={"X-Info": info})

    def _place(
        self, stimulus: Stimulus, layer: str, unit: int, at: tuple[int, int], known: tuple[str, bool] | None
    ) -> tuple[int, int]:
        """Returns where a unit is propagated back from: the position that was named, or where it is strongest."""
        if known is None:
            return place_of(self.sight.see(stimulus, layer), unit, at)
        return place_of(self._remembered(*known, layer), unit, at)


def place_of(seen: Seen, channel: int, at: tuple[int, int]) -> tuple[int, int]:
    """Returns a position in a layer's map: the one that is named, or where the channel is strongest.

    Raises:
        RequestError: No such channel or position.
    """
    channels, rows, columns = seen.maps.shape
    if channel >= channels:
        raise RequestError(f"unit: expected 0 to {channels - 1}, got {channel}.")
    if at[0] >= rows or at[1] >= columns:
        raise RequestError(f"y, x: expected a position in a map of {rows} × {columns}, got {at[0]}, {at[1]}.")
    return at if min(at) >= 0 else seen.peak(channel)


def packed(header: dict[str, Any], content: bytes) -> bytes:
    """Packs one answer: the length of a JSON header in 4 bytes, big-endian, the header, and a picture."""
    words = json.dumps(header, allow_nan=False).encode()
    return len(words).to_bytes(4, "big") + words + content


def _plain(values: Any) -> list[float | None]:
    """Numbers as JSON has them, to six digits; null for what is not finite."""
    return [float(f"{v:.6g}") if isfinite(v) else None for v in np.asarray(values, float).tolist()]


def _morph(body: dict[str, Any]) -> tuple[int, int, float] | None:
    """Returns the two seeds and the share between them that a body names.

    Raises:
        RequestError: It names something else.
    """
    if "morph" not in body:
        return None
    named = body["morph"]
    if not isinstance(named, list) or len(named) != 3:
        raise RequestError(f"morph: expected [seed, seed, share], got {str(named)[:60]!r}.")
    whole_one = {f"morph[{i}]": value for i, value in enumerate(named)}
    first, second = (entry_whole(whole_one, f"morph[{i}]", 0, 0, MOST_SEED) for i in (0, 1))
    return first, second, entry_number(whole_one, "morph[2]", 0.0, 0, 1)


def _native() -> Generator:
    """Loads the native generator.

    Raises:
        RequestError: It cannot be loaded; the page then has no codes.
    """
    from closedloop.generators import load_generator

    try:
        return load_generator("native")
    except ClosedLoopError as error:
        raise RequestError(f"generator: {error}", 404) from error
