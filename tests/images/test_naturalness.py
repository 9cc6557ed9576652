"""Naturalness: numbers of noise whose spectrum is known, distances by hand, and what a run records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from closedloop import RandomSearch, Session, Space, Thread, Units, open_recording, render
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier, Pixels
from closedloop.images.naturalness import (
    CODE_MEASURES,
    IMAGE_MEASURES,
    MEASURES,
    ONE_SIDED,
    Band,
    Looked,
    band,
    clipped,
    code_measures,
    coords_of,
    inside,
    measure,
    presentation_coords,
)
from closedloop.images.nearest import Bank, nearest, thumbnails
from closedloop.images.sets import natural_references
from closedloop.recording.writer import Recording

ALL_MEASURES = (*MEASURES, *CODE_MEASURES)


def grey(planes):
    """Planes of any values as grey images of small contrast."""
    planes = planes - planes.mean((1, 2), keepdims=True)
    values = 0.5 + 0.08 * planes / planes.std((1, 2), keepdims=True)
    return np.repeat(values[:, None], 3, 1).clip(0, 1).astype(np.float32)


def noise(fall, n=40, side=64, seed=0):
    """Images of noise whose amplitude falls as frequency to the power of -fall."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    white = np.random.default_rng(seed).standard_normal((n, side, side))
    return grey(np.fft.irfft2(np.fft.rfft2(white) * frequency**-fall, (side, side)))


def grating(period, side=64):
    """One image of a vertical grating with a period in pixels."""
    wave = np.sin(2 * np.pi * (np.arange(side) + 0.25) / period)
    return grey(np.broadcast_to(wave, (1, side, side)))


@pytest.fixture(scope="module")
def photographs():
    return natural_references(64).images


# Images alone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 128, 224])
@pytest.mark.parametrize(("fall", "slope", "variation"), [(0, 0, 2.24), (1, -2, 1.12), (1.5, -3.1, 0.48)])
def test_noise_of_a_known_spectrum_has_its_slope_and_variation_at_any_size(side, fall, slope, variation):
    found = measure(noise(fall, side=side))
    assert found["spectral_slope"].mean() == pytest.approx(slope, abs=0.15)
    assert found["tv"].mean() == pytest.approx(variation, rel=0.07)


def test_total_variation_of_white_noise_is_that_of_differences_of_gaussians():
    assert measure(noise(0))["tv"].mean() == pytest.approx(4 / np.sqrt(np.pi), rel=0.01)


@given(st.floats(0.2, 1), st.floats(0, 0.2))
def test_contrast_and_brightness_change_nothing_but_what_is_clipped(contrast, brightness):
    images = noise(1, n=2)
    changed = measure(images * np.float32(contrast) + np.float32(brightness))
    for name, values in measure(images).items():
        np.testing.assert_allclose(changed[name], values, rtol=1e-3, atol=1e-4)


def test_only_luminance_counts():
    images = noise(0, n=3)
    found = measure(images * np.float32([0.5, 0.9, 0.2])[:, None, None])
    np.testing.assert_allclose(found["tv"], measure(images)["tv"], rtol=1e-3)


@pytest.mark.parametrize(("value", "expected"), [(0, 1), (5, 1), (6, 0), (128, 0), (249, 0), (250, 1), (255, 1)])
def test_values_within_five_steps_of_black_or_white_are_clipped(value, expected):
    images = np.full((1, 3, 2, 2), 128 / 255, np.float32)
    images[0, 1] = value / 255
    assert clipped(images) == pytest.approx(expected / 3)


def test_fine_detail_is_what_is_lost_at_32_pixels():
    fine, coarse = (measure(grating(period))["high_frequency"][0] for period in (2, 32))
    assert fine == pytest.approx(1, abs=0.01)
    assert coarse == pytest.approx(1 - np.cos(np.pi / 32) ** 2, abs=2e-3)  # pairs of neighbours are averaged


def test_fine_detail_counts_pixels_that_the_small_copy_has_lost():
    pattern = grating(2, 256) - np.float32(0.5) + grating(128, 256)
    assert measure(pattern)["high_frequency"][0] == pytest.approx(0.5, abs=0.01)
    assert measure(pattern)["tv"][0] < 0.3


def test_images_without_contrast_have_no_number_but_their_clipped_share():
    rounding = 1e-4 * np.random.default_rng(0).random((3, 32, 32))
    found = measure(np.stack([np.full((3, 32, 32), 0.5), np.ones((3, 32, 32)), 0.5 + rounding]))
    np.testing.assert_array_equal(found["clipped"], [0, 1, 0])
    assert all(np.isnan(found[name]).all() for name in IMAGE_MEASURES if name != "clipped")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (16, 40), (65, 65), (67, 131)])
def test_every_size_is_measured(shape):
    images = np.random.default_rng(0).random((3, 3, *shape), dtype=np.float32)
    found = measure(images)
    assert all(values.shape == (3,) for values in found.values())
    assert np.isfinite(found["tv"]).all() == (min(shape) > 1)
    assert np.isfinite(found["spectral_slope"]).all() == (min(shape) >= 16)


