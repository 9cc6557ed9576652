"""Who helped and who hurt while a network was trained: what a recording of loss change allocation says.

Shares below 0 help (Lan, Liu, Zhou & Yosinski 2019). All functions take what `allocation_dataset`, `read_allocation` or
``LossChangeAllocation.dataset()`` returned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.checks import check_flag, check_whole
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import FloatArray
from closedloop.recording.reader import open_recording, read_experiment, read_state
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

P = ParamSpec("P")
T = TypeVar("T")

#: The entry `protocol` in a run's file.
LCA = "lca"
#: Forms in which each parameter's share is kept, and their types in the recording.
SERIES = {"int8": "int8", "float16": "float16", "float32": "float32"}
#: Kinds of parameters.
PARTS = ("kernel", "bias", "norm")
#: What a recording says of the loss that is shared out, and of what was done to the training; older ones lack it.
DEFINITION = ("examples", "examples_whole", "chunk", "batch_norm", "dropout", "changes")


def encode_series(shares: FloatArray, sizes: Sequence[int], form: str) -> tuple[NDArray[Any], FloatArray]:
    """Returns shares of parameters in a small form, with the largest of each tensor.

    As int8 they are rounded on a scale of square roots, for a few are much larger than most: what is above 1/64 500 of
    the tensor's largest does not become 0, and the error is at most 0.8 % of the largest.

    Args:
        shares: ``(parameters,)``, tensor by tensor.
        sizes: Parameters of each tensor.
        form: One of `SERIES`.
    """
    largest = np.array([np.abs(part).max(initial=0) for part in _split(shares, sizes)])
    relative = shares / np.repeat(np.where(largest > 0, largest, 1), sizes)
    if form == "int8":
        return np.rint(127 * np.sign(relative) * np.sqrt(np.abs(relative))).astype(np.int8), largest
    return relative.astype(SERIES[form]), largest


def decode_series(kept: NDArray[Any], largest: FloatArray, sizes: Sequence[int]) -> NDArray[np.float32]:
    """Returns shares ``(steps, parameters)`` from what `encode_series` made of each step."""
    values: NDArray[np.float32] = kept.astype(np.float32)
    if kept.dtype == np.int8:
        values = (np.sign(values) * (values / 127) ** 2).astype(np.float32)
    whole: NDArray[np.float32] = values * np.repeat(largest, sizes, axis=-1).astype(np.float32)
    return whole


def _split(values: FloatArray, sizes: Sequence[int]) -> list[FloatArray]:
    return np.split(values, np.cumsum(sizes)[:-1])


@at_door
def allocation_dataset(recording: xr.Dataset, of: str = "train") -> xr.Dataset:
    """Shares of a recording by layer and by neuron, beside the loss itself.

    A neuron is an output channel: its incoming kernel and its bias.

    Args:
        recording: Of a run of `closedloop.protocols.LossChangeAllocation`.
        of: Which loss.

    Returns:
        ``by_layer`` ``(step, layer)``, ``by_neuron`` ``(step, neuron)`` with the coordinates ``neuron_layer`` and
        ``neuron_index``, ``by_part`` ``(step, layer, part)`` for kernels, biases and normalization; of each step the
        ``loss`` after and ``loss_before`` it, ``change`` (the sum of all shares), ``residual`` (what they miss),
        ``drift`` (what moving buffers did before it), ``reconstructed`` (the loss as start, shares and drift have it),
        ``splits`` and ``l2``; ``helped``, ``hurt`` and ``still`` (parameters with a share below, above and at 0)
        ``(step, layer)``; ``parameters`` ``(layer,)``; and, where every parameter was recorded, ``by_parameter``
        ``(step, parameter)`` with the coordinate ``parameter_layer``. Attributes: what was trained, the rule, what the
        loss is (``examples`` of ``examples_whole``, ``chunk``, ``batch_norm``, ``dropout``), and what was done to
        layers, in words (``changes``).

    Raises:
        RecordingError: It is another recording, or has no such loss.
    """
    if "splits" not in recording or "losses" not in recording.coords:
        raise RecordingError("recording: expected one of loss change allocation, with `splits` of each step.")
    names = str(recording["losses"].item()).split()
    if of not in names:
        raise RecordingError(f"of: expected one of the recorded losses, {names}, got {of!r}.")
    shares = recording["responses" if of == names[0] else f"shares_{of}"].values
    layers, layer = _numbered(recording["layer"].values)
    part = np.array([PARTS.index(kind) for kind in recording["part"].values])
    cells, cell = np.unique(np.stack([layer, recording["neuron"].values]), axis=1, return_inverse=True)
    _, tensor = _numbered(recording["parameter_tensor"].values)
    sizes = np.bincount(tensor, recording["parameter_count"].values).astype(int)
    tensor_layer = layer[np.unique(tensor, return_index=True)[1]]
    by_part = _summed(shares, layer * len(PARTS) + part, len(layers) * len(PARTS))
    helped, hurt = (_summed(recording[f"{w}_{of}"].values, tensor_layer, len(layers)) for w in ("helped", "hurt"))
    parameters = np.bincount(tensor_layer, sizes, len(layers)).astype(int)
    found = xr.Dataset(
        {
            "by_layer": (("step", "layer"), _summed(shares, layer, len(layers))),
            "by_neuron": (("step", "neuron"), _summed(shares, cell.ravel(), cells.shape[1])),
            "by_part": (("step", "layer", "part"), by_part.reshape(len(shares), len(layers), len(PARTS))),
            **_courses(recording, of, shares.sum(1)),
            "helped": (("step", "layer"), helped.astype(int)),
            "hurt": (("step", "layer"), hurt.astype(int)),
            "still": (("step", "layer"), (parameters - helped - hurt).astype(int)),
            "parameters": ("layer", parameters),
        },
        {
            "step": recording["generation"].values,
            "layer": np.array(layers, dtype=object),
            "part": np.array(PARTS, dtype=object),
            "neuron_layer": ("neuron", np.array(layers, dtype=object)[cells[0]]),
            "neuron_index": ("neuron", cells[1]),
        },
        {
            "of": of,
            **{name: recording[name].item() for name in ("subject", "seed", "rule")},
            **{name: recording[name].item() for name in DEFINITION if name in recording.coords},
        },
    )
    if f"series_{of}" in recording:
        kept = decode_series(recording[f"series_{of}"].values, recording[f"scale_{of}"].values, sizes.tolist())
        found["by_parameter"] = (("step", "parameter"), kept)
    places = np.array(layers, dtype=object)[np.repeat(tensor_layer, sizes)]
    return found.assign_coords(parameter_layer=("parameter", places)) if "by_parameter" in found else found


def definition(allocation: xr.Dataset) -> str:
    """Says what loss was shared out, and what was done to the training; "" for recordings of older versions."""
    told = allocation.attrs
    if not set(DEFINITION) <= told.keys():
        return ""
    some = f"{told['examples']:,} of {told['examples_whole']:,}"
    examples = some if told["examples"] < told["examples_whole"] else f"all {told['examples_whole']:,}"
    norm = {
        "none": "",
        "batch": f", batch norm by the statistics of chunks of at most {told['chunk']:,}",
        "frozen": ", batch norm by its running statistics",
    }[told["batch_norm"]]
    # Further losses are over sets of their own, of which nothing is left out.
    mean = f"mean loss over {examples} examples" if told["of"] == "train" else f"mean loss over all of {told['of']}"
    return f"{mean}, dropout {told['dropout']}{norm}" + (f". Training: {told['changes']}" if told["changes"] else "")


def _courses(recording: xr.Dataset, of: str, change: FloatArray) -> dict[str, Any]:
    """Returns what is known of the loss in each step."""
    before, after, drift, residual = (recording[f"{w}_{of}"].values for w in ("before", "loss", "drift", "residual"))
    start = before[0] - drift[0]
    return {
        "loss": ("step", after),
        "loss_before": ("step", before),
        "change": ("step", change),
        "drift": ("step", drift),
        "residual": ("step", residual),
        "reconstructed": ("step", start + np.cumsum(change + drift)),
        "splits": ("step", recording["splits"].values),
        "l2": ("step", recording["l2"].values),
    }


def _numbered(names: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """Returns different names in their first order, and the number of each entry's."""
    known = list(dict.fromkeys(names.tolist()))
    place = {name: i for i, name in enumerate(known)}
    return known, np.array([place[name] for name in names.tolist()])


