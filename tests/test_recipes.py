"""A session as plain values."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from closedloop import IsotropicES, Plateau, Session, Target, Thread, Unit, Units, recipes
from closedloop.generators import Fourier, Pixels
from closedloop.generators.cppn import draw_topology
from closedloop.loop.experiment import describe_session, read_yaml
from closedloop.recipes import OBJECT, as_recorded, build, plain, recipe
from closedloop.recording.references import source


def describe(session, references):
    threads = [e.thread for e in session.evolutions]
    return describe_session(session.subject, threads, references, session.stop, session.settings)


class Flat:
    name = "flat"
    units = Units.numbered("flat", 2)

    def record(self, images):
        return np.zeros((len(images), 2))


class Loaded(Flat):
    @property
    def recipe(self):
        return {"name": "flat", "gain": np.float64(2.5), "rows": (1, np.int64(2)), "path": Path("a/b")}


def thread(name="main", generator=None):
    generator = generator or Fourier(resolution=16, cutoff=2)
    return Thread(generator, IsotropicES(generator.space, seed=3, population=4), Unit(1) - 0.5 * Unit(0), name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5), (np.int64(3), 3), (np.array([[1, 2]]), [[1, 2]]), ((1, (2,)), [1, [2]]), (None, None),
        (range(3), [0, 1, 2]), (Path("a"), "a"), ({"a": {1: np.bool_(True)}}, {"a": {"1": True}}), (np.str_("x"), "x"),
        (1 + 2j, "(1+2j)"),
    ],
)  # fmt: skip
def test_plain_values(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert yaml.safe_load(yaml.safe_dump(found)) == expected


def test_recipes():
    assert recipe(Flat()) == {"name": OBJECT, "description": "Flat flat"}
    assert recipe(Loaded()) == {"name": "flat", "gain": 2.5, "rows": [1, 2], "path": "a/b"}


def test_sources(tmp_path):
    assert source(None) is None
    assert source("bundled") == "bundled"
    assert source(np.zeros((1, 3, 2, 2))) == "references"
    assert source(tmp_path) == str(tmp_path)
    assert Path(source("some/folder")).is_absolute()


def test_one_thread_stands_at_the_top():
    session = Session(
        Loaded(), [thread()], stop=[Plateau(4, np.float64(0.1)), Target(np.float32(2))], images=np.int64(8)
    )
    found = describe(session, None)
    assert "threads" not in found
    assert found["protocol"] == "evolve"
    assert found["generator"] == Fourier(resolution=16, cutoff=2).recipe
    assert found["optimizer"]["population"] == 4
    assert found["objective"] == (Unit(1) - 0.5 * Unit(0)).describe()
    assert found["stop"] == [{"name": "plateau", "generations": 4, "gain": 0.1}, {"name": "target", "score": 2.0}]
    assert (found["images"], found["references"], found["timeout_s"]) == (8, None, None)
    assert yaml.safe_load(yaml.safe_dump(found)) == found


def test_several_threads_or_a_named_one_stand_in_a_list():
    several = describe(Session(Flat(), [thread("a"), thread("b", Pixels(4))], images=8), "bundled")
    assert [(t["name"], t["generator"]["name"]) for t in several["threads"]] == [("a", "fourier"), ("b", "pixels")]
    assert several["references"] == "bundled"
    assert not {"generator", "optimizer", "objective"} & several.keys()
    assert [t["name"] for t in describe(Session(Flat(), [thread("a")], images=8), None)["threads"]] == ["a"]


def test_rules_of_ones_own():
    def patience(history):
        return None

    found = describe(Session(Flat(), [thread()], stop=[patience], images=8), None)["stop"]
    assert found[0]["name"] == OBJECT
    assert "patience" in found[0]["description"]


def test_recipes_of_older_runs_draw_as_they_did():
    old = {"name": "subspace", "dim": 3, "seed": 4, "generator": {"name": "cppn", "seed": 1}}
    inner = {"name": "cppn", "seed": 1, "stream": 1}
    assert as_recorded(old) == {"name": "subspace", "dim": 3, "seed": 4, "generator": inner, "stream": 1}
    new = {"name": "conv3d", "seed": 4, "stream": 2}
    content = {"subject": new, "threads": [{"generator": {"name": "pixels"}, "optimizer": {"name": "cma", "seed": 1}}]}
    assert as_recorded(content) == content
    assert as_recorded(None) is None


def test_native_of_older_runs_has_the_first_weights():
    older = {"name": "native", "shell": True, "resolution": 128, "engine": "onnx", "device": None}
    assert as_recorded({"generator": older})["generator"] == {**older, "weights": "native-1"}
    for newer in ({**older, "weights": "native-2"}, {"name": "native", "resolution": 128}):
        assert as_recorded(newer) == newer


def test_an_older_run_goes_on_though_its_wrapped_native_did_not_name_its_weights():
    def told(weights):
        inner = {"name": "native", **weights, "shell": True, "resolution": 128, "engine": "onnx", "device": None}
        return SimpleNamespace(name="truncated", recipe={"name": "truncated", "bound": 2.0, "generator": inner})

    older, now, second = told({}), told({"weights": "native-1"}), told({"weights": "native-2"})
    assert recipes.fingerprint(older) != recipes.fingerprint(now)
    assert recipes.fingerprint(older) in recipes.older_fingerprints(now)
    assert recipes.fingerprint(older) not in recipes.older_fingerprints(second)
    assert recipes.is_same_part(now, recipes.fingerprint(older))
    assert not recipes.is_same_part(second, recipes.fingerprint(older))
    assert recipes.is_same_part(second, "")


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("subjects", {"name": "conv3d", "units": 2, "seed": 3}),
        ("generators", {"name": "cppn", "resolution": 16, "seed": 3}),
        ("generators", {"name": "subspace", "dim": 1, "seed": 3, "generator": {"name": "fourier", "resolution": 16}}),
    ],
    ids=lambda part: part if isinstance(part, str) else part["name"],
)
def test_parts_of_older_runs_are_what_they_were(kind, part):
    older, now = build(kind, **as_recorded(dict(part))), build(kind, **part)
    assert "stream" not in older.recipe  # so that its fingerprint is that of the run
    assert now.recipe["stream"] == 2
    plain = np.random.default_rng(3)
    if part["name"] == "conv3d":
        first = plain.standard_normal(older._first.shape)
        np.testing.assert_allclose(older._first / older._first.std(), first / first.std(), rtol=0.01)
        assert not np.allclose(older._first, now._first)
    elif part["name"] == "cppn":
        assert older.topology == draw_topology(24, 3, 1) != now.topology
    else:
        user = plain.standard_normal(older.generator.space.dim)
        np.testing.assert_allclose(older.directions[0], user / np.linalg.norm(user), atol=1e-12)
        assert abs(np.corrcoef(now.directions[0], user)[0, 1]) < 0.2


def test_a_file_that_an_older_run_wrote_repeats_it(tmp_path):
    written = {"subject": {"name": "conv3d", "seed": 3}}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(written))
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"closedloop": "0.1.0", **written}))
    assert read_yaml(tmp_path / "new.yaml") == written
    assert read_yaml(tmp_path / "old.yaml")["subject"]["stream"] == 1


def test_parts_that_are_kept_are_those_that_were_made_with_their_state_at_its_beginning():
    noisy = {
        "spikes": 5.0,
        "best": 1.0,
        "seed": 3,
        "subject": {"name": "gabor", "resolution": 16, "count": 1, "seed": 1},
    }
    images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    fresh = recipes.build("subjects", "poisson", **noisy).record(images)
    with recipes.keeping(recipes.KeptParts(2)):
        first = recipes.build("subjects", "poisson", **noisy)
        np.testing.assert_array_equal(first.record(images), fresh)
        again = recipes.build("subjects", "poisson", **noisy)
        assert again is first
        np.testing.assert_array_equal(again.record(images), fresh)
        assert recipes.build("subjects", **noisy["subject"]) is first.subject
        assert recipes.build("generators", "fourier", cutoff=3) is recipes.build("generators", "fourier", cutoff=3)
        for seed in (5, 6):  # others take their places
            recipes.build("subjects", "gabor", resolution=16, count=1, seed=seed)
        assert recipes.build("subjects", "poisson", **noisy) is not first
    assert recipes.build("subjects", "poisson", **noisy) is not recipes.build("subjects", "poisson", **noisy)


def test_a_recipe_without_a_name_is_refused():
    class Plain(Pixels):
        recipe = {"cutoff": 3}  # noqa: RUF012

    class Searching(IsotropicES):
        recipe = {"population": 3}  # noqa: RUF012

    for kind, part in (("generator", Plain(4)), ("optimizer", Searching(Plain(4).space))):
        with pytest.raises(ValueError, match=rf"^{kind} '.*': recipe: expected a mapping with the name"):
            recipe(part)
