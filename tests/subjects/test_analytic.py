"""The model neurons, and the claim that nothing beats their best images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.interfaces import Described, Differentiable, Subject
from closedloop.subjects import analytic
from closedloop.subjects.analytic import AnalyticSubject, EnergySubject, GaborSubject, NormalizationSubject
from closedloop.testing import SubjectContract

Array = NDArray[np.float64]
CLASSES = (GaborSubject, EnergySubject, NormalizationSubject)
#: Off the middle, so that no symmetry makes a wrong optimum right.
ODD = {"orientation_deg": 30.0, "cycles_per_image": 3.5, "y": 12.2, "x": 19.7, "aspect": 0.7}
SUBJECTS: list[AnalyticSubject] = [
    GaborSubject(**ODD, phase_deg=50.0),
    GaborSubject(**ODD, phase_deg=50.0, exponent=2.0, color="red-green"),
    EnergySubject(**ODD),
    EnergySubject(**ODD, root=False, color="blue-yellow"),
    NormalizationSubject(**ODD, phase_deg=50.0),
    NormalizationSubject(**ODD, phase_deg=50.0, color="red-green", pool=5, sigma=0.4, exponent=1.0),
]
any_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: f"{s.name}-{s.color}")
any_class = pytest.mark.parametrize("make", CLASSES)


def noise(n: int, seed: int = 0, resolution: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(size=(n, 3, resolution, resolution)).astype(np.float32)


def of_norm(deviations: Array, norm: float) -> Array:
    """Deviations ``(n, ...)`` at the given contrast norm."""
    flat = deviations.reshape(len(deviations), -1)
    lengths: Array = np.linalg.norm(flat, axis=1, keepdims=True)
    return (norm * flat / lengths).reshape(deviations.shape)


def as_images(deviations: Array) -> NDArray[np.float32]:
    return np.clip(0.5 + deviations, 0, 1).astype(np.float32)


def response_and_gradient(subject: AnalyticSubject, deviation: Array) -> tuple[float, Array]:
    """Of the first unit, at a flat deviation from grey."""
    x = torch.tensor(0.5 + deviation.reshape(1, 3, subject.resolution, subject.resolution), requires_grad=True)
    response = subject.forward(x)[0, 0]
    (gradient,) = torch.autograd.grad(response, x)
    return response.item(), gradient.numpy().ravel()


def filter_of(**options: Any) -> Array:
    """The filter of a Gabor unit, which is its gradient at a large drive."""
    subject = GaborSubject(**options)
    return response_and_gradient(subject, subject.best_image().astype(np.float64).ravel() - 0.5)[1]


def starts(subject: AnalyticSubject, n: int) -> list[Array]:
    """Small random deviations that the first unit answers."""
    draws = np.random.default_rng(1).uniform(-0.1, 0.1, (n, 3 * subject.resolution**2))
    return [d if response_and_gradient(subject, d)[0] > 0 else -d for d in draws]


def climb_in_ball(subject: AnalyticSubject, norm: float, start: Array) -> float:
    """The best response that L-BFGS finds on the sphere; it may leave [0, 1], so it searches a larger set."""

    def loss(v: Array) -> tuple[float, Array]:
        length = np.linalg.norm(v)
        response, gradient = response_and_gradient(subject, norm * v / length)
        return -response, -norm * (gradient - (gradient @ v) * v / length**2) / length

    limits = {"ftol": 1e-13, "gtol": 1e-10, "maxiter": 500}
    return -float(minimize(loss, start, jac=True, method="L-BFGS-B", options=limits).fun)


def climb_in_box(subject: AnalyticSubject, start: Array) -> float:
    """The best response over all images in [0, 1] found by shrinking steps of the gradient's sign, then L-BFGS-B."""
    for step in 0.3 * 0.9 ** np.arange(50):
        start = np.clip(start + step * np.sign(response_and_gradient(subject, start)[1]), -0.5, 0.5)

    def loss(d: Array) -> tuple[float, Array]:
        response, gradient = response_and_gradient(subject, d)
        return -response, -gradient

    box = [(-0.5, 0.5)] * start.size
    limits = {"ftol": 1e-10, "maxiter": 500}
    return -float(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=box, options=limits).fun)


# What they are


