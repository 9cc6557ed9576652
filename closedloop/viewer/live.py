"""Follows a run while another process writes it: what is committed, as numbers for a page, read once and kept.

A reader sees nothing but what ``COMMITTED.json`` names, so a run can be looked at between any two writes, and after its
process was killed. An open store never sees what was written later; so it is opened again when the pointer has changed,
and of its rows only the new ones are read.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.quality import cautions
from closedloop.analysis.summary import fact_of, is_evolution, single_scores, target_name, thread_objectives
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.loop.ending import EndRequest, run_state
from closedloop.loop.protocol import RunProtocol, RunSummary, shown_protocol
from closedloop.objectives import parse_objective
from closedloop.recording.layout import EVOLUTION, EXPERIMENT, POINTER, REFERENCE
from closedloop.recording.notes import Note, notes_size, read_notes
from closedloop.recording.pictures import Pictures
from closedloop.recording.places import is_packed
from closedloop.recording.reader import open_recording, read_experiment, read_pointer
from closedloop.recording.summaries import finite
from closedloop.viewer.curves import Baseline, Curve
from closedloop.viewer.runs_words import told_words

#: Seconds of which the speed of a run is taken, and for which its pictures stay open.
_RECENT_S, _PICTURES_S = 60.0, 30.0
#: Kinds of presentations that are no evolution.
_OTHER = ("reference", "retest")


@final
class Follower:
    """What is known of one run; any thread may ask.

    Args:
        path: The run's folder, or the file it was packed into.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.born: tuple[int, int] = _born(path)
        self._guard, self._pen = threading.RLock(), threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """Begins anew, as if nothing had been read."""
        self._pointer: Mapping[str, Any] = {}
        self._content: Mapping[str, Any] = {}
        self._ran: RunProtocol | None = None
        self._recording: xr.Dataset | None = None
        self._pictures: Pictures | None = None
        self._newer, self._opened = False, 0.0
        self._curves: dict[str, Curve] = {}
        self._baseline = Baseline()
        self._rows, self._last = 0, {"generation": -1, "kind": ""}
        self._pace: list[tuple[float, int]] = []
        self._made: tuple[int, RunSummary] | None = None
        self._drawn: dict[str, bytes] = {}
        self._notes: tuple[int, list[Note]] | None = None

    @property
    def commits(self) -> int:
        """How many blocks were committed when it was looked at last."""
        return int(self._pointer.get("n_generations", 0))

    def look(self) -> bool:
        """Looks at the run again; returns whether anything was committed since.

        Raises:
            RecordingError: The run is damaged, or of a newer version.
        """
        with self._guard:
            if (born := _born(self.path)) != self.born:  # another run took its place
                self._forget()
                self.born = born
            if not self._content:
                self._content = read_experiment(self.path)
            if not _is_committed(self.path):
                return False
            pointer = read_pointer(self.path)
            if pointer == self._pointer:
                return False
            recording = open_recording(self.path)
            if recording.sizes["presentation"] < self._rows:  # another run took its place
                self._forget()
                return self.look()
            self._pointer, self._recording, self._newer = pointer, recording, True
            try:
                self._read(recording)
            except BaseException:  # what was read of it in part would be read twice
                self._forget()
                raise
            return True

    def _read(self, recording: xr.Dataset) -> None:
        """Reads the rows that are new."""
        start, stop = self._rows, recording.sizes["presentation"]
        self._pace = [*(p for p in self._pace if p[0] > self._pointer["elapsed_s"] - _RECENT_S), self._now(stop)]
        if start == stop:
            return
        new = recording.isel(presentation=slice(start, stop))
        columns = {name: new[name].values for name in ("generation", "kind", "thread", "stimulus_id", "score")}
        for generation in np.unique(columns["generation"]):
            rows = np.flatnonzero(columns["generation"] == generation)
            self._read_block(recording, int(generation), rows, columns, start)
        self._rows = stop
        self._last = {"generation": int(columns["generation"][-1]), "kind": str(columns["kind"][-1])}

    def _now(self, rows: int) -> tuple[float, int]:
        return float(self._pointer["elapsed_s"]), rows

    def _read_block(
        self,
        recording: xr.Dataset,
        generation: int,
        rows: NDArray[np.intp],
        columns: Mapping[str, NDArray[Any]],
        start: int,
    ) -> None:
        """Adds one block: its evolved images to the threads' curves, its references to the baseline."""
        threads, kinds, ids = (columns[name][rows] for name in ("thread", "kind", "stimulus_id"))
        evolved = ~np.isin(kinds, _OTHER) & ~np.isnan(columns["score"][rows])
        for name in dict.fromkeys(threads[evolved | (kinds == "evolved")].tolist()):
            own = (threads == name) & ~np.isin(kinds, _OTHER)
            curve = self._curves.setdefault(name, _curve(recording, name))
            curve.add(generation, ids[own], columns["score"][rows][own])
        shown = (threads == REFERENCE) & (kinds == "reference")
        if shown.any() and is_evolution(recording):
            self._baseline.add(generation, ids[shown], _reference_scores(recording, start + rows[shown]))

    def snapshot(self, since: int = -2) -> dict[str, Any]:
        """Returns what a page shows, in plain values; of the curves only what is later than a generation.

        Args:
            since: The last generation that the page knows.

        Raises:
            RecordingError: The run is damaged, or of a newer version.
        """
        self.look()
        with self._guard:
            state = run_state(self.path, self._pointer)
            threads = [self._thread(curve, since) for curve in self._curves.values()]
            told = {
                "state": state,
                "reason": str(self._pointer.get("reason", "")),
                "commits": self.commits,
                "presentations": int(self._pointer.get("n_presentations", 0)),
                "elapsed_s": float(self._pointer.get("elapsed_s", 0)),
                **self._last,
                **self._progress(state),
                **self._ending(state),
                "threads": threads,
                "references": self._baseline.since(since),
                "notices": told_words(self._told(), state == "running"),
            }
        return dict(finite(told))

    def _told(self) -> list[Note]:
        """Returns what a person was told while it went on, read again where that has grown."""
        size = notes_size(self.path)
        if self._notes is None or self._notes[0] != size:
            self._notes = (size, read_notes(self.path))
        return self._notes[1]

    def _thread(self, curve: Curve, since: int) -> dict[str, Any]:
        new = curve.since(since)
        population = [{"id": name, "score": score} for name, score in curve.population] if new["generation"] else None
        facts = {"name": curve.name, "objective": curve.objective, "target": curve.target}
        return {**facts, **new, "population": population}

    def _progress(self, state: str) -> dict[str, Any]:
        """Returns how many evolved images were shown of how many, how fast, and how long it still takes."""
        images = self._protocol.budget(self._content)
        threads = 1 if self._recording is None else max(self._recording.sizes.get(EVOLUTION, 1), 1)
        done = sum(curve.columns["images"][-1] for curve in self._curves.values() if curve.columns["images"])
        total = images * threads if isinstance(images, int) else None
        rate = self._rate()
        going = state == "running" and total is not None and rate > 0 and self._last["kind"] != "retest"
        left = (total - done) / rate if going and total is not None else None
        return {"done": done, "total": total, "per_s": rate or None, "left_s": left}

    def _rate(self) -> float:
        """Presentations in a second, of late."""
        if len(self._pace) < 2:
            elapsed, rows = self._pace[0] if self._pace else (0.0, 0)
        else:
            elapsed, rows = self._pace[-1][0] - self._pace[0][0], self._pace[-1][1] - self._pace[0][1]
        return rows / elapsed if elapsed > 0 else 0.0

    def _ending(self, state: str) -> dict[str, Any]:
        """Returns whether the run can be asked to end, and whether it was."""
        can = state == "running" and self._protocol.ends
        return {"can_end": can, "asked_to_end": can and EndRequest(self.path)()}

    @property
    def _protocol(self) -> RunProtocol:
        """What the run's protocol says of it; it is looked for once."""
        ran = self._ran or shown_protocol(self._content, str(self.path))
        self._ran = ran if self._content else None
        return ran

    def cautions(self) -> list[dict[str, Any]]:
        """Returns what makes the numbers less than they seem: sentences, and whether each is serious.

        That takes longer than a snapshot, above all at the end, when the evolved images are looked at too.
        """
        self.look()
        with self._guard:
            state, recording = run_state(self.path, self._pointer), self._recording
        if recording is None:
            return []
        going = ("unfinished", "not-converged") if state == "running" else ("unfinished",)
        told = cautions(recording, None if state == "running" else Pictures(recording), str(self.path))
        return [{"text": str(c), "serious": c.serious} for c in told if c.kind not in going]

    def curves(self) -> dict[str, Any]:
        """Returns the curves of all threads alone, and where the run stands."""
        self.look()
        with self._guard:
            threads = [self._thread(curve, -2) for curve in self._curves.values()]
            return dict(finite({"state": run_state(self.path, self._pointer), "threads": threads}))

    def tables(self) -> list[dict[str, Any]]:
        """Returns the tables of a run that evolves nothing, as its protocol makes them."""
        made = self._summary()
        return [
            {"title": t.title, "columns": list(t.columns), "rows": [list(r) for r in t.rows], "caption": t.caption}
            for t in (made.tables if made is not None else ())
        ]

    def _summary(self) -> RunSummary | None:
        """Returns what a protocol shows of a run that evolves nothing, made once for what is committed."""
        self.look()
        with self._guard:
            recording, commits = self._recording, self.commits
            if recording is None or is_evolution(recording):
                return None
            if self._made is not None and self._made[0] == commits:
                return self._made[1]
        made = self._protocol.summary(self.path, recording)
        with self._guard:
            self._made, self._drawn = (commits, made), {}
        return made

    def lines(self) -> list[str]:
        """Returns what must be known before the numbers of a run that evolves nothing are trusted."""
        made = self._summary()
        return [] if made is None else [str(line) for line in made.lines]

    def question(self) -> str:
        """Returns what a run that evolves nothing asked; "" where its protocol does not say."""
        made = self._summary()
        return "" if made is None else made.question

    @property
    def subject(self) -> str:
        """The name of the subject of what was looked at last; "" before anything is committed."""
        held = None if self._recording is None else self._recording.coords.get("subject")
        return "" if held is None or held.size != 1 else str(held.item())

    def drawings(self) -> list[dict[str, str]]:
        """Returns the movies and figures of a run that evolves nothing: the names of their files, and their words."""
        made = self._summary()
        if made is None:
            return []
        movies = [{"file": f"{name}.webp", "caption": movie.caption} for name, movie in made.movies.items()]
        return movies + [{"file": f"{name}.png", "caption": drawn.caption} for name, drawn in made.figures.items()]

    def drawing(self, file: str) -> bytes | None:
        """Returns a movie or a figure of what is committed now as a file; None for one that there is not."""
        made = self._summary()
        if made is None:
            return None
        with self._pen:  # who waits for the same finds it drawn
            drawn = self._drawn
            if file not in drawn:
                name, _, ending = file.rpartition(".")
                if ending == "webp" and name in made.movies:
                    drawn[file] = made.movies[name].encoded()
                elif ending == "png" and name in made.figures:
                    buffer = io.BytesIO()
                    made.figures[name].draw().savefig(buffer, format="png")
                    drawn[file] = buffer.getvalue()
            return drawn.get(file)

    def pictures(self, names: Sequence[str], reference: bool = False) -> list[NDArray[np.uint8] | None]:
        """Returns pictures of the run by name, made again where none was kept; see `Pictures`."""
        if self._recording is None:  # who asks for a picture has its name from a look
            self.look()
        with self._guard:
            if self._recording is None:
                return [None] * len(names)
            if self._pictures is None or time.monotonic() - self._opened > _PICTURES_S:
                self._open_pictures(self._recording)
            found = self._pictures.several(names, reference) if self._pictures is not None else []
            if self._newer and any(picture is None for picture in found):  # committed since
                found = self._open_pictures(self._recording).several(names, reference)
            return found

    def _open_pictures(self, recording: xr.Dataset) -> Pictures:
        """Opens the pictures of what is committed; that reads all checksums, so it is not done with every commit."""
        self._pictures, self._newer, self._opened = Pictures(recording), False, time.monotonic()
        return self._pictures

    def missing(self) -> str:
        """Returns why there was no picture."""
        return "; ".join(self._pictures.missing) if self._pictures is not None else "nothing is committed yet"

    def generation_of(self, name: str) -> list[str]:
        """Returns the images of the last generation that an image belongs to, so that all are made at once."""
        for curve in list(self._curves.values()):
            names = [known for known, _ in curve.population]
            if name in names:
                return [name, *(other for other in names if other != name)]
        return [name]


def _born(path: Path) -> tuple[int, int]:
    """Returns what tells a run from another one that takes its place; zeros where there is none yet."""
    try:
        found = (path if is_packed(path) else path / EXPERIMENT).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _is_committed(path: Path) -> bool:
    return is_packed(path) or (path / POINTER).exists()


def _curve(recording: xr.Dataset, name: str) -> Curve:
    if not is_evolution(recording):
        return Curve(name, "", str(recording["subject"].item()) if "subject" in recording.coords else "")
    objective = fact_of(recording, "objective", name)
    return Curve(name, objective, target_name(recording, objective))


def _reference_scores(recording: xr.Dataset, rows: NDArray[np.intp]) -> dict[str, FloatArray]:
    """Scores ``(n,)`` of references by each thread's objective; none where that looks at images."""
    found = {}
    for name, objective in thread_objectives(recording):
        try:
            if not parse_objective(objective).needs_images:
                found[name] = single_scores(recording, objective, rows)
        except InvalidArgumentError:
            continue
    return found
