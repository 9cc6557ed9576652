"""Kinds of readouts, one definition for all who fit one: whole or with a mask, linear or of spikes; and which to take.

A readout is chosen by cross-validation on the images that it is fitted to, and on no others: where a twin is judged by
held-out images, the choice is made anew without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.interfaces import FloatArray
from closedloop.seeds import named_generator
from closedloop.twins.places import Places, find_masks
from closedloop.twins.poisson import fit_poisson, responding
from closedloop.twins.posterior import layer_kernels
from closedloop.twins.ridge import fit_ridge

#: A weight for each feature, or a mask and weights of channels; noise of one size, or that of spikes.
RIDGE, FACTORIZED, POISSON, BOTH = "ridge", "factorized", "poisson", "factorized-poisson"
#: All kinds of readout.
KINDS = (RIDGE, FACTORIZED, POISSON, BOTH)
#: The kind that predicts best.
AUTO = "auto"
#: Parts of the images by which a kind is chosen.
FOLDS = 3


def check_readout(readout: str) -> str:
    """Returns the name of a readout.

    Raises:
        UnknownNameError: There is none of this name.
    """
    if readout not in (*KINDS, AUTO):
        raise UnknownNameError(
            f"readout: expected {', '.join(KINDS)} or {AUTO}, got {readout!r}.{closest(str(readout), (*KINDS, AUTO))}"
        )
    return readout


def has_mask(kind: str) -> bool:
    """Tells whether a kind of readout is factorized."""
    return kind in (FACTORIZED, BOTH)


def has_spikes(kind: str) -> bool:
    """Tells whether a kind of readout is of spikes."""
    return kind in (POISSON, BOTH)


def kinds_of(readout: str, places: Places | None, least: float, of: str) -> tuple[str, ...]:
    """Returns the kinds among which is chosen.

    Args:
        readout: A kind, or "auto".
        places: Of the features; None where they have none.
        least: The lowest response.
        of: What answered, for errors.

    Raises:
        InvalidArgumentError: The kind needs features with places, or responses of at least 0.
    """
    known = KINDS if readout == AUTO else (readout,)
    if places is None and readout != AUTO and has_mask(readout):
        raise InvalidArgumentError(
            f"readout: {readout!r} expected features with places, such as layers of a network, got some without; take "
            f"{(POISSON if has_spikes(readout) else RIDGE)!r}."
        )
    if least < 0 and readout != AUTO and has_spikes(readout):
        raise InvalidArgumentError(
            f"readout: {readout!r} expected responses of at least 0, got {least:.4g} of {of}; take "
            f"{(FACTORIZED if has_mask(readout) else RIDGE)!r}."
        )
    return tuple(
        kind for kind in known if not (has_mask(kind) and places is None) and not (has_spikes(kind) and least < 0)
    )


@dataclass(frozen=True)
class Read:
    """Images that are read.

    Attributes:
        x: Standardized features, ``(images, features)``.
        columns: Of each layer.
        kernels: Of each layer, ``(layers, images, images)``; see `layer_kernels`.
        places: Where the features lie; None where they have no places.
    """

    x: NDArray[np.float32]
    columns: Mapping[str, NDArray[np.int64]]
    kernels: FloatArray
    places: Places | None = None

    @classmethod
    def of(cls, x: NDArray[np.float32], columns: Mapping[str, NDArray[np.int64]], places: Places | None = None) -> Read:
        """Computes the kernels of features."""
        return cls(x, columns, layer_kernels(x, columns.values()), places)

    def rows(self, at: NDArray[np.int64]) -> Read:
        """Returns some of the images."""
        return replace(self, x=self.x[at], kernels=self.kernels[:, at[:, None], at])

    def under(self, mask: FloatArray | None) -> Read:
        """Returns the images with their channels under a mask as features; as they are without one."""
        if mask is None or self.places is None:
            return self
        return Read.of(self.places.seen(self.x, mask), self.places.columns)


@dataclass(frozen=True)
class Fit:
    """Readouts of several units.

    Attributes:
        read: The images that they were fitted to.
        kinds: Of each unit.
        masks: Of each unit; None where it has none.
        dual: Of the kernel of each unit, ``(images, units)``.
        shares: Of the layers, ``(layers, units)``.
        bias: ``(units,)``.
        size: Mean response of units that are read as spikes, ``(units,)``; NaN for others.
        ratio: λ of each unit.
    """

    read: Read
    kinds: tuple[str, ...]
    masks: tuple[FloatArray | None, ...]
    dual: FloatArray
    shares: FloatArray
    bias: FloatArray
    size: FloatArray
    ratio: FloatArray

    def predict(self, read: Read, train: NDArray[np.int64], test: NDArray[np.int64]) -> FloatArray:
        """Returns predictions ``(test, units)``.

        Args:
            read: All images.
            train: Those that the readouts were fitted to.
            test: Others.
        """
        z = self.bias + sum(
            (kernel[np.ix_(test, train)] @ self.dual) * share
            for kernel, share in zip(read.kernels, self.shares, strict=True)
        )
        for j, mask in enumerate(self.masks):
            if mask is not None:
                own = read.under(mask).kernels[:, test[:, None], train]
                z[:, j] = self.bias[j] + np.tensordot(self.shares[:, j], own, 1) @ self.dual[:, j]
        return answered(z, self.size)

    def weights(self) -> NDArray[np.float32]:
        """Returns the weights of all features, ``(features, units)``."""
        found = np.zeros((self.read.x.shape[1], len(self.kinds)), np.float32)
        for at, share in zip(self.read.columns.values(), self.shares, strict=True):
            # w = Σ_i dual_i x_i, times the layer's share / d.
            found[at] = (self.read.x[:, at].T @ self.dual) * share / max(len(at), 1)
        for j, mask in enumerate(self.masks):
            if mask is not None and self.read.places is not None:
                own = self.read.under(mask)
                w = own.x.T @ self.dual[:, j]
                for at, share in zip(own.columns.values(), self.shares[:, j], strict=True):
                    w[at] *= share / len(at)
                found[:, j] = self.read.places.whole(w[None], mask)[0]
        return found

    def of(self, j: int) -> Fit:
        """Returns the readout of one unit."""
        return replace(
            self,
            kinds=self.kinds[j : j + 1],
            masks=self.masks[j : j + 1],
            **{name: getattr(self, name)[..., [j]] for name in ("dual", "shares", "bias", "size", "ratio")},
        )


def answered(z: FloatArray, size: FloatArray) -> FloatArray:
    """Returns what linear readouts ``(n, units)`` predict: as they are, or of spikes; see `Fit.size`."""
    spikes = np.isfinite(size)
    return np.where(spikes, responding(z, np.where(spikes, size, 0)), z) if spikes.any() else z


def fit_kind(read: Read, kind: str, y: FloatArray, count: FloatArray) -> Fit:
    """Fits readouts of one kind to mean responses ``(images, units)``."""
    n, units = y.shape
    if kind == RIDGE:
        ridge = fit_ridge(read.kernels, y, count)
        nothing = np.full(units, np.nan)
        return Fit(read, (kind,) * units, (None,) * units, ridge.dual, ridge.shares, ridge.bias, nothing, ridge.ratio)
    masks: list[FloatArray | None] = [None] * units
    if has_mask(kind) and read.places is not None:
        masks = list(find_masks(read.x, read.places, y, count))
    dual, shares = np.zeros((n, units)), np.zeros((len(read.kernels), units))
    bias, size, ratio = np.zeros(units), np.full(units, np.nan), np.zeros(units)
    for j, mask in enumerate(masks):
        own = read.under(mask)
        ridge = fit_ridge(own.kernels, y[:, [j]], count)
        shares[:, j], dual[:, j] = ridge.shares[:, 0], ridge.dual[:, 0]
        bias[j], ratio[j] = ridge.bias[0], ridge.ratio[0]
        if has_spikes(kind):
            spikes = fit_poisson(np.tensordot(shares[:, j], own.kernels, 1), y[:, j], count)
            dual[:, j], bias[j], size[j], ratio[j] = spikes.dual, spikes.bias, spikes.size, spikes.ratio
    return Fit(read, (kind,) * units, tuple(masks), dual, shares, bias, size, ratio)


def fit_best(read: Read, kinds: Sequence[str], y: FloatArray, count: FloatArray, seed: int) -> Fit:
    """Fits readouts of the kind that predicts each unit best, in parts of these images."""
    if len(kinds) == 1:
        return fit_kind(read, kinds[0], y, count)
    best = chosen_kinds(read, kinds, y, count, seed)
    own: list[Fit] = [fit_kind(read, kind, y[:, [j]], count) for j, kind in enumerate(best)]
    merged = {
        name: np.concatenate([getattr(one, name) for one in own], -1)
        for name in ("dual", "shares", "bias", "size", "ratio")
    }
    return Fit(read, tuple(best), tuple(one.masks[0] for one in own), **merged)


def chosen_kinds(read: Read, kinds: Sequence[str], y: FloatArray, count: FloatArray, seed: int) -> list[str]:
    """Returns the kind of the least squared error in parts that were held out, of each unit; the first of equals."""
    order = named_generator(seed, "readout").permutation(len(y))
    error = np.zeros((len(kinds), y.shape[1]))
    for part in range(FOLDS):
        test, train = order[part::FOLDS], np.delete(order, np.s_[part::FOLDS])
        inner = read.rows(train)
        for i, kind in enumerate(kinds):
            found = fit_kind(inner, kind, y[train], count[train]).predict(read, train, test)
            error[i] += (count[test, None] * (found - y[test]) ** 2).sum(0)
    return [kinds[i] for i in error.argmin(0)]
