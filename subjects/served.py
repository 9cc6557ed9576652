"""A rig that drives itself: it asks for blocks and tells what became of them, whenever it likes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from closedloop.interfaces import FloatArray, State, Units
from closedloop.presentations import Answers, Asked
from closedloop.readable import ReadableSubject
from closedloop.recipes import wherever
from closedloop.rigs.messages import read_token
from closedloop.rigs.places import SESSION
from closedloop.rigs.serving import Desk, DeskTransport, not_over, units_said

from .rig import RigSubject, known_options


@final
class Served(ReadableSubject):
    """Waits until a rig that drives itself has asked for a block, and told what became of it.

    Clients speak ``closedloop-serve/1`` over TCP (`closedloop.rigs.serving`; docs/rig.md). All else is as with
    `RigSubject`: an answer stands in the journal before the client hears that it was taken, and whichever side dies, a
    block that was told is not shown again.

    Args:
        units: Names of the units, or their number, in the order of a trial's counts.
        listen: ``HOST:PORT``; port 0 for a free one.
        journal: File of what was told; a run that goes on needs the same.
        gives: "counts", a number for each unit and trial, or "spikes".
        token_file: File of mode 0600 with the token; needed where other computers reach the port.
        **options: Of `RigSubject`: `on_s`, `off_s`, `size_deg`, `position_deg`, `window_s`, `bins_s`, `resolution` …

    Attributes:
        port: Where it listens.

    Raises:
        InvalidArgumentError: An argument does not fit, or the port is taken.
    """

    channels: int = 3
    frames: int | None = None
    rate_hz: float | None = None

    def __init__(
        self,
        units: int | Sequence[str] = 1,
        listen: str = SESSION,
        journal: str = "serve-journal.sqlite",
        gives: str = "counts",
        token_file: str | None = None,
        **options: Any,
    ) -> None:
        known_options("served", options, without=("layout", "units", "token_file"))
        known = units_said(units)
        self.desk: Desk = Desk({"rig_id": "served", "units": known, "gives": check_gives(gives)})
        self._way = DeskTransport(listen, self.desk, Path(journal).expanduser(), read_token(token_file))
        try:
            self._rig = RigSubject(self._way, **options)
        except BaseException:
            self._way.close()
            raise
        self.port: int = self._way.port
        self.name: str = "served"
        self.units: Units = self._rig.units
        self.resolution: int = self._rig.resolution
        said = {"units": list(units) if not isinstance(units, int) else units, "listen": listen, "journal": journal}
        optional = {"gives": gives} if gives != "counts" else {}
        token = {} if token_file is None else {"token_file": token_file}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        self._recipe = {"name": "served", **said, **optional, **token, **plain}

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_subject` makes it again."""
        return dict(self._recipe)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is asked for and of the units; port, files, and how long is waited may change."""
        return hashlib.sha256(json.dumps(wherever(self._recipe), sort_keys=True).encode()).hexdigest()

    def record(self, images: NDArray[Any]) -> FloatArray:
        """Has images ``(n, 3, h, w)`` shown once each; returns responses ``(n, units[, time])``, NaN where lost."""
        not_over(self.desk)
        return self._rig.record(images)

    def present(self, asked: Asked) -> Answers:
        """Has a block shown: waits as long as the rig takes."""
        not_over(self.desk)
        return self._rig.present(asked)

    def begin_run(self) -> Mapping[str, Any]:
        """Begins a session of its own for a new run."""
        return self._rig.begin_run()

    def state(self) -> State:
        """Returns the session and the number of its last block."""
        return self._rig.state()

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._rig.restore(state)

    def close(self, reason: str = "the session was closed") -> None:
        """Tells clients that it is over, and stops listening."""
        if self.desk.reason is None:
            self.desk.end(reason)
        self._way.close()


def check_gives(gives: Any) -> str:
    """Returns "counts" or "spikes".

    Raises:
        InvalidArgumentError: It is neither.
    """
    if gives not in ("counts", "spikes"):
        from closedloop.errors import InvalidArgumentError

        raise InvalidArgumentError(f"gives: expected 'counts' or 'spikes', got {gives!r:.80}.")
    return str(gives)
