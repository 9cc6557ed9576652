"""``closedloop compare``: every method on every unit, a table, and two figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from closedloop.analysis import contender_table
from closedloop.cli.ascend import NOTHING, climbed_units
from closedloop.cli.console import console
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.naturalness import MEASURES
from closedloop.protocols import CONTENDERS, PUBLISHED, compare

#: Columns of the table.
COLUMNS = (
    "contender", "÷ best natural", "[95 %]", "above natural", "percentile", "confidence", "in natural band", "cost",
    "failed",
)  # fmt: skip
#: Files in the folder of a comparison.
TABLE, CONTENDERS_FIGURE, BUDGETS_FIGURE = "table.csv", "contenders.png", "budgets.png"


def run_comparison(out: Path, given: Mapping[str, Any]) -> None:
    """``closedloop compare`` into a folder, or on with what it holds."""
    methods = [word.strip() for word in given.get("methods", ",".join(CONTENDERS)).split(",")]
    with console.status("Loading the subject …"):
        subject, columns = climbed_units(given)
    if columns is None:
        columns = list(range(len(subject.units)))
    arguments = {} if "count" not in given else {"count": given["count"]}
    if "seed" in given:
        arguments["seeds"] = (given["seed"],)
    if "references" in given:
        arguments["naturals"] = given["references"]
    with _bar() as bar:
        task = bar.add_task("comparing", total=None)
        result = compare(
            subject, columns, methods, budgets=parse_budgets(given.get("budgets", PUBLISHED)), save=out,
            progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            **arguments,
        )  # fmt: skip
    for budget in result["budget"].values:
        console.print(comparison_table(result, str(budget)))
    for path in write_files(result, out):
        console.print(f"Wrote: {path}", highlight=False)


def parse_budgets(text: str) -> list[int | str]:
    """Budgets from ``"published"``, ``"3000"`` or ``"1000,3000,published"``.

    Raises:
        InvalidArgumentError: It is something else.
    """
    budgets: list[int | str] = []
    for word in (w.strip() for w in text.split(",")):
        if word != PUBLISHED and not word.isdigit():
            raise InvalidArgumentError(
                f"budgets: expected numbers or {PUBLISHED!r}, separated by commas, got {text!r}."
            )
        budgets.append(word if word == PUBLISHED else int(word))
    return budgets


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(compact=True), console=console,
    )  # fmt: skip


def comparison_table(result: xr.Dataset, budget: str) -> Table:
    """One row for each contender: medians over units, with intervals where there are units enough."""
    table = contender_table(result).sel(budget=budget)
    words = "as published" if budget == PUBLISHED else f"{budget} {str(result['count'].item()).replace('_', '-')}"
    n = result.sizes["unit"]
    over = "one unit" if n == 1 else f"medians over {n} units"
    drawn = Table(title=f"Budget: {words}; {over}", title_justify="left")
    for name in (
        "contender",
        "÷ best natural",
        "[95 %]",
        "above natural",
        "percentile",
        "confidence",
        "in natural band",
        "cost",
        "failed",
    ):
        drawn.add_column(name, justify="left" if name == "contender" else "right")
    for contender in table["contender"].values:
        drawn.add_row(*(escape(cell) for cell in _cells(table.sel(contender=contender))))
    n = int(result["natural_n"])
    drawn.caption = (
        f"“above natural”: share of units whose image beats the best of {n} natural images; “in natural band”: "
        f"measures, of {len(MEASURES)}, on which most images lie in the central 95 % of these"
    )
    return drawn


def _cells(row: xr.Dataset) -> list[str]:
    low, high = float(row["ratio_low"]), float(row["ratio_high"])
    return [
        str(row["contender"].item()),
        _number(float(row["ratio"])),
        f"{low:.2f}–{high:.2f}" if np.isfinite([low, high]).all() else NOTHING,
        f"{float(row['above_natural']):.0%}",
        f"{float(row['percentile']):.0f}",
        _number(float(row["confidence"])),
        f"{int((row['inside'] > 0.5).sum())} of {len(MEASURES)}",
        f"{float(row['forward_equivalents']):.0f}",
        f"{float(row['failed']):.0%}",
    ]


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else NOTHING


def write_files(result: xr.Dataset, out: Path) -> list[Path]:
    """The numbers of each image as a table, and the two figures; returns their paths.

    Raises:
        RecordingError: They cannot be written.
    """
    from closedloop.figures import plot_budgets, plot_contenders
    from closedloop.figures.style import whole_figure

    dims = ("contender", "budget", "seed", "unit")
    numbers = result[[name for name, values in result.data_vars.items() if set(values.dims) == set(dims)]]
    paths = [out / TABLE, out / CONTENDERS_FIGURE, out / BUDGETS_FIGURE]
    try:
        numbers.to_dataframe().to_csv(paths[0])
        plot_contenders(result).savefig(paths[1])
        whole_figure(plot_budgets(result)).savefig(paths[2])
    except OSError as error:
        raise RecordingError(f"out: cannot write into {out} ({error}).") from error
    return paths
