"""``closedloop fit-twin``: a model of the subject, fitted to what a run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from closedloop.cli.building import read_named
from closedloop.cli.console import Meter, free_path, say, tell
from closedloop.cli.options import Command
from closedloop.cli.tables import show_table
from closedloop.loop.parts import FeaturesPart
from closedloop.loop.settings import option, settings

if TYPE_CHECKING:
    import xarray as xr

#: Units in the table.
MOST = 20


@settings
class TwinPart:
    """How a twin reads features, and where it is kept."""

    readout: str = option(
        default="ridge",
        metavar="NAME",
        help="ridge; factorized: a mask over places, and weights of channels; poisson: of spikes; factorized-poisson; "
        "auto: for each unit what predicts held-out parts of the images best.",
    )
    units: str = option(
        default="all", names=("--unit",), metavar="UNITS", help="Units of the run: 0-9, all, random:8 …"
    )
    seed: int = option(default=0, least=0, help="Of random weights, of the parts held out, and of the intervals.")
    out: Path | None = option(
        default=None, names=("--save",), metavar="FOLDER", shown="RUN-twin", help="Folder of the twin; it must be new."
    )


def fit_twin(
    run: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of runs of one subject.")],
    given: Mapping[str, Any],
) -> None:
    """Fit a model to what a run recorded, and say how well it predicts images that it has not seen."""
    from closedloop.figures import plot_twin
    from closedloop.figures.style import whole_figure
    from closedloop.objectives.naming_units import parse_columns
    from closedloop.recording.reader import open_recording
    from closedloop.twins import fit_twin as fit

    recordings = [open_recording(one) for one in run]
    seed = given.get("seed", TwinPart.seed)
    count = recordings[0].sizes["neuroid"]
    units = parse_columns(given["units"], count, seed) if "units" in given else None
    layers = given.get("layers", FeaturesPart.layers)
    readout = given.get("readout", TwinPart.readout)
    named = read_named(given.get("features", FeaturesPart.features))
    features = named if len(named) > 1 else named["name"]
    out = given["out"] if "out" in given else free_path(run[0].resolve().with_name(f"{run[0].resolve().name}-twin"))
    chosen = layers if layers == FeaturesPart.layers else [name.strip() for name in layers.split(",")]
    with Meter("features") as meter:
        twin = fit(recordings, features, chosen, readout=readout, units=units, seed=seed, progress=meter)
    twin.save(out)
    whole_figure(plot_twin(twin.table)).savefig(out / "twin.png")
    _show(twin.table)
    say(f"Twin: {out}    As a subject: --subject twin:{out}")


COMMAND = Command(fit_twin, (FeaturesPart, TwinPart))


def _show(table: xr.Dataset) -> None:
    """Prints what is known of each unit, the best predicted first."""
    import numpy as np

    order = np.argsort(-np.nan_to_num(table["r"].values, nan=-2), kind="stable")[:MOST]
    several = bool((table["readout"].values != TwinPart.readout).any())
    rows, why = [], set()
    for i in order:
        one = table.isel(neuroid=i)
        low, high, r = (float(one[name]) for name in ("low", "high", "r"))
        most, share = float(one["ceiling"]), float(one["normalized"])
        interval = f"{r:.2f} ({low:.2f} to {high:.2f})" if np.isfinite(r) else "–"
        shown = [f"{value:.2f}" if np.isfinite(value) else "–" for value in (most, share)]
        ends = [float(one[f"normalized_{end}"]) for end in ("low", "high")]
        shown[1] += f" ({ends[0]:.2f} to {ends[1]:.2f})" if np.isfinite(ends).all() else ""
        needed = f"{int(one['needed']):,}" if np.isfinite(one["needed"]) else "–"
        inside = f"{float(one['within']):.2f}"
        kind = [str(one["readout"].item())] if several else []
        rows.append([str(one["neuroid_id"].item()), *kind, interval, inside, *shown, f"{int(one['images']):,}", needed])
        why |= {f"{one['neuroid_id'].item()}: {reason}." for reason in [str(one["reason"].item())] if reason}
    show_table(
        [
            "unit",
            *(["readout"] if several else []),
            "held-out r (95 %)",
            "within",
            "ceiling",
            "r ÷ ceiling (95 %)",
            "images",
            "needed",
        ],
        rows,
    )
    if len(table["neuroid"]) > MOST:
        tell(f"The best {MOST} of {len(table['neuroid'])} units.")
    for line in sorted(why)[:MOST]:
        tell(line)
    tell("r: correlation of predictions with mean responses to images held out, in five parts; interval over images.")
    tell("needed: images that would bring r to nine tenths of the limit of its learning curve; – for many, or unknown.")
    tell("within: r after the mean of each generation was taken out, for later images are better whatever they show.")
