"""Tests what every generator promises."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import numpy as np
import pytest

from closedloop import recipes
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import STILL, Described, Differentiable, Fingerprinted, FloatArray, Generator, form_of
from closedloop.testing.common import streams_of_its_own, untouched_randomness


class GeneratorContract:
    """Tests a generator: derive from it, name the class ``Test…``, and define `make`.

    Attributes:
        tolerance: Largest difference that rounding may make, in units of the image range [0, 1].
        refusal: The error for codes that are not in the space.
        keep: Whether tests that only look at a generator share one; for what takes long to make.
    """

    tolerance: float = 1e-5
    refusal: type[Exception] = InvalidArgumentError
    keep: bool = False
    _kept: ClassVar[Generator]

    def make(self) -> Generator:
        """Makes the generator to test."""
        raise NotImplementedError("define make(self), which returns the generator to test")

    def one(self) -> Generator:
        """Returns a generator to look at: what `make` makes, once for all tests of the class where it is to `keep`."""
        if not self.keep:
            return self.make()
        if "_kept" not in vars(type(self)):
            type(self)._kept = self.make()
        return self._kept

    def small(self) -> Generator:
        """Makes one with a short code, for the numerical check of its gradient; `make()` unless overridden."""
        return self.make()

    def red_code(self) -> FloatArray | None:
        """Returns a code ``(dim,)`` whose image must be red, to prove the colours' order; None to leave it out."""
        return None

    def codes(self, n: int = 3) -> FloatArray:
        """Draws codes ``(n, dim)`` from the prior."""
        return self.one().space.sample(n, np.random.default_rng(0))

    def test_is_a_generator(self) -> None:
        """Checks that it has a name, a space, a resolution, and can be called."""
        generator = self.one()
        assert isinstance(generator, Generator)
        assert isinstance(generator.name, str)
        assert generator.name
        assert generator.resolution >= 1
        assert generator.space.dim >= 1

    def test_its_stream_is_its_own(self) -> None:
        """Checks that its weights are not what ``default_rng(seed)`` draws for a user's small seed."""
        with streams_of_its_own():
            self.make()

    def test_states_what_its_images_are(self) -> None:
        """Checks that it has 3 channels or 1; frames and their rate for movies, none of both for stills."""
        form = form_of(self.one())
        assert form.channels in (1, 3)
        assert (form.frames is None) == (form.rate_hz is None)

    def test_images_are_of_its_form_and_in_0_1(self) -> None:
        """Checks for ``(n, 3, resolution, resolution)`` float32 in [0, 1], from codes of the prior and from its middle.

        Grey images have 1 channel; movies ``(n, frames, channels, resolution, resolution)``.
        """
        generator = self.one()
        for codes in (self.codes(3), generator.space.center[None]):
            images = generator(codes)
            assert isinstance(images, np.ndarray)
            assert images.shape == (len(codes), *_shape(generator))
            assert images.dtype == np.float32
            assert np.isfinite(images).all()
            assert images.min() >= 0
            assert images.max() <= 1

    def test_different_codes_give_different_images(self) -> None:
        """Checks that no two draws from the prior look the same."""
        first, second = self.one()(self.codes(2))
        assert np.abs(first - second).max() > 1 / 255

    def test_empty_batch(self) -> None:
        """Checks that it makes no image where there is no code."""
        generator = self.one()
        assert generator(self.codes(0)).shape == (0, *_shape(generator))

    def test_samples_are_in_the_space(self) -> None:
        """Checks that the space accepts what it draws."""
        space = self.one().space
        codes = space.sample(5, np.random.default_rng(1))
        assert codes.shape == (5, space.dim)
        space.check(codes)
        space.check(space.center[None])

    def test_same_codes_same_images(self) -> None:
        """Checks that they are equal bit by bit, in the same object and in a new one."""
        generator, codes = self.one(), self.codes()
        images = generator(codes).copy()
        np.testing.assert_array_equal(generator(codes), images)
        np.testing.assert_array_equal(self.make()(codes), images)

    def test_an_image_does_not_depend_on_the_batch(self) -> None:
        """Checks that a code gives alone what it gives among others, and wherever it stands."""
        generator, codes = self.one(), self.codes()
        whole = generator(codes)
        self._assert_close(np.concatenate([generator(code[None]) for code in codes]), whole)
        self._assert_close(generator(codes[::-1].copy())[::-1], whole)

    def test_codes_are_not_changed(self) -> None:
        """Checks that they change neither by the call, nor through the images it returns."""
        generator, codes = self.one(), self.codes()
        before = codes.copy()
        generator(codes)[:] = 0
        np.testing.assert_array_equal(codes, before)

    def test_images_are_not_changed_later(self) -> None:
        """Checks that what was returned is not a buffer that the next call overwrites."""
        generator, codes = self.one(), self.codes(4)
        first = generator(codes[:2])
        before = first.copy()
        generator(codes[2:])
        np.testing.assert_array_equal(first, before)

    @pytest.mark.parametrize("wrong", ["length", "no batch axis", "NaN", "infinity", "bounds"])
    def test_refuses_what_is_not_a_code(self, wrong: str) -> None:
        """Checks that it raises `refusal`."""
        generator = self.one()
        if wrong == "bounds" and not generator.space.bounded:
            pytest.skip("has no bounds")
        with pytest.raises(self.refusal, match=r"codes: expected .*got"):
            generator(_spoilt(self.codes(), wrong, generator.space.high))

    def test_global_random_state_is_left_alone(self) -> None:
        """Checks that a generator draws nothing from it."""
        codes = self.codes()
        with untouched_randomness():
            self.make()(codes)

    def test_colors_are_in_the_order_rgb(self) -> None:
        """Checks that the image of `red_code` is red, not blue."""
        code = self.red_code()
        if code is None:
            pytest.skip("red_code() is not defined")
        if form_of(self.one()) != STILL:
            pytest.skip("its images are no colour stills")
        red, green, blue = self.one()(np.asarray(code, dtype=float)[None])[0].mean((1, 2))
        assert red > green
        assert red > blue

    def test_forward_agrees_with_the_call(self) -> None:
        """Checks that they agree in the precision of the codes, where it is `Differentiable`."""
        generator = self.one()
        differentiable = _differentiable(generator)
        import torch

        codes = self.codes()
        for dtype in (torch.float32, torch.float64):
            with torch.no_grad():
                images = differentiable.forward(torch.from_numpy(codes).to(dtype))
            assert images.dtype == dtype
            self._assert_close(images.numpy(), generator(codes))

    def test_gradient_is_right(self) -> None:
        """Checks the gradient of `small` by finite differences in float64, where it is `Differentiable`."""
        generator = self.small()
        differentiable = _differentiable(generator)
        import torch

        space = generator.space
        inside = space.center + 0.9 * (space.sample(2, np.random.default_rng(2)) - space.center)
        codes = torch.from_numpy(inside).requires_grad_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            large = space.dim > 64 or generator.resolution > 8  # then along random directions
            assert torch.autograd.gradcheck(differentiable.forward, (codes,), fast_mode=large)

    def test_recipe_makes_it_again(self) -> None:
        """Checks that ``load_generator(**recipe)`` gives identical images, also from a file, where it has a recipe."""
        generator, codes = self.one(), self.codes()
        recipe: Any = generator.recipe if isinstance(generator, Described) else None
        if recipe is None:
            pytest.skip("has no recipe")
        written = json.dumps(recipe)  # raises where a value is not plain
        again = recipes.build("generators", **json.loads(written))
        assert again.space == generator.space
        assert form_of(again) == form_of(generator)
        np.testing.assert_array_equal(again(codes), generator(codes))

    def test_fingerprint_is_a_sha256(self) -> None:
        """Checks for 64 hexadecimal digits, the same for a new one of the same weights, where it is `Fingerprinted`."""
        generator = self.one()
        if not isinstance(generator, Fingerprinted):
            pytest.skip("has no fingerprint")
        assert re.fullmatch("[0-9a-f]{64}", generator.fingerprint)
        again = self.make()
        assert isinstance(again, Fingerprinted)
        assert again.fingerprint == generator.fingerprint

    def _assert_close(self, actual: Any, expected: Any) -> None:
        actual = np.asarray(actual)
        assert actual.shape == np.shape(expected)
        error = float(np.abs(actual - expected).max())
        assert error <= self.tolerance, f"expected equal images, largest difference {error:.2g} > {self.tolerance:g}"


def _shape(generator: Generator) -> tuple[int, ...]:
    """Returns the shape of one of its images."""
    return (*form_of(generator).leading, generator.resolution, generator.resolution)


def _differentiable(generator: Generator) -> Differentiable:
    if not isinstance(generator, Differentiable):
        pytest.skip("has no forward")
    return generator


def _spoilt(codes: FloatArray, wrong: str, high: float) -> FloatArray:
    """Returns codes with one thing wrong with them."""
    if wrong == "length":
        return np.concatenate([codes, codes[:, :1]], axis=1)
    if wrong == "no batch axis":
        return np.asarray(codes[0])
    spoilt = codes.copy()
    spoilt[-1, -1] = {"NaN": np.nan, "infinity": np.inf, "bounds": high + 0.01 * abs(high) + 0.01}[wrong]
    return spoilt
