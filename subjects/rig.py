"""A rig as a subject: a computer in another room that shows images on a monitor and returns spikes, late, or never."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import as_names
from closedloop.checks import check_flag, check_images, check_number, check_positive, check_whole, is_number
from closedloop.errors import InvalidArgumentError, RigError, SubjectError, UnknownNameError, closest, reword
from closedloop.interfaces import FloatArray, State, Units
from closedloop.loop.notices import Notice, notice
from closedloop.presentations import QUALITIES, WINDOW_S, Answers, Asked, Spikes
from closedloop.readable import ReadableSubject
from closedloop.rigs.client import RigClient
from closedloop.rigs.messages import PROTOCOL, Message, block_name, encoded, read_token, sha256, units_name
from closedloop.rigs.pixels import Encoder
from closedloop.rigs.reading import check_welcome, gives_spikes, read_answer, tells_spikes, units_of_welcome
from closedloop.rigs.transports import Transport, connect, parse_address
from closedloop.rigs.xdream import XDreamTransport


@final
class RigSubject(ReadableSubject):
    """Asks a rig by the protocol ``closedloop-rig/1``: whole blocks, each shown exactly once.

    A block that was shown and whose answer was lost is answered from the rig's journal, also after either side died and
    the run was resumed. Only a rig that dies while it shows a block shows it again; these presentations have
    `attempt` 2. Trials are matched by their names, never by position or count.

    Args:
        transport: The way to the rig: an address, ``zmq://HOST:PORT`` or ``folder:DIR``, or a `Transport`.
        on_s: Seconds that each image is shown.
        off_s: Seconds without an image after it; None for what is left of the session's `soa_s`.
        size_deg: Width of the image in degrees of visual angle; None for the rig's own.
        position_deg: Where its centre is, right and up of the fixation point, in degrees; None for the rig's own.
        background: Grey level around it, 0 to 1.
        window_s: Where spikes are counted for the response, in seconds from the onset.
        baseline_s: Where the rig is asked for spikes besides, in seconds from the onset.
        bins_s: Begin of the first bin, width of each in seconds, and their number, for responses with a time axis.
        resolution: Height and width of images in pixels.
        patience_s: Seconds without news from the rig after which a block is sent again.
        connect_s: Seconds that the rig may take to say who it is; that it is waited for is said.
        give_up_s: Seconds without news after which the run stops, to be resumed; None for never.
        supersede: Whether a block is shown also where the rig's journal holds another under its number, or lacks those
            before it: for a run that goes on with another computer, or another journal.
        token_file: A file of mode 0600 with the token of both sides; None for the environment (`CLOSEDLOOP_RIG_TOKEN`
            or `CLOSEDLOOP_RIG_TOKEN_FILE`).
        encoding: "rgb8" or "png"; None for the best that both sides know.
        layout: "closedloop"; or "xdream" for a task that was made for XDream (`closedloop.rigs.xdream`), in a folder.
        units: With "xdream", which does not say it: names of the channels, or their number.

    Attributes:
        welcome: What the rig says of itself: units, screen, clock.

    Raises:
        RigError: No rig answers, or it refuses.
        InvalidArgumentError: An argument does not fit.
        MissingExtraError: ZeroMQ needs the extra `rig`.
    """

    channels: int = 3
    frames: int | None = None
    rate_hz: float | None = None

    def __init__(
        self,
        transport: Transport | str,
        *,
        on_s: float = 0.1,
        off_s: float | None = None,
        size_deg: float | None = None,
        position_deg: Sequence[float] | None = None,
        background: float = 0.5,
        window_s: Sequence[float] = WINDOW_S,
        baseline_s: Sequence[float] = (-0.1, 0.0),
        bins_s: Sequence[float] | None = None,
        resolution: int = 256,
        patience_s: float = 10.0,
        connect_s: float = 60.0,
        give_up_s: float | None = None,
        supersede: bool = False,
        token_file: str | None = None,
        encoding: str | None = None,
        layout: str = "closedloop",
        units: int | Sequence[str] | None = None,
    ) -> None:
        self._off_s = None if off_s is None else check_number("off_s", off_s, 0)
        self._on_s = check_positive("on_s", on_s)
        self._show: dict[str, Any] = {
            "on_s": self._on_s,
            "size_deg": None if size_deg is None else check_positive("size_deg", size_deg),
            "position_deg": None if position_deg is None else _numbers("position_deg", position_deg, 2),
            "background": check_number("background", background, 0, 1),
        }
        self._window = _times("window_s", window_s)
        self._baseline = _times("baseline_s", baseline_s)
        self._bins = None if bins_s is None else _bins(bins_s)
        self.resolution: int = check_whole("resolution", resolution, 1)
        self._supersede = check_flag("supersede", supersede)
        self._connect_s = check_positive("connect_s", connect_s)
        if encoding not in (None, "rgb8", "png"):
            raise InvalidArgumentError(f"encoding: expected 'rgb8', 'png' or None, got {encoding!r}.")
        self._encoding = encoding
        given = {
            "on_s": on_s,
            "off_s": off_s,
            "size_deg": size_deg,
            "position_deg": position_deg,
            "background": background,
            "window_s": window_s,
            "baseline_s": baseline_s,
            "bins_s": bins_s,
            "resolution": resolution,
            "patience_s": patience_s,
            "connect_s": connect_s,
            "give_up_s": give_up_s,
            "supersede": supersede,
            "token_file": token_file,
            "encoding": encoding,
            "layout": layout,
            "units": units,
        }
        self._options = _unlike(type(self).__init__.__kwdefaults__ or {}, given)
        way = _way(transport, token_file, layout, units)
        self._client = RigClient(
            way,
            check_positive("patience_s", patience_s),
            None if give_up_s is None else check_positive("give_up_s", give_up_s),
            notice,
        )
        self._session, self._seq, self._told_of = _session_name(), 0, False
        self.units: Units = self._greet()
        #: Whether it gives spikes; None until it has answered.
        self._fires: bool | None = gives_spikes(self.welcome)
        self.name: str = f"rig-{self.welcome.get('rig_id', 'unnamed')}"

    def _greet(self, known: Units | None = None) -> Units:
        """Asks the rig who it is, for the session under way; returns its units.

        Raises:
            RigError: They are others than those that are known: responses are named by them.
        """
        welcome = check_welcome(self._client.hello(self._session, self._connect_s))
        units = units_of_welcome(welcome)
        if known is not None and units.neuroid_id != known.neuroid_id:
            raise RigError(
                f"the rig has other units than it had, or in another order: {len(known)} such as "
                f"{known.neuroid_id[0]!r:.60} at first, now {len(units)} such as {units.neuroid_id[0]!r:.60}. Start it "
                "with those that it had; or connect anew.",
                "conflict",
            )
        self.welcome: Mapping[str, Any] = welcome
        ways = self._client.transport.encodings
        chosen = self._encoding or str(self.welcome.get("encoding"))
        if chosen not in ways:
            raise InvalidArgumentError(f"encoding: expected one of {', '.join(ways)} on this way, got {chosen!r}.")
        self._encoder = Encoder(chosen)
        self._greeted = self._session
        return units

    def close(self) -> None:
        """Lets go of the way to the rig."""
        self._client.transport.close()

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_subject` makes it again; None for a transport that was built by hand."""
        address = self._client.transport.address
        return {"name": f"rig:{address}", **self._options} if address else None

    @property
    def width_deg(self) -> float | None:
        """Width of every image in degrees of visual angle; None where the rig shows a pixel of it on one of its own."""
        width: float | None = self._show["size_deg"]
        return width

    @property
    def px_per_deg(self) -> float | None:
        """Pixels of an image of `resolution` per degree: by its width, else as the rig says of its screen."""
        if (width := self.width_deg) is not None:
            return self.resolution / width
        said = (self.welcome.get("screen") or {}).get("px_per_deg")
        return float(said) if is_number(said) and said > 0 else None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is asked for and of the units; the address is no part of it, since a rig may move."""
        content = [self._show, self._off_s, self._window, self._bins, self.units.neuroid_id]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def told(self) -> Mapping[str, int]:
        """How many messages were sent again so far, and how many came late, twice or from a stranger."""
        return {"resent": self._client.resent, "stale": self._client.stale}

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Shows images ``(n, 3, h, w)`` once each; returns responses ``(n, units[, time])``, NaN where lost."""
        shown = check_images(images)
        n = len(shown)
        if n == 0:
            return np.empty((0, len(self.units), *([] if self._bins is None else [self._bins[2]])))
        names = tuple(f"{i:04d}" for i in range(n))
        answers = self.present(Asked(shown, np.arange(n), names, ("",) * n, ("",) * n))
        responses = answers.responses
        if answers.spikes is not None:
            counted = answers.spikes.counts(answers.edges_s, len(self.units))
            responses = counted[..., 0] if answers.bins_s is None else counted
        found: FloatArray = np.array(responses, dtype=np.float64)
        found[np.array(answers.status, dtype=object) != "ok"] = np.nan
        return found

    def present(self, asked: Asked) -> Answers:
        """Has a block shown, in several parts where the rig takes fewer images at once.

        Raises:
            RigError: The rig refuses it.
            SubjectError: Its answer is none to what was asked.
        """
        if self._greeted != self._session:
            self._greet(self.units)
        off_s = self._off_s
        if off_s is None:
            off_s = max(0.0, (0.2 if asked.soa_s is None else asked.soa_s) - self._on_s)
        parts = self._encoder.encode(asked.images)
        answers = [self._ask(asked, rows, parts, round(off_s, 9)) for rows in self._split(asked, parts)]
        return answers[0] if len(answers) == 1 else _together(answers)

    def _split(self, asked: Asked, parts: Sequence[bytes | memoryview]) -> list[NDArray[np.int64]]:
        """Returns the presentations of each block that is sent, of as many different images as the rig takes."""
        most, room = int(self.welcome.get("max_images", 1000)), int(self.welcome.get("max_bytes", 2**28))
        found: list[list[int]] = [[]]
        images: set[int] = set()
        size = 0
        for row, image in enumerate(asked.order.tolist()):
            more = 0 if image in images else len(parts[image])
            if more > room:
                raise RigError(
                    f"an image of {more} bytes is more than the rig takes ({room}); show smaller ones.", "too_large"
                )
            if found[-1] and (len(images | {image}) > most or size + more > room):
                found.append([])
                images, size, more = set(), 0, len(parts[image])
            found[-1].append(row)
            images.add(image)
            size += more
        return [np.array(rows, np.int64) for rows in found]

    def _ask(self, asked: Asked, rows: NDArray[np.int64], parts: Sequence[bytes | memoryview], off_s: float) -> Answers:
        """Asks for one block, and returns what the rig says of each of its presentations."""
        seq = self._seq + 1
        which, order = np.unique(asked.order[rows], return_inverse=True)
        height, width = asked.images.shape[-2:]
        entries = [
            {
                "sha256": sha256(parts[i]),
                "bytes": len(parts[i]),
                "id": asked.ids[i],
                "kind": asked.kinds[i],
                "thread": asked.threads[i],
                "height": height,
                "width": width,
            }
            for i in which.tolist()
        ]
        trials = [{"trial": f"{seq:06d}-{i:04d}", "image": image} for i, image in enumerate(order.tolist())]
        header = {
            "proto": PROTOCOL,
            "type": "block",
            "session": self._session,
            "seq": seq,
            "phase": asked.phase,
            "generation": asked.generation,
            "again": asked.again,
            "encoding": self._encoder.encoding,
            "units": units_name(self.units.neuroid_id),
            "images": entries,
            "trials": trials,
            "show": {**self._show, "off_s": off_s},
            "window_s": self._window,
            "baseline_s": self._baseline,
            "bins_s": self._bins,
            **({"supersede": True} if self._supersede else {}),
        }
        chosen = parts if len(which) == len(parts) else [parts[i] for i in which.tolist()]
        sent = Message({**header, "block": block_name(header)}, chosen)
        expected_s = len(rows) * (self._on_s + off_s)
        answer = self._client.ask(sent, expected_s)
        names = [str(trial["trial"]) for trial in trials]
        try:
            answers = read_answer(answer, names, self.units.neuroid_id, self._window, self._bins, self._fires)
            self._fires = tells_spikes(answer) if self._fires is None else self._fires
        except SubjectError as error:
            reword(error, f"{error} Mend the rig; with supersede=True the block is then shown again.")
            raise
        if self._fires is None:  # what follows would not fit what was recorded of this block
            raise SubjectError(
                "rig: whether it gives spikes or counts is not known: its welcome does not say it, and all trials of "
                f"block {seq} are without either. Let the rig's welcome say gives: 'spikes' or 'counts', and go on."
            )
        self._seq = seq  # last: what fails is asked for again under the same number
        self._tell(seq, answer.get("text"))
        return answers

    def _tell(self, seq: int, said: Any) -> None:
        """Says what a rig has to say of a block; and when it has nothing to say any more."""
        text = " ".join(said.split())[:300] if isinstance(said, str) else ""
        if text or self._told_of:
            words = f"block {seq} at the rig: {text}" if text else "the rig has nothing more to say of its blocks"
            notice(Notice(words, "what the rig says", well=not text))
        self._told_of = bool(text)

    def begin_run(self) -> Mapping[str, Any]:
        """Begins a session of its own for a new run, which can be resumed whatever else this object is used for."""
        if self._seq:
            self._session, self._seq = _session_name(), 0
            self._greet(self.units)
        return self.welcome

    def state(self) -> State:
        """Returns the session and the number of its last block, with what the rig says of itself, for the record."""
        fires = {} if self._fires is None else {"fires": self._fires}
        return {"session": self._session, "seq": self._seq, **fires, "welcome": encoded(self.welcome).decode()}

    def restore(self, state: State) -> None:
        """Goes back to a saved state; the rig is asked who it is when the next block is."""
        self._session, self._seq = str(state["session"]), int(state["seq"])
        self._fires = bool(state["fires"]) if "fires" in state else self._fires


