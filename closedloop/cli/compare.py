"""``closedloop compare``: every method on every unit, a table, and two figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop.cli.ascend import climbed_units
from closedloop.cli.building import DEFAULT_UNIT, load, read_config, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.files import complete
from closedloop.loop.parts import FilePart, ReferencePart, RunPart, SubjectPart, UnitPart

if TYPE_CHECKING:
    import xarray as xr

#: Where a bare `closedloop compare` differs from the definitions.
DEFAULTS = {"units": DEFAULT_UNIT}


def compare(given: Mapping[str, Any]) -> None:
    """Find what units want to see by several methods at equal budgets, and compare them with natural images."""
    from closedloop.cli.compare_options import told
    from closedloop.cli.show import show_run
    from closedloop.protocols import compare as climb_all

    content = read_config(given, "compare")
    arguments = told(given, content)
    names = (given.get(name, getattr(SubjectPart, name)) for name in ("subject", "layer"))
    where = where_of(given, *names, given.get("units"), "compared")
    held = {"subject": content["subject"], "columns": content["units"]} if content else {}
    subject, columns = climbed_units(given, held)
    if content.get("features"):
        arguments["features"] = load(content["features"])
    with Meter("comparing") as meter:
        result = climb_all(
            subject,
            list(range(len(subject.units))) if columns is None else columns,
            naturals=_naturals(given, content),
            progress=meter,
            **where,
            **arguments,
        )
    show_run(where["save"])
    table = where["save"] / "table.csv"
    write_table(result, table)
    say(f"Table:  {table}")


COMMAND = Command(
    compare,
    (FilePart, SubjectPart, UnitPart, "closedloop.cli.compare_options:CompareOptions", ReferencePart, RunPart),
    defaults=DEFAULTS,
    helps={
        "units": "Units to excite, each by itself: 292, 7,8, 0-9, random:8 …",
        "references": "Natural images to compare with: a folder, or 'bundled' (160 photographs).",
    },
)


def _naturals(given: Mapping[str, Any], content: Mapping[str, Any]) -> Any:
    """Returns the folder of natural images, a run's own copy of them, or ``"bundled"``."""
    from closedloop.recording.layout import REFERENCES
    from closedloop.recording.references import read_references

    naturals = given.get("references", content.get("naturals", ReferencePart.references))
    if "references" not in given and naturals == REFERENCES:
        return read_references(Path(given["config"]).parent)
    return naturals


def write_table(result: xr.Dataset, path: Path) -> None:
    """Writes the numbers of each image as CSV: a row for each contender, budget, seed and unit."""
    dims = {"contender", "budget", "seed", "unit"}
    numbers = result[[name for name, values in result.data_vars.items() if set(values.dims) == dims]]
    with complete(path, replace=True, argument="csv") as temporary:
        temporary.write_bytes(numbers.to_dataframe().to_csv().encode())
