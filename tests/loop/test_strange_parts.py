"""Parts of people's own by the thousand: each works right, or ends in one error that names it, and nothing is lost."""

from __future__ import annotations

import os
import random
import warnings
from contextlib import contextmanager

import numpy as np

from closedloop.errors import ClosedLoopError
from closedloop.images.eight_bit import quantize
from closedloop.interfaces import Generator, Objective, Optimizer, Subject
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.recording.reader import open_recording
from tests.loop.strange_parts import ATTRIBUTES, POPULATION, SEAMS, SIDE, Cells, behaviours, parts, strange
from tests.strategies import THINGS

SETTINGS = {"images": 3 * POPULATION, "retest_candidates": 1, "retest_repeats": 1, "interleave": 1, "lost_blocks": 99}
#: Words of which one must stand in an error of a part.
WORDS = {name: (name,) for name in SEAMS} | {"rule": ("stop: rule",)}
PROTOCOLS = {"subject": Subject, "generator": Generator, "optimizer": Optimizer, "objective": Objective}
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)


@contextmanager
def restored():
    """Whatever a part does to the process is put right."""
    numbers, own, folder, filters = np.random.get_state(), random.getstate(), os.getcwd(), warnings.filters[:]  # noqa: NPY002
    with np.errstate(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    np.random.set_state(numbers)  # noqa: NPY002
    random.setstate(own)
    os.chdir(folder)
    assert warnings.filters == filters


def evolve(made, save):
    thread = Thread(made["generator"], made["optimizer"], made["objective"], "cells")
    options = {"references": PICTURES, "stop": [made["rule"]], "observers": [made["observer"]]}
    return Session(made["subject"], [thread], **options, save=save, progress=False, **SETTINGS).run()


def assert_right(found, generator):
    """Every row's response is what the cells answer to the image of its code, and its score is the first one."""
    codes = found["latent_code"].values
    own = np.isfinite(codes).all(1)
    images = quantize(generator(codes[own]))
    np.testing.assert_array_equal(found["responses"].values[own], Cells().answers(images))
    np.testing.assert_array_equal(found["score"].values[own], found["responses"].values[own, 0])
    shown = [str(name) for name in found["stimulus_id"].values[~own]]
    pictures = PICTURES[np.array([int(name[-5:]) for name in shown], int)]
    np.testing.assert_array_equal(found["responses"].values[~own], Cells().answers(pictures))


def test_parts_of_ones_own_work_or_are_named(tmp_path, counted, tally):
    for seed in range(counted(quick=10, reduced=300, full=10_000)):
        tally("plug-ins")
        rng = np.random.default_rng(seed)
        save = tmp_path / str(seed) / "run" if seed % 12 == 0 else None
        one_part(seed, rng, save)


def one_part(seed, rng, save):
    kind = str(rng.choice(list(SEAMS)))
    made = parts(seed)
    seam, calls = str(rng.choice([s for s in SEAMS[kind] if hasattr(made[kind], s)])), int(rng.integers(7))
    word, behave = behaviours(rng, THINGS[rng.integers(len(THINGS))])
    if seam in ATTRIBUTES and word.startswith("returns"):
        calls = 0  # what it is, it is from the beginning
    whole = made["generator"]
    made[kind] = strange(made[kind], seam, behave, calls)
    said = f"case {seed}: {kind}.{seam} {word} after {calls} calls"
    with restored():
        try:
            found = evolve(made, save)
        except ClosedLoopError as error:
            text = str(error)  # which error it is decides the answer
            assert any(w in text for w in WORDS[kind]), f"{said}: {text}"
            assert not word.startswith("well"), f"{said}: {text}"
            found = open_recording(save) if save is not None and (save / "COMMITTED.json").exists() else None
        except Exception as error:
            raise AssertionError(said) from error
    if found is not None:
        try:
            if kind not in ("subject", "generator", "objective") or word.startswith(("well", "raises", "works")):
                assert_right(found, whole)
        except Exception as error:
            raise AssertionError(said) from error
