"""Tests what every subject promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Differentiable, FloatArray, Presenting, Stateful, Subject, form_of
from closedloop.loop.answers import check_answers
from closedloop.presentations import Asked
from closedloop.testing.common import relative_error, streams_of_its_own, through_a_file, untouched_randomness


class SubjectContract:
    """Tests a subject: derive from it, name the class ``Test…``, and define `make`.

    Attributes:
        noisy: Whether the same image may be answered differently (noise, adaptation, lost presentations).
        resolution: Height and width of the images shown, in pixels.
        tolerance: Largest difference that rounding may make, relative to the largest response.
        refusal: The error for images that are not ``(n, 3, h, w)`` in [0, 1], or not what it states; None for a subject
            that does not check.
    """

    noisy: bool = False
    resolution: int = 32
    tolerance: float = 1e-5
    refusal: type[Exception] | None = InvalidArgumentError

    def make(self) -> Subject:
        """Makes a subject as it is before its first presentation."""
        raise NotImplementedError("define make(self), which returns the subject to test")

    def images(self, n: int = 4) -> NDArray[np.float32]:
        """Draws images ``(n, 3, h, w)`` to show: uniform noise, unless overridden; grey or movies where it says so."""
        shape = (n, *form_of(self.make()).leading, self.resolution, self.resolution)
        return np.random.default_rng(0).random(shape, dtype=np.float32)

    def test_is_a_subject(self) -> None:
        """Checks that it has a name, units with unique names, and `record`."""
        subject = self.make()
        assert isinstance(subject, Subject)
        assert isinstance(subject.name, str)
        assert subject.name
        ids = subject.units.neuroid_id
        assert len(ids) >= 1
        assert all(isinstance(i, str) for i in ids)
        assert len(set(ids)) == len(ids)
        assert all(len(column) == len(ids) for column in subject.units.coords.values())

    def test_its_stream_is_its_own(self) -> None:
        """Checks that its weights or noise are not what ``default_rng(seed)`` draws for a user's small seed."""
        with streams_of_its_own():
            self.make()

    def test_states_what_it_is_shown(self) -> None:
        """Checks that it has 3 channels or 1; frames and their rate for movies, none of both for stills."""
        form = form_of(self.make())
        assert form.channels in (1, 3)
        assert (form.frames is None) == (form.rate_hz is None)

    def test_responses_have_a_row_for_each_image_and_a_column_for_each_unit(self) -> None:
        """Checks for ``(n, units[, time])``, floating, never infinite."""
        subject = self.make()
        responses = subject.record(self.images(3))
        assert isinstance(responses, np.ndarray)
        assert responses.ndim in (2, 3)
        assert responses.shape[:2] == (3, len(subject.units.neuroid_id))
        assert np.issubdtype(responses.dtype, np.floating)
        assert not np.isinf(responses).any()

    def test_empty_batch(self) -> None:
        """Checks that it has no row where there is no image."""
        subject = self.make()
        responses = subject.record(self.images(0))
        assert responses.shape[:2] == (0, len(subject.units.neuroid_id))

    def test_same_images_same_responses(self) -> None:
        """Checks that they are equal bit by bit, unless it is `noisy`."""
        self._skip_if_noisy()
        subject, images = self.make(), self.images()
        np.testing.assert_array_equal(subject.record(images), subject.record(images))

    def test_a_response_does_not_depend_on_the_batch(self) -> None:
        """Checks that an image is answered alone as it is among others, and wherever it stands."""
        self._skip_if_noisy()
        subject, images = self.make(), self.images()
        whole = subject.record(images)
        self._assert_close(np.concatenate([subject.record(image[None]) for image in images]), whole)
        self._assert_close(subject.record(images[::-1].copy())[::-1], whole)

    def test_any_memory_layout(self) -> None:
        """Checks that a mirrored or colours-last view is answered like its copy."""
        self._skip_if_noisy()
        subject, images = self.make(), self.images()
        mirrored = images[..., ::-1]
        self._assert_close(subject.record(mirrored), subject.record(mirrored.copy()))
        colors_last = np.moveaxis(np.moveaxis(images, -3, -1).copy(), -1, -3)
        self._assert_close(subject.record(colors_last), subject.record(images))

    def test_images_are_not_changed(self) -> None:
        """Checks that they change neither while they are looked at, nor later."""
        subject, images = self.make(), self.images()
        before = images.copy()
        subject.record(images)
        np.testing.assert_array_equal(images, before)

    def test_responses_are_not_changed_later(self) -> None:
        """Checks that what was returned is not a buffer that the next recording overwrites."""
        subject, images = self.make(), self.images()
        first = subject.record(images)
        before = first.copy()
        subject.record(1 - images)
        np.testing.assert_array_equal(first, before)

    @pytest.mark.parametrize("wrong", ["no batch axis", "other colors", "colors last", "NaN", "above 1", "below 0"])
    def test_refuses_what_is_not_an_image(self, wrong: str) -> None:
        """Checks that it raises `refusal`, and goes on to answer proper images."""
        if self.refusal is None:
            pytest.skip("does not check its images")
        subject, images = self.make(), self.images()
        with pytest.raises(self.refusal, match=r"images: expected .*got"):
            subject.record(_spoilt(images, wrong))
        assert len(subject.record(images)) == len(images)

    def test_global_random_state_is_left_alone(self) -> None:
        """Checks that noise comes from the subject's own random generator."""
        images = self.images()
        with untouched_randomness():
            self.make().record(images)

    def test_forward_agrees_with_record(self) -> None:
        """Checks that they agree where it is `Differentiable` and not `noisy`."""
        subject = self._differentiable()
        self._skip_if_noisy()
        import torch

        images = self.images()
        with torch.no_grad():
            responses = subject.forward(torch.from_numpy(images)).numpy()
        self._assert_close(responses, self.make().record(images))

    def test_gradient_is_finite(self) -> None:
        """Checks the summed responses' gradient with respect to the images, where it is `Differentiable`."""
        subject = self._differentiable()
        import torch

        x = torch.from_numpy(self.images()).requires_grad_()
        (gradient,) = torch.autograd.grad(subject.forward(x).sum(), x)
        assert gradient.shape == x.shape
        assert torch.isfinite(gradient).all()

    def test_restored_state_continues_identically(self) -> None:
        """Checks that it goes on alike in a new object and in the same one, where it is `Stateful`."""
        subject, images = self.make(), self.images()
        if not isinstance(subject, Stateful):
            pytest.skip("keeps no state")
        subject.record(images)
        state = through_a_file(subject.state())
        expected = [subject.record(images), subject.record(images)]
        fresh: Any = self.make()
        for again in (fresh, subject):
            again.restore(state)
            np.testing.assert_array_equal([again.record(images), again.record(images)], expected)

    def test_presents_what_it_is_asked_for(self) -> None:
        """Checks that a rig says of each presentation what became of it, where it is `Presenting`."""
        subject, images = self.make(), self.images(3)
        if not isinstance(subject, Presenting):
            pytest.skip("takes no blocks")
        order = np.array([2, 0, 0, 1])
        asked = Asked(images, order, ("a", "b", "c"), ("t",) * 3, ("evolved",) * 3, "evolve", 0, 0, 0.2)
        units = subject.units.neuroid_id
        answers = check_answers(subject.present(asked), asked, len(units), subject.name, units)
        assert np.asarray(answers.responses).shape[:2] == (4, len(units))
        ok = np.asarray(answers.status, object) == "ok"
        assert np.isnan(np.asarray(answers.responses)[~ok]).all()

    def _assert_close(self, actual: FloatArray, expected: FloatArray) -> None:
        error = relative_error(actual, expected)
        assert error <= self.tolerance, f"expected equal responses, relative error {error:.2g} > {self.tolerance:g}"

    def _skip_if_noisy(self) -> None:
        if self.noisy:
            pytest.skip("answers the same image differently")

    def _differentiable(self) -> Differentiable:
        subject = self.make()
        if not isinstance(subject, Differentiable):
            pytest.skip("has no forward")
        return subject


def _spoilt(images: NDArray[np.float32], wrong: str) -> NDArray[np.float32]:
    """Returns images with one thing wrong with them."""
    if wrong == "no batch axis":
        return np.asarray(images[0])
    if wrong == "other colors":  # one instead of three, or three instead of one
        return images[..., :1, :, :] if images.shape[-3] == 3 else np.repeat(images, 3, axis=-3)
    if wrong == "colors last":
        return np.moveaxis(images, -3, -1)
    spoilt: NDArray[np.float32] = images.copy()
    spoilt[-1, ..., 0, 0] = {"NaN": np.nan, "above 1": 1.5, "below 0": -0.5}[wrong]
    return spoilt
