"""A rig in a few lines: linear cells that fire, lose trials, and say when and how everything happened."""

from __future__ import annotations

import numpy as np

from closedloop.interfaces import Units
from closedloop.presentations import Answers, Spikes
from closedloop.seeds import generator_state, restore_generator

SIDE = 12
LOST = ("fixation_break", "dropped_frame", "aborted", "not_shown", "artifact")


class SmallRig:
    """Presents blocks of images `SIDE` pixels wide, with a state; it notes all that it was asked for in `asked`."""

    def __init__(self, units=3, lost=0.1, spikes=True, bins_s=None, seed=0, quality=True, shuffle=False):
        self.name, self.fingerprint = "small-rig", ""
        self.units = Units(tuple(f"u{i}" for i in range(units)), {"channel": tuple(range(units))})
        self.lost, self.spikes, self.bins_s, self.quality, self.shuffle = lost, spikes, bins_s, quality, shuffle
        self.rng = np.random.default_rng([7, seed])
        filters = np.random.default_rng([8, seed]).standard_normal((3 * SIDE**2, units)) / SIDE
        self.filters, self.clock_s, self.trials, self.asked = filters, 5.0, 0, []

    def record(self, images):
        raise AssertionError("a rig that presents is asked to present")

    def rates(self, images):
        return np.maximum(20 + 10 * (images.reshape(len(images), -1) - 0.5) @ self.filters, 0)

    def present(self, asked):
        self.asked.append(asked)
        n, units = len(asked), len(self.units)
        status = np.where(self.rng.random(n) < self.lost, self.rng.choice(LOST, n), "ok")
        place = self.rng.permutation(n) if self.shuffle else np.arange(n)
        onset = np.where(status == "not_shown", np.nan, self.clock_s + 0.2 * place + 0.0013)
        self.clock_s += 0.2 * n
        counts = self.rng.poisson(0.3 * self.rates(asked.images[asked.order]))
        counts[status == "not_shown"] = 0
        unit = np.tile(np.repeat(np.arange(units), 1), n)
        per = counts.ravel()
        unit = np.repeat(unit, per)
        time_s = np.sort(self.rng.uniform(-0.1, 0.3, len(unit)))
        offsets = np.concatenate([[0], np.cumsum(counts.sum(1))])
        trial_id = [f"t{self.trials + i:06d}" for i in range(n)]
        self.trials += n
        return Answers(
            status=status.tolist(),
            responses=None if self.spikes else counts.astype(float),
            spikes=Spikes(time_s, unit, offsets) if self.spikes else None,
            trial_id=trial_id,
            onset_s=onset,
            onset_source=["" if np.isnan(t) else "photodiode" for t in onset],
            bins_s=self.bins_s,
            quality={"snr": np.arange(units) + 3.0} if self.quality else {},
        )

    def state(self):
        return {"rng": generator_state(self.rng), "clock": self.clock_s, "trials": self.trials}

    def restore(self, state):
        restore_generator(self.rng, state["rng"])
        self.clock_s, self.trials = float(state["clock"]), int(state["trials"])
