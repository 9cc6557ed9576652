"""What ``closedloop attribute`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.table import Table

from closedloop.cli.console import console
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError, closest
from closedloop.gradients.attribution import FILTERS, Filter, Method, attribute
from closedloop.images.eight_bit import from_bytes
from closedloop.images.sets import folder_images, natural_references, read_image
from closedloop.interfaces import Subject, resolution_of
from closedloop.subjects import load_subject

#: Images in one figure.
MOST = 24
_FORMATS = (".png", ".pdf", ".svg")


def run_attribution(images: Path | None, out: Path, filters: str, given: dict[str, Any]) -> None:
    """``closedloop attribute``.

    Raises:
        InvalidArgumentError: No such image, method or filter, or a network for which the method has no rule.
        RecordingError: The file cannot be written.
    """
    from closedloop.figures import plot_attributions

    chosen = _filters(filters)
    if out.suffix.lower() not in _FORMATS:
        raise InvalidArgumentError(f"out: expected a name ending in {', '.join(_FORMATS)}, got {out}.")
    if images is not None and not images.exists():
        raise InvalidArgumentError(f"images: there is no {images}; expected a file or a folder of images.")
    options = {k: given[k] for k in ("layer", "weights", "device") if k in given} | {"engine": "eager"}
    with console.status("Loading the subject …"):
        name = given.get("subject", "lite0")
        units = given.get("unit", "971" if name == "lite0" and "layer" not in given else None)
        subject = load_subject(name, **options, **({} if units is None else {"units": units}))
    if len(subject.units) > 1 and "objective" not in given:
        raise InvalidArgumentError(
            f"unit: expected one unit, got {len(subject.units)} of {subject.name!r}; name one with --unit, or say what "
            "is attributed with --objective."
        )
    names, shown = _read(images, resolution_of(subject))
    numbers = {k: given[k] for k in ("seed", "steps", "device") if k in given}
    method = cast(Method, given.get("method", "guided-backprop"))
    found = attribute(subject, shown, given.get("objective", 0), method, **numbers)
    target = _target(subject, given.get("objective"))
    try:
        plot_attributions(shown, found, chosen, names, target).savefig(out)
    except OSError as error:
        raise RecordingError(f"out: cannot write {out} ({error.strerror or error}).") from error
    console.print(f"{method} of {target}", highlight=False, markup=False)
    console.print(_table(found, names))
    console.print(f"Wrote {out}.", highlight=False, markup=False)


def _target(subject: Subject, objective: str | None) -> str:
    """What is attributed, in words."""
    if objective is not None:
        return f"{objective} of {subject.name}"
    label = str(subject.units.coords["label"][0]) if "label" in subject.units.coords else ""
    return subject.units.neuroid_id[0] + (f" “{label}”" if label else "")


def _filters(text: str) -> tuple[Filter, ...]:
    names = FILTERS if text == "all" else tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in FILTERS:
            raise UnknownNameError(f"filter: no filter {name!r}.{closest(name, (*FILTERS, 'all'))}")
    return cast(tuple[Filter, ...], names)


def _read(images: Path | None, resolution: int) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float32]]]:
    """Names and images ``(n, 3, h, w)``: of a file, of a folder, or some of the bundled photographs."""
    if images is None:
        known = natural_references(resolution)
        return list(known.ids[:8]), known.images[:8]
    ids, paths = ((images.stem,), [images]) if images.is_file() else folder_images(images)
    return list(ids[:MOST]), from_bytes(np.stack([read_image(p, resolution) for p in paths[:MOST]]))


def _table(found: Any, names: list[str]) -> Table:
    complete = "completeness_error" in found.coords
    table = Table()
    for column in ("image", "score", *(("score of the baseline", "completeness error") if complete else ())):
        table.add_column(column, justify="left" if column == "image" else "right")
    keys = ("score", "baseline_score", "completeness_error") if complete else ("score",)
    for i, name in enumerate(names):
        table.add_row(name, *(f"{float(found[key][i]):.4g}" for key in keys))
    return table
