"""Categories, invariance and other units' images: what is shown, that they go on, and the commands."""

import re

import numpy as np
import pytest
from PIL import Image

from closedloop import CMAES, open_recording
from closedloop.analysis import cross_driving
from closedloop.cli import main
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures import plot_selectivity, plot_tolerance
from closedloop.generators import Fourier
from closedloop.protocols import cross_units, evolve, invariance, resume, selectivity
from closedloop.subjects import FunctionSubject, GaborSubject, Poisson

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

GENERATOR = Fourier(resolution=16, cutoff=3)
SUBJECT = "{name: gabor, count: 2, resolution: 16, seed: 1}"


def subject(noisy=True):
    cells = GaborSubject(resolution=16, count=2, seed=1)
    return Poisson(cells, spikes=20, best=1.0, seed=2) if noisy else cells


def pictures(n, seed=0):
    return np.random.default_rng(seed).random((n, 3, 16, 16), dtype=np.float32)


@pytest.fixture
def folders(tmp_path):
    """Three categories of four images: dark, grey and bright ones."""
    for i, name in enumerate(("bright", "dark", "grey")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for j in range(4):
            level = {"bright": 220, "dark": 20, "grey": 128}[name] + 5 * j + i
            Image.new("RGB", (16, 16), (level,) * 3).save(tmp_path / "photos" / name / f"{j}.png")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def evolved():
    return [
        evolve(subject(False), GENERATOR, CMAES(GENERATOR.space, seed=i), objective=f"unit({i})", images=120,
               references=None, retest_repeats=2)
        for i in range(2)
    ]  # fmt: skip


def of_categories(**options):
    images = {"a": pictures(40), "b": 0.5 * pictures(40, 1)}
    return selectivity(subject(), images, repeats=1, **options)


def of_invariance(**options):
    return invariance(subject(), pictures(1)[0], steps=10, rotations=12, **options)


def of_units(evolved, **options):
    return cross_units(subject(), evolved, **options)


@pytest.mark.parametrize("run", [of_categories, of_invariance])
def test_it_goes_on_where_it_was(tmp_path, run):
    def stop(done, total):
        raise KeyboardInterrupt("stop")

    whole = run(progress=False)
    for i, go_on in enumerate((resume, lambda path: run(save=path, exists="resume", progress=False))):
        path = tmp_path / str(i)
        with pytest.raises(KeyboardInterrupt, match="stop"):
            run(save=path, progress=stop)
        found = go_on(path)
        for name in whole.variables:
            np.testing.assert_array_equal(found[name].values, whole[name].values, err_msg=name)


def test_categories_are_those_of_the_folders(folders, tmp_path):
    light = FunctionSubject(lambda x: x.mean((1, 2, 3))[:, None], units=1, name="light")
    ds = selectivity(light, folders, repeats=2, resolution=16, progress=False)
    assert ds.sizes["presentation"] == 24
    mean = ds["responses"].values[:, 0]
    for name, level in (("bright", 220), ("dark", 20), ("grey", 128)):
        assert abs(mean[ds["category"].values == name] - level / 255).max() < 0.1
    figure = plot_selectivity(ds)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["bright", "grey", "dark"]
    with pytest.raises(InvalidArgumentError, match="unit: expected a column from 0 to 0, got 1"):
        plot_selectivity(ds, 1)


@pytest.mark.parametrize(
    ("repeats", "why"), [(1, "images were shown once"), (3, "of each image all presentations were identical")]
)
def test_why_no_reliability_is_known(repeats, why, folders, tmp_path, capsys):
    selectivity(subject(False), folders, repeats=repeats, save=tmp_path / "run", progress=False)
    main(["show", str(tmp_path / "run")])
    assert f"Reliability is not known: {why}" in " ".join(capsys.readouterr().out.split())


def test_an_image_is_changed_one_thing_at_a_time():
    picture, shown = pictures(1)[0], {}

    def look(images):
        shown.update({image.tobytes(): image for image in images})
        return images.mean((1, 2, 3))[:, None]

    who = FunctionSubject(look, units=1)
    who.resolution = 16
    ds = invariance(who, picture, progress=False)
    assert ds.sizes["presentation"] == 1 + 3 * 8 + 11 + 1
    images = list(shown.values())
    from closedloop.images.eight_bit import quantize

    assert any(np.allclose(image, quantize(picture), atol=1e-6) for image in images)
    turned = quantize(np.rot90(picture, 1, (1, 2)))
    assert any(np.allclose(image, turned, atol=0.005) for image in images)
    moved = np.full_like(picture, 128 / 255)
    moved[:, :, 8:] = quantize(picture)[:, :, :8]
    assert any(np.allclose(image, moved, atol=0.005) for image in images)
    assert sorted(set(ds["amount"].values[ds["factor"].values == "x"])) == [-8, -6, -4, -2, 2, 4, 6, 8]
    turns = sorted(set(ds["amount"].values[ds["factor"].values == "rotation"]))
    assert turns == [-150, -120, -90, -60, -30, 30, 60, 90, 120, 150, 180]
    figure = plot_tolerance(ds)
    assert len(figure.axes) == 4
    with pytest.raises(RecordingError, match="expected an image at several places"):
        plot_tolerance(ds.drop_vars("factor"))


def test_an_evolved_image_is_taken_from_its_recording(evolved):
    ds = invariance(subject(False), evolved[0], steps=1, rotations=2, progress=False)
    base = ds["responses"].values[ds["factor"].values == "base"][0]
    retested = evolved[0].isel(presentation=(evolved[0]["kind"] == "retest").values)
    assert np.isclose(retested["responses"].values, base, atol=1e-3).all(1).any()


def test_other_units_images(evolved):
    ds = cross_units(subject(), {"a": evolved[0], "b": evolved[1]}, repeats=6, progress=False)
    assert ds.sizes["presentation"] == 12
    found = cross_driving(ds)
    assert found["evolved_for"].values.tolist() == ["a/main", "b/main"]
    assert found["n"].values.tolist() == [[6, 6], [6, 6]]
    assert found["basis"].values.tolist() == ["fresh presentations"] * 2
    for i, label in enumerate(("a/main", "b/main")):
        own = ds["responses"].values[ds["thread"].values == label]
        np.testing.assert_allclose(found["response"].values[i], own.mean(0))
        assert found["response"].values[i].argmax() == i
    np.testing.assert_allclose(np.diag(found["normalized"]), 1)


def test_what_cannot_be_crossed(evolved, tmp_path):
    with pytest.raises(InvalidArgumentError, match="expected two evolutions or more"):
        cross_units(subject(), evolved[0], save=tmp_path / "run")
    other = FunctionSubject(lambda x: x.mean((1, 2, 3))[:, None], units=1, name="other")
    other.resolution = 16
    with pytest.raises(InvalidArgumentError, match=r"subject: expected one that records 'gabor.0'"):
        cross_units(other, evolved, save=tmp_path / "run")
    both = evolve(subject(False), GENERATOR, CMAES(GENERATOR.space, seed=0), objective="unit(0) + unit(1)", images=20,
                  references=None)  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="expected evolutions that excite a single unit each"):
        cross_units(subject(), [evolved[0], both], save=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_commands(tmp_path, folders, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    words = ["--subject", SUBJECT, "--noise", "poisson:20:best=1"]
    main(["selectivity", *words, "--images", "photos", "--out", "categories"])
    main(["selectivity", "--config", "categories/experiment.yaml", "--out", "categories-again"])
    assert open_recording("categories-again").load().equals(open_recording("categories").load())
    said = capsys.readouterr().out
    fourier = "{name: fourier, resolution: 16, cutoff: 3}"
    for i in range(2):
        main(["evolve", "--subject", SUBJECT, "--objective", f"unit({i})", "--images", "40", "--optimizer", "nes",
              "--generator", fourier, "--references", "none", "--out", f"e{i}"])  # fmt: skip
    capsys.readouterr()
    main(["invariance", "e0", "--steps", "2", "--out", "moved"])
    main(["invariance", "--config", "moved/experiment.yaml", "--out", "moved-again"])
    assert open_recording("moved-again").load().equals(open_recording("moved").load())
    main(["cross-units", "e0", "e1", "--repeats", "3", "--out", "cross"])
    said += capsys.readouterr().out
    assert "Selectivity for categories" in said
    assert "Range over which the response stays above half" in said
    assert "Images that were evolved for each unit" in said
    assert not re.search(r"± 0*\.?0*\d(?![\d.])", said), said  # an error of one digit
    assert max(map(len, said.splitlines())) <= 80, [line for line in said.splitlines() if len(line) > 80]
    for run, question in (
        ("categories", "Which categories drive"),
        ("moved", "How far an image can be changed"),
        ("cross", "What the images of 2 units"),
    ):
        main(["report", run, "--out", f"{run}.html"])
        report = (tmp_path / f"{run}.html").read_text()
        assert question in report
        assert not re.search(r">\d+: *<", report)  # presentations: of nothing in particular
    assert "has been re-tested" not in (tmp_path / "cross.html").read_text()  # it is no evolution
    main(["resume", "cross"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda **o: selectivity(subject(), {"a": pictures(3)}, **o), "expected two categories or more"),
        (lambda **o: selectivity(subject(), "nowhere", **o), "labelled: expected a folder"),
        (lambda **o: invariance(subject(), pictures(2), **o), "image: expected one still picture"),
        (lambda **o: invariance(subject(), pictures(1), octaves=4.0, **o), "octaves: expected the smallest image"),
        (lambda **o: invariance(subject(), pictures(1), thread="a", **o), "thread: expected none beside an image"),
        (lambda **o: invariance(subject(), pictures(1), x=9.0, **o), "x, y: expected a place within the image"),
    ],
)
def test_wrong_arguments(tmp_path, call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        call(save=tmp_path / "run")
    assert not (tmp_path / "run").exists()
