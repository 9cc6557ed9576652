"""Several subjects that see the same images, as one: what they say can be compared within one objective."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.checks import check_part, check_responses
from closedloop.errors import InvalidArgumentError
from closedloop.images.resizing import resize_images
from closedloop.interfaces import (
    STILL,
    Described,
    Differentiable,
    FloatArray,
    Located,
    Resolved,
    State,
    Stateful,
    Subject,
    Units,
    form_of,
)
from closedloop.objectives.selecting import one_column
from closedloop.readable import ReadableSubject

from .wrapping import as_subject

if TYPE_CHECKING:
    from torch import Tensor


@final
class Joined(ReadableSubject):
    """Records chosen units of several subjects, side by side; `Differentiable` exactly if all of them are.

    Each sees the images at the resolution of its own. Units are named ``0:name``, ``1:name`` and so on, by the place of
    their subject.

    Args:
        subjects: Two or more subjects of colour stills, their names or recipes.
        units: Of each subject one column or several; None for all units of all.

    Raises:
        InvalidArgumentError: There are too few, one is of another form, or a column is out of range.
    """

    def __init__(
        self,
        subjects: Sequence[Subject | str | Mapping[str, Any]],
        units: Sequence[int | Sequence[int]] | None = None,
    ) -> None:
        if isinstance(subjects, (str, Mapping)) or not hasattr(subjects, "__len__") or len(subjects) < 2:
            raise InvalidArgumentError(f"subjects: expected two or more, got {subjects!r:.80}.")
        self.subjects: tuple[Subject, ...] = tuple(as_subject(subject) for subject in subjects)
        for i, subject in enumerate(self.subjects):
            check_part("subject", subject, f"subjects[{i}]")
            if (form := form_of(subject)) != STILL:
                raise InvalidArgumentError(
                    f"subjects[{i}]: expected one of colour stills, got one of {form.describe()}."
                )
        self.columns: tuple[tuple[int, ...], ...] = _columns(self.subjects, units)
        self.name: str = "joined-" + "-".join(subject.name for subject in self.subjects)
        sides = [subject.resolution for subject in self.subjects if isinstance(subject, Resolved)]
        if sides:
            self.resolution = max(sides)
        if all(isinstance(subject, Differentiable) for subject in self.subjects):
            self.forward = self._forward
        devices = [subject.torch_device for subject in self.subjects if isinstance(subject, Located)]
        if devices:
            self.torch_device = devices[0]
        self.units: Units = Units(
            tuple(
                f"{i}:{subject.units.neuroid_id[c]}"
                for i, (subject, own) in enumerate(zip(self.subjects, self.columns, strict=True))
                for c in own
            ),
            {"of_subject": tuple(i for i, own in enumerate(self.columns) for _ in own)},
        )

    resolution: int
    torch_device: str

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_subject` makes it again; None where one of the subjects was built by hand."""
        known = [subject.recipe if isinstance(subject, Described) else None for subject in self.subjects]
        if any(recipe is None for recipe in known):
            return None
        return {"name": "joined", "subjects": [dict(r or {}) for r in known], "units": [list(c) for c in self.columns]}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the subjects' fingerprints and the columns; empty where one of them has none."""
        known = [recipes.fingerprint(subject) for subject in self.subjects]
        facts = json.dumps([known, [list(own) for own in self.columns]])
        return hashlib.sha256(facts.encode()).hexdigest() if all(known) else ""

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], into responses ``(n, units)``, averaged over time."""
        parts = []
        for subject, own in zip(self.subjects, self.columns, strict=True):
            shown = resize_images(images, subject.resolution) if isinstance(subject, Resolved) else images
            found = check_responses(subject.record(shown.copy()), len(images), len(subject.units), subject.name)
            found = found.mean(-1) if found.ndim == 3 else found
            parts.append(found[:, list(own)].astype(np.float64))
        return np.concatenate(parts, 1)

    def _forward(self, x: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into responses ``(n, units)``, graph kept."""
        import torch

        from closedloop.images.resizing import resize_matrix
        from closedloop.networks.resampling import resampled

        parts = []
        for subject, own in zip(self.subjects, self.columns, strict=True):
            shown = x
            if isinstance(subject, Resolved) and x.shape[2:] != (subject.resolution, subject.resolution):
                shown = resampled(x, *(resize_matrix(side, subject.resolution) for side in x.shape[2:]))
            if isinstance(subject, Located):
                shown = shown.to(subject.torch_device)
            found = subject.forward(shown)  # type: ignore[attr-defined]
            parts.append((found.mean(-1) if found.ndim == 3 else found)[:, list(own)].to(x.device))
        return torch.cat(parts, 1)

    def state(self) -> State:
        """Returns the states of those subjects that have one."""
        return {"subjects": [s.state() if isinstance(s, Stateful) else None for s in self.subjects]}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        for subject, own in zip(self.subjects, state["subjects"], strict=True):
            if isinstance(subject, Stateful):
                subject.restore(own)


def _columns(subjects: Sequence[Subject], units: Sequence[int | Sequence[int]] | None) -> tuple[tuple[int, ...], ...]:
    """Returns the columns of each subject, checked."""
    if units is None:
        return tuple(tuple(range(len(subject.units))) for subject in subjects)
    if isinstance(units, str) or not hasattr(units, "__len__") or len(units) != len(subjects):
        raise InvalidArgumentError(f"units: expected columns for each of {len(subjects)} subjects, got {units!r:.80}.")
    found = []
    for subject, given in zip(subjects, units, strict=True):
        several: Any = given if hasattr(given, "__iter__") and not isinstance(given, str) else [given]
        own = tuple(one_column(c) for c in several)
        if not own or max(own) >= len(subject.units):
            raise InvalidArgumentError(
                f"units: expected columns of {subject.name!r} from 0 to {len(subject.units) - 1}, got {list(own)}."
            )
        found.append(own)
    return tuple(found)
