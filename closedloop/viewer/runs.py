"""The browser of runs, and each of them, while another process writes it or afterwards."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from closedloop.analysis.catalogue import COLUMNS, Wanted, found
from closedloop.analysis.run_index import RUN_STATES, RunIndex, run_id, runs_within
from closedloop.errors import ClosedLoopError
from closedloop.loop.ending import request_end
from closedloop.loop.protocol import protocol_name
from closedloop.recording.reader import read_experiment
from closedloop.report import build_report
from closedloop.viewer.asked import RequestError, absent, body_json, choice, text, whole
from closedloop.viewer.jobs import ENTRIES, Jobs
from closedloop.viewer.live import Follower
from closedloop.viewer.pages import render
from closedloop.viewer.runs_words import row_words, thumbnail
from closedloop.viewer.shown import Shown

#: Rows of a page; runs that are followed at the same time; pictures that are kept; runs on one axis.
PAGE, FOLLOWED, PICTURES, COMPARED = 50, 32, 2000, 12
#: A report holds its own styles and pictures, and no script; it can neither load nor reach anything.
_REPORT = "sandbox; default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'"


@final
class Runs:
    """The folder of runs of a viewer, and what is known of it; any thread may ask.

    Args:
        folder: The folder of runs, or of one run; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index: RunIndex | None = None
        self._looked, self._guard, self._looking = -1e9, threading.Lock(), threading.Lock()
        self._followers: OrderedDict[str, Follower] = OrderedDict()
        self._drawing = threading.Lock()
        self._pictures: OrderedDict[tuple[str, tuple[int, int], str, bool, int], bytes] = OrderedDict()

    def index(self, now: bool = False) -> RunIndex | None:
        """Returns the index, looked at within the last seconds; None while there is no folder.

        Args:
            now: Whether it must be looked at now.
        """
        with self._guard:
            if self._index is None and self.folder.is_dir():
                self._index = RunIndex(self.folder)
        if self._index is not None and self._looking.acquire(blocking=now or self._looked < 0):
            try:
                if now or time.monotonic() - self._looked > 2.0:  # seconds between two looks at the folder
                    self._index.refresh(seconds=0.5)  # that one look may take to open runs without a summary
                    self._looked = time.monotonic()
            finally:
                self._looking.release()
        return self._index

    def rows(self, wanted: Wanted) -> tuple[list[dict[str, Any]], int]:
        """Returns rows of the catalogue, and how many there are."""
        index = self.index()
        return ([], 0) if index is None else found(index, wanted)

    def rows_of(self, identity: str, state: str = "") -> list[dict[str, Any]]:
        """Returns the rows of one run.

        Args:
            identity: The run's id.
            state: Where the run is known to stand; rows that say otherwise are older, and looked up anew.
        """
        wanted = Wanted(where=[f"id={identity}"])
        rows, _ = self.rows(wanted)
        if state and any(row["state"] != state for row in rows):
            self.index(now=True)
            rows, _ = self.rows(wanted)
        return rows

    def counts(self) -> dict[str, int]:
        """Returns how many runs there are in each state."""
        index = self.index()
        told = [] if index is None else index.rows("SELECT state, count(*) AS n FROM runs GROUP BY state")
        return dict.fromkeys(RUN_STATES, 0) | {row["state"]: row["n"] for row in told}

    def path_of(self, identity: str) -> Path:
        """Returns where a run is.

        Args:
            identity: The run's id; of one that lies within another run, that one's id, a dot, and the id of its path
                within that.

        Raises:
            RequestError: There is no such run in the folder; status 404.
        """
        outer, dot, inner = identity.partition(".")
        path = self._outer(outer)
        if path is not None and dot:
            path = next((path / name for name in runs_within(path) if run_id(name) == inner), None)
        if path is None:
            raise absent(
                f"run: there is no run {identity[:40]!r} in {self.folder.name}; it may have been moved or removed."
            )
        return path

    def _outer(self, identity: str) -> Path | None:
        """Returns where a run of the index is; None for none."""
        index = self.index()
        path = None if index is None else index.path_of(identity)
        if path is None and index is not None:
            path = index.path_of(identity) if self.index(now=True) else None
        return path

    def within(self, identity: str) -> list[dict[str, str]]:
        """Returns the runs that a run holds in its folder: their ids, paths within it, and protocols."""
        outer, _, inner = identity.partition(".")
        path = self._outer(outer)
        if path is None or not path.is_dir():
            return []
        names = runs_within(path)
        own = next((name + "/" for name in names if inner and run_id(name) == inner), "")
        return [
            {"id": f"{outer}.{run_id(name)}", "name": name.removeprefix(own), "protocol": _protocol_in(path / name)}
            for name in names
            if name.startswith(own) and name != own
        ]

    def follower(self, identity: str) -> Follower:
        """Returns who follows a run."""
        path = self.path_of(identity)
        with self._guard:
            known = self._followers.pop(identity, None) or Follower(path)
            self._followers[identity] = known
            while len(self._followers) > FOLLOWED:
                self._followers.popitem(last=False)
        return known

    def known_picture(self, identity: str, name: str, reference: bool, size: int) -> bytes | None:
        """Returns a picture that was made before, at once."""
        return self._pictures.get((identity, self.follower(identity).born, name, reference, size))

    def picture(self, identity: str, name: str, reference: bool, size: int) -> bytes:
        """Returns a picture of a run as JPEG, at most so many pixels wide and high.

        Raises:
            RequestError: There is none; status 404.
        """
        follower = self.follower(identity)
        key = (identity, follower.born, name, reference, size)
        found = self._pictures.get(key)
        if found is None:
            with self._drawing:  # others that wait for the same generation find it made
                found = self._pictures.get(key) or self._made(follower, key)
        if found is None:
            raise absent(f"picture: this run has no picture {name[:60]!r}: {follower.missing() or 'unknown name'}.")
        return found

    def _made(self, follower: Follower, key: tuple[str, tuple[int, int], str, bool, int]) -> bytes | None:
        """Makes a picture, and those of the same generation beside it."""
        identity, born, name, reference, size = key
        names = [name] if reference else follower.generation_of(name)[:24]  # made together
        for one, picture in zip(names, follower.pictures(names, reference), strict=True):
            if picture is not None:
                self._pictures[identity, born, one, reference, size] = thumbnail(picture, size)
        found = self._pictures.get(key)
        while len(self._pictures) > PICTURES:
            self._pictures.popitem(last=False)
        return found


