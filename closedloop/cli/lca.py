"""``closedloop lca``: train a small network, and see who helps and who hurts at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop.cli.building import read_config, run_folder
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError, closest
from closedloop.loop.parts import FilePart, RunPart
from closedloop.loop.settings import option, option_types, settings

if TYPE_CHECKING:
    import xarray as xr

#: What was observed over several seeds, beside their runs.
TABLE = "observations.csv"


@settings
class SeedsPart:
    """How often a training is repeated."""

    seeds: int = option(
        default=1,
        least=1,
        help="Runs, with seeds from --seed on, each in a folder of its own: what is observed over all of them, with "
        "intervals, and which layers hurt.",
    )
    against: tuple[str, ...] = option(
        default=(),
        shown="none",
        metavar="'OPTION=VALUE …'",
        help="The same trainings with something changed, several times for several: freeze=output, remove=block4, "
        "'layer_momentum=output=0 l2=0.001' …; what that does to losses and accuracies, over the same seeds.",
    )


def lca(given: Mapping[str, Any]) -> None:
    """Train a small network, and share out every change of its loss over layers, neurons and parameters."""
    from closedloop.cli.show import show_run

    said = training_options(given, read_config(given, "lca"), "lca")
    seeds, first = int(given.get("seeds", SeedsPart.seeds)), int(said.get("seed", 0))
    if seeds < 1:
        raise InvalidArgumentError(f"seeds: expected a whole number of at least 1, got {seeds}.")
    changes = {word: changed_option(word, said) for word in given.get("against", ())}
    if changes and seeds < 2:
        raise InvalidArgumentError(f"against: expected --seeds of at least 2 to compare over, got {seeds}.")
    folder = run_folder(given, "lca", said.get("network", "mlp"))
    if seeds == 1:
        _train([folder], said, first, given)
        show_run(folder)
        return
    runs = [folder / f"seed-{first + i}" for i in range(seeds)]
    plain = _train(runs, said, first, given)
    changed = {}
    for word, options in changes.items():
        place = folder / "".join(c if c.isalnum() or c in "=-._@" else "-" for c in word)
        changed[word] = _train([place / run.name for run in runs], options, first, given)
    show_run(runs[0])
    _show_seeds(plain, changed, folder / TABLE)


def _train(runs: Sequence[Path], said: Mapping[str, Any], first: int, given: Mapping[str, Any]) -> list[xr.Dataset]:
    """Does trainings with successive seeds."""
    from closedloop.protocols import train

    found = []
    for i, run in enumerate(runs):
        say(f"Run: {run}")
        with Meter("training") as meter:
            told = {**said, "seed": first + i}
            found.append(train(save=run, exists=given.get("exists", "fail"), progress=meter, **told))
    return found


def changed_option(words: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is said of a training, with some of it changed.

    Args:
        words: Such as ``freeze=output``, or several with spaces between them.
        said: Options by name; to those that may be given several times one is added.

    Raises:
        InvalidArgumentError: It is no option of training, or no number where one is expected.
    """
    from closedloop.protocols import TrainSettings

    types, found = option_types(TrainSettings), dict(said)
    for word in words.split():
        name, sign, value = word.partition("=")
        name = name.replace("-", "_")
        if name not in types or name in ("seed", "script") or not sign:
            raise InvalidArgumentError(
                f"against: expected OPTION=VALUE, an option of training such as freeze=output, got {word!r}."
                f"{closest(name, list(types))}"
            )
        kind = types[name][0]
        try:
            found[name] = kind(value) if kind in (int, float, str) else (*found.get(name, ()), value)
        except ValueError:
            raise InvalidArgumentError(f"against: expected a number for {name}, got {value!r}.") from None
    return found


COMMAND = Command(
    lca, (FilePart, "closedloop.protocols:TrainSettings", "closedloop.protocols:AllocationSettings", SeedsPart, RunPart)
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
    script = content.get("training", {}).get("script")
    if script and "script" not in given:
        raise InvalidArgumentError(
            f"script: the training of {given['config']} is a script, which no file may start; say --script {script}."
        )
    shared = {field.name: content[field.name] for field in fields(AllocationSettings) if field.name in content}
    known = {field.name for made in (TrainSettings, AllocationSettings) for field in fields(made)}
    told = {**shared, **content.get("training", {}), **{name: v for name, v in given.items() if name in known}}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


#: Words for what is observed.
_OBSERVED = {
    "helping": "parameters that help in a step",
    "helping_of_moving": "of those that help or hurt",
    "sign_changes": "signs of neurons’ shares that change",
    "synchrony": "peaks that coincide, ÷ by chance",
    "synchrony_p": "its p, all seeds (Fisher)",
    "missed": "of the change of the loss missed",
}


def _show_seeds(plain: Sequence[xr.Dataset], changed: Mapping[str, Sequence[xr.Dataset]], table: Path) -> None:
    """Prints what is observed over all seeds, which layers hurt, and what changes of training do."""
    import pandas as pd

    from closedloop.analysis import hurting_layers, training_change, training_observations
    from closedloop.cli.tables import show_table, write_csv

    n = len(plain)
    seen = training_observations(plain)
    rows = [
        [_OBSERVED[str(name)], *(number(float(seen[what][i])) for what in ("mean", "low", "high"))]
        for i, name in enumerate(seen["observation"].values)
    ]
    show_table(("observed", "mean", "low", "high"), rows, f"Over {n} seeds, 95 % intervals")
    found = hurting_layers(plain)
    rows = [
        [str(layer), *(number(float(found[name][i])) for name in ("mean", "low", "high", "p", "p_holm"))]
        for i, layer in enumerate(found["layer"].values)
    ]
    columns = ("layer", "mean change", "low", "high", "p (hurts)", "p (Holm)")
    show_table(columns, rows, f"Change of the loss by each layer over {n} seeds, 95 % intervals")
    lines = [seen["value"].to_dataframe().reset_index().assign(table="observed")]
    for word, runs in changed.items():
        one = training_change(plain, runs)
        names = ("plain", "changed", "difference", "low", "high", "p_holm")
        rows = [
            [str(measure), *(number(float(one[name][i])) for name in names)]
            for i, measure in enumerate(one["measure"].values)
        ]
        show_table(("at the end", *names[:5], "p (Holm)"), rows, f"{word}: differences over {n} seeds, 95 % intervals")
        lines.append(one.to_dataframe().reset_index().assign(table=word))
    write_csv(table, pd.concat(lines))
    say(f"Table:  {table}")


def number(value: float) -> str:
    """Returns a number with three digits; a dash where there is none."""
    return "–" if value != value else f"{value:.3g}"
