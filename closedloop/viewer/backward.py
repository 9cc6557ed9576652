"""Which pixels a unit's value comes from, for one image at a time."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.gradients.attribution import FILTERS, RULES, Filter, attribution_pictures, backpropagate
from closedloop.images.eight_bit import from_bytes, to_bytes
from closedloop.images.movies import encode_webp
from closedloop.interfaces import Located
from closedloop.viewer.asked import RequestError
from closedloop.viewer.inputs import Stimulus, encode_jpeg
from closedloop.viewer.looking import Sight

#: Ways back that need one pass; integrated gradients need many.
METHODS = ("gradient", *RULES)
__all__ = ["FILTERS", "METHODS", "Back", "drawn", "propagated"]


@dataclass(frozen=True)
class Back:
    """What came back to the pixels.

    Attributes:
        values: Signed, ``(channels, h, w)``, or ``(frames, channels, h, w)``.
        score: The unit's value.
        ms: What the model took, in milliseconds.
    """

    values: NDArray[np.float32]
    score: float
    ms: float

    def info(self) -> str:
        """Returns what a header says of it, as JSON: the size of the largest value, and why there may be none."""
        largest = float(np.abs(self.values).max(initial=0.0))
        facts: dict[str, Any] = {"scale": largest, "score": self.score, "ms": self.ms}
        if largest == 0:
            facts["reason"] = "nothing comes back: the unit may be silent here."
        return json.dumps(facts, allow_nan=False)


def propagated(sight: Sight, stimulus: Stimulus, layer: str, channel: int, at: tuple[int, int], method: str) -> Back:
    """Propagates one unit at one position back to the pixels.

    Args:
        sight: The subject.
        stimulus: What it is shown.
        layer: The unit's layer.
        channel: Its channel.
        at: Row and column in the layer's map.
        method: One of `METHODS`.

    Raises:
        RequestError: The subject is a black box.
        InvalidArgumentError: There is no rule for the network's activations, which are named.
    """
    if sight.why_not:
        raise RequestError(f"method: {sight.why_not}")
    device = sight.inner.torch_device if isinstance(sight.inner, Located) else "cpu"
    start = time.perf_counter()
    scores, values = backpropagate(sight.forward(layer, channel, *at), from_bytes(stimulus)[None], method, device)
    ms = 1000 * (time.perf_counter() - start)
    if not (np.isfinite(values).all() and np.isfinite(scores).all()):
        raise RequestError(f"unit: the {method} of unit {channel} is not finite for this input.")
    return Back(values[0], float(scores[0]), ms)


def drawn(back: Back, way: Filter, rate_hz: float | None, quick: bool) -> tuple[bytes, str]:
    """Draws what came back as a PNG, a JPEG where it is to be quick, or a WebP of a movie; returns it and its type.

    Args:
        back: What came back.
        way: One of `FILTERS`.
        rate_hz: Of a movie.
        quick: Whether frames of a camera are waiting.
    """
    values = back.values if back.values.ndim == 4 else back.values[None]
    coloured = np.repeat(values, 3, 1) if values.shape[1] == 1 else values
    pictures = to_bytes(attribution_pictures(coloured, way))
    if back.values.ndim == 4:
        return encode_webp(pictures, rate_hz or 10.0), "image/webp"
    picture = Image.fromarray(np.ascontiguousarray(pictures[0].transpose(1, 2, 0)))
    if quick:
        return encode_jpeg(picture, 90), "image/jpeg"
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue(), "image/png"