def routes(shown: Shown) -> list[BaseRoute]:
    """Returns the routes of the browser of runs; none where neither runs nor a subject were given."""
    if shown.runs is None and shown.subject is None:
        return []
    folder = Path.cwd() / "runs" if shown.runs is None else shown.runs
    runs = Runs(folder)
    pages = _RunPages(runs, Jobs(shown.subject, folder))
    return [
        Route("/runs", pages.browser),
        Route("/runs/compare", pages.comparison),
        Route("/runs/{id}", pages.page),
        Route("/runs/{id}/report", pages.report),
        Route("/api/runs", pages.listed),
        Route("/api/runs/compare", pages.compared),
        Route("/api/runs/{id}/live", pages.live),
        Route("/api/runs/{id}/cautions", pages.cautions),
        Route("/api/runs/{id}/events", pages.events),
        Route("/api/runs/{id}/end", pages.end, methods=["POST"]),
        Route("/api/runs/{id}/pictures/{name}.jpg", pages.picture),
        Route("/api/runs/{id}/drawings/{file}", pages.drawing),
        Route("/api/jobs", pages.jobs_listed, methods=["GET"]),
        Route("/api/jobs", pages.start, methods=["POST"]),
        Route("/api/jobs/{number:int}", pages.job),
        Route("/api/jobs/{number:int}/cancel", pages.cancel, methods=["POST"]),
    ]


