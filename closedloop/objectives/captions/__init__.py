"""Captions as objectives: what an image shows, in words."""

from typing import TYPE_CHECKING

from closedloop.errors import late_import

if TYPE_CHECKING:
    from closedloop.objectives.captions.objective import CaptionObjective, load_clip, load_open_clip

__getattr__ = late_import(
    __name__, {"CaptionObjective": "objective", "load_clip": "objective", "load_open_clip": "objective"}
)

__all__ = ["CaptionObjective", "load_clip", "load_open_clip"]
