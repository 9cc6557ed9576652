"""How far many runs go: many units in one session, two workers on two cores, the catalogue, and a simulated cluster.

``threads_over_engine``: images per second of 64 units of lite0 evolved in one session (native, auto, written to disk)
over those of generator and subject called on the same number of images with nothing else.
``default_over_engine``: the same of one unit, as ``closedloop evolve`` does it, over the engine at its best batch;
``others_cpu`` the processor's share of all else; and ``loop_over_engine``, that of a cheap generation of 40 Fourier
images: of ``benchmarks/loop.py``.
``two_workers_speedup``: seconds of a sweep of runs by one worker over those by two, each pinned to a core.
``index_runs_per_s``: of ``benchmarks/catalogue.py``. ``files_per_run``: of one run of a sweep; ``of_references`` of
them are its copies of the references.

    python benchmarks/scale.py [--quick] [--simulate] [--only NAME …]

``--simulate`` takes measured times of tasks and of a scheduler (or those below, said as assumed), and says how many
workers a cluster can use for 100,000 runs, and what stops it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from loop import Clock, best_rate  # benchmarks/loop.py, which lies beside this file

from closedloop import Session, Thread
from closedloop.generators import load_generator
from closedloop.loop.each import threads_of_units
from closedloop.protocols import sweep
from closedloop.subjects import load_subject

FOLDER = Path(__file__).parent


def session_rate(subject: Any, threads: list[Thread], images: int) -> float:
    """Images per second of a session that is written to disk, references among them."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        Session(
            subject, threads, references="bundled", images=images, retest_candidates=0, save=Path(folder) / "run",
            responses="own", observers=[clock], progress=False,
        ).run()  # fmt: skip
    return clock.shown / clock.seconds


def threads_over_engine(quick: bool) -> dict[str, Any]:
    """Many units at once over the bare engine; alternately."""
    rounds, images = (2, 40) if quick else (5, 100)
    subject, generator = load_subject("lite0", layer="output", units="0-63"), load_generator("native")
    many = []
    for number in range(rounds):
        before = best_rate(subject, generator)
        threads = threads_of_units(subject.units, "all", generator, "auto", 100 + number)
        rate = session_rate(subject, threads, images)
        bare = (before + best_rate(subject, generator)) / 2  # on both sides, for a machine that slows down
        many.append(rate / bare)
        print(f"bare {bare:6.1f} images/s, 64 threads {many[-1]:.3f} of it", flush=True)
    return {
        "threads_over_engine": median(many),
        "threads_over_engine_range": [round(min(many), 3), round(max(many), 3)],
        "engine": subject.engine,
    }


def of_loop(quick: bool) -> dict[str, Any]:
    """What ``benchmarks/loop.py`` measures of one unit."""
    found = last_line("loop.py", *["--quick"] * quick)
    names = (
        "default_over_engine",
        "default_over_engine_range",
        "engine_images_per_s",
        "others_cpu",
        "loop_over_engine",
    )
    return {name: found[name] for name in names}