@any_class
def test_is_a_described_differentiable_subject(make: type[AnalyticSubject]) -> None:
    subject = make()
    assert isinstance(subject, Subject)
    assert isinstance(subject, Differentiable)
    assert isinstance(subject, Described)


@any_class
@pytest.mark.parametrize("n", [0, 1, 3])
def test_shapes(make: type[AnalyticSubject], n: int) -> None:
    subject = make(orientation_deg=[0, 45, 90, 135], x=10, resolution=24)
    responses = subject.record(noise(n, resolution=24))
    assert responses.shape == (n, 4)
    assert responses.dtype == np.float64
    assert subject.forward(torch.tensor(noise(n, resolution=24))).shape == (n, 4)
    assert subject.best_image(3).shape == (3, 24, 24)
    assert subject.best_image(3).dtype == np.float32


@any_class
def test_units_tell_the_tuning(make: type[AnalyticSubject]) -> None:
    subject = make(orientation_deg=[0, 45], cycles_per_image=4, y=[10, 20.5], bandwidth_octaves=1.5, aspect=0.5)
    coords = subject.units.coords
    assert subject.units.neuroid_id == (f"{make.name}.0", f"{make.name}.1")
    assert coords["layer"] == (make.name,) * 2
    assert coords["orientation_deg"] == (0.0, 45.0)
    assert coords["cycles_per_image"] == (4.0, 4.0)
    assert coords["y"] == (10.0, 20.5)
    assert coords["x"] == (15.5, 15.5)
    assert ("phase_deg" in coords) == (make is not EnergySubject)
    # The spectrum of the envelope is a Gaussian of s.d. 1 / (2 pi sigma); rf_size is 4 sigma along the stripes.
    half_width = np.sqrt(2 * np.log(2)) / (2 * np.pi * 0.5 * coords["rf_size"][0] / 4) * 32 / 4
    assert np.log2((1 + half_width) / (1 - half_width)) == pytest.approx(1.5)


@any_class
def test_recipe_makes_it_again(make: type[AnalyticSubject]) -> None:
    subject = make(count=3, seed=5, color=(1, 2, 0), bandwidth_octaves=1.2)
    recipe = dict(subject.recipe)
    assert recipe.pop("name") == make.name
    again = make(**recipe)
    np.testing.assert_array_equal(again.record(noise(5)), subject.record(noise(5)))
    assert again.recipe == subject.recipe


@any_class
def test_seed_decides_the_draw_and_given_values_stay(make: type[AnalyticSubject]) -> None:
    first, same, other = (make(count=5, seed=seed, y=[9, 10, 11, 12, 13]) for seed in (1, 1, 2))
    assert first.units == same.units
    assert first.units.coords["x"] != other.units.coords["x"]
    assert first.units.coords["y"] == (9.0, 10.0, 11.0, 12.0, 13.0)
    assert len(set(first.units.coords["orientation_deg"])) == 5


# How they respond


