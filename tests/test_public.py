"""What is no path, part, recording or array, handed to each public callable: an error of ours that leaves nothing."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import closedloop
from closedloop import Thread, load_optimizer, open_recording
from closedloop.analysis.errors import answers_of
from closedloop.errors import ClosedLoopError
from closedloop.images import write_png
from closedloop.interfaces import Units
from closedloop.protocols import (
    RunProtocol,
    diagnose,
    evolve,
    gratings,
    invariance,
    landscape,
    map_field,
    read_ascent,
    read_comparison,
    selectivity,
)
from tests import planted, small_atlas, small_runs, small_trainings, small_treatments, small_twins

LISTS = (
    *("closedloop", "closedloop.analysis", "closedloop.figures", "closedloop.protocols", "closedloop.images"),
    *("closedloop.recording", "closedloop.formats", "closedloop.report", "closedloop.optimizers"),
)
#: Nouns, which are implemented and not called, and an exception, which may say anything.
UNCALLED = {"ClosedLoopError", "Generator", "Objective", "Optimizer", "Subject", "Axes"}
TRAINED = ("trained_change", "trained_layers", "trained_observations", "plot_trainings")
WRONG = {
    "None": lambda: None,
    "a number": lambda: 3,
    "a text": lambda: "a text",
    "a list": list,
    "an object": object,
    "an array": lambda: np.zeros(3),
    "a Dataset": xr.Dataset,
    "a class": lambda: dict,
}
#: Which of these may belong where a type is stated, as its signature has it.
MAY_BELONG = {
    "None": r"None|Any",
    "a number": r"\bint\b|\bfloat\b|Array|Any",
    "a text": r"\bstr\b|Path",
    "a list": r"Sequence|tuple|list|Array",
    "an array": r"Sequence|tuple|Array",
    "a Dataset": r"tuple|Mapping|Dataset|Sequence\[str\]",
    "a class": r"Callable",
}


def callables():
    """Each public callable once, with its list and its name, and its required positional arguments."""
    seen = set()
    for place in LISTS:
        room = importlib.import_module(place)
        for name in room.__all__:
            made = getattr(room, name)
            if not callable(made) or name in UNCALLED or id(made) in seen:
                continue
            seen.add(id(made))
            given = inspect.signature(made).parameters.values()
            yield name, made, [p for p in given if p.kind in (0, 1) and p.default is p.empty]


CALLABLES = {name: (made, given) for name, made, given in callables() if given}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A right value for each argument, by the name of the callable and its own, or by its own."""
    place = tmp_path_factory.mktemp("public")
    generator, space = small_runs.Fourier(16, 2), small_runs.Fourier(16, 2).space
    optimizer = load_optimizer("random", space, population=6)
    sizes = {"images": 12, "retest_candidates": 1, "retest_repeats": 2, "references": small_runs.pictures(3)}
    one = small_runs.GaborSubject(resolution=16, count=1, seed=1)
    evolved = evolve(one, generator, optimizer, save=place / "evolve", keep="all", **sizes)
    codes = np.random.default_rng(0).standard_normal(space.dim)
    planes = landscape(one, generator, codes, planes=["random-random"], steps=3, save=place / "landscape")
    mapped, grated = map_field(one, steps=5), gratings(one, orientations=4, frequencies=3)
    sorted_ = selectivity(one, {"a": small_runs.pictures(3), "b": small_runs.pictures(4)}, repeats=2)
    moved = invariance(one, small_runs.pictures(1)[0], steps=1, rotations=2)
    for name in ("ascend", "compare", "elites"):
        shutil.copytree(small_runs.finished(name, tmp_path_factory.getbasetemp()), place / name)
    searched, front, disputed = map(small_runs.run, ("search_natural", "pareto", "controversial"))
    elites = open_recording(place / "elites")
    compared, climbed = read_comparison(place / "compare"), read_ascent(place / "ascend")
    write_png(place / "image.png", small_runs.pictures(1)[0])
    closedloop.export(evolved, "netcdf", place / "run.nc")
    allocation, trained = small_runs.allocation()
    naturals = small_atlas.photographs(place / "naturals")
    paged = small_atlas.fill(place / "atlas", naturals)
    named = planted.planted_folder(place / "labelled")
    answered = diagnose(planted.planted_subject(), named, controls=0)
    values = {
        "subject": one,
        "generator": generator,
        "space": space,
        "optimizer": optimizer,
        "seed": 0,
        "recording": evolved,
        "stimulus_id": str(evolved["stimulus_id"].values[-1]),
        "recordings": [evolved, evolved],
        "part": evolved,
        "result": compared,
        "found": closedloop.analysis.class_elites(elites),
        "threads": [Thread(generator, optimizer)],
        "objective": "unit(0)",
        "run": place / "evolve",
        "path": place / "evolve",
        "runs": [place / "evolve"],
        "out": place / "new.csv",
        "to": "csv",
        "name": "random",
        "text": "unit(0)",
        "images": small_runs.pictures(3),
        "image": small_runs.pictures(1)[0],
        "folder": place,
        "resolution": 16,
        "ids": ("a", "b", "c"),
        "values": np.zeros((2, 3, 4, 4), np.uint8),
        "neuroid_id": ("a",),
        "coords": {},
        "column": 0,
        "a": 0,
        "b": 1,
        "weights": [1.0],
        "units": [0],
        "dim": 4,
        "score": 1.0,
        "samples": [1.0, 2.0],
        "k": 2,
        "p": [0.1, 0.2],
        "contender": "raw",
        "over": "evolved",
        "budget": "60",
        "responses": np.zeros((3, 4)),
        "classes": [0, 1],
        "theta_deg": [0.0],
        "phi_deg": [0.0],
        "parameters": [0, 0, 0, 1, 0, 1, 0.0],
        "first": "a",
        "second": "b",
        "distance": np.zeros(evolved.sizes["presentation"]),
        "success": [True],
        "count": 2,
        "center": codes,
        "summary": closedloop.summarize(evolved)[0],
        "content": {"parameters": None},
        "planes": ["random-random"],
        "attributions": xr.DataArray(np.zeros((3, 3, 16, 16))),
        "subjects": {"a": small_runs.network()},
        "label": "x",
        "method": "raw",
        "protocol": RunProtocol("mine", len),
        "function": len,
        "of": "recording",
        "draw": len,
        "title": "a",
        "columns": ["a"],
        "rows": [["b"]],
        "resume": len,
        "rate_hz": 5.0,
        "layer": "output",
        "plain": [allocation.assign_attrs(loss_train=1.0)] * 2,
        "changed": [allocation.assign_attrs(loss_train=2.0)] * 2,
        "eigenvalues": np.ones(3),
        "plan": {"out": str(place / "sweep"), "subject": "gabor", "optimizer": "random"},
        "total": 1,
        "done": 1,
        ("ascend", "subject"): small_runs.network(),
        ("compare", "subject"): small_runs.network(),
        ("evolve_elites", "subject"): small_runs.classifier(),
        ("plot_ascents", "result"): climbed,
        **{(n, "recording"): planes for n in ("plot_landscape", "fit_kent", "landscape_responses", "radial_tuning")},
        ("class_elites", "recording"): elites,
        **{(n, "recording"): mapped for n in ("fit_field", "field_responses", "plot_field")},
        **{(n, "recording"): grated for n in ("fit_gratings", "grating_responses", "plot_gratings")},
        **{(n, "recording"): sorted_ for n in ("category_selectivity", "plot_selectivity")},
        **{(n, "recording"): moved for n in ("tolerance", "tolerance_curves", "plot_tolerance")},
        ("selectivity", "images"): {"a": small_runs.pictures(3), "b": small_runs.pictures(4)},
        ("cross_units", "recordings"): {"a": evolved, "b": evolved},
        ("field_box", "found"): closedloop.analysis.fit_field(mapped),
        "allocation": allocation,
        "allocations": [allocation, allocation],
        "by_layer": allocation["by_layer"],
        **trained,
        "labelled": named,
        "answers": answers_of(answered),
        ("diagnose", "subject"): planted.planted_subject(),
        ("with_parameters", "found"): allocation,
        **{(n, "recording"): answered for n in ("answers_of", "driving_units", "error_clusters", "explanations")},
        ("single_units", "recording"): answered,
        **{(n, "success"): "beats" for n in ("plan", "simulated_power", "success_probability")},
        **{(n, "model"): closedloop.analysis.NoiseModel() for n in ("simulated_power", "success_probability")},
        ("simulated_power", "design"): closedloop.analysis.Design(),
        ("success_probability", "design"): closedloop.analysis.Design(),
        ("plan", "design"): closedloop.analysis.Design(),
        ("plan", "models"): closedloop.analysis.NoiseModel(),
        ("welch_power", "means"): (1.0, 0.0),
        ("welch_power", "variances"): (1.0, 1.0),
        ("welch_power", "n"): (9.0, 9.0),
        ("plot_plan", "planned"): closedloop.analysis.plan(closedloop.analysis.NoiseModel()),
        **{(n, "recording"): answered for n in ("spurious_units", "suspected_units", "plot_spurious")},
        **{(n, "recording"): small_treatments.judgement() for n in ("judged_treatments", "plot_judgement")},
        ("treatment_accuracy", "recording"): small_treatments.treatment(),
        ("plot_treatment", "found"): closedloop.analysis.treatment_accuracy(small_treatments.treatment()),
        **{(n, "recording"): small_trainings.trainings() for n in TRAINED},
        "change": "freeze=$out$",
        ("plot_twin", "table"): small_twins.table(),
        **{
            (n, "recording"): small_twins.verified()
            for n in ("verification", "diversity", "plot_verification", "plot_verification_matrix")
        },
        **{(n, "recording"): searched for n in ("natural_search", "plot_natural_search", "search_regret")},
        "truth": {p.relative_to(small_runs.POOL).as_posix(): 1.0 for p in small_runs.POOL.rglob("*.png")},
        ("search_natural", "images"): small_runs.POOL,
        **{(n, "recording"): front for n in ("pareto_front", "plot_front")},
        **{(n, "recording"): disputed for n in ("controversy", "plot_controversy")},
        "objectives": ["unit(0)", "suppression(0)"],
        ("controversial", "units"): 0,
        "models": [one, small_runs.GaborSubject(resolution=16, count=1, seed=2)],
        "reference": np.random.default_rng(0).standard_normal(space.dim),
        ("verify", "images"): small_twins.shown(2).images,
        ("verify", "units"): [0, 1],
        ("AtlasPages", "recording"): paged,
        ("atlas_table", "recording"): paged,
        ("read_allocation", "run"): place / "evolve",
        ("read_image", "path"): place / "image.png",
        ("write_png", "path"): place / "new.png",
        ("Recording", "path"): place / "new",
        ("stored_planes", "run"): place / "landscape",
        ("read_ascent", "run"): place / "ascend",
        ("read_comparison", "run"): place / "compare",
        ("read_export", "path"): place / "run.nc",
        ("write_report", "out"): place / "new.html",
        ("build_report", "out"): place / "new.html",
    }
    return SimpleNamespace(place=place, values=values)