def last_line(script: str, *arguments: str) -> dict[str, Any]:
    """Runs another benchmark, and returns the JSON of its last line."""
    command = [sys.executable, str(FOLDER / script), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(found.stdout.strip().splitlines()[-1])
    return result


def two_workers(quick: bool) -> dict[str, Any]:
    """A sweep of runs of some 30 s by one worker and by two; its files; and the scheduler's own time for a run."""
    images = 100 if quick else 600
    plan = {"subject": "lite0", "layer": "output", "units": "0-3", "images": images, "retest_candidates": 0}
    times, files = {}, {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            result = sweep(plan, Path(folder) / "s", workers=workers, progress=False)
            times[workers] = time.perf_counter() - began
            if result.failed:
                raise RuntimeError(f"runs failed: {result.failed}")
            names = [p for p in Path(folder).rglob("*") if p.is_file()]
            whole = {p.stat().st_ino: p.stat().st_size for p in names}  # of files that runs share, one
            size = sum(whole.values())
            files = {"files_per_run": round(len(whole) / 4), "mb_per_run": round(size / 4e6, 2)}
            files["of_references"] = round(sum(p.parent.name == "references" for p in names) / 4)
    print(f"four runs of {images} images: {times[1]:.0f} s by one worker, {times[2]:.0f} s by two", flush=True)
    speedup = {"two_workers_speedup": round(times[1] / times[2], 2)}
    return {**speedup, "run_s": round(times[1] / 4, 1), "run_images": images, **files}


# A cluster on paper and in code ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cluster:
    """What a simulated cluster is made of; times in seconds.

    Attributes:
        workers: Processes that each do one run at a time.
        runs: Runs of the sweep.
        run_s: Median duration of a run on one worker.
        run_spread: Standard deviation of its logarithm.
        start_s: A worker's start: imports, its first subject and generator.
        task_s: Time of the scheduler and client for one run: submitted, heard of, looked up.
        blocks: Commits of a run.
        files: Files that are written or replaced in one commit.
        commit_s: That a commit waits for a network disk when nobody else asks it.
        disk_per_s: Operations on files that the shared disk does in a second, of all workers together.
        begin_files: Files that a run makes once: references, experiment, arrays.
        shared: Of these those that finished runs share with each other, the references. Each block keeps one image.
        deaths_per_hour: Of one worker; its run goes on from its last commit.
    """

    workers: int = 1000
    runs: int = 100_000
    run_s: float = 130.0
    run_spread: float = 0.3
    start_s: float = 8.0
    task_s: float = 0.005
    blocks: int = 400
    files: int = 8
    commit_s: float = 0.02
    disk_per_s: float = 20_000.0
    begin_files: int = 200
    shared: int = 160
    deaths_per_hour: float = 0.02


def simulate(cluster: Cluster, seed: int = 0) -> dict[str, Any]:
    """Plays a sweep event by event: a scheduler that hands over one run after the other, and a disk with a rate.

    The disk is a server of all commits: where they ask for more than it does in a second, each run is stretched by the
    ratio. The scheduler is a server with one queue. Workers die at random and lose half a block and their start.
    """
    rng = np.random.default_rng(seed)
    asked = cluster.blocks * cluster.files + cluster.begin_files
    # Operations per second if no one waited; a run takes as long as its computing, or as the disk lets it.
    waits = cluster.blocks * cluster.commit_s
    demand = cluster.workers * asked / (cluster.run_s + waits)
    stretch = max(1.0, demand / cluster.disk_per_s)
    computing = cluster.run_s * rng.lognormal(0, cluster.run_spread, cluster.runs)
    durations = (computing + waits) * stretch
    deaths = rng.poisson(cluster.deaths_per_hour * durations / 3600)
    durations += deaths * (cluster.start_s + 0.5 * cluster.run_s / cluster.blocks)
    free = [(cluster.start_s * float(u), w) for w, u in enumerate(rng.uniform(1, 1.5, cluster.workers))]
    heapq.heapify(free)
    scheduler, busy, waited, end = 0.0, 0.0, 0.0, 0.0
    for duration in durations.tolist():
        at, worker = heapq.heappop(free)
        begins = max(at, scheduler) + cluster.task_s
        scheduler = begins
        waited += begins - at
        busy += duration
        end = max(end, begins + duration)
        heapq.heappush(free, (begins + duration, worker))
    whole = end * cluster.workers
    return {
        "hours": round(end / 3600, 3),
        "efficiency": round(float(computing.sum()) / whole, 3),
        "waiting_share": round(waited / whole, 3),
        "disk_stretch": round(stretch, 2),
        "scheduler_share": round(cluster.runs * cluster.task_s / end, 3),
        "files_millions": round(cluster.runs * (cluster.begin_files - cluster.shared + cluster.blocks) / 1e6, 1),
    }


def curve(base: Cluster) -> list[dict[str, Any]]:
    """The same sweep with more and more workers."""
    rows = []
    for workers in (1, 10, 100, 300, 1000, 3000, 10_000):
        found = simulate(replace(base, workers=workers, runs=min(base.runs, max(2000, 100 * workers))))
        whole = base.run_s + base.blocks * base.commit_s
        disk = base.disk_per_s * whole / (base.blocks * base.files + base.begin_files)
        limits = {"disk": disk, "scheduler": base.run_s / base.task_s}
        first = min(limits, key=lambda name: limits[name])
        held = first if found["efficiency"] < 0.9 and workers > 0.9 * min(limits.values()) else "–"
        rows.append({"workers": workers, **found, "speedup": round(workers * found["efficiency"]), "held_by": held})
    return rows


def simulated(measured: dict[str, Any]) -> dict[str, Any]:
    """The cluster with what was measured here, and with what was not as it stands in `Cluster`."""
    base = Cluster()
    if "run_s" in measured:
        blocks = measured["run_images"] // 10
        base = replace(base, run_s=measured["run_s"], begin_files=measured["files_per_run"], blocks=blocks)
    print("assumed unless measured:", json.dumps(asdict(base)))
    rows = curve(base)
    for row in rows:
        print(
            "{workers:6d} workers: efficiency {efficiency:.3f}, speed-up {speedup:6d}, held by {held_by}".format(**row)
        )
    return {
        "thousand_workers": simulate(base),
        "three_thousand_workers": simulate(replace(base, workers=3000)),
        "eight_units_together": simulate(replace(base, run_s=8 * base.run_s, runs=base.runs // 8)),
        "and_three_thousand_workers": simulate(replace(base, workers=3000, run_s=8 * base.run_s, runs=base.runs // 8)),
        "curve": [{k: row[k] for k in ("workers", "efficiency", "speedup", "held_by")} for row in rows],
    }


def median(values: list[float]) -> float:
    """Median, three digits."""
    return round(statistics.median(values), 3)


def main() -> None:
    """Measures what was asked for; the last line is JSON."""
    parts: dict[str, Callable[[bool], dict[str, Any]]] = {
        "threads": threads_over_engine,
        "loop": of_loop,
        "workers": two_workers,
        "index": lambda quick: {
            "index_runs_per_s": last_line("catalogue.py", *["--quick"] * quick)["index_runs_per_s"]
        },
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short runs, within some minutes")
    parser.add_argument("--simulate", action="store_true", help="only the simulated cluster; with --only after it")
    parser.add_argument("--only", nargs="+", choices=list(parts), help="only these")
    arguments = parser.parse_args()
    chosen = arguments.only or ([] if arguments.simulate else list(parts))
    found: dict[str, Any] = {}
    for name in chosen:
        found |= parts[name](arguments.quick)
    if arguments.simulate:
        found["simulation"] = simulated(found)
    print(json.dumps({**found, "quick": arguments.quick, "cores": os.cpu_count(), "machine": platform.machine()}))


if __name__ == "__main__":
    main()
