"""Where an evolved image lies beside the references, from recordings made by hand."""

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import concat, naturalness

REFERENCES = 40


def recording(references=REFERENCES, columns=True, retest=True):
    """References with total variation 0, 1, 2 …; the evolved image has 10.5, the last generation 8.5 to 100."""
    rows = [("reference", "reference", -1, f"photo-{i:02d}", i, float(i)) for i in range(references)]
    rows += [("main", "evolved", g, f"main-{g}-{i}", 50 + g, 1.0) for g in range(2) for i in range(4)]
    rows += [("reference", "reference", 1, "photo-00", 0, -99.0)] * bool(references)  # shown again: counts once
    if retest:
        for g in (2, 3):
            rows += [("main", "retest", g, "main-1-0", 60, 10.5)] * 2
            rows += [("reference", "retest", g, f"photo-{references - 3:02d}", 40, -99.0)] * (2 * bool(references))
    thread, kind, generation, name, response, tv = zip(*rows, strict=True)
    values = np.array(tv)
    evolved = (np.array(kind) == "evolved") & (np.array(generation) == 1)
    values[evolved] = [10.5, 8.5, 11.5, 100]
    coords = {"thread": thread, "kind": kind, "stimulus_id": name}
    ds = xr.Dataset(
        {
            "responses": (("presentation", "neuroid"), np.array(response, dtype=float)[:, None]),
            "score": ("presentation", np.where(np.array(thread) == "main", response, np.nan)),
        },
        {
            **{key: ("presentation", np.array(value, dtype=object)) for key, value in coords.items()},
            "generation": ("presentation", np.array(generation)),
            "neuroid_id": ("neuroid", np.array(["unit.0"], dtype=object)),
            "evolution": ["main"], "objective": ("evolution", ["unit(0)"]), "subject": "made", "seed": 0,
        },
        {"finished": 1},
    )  # fmt: skip
    if columns:
        ds = ds.assign_coords(tv=("presentation", values), code_norm=("presentation", np.full(len(values), 1.5)))
    return ds


def of(found, measure):
    return {str(name): float(value) for name, value in found.sel(measure=measure).data_vars.items()}


def test_the_evolved_image_beside_the_references():
    found = of(naturalness(recording(), "main"), "tv")
    assert (found["evolved"], found["best_reference"]) == (10.5, REFERENCES - 3)
    assert (found["least"], found["median"], found["most"]) == (0, 19.5, 39)
    assert found["low"] == pytest.approx(0.975)
    assert found["high"] == pytest.approx(38.025)
    assert found["percentile"] == pytest.approx(100 * 11 / 40)
    assert found["inside"] == 1
    assert found["last_inside"] == 0.75


def test_outside_the_band():
    ds = recording()
    tv = np.where(ds["thread"].values == "main", 38.5, ds["tv"].values)
    found = of(naturalness(ds.assign_coords(tv=("presentation", tv)), "main"), "tv")
    assert (found["inside"], found["last_inside"]) == (0, 0)


def test_without_a_retest_it_is_the_last_generation():
    found = of(naturalness(recording(retest=False), "main"), "tv")
    assert found["evolved"] == 11.0
    assert np.isnan(found["best_reference"])


def test_codes_have_no_band():
    found = of(naturalness(recording(), "main"), "code_norm")
    assert found.pop("evolved") == found.pop("best_reference") == 1.5
    assert np.isnan([value for key, value in found.items() if key != "percentile"]).all()


def test_few_references_give_no_verdict():
    found = naturalness(recording(references=19), "main")
    assert found["reason"] == "inside: 19 references; a band needs at least 20"
    assert np.isnan(of(found, "tv")["inside"])
    assert of(found, "tv")["most"] == 18


def test_no_references_and_old_runs_say_so():
    found = naturalness(recording(references=0), "main")
    assert found["reason"] == "low, high: no reference image was shown"
    assert of(found, "tv")["evolved"] == 10.5
    old = naturalness(recording(columns=False), "main")
    assert old["reason"] == "the run was recorded without these numbers"
    assert np.isnan(old["evolved"].values).all()


def test_old_and_new_runs_side_by_side():
    found = naturalness(concat({"new": recording(), "old": recording(columns=False)}))
    assert found["thread"].values.tolist() == ["new/main", "old/main"]
    assert found["evolved"].sel(measure="tv").values.tolist()[0] == 10.5
    assert np.isnan(found["evolved"].sel(thread="old/main").values).all()
