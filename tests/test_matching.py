"""Generators that suit a subject."""

import pytest

from closedloop.errors import UnknownNameError
from closedloop.matching import matched
from closedloop.subjects import FunctionSubject, GaborSubject


class OnGpu(GaborSubject):
    """Says that it runs on a GPU."""

    device = "cuda:1"


def test_what_is_not_given_is_the_subjects() -> None:
    assert matched({"name": "fourier", "cutoff": 4}, GaborSubject(resolution=32)) == {
        "name": "fourier", "cutoff": 4, "resolution": 32
    }  # fmt: skip
    assert matched({"name": "native"}, OnGpu(resolution=32)) == {
        "name": "native", "resolution": 32, "device": "cuda:1"
    }  # fmt: skip


def test_what_is_given_stays() -> None:
    given = {"name": "native", "resolution": 64, "device": "cpu"}
    assert matched(given, OnGpu(resolution=32)) == given


def test_what_a_generator_does_not_take_is_left_out() -> None:
    assert matched({"name": "fourier"}, OnGpu(resolution=32)) == {"name": "fourier", "resolution": 32}


def test_a_subject_without_a_resolution() -> None:
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3))[:, None], units=1)
    assert matched({"name": "pixels"}, subject) == {"name": "pixels"}
    assert matched({"name": "pixels"}, subject, 224) == {"name": "pixels", "resolution": 224}


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="no generator named 'natve'"):
        matched({"name": "natve"}, GaborSubject(resolution=32))
