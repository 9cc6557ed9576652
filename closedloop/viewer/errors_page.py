"""The pages of what a network gets wrong: all errors, sorted and grouped, and one image with what drove its answer."""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from closedloop.analysis.errors import confidences, confusions, error_clusters
from closedloop.errors import ClosedLoopError
from closedloop.images.sets import read_image
from closedloop.interfaces import Answering, Subject
from closedloop.protocols import Explanation
from closedloop.report.embedding import data_uri
from closedloop.viewer.asked import RequestError, absent, choice, text, whole
from closedloop.viewer.errors_room import ErrorsRoom
from closedloop.viewer.inputs import DECODED, encode_jpeg
from closedloop.viewer.pages import render
from closedloop.viewer.shown import Shown
from closedloop.viewer.units import preferred, unit_addresses

#: How errors may be grouped, with what it is called.
GROUPINGS = {"confusion": "Confusion", "confidence": "Confidence", "cluster": "Driving units", "class": "True class"}
#: Bands of confidence, from the surest down.
BANDS = ((0.9, "0.9 and above"), (0.7, "0.7 to 0.9"), (0.5, "0.5 to 0.7"), (0.0, "below 0.5"))
#: Bytes of a ZIP that are read together.
_PART = 2**18


def routes(shown: Shown) -> list[BaseRoute]:
    """Returns its routes; none where there is no subject, or no labelled folder."""
    if shown.subject is None or shown.labelled is None:
        return []
    page = ErrorsPage(ErrorsRoom(_answering(shown.subject), shown.labelled, shown.desk), shown)
    return [
        Route("/errors", page.all_errors),
        Route("/errors/group.zip", page.export),
        Route("/errors/{image:int}", page.one),
        Route("/errors/{image:int}.jpg", page.picture),
        Route("/errors/{image:int}/unit/{unit:int}.jpg", page.crop),
        Route("/api/errors", page.status),
        Route("/api/errors/explain", page.explain_all, methods=["POST"]),
        Route("/api/errors/{image:int}", page.explain_one, methods=["POST"]),
    ]


def _answering(subject: Subject) -> Subject:
    """Returns a subject whose output is recorded in full: itself, or the same network."""
    return subject.answering() if isinstance(subject, Answering) else subject


@dataclass(frozen=True)
class Group:
    """Errors that are shown together.

    Attributes:
        key: Names it in addresses.
        title: What they have in common.
        note: More of it.
        members: Numbers of the images, the surest error first.
        units: Channels that drove them, where they were grouped by these.
    """

    key: str
    title: str
    note: str
    members: Sequence[int]
    units: Sequence[int] = ()


