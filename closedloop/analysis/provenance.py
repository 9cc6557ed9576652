"""Who proposed the images of an evolution: the prior, learning from codes, or a twin; and what each of them brought."""

from __future__ import annotations

import numpy as np
import xarray as xr

from closedloop.analysis.runs import check_recording
from closedloop.analysis.summary import summarize
from closedloop.recording.layout import PROPOSED
from closedloop.signatures import at_door

#: How a recording names the way in which an image's code was found.
PRIOR, CODES, BY_TWIN = "prior", "codes", "twin"
#: What a sentence calls each.
WAYS = {PRIOR: "draws from the prior", CODES: "learning from codes", BY_TWIN: "the twin"}


@at_door
def proposers(recording: xr.Dataset, thread: str = "main") -> xr.Dataset:
    """Returns who proposed the evolved images of one thread.

    Returns:
        Over ``way`` ("prior", "codes", "twin") ``images``, the number of its presentations while the thread evolved,
        and ``mean``, their mean score. The attribute ``selected`` says who proposed the image that was re-tested last;
        "" where none was. Empty where the run's optimizer has no ways of its own.
    """
    check_recording(recording, "thread", "score", "kind", "stimulus_id")
    known = recording[PROPOSED].values if PROPOSED in recording.coords else np.full(recording.sizes["presentation"], "")
    own = recording["thread"].values == thread
    evolved = own & (recording["kind"].values == "evolved")
    ways = [way for way in dict.fromkeys(known[evolved].tolist()) if way]
    score = recording["score"].values
    means = [np.nanmean(s) if np.isfinite(s := score[evolved & (known == way)]).any() else np.nan for way in ways]
    found = next((s.evolved.stimulus_id for s in summarize(recording) if s.thread == thread), "")
    places = np.flatnonzero(own & (recording["stimulus_id"].values == found) & (known != ""))
    return xr.Dataset(
        {"images": ("way", [int((evolved & (known == way)).sum()) for way in ways]), "mean": ("way", np.array(means))},
        {"way": ways},
        {"selected": str(known[places[0]]) if len(places) else ""},
    )


def proposers_in_words(recording: xr.Dataset, thread: str = "main") -> str:
    """Says it in a sentence; empty where the run does not say it."""
    if PROPOSED not in recording.coords:
        return ""
    found = proposers(recording, thread)
    images = dict(zip(found["way"].values.tolist(), found["images"].values.tolist(), strict=True))
    if not images:
        return ""
    counts = ", ".join(f"{count:,} by {WAYS.get(way, way)}" for way, count in images.items())
    alone = "" if BY_TWIN in images or CODES not in images else "; the twin did not predict, so it proposed none"
    selected = found.attrs["selected"]
    return f"{counts}{alone}" + (f"; the re-tested one by {WAYS.get(selected, selected)}" if selected else "")
