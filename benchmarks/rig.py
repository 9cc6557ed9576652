"""A rig in a process of its own: how long the experiment lets it wait, what the way costs, and what kills do.

``turnaround_s`` is the time from an answer to the next block, measured at the rig: 40 images of 256 × 256 of a session
with `auto`, which learns, makes the images, commits and encodes meanwhile (median over blocks). ``transport_ms`` is
what the way adds to a block of such images that is encoded already, there and back: from the call of the experiment to
its answer, without the time in which the rig checks, writes down and answers it, and without that of turning headers
into JSON and back (median over blocks). ``kills`` is how often either side was killed while 400 images that tell their
number in the response were shown by a rig that loses, delays, doubles and reorders; ``mislabelled`` counts
presentations that were taken for another image, and ``changed`` those of runs that differ from one without kills.

    python benchmarks/rig.py [--quick] [--way zmq|folder] [--generator fourier]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from closedloop import Session, Thread, load_optimizer, open_recording
from closedloop.generators import load_generator
from closedloop.protocols import present
from closedloop.rigs.faults import FaultyListener, parse_faults
from closedloop.rigs.journal import Journal
from closedloop.rigs.messages import Message, decoded, encoded
from closedloop.rigs.server import RigServer
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.spiking import Firing
from closedloop.rigs.transports import Listener, listen
from closedloop.subjects import FunctionSubject, RigSubject

IMAGES, SIDE, UNITS = 40, 256, 32
#: What goes wrong at the rig that is killed.
FAULTS = [
    "lost:0.1",
    "fixation:0.02:4",
    "double:0.3",
    "late:0.1:0.05",
    "reorder:0.2",
    "mute:0.1",
    "adaptation",
    "drift",
]
PROCESSES = multiprocessing.get_context("forkserver")


class Timed:
    """Notes when blocks come and when answers go, and says it on a way of its own."""

    def __init__(self, inner: Listener, told: Any) -> None:
        self._inner, self._told, self._came, self._went = inner, told, 0.0, 0.0

    def receive(self, timeout_s: float) -> tuple[Any, Message] | None:
        """Notes when a block came."""
        got = self._inner.receive(timeout_s)
        self._came = time.perf_counter()
        return got

    def reply(self, peer: Any, sent: Message) -> None:
        """Notes when an answer went."""
        waited, took = self._came - self._went if self._went else None, time.perf_counter() - self._came
        self._inner.reply(peer, sent)
        if sent.type == "answer":
            self._went = time.perf_counter()
            self._told.put((waited, took))

    def close(self) -> None:
        """Ends it."""
        self._inner.close()


def measured_rig(address: str, journal: Path, told: Any) -> None:
    """Answers at once, with the spikes of 32 units that see the mean colours of an image's parts."""

    def parts(images: Any) -> Any:
        n, size = len(images), SIDE // 4
        return images[:, :2].reshape(n, 2, 4, size, 4, size).mean(axis=(3, 5)).reshape(n, UNITS)

    firing = Firing(UNITS, (0.05, 0.2), np.full(UNITS, 8.0))
    shows = SimulatedRig(FunctionSubject(parts, UNITS, name="parts"), firing)
    RigServer(shows, Timed(listen(address), told), Journal(journal)).run()


def number_of(images: Any) -> Any:
    """Returns the numbers that images tell."""
    return np.rint((images[:, 0, 0, 0] * 255 - 2) / 5) * 50 + np.rint((images[:, 1, 0, 0] * 255 - 2) / 5)


