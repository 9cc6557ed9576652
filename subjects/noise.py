"""Noise around a subject: spike counts, gains, and slow drift, each seeded and with an exact saved state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from closedloop.checks import check_flag, check_number
from closedloop.errors import InvalidArgumentError
from closedloop.images.forms import shown_as
from closedloop.images.sets import natural_references
from closedloop.interfaces import FloatArray, Resolved, State, Stateful, Subject, form_of

from .wrapping import Wrapper, as_subject

#: The response of each unit, of all of them, or None: the largest to the bundled photographs.
Best = float | Sequence[float] | None


def best_natural(subject: Subject) -> NDArray[np.float64]:
    """Returns each unit's largest response to the bundled photographs, ``(units,)``, over any time bins.

    A subject with a state is put back to where it was.

    Raises:
        InvalidArgumentError: The subject has no resolution of its own.
    """
    if not isinstance(subject, Resolved):
        raise InvalidArgumentError(
            f"best: subject {subject.name!r} has no resolution, so the bundled photographs cannot be shown to it; say "
            "what its best natural response is."
        )
    before = subject.state() if isinstance(subject, Stateful) else None
    form = form_of(subject)
    shown = shown_as(natural_references(subject.resolution, form).images, form)
    responses = np.asarray(subject.record(shown), dtype=float)
    if isinstance(subject, Stateful) and before is not None:
        subject.restore(before)
    seen = np.where(np.isnan(responses), -np.inf, responses)
    return np.asarray(seen.max(axis=(0, *range(2, seen.ndim))))


def _numbers(best: Any) -> FloatArray:
    """Returns the best natural responses that are given, ``(1,)`` or ``(units,)``."""
    try:
        return np.atleast_1d(np.asarray(best, dtype=float))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"best: expected one number, or one for each unit, got {best!r:.80}.") from error


class _Counts(Wrapper):
    """Responses as counts of spikes, in the unit of the responses again."""

    def __init__(
        self, subject: Subject | str | Mapping[str, Any], spikes: float, best: Best, seed: int, **options: Any
    ) -> None:
        inner = as_subject(subject)
        self.spikes = check_number("spikes", spikes, 1e-6)
        given = best_natural(inner) if best is None else _numbers(best)
        if given.shape not in ((1,), (len(inner.units),)):
            raise InvalidArgumentError(f"best: expected one number or {len(inner.units)}, got shape {given.shape}.")
        if not (np.isfinite(given).all() and (given > 0).all()):
            raise InvalidArgumentError(
                f"best: expected finite responses above 0, got {given.min():.4g} at the least; such a unit has no "
                "scale for its spikes. Leave it out, or say what its best natural response is."
            )
        self.best = np.broadcast_to(given, len(inner.units)).copy()
        super().__init__(inner, seed, spikes=self.spikes, best=self.best.tolist(), **options)

    def _changed(self, responses: FloatArray) -> FloatArray:
        scale = (self.spikes / self.best).reshape(-1, *[1] * (responses.ndim - 2))
        expected = np.maximum(responses, 0) * scale
        return np.where(np.isnan(responses), np.nan, self._counts(np.nan_to_num(expected)) / scale)

    @abstractmethod
    def _counts(self, expected: FloatArray) -> FloatArray:
        """Draws spikes for their expected number, of the same shape."""


@final
class Poisson(_Counts):
    """Poisson(max(0, s a)) / s spikes for the response a, with s such that the best natural response gives `spikes`.

    Source: the noise of Xiao & Kreiman 2020, "XDream", who call 20 spikes "noisy". With time bins each bin is drawn.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``.
        spikes: Expected spikes at the best natural response.
        best: The best natural response of each unit, or of all; by default the largest to the bundled photographs,
            measured now.
        seed: Of the spikes.

    Raises:
        InvalidArgumentError: A unit's best natural response is not above 0, or an argument does not fit.
    """

    kind = "poisson"

    def __init__(
        self, subject: Subject | str | Mapping[str, Any], spikes: float = 20, best: Best = None, seed: int = 0
    ) -> None:
        super().__init__(subject, spikes, best, seed)

    def _counts(self, expected: FloatArray) -> FloatArray:
        return self._rng.poisson(expected).astype(float)


@final
class NegativeBinomial(_Counts):
    """Spikes that vary more than Poisson's: variance m + φ m² for the mean m, as from a gamma-distributed gain.

    Source: Goris, Movshon & Simoncelli 2014, "Partitioning neuronal variability", Nature Neuroscience.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``.
        spikes: Expected spikes at the best natural response.
        best: As in `Poisson`.
        gain_variance: φ, above 0: the squared coefficient of variation of the gain.
        seed: Of the spikes.
    """

    kind = "negative-binomial"

    def __init__(
        self,
        subject: Subject | str | Mapping[str, Any],
        spikes: float = 20,
        best: Best = None,
        gain_variance: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.gain_variance: float = check_number("gain_variance", gain_variance, 1e-6)
        super().__init__(subject, spikes, best, seed, gain_variance=self.gain_variance)

    def _counts(self, expected: FloatArray) -> FloatArray:
        gain = self._rng.gamma(1 / self.gain_variance, self.gain_variance, expected.shape)
        return self._rng.poisson(gain * expected).astype(float)


@final
class Gain(Wrapper):
    """Multiplies the responses of each presentation by max(0, 1 + ν N(0, 1)).

    Source: the noise of Wang & Ponce 2022, GECCO, with ν = 0.2 and 0.5.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``.
        nu: ν, at least 0.
        shared: One gain for all units in each presentation (correlated noise), instead of one for each.
        seed: Of the gains.
    """

    kind = "gain"

    def __init__(
        self, subject: Subject | str | Mapping[str, Any], nu: float = 0.2, shared: bool = False, seed: int = 0
    ) -> None:
        self.nu: float = check_number("nu", nu, 0)
        self.shared: bool = check_flag("shared", shared)
        super().__init__(subject, seed, nu=self.nu, shared=self.shared)

    def _changed(self, responses: FloatArray) -> FloatArray:
        shape = (len(responses), 1 if self.shared else len(self.units), *[1] * (responses.ndim - 2))
        return np.asarray(responses * np.maximum(0, 1 + self.nu * self._rng.standard_normal(shape)))


@final
class Drift(Wrapper):
    """Multiplies responses by a gain that falls over a session and wanders slowly, for each unit by itself.

    In presentation t the gain is (1 + change)^(t / session) · exp(w x - w² / 2), where x is a stationary autoregression
    with standard deviation 1 that forgets within `memory` presentations.

    The defaults repeat what 170 published sessions in monkeys show for the same reference images in generations of 80
    presentations: a coefficient of variation of 11 % over generations, 8 to 13 % less at the end of a session, and a
    correlation with the generation of more than 0.5 in a quarter of the sessions.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``.
        change: Relative change over a session, above -1.
        session: Presentations of a session.
        wander: w, the standard deviation of the slow fluctuations, at least 0.
        memory: Presentations within which they are forgotten (to 1/e).
        seed: Of the fluctuations.
    """

    kind = "drift"

    def __init__(
        self,
        subject: Subject | str | Mapping[str, Any],
        change: float = -0.1,
        session: float = 2160,
        wander: float = 0.12,
        memory: float = 100,
        seed: int = 0,
    ) -> None:
        self.change: float = check_number("change", change, -0.999)
        self.wander: float = check_number("wander", wander, 0)
        self.session: float = check_number("session", session, 1)
        self.memory: float = check_number("memory", memory, 1e-6)
        super().__init__(
            subject, seed, change=self.change, session=self.session, wander=self.wander, memory=self.memory
        )
        self._shown = 0
        self._x: NDArray[np.float64] = self._rng.standard_normal(len(self.units))

    def _changed(self, responses: FloatArray) -> FloatArray:
        n = len(responses)
        if n == 0:
            return responses
        a = np.exp(-1 / self.memory)
        steps = np.sqrt(1 - a**2) * self._rng.standard_normal((n, len(self.units)))
        x, _ = lfilter([1.0], [1.0, -a], steps, axis=0, zi=a * self._x[None])
        trend = (1 + self.change) ** ((self._shown + np.arange(n)) / self.session)
        gain = trend[:, None] * np.exp(self.wander * x - self.wander**2 / 2)
        self._shown, self._x = self._shown + n, x[-1].copy()
        return np.asarray(responses * gain.reshape(n, len(self.units), *[1] * (responses.ndim - 2)))

    def state(self) -> State:
        """Returns the state of every wrapper, with the presentation and the fluctuation of each unit."""
        return {**super().state(), "shown": self._shown, "x": self._x.copy()}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        super().restore(state)
        self._shown, self._x = int(state["shown"]), np.array(state["x"])
