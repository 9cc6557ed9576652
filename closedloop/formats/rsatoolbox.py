"""Turns recordings into data for representational similarity analysis with rsatoolbox."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, require
from closedloop.interfaces import FloatArray
from closedloop.recording.evolutions import evolution_facts
from closedloop.recording.layout import REFERENCE
from closedloop.recording.lean import all_units, complete
from closedloop.signatures import at_door


@at_door
def to_rsatoolbox(recording: xr.Dataset) -> Any:
    """Returns the responses as an `rsatoolbox.data.Dataset`: presentations are observations, units are channels.

    A presentation of which any response was lost is left out, for a dissimilarity of it has no meaning. Coordinates on
    presentations (and `score`) become ``obs_descriptors``, those on units ``channel_descriptors``, and what identifies
    the run ``descriptors``; numbers are floats. So ``rsatoolbox.rdm.calc_rdm(d, descriptor="stimulus_id")`` compares
    images, and ``descriptor="generation"`` generations; with ``cv_descriptor="repeat"`` it cross-validates, where every
    image was shown several times.

    Args:
        recording: What `open_recording` returned, or a part of it.

    Returns:
        A `Dataset`; with a time axis a `TemporalDataset` whose time is the number of the bin.

    Raises:
        InvalidArgumentError: Every presentation lost a response.
        MissingExtraError: The extra "rsa" is not installed.
    """
    data = require("rsatoolbox.data", "rsa", "to_rsatoolbox")
    recording = complete(recording, "rsatoolbox")
    whole = recording.isel(presentation=_complete(recording))
    observations = {**_along(whole, "presentation"), **evolution_facts(whole), "score": whole["score"].values}
    for name, values in observations.items():  # rsatoolbox averages numbers, and puts NaN into arrays of their type
        observations[name] = values.astype(float) if values.dtype.kind in "iu" else values
    facts = {
        "descriptors": {str(n): c.item() for n, c in whole.coords.items() if c.ndim == 0},
        "obs_descriptors": observations,
        "channel_descriptors": _along(whole, "neuroid"),
    }
    responses = whole["responses"].values.astype(float)
    if responses.ndim == 2:
        return data.Dataset(responses, **facts)
    return data.TemporalDataset(responses, **facts, time_descriptors={"time": np.arange(responses.shape[2])})


@at_door
def rdm_movie(
    recording: xr.Dataset, thread: str | None = None, method: str = "euclidean", images: int | None = None
) -> Any:
    """Computes how the images of a generation differ from each other, generation by generation.

    In each generation the evolved images are put in the order of their score, the best first; the dissimilarities of
    the population responses to them are one frame. As an evolution converges, its images come to be one, and the
    frames fade.

    Args:
        recording: An evolution with at least two units (one will do for "euclidean").
        thread: Which; None where there is only one.
        method: As `rsatoolbox.rdm.calc_rdm` takes it.
        images: How many of each generation, the best; None takes as many as every generation has.

    Returns:
        `rsatoolbox.rdm.RDMs`, one for each generation, with the descriptor ``time``: the generation. Rows have the
        descriptor ``rank``: 0 is the best-scored image.

    Raises:
        InvalidArgumentError: No such thread, or too few images.
        MissingExtraError: The extra "rsa" is not installed.
    """
    rsatoolbox = require("rsatoolbox", "rsa", "rdm_movie")
    generations, ranked = _ranked(all_units(recording), thread)
    least = min((len(r) for r in ranked), default=0)
    count = least if images is None else images
    if not 2 <= count <= least:
        raise InvalidArgumentError(f"images: expected 2 to {least}, as many as every generation has, got {count}.")
    data = rsatoolbox.data.TemporalDataset(
        np.stack([r[:count] for r in ranked], axis=2),
        obs_descriptors={"rank": np.arange(count)},
        channel_descriptors=_along(recording, "neuroid"),
        time_descriptors={"time": generations},
    )
    return rsatoolbox.rdm.calc_rdm_movie(data, method=method, descriptor="rank")


def _ranked(recording: xr.Dataset, thread: str | None) -> tuple[NDArray[Any], list[FloatArray]]:
    """Returns the generations, and for each the mean responses ``(images, units)``, the best-scored image first."""
    names = [n for n in dict.fromkeys(recording["thread"].values.tolist()) if n != REFERENCE]
    if (thread is None and len(names) != 1) or (thread is not None and thread not in names):
        raise InvalidArgumentError(f"thread: expected one of {names}, got {thread!r}.")
    own = (recording["thread"].values == (thread or names[0])) & (recording["kind"].values == "evolved")
    part = recording.isel(presentation=np.flatnonzero(own & _complete(recording)))
    responses = part["responses"].values.astype(float)
    responses = responses.mean(axis=2) if responses.ndim == 3 else responses
    generation, ids, score = (part[n].values for n in ("generation", "stimulus_id", "score"))
    generations = np.unique(generation)
    ranked = []
    for number in generations:
        mine = generation == number
        images, first, inverse = np.unique(ids[mine].astype(str), return_index=True, return_inverse=True)
        means = np.stack([responses[mine][inverse == i].mean(axis=0) for i in range(len(images))])
        ranked.append(means[np.argsort(-score[mine][first], kind="stable")])
    return generations, ranked


def _complete(recording: xr.Dataset) -> NDArray[np.bool_]:
    """Marks the presentations of which no response was lost, ``(n,)``."""
    responses = recording["responses"].values
    kept: NDArray[np.bool_] = ~np.isnan(responses).any(axis=tuple(range(1, responses.ndim)))
    if not kept.any():
        raise InvalidArgumentError("recording: expected a presentation with all its responses, but each lost some.")
    return kept


def _along(recording: xr.Dataset, dim: str) -> dict[str, NDArray[Any]]:
    """Returns the coordinates on a dimension by name."""
    return {str(n): c.values for n, c in recording.coords.items() if c.dims == (dim,)}