class ErrorsPage:
    """The handlers.

    Args:
        room: What is known.
        shown: What the viewer was given: the atlas knows what units want to see.
    """

    def __init__(self, room: ErrorsRoom, shown: Shown) -> None:
        self.room: ErrorsRoom = room
        self.shown: Shown = shown
        self._decoding = asyncio.Semaphore(DECODED)

    # pages

    async def all_errors(self, request: Request) -> Response:
        """Shows the errors so far, in groups; whoever opens the page has what was stopped tried again."""
        before = self.room.again()
        return await run_in_threadpool(self._all_errors, request, before)

    def _all_errors(self, request: Request, before: str) -> Response:
        by = choice(request, "by", list(GROUPINGS))
        words = text(request, "q", "")
        key = text(request, "group", "")
        state = self.state()  # before what is shown: a page that was made while the survey ended must ask again
        groups = [group for group in self.groups(by, words) if key in ("", group.key)]
        if key and not groups:
            raise absent(f"group: there is no group {key!r} of {by}; go back to /errors.")
        rows = {row["number"]: row for row in self.rows()}
        context: dict[str, Any] = {
            "by": by,
            "groupings": GROUPINGS,
            "words": words,
            "key": key,
            "groups": groups,
            "rows": rows,
            "few": 600 if key else 12,  # before the rest of a group is asked for
            "state": state,
            "before": before,
            "why_closed": self.room.why_closed,
            "layer": self.room.layer,
            "pages": self._pages(self.room.layer),
        }
        return render(request, "errors.html", title="Errors", **context)

    async def one(self, request: Request) -> Response:
        """Shows one image: the two classes, and which units spoke for which."""
        self.room.begin()
        i = self._image(request)
        layer = self._layer(request)
        known = self.room.explained(layer).get(i)
        state = self.state()
        row = await run_in_threadpool(self.row, i)
        if row is None:
            return render(request, "error_image.html", title="Errors", row=None, file=self._name(i), state=state)
        errors = [int(j) for j in self.room.errors()]
        beside: dict[str, int | None] = {"before": None, "after": None}
        if i in errors:
            at = errors.index(i)
            beside = {"before": ([None, *errors])[at], "after": ([*errors, None])[at + 1]}
        units = None if known is None else await self._units(i, layer, known)
        context: dict[str, Any] = {
            "row": row,
            "top": self._top(i),
            "layer": layer,
            "layers": await self._layers(layer),
            "pages": await run_in_threadpool(self._pages, layer),
            "units": units,
            "boxes": _boxes(units or []),
            "known": known,
            "why_closed": self.room.why_closed,
            "size": self.room.study.resolution,
            "means_n": self._means_n(layer),
            "correcting": 0 if known is None else int(known.corrects.sum()),
            "target_name": self.room.study.classes[int(self.room.study.targets[i])],
            "state": self.state(),
            **beside,
        }
        return render(request, "error_image.html", title=f"{row['target']} as {row['answer']}", **context)

    # pictures

    async def picture(self, request: Request) -> Response:
        """Sends a labelled image as the subject is shown it, at most so large."""
        i = self._image(request)
        size = whole(request, "size", 160, 16, 1024)
        async with self._decoding:
            return await run_in_threadpool(self._jpeg, i, None, size)

    async def crop(self, request: Request) -> Response:
        """Sends the part of an image that a unit answers most."""
        i, layer = self._image(request), self._layer(request)
        unit = self._unit(request, layer)
        box = await self.room.ask(("errors", "crop", i, unit, layer), lambda: self.room.looked(layer).box(i, unit))
        async with self._decoding:
            return await run_in_threadpool(self._jpeg, i, box, 160)

    def _jpeg(self, i: int, box: tuple[int, int, int, int] | None, size: int) -> Response:
        pixels = read_image(self.room.study.images.paths[i], self.room.study.resolution).transpose(1, 2, 0)
        if box is not None:
            pixels = pixels[box[0] : box[2], box[1] : box[3]]
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        if picture.width != size:
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        content = encode_jpeg(picture, 85)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    # data

    async def status(self, request: Request) -> Response:
        """Says how far it is."""
        self.room.begin()
        return JSONResponse(self.state())

    async def explain_all(self, request: Request) -> Response:
        """Begins to explain all errors, in the background."""
        if not self.room.layer:
            raise RequestError(f"errors: {self.room.why_closed}; its errors are not explained.")
        self.room.asked, self.room.trouble = True, ""
        self.room.begin()
        return JSONResponse(self.state())

    async def explain_one(self, request: Request) -> Response:
        """Explains one image by the units of a layer."""
        i, layer = self._image(request), self._layer(request)
        if self.room.why_closed:
            raise RequestError(f"errors: {self.room.why_closed}; its errors are not explained.")
        found = await self.room.explanation(i, layer)
        return JSONResponse({"image": i, "layer": layer, "difference": found.difference})

    async def export(self, request: Request) -> Response:
        """Sends a group as a ZIP: ``images/`` and ``group.csv`` with path, label, predicted and group."""
        by = choice(request, "by", list(GROUPINGS))
        key = text(request, "group", "")
        every = await run_in_threadpool(self.groups, by, text(request, "q", ""))
        groups = [group for group in every if key in ("", group.key)]
        if not groups:
            raise absent(f"group: there is no group {key!r} of {by}; go back to /errors.")
        file = await run_in_threadpool(self._zip, groups)
        name = f"errors-{by}-{key}.zip" if key else f"errors-{by}.zip"
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Length": str(file.seek(0, 2)),
        }
        return StreamingResponse(_parts(file), media_type="application/zip", headers=headers)

    def _zip(self, groups: Sequence[Group]) -> IO[bytes]:
        """Writes groups into a file without a name, which is gone when it is closed, whoever stops in between.

        It is sent only when it is complete.
        """
        rows = {row["number"]: row for row in self.rows()}
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("path", "label", "predicted", "group"))
        file: IO[bytes] = tempfile.TemporaryFile(prefix="closedloop-")  # noqa: SIM115 - it is sent first
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for group in groups:
                    for i in group.members:
                        inside = f"images/{self._name(i)}"
                        archive.write(self.room.study.images.paths[i], inside)
                        writer.writerow((inside, rows[i]["target"], rows[i]["answer"], group.title))
                archive.writestr("group.csv", table.getvalue())
        except BaseException:
            file.close()
            raise
        return file

    def state(self) -> dict[str, Any]:
        """Returns how far survey and explanations are."""
        room = self.room
        explained = len(room.explained())
        return {
            "done": room.done,
            "of": len(room.study.images),
            "errors": len(room.errors()),
            "explained": explained,
            "waiting": len(room.waiting()),
            "trouble": room.trouble,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Returns what the page says of each error: the surest first."""
        found = self.room.found()
        rows = [self._row(found, int(at)) for at in np.flatnonzero(found["wrong"].values)]
        return sorted(rows, key=lambda row: -row["confidence"])

    def row(self, i: int) -> dict[str, Any] | None:
        """Returns what the page says of one image; None where it was not answered yet."""
        found = self.room.found()
        at = np.flatnonzero(found["image"].values == self._name(i))
        return self._row(found, int(at[0])) if len(at) else None

    def _row(self, found: xr.Dataset, at: int) -> dict[str, Any]:
        name = str(found["image"].values[at])
        number = self._numbers[name]
        why = self.room.explained().get(number)
        return {
            "number": number,
            "name": name,
            "target": str(found["target_name"].values[at]),
            "answer": str(found["answer_name"].values[at]),
            **{
                key: float(found[key].values[at])
                for key in ("confidence", "target_confidence", "answer_output", "target_output")
            },
            "pair": (int(found["target"].values[at]), int(found["answer"].values[at])),
            "rank": int(found["rank"].values[at]),
            "wrong": bool(found["wrong"].values[at]),
            "corrected": None if why is None else int(why.corrects.sum()),
        }

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The number of each image by its name."""
        return {name: i for i, name in enumerate(self.room.study.images.ids)}

    def groups(self, by: str, words: str = "") -> list[Group]:
        """Groups the errors in which some words stand."""
        wanted = words.casefold()
        rows = [row for row in self.rows() if wanted in f"{row['target']} {row['answer']} {row['name']}".casefold()]
        if by == "confusion":
            return _confused(rows, self.room.found())
        if by == "confidence":
            return _banded(rows)
        if by == "class":
            return _by_class(rows)
        return self._clustered(rows)

    def _clustered(self, rows: Sequence[dict[str, Any]]) -> list[Group]:
        """Groups errors by the units that drove them; those that are not explained yet are left out."""
        if not self.room.explained():
            return []
        found = error_clusters(self.room.recording())
        cluster = dict(zip(map(str, found["image"].values), found["cluster"].values.tolist(), strict=True))
        groups = []
        for number, units in zip(found["group"].values.tolist(), found["units"].values.tolist(), strict=True):
            own = [row["number"] for row in rows if cluster.get(row["name"]) == number]
            title = "Units " + ", ".join(map(str, units))
            groups.append(Group(str(number), title, f"of {self.room.layer}", own, units))
        alone = [row["number"] for row in rows if cluster.get(row["name"]) == 0]
        groups.append(Group("alone", "Driven by units of their own", "no other error is like it", alone))
        return [group for group in groups if group.members]

    def _top(self, i: int) -> list[dict[str, Any]]:
        outputs = self.room.outputs(i)
        shares = confidences(outputs[None])[0]
        target = int(self.room.study.targets[i])
        order = [int(c) for c in np.argsort(-outputs, kind="stable")[:5]]
        order += [] if target in order else [target]
        classes = self.room.study.classes
        return [
            {
                "name": classes[c],
                "output": float(outputs[c]),
                "share": float(shares[c]),
                "rank": 1 + int((outputs > outputs[c]).sum()),
                "true": c == target,
            }
            for c in order
        ]

    async def _units(self, i: int, layer: str, known: Explanation) -> list[dict[str, Any]]:
        """Returns the units whose ablation lowers wrong against right most, with what they look like."""
        order = [int(u) for u in np.argsort(-known.effect, kind="stable")[:6]]
        looked = self.room.looked(layer)
        boxes, best = await self.room.ask(
            ("errors", "units", i, layer),
            lambda: ([looked.box(i, unit) for unit in order], [looked.best(unit, i) for unit in order]),
        )
        wanted = await run_in_threadpool(self._wanted, layer, order)
        classes = self.room.study.classes
        largest = max(float(np.abs(known.effect[order]).max()), 1e-9)
        return [
            {
                "unit": unit,
                "wrong": float(known.attribution_wrong[unit]),
                "right": float(known.attribution_right[unit]),
                "effect": float(known.effect[unit]),
                "share": float(known.effect[unit]) / largest,
                "after": classes[int(known.ablated_answer[unit])],
                "corrects": bool(known.corrects[unit]),
                "box": box,
                "best": others,
                "wants": data_uri(wanted[unit], 192) if unit in wanted else "",
            }
            for unit, box, others in zip(order, boxes, best, strict=True)
        ]

    def _wanted(self, layer: str, units: Sequence[int]) -> Mapping[int, NDArray[np.uint8]]:
        """Returns what units want to see; nothing where the atlas is damaged, which its own pages say."""
        try:
            return preferred(self.shown, layer, units)
        except ClosedLoopError:
            return {}

    def _pages(self, layer: str) -> Mapping[int, str]:
        """Returns the addresses of the unit pages that there are; none where the atlas is damaged."""
        try:
            return unit_addresses(self.shown, layer)
        except ClosedLoopError:
            return {}

    async def _layers(self, layer: str) -> list[str]:
        """Returns the layers that one can choose; one that is not listed stands first where it is shown."""
        known = await self.room.ask(("errors", "layers"), lambda: self.room.layers)
        return [*([] if layer in known else [layer]), *known]

    # what was asked

    def _image(self, request: Request) -> int:
        i = int(request.path_params["image"])
        if i >= len(self.room.study.images):
            raise absent(f"image: expected a number below {len(self.room.study.images)}, got {str(i)[:20]}.")
        return i

    def _name(self, i: int) -> str:
        return self.room.study.images.ids[i]

    def _layer(self, request: Request) -> str:
        return text(request, "layer", "") or self.room.layer

    def _unit(self, request: Request, layer: str) -> int:
        unit = int(request.path_params["unit"])
        looked = self.room.known_layer(layer)
        if looked is None:
            raise absent(f"layer: nothing is known of {layer!r:.80} yet; explain an image by it first.")
        channels = looked.opened.channels
        if unit >= channels:
            raise absent(f"unit: expected a number below {channels}, got {str(unit)[:20]}.")
        return unit

    def _means_n(self, layer: str) -> int:
        looked = self.room.known_layer(layer)
        return 0 if looked is None else looked.means.count


def _boxes(units: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[int, int, int, int], str]]:
    """Returns where the first units answer most, and which do so there: several of one box are named together."""
    found: dict[tuple[int, int, int, int], list[str]] = {}
    for unit in units[:3]:  # of which a box is drawn
        found.setdefault(tuple(unit["box"]), []).append(str(unit["unit"]))
    return [(box, ", ".join(names)) for box, names in found.items()]