def test_an_image_is_measured_alike_whatever_its_neighbours(photographs):
    whole, alone = measure(photographs[:20]), measure(photographs[13:14])
    for name in IMAGE_MEASURES:
        np.testing.assert_allclose(whole[name][13], alone[name][0], rtol=1e-6)


def test_no_images_and_other_things():
    assert all(values.shape == (0,) for values in measure(np.empty((0, 3, 8, 8))).values())
    with pytest.raises(InvalidArgumentError, match=r"images: expected RGB in \[0, 1\], got values in .* divide by 255"):
        measure(np.full((1, 3, 8, 8), 100.0))


# The nearest natural image ------------------------------------------------------------------------------------------


def test_nearest_in_features_by_hand():
    natural = np.array([[0.0, 0, 5], [2, 0, 5], [0, 200, 5], [2, 200, 5]])  # standard deviations 1, 100 and none
    found = nearest(np.array([[0, 0, 9], [3, 100, 5], [np.nan, 0, 5]]), natural)
    np.testing.assert_allclose(found.distance, [0, np.sqrt(2), np.nan])
    np.testing.assert_array_equal(found.index, [0, 1, -1])
    np.testing.assert_allclose(found.ratio, found.distance / 2)


@given(arrays(float, (12, 4), elements=st.integers(-50, 50)), st.floats(0.01, 100), st.floats(-10, 10))
def test_units_of_the_features_do_not_count(values, scale, shift):
    natural = values[4:] + np.arange(8)[:, None]
    first, second = nearest(values[:4], natural), nearest(values[:4] * scale + shift, natural * scale + shift)
    np.testing.assert_allclose(second.distance, first.distance, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "natural", "words"),
    [
        (np.zeros((2, 3)), np.zeros((1, 3)), r"natural_features: expected shape \(m, features\) with m ≥ 2"),
        (np.zeros((2, 3)), np.full((4, 3), np.nan), "with NaN or infinity; leave lost presentations out"),
        (np.zeros((2, 2)), np.eye(3), r"features: expected shape \(n, 3\).* got \(2, 2\)"),
        (np.zeros((2, 3)), np.ones((4, 3)), "expected features that differ between natural images, got none"),
    ],
)
def test_features_that_do_not_fit(features, natural, words):
    with pytest.raises(InvalidArgumentError, match=words):
        nearest(features, natural)


def test_a_natural_image_is_nearest_to_itself_in_any_contrast(photographs):
    bank = Bank.of(photographs)
    found = bank.nearest(0.3 + 0.5 * photographs[5:8])
    np.testing.assert_array_equal(found.index, [5, 6, 7])
    np.testing.assert_allclose(found.distance, 0, atol=2e-3)


def test_distance_is_that_of_correlated_thumbnails():
    black, white, other = grating(64), 1 - grating(64), grating(32)
    found = Bank.of(np.concatenate([white, other])).nearest(black)
    assert found.index == [1]
    assert found.distance == pytest.approx(np.sqrt(2), abs=1e-3)  # uncorrelated; its opposite is 2 away
    assert found.ratio == pytest.approx(1, abs=1e-3)


def test_references_are_held_beside_the_others_and_not_themselves(photographs):
    found = Bank.of(photographs).find(thumbnails(photographs), np.arange(len(photographs)))
    assert (found.index != np.arange(len(photographs))).all()
    assert np.median(found.ratio) == pytest.approx(1)


def test_a_bank_of_few_or_flat_images_gives_no_distance():
    flat = np.full((2, 3, 16, 16), 0.5, np.float32)
    for images in (flat, grating(8, 16), np.empty((0, 3, 16, 16), np.float32)):
        assert np.isnan(Bank.of(images).nearest(grating(4, 16)).ratio).all()
    assert np.isfinite(Bank.of(np.concatenate([flat, grating(8, 16), grating(4, 16)])).nearest(grating(2, 16)).ratio)


def test_images_smaller_than_the_thumbnails_need_a_bank_of_their_size(photographs):
    with pytest.raises(InvalidArgumentError, match=r"images: expected thumbnails of 32 pixels, .* resize them"):
        Bank.of(photographs).nearest(grating(4, 16))


# Codes and bands ----------------------------------------------------------------------------------------------------


def test_codes_beside_their_prior():
    draws = Space(500, scale=3.0).sample(50, np.random.default_rng(0))
    assert np.mean([code_measures(c, Space(500, scale=3.0))["code_norm"] for c in draws]) == pytest.approx(1, abs=0.02)
    found = code_measures(np.array([0, 1, 0.5, 1.0]), Space(4, 0, 1, 0.29))
    assert found["code_at_bound"] == 0.75
    assert np.isnan(found["code_norm"])
    assert np.isnan(list(code_measures(None, None).values())).all()


