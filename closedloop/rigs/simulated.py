"""A rig without an animal: any subject, shown images as a rig shows them, with spikes in time and what goes wrong.

It is `closedloop.rigs.server.Shows`, and has a state: what it answers depends on all that it has shown. That state goes
into the journal with every answer, so that one that is killed goes on as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import record_images, units_of
from closedloop.errors import InvalidArgumentError
from closedloop.images.forms import shown_as
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Resolved, State, Stateful, Subject, form_of
from closedloop.presentations import Spikes
from closedloop.rigs.faults import die, dies
from closedloop.rigs.messages import sha256
from closedloop.rigs.pixels import floats
from closedloop.rigs.server import Tell, answered
from closedloop.rigs.spiking import Firing
from closedloop.seeds import generator_state, named_generator, restore_generator

#: Presentations of a trial of the task; one that is aborted takes the rest of it along.
OF_TRIAL = 10


@final
class SimulatedRig:
    """Shows images to a subject.

    Args:
        subject: Who looks; images get its size and form.
        firing: Makes spikes of its responses; None to answer with the responses themselves, as counts.
        faults: What goes wrong; see `closedloop.rigs.faults`.
        seed: Of what goes wrong.
        pace: Seconds that a second of the experiment takes; 0 for as fast as it goes.
        rig_id: Its name.
    """

    def __init__(
        self,
        subject: Subject,
        firing: Firing | None = None,
        faults: Mapping[str, Mapping[str, float]] | None = None,
        seed: int = 0,
        pace: float = 0.0,
        rig_id: str = "",
    ) -> None:
        self._subject, self._firing, self._faults, self._pace = subject, firing, faults or {}, pace
        self._units, self._form = units_of(subject), form_of(subject)
        self._id = rig_id or f"simulated-{subject.name}"
        self._rng = named_generator(seed, "rig trials")
        self._seed = seed
        self._clock_s, self._shown, self._burst = 10.0, 0, 0
        self._seen: dict[str, tuple[int, float]] = {}
        self._signal: list[NDArray[np.float64]] = []
        self._check()

    def _check(self) -> None:
        for name, places in {"dead": ("unit",), "swap": ("one", "two")}.items():
            for place in places if name in self._faults else ():
                if not 0 <= self._faults[name][place] < len(self._units):
                    raise InvalidArgumentError(
                        f"faults: {name}: expected a unit from 0 to {len(self._units) - 1}, got "
                        f"{self._faults[name][place]:g}."
                    )

    def welcome(self) -> Mapping[str, Any]:
        """Returns what it says of itself."""
        columns = {name: column for name, column in self._units.coords.items() if name not in ("id", "snr", "rate_hz")}
        units = [
            {"channel": i, **{key: _plain(column[i]) for key, column in columns.items()}, "id": name}
            for i, name in enumerate(self._units.neuroid_id)
        ]
        return {
            "rig_id": self._id,
            "units": units,
            "gives": "counts" if self._firing is None else "spikes",
            "screen": {"px_per_deg": 32.0, "hz": 120.0, "gamma": "linear: simulated"},
            "clock": {"name": "simulated", "hz": 30_000},
        }

    def show(
        self, block: Mapping[str, Any], images: Sequence[NDArray[np.uint8]], attempt: int, tell: Tell
    ) -> Mapping[str, Any]:
        """Shows a block."""
        chance = named_generator(self._seed, f"rig crash {block['session']} {block['seq']} {attempt}")
        if dies(self._faults, "silent", chance):
            time.sleep(self._faults["silent"]["seconds"])
        order = [int(trial["image"]) for trial in block["trials"]]
        names = [sha256(image.tobytes()) for image in images]
        timing = block["show"]
        length = float(timing["on_s"]) + float(timing["off_s"])
        if dies(self._faults, "crash", chance):
            time.sleep(self._pace * length * len(order) / 2)
            die()
        status = self._statuses(len(order))
        onset = self._clock_s + length * np.arange(len(order)) + 0.008  # s: the photodiode is behind the flip
        onset += 0.0005 * self._rng.random(len(order))  # s, its jitter
        trials = self._answers(block, images, order, names, status, onset)
        for done in range(len(order)) if self._pace else ():
            time.sleep(self._pace * length)
            tell(done + 1, len(order), "")
        self._clock_s = round(self._clock_s + length * len(order) + 1.0, 6)
        return {"trials": trials, "rig_clock_s": self._clock_s, "quality": self._quality(block)}

    def _answers(
        self,
        block: Mapping[str, Any],
        images: Sequence[NDArray[np.uint8]],
        order: Sequence[int],
        names: Sequence[str],
        status: NDArray[Any],
        onset: FloatArray,
    ) -> list[dict[str, Any]]:
        """Returns the entries of all trials that are not missing, and moves on what the rig remembers."""
        seen = np.flatnonzero(~np.isin(status, ("not_shown", "missing", "aborted")))
        responses = np.full((len(order), len(self._units)), np.nan)
        if len(seen):
            responses[seen] = self._responses(images, [order[i] for i in seen.tolist()])
        gain, first = np.ones(responses.shape), self._shown
        for row in range(len(order)):
            if row in seen:
                gain[row] = self._gain(names[order[row]])
            self._shown += 1
        spikes = None
        if self._firing is not None:
            known = np.nan_to_num(responses)
            fired = self._firing.fire(known, float(block["show"]["on_s"]), self._span(block), gain)
            spikes = self._swapped_spikes(self._without_dead(fired, first), first)
        else:
            responses = self._swapped(responses * gain, first)
        found = []
        for row, trial in enumerate(block["trials"]):
            if status[row] == "missing":
                continue
            if row not in seen:
                found.append(answered(trial["trial"], str(status[row])))
                continue
            values: dict[str, Any]
            if spikes is None:
                values = {"counts": [round(v, 9) for v in responses[row].tolist()]}
                self._signal.append(responses[row])
            else:
                own = slice(int(spikes.offsets[row]), int(spikes.offsets[row + 1]))
                values = {"spike_s": spikes.time_s[own].tolist(), "spike_unit": spikes.unit[own].tolist()}
                self._signal.append(np.bincount(spikes.unit[own], minlength=len(self._units)).astype(float))
            onset_s = round(float(onset[row]), 6)
            found.append(
                answered(trial["trial"], str(status[row]), onset_s=onset_s, onset_source="photodiode", values=values)
            )
        self._signal = self._signal[-200:]
        return found

    def _responses(self, images: Sequence[NDArray[np.uint8]], order: Sequence[int]) -> FloatArray:
        """Returns what the subject inside answers, ``(n, units)``; a time axis is averaged."""
        shown = floats(images)
        if isinstance(self._subject, Resolved) and shown.shape[-1] != self._subject.resolution:
            shown = resize_images(shown, self._subject.resolution)
        fitted: NDArray[np.float32] = shown_as(shown, self._form)
        responses = record_images(self._subject, fitted[list(order)])
        return np.asarray(responses if responses.ndim == 2 else responses.mean(axis=2), np.float64)

    def _statuses(self, n: int) -> NDArray[Any]:
        """Draws what becomes of `n` presentations."""
        status, f = np.full(n, "ok", object), self._faults
        for name, word in {"frames": "dropped_frame", "artifact": "artifact", "lost": "missing"}.items():
            if name in f:
                status[self._rng.random(n) < f[name]["rate"]] = word
        if "fixation" in f:
            draws = self._rng.random(n)
            for i in range(n):
                if self._burst == 0 and draws[i] < f["fixation"]["rate"]:
                    self._burst = int(self._rng.geometric(1 / max(1.0, f["fixation"]["burst"])))
                if self._burst:
                    self._burst -= 1
                    status[i] = "fixation_break"
        if "aborted" in f:
            for start in range(0, n, OF_TRIAL):
                if self._rng.random() < f["aborted"]["rate"]:
                    at = start + int(self._rng.integers(min(OF_TRIAL, n - start)))
                    status[at : start + OF_TRIAL] = "not_shown"
                    status[at] = "aborted"
        return status

    def _gain(self, name: str) -> NDArray[np.float64]:
        """Returns the gain of each unit for the next presentation, of an image of this name."""
        gain, f = np.ones(len(self._units)), self._faults
        if "drift" in f:
            gain *= (1 + f["drift"]["change"]) ** (self._shown / f["drift"]["over"])
        if "dead" in f and self._shown >= f["dead"]["from"]:
            gain[int(f["dead"]["unit"])] = 0
        if "adaptation" in f:
            last, adapted = self._seen.get(name, (self._shown, 0.0))
            # An adapted image recovers within 200 presentations (to 1/e).
            adapted *= float(np.exp(-(self._shown - last) / 200.0))
            gain *= 1 - adapted
            self._seen[name] = (self._shown, adapted + f["adaptation"]["share"] * (1 - adapted))
        return gain

    def _swapped(self, responses: FloatArray, first: int) -> FloatArray:
        """Lets two units change places in the presentations since they did; `first` is the number of the first one."""
        if (swap := self._faults.get("swap")) is not None:
            one, two = int(swap["one"]), int(swap["two"])
            moved = np.flatnonzero(first + np.arange(len(responses)) >= swap["from"])
            responses[moved, one], responses[moved, two] = responses[moved, two], responses[moved, one]
        return responses

    def _without_dead(self, spikes: Spikes, first: int) -> Spikes:
        """Takes away all spikes of a unit since it died, those of its baseline too."""
        if (dead := self._faults.get("dead")) is None:
            return spikes
        alive = (spikes.unit != int(dead["unit"])) | (first + spikes.presentation < dead["from"])
        number = np.bincount(spikes.presentation[alive], minlength=len(spikes))
        offsets = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
        return Spikes(spikes.time_s[alive], spikes.unit[alive], offsets)

    def _swapped_spikes(self, spikes: Spikes, first: int) -> Spikes:
        if (swap := self._faults.get("swap")) is None:
            return spikes
        one, two = int(swap["one"]), int(swap["two"])
        moved = first + spikes.presentation >= swap["from"]
        unit = spikes.unit.copy()
        unit[moved & (spikes.unit == one)] = two
        unit[moved & (spikes.unit == two)] = one
        return Spikes(spikes.time_s, unit, spikes.offsets)

    def _span(self, block: Mapping[str, Any]) -> tuple[float, float]:
        """Returns from when to when what it counts and sends of a presentation lies, in seconds from the onset."""
        if self._firing is None:
            return float(block["window_s"][0]), float(block["window_s"][1])
        # Spikes are kept for 0.1 s after the window in which they are counted.
        return float(block["baseline_s"][0]), float(block["window_s"][1]) + 0.1

    def _quality(self, block: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Returns signal to noise (mean over standard deviation of the last counts) and rate of each unit."""
        if len(self._signal) < 2:
            return {}
        counts = np.stack(self._signal)
        begin_s, end_s = self._span(block)
        spread, rate_hz = counts.std(axis=0, ddof=1), counts.mean(axis=0) / (end_s - begin_s)
        snr = np.where(spread > 0, counts.mean(axis=0) / np.where(spread > 0, spread, 1), 0.0)
        return {
            name: {"snr": round(float(snr[i]), 4), "rate_hz": round(float(rate_hz[i]), 4)}
            for i, name in enumerate(self._units.neuroid_id)
        }

    def state(self) -> State:
        """Returns all that its next answers depend on."""
        names = list(self._seen)
        return {
            "rng": generator_state(self._rng),
            "clock": self._clock_s,
            "shown": self._shown,
            "burst": self._burst,
            "seen": names,
            "seen_when": np.array([self._seen[name][0] for name in names], np.int64),
            "seen_adapted": np.array([self._seen[name][1] for name in names], np.float64),
            "signal": np.array(self._signal, np.float64).reshape(len(self._signal), len(self._units)),
            "firing": None if self._firing is None else self._firing.state(),
            "subject": self._subject.state() if isinstance(self._subject, Stateful) else None,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        restore_generator(self._rng, state["rng"])
        self._clock_s, self._shown, self._burst = float(state["clock"]), int(state["shown"]), int(state["burst"])
        seen = zip(state["seen"], state["seen_when"].tolist(), state["seen_adapted"].tolist(), strict=True)
        self._seen = {str(name): (int(when), float(adapted)) for name, when, adapted in seen}
        self._signal = [np.array(row) for row in state["signal"]]
        if self._firing is not None and state["firing"] is not None:
            self._firing.restore(state["firing"])
        if isinstance(self._subject, Stateful) and state["subject"] is not None:
            self._subject.restore(state["subject"])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
