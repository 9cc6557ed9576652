"""Plans of sweeps: which runs they span, and the name of each."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop import recipes
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.protocols.sweep_plan import make_plan, run_name

GABOR = {"name": "gabor", "resolution": 16, "count": 4, "seed": 1}
SMALL = {"subject": GABOR, "generator": {"name": "fourier", "cutoff": 2}, "images": 24, "references": "none"}


def plan(**entries):
    return make_plan({**SMALL, **entries}, Path("out"))


def test_all_combinations_are_runs():
    found = plan(
        units="0-2",
        seeds="0-1",
        optimizers=["isotropic", {"name": "nes", "population": 6}],
        noises=["none", "gain:0.2"],
    )
    assert len(found.runs) == 3 * 2 * 2 * 2 == len({run.id for run in found.runs})
    facts = [dict(run.facts) for run in found.runs]
    assert {"unit": "1", "seed": "1", "optimizer": "nes(population=6)", "noise": "gain:0.2"} in facts
    assert found.images == 24 * 24
    (one,) = [r for r in found.runs if r.facts == {"unit": "2", "seed": "0", "optimizer": "isotropic", "noise": "none"}]
    assert one.content["objective"] == "unit(2)"
    assert one.content["protocol"] == "evolve"
    assert one.place == f"{one.id[:2]}/{one.id[2:4]}/{one.id}"


def test_a_run_has_the_same_name_in_every_plan():
    """Whatever other runs there are, in whatever words a default is said, and however entries are ordered."""
    small, large = plan(units="1", seeds=[2]), plan(units="all", seeds="0-3")
    assert small.runs[0].id in {run.id for run in large.runs}
    said = plan(units="1", seeds=[2], repeats=1, interleave=2, optimizer="auto")
    assert said.runs[0].id == small.runs[0].id
    assert plan(units="1", seeds=[2], repeats=2).runs[0].id != small.runs[0].id
    short = make_plan({**SMALL, "units": "0", "generator": "fourier"}, Path("out"))
    long = make_plan({**SMALL, "units": "0", "generator": {"name": "fourier"}}, Path("out"))
    assert short.runs[0].id == long.runs[0].id


@given(st.dictionaries(st.text(max_size=3), st.one_of(st.integers(), st.text(max_size=3), st.booleans()), max_size=4))
def test_names_depend_on_what_is_said_and_not_on_its_order(content):
    turned = dict(reversed(list(content.items())))
    assert run_name(content) == run_name(turned)
    assert run_name({**content, "another": 1}) != run_name(content)


def test_units_together_are_one_run():
    found = plan(units="all", together=3)
    assert [run.facts["unit"] for run in found.runs] == ["3 units", "3"]
    assert found.images == 4 * 24
    assert found.runs[0].content["each"] == "0-2"
    assert len(plan(units="all", together=0).runs) == 1


def test_random_units_are_those_of_the_layer():
    assert len(plan(units="random:2").runs) == 2


def test_climbing_and_comparing_are_runs_too():
    ascents = make_plan(
        {"protocol": "ascend", "subject": GABOR, "units": "0-1", "methods": ["raw", "tv"], "steps": 8}, Path("out")
    )
    assert [run.content["unit"] for run in ascents.runs] == [[0], [1], [0], [1]]
    said = {**SMALL, "protocol": "ascend", "units": "0", "method": "raw", "steps": 8}
    said.pop("images")
    (one,) = make_plan(said, Path("out")).runs  # none are none, as for an evolution
    assert "references" not in one.content


def test_a_comparison_sees_the_whole_layer_and_an_ascent_its_units():
    """Which images are alike is said by all units of a layer, whoever shares the run."""
    base = {"subject": {"name": "lite0", "layer": "blocks.1"}, "units": "3,7"}
    compared = make_plan({**base, "protocol": "compare", "contenders": ["raw"], "together": 0}, Path("out")).runs
    assert [run.content["subject"] for run in compared] == [base["subject"]]
    assert compared[0].content["units"] == [3, 7]
    climbed = make_plan({**base, "protocol": "ascend", "method": "raw", "together": 0}, Path("out")).runs
    assert climbed[0].content["subject"] == {**base["subject"], "units": "3,7"}
    assert climbed[0].content["unit"] == [0, 1]


def test_a_comparison_has_methods_of_its_own():
    entries = {"protocol": "compare", "subject": GABOR, "units": "0-3", "together": 2, "budgets": [60]}
    found = make_plan({**entries, "seeds": [0, 1]}, Path("out"))
    assert len(found.runs) == 4
    assert found.runs[0].content["units"] == [0, 1]


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"units": "0", "unit": 3}, "unit"),
        ({"seeds": [0], "seed": 1}, "expected seeds or seed, got both"),
        ({"seeds": []}, "seeds: expected a list of values"),
        ({"optimizers": "auto"}, "optimizers: expected a list of values"),
        ({"imagse": 3}, "imagse"),
        ({1: 2}, "expected entries with a name, got 1"),
        ({"subject": 3}, "subject: expected a name, or a name with options, got 3"),
        ({"subject": {"resolution": 16}}, "subject: expected a name, or a name with options"),
        ({"subject": {"name": "gabor", "resoluton": 16}}, "subject 'gabor': it has no option 'resoluton'"),
        ({"units": "0-99999999999"}, "units: expected at most 1,000,000 numbers"),
        ({"seeds": "0-3000000000"}, "seeds: expected at most 1,000,000 numbers"),
        ({"seeds": "0-99999", "vary": {"repeats": list(range(1, 12))}}, "expected at most 1,000,000 runs"),
        ({"seeds": [-1]}, "seed: expected a whole number of at least 0, got -1"),
        ({"images": 0}, "images: expected a whole number of at least 1, got 0"),
        ({"protocols": [3]}, "protocol: expected a name, such as evolve, got 3"),
        ({"noises": [20]}, "noise: expected words such as poisson:20"),
        ({"noises": [{"poisson": 20}]}, "noise: expected words such as poisson:20"),
        ({"noises": ["poisson:abc"]}, "subject 'poisson': spikes: expected a number, got 'abc'"),
        ({"optimizers": [{"name": "cma", "populaton": 40}]}, "optimizer 'cma': it has no option 'populaton'"),
        (
            {"optimizers": [{"name": "cma", "population": "many"}]},
            "optimizer 'cma': population: expected a whole number",
        ),
        ({"generator": {"name": "fourier", "cutof": 2}}, "generator 'fourier': it has no option 'cutof'"),
        ({"objectives": ["unit(0) +"]}, "objective: expected an expression"),
        (
            {"units": "0-1", "objectives": ["unit(1)"]},
            "unit: expected values that make a difference, but with '0' and '1'",
        ),
        ({"references": "nowhere"}, "references: expected a folder of images, got 'nowhere'"),
        ({"vary": {"soa_s": [float("inf")]}}, "soa_s: expected seconds above 0, got inf"),
        ({"plans": []}, "plans: expected a list of plans"),
        ({"plans": {"units": "0"}}, "plans: expected a list of plans"),
        ({"plans": ["0-1"]}, "plans: expected a list of plans"),
        ({"plans": [{"units": "0", "out": "there"}]}, "plans: out stands above all plans, not in number 1"),
        ({"plans": [{"units": "0"}, {"plans": []}]}, "plans: plans stands above all plans, not in number 2"),
        ({"seed": 0, "plans": [{"units": "0"}, {"seeds": [1]}]}, "number 2: expected seeds or seed, got both"),
        ({"vary": {"images": 3}}, "vary: images: expected a list"),
        ({"vary": {"images": [3]}}, "'images' stands elsewhere"),
        ({"vary": [1]}, "vary: expected settings"),
        ({"together": -1, "units": "all"}, "together: expected how many units"),
        ({"together": 2, "units": "all", "objective": "unit(0)"}, "together: expected no objective"),
        ({"protocol": "landscape"}, "protocol: expected one that a sweep can run"),
        ({"protocol": "nothing"}, "nothing"),
        ({"noises": ["thunder:3"]}, "thunder"),
        ({"optimizers": ["auto", "atuo"]}, "no optimizer named 'atuo'"),
        ({"generator": "photographs"}, "no generator named 'photographs'"),
        ({"protocol": "ascend", "images": 3}, "images"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(entries, match):
    base = {k: v for k, v in SMALL.items() if k not in entries.get("vary", {}) or entries["vary"] == {"images": [3]}}
    with pytest.raises((InvalidArgumentError, UnknownNameError), match=match):
        make_plan({**base, **entries}, Path("out"))


def test_what_is_no_product_is_a_list_of_plans():
    """Each has the entries above it, and its own before them; a run that two of them have is one."""
    found = plan(
        seeds=[0, 1],
        plans=[
            {"units": "0"},
            {"units": "2", "optimizers": ["nes"], "images": 60},
            {"units": "0-1", "seeds": [1]},
        ],
    )
    facts = [(run.facts["unit"], run.facts["seed"], run.images) for run in found.runs]
    assert facts == [("0", "0", 24), ("0", "1", 24), ("2", "0", 60), ("2", "1", 60), ("1", "1", 24)]
    assert found.runs[2].content["optimizer"] == {"name": "nes"}
    assert {run.id for run in plan(units="0", seeds="0-1").runs} < {run.id for run in found.runs}


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"protocol": "ascend", "method": "raw", "options": {"rte": 3}}, "rte: method 'raw' has no such option"),
        ({"protocol": "ascend", "method": "raw", "options": [3]}, "method, options: expected a name, and a mapping"),
        ({"protocol": "ascend", "method": "accentuate"}, "method: expected one that begins by itself"),
        ({"protocol": "ascend", "method": "raw", "steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"protocol": "ascend", "method": "raw", "generator": "fuorier"}, "no generator named 'fuorier'"),
        ({"protocol": "compare", "budgets": 100}, "budgets: expected a list"),
        ({"protocol": "compare", "budgets": [3]}, "budgets: expected a whole number of at least 50, got 3"),
        ({"protocol": "compare", "seed": -2}, "seed: expected a whole number of at least 0"),
        ({"protocol": "compare", "count": "steps"}, "count: expected"),
        ({"protocol": "compare", "naturals": "nowhere"}, "naturals: expected a folder of images"),
        ({"protocol": "compare", "contenders": "raw"}, "contenders: expected a list of methods"),
        ({"protocol": "compare", "contenders": [{"nme": "raw"}]}, "contenders: one has no entry 'nme'"),
        ({"protocol": "compare", "contenders": [{"label": "a"}]}, "contenders: expected a label and a method"),
        (
            {"protocol": "compare", "contenders": [{"label": "a", "method": "evolve", "optimizer": "atuo"}]},
            "no optimizer named 'atuo'",
        ),
    ],
)
def test_so_is_what_does_not_fit_a_method(entries, match):
    with pytest.raises((InvalidArgumentError, UnknownNameError), match=match):
        make_plan({"subject": GABOR, "units": "0", **entries}, Path("out"))


def test_folders_of_images_are_found_beside_the_plan(tmp_path):
    """A worker may stand anywhere."""
    (tmp_path / "pictures").mkdir()
    (run,) = make_plan({**SMALL, "units": "0", "references": "pictures"}, Path("out"), beside=tmp_path).runs
    assert run.content["references"] == str(tmp_path / "pictures")


def test_many_runs_are_planned_without_a_look_at_each_package(monkeypatch):
    """What is installed is read once for each kind, and not for each run."""
    reads = []
    recipes._installed.cache_clear()
    entry_points = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda **group: reads.append(group) or entry_points(**group))
    found = plan(units="0-3", seeds="0-9", optimizers=["isotropic", "nes"])
    assert len(found.runs) == 80
    assert len(reads) <= 4


def test_further_settings_vary():
    entries = {k: v for k, v in SMALL.items() if k != "images"}
    found = make_plan({**entries, "units": "0", "vary": {"images": [12, 24], "repeats": [1, 2]}}, Path("out"))
    assert sorted((run.images, run.facts["repeats"]) for run in found.runs) == [
        (12, "1"),
        (12, "2"),
        (24, "1"),
        (24, "2"),
    ]