def _summed(values: NDArray[Any], group: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Returns sums over the columns of each group ``(steps, count)``."""
    total = np.zeros((count, len(values)))
    np.add.at(total, group, values.T.astype(float))
    return total.T


@at_door
def with_parameters(found: xr.Dataset, total: FloatArray, helped: Any, hurt: Any) -> xr.Dataset:
    """Adds to a Dataset of shares what is known of each parameter over all steps.

    Args:
        found: See `allocation_dataset`.
        total: Sum of each parameter's shares, ``(parameters,)``.
        helped: Steps in which it helped.
        hurt: Steps in which it hurt.
    """
    return found.assign(total=("parameter", total), steps_helped=("parameter", helped), steps_hurt=("parameter", hurt))


@at_door
def read_allocation(run: str | Path, of: str = "train", parameters: bool = False) -> xr.Dataset:
    """Shares of a run, finished or not.

    Args:
        run: The run's folder.
        of: Which loss.
        parameters: Whether the sum of each parameter's shares, and how often it helped and hurt, are added.

    Raises:
        RecordingError: Not a run of loss change allocation, or it has no such loss.
    """
    if read_experiment(run).get("protocol") != LCA:
        raise RecordingError(f"{run}: expected a run of loss change allocation, got another.")
    found = allocation_dataset(open_recording(run), of)
    if not check_flag("parameters", parameters):
        return found
    ledger = (read_state(run) or {})["allocator"]["ledgers"][of]
    return with_parameters(
        found, *(np.concatenate([a.ravel() for a in ledger[what]]) for what in ("total", "helped", "hurt"))
    )


def of_allocation(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates functions of what `allocation_dataset` returns: another Dataset is refused before anything is done."""
    checked = at_door(function)

    @functools.wraps(function)
    def looked(*args: P.args, **kwargs: P.kwargs) -> T:
        given = kwargs.get("allocation", args[0] if args else None)
        if isinstance(given, xr.Dataset) and "by_layer" not in given:
            raise InvalidArgumentError(
                "allocation: expected a Dataset of loss change allocation, as LossChangeAllocation.dataset() and "
                f"read_allocation return, got one with {', '.join(map(str, given.data_vars)) or 'nothing'}."
            )
        return checked(*args, **kwargs)

    return looked


@of_allocation
def layer_allocations(allocation: xr.Dataset) -> xr.Dataset:
    """Returns what each layer came to: its shares, and the mean parts of its parameters that help, hurt or do nothing.

    Returns:
        ``total``, ``kernel``, ``bias``, ``norm``, ``helping``, ``hurting``, ``nothing`` and ``parameters``,
        ``(layer,)``.
    """
    count = allocation["parameters"]
    parts = allocation["by_part"].sum("step")
    return xr.Dataset(
        {
            "total": allocation["by_layer"].sum("step"),
            **{part: parts.sel(part=part, drop=True) for part in PARTS},
            "helping": allocation["helped"].mean("step") / count,
            "hurting": allocation["hurt"].mean("step") / count,
            "nothing": allocation["still"].mean("step") / count,
            "parameters": count,
        }
    )


@of_allocation
def step_shares(allocation: xr.Dataset) -> xr.Dataset:
    """Shares of all parameters that help, hurt, or do nothing in each step, and of those that do something.

    Returns:
        ``helping``, ``hurting``, ``nothing`` and ``helping_of_moving`` (of those that help or hurt), ``(step,)``.
    """
    helped, hurt, still = (allocation[name].sum("layer") for name in ("helped", "hurt", "still"))
    count = helped + hurt + still
    moving = (helped + hurt).where(helped + hurt > 0)
    return xr.Dataset(
        {
            "helping": helped / count,
            "hurting": hurt / count,
            "nothing": still / count,
            "helping_of_moving": helped / moving,
        }
    )


@of_allocation
def oscillation(allocation: xr.Dataset, of: str = "neuron") -> xr.Dataset:
    """Returns how much shares go back and forth.

    Args:
        allocation: See `allocation_dataset`.
        of: "layer", "neuron" or "parameter"; the last where every parameter was recorded.

    Returns:
        ``sign_changes``: of all successive steps in which a share is not 0, the part with opposite signs (chance is one
        half); ``net``: the size of the sum of shares over the sum of their sizes, 1 without any back and forth. NaN
        where there is nothing to compare.
    """
    if f"by_{of}" not in allocation:
        raise InvalidArgumentError(
            f"of: expected 'layer', 'neuron', or 'parameter' where series were recorded, got {of!r}."
        )
    values = allocation[f"by_{of}"]
    sign = np.sign(values.values)
    pairs = sign[1:] * sign[:-1]
    moving = (pairs != 0).sum(0)
    gross = np.abs(values.values).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        changes, net = (pairs < 0).sum(0) / moving, np.abs(values.values.sum(0)) / gross
    return xr.Dataset({"sign_changes": (of, changes), "net": (of, net)}, values.drop_vars("step").coords)


@of_allocation
def extreme_parameters(allocation: xr.Dataset, count: int = 5, seed: int = 0) -> xr.Dataset:
    """Returns cumulative shares of parameters that helped most, that hurt most, and of random ones.

    Args:
        allocation: See `allocation_dataset`, of a run in which every parameter was recorded.
        count: Of each sort.
        seed: Of those drawn at random.

    Returns:
        ``course`` ``(sort, parameter, step)`` with the coordinates ``number`` of each parameter and its ``layer``;
        ``sort`` is "best", "worst" or "random".

    Raises:
        InvalidArgumentError: Parameters were not recorded.
    """
    if "by_parameter" not in allocation:
        raise InvalidArgumentError("allocation: expected every parameter's shares; record with series='int8'.")
    values = allocation["by_parameter"].values.astype(float)
    count = min(check_whole("count", count, 1), values.shape[1])
    order = np.argsort(values.sum(0), kind="stable")
    drawn = named_generator(seed, "parameters").choice(values.shape[1], count, replace=False)
    chosen = np.stack([order[:count], order[::-1][:count], drawn])
    return xr.Dataset(
        {"course": (("sort", "parameter", "step"), np.cumsum(values[:, chosen], axis=0).transpose(1, 2, 0))},
        {
            "sort": ["best", "worst", "random"],
            "number": (("sort", "parameter"), chosen),
            "layer": (("sort", "parameter"), allocation["parameter_layer"].values[chosen]),
            "step": allocation["step"].values,
        },
    )