@final
class _RunPages:
    """Answers requests about runs; whatever reads the disk does so in a thread."""

    def __init__(self, runs: Runs, jobs: Jobs) -> None:
        self._runs, self._jobs = runs, jobs
        self._drawing = asyncio.Lock()  # many pictures that are made again one by one must not take all threads

    async def listed(self, request: Request) -> Response:
        """Sends a page of the catalogue as JSON."""
        return JSONResponse(await run_in_threadpool(self._listed, request))

    def _listed(self, request: Request) -> dict[str, Any]:
        wanted = _wanted(request)
        rows, total = self._runs.rows(wanted)
        told = [row_words(row) for row in rows]
        return {"total": total, "offset": wanted.offset, "limit": PAGE, "states": self._runs.counts(), "rows": told}

    async def browser(self, request: Request) -> Response:
        """Shows the browser of runs."""
        answer = await run_in_threadpool(self._listed, request)
        asked = {name: request.query_params.get(name, "") for name in ("q", "state", "where", "sort")}
        asked["sort"] = asked["sort"] or "-when"
        context: dict[str, Any] = {
            **answer,
            "folder": self._runs.folder.name,
            "asked": asked,
            "page": 1 + answer["offset"] // PAGE,
            "pages": max(1, -(-answer["total"] // PAGE)),
            "jobs": self._jobs.all(),
        }
        return render(request, "runs.html", title="Runs", **context)

    async def page(self, request: Request) -> Response:
        """Shows one run."""
        identity = request.path_params["id"]
        job = self._jobs.of_run(identity)
        if job is not None and not job.plain()["begun"]:
            return render(request, "run_waiting.html", title=job.title, job=job.plain())
        facts = await run_in_threadpool(self._facts, identity)
        return render(request, "run.html", title=facts["called"], id=identity, **facts)

    def _facts(self, identity: str) -> dict[str, Any]:
        path = self._runs.path_of(identity)
        content = read_experiment(path)
        problem = ""
        try:
            snapshot = self._runs.follower(identity).snapshot(since=2**31)
        except ClosedLoopError as error:
            snapshot, problem = {"state": "interrupted", "presentations": 0, "reason": ""}, str(error)
        told = {"protocol": protocol_name(content), "called": path.name, "place": str(path)}
        rows = self._runs.rows_of(identity, snapshot["state"])
        follower = None if problem else self._runs.follower(identity)
        return {
            **told,
            "problem": problem,
            "shown_to": rows[0]["subject"] if rows else follower.subject if follower is not None else "",
            "question": "" if follower is None else follower.question(),
            "tables": [] if follower is None else follower.tables(),
            "lines": [] if follower is None else follower.lines(),
            "drawings": [] if follower is None else follower.drawings(),
            "within": self._runs.within(identity),
            "outer": self._outer_of(identity),
            "snapshot": snapshot,
            "rows": [row_words(row) for row in rows],
        }

    def _outer_of(self, identity: str) -> dict[str, str] | None:
        """Returns id and name of the run that a run lies within; None for one that lies in the folder itself."""
        outer, dot, _ = identity.partition(".")
        return {"id": outer, "name": self._runs.path_of(outer).name} if dot else None

    async def comparison(self, request: Request) -> Response:
        """Shows several runs on one axis."""
        names = await run_in_threadpool(self._names, _ids(request))
        return render(request, "runs_compare.html", title="Runs compared", runs=names)

    def _names(self, ids: list[str]) -> list[tuple[str, str]]:
        """Returns what runs are called by id; one that is gone has none.

        Raises:
            RequestError: All of them are gone; status 404.
        """
        found = []
        for identity in ids:
            try:
                found.append((identity, self._runs.path_of(identity).name))
            except RequestError:
                found.append((identity, ""))
        if not any(name for _, name in found):
            self._runs.path_of(ids[0])  # says so
        return found

    async def compared(self, request: Request) -> Response:
        """Sends the curves of several runs as JSON."""
        return JSONResponse(await run_in_threadpool(self._compared, _ids(request)))

    def _compared(self, ids: list[str]) -> dict[str, Any]:
        return {"runs": [self._of_several(identity, name) for identity, name in self._names(ids)]}

    def _of_several(self, identity: str, name: str) -> dict[str, Any]:
        """Returns the curves of one of several runs; of one that cannot be read why, so that the others are shown."""
        told = {"id": identity, "name": name or identity}
        try:
            curves = self._runs.follower(identity).curves()
            rows = self._runs.rows_of(identity, curves["state"])
        except (ClosedLoopError, OSError) as error:
            return {**told, "state": "", "threads": [], "findings": [], "problem": str(error)}
        findings = [row_words(row) for row in rows if row["evolved"] is not None]
        return {**told, **curves, "findings": findings, "problem": ""}

    async def report(self, request: Request) -> Response:
        """Sends the report of a run; it is a page of its own, and may do nothing."""
        path = await run_in_threadpool(self._runs.path_of, request.path_params["id"])
        page = await run_in_threadpool(build_report, [path], f"{path.name}.html")
        return HTMLResponse(page, headers={"Content-Security-Policy": _REPORT})

    async def live(self, request: Request) -> Response:
        """Says where a run stands, as JSON."""
        since = whole(request, "since", -2, -2, 2**31)
        follower = await run_in_threadpool(self._runs.follower, request.path_params["id"])
        return JSONResponse(await run_in_threadpool(follower.snapshot, since))

    async def cautions(self, request: Request) -> Response:
        """Says what makes a run's numbers less than they seem, as JSON."""
        follower = await run_in_threadpool(self._runs.follower, request.path_params["id"])
        return JSONResponse(await run_in_threadpool(follower.cautions))

    async def events(self, request: Request) -> Response:
        """Sends the same as a stream, with every commit until the run is over."""
        since = whole(request, "since", -2, -2, 2**31)
        follower = await run_in_threadpool(self._runs.follower, request.path_params["id"])
        return StreamingResponse(_stream(follower, since), media_type="text/event-stream")

    async def end(self, request: Request) -> Response:
        """Asks a run to end after the generation under way."""
        path = await run_in_threadpool(self._runs.path_of, request.path_params["id"])
        await run_in_threadpool(request_end, path)
        return JSONResponse({"asked": True}, 202)

    async def picture(self, request: Request) -> Response:
        """Sends a picture of a run."""
        size = whole(request, "size", 224, 16, 1024)
        reference = choice(request, "kind", ("evolved", "reference")) == "reference"
        asked = (request.path_params["id"], request.path_params["name"], reference, size)
        data = self._runs.known_picture(*asked)
        if data is None:
            async with self._drawing:
                data = await run_in_threadpool(self._runs.picture, *asked)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=60"})

    async def drawing(self, request: Request) -> Response:
        """Sends a movie or a figure of a run, of what is committed."""
        follower = await run_in_threadpool(self._runs.follower, request.path_params["id"])
        file = request.path_params["file"]
        data = await run_in_threadpool(follower.drawing, file)
        if data is None:
            raise absent(f"drawing: this run has none called {file[:60]!r}.")
        kind = "image/webp" if file.endswith(".webp") else "image/png"
        return Response(data, media_type=kind, headers={"Cache-Control": "private, no-cache"})

    async def jobs_listed(self, request: Request) -> Response:
        """Lists all jobs."""
        return JSONResponse(self._jobs.all())

    async def start(self, request: Request) -> Response:
        """Starts a run."""
        asked = await body_json(request, ENTRIES)
        job = await run_in_threadpool(self._jobs.start, asked)
        return JSONResponse(job.plain(), 202)

    async def job(self, request: Request) -> Response:
        """Says where one job stands."""
        return JSONResponse(self._jobs.find(request.path_params["number"]).plain())

    async def cancel(self, request: Request) -> Response:
        """Interrupts a job."""
        job = self._jobs.find(request.path_params["number"])
        await run_in_threadpool(self._jobs.cancel, job)
        return JSONResponse(job.plain())


def _protocol_in(run: Path) -> str:
    """Returns the protocol of a run; "" where it cannot be read."""
    try:
        return protocol_name(read_experiment(run))
    except ClosedLoopError:
        return ""


async def _stream(follower: Follower, since: int) -> AsyncIterator[str]:
    """Events for a browser: a snapshot with each change, and a word now and then where nothing changes."""
    before, said = "", time.monotonic()
    while True:
        try:
            snapshot = await run_in_threadpool(follower.snapshot, since)
        except ClosedLoopError as error:
            yield f"event: problem\ndata: {json.dumps({'error': str(error)})}\n\n"
            return
        now = json.dumps([*(snapshot[name] for name in ("state", "commits", "asked_to_end")), snapshot["notices"][:1]])
        if now != before:
            yield f"data: {json.dumps(snapshot)}\n\n"
            before, said = now, time.monotonic()
            since = max([since, *(t["generation"][-1] for t in snapshot["threads"] if t["generation"])])
            since = max([since, *snapshot["references"]["generation"][-1:]])
        elif time.monotonic() - said > 10.0:  # a silent stream says that it is there
            yield ": still here\n\n"
            said = time.monotonic()
        if snapshot["state"] in ("finished", "stopped"):
            return
        await asyncio.sleep(0.5)


def _wanted(request: Request) -> Wanted:
    """Returns what a request asks of the catalogue: ``q``, ``state``, ``where`` (several), ``sort`` and ``page``."""
    where = [_condition(value) for value in request.query_params.getlist("where")[:8] if value.strip()]
    state = choice(request, "state", ("", *RUN_STATES))
    sort = text(request, "sort", "-when", 40) or "-when"
    if sort.removeprefix("-") not in COLUMNS:
        raise RequestError(f"sort: a catalogue has no column {sort.removeprefix('-')!r}.")
    page = whole(request, "page", 1, 1, 10**7)
    return Wanted(
        words=text(request, "q", ""),
        where=[*where, *([f"state={state}"] if state else [])],
        sort=sort.removeprefix("-"),
        descending=sort.startswith("-"),
        limit=PAGE,
        offset=(page - 1) * PAGE,
    )


def _condition(value: str) -> str:
    if len(value) > 200 or not value.isprintable():
        raise RequestError(f"where: expected at most 200 printable characters, got {value[:40]!r}.")
    return value


def _ids(request: Request) -> list[str]:
    """Returns the ids in ``ids=a,b,c``."""
    ids = list(dict.fromkeys(part for part in text(request, "ids", most=17 * COMPARED).split(",") if part))
    if not 1 <= len(ids) <= COMPARED:
        raise RequestError(f"ids: expected 1 to {COMPARED} runs, got {len(ids)}.")
    return ids
