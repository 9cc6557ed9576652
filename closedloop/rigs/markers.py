"""Markers for LabStreamingLayer (extra `lsl`): what is shown, for all that records beside the rig."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, require
from closedloop.interfaces import State, Stateful
from closedloop.rigs.server import Shows, Tell


@final
class Markers:
    """A stream of markers: texts of JSON at irregular times, with the moment of each on the clock of LSL.

    Args:
        name: Of the stream, by which others find it.
        source_id: By which a reader finds it again after it was begun anew; None for one made of its name.

    Raises:
        MissingExtraError: It needs the extra `lsl`.
    """

    def __init__(self, name: str = "closedloop", source_id: str | None = None) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError(f"name: expected the name of a stream, got {name!r:.80}.")
        self._lsl = require("pylsl", "lsl", "markers for LabStreamingLayer")
        self.name: str = name
        lsl, source = self._lsl, source_id or f"closedloop-{name}"
        info = lsl.StreamInfo(name, "Markers", 1, lsl.IRREGULAR_RATE, lsl.cf_string, source)
        self._outlet, self._lock = lsl.StreamOutlet(info), threading.Lock()

    def say(self, event: str, at_s: float | None = None, **entries: Any) -> None:
        """Sends a marker.

        Args:
            event: What has happened.
            at_s: When, on the clock of LSL (``pylsl.local_clock()``); None for now.
            **entries: What else is said, in plain values.
        """
        text = json.dumps({"event": event, **entries}, separators=(",", ":"))
        with self._lock:
            self._outlet.push_sample([text], self._lsl.local_clock() if at_s is None else at_s)

    def image(self, block: Mapping[str, Any], trial: int, at_s: float | None = None) -> None:
        """Says that the image of a trial of a block, by its place, is on the screen."""
        entry = block["trials"][trial]
        image = block["images"][entry["image"]]
        known = {name: image[name] for name in ("id", "kind", "thread") if name in image}
        self.say("image", at_s, trial=entry["trial"], **known)


@final
class MarkedRig:
    """A rig that says by markers what it does; a `closedloop.rigs.server.Shows`.

    ``block`` when a block begins, ``image`` for each trial as the rig tells how far it is, ``answered`` with how many
    trials were good.

    Args:
        rig: It.
        markers: Where it is said.
    """

    def __init__(self, rig: Shows, markers: Markers) -> None:
        self._rig, self._markers = rig, markers

    def welcome(self) -> Mapping[str, Any]:
        """Returns what is said of the rig."""
        return self._rig.welcome()

    def show(
        self, block: Mapping[str, Any], images: Sequence[NDArray[np.uint8]], attempt: int, tell: Tell
    ) -> Mapping[str, Any]:
        """Shows a block."""
        named = {name: block[name] for name in ("session", "seq", "phase", "generation") if name in block}
        self._markers.say("block", **named, attempt=attempt, trials=len(block["trials"]))
        said = 0

        def marked(done: int, of: int, text: str = "") -> None:
            nonlocal said
            for trial in range(said, min(done, len(block["trials"]))):
                self._markers.image(block, trial)
            said = max(said, done)
            tell(done, of, text)

        found = self._rig.show(block, images, attempt, marked)
        good = sum(trial.get("status") == "ok" for trial in found["trials"])
        self._markers.say("answered", **named, ok=good, trials=len(block["trials"]))
        return found

    def state(self) -> State:
        """Returns the state of the rig; empty where it has none."""
        return self._rig.state() if isinstance(self._rig, Stateful) else {}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        if isinstance(self._rig, Stateful):
            self._rig.restore(state)