def _session_name() -> str:
    """Returns a name that no other session has, which folders can have, too."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def _way(transport: Transport | str, token_file: str | None, layout: str, units: Any) -> Transport:
    """Returns the way to the rig."""
    if layout not in ("closedloop", "xdream"):
        raise InvalidArgumentError(f"layout: expected 'closedloop' or 'xdream', got {layout!r:.80}.")
    if layout == "closedloop":
        if units is not None:
            raise InvalidArgumentError(
                f"units: expected none, for the rig says them itself, got {units!r:.80}; all are recorded. Say which "
                "to excite by the objective, such as 'unit(0)'."
            )
        return connect(transport, read_token(token_file)) if isinstance(transport, str) else transport
    kind, folder = parse_address(transport) if isinstance(transport, str) else ("", "")
    if kind != "folder":
        raise InvalidArgumentError(f"layout: expected 'xdream' with a folder, as in folder:DIR, got {transport!r:.80}.")
    if isinstance(units, int) and not isinstance(units, bool) and units > 0:
        return XDreamTransport(folder, [f"channel.{i}" for i in range(units)])
    if not isinstance(units, (list, tuple)) or not units:
        raise InvalidArgumentError(f"units: expected the names of the channels, or their number, got {units!r:.80}.")
    return XDreamTransport(folder, as_names("units", units))


def rig(transport: str, **options: Any) -> RigSubject:
    """Connects to a rig, by its address; see `RigSubject`."""
    return RigSubject(transport, **known_options("rig", options))


def known_options(subject: str, options: Mapping[str, Any], without: Sequence[str] = ()) -> Mapping[str, Any]:
    """Returns options of a `RigSubject`, if each of them is one.

    Args:
        subject: Whose they are, for errors.
        options: What is given.
        without: Those that this subject has not.

    Raises:
        UnknownNameError: One is none.
    """
    known = [name for name in RigSubject.__init__.__kwdefaults__ or {} if name not in without]
    for name in options:
        if name not in known:
            raise UnknownNameError(f"subject {subject!r}: no option named {name!r}.{closest(name, known)}")
    return options


def _together(answers: Sequence[Answers]) -> Answers:
    """Returns one answer to a block that was asked for in parts."""
    first, n = answers[0], len(answers)
    spikes = [a.spikes for a in answers if a.spikes is not None]
    responses = [np.asarray(a.responses) for a in answers if a.responses is not None]
    if 0 < len(spikes) < n:
        raise SubjectError("rig: expected spikes for all parts of a block, or for none.")
    quality = {name: _last([a.quality[name] for a in answers]) for name in QUALITIES}
    return Answers(
        status=[word for a in answers for word in a.status],
        responses=np.concatenate(responses) if len(responses) == n else None,
        spikes=Spikes.join(spikes) if spikes else None,
        trial_id=[name for a in answers for name in a.trial_id],
        onset_s=np.concatenate([np.asarray(a.onset_s) for a in answers]),
        onset_source=[word for a in answers for word in a.onset_source],
        attempt=np.concatenate([np.asarray(a.attempt) for a in answers]),
        window_s=first.window_s,
        bins_s=first.bins_s,
        quality=quality,
    )


def _last(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    found = columns[0]
    for column in columns[1:]:
        found = np.where(np.isnan(column), found, column)
    return found


def _numbers(name: str, values: Any, count: int) -> list[float]:
    """Returns so many finite numbers."""
    whole = isinstance(values, (list, tuple, np.ndarray)) and len(values) == count
    if not whole:
        raise InvalidArgumentError(f"{name}: expected {count} numbers, got {values!r:.80}.")
    return [check_number(name, value) for value in values]


def _times(name: str, values: Any) -> list[float]:
    """Returns begin and end in seconds."""
    begin, end = _numbers(name, values, 2)
    if not begin < end:
        raise InvalidArgumentError(f"{name}: expected begin < end in seconds from the onset, got {values!r:.80}.")
    return [begin, end]


def _bins(values: Any) -> list[Any]:
    """Returns begin, width and number of bins."""
    begin, width, number = _numbers("bins_s", values, 3)
    number = int(number) if number == int(number) else number
    return [begin, check_positive("bins_s: width", width), check_whole("bins_s: number", number, 1)]


def _unlike(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that differ from their defaults, as plain values."""
    plain = {name: _listed(given[name]) for name in defaults}
    return {name: value for name, value in plain.items() if value != _listed(defaults[name])}


def _listed(value: Any) -> Any:
    """Returns several values as a list, and any other as it is."""
    return value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value
