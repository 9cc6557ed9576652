"""How much of a network's speed is left in the browser's window on it, and how long a click takes beside the model.

``frames_over_forward``: camera frames per second (a JPEG goes to the server, the sprite of all channels of a middle
layer of `lite0` and the five most probable classes come back) divided by bare forward passes per second. That pass is
the whole network on an image that lies in memory, by the engine that `load_subject` chooses; both with as many threads
as this process has. They alternate, several times: the ratio is the median over the rounds, with its range.
``forward_over_frame_cpu``: the same of the processor's time, the client's part of a frame among it; this can be told
on a busy computer, too.
``click_extra_ms``: from a click on a unit to all that Look shows of it (its answer, and the slowest way back to pixels)
and its page where there is one, less the time in which the model itself computes; median over units.

    python benchmarks/viewer.py [--quick]
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from closedloop.images import natural_references, to_bytes
from closedloop.subjects import load_subject
from closedloop.viewer import view

LAYER = "blocks.3"
METHODS = ("gradient", "guided-backprop", "deconvnet")


class Browser:
    """One connection to the server, as a tab has it."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://").strip("/"))

    def __call__(self, method: str, path: str, body: bytes = b"") -> tuple[bytes, http.client.HTTPMessage]:
        """Returns the content and the headers of an answer."""
        headers = {"Content-Type": "image/jpeg", "X-Tab": "benchmark"} if body else {"X-Tab": "benchmark"}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
        except (BrokenPipeError, http.client.RemoteDisconnected):  # it was idle for some seconds
            self._connection.close()
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content, answer.headers


def rate(do: Callable[[int], Any], count: int) -> tuple[float, float]:
    """Calls per second, and the processor's milliseconds that each takes on all cores together."""
    start, used = time.perf_counter(), time.process_time()
    for i in range(count):
        do(i)
    return count / (time.perf_counter() - start), 1000 * (time.process_time() - used) / count


def frames(images: np.ndarray) -> list[bytes]:
    """Images ``(n, 3, h, w)`` in [0, 1] as a camera's JPEGs."""
    found = []
    for image in to_bytes(images):
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=85)
        found.append(buffer.getvalue())
    return found


def camera(ask: Browser, images: np.ndarray, rounds: int, count: int) -> dict[str, Any]:
    """The frames' rate over the bare pass's."""
    bare, shots = load_subject("lite0"), frames(images)

    def frame(i: int) -> None:
        ask("POST", f"/api/look?layer={LAYER}&unit=3", shots[i % len(shots)])

    def forward(i: int) -> None:
        bare.record(images[i % len(images)][None])

    for _ in range(3):  # the server makes its quick graph after the first answer
        frame(0), forward(0)
    pairs = [(rate(frame, count), rate(forward, count)) for _ in range(rounds)]
    ratios = [mine[0] / other[0] for mine, other in pairs]
    work = [other[1] / mine[1] for mine, other in pairs]
    return {
        "frames_over_forward": round(statistics.median(ratios), 3),
        "frames_over_forward_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "frames_per_s": round(statistics.median(mine[0] for mine, _ in pairs), 1),
        "forwards_per_s": round(statistics.median(other[0] for _, other in pairs), 1),
        "forward_over_frame_cpu": round(statistics.median(work), 3),
        "cpu_ms_beside_forward": round(statistics.median(mine[1] - other[1] for mine, other in pairs), 2),
        "engine": bare.engine,
    }


def clicks(ask: Browser, units: int) -> dict[str, Any]:
    """What a click takes beside the model."""
    name = json.loads(ask("GET", "/api/inputs")[0])[0]["id"]
    parts = json.loads(ask("GET", "/api/health")[0])["parts"]
    extra: dict[str, list[float]] = {}
    for unit in range(units + 1):
        for what in ("look", *METHODS, *(["page"] if "units" in parts else [])):
            start = time.perf_counter()
            model = clicked(ask, what, name, unit)
            if unit:  # the first one makes what the others use
                extra.setdefault(what, []).append(1000 * (time.perf_counter() - start) - model)
    medians = {what: statistics.median(values) for what, values in extra.items()}
    page = medians.get("page", 0.0)
    return {
        "click_extra_ms": round(medians["look"] + max(medians[m] for m in METHODS) + page, 1),
        "click_extra_ms_of": {what: round(value, 1) for what, value in medians.items()},
    }


def clicked(ask: Browser, what: str, name: str, unit: int) -> float:
    """Asks for one thing that a click shows; returns the milliseconds that the model took for it."""
    if what == "page":
        ask("GET", f"/units/{LAYER}/{unit}")
        return 0.0
    if what == "look":
        content, _ = ask("POST", f"/api/look?layer={LAYER}&unit={unit}&input={name}")
        return 0.0 if unit else float(json.loads(content[4 : 4 + int.from_bytes(content[:4], "big")])["ms"])
    _, headers = ask("POST", f"/api/backward?layer={LAYER}&unit={unit}&input={name}&method={what}&filter=norm")
    return float(json.loads(headers["X-Info"])["ms"])


def main() -> None:
    """Prints what was measured; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    images = natural_references(224).images[:16]
    with view(load_subject("lite0", engine="eager")) as shown:
        ask = Browser(shown.address)
        ask("GET", "/api/subject")
        found = camera(ask, images, *((5, 20) if quick else (15, 60)))
        found |= clicks(ask, 8 if quick else 30)
    found |= {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "python": platform.python_version()}
    for key, value in found.items():
        print(f"{key}: {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
