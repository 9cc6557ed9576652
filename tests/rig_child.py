"""Processes of their own: a rig, and an experiment at it. A test kills either at any moment."""

from __future__ import annotations

import multiprocessing
import os
import warnings

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
from closedloop.subjects import RigSubject
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


def session(address, folder, images=60):
    """A session at a rig, which goes on where it was."""
    fourier, pixels = Fourier(SIDE, 2), Pixels(4)
    threads = [
        Thread(fourier, CMAES(fourier.space, seed=1, population=8), Unit(0), "fourier"),
        Thread(pixels, IsotropicES(pixels.space, seed=2, population=6), Unit(1), "pixels"),
    ]
    photographs = np.random.default_rng(5).integers(0, 256, (5, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)
    subject = RigSubject(address, resolution=SIDE, patience_s=0.4, connect_s=30)
    settings = {"images": images, "interleave": 2, "retest_candidates": 1, "retest_repeats": 2, "keep": "none"}
    return Session(subject, threads, references=photographs, save=folder, exists="resume", progress=False, **settings)


def ask(address, folder):
    """Runs the session to its end; leaves with status 0 if it got there."""
    warnings.simplefilter("ignore", SubjectWarning)
    session(address, folder).run()
    os._exit(0)
