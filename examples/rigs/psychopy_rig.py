"""Shows the blocks of ``closedloop serve`` by PsychoPy. Copy it, and say how your spikes are read (`responses`).

closedloop serve experiment.yaml        # subject: {name: served, units: 32, resolution: 256}
python psychopy_rig.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from closedloop_client import Client


def show_session(
    session: Client, window: Any, visual: Any, core: Any, responses: Callable[[float], Sequence[float]]
) -> int:
    """Shows all blocks of a session; returns how many.

    Args:
        session: Whom to ask.
        window: ``psychopy.visual.Window``.
        visual: The module ``psychopy.visual``.
        core: The module ``psychopy.core``.
        responses: From the onset of an image, in seconds of the window's clock, to a number for each unit.
    """
    clock, done = core.Clock(), 0
    while (block := session.ask()) is not None:
        stimuli = [_stimulus(visual, window, block["show"], image) for image in block["images"]]
        told = []
        for trial in block["trials"]:
            stimuli[trial["image"]].draw()
            window.flip()
            onset_s = clock.getTime()
            core.wait(block["show"]["on_s"])
            window.flip()
            core.wait(block["show"]["off_s"])
            counts = [float(value) for value in responses(onset_s)]
            told.append(
                {
                    "trial": trial["trial"],
                    "status": "ok",
                    "onset_s": onset_s,
                    "onset_source": "flip",
                    "counts": counts,
                }
            )
        session.tell(block, told)
        done += 1
    return done


def _stimulus(visual: Any, window: Any, show: dict[str, Any], image: dict[str, Any]) -> Any:
    """Returns an image as PsychoPy shows it: values from -1 to 1, the first row at the bottom."""
    rgb = np.frombuffer(image["rgb"], np.uint8).reshape(image["height"], image["width"], 3)
    pixels = rgb[::-1].astype(np.float32) / 127.5 - 1
    where = {} if show["size_deg"] is None else {"size": show["size_deg"], "units": "deg"}
    position = {} if show["position_deg"] is None else {"pos": show["position_deg"]}
    return visual.ImageStim(window, image=pixels, **where, **position)


if __name__ == "__main__":
    from psychopy import core, visual

    def silence(onset_s: float) -> list[float]:
        """Stands where your spikes are read."""
        raise SystemExit("say how your spikes are read: responses(onset_s) returns a number for each unit")

    with Client() as session:
        show_session(session, visual.Window(fullscr=True, units="deg"), visual, core, silence)
