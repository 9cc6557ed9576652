"""``closedloop lca``: train a small network, and see who helps and who hurts at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from closedloop.cli.building import read_config, run_folder
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.cli.tables import show_table
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, RunPart
from closedloop.loop.settings import option, settings


@settings
class SeedsPart:
    """How often a training is repeated."""

    seeds: int = option(
        default=1,
        least=1,
        help="Runs, with seeds from --seed on, each in a folder of its own; it is tested which layers hurt in all.",
    )


def lca(given: Mapping[str, Any]) -> None:
    """Train a small network, and share out every change of its loss over layers, neurons and parameters."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import train

    said = _numbers(given)
    seeds, first = int(given.get("seeds", SeedsPart.seeds)), int(said.get("seed", 0))
    if seeds < 1:
        raise InvalidArgumentError(f"seeds: expected a whole number of at least 1, got {seeds}.")
    folder = run_folder(given, "lca", said.get("network", "mlp"))
    runs = [folder] if seeds == 1 else [folder / f"seed-{first + i}" for i in range(seeds)]
    for i, run in enumerate(runs):
        say(f"Run: {run}")
        with Meter("training") as meter:
            train(save=run, exists=given.get("exists", "fail"), progress=meter, **{**said, "seed": first + i})
    show_run(runs[0])
    _write_movie(runs[0])
    if seeds > 1:
        _show_seeds(runs)


COMMAND = Command(
    lca, (FilePart, "closedloop.protocols:TrainSettings", "closedloop.protocols:AllocationSettings", SeedsPart, RunPart)
)


def _numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a file says of training, but for what is said anew."""
    from closedloop.protocols import AllocationSettings, TrainSettings

    content = read_config(given, "lca")
    if content and "training" not in content:
        raise InvalidArgumentError(
            f"config: {given['config']} is of a run of a training loop of your own; repeat it from Python."
        )
    script = content.get("training", {}).get("script")
    if script and "script" not in given:
        raise InvalidArgumentError(
            f"script: the training of {given['config']} is a script, which no file may start; say --script {script}."
        )
    shared = {field.name: content[field.name] for field in fields(AllocationSettings) if field.name in content}
    known = {field.name for made in (TrainSettings, AllocationSettings) for field in fields(made)}
    told = {**shared, **content.get("training", {}), **{name: v for name, v in given.items() if name in known}}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


def _write_movie(run: Path) -> None:
    """Writes the network while it learns, neurons coloured by help and harm, into the run's folder."""
    from closedloop.analysis import read_allocation
    from closedloop.figures import allocation_movie
    from closedloop.files import complete
    from closedloop.images.movies import encode_webp

    path = run / "allocation.webp"
    with complete(path, replace=True, argument="out") as temporary:
        temporary.write_bytes(encode_webp(allocation_movie(read_allocation(run)), 10.0))
    say(f"Movie:  {path}")


def _show_seeds(runs: Sequence[Path]) -> None:
    """Prints which layers hurt over all seeds."""
    from closedloop.analysis import hurting_layers, read_allocation

    found = hurting_layers([read_allocation(run) for run in runs])
    columns = ("layer", "mean change", "low", "high", "p (hurts)", "p (Holm)")
    names = ("mean", "low", "high", "p", "p_holm")
    rows = [
        [str(layer), *(f"{float(found[name][i]):.3g}" for name in names)]
        for i, layer in enumerate(found["layer"].values)
    ]
    show_table(columns, rows, f"Change of the loss by each layer over {len(runs)} seeds, 95 % intervals")
