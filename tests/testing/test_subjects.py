"""The subject contract: sound implementations pass, and each defect fails the test that names it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from closedloop.checks import check_images
from closedloop.interfaces import Units
from closedloop.seeds import named_generator
from closedloop.subjects import FunctionSubject, GaborSubject
from closedloop.testing import SubjectContract
from closedloop.testing.common import relative_error, through_a_file, untouched_randomness

FAILURES = (AssertionError, pytest.fail.Exception, ValueError)


class Means:
    """A sound subject: mean red and mean contrast of the left and right half."""

    name = "means"
    units = Units.numbered("means", 2)

    def record(self, images):
        images = check_images(images)
        half = images.shape[3] // 2
        return np.stack([images[:, 0].mean((1, 2)), images[..., :half].mean((1, 2, 3))], axis=1)


class Tired:
    """A sound subject that is noisy, keeps a state, and answers in time."""

    name = "tired"
    units = Units.numbered("tired", 1)

    def __init__(self):
        self.shown, self.rng = 0, named_generator(0, "tired")

    def record(self, images):
        images = check_images(images)
        answers = images.mean((1, 2, 3)) / (1 + self.shown + np.arange(len(images)))
        self.shown += len(images)
        return answers[:, None, None] + self.rng.normal(size=(len(images), 1, 5))

    def state(self):
        return {"shown": self.shown, "rng": dict(self.rng.bit_generator.state)}

    def restore(self, state):
        self.shown = state["shown"]
        self.rng.bit_generator.state = state["rng"]


class TorchMeans(Means):
    def forward(self, x):
        import torch

        return torch.stack([x[:, 0].mean((1, 2)), x[..., : x.shape[3] // 2].mean((1, 2, 3))], dim=1)


class TestMeans(SubjectContract):
    def make(self):
        return Means()


class TestTired(SubjectContract):
    noisy = True

    def make(self):
        return Tired()


class TestTorchMeans(SubjectContract):
    resolution = 6

    def make(self):
        return TorchMeans()


class TestGabor(SubjectContract):
    def make(self):
        return GaborSubject()


class TestFunction(SubjectContract):
    def make(self):
        return FunctionSubject(lambda images: images.mean((2, 3)), units=3, name="colors")


class BatchNormalized(Means):
    def record(self, images):
        answers = super().record(images)
        return answers - answers.mean(0) if len(answers) > 1 else answers


class OrderMatters(Means):
    def record(self, images):
        return super().record(images) + np.arange(len(images))[:, None]


class Vandal(Means):
    def record(self, images):
        answers = super().record(images)
        images -= 0.5
        return answers


class Buffered(Means):
    buffer = np.empty((8, 2))

    def record(self, images):
        answers = super().record(images)
        self.buffer[: len(answers)] = answers
        return self.buffer[: len(answers)]


class Noisy(Means):
    def record(self, images):
        return super().record(images) + np.random.default_rng().normal(size=(len(images), 2))


class DrawsGlobally(Means):
    def record(self, images):
        return super().record(images) + 0 * np.random.rand()  # noqa: NPY002 - the defect


class Trusting(Means):
    def record(self, images):
        return np.zeros((len(images), 2))


class TooWide(Means):
    def record(self, images):
        return np.zeros((len(images), 3))


class Integers(Means):
    def record(self, images):
        return super().record(images).astype(int)


class NoEmptyBatch(Means):
    def record(self, images):
        return super().record(images) if len(images) else np.empty((0,))


class MemoryBound(Means):
    def record(self, images):
        return super().record(check_images(images).ravel("K").reshape(images.shape))


class OtherForward(TorchMeans):
    def forward(self, x):
        return super().forward(x.flip(1))


class Spike(TorchMeans):
    def forward(self, x):
        return (super().forward(x) * 0).sqrt()


class Amnesiac(Tired):
    def state(self):
        return {"shown": self.shown, "rng": dict(np.random.default_rng(0).bit_generator.state)}


class Unnamed(Means):
    name = ""


@pytest.mark.parametrize(
    ("broken", "test", "arguments"),
    [
        (Unnamed, "test_is_a_subject", ()),
        (TooWide, "test_responses_have_a_row_for_each_image_and_a_column_for_each_unit", ()),
        (Integers, "test_responses_have_a_row_for_each_image_and_a_column_for_each_unit", ()),
        (NoEmptyBatch, "test_empty_batch", ()),
        (Noisy, "test_same_images_same_responses", ()),
        (BatchNormalized, "test_a_response_does_not_depend_on_the_batch", ()),
        (OrderMatters, "test_a_response_does_not_depend_on_the_batch", ()),
        (MemoryBound, "test_any_memory_layout", ()),
        (Vandal, "test_images_are_not_changed", ()),
        (Buffered, "test_responses_are_not_changed_later", ()),
        *((Trusting, "test_refuses_what_is_not_an_image", (w,)) for w in ("no batch axis", "NaN", "above 1")),
        (DrawsGlobally, "test_global_random_state_is_left_alone", ()),
        (OtherForward, "test_forward_agrees_with_record", ()),
        (Spike, "test_gradient_is_finite", ()),
        (Amnesiac, "test_restored_state_continues_identically", ()),
    ],
)
def test_a_defect_is_found(broken, test, arguments):
    class Contract(SubjectContract):
        def make(self):
            return broken()

    with pytest.raises(FAILURES, match=r"\S"):
        getattr(Contract(), test)(*arguments)


def test_a_subject_that_does_not_check_may_say_so():
    class Contract(SubjectContract):
        refusal = None

        def make(self):
            return Trusting()

    with pytest.raises(pytest.skip.Exception, match="does not check its images"):
        Contract().test_refuses_what_is_not_an_image("NaN")


def test_relative_error():
    assert relative_error([1.0, 2.0], [1.0, 2.0]) == 0
    assert relative_error([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    assert relative_error([0.1], [0.0]) == pytest.approx(0.1)
    assert relative_error([np.nan, 1.0], [1.0, np.nan]) == np.inf
    assert relative_error([np.nan, 1.0], [np.nan, 1.0]) == 0
    assert relative_error([np.nan], [np.nan]) == 0
    assert relative_error([1.0], [1.0, 2.0]) == np.inf


def test_untouched_randomness_sees_python_numpy_and_torch():
    import random

    torch = pytest.importorskip("torch")
    for draw in (random.random, np.random.rand, lambda: torch.rand(1)):
        with pytest.raises(AssertionError, match="expected the global random state to be left alone"):
            with untouched_randomness():
                draw()
    with untouched_randomness():
        np.random.default_rng(0).random()


def test_through_a_file():
    assert through_a_file({"a": (1, 2), "b": np.float64(0.5)}) == {"a": [1, 2], "b": 0.5}


def test_a_missing_pytest_is_named():
    code = "import sys; sys.modules['pytest'] = None; import closedloop.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: closedloop.testing needs pytest, which cannot be imported" in done.stderr
    assert "pip install 'closedloop[test]'" in done.stderr
