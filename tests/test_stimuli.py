"""Grey and moving stimuli all the way: evolved, recorded, resumed, rendered, exported, shown."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from closedloop import ImageSet, open_recording, render, summarize
from closedloop.errors import InvalidArgumentError, SubjectError
from closedloop.figures.page import plot_evolution
from closedloop.figures.tiles import film_strip
from closedloop.formats import export
from closedloop.generators import Fourier, FourierMovie, Pixels
from closedloop.gradients.path import GradientPath
from closedloop.images.forms import shown_as
from closedloop.interfaces import Form, form_of
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.optimizers import RandomSearch, SphereCMA, load_optimizer
from closedloop.protocols import compare, evolve, present, resume
from closedloop.recipes import matched_generator
from closedloop.recording.pictures import Pictures
from closedloop.report import write_report
from closedloop.subjects import FunctionSubject, GaborSubject, MotionEnergySubject

SIZE = 16
REFERENCES = np.random.default_rng(5).random((6, 3, SIZE, SIZE), dtype=np.float32)


class Rig:
    """A subject that fails after some blocks, as a rig does."""

    def __init__(self, subject, blocks):
        self.subject, self.left = subject, blocks
        self.name, self.units = subject.name, subject.units
        form = form_of(subject)
        self.channels, self.frames, self.rate_hz = form.channels, form.frames, form.rate_hz
        self.resolution, self.recipe = subject.resolution, subject.recipe

    def record(self, images):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the rig is off")
        return self.subject.record(images)


def grey_cell():
    return GaborSubject(orientation_deg=60, cycles_per_image=2.0, resolution=SIZE, channels=1)


def motion_cell():
    return MotionEnergySubject(orientation_deg=90, cycles_per_image=2.0, resolution=SIZE)


CELLS = pytest.mark.parametrize("cell", [grey_cell, motion_cell])


def generator_for(subject):
    name = "fourier" if form_of(subject).frames is None else "fourier-movie"
    return matched_generator({"name": name, "cutoff": 3.0}, subject)


def run(subject, save=None, images=120, seed=0):
    generator = generator_for(subject)
    return evolve(
        subject,
        generator,
        SphereCMA(generator.space, seed=seed),
        references=REFERENCES,
        images=images,
        retest_repeats=2,
        save=save,
        seed=seed,
    )


@pytest.fixture(scope="module", params=[grey_cell, motion_cell])
def kept(request, tmp_path_factory):
    """A subject and its finished run."""
    subject, path = request.param(), tmp_path_factory.mktemp("runs") / "run"
    run(subject, path)
    return subject, path


@CELLS
def test_evolution_finds_what_random_search_does_not(cell):
    """Seed 0, 800 images: at least half of the best response within the contrast norm, twice the best of 800 draws."""
    subject = cell()
    generator = generator_for(subject)
    found = evolve(subject, generator, SphereCMA(generator.space, seed=0), references=None, images=800, seed=0)
    evolved = summarize(found)[0].evolved.mean
    chance = float(subject.record(generator(generator.space.sample(800, np.random.default_rng(1)))).max())
    assert evolved > 1.5 * chance
    assert evolved > 0.75 * subject.best_response()
    best = render(found, summarize(found)[0].evolved.stimulus_id)
    if form_of(subject).frames is not None:
        assert subject.record(best)[0, 0] > 4 * subject.record(best[:, ::-1])[0, 0]  # it moves the right way


def test_what_is_recorded(kept):
    subject, path = kept
    found, form = open_recording(path), form_of(subject)
    assert {n: found[n].item() for n in ("channels", "frames", "rate_hz") if n in found.coords} == {
        "channels": 1,
        **({} if form.frames is None else {"frames": 8, "rate_hz": 20.0}),
    }
    for name in ("clipped", "tv", "natural_distance"):
        assert np.isfinite(found[name]).all()
    steps = np.diff(found["onset_s"])
    np.testing.assert_allclose(steps, max(0.2, form.duration_s))


def test_images_are_rendered_as_they_were_shown(kept):
    subject, path = kept
    found = open_recording(path)
    images = render(found)
    assert images.shape == (found.sizes["presentation"], *form_of(subject).leading, SIZE, SIZE)
    np.testing.assert_allclose(subject.record(images), found["responses"], rtol=1e-5, atol=1e-8)


def test_files_of_the_run_hold_what_was_shown(kept):
    subject, path = kept
    found = open_recording(path)
    form = form_of(subject)
    files = sorted((path / "images").iterdir())
    assert {f.suffix for f in files} == {".png" if form.frames is None else ".webp"}
    pictures = Pictures(found)
    shown = np.rint(render(found, files[0].stem)[0] * 255).astype(np.uint8)
    np.testing.assert_array_equal(pictures(files[0].stem), np.moveaxis(np.repeat(shown, 3, -3), -3, -1))
    assert pictures.rate_hz == form.rate_hz


@CELLS
def test_killed_and_resumed_bit_for_bit(cell, tmp_path):
    whole = run(cell())
    with pytest.raises(SubjectError, match="the rig is off"):
        run(Rig(cell(), 3), tmp_path / "run")
    again = resume(tmp_path / "run")
    xr.testing.assert_identical(again.load().drop_attrs(deep=False), whole.load().drop_attrs(deep=False))


@pytest.mark.parametrize("to", ["netcdf", "nwb", "csv", "png", "gif", "brainio"])
def test_exports(kept, to, tmp_path):
    subject, path = kept
    found, moving = open_recording(path), form_of(subject).frames is not None
    out = tmp_path / {"netcdf": "a.nc", "nwb": "a.nwb", "csv": "a.csv", "gif": "a.gif"}.get(to, "folder")
    if to == "brainio" and moving:
        with pytest.raises(InvalidArgumentError, match=r"expected stills, .* export it as nwb"):
            export(found, to, out)
        assert not out.exists()
        return
    export(found, to, out)
    if to in ("netcdf", "nwb"):
        again = open_recording(out)
        xr.testing.assert_identical(again.load().drop_attrs(deep=False), found.load().drop_attrs(deep=False))
    if to == "png":
        assert {f.suffix for f in out.iterdir()} == {".webp" if moving else ".png"}


def test_nwb_holds_grey_images_and_movies(kept, tmp_path):
    import pynwb
    from nwbinspector import Importance, inspect_nwbfile

    subject, path = kept
    found, moving = open_recording(path), form_of(subject).frames is not None
    export(found, "nwb", tmp_path / "a.nwb")
    with pynwb.NWBHDF5IO(str(tmp_path / "a.nwb"), "r") as io_:
        file = io_.read()
        coded = np.flatnonzero(found["thread"].values != "reference")
        series = file.stimulus["evolved_movies" if moving else "evolved_images"]
        images = np.rint(render(found, coded) * 255).astype(np.uint8)
        np.testing.assert_array_equal(series.data[:], images.reshape(-1, SIZE, SIZE))
        if moving:  # with references between them the movies have pauses, so every frame has its own time
            np.testing.assert_allclose(np.diff(series.timestamps[:8]), 1 / 20)
        template = file.stimulus_template["reference_images"]
        assert {image.data.ndim for image in template.images.values()} == {2}
    worst = Importance.BEST_PRACTICE_VIOLATION
    assert [m.message for m in inspect_nwbfile(nwbfile_path=tmp_path / "a.nwb") if m.importance >= worst] == []


def test_figures_and_report_show_them(kept, tmp_path):
    subject, path = kept
    plot_evolution(path, "main").savefig(tmp_path / "page.png")
    write_report([path], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    moving = form_of(subject).frames is not None
    assert form_of(subject).describe() in page
    movies = re.findall(r'src="data:image/webp;base64,([^"]*)"', page)
    assert bool(movies) is moving
    for movie in movies:
        with Image.open(io.BytesIO(base64.b64decode(movie))) as opened:
            assert (opened.n_frames, opened.info["loop"]) == (8, 0)


def test_a_film_strip_reads_like_words():
    movie = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None, None], (8, 4, 4, 3))
    strip = film_strip(movie, 2, 2)
    assert strip.shape == (9, 9, 3)
    assert [strip[y, x, 0] for y, x in ((0, 0), (0, 5), (5, 0), (5, 5))] == [0, 2, 5, 7]
    assert film_strip(movie[:1], 2).shape == (4, 9, 3)


def test_the_rule_at_the_door():
    """Colours become luminance, grey is repeated, stills are held; movies are never cut."""
    seen = []

    def spy(images):
        seen.append(images)
        return images.mean(tuple(range(1, images.ndim)))

    def shown(generator, **form):
        evolve(
            FunctionSubject(spy, **form),
            generator,
            RandomSearch(generator.space, seed=0),
            references=REFERENCES,
            images=40,
            retest_candidates=0,
        )
        return seen[-1].shape[1:]

    assert shown(Pixels(SIZE), channels=1) == (1, SIZE, SIZE)
    assert shown(Pixels(SIZE, channels=1)) == (3, SIZE, SIZE)
    assert shown(Pixels(SIZE, channels=1), frames=3, rate_hz=10) == (3, 3, SIZE, SIZE)
    movies = FourierMovie(SIZE, frames=4, cutoff=2)
    for form, message in (
        ({}, "thread 'main': expected stimuli for a subject of colour stills, got colour movies of 4 frames at 20 Hz"),
        ({"frames": 5, "rate_hz": 20}, "make them with frames=5 and rate_hz=20"),
        ({"frames": 4, "rate_hz": 25}, "make them with frames=4 and rate_hz=25"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            shown(movies, **form)


def test_threads_of_different_forms_share_a_session(tmp_path):
    subject = motion_cell()
    made = {"moving": FourierMovie(SIZE, channels=1, cutoff=2), "still": Fourier(SIZE, cutoff=2)}
    threads = [Thread(g, RandomSearch(g.space, seed=0), name=name) for name, g in made.items()]
    found = Session(subject, threads, references=REFERENCES, images=40, retest_repeats=1, save=tmp_path / "run").run()
    np.testing.assert_allclose(subject.record(render(found)), found["responses"], rtol=1e-5, atol=1e-8)


def test_movies_are_presented(tmp_path):
    subject = motion_cell()
    movies = np.stack([subject.best_image(), subject.best_image()[::-1]])
    names = ImageSet(("forwards", "backwards"), np.rint(movies * 255).astype(np.float32) / np.float32(255), 20.0)
    parameters = {"motion_deg": [0.0, 180.0], "kind_of_motion": ["preferred", "null"]}
    found = present(subject, names, repeats=2, parameters=parameters, save=tmp_path / "run")
    by_name = found["responses"][:, 0].groupby("kind_of_motion").mean()
    assert by_name.sel(kind_of_motion="preferred") > 20 * by_name.sel(kind_of_motion="null")
    np.testing.assert_array_equal(render(found, "forwards")[0], names.images[0])
    export(found, "nwb", tmp_path / "a.nwb")
    export(found, "csv", tmp_path / "a.csv")
    assert "motion_deg" in (tmp_path / "a.csv").read_text().split("\n")[0]
    np.testing.assert_array_equal(open_recording(tmp_path / "a.nwb")["motion_deg"], found["motion_deg"])
    with pytest.raises(InvalidArgumentError, match="make them with frames=8 and rate_hz=20"):
        present(subject, ImageSet(names.ids, names.images, 30.0))


def test_stills_are_not_copied():
    images = np.zeros((2, 3, 4, 4), np.float32)
    assert shown_as(images, Form()) is images


@CELLS
def test_gradients_take_the_same_way(cell):
    """A colour generator of stills for a grey subject, and one of movies for one of motion, against differences."""
    subject = cell()
    made = Fourier(SIZE, cutoff=3) if form_of(subject).frames is None else FourierMovie(SIZE, cutoff=2)
    optimizer = load_optimizer("adam", made.space, seed=0)
    path, code = GradientPath(subject, [Thread(made, optimizer)]), made.space.sample(1, np.random.default_rng(0))
    (slope,) = path.slopes([Thread(made, optimizer)], [code], [0])
    step = 1e-2 * np.random.default_rng(1).standard_normal(code.shape)
    ahead, behind = (subject.record(shown_as(made(code + sign * step), form_of(subject))) for sign in (1, -1))
    assert float((ahead - behind)[0, 0]) == pytest.approx(2 * float(slope.gradients[0] @ step[0]), rel=0.02)


def test_a_comparison_is_of_colour_stills():
    with pytest.raises(InvalidArgumentError, match=r"expected one of colour stills, .* got one of grey movies"):
        compare(motion_cell(), [0], naturals=REFERENCES)