def test_a_band_holds_95_percent():
    values = np.append(np.arange(1000.0), np.nan)
    two, one = Band.of("tv", values), Band.of("clipped", values)
    assert (two.holds(values[:-1]) == 1).mean() == 0.95
    assert (two.n, two.least, two.median, two.most) == (1000, 0, 499.5, 999)
    assert (one.holds(values[:-1]) == 1).mean() == 0.95
    assert one.holds(0) == 1
    assert one.low == 0
    assert np.isnan(two.holds(np.nan))
    assert np.isnan(Band.of("tv", np.array([1.0])).holds(1.0))


def test_photographs_lie_in_their_band_and_noise_outside(photographs):
    bands = band(photographs)
    assert list(bands) == list(MEASURES)
    within = inside(measure(photographs), bands)
    assert all(0.93 <= values.mean() <= 0.96 for values in within.values())
    white = inside(measure(noise(0)), bands)
    assert white["tv"].max() == white["high_frequency"].max() == 0
    assert white["spectral_slope"].mean() < 0.05
    distance = Bank.of(photographs).nearest(noise(0)).ratio
    assert bands["natural_distance"].holds(distance).mean() < 0.05
    assert all(bands[name].low == 0 for name in ONE_SIDED)


# What a run records -------------------------------------------------------------------------------------------------


class Bright:
    """A unit that likes light."""

    name, units = "bright", Units.numbered("bright", 1)

    def record(self, images):
        return images.mean((1, 2, 3))[:, None].astype(float)


def session(save=None, references=None, **settings):
    fourier, pixels = Fourier(32, 4), Pixels(16)
    threads = [
        Thread(fourier, RandomSearch(fourier.space, 0, population=6), name="fourier"),
        Thread(pixels, RandomSearch(pixels.space, 0, population=6), name="pixels"),
    ]
    return Session(
        Bright(), threads, references=references, save=save, images=12, interleave=2, retest_candidates=2,
        retest_repeats=2, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("naturalness") / "run"
    session(folder, natural_references(32).images[:30]).run()
    return folder


def test_every_presentation_has_the_numbers_of_its_image(run):
    ds = open_recording(run)
    images = render(ds)
    for name, values in measure(images).items():
        np.testing.assert_allclose(ds[name].values, values, rtol=1e-4, atol=1e-6)
    natural = ds["thread"].values == "reference"
    bank = Bank.of(natural_references(32).images[:30])
    ratio = bank.nearest(images[~natural]).ratio
    np.testing.assert_allclose(ds["natural_distance"].values[~natural], ratio, rtol=1e-4)
    assert np.median(ds["natural_distance"].values[ds["generation"].values == -1]) == pytest.approx(1, rel=1e-6)


def test_codes_are_measured_in_their_own_space(run):
    ds = open_recording(run)
    thread = ds["thread"].values
    codes = ds["latent_code"].values[thread == "fourier"][:, : Fourier(32, 4).space.dim]
    expected = np.linalg.norm(codes, axis=1) / np.sqrt(codes.shape[1])
    np.testing.assert_allclose(ds["code_norm"].values[thread == "fourier"], expected)
    assert (ds["code_at_bound"].values[thread == "pixels"] == 0).all()
    assert np.isnan(ds["code_norm"].values[thread != "fourier"]).all()
    assert np.isnan(ds["code_at_bound"].values[thread != "pixels"]).all()


def test_a_run_has_only_the_numbers_that_its_codes_can_have():
    assert set(coords_of([Space(3)])) == set(ALL_MEASURES) - {"code_at_bound"}
    assert set(coords_of([Space(3, 0, 1)])) == set(ALL_MEASURES) - {"code_norm"}
    assert tuple(coords_of([Space(3, 0, 1), Space(3)])) == ALL_MEASURES


def test_without_references_there_is_no_distance():
    ds = session().run()
    assert np.isnan(ds["natural_distance"].values).all()
    assert np.isfinite(ds["tv"].values).all()


def test_a_run_that_was_begun_without_the_numbers_opens_and_goes_on_without(tmp_path, monkeypatch):
    class KilledError(BaseException):
        pass

    class Killing:
        def begin(self, session): ...

        def generation(self, generation):
            raise KilledError("killed")

        def end(self, session): ...

    monkeypatch.setattr("closedloop.loop.rows.coords_of", lambda spaces: {})
    old = session(tmp_path / "old", noise(1, n=4, side=32), observers=[Killing()])
    with pytest.raises(KilledError, match="killed"):
        old.run()
    monkeypatch.undo()
    assert not set(ALL_MEASURES) & set(open_recording(tmp_path / "old").coords)
    ds = session(references=noise(1, n=4, side=32)).resume(Recording.reopen(tmp_path / "old"))
    assert ds.attrs["finished"] == 1
    assert not set(ALL_MEASURES) & set(ds.coords)
    whole = session(references=noise(1, n=4, side=32)).run()
    np.testing.assert_array_equal(ds["responses"].values, whole["responses"].values)


def test_all_coordinates_come_in_any_block():
    found = presentation_coords(Looked.at(np.empty((0, 3, 8, 8), np.float32), None), [], [], None, [])
    assert set(found) == set(ALL_MEASURES)
    assert all(values.shape == (0,) for values in found.values())
