"""Wrappers: what they make of codes and images, their capabilities, and a run that is resumed from its file."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from torch import nn

from closedloop import IsotropicES
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.generators import Fourier, Masked, Pixels, Placed, Subspace, Truncated, load_generator
from closedloop.generators.wrappers import principal_directions, random_directions
from closedloop.images.eight_bit import write_png
from closedloop.interfaces import Described, Differentiable, Space
from closedloop.protocols import evolve, resume
from closedloop.subjects import TorchSubject, load_subject
from closedloop.testing import GeneratorContract


def fourier(resolution: int = 9) -> Fourier:
    return Fourier(resolution, cutoff=3.0, shell=False)


def red() -> np.ndarray:
    """The code of a red image of `fourier`."""
    from closedloop.generators.fourier import color_matrix

    code = np.zeros((3, fourier().space.dim // 3))
    code[:, 0] = np.linalg.solve(color_matrix(), [1.0, -1.0, -1.0])
    return code.ravel()


class Stripes:
    """A generator that cannot be differentiated, nor loaded by name."""

    name = "stripes"
    space = Space(12, scale=0.5)
    resolution = 4

    def __call__(self, codes):
        rows = 1 / (1 + np.exp(-self.space.check(codes).reshape(len(codes), 3, 4, 1)))
        return np.repeat(rows, 4, axis=3).astype(np.float32)


class TestTruncatedContract(GeneratorContract):
    def make(self):
        return Truncated(fourier(), 1.2)

    def red_code(self):
        return red()


class TestNormContract(GeneratorContract):
    def make(self):
        return Truncated(fourier(), 0.9, by="norm")


class TestShellContract(GeneratorContract):
    def make(self):
        return Truncated(Stripes(), by="shell")


class TestSubspaceContract(GeneratorContract):
    def make(self):
        return Subspace(fourier(), 6, seed=1)

    def red_code(self):
        whole = self.make()
        return (red() - whole.middle) @ np.linalg.pinv(whole.directions)


CODES = fourier().space.sample(8, np.random.default_rng(3))


class TestPrincipalContract(GeneratorContract):
    def make(self):
        return Subspace(fourier(), 3, codes=CODES)


class TestPlacedContract(GeneratorContract):
    def make(self):
        return Placed(fourier(), (3, 2, 12, 16), resolution=20, background=(0.2, 0.5, 0.8))


class TestPlacedRedContract(GeneratorContract):
    def make(self):
        return Placed(Pixels(4), (0, 1, 7, 8), resolution=8)

    def red_code(self):
        return np.repeat([1.0, 0.0, 0.0], 16)


class TestMaskedContract(GeneratorContract):
    def make(self):
        return Masked(fourier(), "gaussian", size=0.8)

    def red_code(self):
        return red()


class TestNestedContract(GeneratorContract):
    def make(self):
        return Placed(Masked(Truncated(Subspace(fourier(), 5), by="shell"), "disc"), (1, 1, 11, 11), resolution=16)


# Truncated ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_coordinates_are_clipped_at_standard_deviations(bound):
    codes = 3 * Stripes.space.sample(4, np.random.default_rng(0))
    expected = Stripes()(codes.clip(-0.5 * bound, 0.5 * bound))
    np.testing.assert_allclose(Truncated(Stripes(), bound)(codes), expected, atol=1e-6)


def test_long_codes_are_shortened_and_short_ones_left():
    usual = 0.5 * 12**0.5
    direction = np.random.default_rng(0).standard_normal(12)
    direction /= np.linalg.norm(direction)
    codes = usual * np.array([[0.5], [1.4], [3.0]]) * direction
    held = Truncated(Stripes(), 1.5, by="norm")(codes)
    np.testing.assert_allclose(held[:2], Stripes()(codes[:2]), atol=1e-6)
    np.testing.assert_allclose(held[2:], Stripes()(1.5 * usual * direction[None]), atol=1e-6)


def test_on_the_shell_only_the_direction_counts():
    codes = Stripes.space.sample(2, np.random.default_rng(0))
    whole = Truncated(Stripes(), by="shell")
    np.testing.assert_allclose(whole(7 * codes), whole(codes), atol=1e-6)
    lengths = np.linalg.norm(codes, axis=1, keepdims=True)
    np.testing.assert_allclose(whole(codes), Stripes()(codes / lengths * 0.5 * 12**0.5), atol=1e-6)
    assert whole.space == Stripes.space


# Subspace -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (3, 7), (7, 7)])
def test_random_directions_are_orthonormal(count, dim):
    directions = random_directions(count, dim, seed=0)
    np.testing.assert_allclose(directions @ directions.T, np.eye(count), atol=1e-12)
    assert not np.allclose(directions, random_directions(count, dim, seed=1)) or dim == 1


def test_random_directions_point_everywhere():
    drawn = np.concatenate([random_directions(1, 3, seed) for seed in range(500)])
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(drawn.T @ drawn / 500, np.eye(3) / 3, atol=0.05)


def test_principal_directions_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((400, 5)) * [5, 0.1, 3, 0.2, 1] + [1, 2, 3, 4, 5]
    middle, directions = principal_directions(codes, 3)
    np.testing.assert_allclose(middle, codes.mean(0))
    np.testing.assert_allclose(np.abs(directions), np.eye(5)[[0, 2, 4]], atol=0.1)
    assert (directions[[0, 1, 2], [0, 2, 4]] > 0).all()
    variances = ((codes - middle) @ directions.T).var(0)
    np.testing.assert_allclose(variances, np.sort(np.linalg.eigvalsh(np.cov(codes.T, ddof=0)))[::-1][:3])


def test_a_subspace_is_a_plane_through_the_middle():
    whole = Subspace(Stripes(), 3, seed=2)
    code = whole.space.sample(1, np.random.default_rng(0))
    np.testing.assert_allclose(whole(code), Stripes()(code @ whole.directions), atol=1e-6)
    np.testing.assert_array_equal(whole(np.zeros((1, 3))), Stripes()(np.zeros((1, 12))))


def test_prior_draws_are_as_long_as_those_of_the_inner_prior():
    whole = Subspace(Stripes(), 3)
    inner = whole.space.sample(5000, np.random.default_rng(0)) @ whole.directions
    assert np.square(inner).sum(1).mean() == pytest.approx(12 * 0.5**2, rel=0.05)
    given = 0.1 * np.random.default_rng(1).standard_normal((500, 12))
    assert Subspace(Stripes(), 12, codes=given).space.scale == pytest.approx(0.1, rel=0.05)
    assert Subspace(Stripes(), 3, scale=2.0).space.scale == 2


def test_codes_from_a_file_have_a_recipe(tmp_path):
    given = fourier().space.sample(8, np.random.default_rng(3))
    np.save(tmp_path / "codes.npy", given)
    by_name, by_hand = Subspace(fourier(), 3, codes=tmp_path / "codes.npy"), Subspace(fourier(), 3, codes=given)
    code = by_name.space.sample(2, np.random.default_rng(0))
    np.testing.assert_array_equal(by_name(code), by_hand(code))
    assert by_hand.recipe is None
    np.testing.assert_array_equal(load_generator(**by_name.recipe)(code), by_name(code))


def test_files_of_codes_run_nothing(tmp_path):
    np.save(tmp_path / "codes.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidArgumentError, match=r"codes: cannot read .*codes\.npy as an \.npy file of codes"):
        Subspace(fourier(), 3, codes=tmp_path / "codes.npy")


# Placed and masked ----------------------------------------------------------------------------------------------------


def test_a_square_box_shows_the_whole_image():
    codes = np.random.default_rng(0).random((2, 48))
    pictures = Placed(Pixels(4), (2, 5, 6, 9), resolution=12)(codes)
    np.testing.assert_allclose(pictures[:, :, 2:6, 5:9], Pixels(4)(codes), atol=1e-6)
    outside = np.ones((12, 12), bool)
    outside[2:6, 5:9] = False
    assert (pictures[:, :, outside] == 0.5).all()


def test_a_long_box_shows_the_central_part():
    codes = np.random.default_rng(0).random((1, 3 * 8 * 8))
    pictures = Placed(Pixels(8), (1, 0, 9, 4), resolution=10, background=(1, 0, 0.25))(codes)
    np.testing.assert_allclose(pictures[:, :, 1:9, 0:4], Pixels(8)(codes)[..., 2:6], atol=1e-6)
    np.testing.assert_allclose(pictures[0, :, 0, 9], [1, 0, 0.25])


def test_an_image_is_resized_to_its_box():
    smaller = Placed(Pixels(8), (0, 0, 4, 4), resolution=4)(np.full((1, 192), 0.3))
    np.testing.assert_allclose(smaller, 0.3, atol=1e-6)


def test_a_unit_sees_only_its_field():
    model = nn.Sequential(nn.Conv2d(3, 2, 5, padding=2), nn.ReLU(), nn.Conv2d(2, 1, 5, padding=2))
    subject = TorchSubject(model, units=[(0, 5, 20)], resolution=32, engine="eager")
    box = [subject.units.coords[f"rf_{side}"][0] for side in ("y0", "x0", "y1", "x1")]
    assert box == [1, 16, 10, 25]
    codes = fourier(16).space.sample(3, np.random.default_rng(0))
    whole, beyond = (Placed(fourier(16), box, resolution=32, background=b) for b in (0.5, 0.1))
    np.testing.assert_allclose(subject.record(whole(codes)), subject.record(beyond(codes)), atol=1e-6)
    assert subject.record(whole(codes)).std() > 0


def test_a_disc_has_a_soft_edge():
    mask = Masked(Pixels(40), "disc", size=0.5, edge=0.1).mask
    distance = np.hypot(*np.meshgrid(*[(np.arange(40) + 0.5) / 40 - 0.5] * 2))
    assert (mask[distance < 0.15 - 1e-9] == 1).all()
    np.testing.assert_allclose(mask[distance > 0.25], 0, atol=1e-12)
    edge = (distance > 0.16) & (distance < 0.24)
    assert ((mask[edge] > 0) & (mask[edge] < 1)).all()
    assert mask.sum() / 1600 == pytest.approx(np.pi * 0.2**2, rel=0.05)
    assert set(np.unique(Masked(Pixels(40), "disc", size=0.5, edge=0).mask)) == {0.0, 1.0}


def test_a_gaussian_has_its_standard_deviation():
    mask = Masked(Pixels(41), "gaussian", size=0.4).mask
    middle = mask[20] / mask[20].sum()
    assert np.sqrt((middle * (np.arange(41) - 20) ** 2).sum()) == pytest.approx(0.1 * 41, rel=0.02)
    assert mask[20, 20] == 1


def test_a_mask_mixes_image_and_background():
    mask = np.random.default_rng(0).random((4, 4))
    codes = np.random.default_rng(1).random((2, 48))
    pictures = Masked(Pixels(4), mask, background=(0.1, 0.2, 0.3))(codes)
    grey = np.array([0.1, 0.2, 0.3])[:, None, None]
    np.testing.assert_allclose(pictures, mask * Pixels(4)(codes) + (1 - mask) * grey, atol=1e-6)


def test_a_mask_from_a_file(tmp_path):
    mask = np.zeros((3, 4, 4), np.float32)
    mask[:, 1:3] = 1
    write_png(tmp_path / "mask.png", mask)
    whole = Masked(Pixels(4), tmp_path / "mask.png")
    np.testing.assert_array_equal(whole.mask, mask[0])
    assert load_generator(**whole.recipe).mask.sum() == 8
    assert Masked(Pixels(4), mask[0]).recipe is None


# Capabilities ---------------------------------------------------------------------------------------------------------

WRAPPERS = [
    lambda inner: Truncated(inner),
    lambda inner: Subspace(inner, 2),
    lambda inner: Placed(inner, (0, 0, 4, 4), resolution=4),
    lambda inner: Masked(inner),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapper_is_differentiable_exactly_if_the_inner_one_is(wrap):
    assert isinstance(wrap(fourier()), Differentiable)
    assert isinstance(wrap(wrap(fourier())), Differentiable)
    assert not isinstance(wrap(Stripes()), Differentiable)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapper_has_a_recipe_exactly_if_the_inner_one_has(wrap):
    whole = wrap(wrap(fourier()))
    assert isinstance(whole, Described)
    assert whole.recipe["generator"]["generator"] == fourier().recipe
    assert wrap(Stripes()).recipe is None


def test_names_say_what_is_wrapped():
    assert Truncated(Subspace(fourier(), 2)).name == "truncated(subspace(fourier))"


def test_the_resolution_is_for_an_inner_name_that_has_none():
    assert Truncated("fourier", resolution=16).resolution == 16
    assert Truncated({"name": "fourier", "resolution": 12}, resolution=16).resolution == 12
    assert Truncated(fourier(9), resolution=9).resolution == 9
    with pytest.raises(
        InvalidArgumentError, match="resolution: expected that of the inner generator, 9, or none, got 16"
    ):
        Truncated(fourier(9), resolution=16)


def test_a_wrapped_generator_is_written_and_resumed(tmp_path):
    def parts():
        inner = Truncated(Subspace(Fourier(12, cutoff=3.0), 7, seed=4), by="shell")
        generator = Placed(inner, (1, 1, 15, 15), resolution=16)
        return generator, IsotropicES(generator.space, seed=2, population=6)

    subject = load_subject("gabor", resolution=16)
    whole = evolve(subject, *parts(), images=40, references=None, save=tmp_path / "whole")
    written = yaml.safe_load((tmp_path / "whole" / "experiment.yaml").read_text())
    assert written["generator"]["name"] == "placed"
    assert written["generator"]["generator"]["generator"]["generator"]["name"] == "fourier"

    class Interrupt:
        def begin(self, session):
            pass

        def generation(self, generation):
            if generation.index == 3:
                raise KeyboardInterrupt("stop")

        def end(self, session):
            pass

    with pytest.raises(KeyboardInterrupt, match="stop"):
        evolve(subject, *parts(), images=40, references=None, save=tmp_path / "cut", observers=[Interrupt()])
    resumed = resume(tmp_path / "cut")
    np.testing.assert_array_equal(resumed["responses"], whole["responses"])
    np.testing.assert_array_equal(resumed["latent_code"], whole["latent_code"])


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Truncated(Pixels(4)), InvalidArgumentError, r"expected one with an unbounded space, got 'pixels'"),
        (lambda: Subspace(Pixels(4)), InvalidArgumentError, r"expected one with an unbounded space, got 'pixels'"),
        (lambda: Truncated(3), InvalidArgumentError, "expected a generator, a name, or a mapping with a name, got int"),
        (lambda: Truncated({"x": 1}), InvalidArgumentError, r"expected an entry 'name', got \{'x': 1\}"),
        (lambda: Truncated("forier"), UnknownNameError, "no generator named 'forier'"),
        (lambda: Truncated(Stripes(), 0), InvalidArgumentError, "bound: expected a finite number above 0, got 0"),
        (lambda: Truncated(Stripes(), by="box"), InvalidArgumentError, "by: expected .* got 'box'"),
        (lambda: Subspace(Stripes(), 13), InvalidArgumentError, "dim: expected 1 to 12 directions, got 13"),
        (lambda: Subspace(Stripes(), 0), InvalidArgumentError, "dim: expected 1 to 12 directions, got 0"),
        (lambda: Subspace(Stripes(), 2, seed=-1), InvalidArgumentError, "seed"),
        (lambda: Subspace(Stripes(), 4, codes=np.eye(12)[:3]), InvalidArgumentError, "at most 2 directions, .*got 4"),
        (lambda: Subspace(Stripes(), 1, codes=np.eye(12)[:1]), InvalidArgumentError, "codes: expected at least two"),
        (lambda: Subspace(Stripes(), 1, codes=np.eye(5)), InvalidArgumentError, r"codes: expected shape \(n, 12\)"),
        (lambda: Subspace(Stripes(), 1, codes="nowhere.npy"), InvalidArgumentError, "codes: cannot read nowhere.npy"),
        (lambda: Placed(Stripes(), (0, 0, 5, 9), resolution=8), InvalidArgumentError, "within the canvas of 8 pixels"),
        (lambda: Placed(Stripes(), (0, 4, 5, 4)), InvalidArgumentError, r"box: expected .*got \(0, 4, 5, 4\)"),
        (lambda: Placed(Stripes(), (0, 0, 5)), InvalidArgumentError, "box: expected"),
        (lambda: Placed(Stripes(), (0, 0, 5.5, 5)), InvalidArgumentError, "box: expected .* whole pixels"),
        (lambda: Placed(Stripes(), (0, 0, 5, 5), background=2), InvalidArgumentError, "background: expected .*got 2"),
        (
            lambda: Masked(Stripes(), np.ones((3, 3))),
            InvalidArgumentError,
            r"an array \(4, 4\) in \[0, 1\], got an array",
        ),
        (lambda: Masked(Stripes(), 2 * np.ones((4, 4))), InvalidArgumentError, "mask: expected"),
        (lambda: Masked(Stripes(), "nowhere.png"), InvalidArgumentError, "images: cannot read nowhere.png"),
        (lambda: Masked(Stripes(), size=0), InvalidArgumentError, "size, edge: expected size > 0 and edge >= 0"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