def numbered(count: int) -> Any:
    """Returns images ``(count, 3, 16, 16)`` that tell their numbers."""
    n = np.arange(count)
    colours = np.stack([5 * (n // 50) + 2, 5 * (n % 50) + 2, 0 * n], axis=1) / np.float32(255)
    return np.broadcast_to(colours[:, :, None, None], (count, 3, 16, 16)).astype(np.float32)


def killed_rig(address: str, journal: Path) -> None:
    """Shows images that tell their numbers, and lets go wrong what goes wrong."""

    def respond(images: Any) -> Any:
        return np.stack([number_of(images) + 1, np.ones(len(images))], axis=1)

    faults = parse_faults(FAULTS)
    shows = SimulatedRig(FunctionSubject(respond, 2, name="numbers"), None, faults, seed=1, pace=0.01)
    RigServer(shows, FaultyListener(listen(address), faults, seed=1), Journal(journal)).run()


def asking(address: str, folder: Path, count: int) -> None:
    """Presents the images, and goes on where it was."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of this process
    subject = RigSubject(address, resolution=16, patience_s=0.3, connect_s=30)
    present(subject, numbered(count), resolution=16, save=folder, exists="resume", progress=False)
    os._exit(0)


def address_of(way: str, folder: Path) -> str:
    """Returns a free address of a way."""
    if way == "folder":
        (folder / "exchange").mkdir(parents=True, exist_ok=True)
        return f"folder:{folder / 'exchange'}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"zmq://127.0.0.1:{free.getsockname()[1]}"


def measure(way: str, generator: str, folder: Path, blocks: int) -> tuple[list[float], list[float]]:
    """Returns seconds between an answer and the next block, and milliseconds of the way, of each block."""
    address = address_of(way, folder)
    told = PROCESSES.SimpleQueue()
    rig = PROCESSES.Process(target=measured_rig, args=(address, folder / "journal", told), daemon=True)
    rig.start()
    subject = RigSubject(address, resolution=SIDE, connect_s=60)
    waited, on_the_way = [], []
    ask = subject._client.ask

    def timed(block: Message, expected_s: float = 0.0) -> Any:
        begun = time.perf_counter()
        answer = ask(block, expected_s)
        took, content = time.perf_counter() - begun, encoded(answer)
        rig_waited, rig_took = told.get()
        begun = time.perf_counter()
        encoded(block.header), decoded(content)
        on_the_way.append(1e3 * (took - rig_took - (time.perf_counter() - begun)))
        if rig_waited is not None:
            waited.append(rig_waited)
        return answer

    subject._client.ask = timed  # type: ignore[method-assign]
    made = load_generator(generator, resolution=SIDE)
    optimizer = load_optimizer("auto", made.space, seed=0, population=IMAGES)
    settings = {"images": IMAGES * blocks, "interleave": 0, "retest_candidates": 0, "progress": False}
    Session(subject, [Thread(made, optimizer)], save=folder / "run", **settings).run()
    rig.kill()
    return waited, on_the_way[1:]


def killing(way: str, folder: Path, wanted: int, count: int) -> dict[str, int]:
    """Kills either side, in turn, so often in runs of the same experiment, and compares with one without kills."""
    whole, _ = killed_run(way, folder / "whole", 0, count, 0)
    kills = mislabelled = changed = shown = twice = 0
    for run in range(wanted):
        if kills >= wanted:
            break
        ds, did = killed_run(way, folder / str(run), wanted - kills, count, run)
        numbers = np.array([int(name.rpartition("-")[2]) for name in ds.stimulus_id.values])
        ok = (ds.status == "ok").values
        told = ds.responses.values[:, 0] / ds.responses.values[:, 1] - 1
        mislabelled += int((np.rint(told[ok]) != numbers[ok]).sum() + (~np.isnan(told[~ok])).sum())
        same = np.array_equal(ds.responses.values, whole.responses.values, equal_nan=True)
        changed += 0 if same else int(ds.sizes["presentation"])
        kills, shown, twice = kills + did, shown + ds.sizes["presentation"], twice + int((ds.attempt > 1).sum())
    return {"kills": kills, "mislabelled": mislabelled, "changed": changed, "shown": shown, "marked_twice": twice}


def killed_run(way: str, folder: Path, most: int, count: int, seed: int) -> tuple[Any, int]:
    """Returns the recording of one run, and how many kills it took."""
    folder.mkdir()
    address, rng, kills = address_of(way, folder), np.random.default_rng([3, seed]), 0
    targets = {"rig": (killed_rig, (address, folder / "journal")), "ask": (asking, (address, folder / "run", count))}
    processes = {name: PROCESSES.Process(target=f, args=a, daemon=True) for name, (f, a) in targets.items()}
    for process in processes.values():
        process.start()
    while processes["ask"].exitcode is None and kills < most:
        processes["ask"].join(rng.uniform(0.1, 1.0))
        side = ("rig", "ask")[kills % 2]
        if processes["ask"].exitcode is None:
            processes[side].kill()
            processes[side].join()
            if side == "ask" and processes[side].exitcode == 0:
                break
            processes[side] = PROCESSES.Process(target=targets[side][0], args=targets[side][1], daemon=True)
            processes[side].start()
            kills += 1
    processes["ask"].join()
    processes["rig"].kill()
    if processes["ask"].exitcode != 0:
        raise RuntimeError(f"the experiment ended with status {processes['ask'].exitcode}")
    return open_recording(folder / "run").load(), kills


def main() -> None:
    """Measures and prints; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer blocks and kills, within a minute")
    parser.add_argument("--way", choices=("zmq", "folder"), default="zmq")
    parser.add_argument("--generator", default="fourier", help="makes the images: fourier, native, pixels …")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        blocks, kills = (12, 6) if arguments.quick else (60, 100)
        waited, way = measure(arguments.way, arguments.generator, Path(folder), blocks)
        print(f"answer to next block: {statistics.median(waited):.3f} s ({min(waited):.3f} to {max(waited):.3f})")
        print(f"the way: {statistics.median(way):.2f} ms ({min(way):.2f} to {max(way):.2f})", flush=True)
        (Path(folder) / "kills").mkdir()
        found = killing(arguments.way, Path(folder) / "kills", kills, 100 if arguments.quick else 400)
    figures = {
        "turnaround_s": round(statistics.median(waited), 3),
        "turnaround_range_s": [round(min(waited), 3), round(max(waited), 3)],
        "transport_ms": round(statistics.median(way), 2),
        "transport_range_ms": [round(min(way), 2), round(max(way), 2)],
        **found,
        "way": arguments.way,
        "generator": arguments.generator,
        "blocks": blocks,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
