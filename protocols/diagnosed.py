"""What a person sees of a diagnosis: tables, sentences and a figure."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from closedloop.analysis.errors import EXPLAINED, answers_of, confusions, driving_units, single_units
from closedloop.analysis.spurious import spurious_units
from closedloop.loop.protocol import RunFigure, RunSummary, RunTable
from closedloop.readable import percent

#: Confusions and units that a table names.
_NAMED = 10


def summarize_diagnosis(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what a person sees of a diagnosis."""
    answers = answers_of(recording)
    tables = [_totals(recording, answers), _confused(answers)]
    lines = []
    if (recording["kind"].values == EXPLAINED).any():
        tables.append(_drivers(recording))
    else:
        lines.append("No channel was ablated, so nothing is said of why.")
    figures = {}
    if "suspect" in recording.coords and (recording["suspect"].values >= 0).any():
        from closedloop.figures import plot_spurious

        found = spurious_units(recording)
        tables.append(_tested(found))
        lines += _said(found)
        figures["spurious"] = RunFigure(
            partial(plot_spurious, recording),
            "Units that were tested: images that excite the unit and are not of the class that it speaks for, what it "
            "wants to see, evolved and ascended, and images into which the window was pasted, with the answers.",
        )
    return RunSummary(tables, lines, figures, question="Which images does it get wrong, and why?")


def _tested(found: xr.Dataset) -> RunTable:
    rows = [
        [
            str(int(one["unit"])),
            str(one["class_name"].item()),
            *(percent(float(one[name])) for name in ("turned", "turned_control")),
            f"{float(one['p_holm']):.2g}",
            *(percent(float(one[name])) for name in ("carried", "mended")),
            "yes" if bool(one["spurious"]) else "no",
        ]
        for one in (found.isel(suspect=i) for i in range(found.sizes["suspect"]))
    ]
    heads = ("unit", "speaks for", "turned", "control", "p (Holm)", "carried", "mended", "spurious")
    caption = (
        "turned: images that are called that class when a window of an error towards it is pasted in; "
        "control: windows of images in which it is quiet; carried: of the turned, those that hang on this unit; "
        "mended: errors put right by another window"
    )
    return RunTable("Is it the object that they answer to?", heads, rows, caption)


#: What the test does where there is nothing to be found; see docs/diagnosis.md.
_FALSE_ALARMS = "In small networks without such a feature the test called 1 of 180 units so (0.6 % [0.1, 3.0])."


def _said(found: xr.Dataset) -> list[str]:
    """Says which units are spurious."""
    own = found.isel(suspect=found["spurious"].values)
    if not own.sizes["suspect"]:
        return [f"Of {found.sizes['suspect']} units that were tested none answers to something else than the object."]
    return [
        f"Unit {int(one['unit'])} speaks for “{one['class_name'].item()}” and does not answer to the object: a window "
        f"of {int(one['side'])} x {int(one['side'])} pixels, most often at row {int(one['y'])}, column "
        f"{int(one['x'])}, of images that are none turns {percent(float(one['turned']))} of {int(one['images'])} other "
        f"images into it, windows of other images {percent(float(one['turned_control']))}."
        for one in (own.isel(suspect=i) for i in range(own.sizes["suspect"]))
    ] + [_FALSE_ALARMS]


def _totals(recording: xr.Dataset, answers: xr.Dataset) -> RunTable:
    wrong = answers["wrong"].values
    rows = [["images", f"{len(wrong):,}"], ["errors", f"{int(wrong.sum()):,}"], ["lost", f"{answers.attrs['lost']}"]]
    found = single_units(recording)
    for name in found.data_vars:
        value, n = float(found[name]), int(found[name].attrs["n"])
        rows.append([str(found[name].attrs["title"]), f"{percent(value, 1)} of {n:,}" if n else "–"])
    layer = str(recording["diagnosed_layer"].values.flat[0])
    return RunTable("Answers", ("", "number"), rows, f"channels of layer {layer}" if layer else "")


def _confused(answers: xr.Dataset) -> RunTable:
    found = confusions(answers)
    rows = [
        [str(t), str(a), str(int(n)), f"{float(c):.2f}"]
        for t, a, n, c in zip(
            *(found[name].values[:_NAMED] for name in ("target_name", "answer_name", "count", "confidence")),
            strict=True,
        )
    ]
    return RunTable("Most frequent confusions", ("true class", "answer", "images", "mean confidence"), rows)


def _drivers(recording: xr.Dataset) -> RunTable:
    found = driving_units(recording)
    order = np.argsort(-found["corrects"].values, kind="stable")[:_NAMED]
    rows = [
        [
            str(int(found["unit"][i])),
            str(int(found["corrects"][i])),
            percent(float(found["breaks_share"][i]), 1),
            f"{float(found['effect'][i]):.3g}",
        ]
        for i in order
    ]
    heads = ("unit", "errors it corrects", "right answers it breaks", "mean effect")
    return RunTable("Units whose ablation corrects the most errors", heads, rows)
