"""What a person calls a unit: "channel 30 of blocks.4, centre (7, 7)", where the data say ``lite0.blocks.4.30@7,7``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from closedloop.interfaces import Units

if TYPE_CHECKING:
    import xarray as xr

#: The layer of a network that is what it returns.
OUTPUT = "output"
#: What is known of a unit of a network and of its place.
_FACTS = ("layer", "channel", "y", "x", "position", "label")


def unit_title(neuroid_id: str, facts: Mapping[str, Any]) -> str:
    """Returns what a person calls a unit.

    Args:
        neuroid_id: Its name in the data, which is its title where nothing more is known.
        facts: What is known of it by name: ``layer``, ``channel``, ``y``, ``x``, ``position``, ``label``.
    """
    label = str(facts.get("label") or "")
    named = f" ({label})" if label else ""
    if not {"layer", "channel"} <= facts.keys() or not _is_whole(facts["channel"]):
        return f"{neuroid_id}{named}"
    layer = "the output" if facts["layer"] == OUTPUT else str(facts["layer"])
    place = _place(facts)
    return f"{'channel' if place else 'unit'} {int(facts['channel'])}{named} of {layer}{place}"


def _place(facts: Mapping[str, Any]) -> str:
    """Returns where in its layer a unit is; empty in a layer without positions. Of tokens `y` is 0, `x` the token."""
    y, x = facts.get("y", -1), facts.get("x", -1)
    if not (_is_whole(y) and _is_whole(x)) or y < 0 or x < 0:
        return ""
    position = str(facts.get("position") or "")
    if position in ("central", "middle"):
        return f", centre ({int(y)}, {int(x)})" if y > 0 or x == 0 else f", {position} token {int(x)}"
    return f", at ({int(y)}, {int(x)})"


def _is_whole(value: Any) -> bool:
    """Returns whether a fact is a whole number; one that is not known is NaN or a text."""
    return isinstance(value, (int, float, np.integer, np.floating)) and bool(np.isfinite(value)) and value % 1 == 0


def recorded_title(recording: xr.Dataset, column: int) -> str:
    """Returns what a person calls a unit of a recording, or of a result that has its coordinates, by its column."""
    ids = recording["neuroid_id"]
    facts = {name: recording[name] for name in _FACTS if name in recording.coords and recording[name].dims == ids.dims}
    return unit_title(str(ids.values[column]), {name: found.values[column] for name, found in facts.items()})


def recorded_titles(recording: xr.Dataset) -> list[str]:
    """Returns the titles of all units of a recording, in their order."""
    return [recorded_title(recording, column) for column in range(recording["neuroid_id"].size)]


def shared(titles: Sequence[str]) -> tuple[list[str], str]:
    """Returns titles without what all of them share, and that: ``["channel 1", "channel 2"], "of blocks.4"``.

    A single title stays whole; so do titles that share nothing.
    """
    parts = [title.partition(" of ") for title in titles]
    tails = {tail for _, _, tail in parts}
    if len(titles) < 2 or len(tails) != 1 or not (tail := tails.pop()):
        return list(titles), ""
    return [head for head, _, _ in parts], f"of {tail}"


def result_title(one: xr.Dataset) -> str:
    """Returns what a person calls the unit of a result, such as one ascent's, which holds a ``title``.

    Results of older versions have a name, and perhaps a label.
    """
    if "title" in one.coords:
        return str(one["title"].item())
    return unit_title(str(one["neuroid_id"].item()), {"label": one["label"].item()} if "label" in one.coords else {})


def subject_title(units: Units, column: int = 0) -> str:
    """Returns what a person calls a unit of a subject, by its column."""
    facts = {name: units.coords[name][column] for name in _FACTS if name in units.coords}
    return unit_title(units.neuroid_id[column], facts)
