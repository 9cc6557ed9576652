"""Experiments as files: short and long forms, what is refused, and what is built."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml

from closedloop import CMAES, IsotropicES, Plateau, Session, Target, Thread, open_recording
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.generators import Pixels
from closedloop.gradients.settings import Anchor, GradientSettings
from closedloop.gradients.views import parse_view
from closedloop.images.eight_bit import write_png
from closedloop.loop.experiment import (
    build_rules,
    build_subject,
    build_threads,
    describe_session,
    load_recorded_subject,
    parse_experiment,
    read_experiment_file,
)
from closedloop.loop.settings import Settings
from closedloop.optimizers import Adam
from closedloop.seeds import named_seed
from closedloop.subjects import GaborSubject

SHORT = {"subject": "gabor", "generator": "fourier", "optimizer": "isotropic"}
FULL = {
    "subject": {"name": "gabor", "count": 2, "resolution": 16, "seed": 1},
    "threads": [
        {
            "name": "a",
            "generator": {"name": "fourier", "resolution": 16, "cutoff": 2},
            "optimizer": {"name": "cma", "population": 4, "seed": 2},
        },
        {
            "name": "b",
            "generator": {"name": "pixels", "resolution": 8},
            "optimizer": {"name": "isotropic", "population": 5},
            "objective": "unit(1) - 0.5*unit(0)",
        },
    ],
    "references": None,
    "stop": [{"name": "plateau", "generations": 30}],
    "images": 24, "repeats": 2, "interleave": 1, "retest_candidates": 1, "retest_repeats": 2, "seed": 3, "keep": "none",
}  # fmt: skip


def run(experiment, save=None):
    subject = build_subject(experiment)
    return Session(
        subject,
        build_threads(experiment, subject),
        references=experiment.references,
        stop=build_rules(experiment),
        save=save,
        **experiment.settings,
    ).run()


def assert_equal(found, expected):
    assert set(found.variables) == set(expected.variables)
    for name in expected.variables:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)


def test_short_names():
    found = parse_experiment(SHORT, "x")
    assert [t.name for t in found.threads] == ["main"]
    assert found.threads[0].generator.name == "fourier"
    assert found.references == "bundled"
    assert found.settings["images"] == 4000


def test_names_with_options_and_several_threads():
    found = parse_experiment(FULL, "x")
    subject = build_subject(found)
    a, b = build_threads(found, subject)
    assert isinstance(subject, GaborSubject)
    assert len(subject.units) == 2
    assert (a.name, b.name, a.generator.resolution, b.generator.resolution) == ("a", "b", 16, 8)
    assert isinstance(a.optimizer, CMAES)
    assert isinstance(b.optimizer, IsotropicES)
    assert (a.optimizer.recipe["seed"], b.optimizer.recipe["seed"]) == (2, named_seed(3, "b"))
    assert b.objective.describe() == "unit(1) - 0.5*unit(0)"
    assert found.settings["retest_repeats"] == 2


def test_the_optimizer_may_be_left_out():
    found = parse_experiment({k: v for k, v in SHORT.items() if k != "optimizer"}, "x")
    (thread,) = build_threads(found, build_subject(found))
    assert thread.optimizer.name == "auto"
    assert thread.optimizer.budget is None  # the session hands it its own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imagse": 5}, "imagse: no such entry. Did you mean 'images'"),
        ({"subject": None}, "subject"),
        ({"subject": {"layer": "x"}}, r"subject\.name: Field required"),
        ({"generator": 5}, r"threads\.0\.generator"),
        ({"optimizer": None}, r"threads\.0\.optimizer"),
        ({"objective": 3}, r"threads\.0\.objective"),
        ({"images": "many"}, "images: Input should be a valid integer"),
        ({"images": "100"}, "images: Input should be a valid integer"),
        ({"images": True}, "images: Input should be a valid integer"),
        ({"images": 10.5}, "images: Input should be a valid integer"),
        ({"timeout_s": "1"}, "timeout_s: Input should be a valid number"),
        ({"references": 3}, "references: Input should be a valid string"),
        ({"stop": "plateau"}, "stop: Input should be a valid list"),
        ({"stop": [{"generations": 3}]}, r"stop\.0\.name: Field required"),
        ({"protocol": "present"}, "protocol: Input should be 'evolve'"),
        ({"threads": FULL["threads"]}, "give either threads, or generator, optimizer and objective"),
    ],
)
def test_what_does_not_fit(change, message):
    with pytest.raises(InvalidArgumentError, match="here: not a valid experiment.*" + message):
        parse_experiment({**SHORT, **change}, "here")


@pytest.mark.parametrize("threads", [5, "main", {"name": "a"}, ["main"], [None], [{"name": "a"}], [[]]])
def test_threads_of_a_wrong_type(threads):
    with pytest.raises(InvalidArgumentError, match=r"here: not a valid experiment.*threads"):
        parse_experiment({"subject": "gabor", "threads": threads}, "here")


@pytest.mark.parametrize("content", [None, 5, "gabor", ["gabor"]])
def test_no_experiment_at_all(content):
    with pytest.raises(InvalidArgumentError, match="here: not a valid experiment"):
        parse_experiment(content, "here")


def test_every_fault_is_named():
    with pytest.raises(InvalidArgumentError, match=r"images.*; .*repeats"):
        parse_experiment({**SHORT, "images": "x", "repeats": "y"}, "here")


def test_names_and_options_that_are_not_known():
    def built(**change):
        experiment = parse_experiment({**SHORT, **change}, "x")
        return build_threads(experiment, build_subject(experiment))

    with pytest.raises(UnknownNameError, match=r"no generator named 'furier'\. Did you mean 'fourier'"):
        built(generator="furier")
    with pytest.raises(InvalidArgumentError, match=r"generator 'fourier': .*Did you mean 'cutoff'"):
        built(generator={"name": "fourier", "cutof": 3})
    with pytest.raises(UnknownNameError, match="no optimizer named"):
        built(optimizer="simplex")
    with pytest.raises(UnknownNameError, match="no subject named"):
        built(subject="gabro")
    with pytest.raises(InvalidArgumentError, match="objective: unknown function"):
        built(objective="units(0)")


def test_rules():
    def rules(*stop):
        return list(build_rules(parse_experiment({**SHORT, "stop": list(stop)}, "x")))

    assert rules({"name": "plateau"}, {"name": "target", "score": 2.5}) == [Plateau(), Target(2.5)]
    with pytest.raises(
        InvalidArgumentError,
        match=r"stop: expected one of \['beats', 'futility', 'plateau', 'target'\], got 'patience'",
    ):
        rules({"name": "patience"})
    with pytest.raises(InvalidArgumentError, match=r"stop: target: .*score"):
        rules({"name": "target"})
    with pytest.raises(InvalidArgumentError, match="Plateau: expected generations >= 2"):
        rules({"name": "plateau", "generations": 0})


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"subject": {"name": "python-object", "description": "Cell my-cell"}}, "subject=…"),
        ({"generator": {"name": "python-object", "description": "Cell my-cell"}}, "threads=…"),
        ({"optimizer": {"name": "python-object", "description": "Cell my-cell"}}, "threads=…"),
        ({"stop": [{"name": "python-object", "description": "Cell my-cell"}]}, "stop=…"),
        (
            {"optimizer": "adam", "gradient": {"anchor": {"name": "python-object", "description": "Cell my-cell"}}},
            "threads=…",
        ),
    ],
)
def test_python_objects_say_how_to_go_on(change, argument):
    experiment = parse_experiment({**SHORT, **change}, "x")
    with pytest.raises(InvalidArgumentError, match=rf"Python object \(Cell my-cell\).*resume\(RUN, {argument}\)"):
        build_threads(experiment, build_subject(experiment)), build_rules(experiment)


def test_how_gradients_are_taken_goes_to_a_file_and_back():
    view = parse_view("Roll(3) | Noise(0.1)")
    pixels = Pixels(16)
    thread = Thread(pixels, Adam(pixels.space, 3, steps=9), gradient=GradientSettings(view, 3, 2, 7))
    described = describe_session(GaborSubject(resolution=16), [thread], None, (), Settings(images=9))
    (again,) = build_threads(parse_experiment(described, "x"), GaborSubject(resolution=16))
    assert again.gradient.view == view
    assert (again.gradient.every, again.gradient.redirected, again.gradient.seed) == (3, 2, 7)
    assert again.optimizer.recipe == thread.optimizer.recipe
    anchored = GradientSettings(anchor=Anchor(pixels.space.center, (0,)))
    described = describe_session(
        GaborSubject(resolution=16), [replace(thread, gradient=anchored)], None, (), Settings(images=9)
    )
    with pytest.raises(InvalidArgumentError, match="anchor: it was handed over as a Python object"):
        build_threads(parse_experiment(described, "x"), GaborSubject(resolution=16))


def test_the_seed_of_a_view_is_the_experiments_unless_it_names_one():
    for given, expected in (({"gradient": {}}, 5), ({"gradient": {"seed": 8}}, 8), ({}, 5)):
        experiment = parse_experiment({**SHORT, "optimizer": "adam", "seed": 5, **given}, "x")
        assert build_threads(experiment, build_subject(experiment))[0].gradient.seed == expected
    experiment = parse_experiment({**SHORT, "optimizer": "adam", "gradient": {"every": 0}}, "x")
    with pytest.raises(InvalidArgumentError, match="every: expected a whole number"):
        build_threads(experiment, build_subject(experiment))


def test_recorded_subjects():
    assert load_recorded_subject("gabor", "x").name == "gabor"
    assert load_recorded_subject({"name": "gabor", "resolution": 16}, "x").resolution == 16
    with pytest.raises(InvalidArgumentError, match="x: subject: expected a name, or a name with options, got 5"):
        load_recorded_subject(5, "x")


@pytest.mark.parametrize("content", ["a: [", b"\xff\xfe\xfa", None])
def test_files_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidArgumentError, match=r"config: .*x\.yaml.*YAML"):
        read_experiment_file(path)


def test_a_file_with_other_than_ascii(tmp_path):
    (tmp_path / "x.yaml").write_bytes(yaml.safe_dump({**SHORT, "references": "bücher"}, allow_unicode=True).encode())
    assert read_experiment_file(tmp_path / "x.yaml").references == "bücher"


def test_references_are_looked_for_beside_the_file(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**SHORT, "references": "photos"}))
    assert read_experiment_file(tmp_path / "x.yaml").references == str(tmp_path / "photos")
    for other in ("bundled", None, "elsewhere"):
        (tmp_path / "x.yaml").write_text(yaml.safe_dump({**SHORT, "references": other}))
        assert read_experiment_file(tmp_path / "x.yaml").references == other


def test_the_file_of_a_run_repeats_it(tmp_path):
    first = run(parse_experiment(FULL, "x"), tmp_path / "first")
    again = run(read_experiment_file(tmp_path / "first" / "experiment.yaml"), tmp_path / "again")
    assert_equal(again, first)
    assert (tmp_path / "first" / "experiment.yaml").read_text() == (tmp_path / "again" / "experiment.yaml").read_text()


@pytest.mark.parametrize("kind", ["array", "folder"])
def test_the_file_of_a_run_repeats_its_references(tmp_path, kind):
    pictures = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(pictures):
        write_png(tmp_path / "photos" / f"p{i}.png", picture)
    experiment = parse_experiment(FULL, "x")
    subject = build_subject(experiment)
    references = pictures if kind == "array" else tmp_path / "photos"
    first = Session(
        subject,
        build_threads(experiment, subject),
        references=references,
        save=tmp_path / "first",
        **experiment.settings,
    ).run()
    again = run(read_experiment_file(tmp_path / "first" / "experiment.yaml"), tmp_path / "again")
    assert_equal(again, first)
    assert_equal(open_recording(tmp_path / "again"), first)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images: 1:30", "images"),
        ("images: 010", "images"),
        ("seed: 1\nseed: 2", "'seed' stands there twice"),
        ("generator: {name: pixels, size: 4}", "size"),
        ("seed: " + "9" * 5000, "cannot read this YAML"),
        ("images: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("images: true", "images"),
        ("images: 1e2", "images"),
    ],
)
def test_no_entry_is_taken_for_something_else(tmp_path, line, message):
    path = tmp_path / "x.yaml"
    generator = "" if "generator" in line else "generator: {name: pixels, resolution: 32}\n"
    path.write_text(f"subject: gabor\n{generator}{line}\n", encoding="utf-8")

    def read():
        experiment = read_experiment_file(path)
        build_threads(experiment, build_subject(experiment))

    with pytest.raises(InvalidArgumentError, match=message):
        read()
