"""Generators that suit a subject."""

import pytest

from closedloop.errors import UnknownNameError
from closedloop.generators import load_generator
from closedloop.recipes import matched
from closedloop.subjects import FunctionSubject, GaborSubject, Gain, Poisson, load_subject


class OnGpu(GaborSubject):
    """Says that it runs on a GPU."""

    torch_device = "cuda:1"


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


def test_what_is_given_as_none_is_not_given() -> None:
    """As in the file of a run, which does not say where its generator ran."""
    assert matched({"name": "native", "device": None}, OnGpu(resolution=32))["device"] == "cuda:1"
    assert matched({"name": "fourier", "cutoff": None}, GaborSubject(resolution=32))["cutoff"] is None


def test_noise_around_a_subject_runs_where_it_does() -> None:
    assert matched({"name": "native"}, Poisson(OnGpu(resolution=32), spikes=20))["device"] == "cuda:1"
    on_cpu = Gain(load_subject("lite0", layer="blocks.0", units=[0], engine="eager"))
    assert on_cpu.torch_device == "cpu"
    assert "device" not in matched({"name": "native"}, on_cpu)


def test_a_rigs_own_device_is_none_of_torchs() -> None:
    rig = FunctionSubject(lambda images: images.mean((1, 2, 3))[:, None], units=1)
    rig.device = "Dev1"
    assert matched({"name": "native"}, rig) == {"name": "native"}


def test_what_a_generator_does_not_take_is_left_out() -> None:
    assert matched({"name": "fourier"}, OnGpu(resolution=32)) == {"name": "fourier", "resolution": 32}


def test_what_is_wrapped_goes_to_the_device_and_keeps_its_resolution() -> None:
    given = {"name": "placed", "generator": {"name": "truncated", "generator": "native"}}
    found = matched(given, OnGpu(resolution=32))
    assert found["generator"]["generator"] == {"name": "native", "device": "cuda:1"}
    assert found["resolution"] == 32
    assert given == {"name": "placed", "generator": {"name": "truncated", "generator": "native"}}
    built = load_generator("native")
    assert matched({"name": "truncated", "generator": built}, OnGpu(resolution=32))["generator"] is built


def test_a_subject_without_a_resolution() -> None:
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3))[:, None], units=1)
    assert matched({"name": "pixels"}, subject) == {"name": "pixels"}
    assert matched({"name": "pixels"}, subject, 224) == {"name": "pixels", "resolution": 224}


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="no generator named 'natve'"):
        matched({"name": "natve"}, GaborSubject(resolution=32))
