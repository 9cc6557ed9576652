"""A small run of every built-in protocol: whole, or cut off after some blocks. Each is built anew and alike."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np

from closedloop import IsotropicES, Session, Thread, Unit
from closedloop.analysis import concat
from closedloop.errors import SubjectError
from closedloop.generators import Fourier, Pixels
from closedloop.protocols import (
    cross_units,
    evolve,
    evolve_elites,
    gratings,
    invariance,
    landscape,
    map_field,
    present,
    selectivity,
)
from closedloop.subjects import FunctionSubject, GaborSubject

SIDE = 16
#: 24 gratings of 16 × 16 pixels in two folders.
POOL = Path(__file__).parent / "data" / "pool"


class Cut:
    """A subject that fails after some blocks."""

    def __init__(self, subject, blocks):
        self._subject, self._left = subject, blocks

    def __getattr__(self, name):
        return getattr(self._subject, name)

    @property
    def fingerprint(self):
        """That of the subject inside; of one that has none nothing is compared."""
        return getattr(self._subject, "fingerprint", "")

    def record(self, images):
        if self._left == 0:
            raise ConnectionError("the cable came off")
        self._left -= 1
        return self._subject.record(images)


def pictures(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)


def cells():
    return GaborSubject(resolution=SIDE, count=2, seed=1)


def classifier():
    weights = np.random.default_rng(3).standard_normal((3 * SIDE**2, 3)).astype(np.float32) / SIDE
    return FunctionSubject(lambda x: np.array([i.ravel() @ weights for i in x]).reshape(-1, 3), 3, name="linear")


def cell():
    return GaborSubject(resolution=SIDE, count=1, seed=1)


def network():
    import torch

    from closedloop.networks.modules import born
    from closedloop.subjects import TorchSubject

    layers = torch.nn.Conv2d, torch.nn.Linear
    net = born(
        lambda: torch.nn.Sequential(
            layers[0](3, 4, 5, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), layers[1](4 * 36, 3)
        ),
        1,
    )
    return TorchSubject(net, resolution=SIDE, engine="eager", name="small")


def layers():
    return network().at(["0", "output"])


def _evolve(subject, save, exists):
    fourier, pixels = Fourier(SIDE, 2), Pixels(8)
    threads = [
        Thread(fourier, IsotropicES(fourier.space, seed=1, population=6), Unit(0), "cells"),
        Thread(pixels, IsotropicES(pixels.space, seed=2, population=5), Unit(1) - 0.5 * Unit(0), "pixels"),
    ]
    return Session(
        subject,
        threads,
        references=pictures(4),
        save=save,
        exists=exists,
        images=18,
        retest_candidates=2,
        retest_repeats=2,
        keep="all",
    ).run()


def _present(subject, save, exists):
    angles = {"angle": np.arange(70.0), "what": [f"thing {i % 3}" for i in range(70)]}
    return present(subject, pictures(70), parameters=angles, save=save, exists=exists)


def _landscape(subject, save, exists):
    generator = Fourier(SIDE, 2)
    center = np.random.default_rng(0).standard_normal(generator.space.dim)
    return landscape(subject, generator, center, planes=["random-random"], steps=9, seed=1, save=save, exists=exists)


def _elites(subject, save, exists):
    return evolve_elites(subject, Pixels(SIDE), images=60, children=20, seed=1, save=save, exists=exists)


def _ascend(subject, save, exists):
    from closedloop.protocols import ascend

    return ascend(
        subject,
        method="raw",
        unit=[0, 2],
        steps=8,
        every=2,
        start=pictures(1)[0],
        references=pictures(4),
        save=save,
        exists=exists,
    )


def _compare(subject, save, exists):
    from closedloop.protocols import Contender, compare

    contenders = [
        Contender("raw", "raw"),
        Contender("evolved", "evolve", {"name": "fourier", "cutoff": 2}, "isotropic"),
    ]
    return compare(subject, [2, 0], contenders, budgets=(60,), naturals=pictures(6), save=save, exists=exists)


def _atlas(subject, save, exists):
    from closedloop.protocols import Contender, atlas

    methods = [
        Contender("raw", "raw"),
        Contender("evolved", "evolve", {"name": "fourier", "cutoff": 2}, "isotropic"),
    ]
    return atlas(subject, None, methods, naturals=pictures(70), budget=60, top=2, save=save, exists=exists)


def _search_natural(subject, save, exists):
    from closedloop.protocols import search_natural

    options = {"budget": 18, "start": 10, "batch": 4, "retest_candidates": 2, "retest_repeats": 2}
    features = {"name": "gabor", "resolution": SIDE, "count": 12, "seed": 3}
    return search_natural(subject, POOL, features=features, **options, save=save, exists=exists)


def _pareto(subject, save, exists):
    from closedloop.protocols import pareto

    options = {"images": 18, "population": 8, "retest_candidates": 2, "retest_repeats": 2}
    return pareto(
        subject, Pixels(SIDE), ["unit(0)", "-1*unit(1)"], references=pictures(4), save=save, exists=exists, **options
    )


def _stretch_and_squeeze(subject, save, exists):
    from closedloop.protocols import stretch_and_squeeze

    code = np.random.default_rng(1).standard_normal(Fourier(SIDE, 2).space.dim)
    options = {"images": 14, "population": 6, "retest_candidates": 2, "retest_repeats": 2}
    return stretch_and_squeeze(subject, Fourier(SIDE, 2), code, save=save, exists=exists, **options)


def _controversial(subject, save, exists):
    from closedloop.protocols import controversial

    models = [GaborSubject(resolution=SIDE, orientation_deg=angle) for angle in (0.0, 90.0)]
    options = {"copies": 2, "steps": 3, "images": 40, "naturals": 3, "repeats": 2}
    return controversial(
        models, 0, subject, Fourier(SIDE, 2), references=pictures(5), save=save, exists=exists, **options
    )


def _map_field(subject, save, exists):
    return map_field(subject, steps=6, save=save, exists=exists)


def _gratings(subject, save, exists):
    return gratings(subject, orientations=6, frequencies=3, save=save, exists=exists)


def _selectivity(subject, save, exists):
    kinds = {"noise": pictures(40), "dark": 0.5 * pictures(26, 1)}
    return selectivity(subject, kinds, repeats=2, save=save, exists=exists)


def _invariance(subject, save, exists):
    return invariance(subject, pictures(1)[0], steps=9, rotations=16, save=save, exists=exists)


@cache
def evolved():
    """Recordings in memory of evolutions for the cells in turn, as many that their images are two blocks."""
    return concat({f"e{i}": _evolution(i % 2) for i in range(66)})


@cache
def _evolution(unit):
    generator = Fourier(SIDE, 2)
    optimizer = IsotropicES(generator.space, seed=unit, population=6)
    return evolve(
        cells(),
        generator,
        optimizer,
        objective=Unit(unit),
        images=12,
        references=None,
        retest_repeats=2,
        progress=False,
    ).load()


def _cross_units(subject, save, exists):
    made = {"main": Fourier(SIDE, 2)}
    return cross_units(subject, evolved(), generators=made, repeats=2, save=save, exists=exists)


#: Of each protocol: its subject, its call with (subject, save, exists), and after how many blocks it is cut off.
RUNS = {
    "evolve": (cells, _evolve, 3),
    "present": (cells, _present, 1),
    "landscape": (cells, _landscape, 1),
    "elites": (classifier, _elites, 2),
    "ascend": (network, _ascend, 3),
    "compare": (network, _compare, 2),
    "atlas": (layers, _atlas, 2),
    "search_natural": (cell, _search_natural, 3),
    "pareto": (cells, _pareto, 2),
    "stretch_and_squeeze": (cell, _stretch_and_squeeze, 2),
    "controversial": (cell, _controversial, 2),
    "map_field": (cells, _map_field, 1),
    "gratings": (cells, _gratings, 1),
    "selectivity": (cells, _selectivity, 1),
    "invariance": (cells, _invariance, 1),
    "cross_units": (cells, _cross_units, 1),
}


def run(name, save=None, exists="fail"):
    """Does a run of a protocol from beginning to end, or goes on with it; returns what its call returns."""
    subject, call, _ = RUNS[name]
    return call(subject(), save, exists)


@cache
def finished(name, base):
    """The folder of a whole run of a protocol, one for all tests of a process below ``base``; it is only read."""
    folder = base / "finished" / name / "one"
    try:
        run(name, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # or the next test would take it for a whole run
        raise
    return folder


def cut_off(name, save, blocks=None):
    """Does a run of a protocol whose subject fails after some blocks, by default in the middle."""
    subject, call, middle = RUNS[name]
    try:
        call(Cut(subject(), middle if blocks is None else blocks), save, "fail")
    except SubjectError:
        return save
    raise AssertionError("it came to its end")


def call_again(name, save):
    """Calls the protocol as `cut_off` did, with ``exists="resume"``; its subject does not fail any more."""
    subject, call, _ = RUNS[name]
    return call(Cut(subject(), -1), save, "resume")


def go_on(name, folder):
    """Resumes a run from its folder; returns its recording."""
    from closedloop import open_recording
    from closedloop.protocols import resume

    resume(folder, subject=RUNS[name][0]())
    return open_recording(folder)


def allocation(steps=4):
    """The loss change allocation of a small training, with every parameter's shares; and its parts, by name."""
    import torch

    from closedloop.networks.modules import born
    from closedloop.protocols import LossChangeAllocation

    model = born(lambda: torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)), 0)
    rng = np.random.default_rng(0)
    data = torch.from_numpy(rng.standard_normal((12, 4)).astype("f4")), torch.from_numpy(rng.integers(0, 3, 12))
    loss_fn, optimizer = torch.nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), 0.1)

    def learn(step):
        optimizer.zero_grad()
        loss_fn(model(data[0]), data[1]).backward()

    lca = LossChangeAllocation(model, loss_fn, data, series="float32", optimizer=optimizer)
    for step in range(steps):
        learn(step)
        with lca.step():
            optimizer.step()
    made = {"model": model, "loss_fn": loss_fn, "data": data, "learn": learn, ("Training", "optimizer"): optimizer}
    return lca.dataset(parameters=True), made
