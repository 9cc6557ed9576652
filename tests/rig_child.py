"""Processes of their own: a rig, and an experiment at it. A test kills either at any moment."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

from closedloop import CMAES, IsotropicES, Session, Thread, Unit
from closedloop.errors import SubjectWarning
from closedloop.generators import Fourier, Pixels
from closedloop.rigs.faults import FaultyListener, parse_faults
from closedloop.rigs.journal import Journal
from closedloop.rigs.server import RigServer
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.spiking import Firing
from closedloop.rigs.transports import listen
from closedloop.subjects import RigSubject, Served
from tests.crash_child import SIDE, UNITS, NoisyCells
from tests.running_rigs import telling

#: Where processes come from: one import of the libraries serves them all.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def rig(address, journal, faults, pace=0.02, marked=False):
    """Runs a rig until it is killed: stateful cells that fire, or a subject whose responses tell the image."""
    named = parse_faults(faults)
    if marked:
        shows = SimulatedRig(telling(), None, named, seed=1)
    else:
        shows = SimulatedRig(NoisyCells(), Firing(UNITS, (0.05, 0.2), np.array([10.0, 20.0])), named, 1, pace)
    RigServer(shows, FaultyListener(listen(address), named, seed=2), Journal(journal)).run()


def session(subject, folder, images=60):
    """A session at a rig, which goes on where it was."""
    fourier, pixels = Fourier(SIDE, 2), Pixels(4)
    threads = [
        Thread(fourier, CMAES(fourier.space, seed=1, population=8), Unit(0), "fourier"),
        Thread(pixels, IsotropicES(pixels.space, seed=2, population=6), Unit(1), "pixels"),
    ]
    photographs = np.random.default_rng(5).integers(0, 256, (5, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)
    settings = {"images": images, "interleave": 2, "retest_candidates": 1, "retest_repeats": 2, "keep": "none"}
    return Session(subject, threads, references=photographs, save=folder, exists="resume", progress=False, **settings)


def ask(address, folder):
    """Runs the session to its end; leaves with status 0 if it got there."""
    warnings.simplefilter("ignore", SubjectWarning)
    session(RigSubject(address, resolution=SIDE, patience_s=0.4, connect_s=30), folder).run()
    os._exit(0)


def hold(port, folder):
    """Holds a session for a rig that drives itself, to its end; leaves with status 0 if it got there."""
    warnings.simplefilter("ignore", SubjectWarning)
    place, journal = f"127.0.0.1:{port}", str(folder.with_suffix(".journal.sqlite"))
    subject = Served(units=["a", "b"], listen=place, journal=journal, resolution=SIDE, patience_s=0.4)
    session(subject, folder).run()
    subject.desk.end("all is shown")
    os._exit(0)


def drive(port, notes):
    """A rig that drives itself: it answers by pixels and by the name of the trial, loses some, and notes all."""
    file = Path(__file__).parents[1] / "examples" / "rigs" / "closedloop_client.py"
    client = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("client", file))
    spec.loader.exec_module(client)
    with client.Client(port=port, token="", patience_s=120) as asking, notes.open("a", encoding="utf-8") as said:
        while (block := asking.ask(1.0)) is not None:
            said.write(f"shown {block['seq']} {block['attempt']}\n")
            said.flush()
            time.sleep(0.01 * len(block["trials"]))
            trials = []
            for trial in block["trials"]:
                pixels = np.frombuffer(block["images"][trial["image"]]["rgb"], np.uint8).astype(int)
                noise = zlib.crc32(trial["trial"].encode())
                if noise % 10 == 0:
                    continue  # lost, whoever shows it
                counts = [int(pixels[:SIDE].sum() + noise % 97), int(pixels[-SIDE:].sum() + noise % 89)]
                trials.append({"trial": trial["trial"], "status": "ok", "counts": counts, "onset_s": noise % 1000 / 10})
            try:
                asking.tell(block, trials)
            except client.Refused as refused:
                if refused.code != "conflict":  # another block is to be shown: ask
                    raise
                continue
            said.write(f"told {block['seq']}\n")
            said.flush()
    os._exit(0)
