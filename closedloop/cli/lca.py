"""``closedloop lca``: train a small network, and see who helps and who hurts at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop.cli.building import numbers_of, read_config, training_of, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, RunPart
from closedloop.loop.settings import read_settings

if TYPE_CHECKING:
    import xarray as xr


def lca(given: Mapping[str, Any]) -> None:
    """Train a small network, and share out every change of its loss over layers, neurons and parameters."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import SeedsSettings, train, train_seeds

    content = read_config(given, "lca", "lca-seeds")
    said = training_options(given, content, "lca")
    chosen = read_settings(SeedsSettings, numbers_of(SeedsSettings, given, content))
    where = where_of(given, "lca", said.get("network", "mlp"))
    say(f"Run: {where['save']}")
    with Meter("training") as meter:
        if chosen.seeds == 1 and not chosen.against:
            train(**where, progress=meter, **said)
        else:
            found = train_seeds(**where, progress=meter, seeds=chosen.seeds, against=chosen.against, **said)
    show_run(where["save"])
    if chosen.seeds > 1:
        _write_table(found, where["save"] / "observations.csv")


COMMAND = Command(
    lca,
    (
        FilePart,
        "closedloop.protocols:TrainSettings",
        "closedloop.protocols:AllocationSettings",
        "closedloop.protocols:SeedsSettings",
        RunPart,
    ),
)


def training_options(given: Mapping[str, Any], content: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Returns what a file says of training and of shares, but for what is said anew.

    Args:
        given: Options by name.
        content: The entries of the file; empty for none.
        protocol: Of its run.

    Raises:
        InvalidArgumentError: Its training is a loop of somebody's own, or a script that is not said anew.
    """
    from closedloop.protocols import AllocationSettings, TrainSettings

    if content and "training" not in content:
        raise InvalidArgumentError(
            f"config: {given['config']} is of a run of {protocol} with a training of your own; repeat it from Python."
        )
    held = training_of(given, content)
    script = held.get("script")
    if script and "script" not in given:
        raise InvalidArgumentError(
            f"script: the training of {given['config']} is a script, which no file may start; say --script {script}."
        )
    shared = {field.name: content[field.name] for field in fields(AllocationSettings) if field.name in content}
    known = {field.name for made in (TrainSettings, AllocationSettings) for field in fields(made)}
    return {**shared, **held, **{name: v for name, v in given.items() if name in known}}


def _write_table(recording: xr.Dataset, table: Path) -> None:
    """Writes what was observed over all seeds, and what changes of training do, as CSV."""
    import pandas as pd

    from closedloop.analysis import trained_change, trained_observations
    from closedloop.analysis.observations import changes_of
    from closedloop.cli.tables import write_csv

    lines = [trained_observations(recording)["value"].to_dataframe().reset_index().assign(table="observed")]
    for words in changes_of(recording):
        one = trained_change(recording, words).drop_vars(("by_seed", "seed"))
        lines.append(one.to_dataframe().reset_index().assign(table=words))
    write_csv(table, pd.concat(lines))
    say(f"Table:  {table}")
