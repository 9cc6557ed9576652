"""Images made again from a recording are those that were shown."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import closedloop
from closedloop import ImageSet, IsotropicES, Session, Thread, Units, open_recording, render
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.generators import Fourier, Pixels
from closedloop.images.eight_bit import quantize, write_png
from closedloop.interfaces import Fingerprinted
from closedloop.protocols import evolve, present
from closedloop.recipes import fingerprint
from closedloop.recording.evolutions import with_evolutions
from closedloop.recording.render import positions


class Watcher:
    """A subject that keeps every image it is shown."""

    name = "watcher"
    units = Units.numbered("watcher", 1)

    def __init__(self):
        self.seen = []

    def record(self, images):
        self.seen.append(images.copy())
        return images.mean((1, 2, 3))[:, None]

    @property
    def shown(self):
        return np.concatenate(self.seen)


def photographs(n=3, side=16):
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (n, 3, side, side)).astype(np.float32) / np.float32(255)


def run(folder, seed=1, references="photographs", generator=None, subject=None):
    """A small evolution of two threads, of different resolution and code length."""
    fourier, pixels = generator or Fourier(resolution=16, cutoff=2), Pixels(resolution=4)
    threads = [
        Thread(fourier, IsotropicES(fourier.space, seed=seed, population=4), name="fourier"),
        Thread(pixels, IsotropicES(pixels.space, seed=seed, population=4), name="pixels"),
    ]
    references = photographs() if isinstance(references, str) else references
    subject = subject or Watcher()
    session = Session(subject, threads, references=references, images=12, retest_repeats=2, save=folder, seed=seed)
    return session.run(), subject


class Weighted:
    """A generator with weights: a random linear map, squashed."""

    name = "weighted"
    resolution = 8
    space = closedloop.Space(5)

    def __init__(self, seed=0):
        self.weights = np.random.default_rng(seed).standard_normal((5, 3 * 64))

    @property
    def fingerprint(self):
        import hashlib

        return hashlib.sha256(self.weights.tobytes()).hexdigest()

    def __call__(self, codes):
        return (1 / (1 + np.exp(-codes @ self.weights))).reshape(-1, 3, 8, 8).astype(np.float32)


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_every_image_of_a_run_is_made_again(tmp_path, place):
    folder = tmp_path / "run" if place == "disk" else None
    recording, subject = run(folder)
    references = None if folder else ImageSet(("image-00000", "image-00001", "image-00002"), photographs())
    images = render(recording, references=references)
    assert images.dtype == np.float32
    assert set(recording["kind"].values) == {"evolved", "reference", "retest"}
    np.testing.assert_allclose(images, subject.shown, atol=1e-5)
    natural = (recording["thread"] == "reference").values
    np.testing.assert_array_equal(images[natural], subject.shown[natural])


def test_ways_to_ask(tmp_path):
    recording, subject = run(tmp_path / "run")
    n, shown = recording.sizes["presentation"], subject.shown
    for which, rows in (
        (3, [3]), (-1, [n - 1]), (slice(2, 5), [2, 3, 4]), ([5, 4, 5], [5, 4, 5]), (np.arange(n) == 6, [6]), ([], []),
    ):  # fmt: skip
        assert positions(recording, which).tolist() == rows
        found = render(recording, which)
        assert len(found) == len(rows)
        if rows:
            np.testing.assert_allclose(found, shown[rows], atol=1e-5)
    name = str(recording["stimulus_id"].values[-1])
    row = recording["stimulus_id"].values.tolist().index(name)
    np.testing.assert_allclose(render(recording, name), shown[[row]], atol=1e-5)
    np.testing.assert_allclose(render(recording, [name, name])[1], shown[row], atol=1e-5)
    part = recording.isel(presentation=slice(7, 9))
    np.testing.assert_allclose(render(part), shown[7:9], atol=1e-5)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (10_000, r"expected numbers of 0 to \d+, got 10000"), ("fourier-g0001-00", "Did you mean 'fourier-g0001"),
        ([True], r"expected a mask of shape \(\d+,\), got \(1,\)"), (1.5, "expected numbers, names or a mask"),
        ([[1]], "expected numbers, names or a mask"),
    ],
)  # fmt: skip
def test_what_is_not_there(which, message):
    recording, _ = run(None)
    with pytest.raises(InvalidArgumentError, match=message):
        render(recording, which)


def test_joined_runs_use_each_its_own_generator(tmp_path):
    one, first = run(tmp_path / "a")
    other, second = run(tmp_path / "b", seed=2, generator=Fourier(resolution=16, cutoff=2, contrast=0.3))
    both = xr.concat([one, other], "presentation", data_vars="minimal", coords="different", compat="equals")
    evolved = (both["thread"] != "reference").values
    shown = np.concatenate([first.shown, second.shown])
    np.testing.assert_allclose(render(both, evolved), shown[evolved], atol=1e-5)
    with pytest.raises(RecordingError, match=r"no reference image 'image-0000\d': this recording does not say where"):
        render(both, ~evolved)
    np.testing.assert_array_equal(render(both, ~evolved, references=tmp_path / "a"), shown[~evolved])


def test_a_generator_without_a_name_is_handed_over(tmp_path):
    generator = Weighted()
    recording = evolve(
        Watcher(), generator, IsotropicES(generator.space, 0), images=20, references=None, save=tmp_path / "r"
    )
    assert isinstance(generator, Fingerprinted)
    assert recording["generator_sha256"].item() == generator.fingerprint
    with pytest.raises(InvalidArgumentError, match=r"thread 'main' .*Weighted weighted.* has no name .* generators="):
        render(recording, 0)
    code = recording["latent_code"].values[:1]
    np.testing.assert_array_equal(render(recording, 0, generators={"main": generator}), quantize(generator(code)))


def test_other_weights_are_told(tmp_path):
    generator = Weighted()
    recording = evolve(Watcher(), generator, IsotropicES(generator.space, 0), images=20, references=None)
    with pytest.warns(UserWarning, match=r"generator 'weighted': its weights or options .* are not those that made"):
        render(recording, 0, generators={"main": Weighted(seed=1)})


def test_fingerprint_of_a_recipe():
    assert fingerprint(Fourier(16, 2)) == fingerprint(Fourier(16, 2)) != fingerprint(Fourier(16, 3))
    assert len(fingerprint(Pixels(4))) == 64
    assert fingerprint(object.__new__(type("Plain", (), {"name": "plain"}))) == ""


def test_a_run_of_the_first_schema_says_its_generators_in_its_file(tmp_path):
    recording, subject = run(tmp_path / "run")
    old = recording.drop_dims("evolution").assign_coords(threads="fourier; pixels")
    np.testing.assert_allclose(render(with_evolutions(old)), subject.shown, atol=1e-5)
    silent = with_evolutions(old.assign_attrs(experiment=""))
    with pytest.raises(RecordingError, match="does not say which generator"):
        render(silent, old["stimulus_id"].values[(old["kind"] == "evolved").values][0])


def test_images_that_were_presented(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, image in zip(("a", "b", "c"), photographs(), strict=True):
        write_png(folder / f"{name}.png", image)
    subject = Watcher()
    present(subject, folder, resolution=12, save=tmp_path / "run")
    np.testing.assert_array_equal(render(open_recording(tmp_path / "run")), subject.shown)
    (folder / "b.png").unlink()
    with pytest.raises(RecordingError, match=r"no reference image 'b': it is not where .* references=RUN"):
        render(open_recording(tmp_path / "run"))
    assert len(render(open_recording(tmp_path / "run"), "a")) == 1


def test_images_of_different_size_do_not_go_together(tmp_path):
    small, _ = run(None, references=None)
    large, _ = run(None, references=None, generator=Fourier(resolution=24, cutoff=2), seed=2)
    both = xr.concat([small, large], "presentation", data_vars="minimal", coords="different", compat="equals")
    with pytest.raises(InvalidArgumentError, match=r"images of one size, got \[\(3, 16, 16\), \(3, 24, 24\)\]"):
        render(both)


def test_the_recipe_is_json():
    recording, _ = run(None)
    assert [json.loads(text)["name"] for text in recording["generator_recipe"].values] == ["fourier", "pixels"]