@any_subject
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4))
def test_record_equals_forward(subject: AnalyticSubject, seed: int, n: int) -> None:
    images = noise(n, seed)
    exact = subject.forward(torch.tensor(images, dtype=torch.float64))
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(exact.numpy(), subject.record(images), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(subject.forward(torch.tensor(images)).numpy(), subject.record(images), atol=1e-5)


@any_class
def test_response_does_not_depend_on_the_batch(make: type[AnalyticSubject]) -> None:
    subject = make(count=7, seed=0)
    images = noise(33)
    whole = subject.record(images)
    single = np.concatenate([subject.record(image[None]) for image in images])
    np.testing.assert_allclose(single, whole, rtol=1e-12, atol=0)
    np.testing.assert_allclose(subject.record(images[5:18]), whole[5:18], rtol=1e-12, atol=0)


@any_class
def test_units_do_not_depend_on_each_other(make: type[AnalyticSubject]) -> None:
    several = make(orientation_deg=[0, 30, 77], cycles_per_image=[3, 4, 5])
    alone = make(orientation_deg=77, cycles_per_image=5)
    np.testing.assert_allclose(several.record(noise(4))[:, [2]], alone.record(noise(4)), rtol=1e-12)
    assert several.best_response(2) == pytest.approx(alone.best_response(0))


@any_class
@pytest.mark.parametrize("color", ["luminance", "red-green", "blue-yellow", (0.2, 0.7, 0.1)])
def test_silent_to_uniform_light(make: type[AnalyticSubject], color: Any) -> None:
    subject = make(count=4, seed=0, color=color)
    levels = np.broadcast_to(np.array([0, 0.5, 0.9], dtype=np.float32)[:, None, None, None], (3, 3, 32, 32))
    np.testing.assert_allclose(subject.record(levels), 0, atol=1e-12)
    assert (subject.record(levels)[1] == 0).all()


@any_class
def test_orientation_runs_counterclockwise_from_horizontal(make: type[AnalyticSubject]) -> None:
    subject = make(orientation_deg=[0, 90, 45], cycles_per_image=[4, 4, 4 * 2**0.5])
    for unit, peak in enumerate([(4, 0), (0, 4), (4, 4)]):
        spectrum = np.abs(np.fft.rfft2(subject.best_image(unit)[0] - 0.5))[:16]
        assert divmod(int(spectrum.argmax()), spectrum.shape[1]) == peak


@any_class
def test_centre_is_in_pixels(make: type[AnalyticSubject]) -> None:
    image = make(y=11.0, x=20.0, bandwidth_octaves=1.5).best_image()
    power = ((image - 0.5) ** 2).sum(axis=0)
    rows, columns = np.mgrid[:32, :32]
    assert (rows * power).sum() / power.sum() == pytest.approx(11, abs=0.3)
    assert (columns * power).sum() / power.sum() == pytest.approx(20, abs=0.3)


@any_class
def test_color_opponent_unit_ignores_luminance(make: type[AnalyticSubject]) -> None:
    grey, opponent = make(), make(color="red-green")
    assert opponent.record(grey.best_image()[None])[0, 0] == pytest.approx(0, abs=1e-10)
    red, green, blue = opponent.best_image() - 0.5
    np.testing.assert_allclose(red, -green, atol=1e-7)
    np.testing.assert_array_equal(blue, 0)
    assert np.abs(red).max() == pytest.approx(0.5)


@any_class
def test_only_the_ratios_of_color_matter(make: type[AnalyticSubject]) -> None:
    np.testing.assert_allclose(
        make(color=(1 / 3, 1 / 3, 1 / 3)).record(noise(3)), make(color="luminance").record(noise(3)), rtol=1e-10
    )


@settings(max_examples=15)
@given(phase=st.floats(0, 360), orientation=st.floats(0, 180))
def test_phase_counts_for_the_simple_cell_and_not_for_the_complex_cell(phase: float, orientation: float) -> None:
    simple = GaborSubject(orientation_deg=orientation)
    patch = of_norm(filter_of(orientation_deg=orientation, phase_deg=phase)[None], simple.largest_norm() / 2)
    image = as_images(patch.reshape(1, 3, 32, 32))
    assert EnergySubject(orientation_deg=orientation).record(image)[0, 0] == pytest.approx(0.5, rel=1e-6)
    assert simple.record(image)[0, 0] == pytest.approx(max(0, 0.5 * np.cos(np.radians(phase))), abs=1e-6)


def test_energy_grows_with_the_square_of_contrast() -> None:
    images = noise(3)
    root, energy = EnergySubject().record(images), EnergySubject(root=False).record(images)
    np.testing.assert_allclose(root**2, energy, rtol=1e-12)


def test_response_of_normalization_saturates() -> None:
    subject = NormalizationSubject(sigma=0.1)
    patch = GaborSubject().best_image() - 0.5
    contrasts = np.array([0.01, 0.02, 0.5, 1], dtype=np.float32)
    faint, twice, strong, full = subject.record(0.5 + contrasts[:, None, None, None] * patch)
    assert twice[0] / faint[0] == pytest.approx(4, rel=0.02)
    assert 1 < full[0] / strong[0] < 1.2


def test_cross_orientation_suppression() -> None:
    grating = 0.5 * (GaborSubject(orientation_deg=0).best_image() - 0.5)
    mask = 0.5 * (GaborSubject(orientation_deg=90).best_image() - 0.5)
    images = 0.5 + np.stack([grating, grating + mask, mask])
    alone, masked, mask_only = NormalizationSubject(orientation_deg=0, sigma=0.1).record(images)[:, 0]
    assert masked < 0.7 * alone
    assert mask_only < 1e-3 * alone
    linear = GaborSubject(orientation_deg=0).record(images)[:, 0]
    assert linear[1] == pytest.approx(linear[0], rel=0.01)


# Gradients


@pytest.mark.parametrize(
    "subject",
    [
        GaborSubject(resolution=8, count=2),
        GaborSubject(resolution=8, count=2, exponent=1.5),
        EnergySubject(resolution=8, count=2),
        EnergySubject(resolution=8, count=2, root=False),
        NormalizationSubject(resolution=8, count=2, pool=3),
    ],
    ids=lambda s: s.name,
)
def test_gradient(subject: AnalyticSubject) -> None:
    x = torch.tensor(noise(2, seed=3, resolution=8), dtype=torch.float64, requires_grad=True)
    assert (subject.forward(x) > 0).any()
    assert torch.autograd.gradcheck(subject.forward, (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@any_subject
def test_gradient_at_grey_is_finite(subject: AnalyticSubject, dtype: torch.dtype) -> None:
    x = torch.full((1, 3, 32, 32), 0.5, dtype=dtype, requires_grad=True)
    subject.forward(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_linear_simple_cell_has_a_gradient_at_grey() -> None:
    gradient = response_and_gradient(GaborSubject(), np.zeros(3 * 32 * 32))[1]
    np.testing.assert_allclose(gradient, filter_of(), rtol=1e-10, atol=1e-15)


# The known optimum


@any_subject
@pytest.mark.parametrize("norm", ["largest", 1.3, None])
def test_best_image_gives_the_best_response(subject: AnalyticSubject, norm: Any) -> None:
    image = subject.best_image(0, norm)
    assert image.min() >= 0
    assert image.max() <= 1
    assert subject.record(image[None])[0, 0] == pytest.approx(subject.best_response(0, norm), rel=1e-6)
    if norm is not None:
        size = subject.largest_norm() if norm == "largest" else norm
        assert np.linalg.norm(image - 0.5) == pytest.approx(size, rel=1e-6)


@any_subject
def test_largest_norm_touches_the_end_of_the_range(subject: AnalyticSubject) -> None:
    assert np.abs(subject.best_image() - 0.5).max() == pytest.approx(0.5, abs=1e-7)
    norms = subject.largest_norm() * np.linspace(0.1, 1, 10)
    peaks = [np.abs(subject.best_image(0, norm) - 0.5).max() for norm in norms]
    assert (np.diff(peaks) > 0).all()


@any_subject
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_no_random_image_beats_it(subject: AnalyticSubject, share: float) -> None:
    norm = share * subject.largest_norm()
    rng = np.random.default_rng(0)
    best = subject.best_image(0, norm)[None] - 0.5
    far = of_norm(rng.standard_normal((500, 3, 32, 32)), norm)
    near = of_norm(best + rng.uniform(0, 0.2, (500, 1, 1, 1)) * far, norm)
    responses = subject.record(as_images(np.concatenate([far, near])))
    top = subject.best_response(0, norm)
    assert responses.max() < top * (1 + 1e-6)
    assert responses[:500].max() < 0.5 * top
    assert responses[500:].max() > 0.9 * top


@any_subject
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_ascent_within_the_norm_ends_at_it(subject: AnalyticSubject, share: float) -> None:
    norm = share * subject.largest_norm()
    top = subject.best_response(0, norm)
    found = [climb_in_ball(subject, norm, start) for start in starts(subject, 3)]
    assert max(found) <= top * (1 + 1e-6)
    assert min(found) >= top * (1 - 1e-3)


@any_subject
def test_ascent_over_all_images_ends_at_it(subject: AnalyticSubject) -> None:
    top = subject.best_response(0, None)
    found = [climb_in_box(subject, start) for start in starts(subject, 3)]
    assert max(found) <= top * (1 + 1e-6)
    assert max(found) >= top * (1 - 1e-3)


@any_subject
def test_best_of_all_images_is_better_than_the_best_of_a_norm(subject: AnalyticSubject) -> None:
    assert subject.best_response(0, None) > 1.1 * subject.best_response(0) > subject.best_response(0, 1.3)


@settings(max_examples=15)
@given(
    orientation=st.floats(0, 180),
    cycles=st.floats(1.5, 8),
    phase=st.floats(0, 360),
    share=st.floats(0.05, 1),
    color=st.sampled_from(sorted(analytic.COLORS)),
)
def test_simple_cell_reaches_the_bounds_of_cauchy_schwarz_and_hoelder(
    orientation: float, cycles: float, phase: float, share: float, color: str
) -> None:
    options = {"orientation_deg": orientation, "cycles_per_image": cycles, "phase_deg": phase, "color": color}
    subject, weights = GaborSubject(**options), filter_of(**options)
    norm = share * subject.largest_norm()
    assert subject.best_response(0, norm) == pytest.approx(norm * np.linalg.norm(weights), rel=1e-9)
    assert subject.best_response(0, None) == pytest.approx(0.5 * np.abs(weights).sum(), rel=1e-9)


@any_class
def test_a_full_contrast_patch_drives_its_filter_with_one(make: type[AnalyticSubject]) -> None:
    # A pool of one orientation holds the energy of the drive itself: 1 / (sigma² + 1).
    options = {"pool": 1, "sigma": 0.5} if make is NormalizationSubject else {}
    expected = 1 / 1.25 if make is NormalizationSubject else 1.0
    assert make(orientation_deg=20, color="red-green", **options).best_response() == pytest.approx(expected)


@pytest.mark.parametrize("orientation", [0.0, 30.0, 101.0])
def test_best_phase_of_the_complex_cell_over_all_images(orientation: float) -> None:
    options = {**ODD, "orientation_deg": orientation, "bandwidth_octaves": 1.7}
    even, odd = (filter_of(**options, phase_deg=phase) for phase in (0, 90))
    angles = np.linspace(0, np.pi, 4001)[:, None]
    sums = 0.5 * np.abs(np.cos(angles) * even + np.sin(angles) * odd).sum(axis=1)
    assert EnergySubject(**options).best_response(0, None) == pytest.approx(sums.max(), rel=1e-6)
    assert sums.min() < 0.999 * sums.max()


def test_normalization_prefers_another_image_than_its_drive() -> None:
    subject, drive = NormalizationSubject(), GaborSubject()
    assert subject.best_response(0, 4.0) > 1.15 * subject.record(drive.best_image(0, 4.0)[None])[0, 0]


def test_weak_normalization_prefers_its_drive() -> None:
    image = NormalizationSubject(sigma=100).best_image(0, 4.0)
    np.testing.assert_allclose(image, GaborSubject().best_image(0, 4.0), atol=1e-4)


# What they refuse


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 7}, "resolution: expected a whole number of at least 8, got 7"),
        ({"resolution": 16.5}, "resolution: expected a whole number"),
        ({"count": 0}, "count: expected a whole number of at least 1, got 0"),
        ({"seed": 1}, "seed: nothing is drawn without count"),
        ({"orientation_deg": [0, 1], "x": [1, 2, 3]}, "orientation_deg: expected 1 or 3 values"),
        ({"orientation_deg": [0, 1], "count": 3}, "orientation_deg: expected 1 or 3 values"),
        ({"orientation_deg": float("nan")}, "orientation_deg: expected finite numbers"),
        ({"orientation_deg": "flat"}, "orientation_deg: expected finite numbers"),
        ({"cycles_per_image": 9}, r"cycles_per_image: expected 0.25 to 8, got \[9\]"),
        ({"cycles_per_image": 0}, "cycles_per_image: expected 0.25 to 8"),
        ({"y": 32}, "y: expected 0 to 31"),
        ({"x": -1}, "x: expected 0 to 31"),
        ({"bandwidth_octaves": 0}, "bandwidth_octaves: expected 0.1 to 10, got 0"),
        ({"aspect": -1}, "aspect: expected 0.1 to 10"),
        ({"color": (0, 0, 0)}, "color: expected a name or three weights"),
        ({"color": (1, 1)}, "color: expected a name or three weights"),
        (
            {"orientation_deg": 35, "cycles_per_image": 8, "aspect": 10, "bandwidth_octaves": 10},
            "the envelope covers too few pixels",
        ),
    ],
)
@any_class
def test_refuses_options(make: type[AnalyticSubject], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make(**options)


@any_class
def test_refuses_an_unknown_color(make: type[AnalyticSubject]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'red-green'"):
        make(color="redgreen")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (GaborSubject, {"exponent": 0.5}, "exponent: expected 1 to 10"),
        (GaborSubject, {"phase_deg": float("inf")}, "phase_deg: expected finite numbers"),
        (NormalizationSubject, {"exponent": 0.5}, "exponent: expected 1 to 10"),
        (NormalizationSubject, {"sigma": 0}, "sigma: expected 0.001 to 1000"),
        (NormalizationSubject, {"pool": 0}, "pool: expected a whole number from 1"),
        (NormalizationSubject, {"pool": 2.5}, "pool: expected a whole number from 1"),
    ],
)
def test_refuses_options_of_one_model(make: type[AnalyticSubject], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make(**options)


@any_class
def test_refuses_images_of_another_size(make: type[AnalyticSubject]) -> None:
    subject = make()
    with pytest.raises(InvalidArgumentError, match=r"images: expected shape \(n, 3, 32, 32\).*resolution=32"):
        subject.record(noise(2, resolution=16))
    with pytest.raises(InvalidArgumentError, match=r"images: expected shape \(n, 3, 32, 32\)"):
        subject.forward(torch.tensor(noise(2, resolution=32))[:, :1])


@any_class
def test_refuses_images_out_of_range(make: type[AnalyticSubject]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"images: expected RGB in \[0, 1\]"):
        make().record(255 * noise(1))


@any_class
@pytest.mark.parametrize("ask", ["best_image", "best_response"])
def test_refuses_a_norm_without_known_optimum(make: type[AnalyticSubject], ask: str) -> None:
    subject = make()
    largest = f"{subject.largest_norm():.7g}"
    with pytest.raises(InvalidArgumentError, match=f"norm: expected at most {largest} for unit 0, got 12"):
        getattr(subject, ask)(0, 12.0)
    getattr(subject, ask)(0, float(largest))


@any_class
@pytest.mark.parametrize("norm", [0, -1.0, float("nan"), "all", float("inf")])
def test_refuses_a_norm_that_is_none(make: type[AnalyticSubject], norm: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"norm: expected (a number above 0|at most)"):
        make(color="red-green").best_image(0, norm)


@any_class
@pytest.mark.parametrize("unit", [-1, 2, 0.5])
def test_refuses_an_unknown_unit(make: type[AnalyticSubject], unit: Any) -> None:
    subject = make(x=[10, 20])
    asks = (subject.best_image, (unit,)), (subject.best_response, (unit, None)), (subject.largest_norm, (unit,))
    for ask, arguments in asks:
        with pytest.raises(InvalidArgumentError, match=f"unit: expected 0 to 1, got {unit}"):
            ask(*arguments)


def test_refuses_an_optimum_that_it_cannot_prove(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytic, "GAP", -1.0)
    with pytest.raises(InvalidArgumentError, match=r"known only to a relative .* larger sigma"):
        NormalizationSubject(resolution=16).best_image(0, None)


class TestGreyGaborContract(SubjectContract):
    def make(self):
        return GaborSubject(channels=1, count=2)


@pytest.mark.parametrize("make", [GaborSubject, EnergySubject, NormalizationSubject])
def test_grey_cells_answer_to_luminance_as_those_of_colours(make):
    grey, colour = make(**ODD, channels=1), make(**ODD)
    best = grey.best_image()
    assert best.shape == (1, 32, 32)
    assert grey.record(best[None])[0, 0] == pytest.approx(grey.best_response(), rel=1e-6)
    np.testing.assert_allclose(grey.record(best[None]), colour.record(np.repeat(best[None], 3, 1)), rtol=1e-6)
    assert grey.best_response(norm=None) == pytest.approx(colour.best_response(norm=None), rel=1e-6)
    assert "channels" not in colour.recipe
    with pytest.raises(InvalidArgumentError, match="expected 3, or 1 with color='luminance', got 1 with 'red-green'"):
        make(channels=1, color="red-green")


def test_stills_of_another_size_are_resampled_for_gradients() -> None:
    """Views pad and crop; a network takes what they make, and so does a model neuron."""
    neuron = GaborSubject(resolution=16)
    best = torch.from_numpy(neuron.best_image()[None])
    larger = torch.nn.functional.interpolate(best, scale_factor=2, mode="bilinear")
    assert neuron.forward(larger).shape == (1, 1)
    assert neuron.forward(larger) > 0.6 * neuron.forward(best)