def files(place):
    return {path: path.is_file() and path.stat().st_mtime_ns for path in place.rglob("*")}


def fits(kind, wrong):
    return wrong in MAY_BELONG and re.search(MAY_BELONG[wrong], str(kind)) is not None


#: Aliases of types, in which a list, a text or a number may belong.
ALIASES = {"UnitSpec": "int | str | Sequence", "Recordings": "Sequence | Mapping | Dataset", "Inner": "str"}


@pytest.mark.sampled(30)
@pytest.mark.parametrize("name", CALLABLES)
def test_what_belongs_nowhere_is_named(name, right, monkeypatch):
    made, given = CALLABLES[name]
    monkeypatch.chdir(right.place)
    before, beside = files(right.place), sorted(os.listdir(right.place))
    values = [right.values.get((name, p.name), right.values.get(p.name)) for p in given]
    assert not any(value is None for value in values), f"a right value for {[p.name for p in given]}"
    for (i, parameter), (wrong, make) in itertools.product(enumerate(given), WRONG.items()):
        kind = " | ".join(ALIASES.get(k, k) for k in str(parameter.annotation).split(" | "))
        refused = False
        try:
            made(*[make() if j == i else value for j, value in enumerate(values)])
        except ClosedLoopError:
            refused = True
        if refused:
            assert sorted(os.listdir(right.place)) == beside, f"{parameter.name}: {wrong} leaves something"
        else:
            assert fits(kind, wrong), f"{parameter.name}: {wrong} is taken for {kind}"
            left = files(right.place).keys() - before.keys()
            for path in sorted(left, reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    assert files(right.place) == before, "something is left"


def test_a_recording_of_another_kind_is_named(right):
    """Each function of analysis and each figure, of the Datasets that other protocols make."""
    datasets = [v for v in right.values.values() if isinstance(v, xr.Dataset)]
    shown = 0
    for name, (made, given) in CALLABLES.items():
        if not made.__module__.startswith(("closedloop.analysis", "closedloop.figures", "closedloop.formats")):
            continue
        if "Dataset" not in str(given[0].annotation) or name == "export":
            continue
        others = [right.values.get((name, p.name), right.values.get(p.name)) for p in given[1:]]
        for dataset in {id(d): d for d in datasets}.values():
            shown += 1
            with contextlib.suppress(ClosedLoopError):
                made(dataset, *others)
    assert shown > 100


@pytest.mark.parametrize("resolution", [0, -1, 2.5, "224", None])
def test_photographs_of_no_size(resolution):
    with pytest.raises(ClosedLoopError, match="resolution: expected a whole number of at least 1"):
        closedloop.natural_references(resolution)


def test_a_fault_of_ours_keeps_its_own_name():
    """Where all arguments are of their types, an exception is not explained away."""
    from closedloop.signatures import at_door

    @at_door
    def broken(units: Units, count: int) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        broken(Units(("a",), {}), 3)
    with pytest.raises(ClosedLoopError, match="count: expected a whole number, got 'three'"):
        broken(Units(("a",), {}), "three")
