"""Simulated recordings whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr


def build(responses, *, thread="reference", generation=0, kind="reference", stimulus_id="", score=np.nan, codes=None,
          scalars=None, evolutions=None, **coords):  # fmt: skip
    """A recording from its columns; a single value stands for all presentations.

    Args:
        responses: ``(n,)`` of one unit, ``(n, units)`` or ``(n, units, time)``.
        thread: And the other columns: one value, or ``(n,)``.
        codes: ``(n, latent)``.
        scalars: What identifies the run.
        evolutions: What is known of each evolution: lists of one text for each, by name.
        coords: Further coordinates: ``(n,)`` on presentations, or scalars.
    """
    responses = np.asarray(responses, dtype=float)
    responses = responses[:, None] if responses.ndim == 1 else responses
    n, units = responses.shape[:2]
    dims = ("presentation", "neuroid", "time_bin")[: responses.ndim]

    def column(value):
        value = np.broadcast_to(np.asarray(value), n)
        return ("presentation", value.astype(object) if value.dtype.kind == "U" else value.copy())

    columns = {"thread": thread, "generation": generation, "kind": kind, "stimulus_id": stimulus_id, **coords}
    variables = {"responses": (dims, responses), "score": column(np.asarray(score, dtype=float))}
    if codes is not None:
        variables["latent_code"] = (("presentation", "latent"), np.asarray(codes, dtype=float))
    names = np.array([f"v4.{i}" for i in range(units)], dtype=object)
    scalars = {"subject": "v4", "seed": 0, **(scalars or {})}
    evolving = {k: ("evolution", np.array(v, dtype=object)) for k, v in (evolutions or {}).items()}
    named = {k: column(v) for k, v in columns.items()}
    return xr.Dataset(variables, coords={**named, "neuroid_id": ("neuroid", names), **evolving, **scalars})


def repeated(table):
    """A recording of reference images: responses ``(stimuli, repeats)`` or ``(stimuli, repeats, units)``."""
    table = np.asarray(table, dtype=float)
    table = table[..., None] if table.ndim == 2 else table
    stimuli, repeats, units = table.shape
    return build(
        table.reshape(-1, units),
        stimulus_id=np.repeat([f"image-{i:03d}" for i in range(stimuli)], repeats),
    )


def evolution(scores, references=None, *, retests=None, codes=None, name="main", objective="unit(0)", seed=0):
    """One run: scores ``(generations, images)`` of an evolution, by a unit that says them.

    Args:
        scores: ``(generations, images)``.
        references: Responses ``(generations, references)`` shown in each generation.
        retests: By stimulus id, responses ``(selecting, confirming)``, two lists; "natural" ones start with "ref".
        codes: ``(generations, images, latent)``.
        name: The thread's.
        objective: Its text.
        seed: The run's.
    """
    scores = np.asarray(scores, dtype=float)
    rows = [
        (name, g, "evolved", f"{name}-g{g:04d}-{i:03d}", value, value)
        for g, line in enumerate(scores)
        for i, value in enumerate(line)
    ]
    latent = None if codes is None else list(np.asarray(codes, dtype=float).reshape(scores.size, -1))
    for g, line in enumerate([] if references is None else references):
        rows += [("reference", g, "reference", f"ref-{i:03d}", np.nan, value) for i, value in enumerate(line)]
    for step in (0, 1):
        for image, values in (retests or {}).items():
            own = "reference" if image.startswith("ref") else name
            mean = np.mean(values[step]) if own == name and len(values[step]) else np.nan
            rows += [(own, len(scores) + step, "retest", image, mean, value) for value in values[step]]
    thread, generation, kind, ids, score, responses = (np.array(c) for c in zip(*rows, strict=True))
    if latent is not None:
        known = dict(zip(ids[: scores.size].tolist(), latent, strict=True))
        latent = [known.get(i, np.full(len(latent[0]), np.nan)) for i in ids.tolist()]
    return build(
        responses, thread=thread, generation=generation, kind=kind, stimulus_id=ids, score=score, codes=latent,
        evolutions={"evolution": [name], "objective": [objective], "generator": ["g"], "optimizer": ["o"]},
        scalars={"seed": seed},
    )  # fmt: skip


@pytest.fixture(name="build")
def _build():
    return build


@pytest.fixture(name="repeated")
def _repeated():
    return repeated


@pytest.fixture(name="evolution")
def _evolution():
    return evolution


@pytest.fixture
def rng():
    return np.random.default_rng(0)
