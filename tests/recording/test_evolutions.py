"""The dimension of evolutions: made of older runs' texts, and told to each presentation."""

import json

import numpy as np
import pytest
import xarray as xr

from closedloop.recording.evolutions import evolution_facts, places, siblings, with_evolutions

RECIPES = [{"name": "fourier", "resolution": 16}, {"name": "pixels", "resolution": 4}]


def older(threads="a; b", experiment="", **scalars):
    """A recording of an older schema: three presentations, of the first thread, the second, and a reference."""
    known = {"threads": threads, "generator": "fourier; pixels", "optimizer": "cma; isotropic", **scalars}
    return xr.Dataset(
        coords={"thread": ("presentation", np.array(["a", "b", "reference"], dtype=object)), **known},
        attrs={"experiment": experiment},
    )


def test_texts_become_coordinates():
    found = with_evolutions(older(objective="unit(0); unit(1)", generator_recipe=json.dumps(RECIPES)))
    assert found["evolution"].values.tolist() == ["a", "b"]
    assert found.sel(evolution="b")["objective"].item() == "unit(1)"
    assert found["optimizer"].values.tolist() == ["cma", "isotropic"]
    assert [json.loads(text) for text in found["generator_recipe"].values] == RECIPES
    assert "threads" not in found.coords
    assert with_evolutions(found) is found


def test_the_text_of_a_single_thread_is_taken_whole():
    objective = 'caption("a dog; a cat", {0: 1.0})'
    found = with_evolutions(older("main", generator="x", optimizer="y", objective=objective))
    assert found["objective"].values.tolist() == [objective]


def test_a_name_may_hold_the_separator_where_the_experiment_lists_it():
    text = "threads:\n- {name: 'a; c'}\n- {name: b}\n"
    assert with_evolutions(older("a; c; b", text))["evolution"].values.tolist() == ["a; c", "b"]


def test_recipes_of_the_first_schema_stand_in_its_experiment():
    text = json.dumps({"threads": [{"name": "a", "generator": RECIPES[0]}, {"name": "b", "generator": RECIPES[1]}]})
    found = with_evolutions(older(experiment=text))
    assert [json.loads(recipe) for recipe in found["generator_recipe"].values] == RECIPES
    assert "generator_recipe" not in with_evolutions(older()).coords


def test_a_text_that_does_not_fit_the_threads():
    with pytest.raises(ValueError, match="objective: expected an entry for each of 2 threads, got 'one'"):
        with_evolutions(older(objective="one"))


def test_each_presentation_knows_its_evolution():
    found = with_evolutions(older())
    assert places(found).tolist() == [0, 1, -1]
    assert evolution_facts(found)["generator"].tolist() == ["fourier", "pixels", ""]
    assert evolution_facts(found.drop_dims("evolution")) == {}
    assert siblings(found, 1).tolist() == [0, 1]


def test_of_joined_runs_each_presentation_knows_that_of_its_own():
    found = with_evolutions(older()).assign_coords(
        evolution=["x/a", "y/a"],
        evolution_run=("evolution", ["x", "y"]),
        evolution_thread=("evolution", ["a", "a"]),
        run=("presentation", ["y", "y", "y"]),
    )
    found["thread"][:] = np.array(["a", "a", "reference"], dtype=object)
    assert places(found).tolist() == [1, 1, -1]
    assert siblings(found, 1).tolist() == [1]
