"""Scoring with whatever an objective asks for: responses, and images where it looks at them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from closedloop.capability import Capability
from closedloop.interfaces import Objective


@runtime_checkable
class ImageObjective(Capability, Protocol):
    """A capability of objectives: where `needs_images` is True the call takes the images besides the responses."""

    @property
    def needs_images(self) -> bool:
        """Whether the scores depend on the images too."""
        ...

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` and images ``(n, 3, h, w)`` in [0, 1] into scores ``(n,)``."""
        ...


def looks_at_images(objective: Objective) -> bool:
    """Tells whether an objective must be given the images."""
    return isinstance(objective, ImageObjective) and objective.needs_images


def evaluate(objective: Objective, responses: Any, images: Any) -> Any:
    """Returns scores ``(n,)``; gives images only to an objective that looks at them.

    Args:
        objective: Any, also one that knows nothing of images.
        responses: ``(n, units[, time])``, numpy or torch.
        images: ``(n, 3, h, w)`` in [0, 1], of the same kind; what was shown.
    """
    if isinstance(objective, ImageObjective) and objective.needs_images:
        return objective(responses, images)
    return objective(responses)