def _confused(rows: Sequence[dict[str, Any]], found: xr.Dataset) -> list[Group]:
    """Groups by pair, the most frequent first; pairs that happened once stand together."""
    pairs: dict[tuple[int, int], list[int]] = {}  # by number: two classes may be called the same, as cranes are
    for row in rows:
        pairs.setdefault(row["pair"], []).append(row["number"])
    names = [row["name"] for row in rows]
    told = confusions(found.isel(image=np.isin(found["image"].values, names)))
    groups, once = [], []
    columns = [told[name].values.tolist() for name in ("target", "answer", "target_name", "answer_name")]
    more = [told[name].values.tolist() for name in ("count", "confidence", "back")]
    for i, j, target, answer, count, sure, back in zip(*columns, *more, strict=True):
        members = pairs[i, j]
        if count == 1:
            once += members
            continue
        note = f"mean confidence {sure:.2f}" + (f", {back} the other way round" if back else "")
        groups.append(Group(f"{members[0]}", f"{target} → {answer}", note, members))
    title = "Pairs that were confused once" if groups else "Every confusion happened once"
    return [*groups, *([Group("once", title, "the surest first", once)] if once else [])]


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    """Gives a file in parts from its beginning, and closes it; also where nobody takes the rest."""
    with file:
        file.seek(0)
        while part := file.read(_PART):
            yield part


def _banded(rows: Sequence[dict[str, Any]]) -> list[Group]:
    groups, above = [], 2.0
    for low, title in BANDS:
        own = [row["number"] for row in rows if low <= row["confidence"] < above]
        groups.append(Group(f"{low:g}", f"Confidence {title}", "", own))
        above = low
    return [group for group in groups if group.members]


def _by_class(rows: Sequence[dict[str, Any]]) -> list[Group]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["pair"][0], []).append(row)
    order = sorted(found.values(), key=lambda own: (-len(own), own[0]["target"]))
    return [
        Group(str(min(row["number"] for row in own)), own[0]["target"], "", [row["number"] for row in own])
        for own in order
    ]
