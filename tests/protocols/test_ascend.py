"""Ascents from their name to their result: every method, what went wrong, and going on after a crash."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from closedloop import open_recording
from closedloop.analysis.summary import summarize
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError
from closedloop.generators import CPPN, Pixels, TorchGenerator
from closedloop.gradients.methods import METHODS as PUBLISHED
from closedloop.images.eight_bit import quantize
from closedloop.interfaces import Space, Units
from closedloop.networks.modules import born
from closedloop.protocols import ascend, read_ascent, resume
from closedloop.recording.reader import read_experiment
from closedloop.recording.render import render
from closedloop.subjects import EnergySubject, GaborSubject, TorchSubject
from closedloop.testing.common import untouched_randomness

SIDE = 12


class Tensors:
    """A subject of one torch function from images ``(n, 3, h, w)`` to responses ``(n, units)``."""

    name, resolution = "tensors", SIDE

    def __init__(self, function, units=1):
        self.function, self.units = function, Units.numbered("tensors", units)

    def record(self, images):
        with torch.no_grad():
            return self.forward(torch.tensor(images)).numpy()

    def forward(self, x):
        return self.function(x.double())


class Plain:
    """Pixels that can be encoded, and were built by hand."""

    name = "plain"

    def __init__(self, side=SIDE):
        self.resolution, self.space = side, Space(3 * side**2, low=0.0, high=1.0, scale=12**-0.5)

    def __call__(self, codes):
        return np.asarray(codes, np.float32).reshape(-1, 3, self.resolution, self.resolution)

    def forward(self, codes):
        return codes.reshape(-1, 3, self.resolution, self.resolution)

    def encode(self, images):
        return np.asarray(images, dtype=float).reshape(len(images), -1)


class Stop:
    """An observer that interrupts after some blocks."""

    def __init__(self, after):
        self.after = after

    def begin(self, session):
        pass

    def generation(self, generation):
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt("stop")

    def end(self, session):
        pass


def classifier(classes=4):
    """All outputs of a small network with weights large enough to be sure of something."""
    net = born(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, classes)), 1)
    with torch.no_grad():
        net[3].weight *= 6
    return TorchSubject(net, resolution=SIDE, engine="eager", name="small", labels=["ant", "bee", "cat", "dog"])


def pictures(n=3):
    return np.random.default_rng(0).random((n, 3, SIDE, SIDE), dtype=np.float32)


def failure(subject, **options):
    options = {"generator": Pixels(SIDE), "method": "tv", "unit": 0, "steps": 24, "every": 12, **options}
    return ascend(subject, **options)["failure"].item()


def assert_same(one, other):
    xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())


METHODS = ("raw", "yosinski-1", "yosinski-2", "yosinski-3", "yosinski-4", "tv", "mei", "deepdream", "lucid", "maco")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_an_image_and_its_clean_response(method):
    subject = classifier()
    with untouched_randomness():
        few = {"crops": 3} if method == "maco" else {}
        found = ascend(subject, method=method, unit=2, steps=8, every=4, seed=3, **few)
    image = found["image"].values.astype(np.float32)
    np.testing.assert_array_equal(image, quantize(image))
    responses = subject.record(image[None])[0]
    assert found["response"].item() == pytest.approx(responses[2], rel=1e-5)
    probability = np.exp(responses[2]) / np.exp(responses).sum()
    assert found["confidence"].item() == pytest.approx(probability, rel=1e-4)
    assert found["best_response"].item() >= found["response"].item()
    assert found["label"].item() == "cat"
    assert dict(found.sizes).keys() >= {"rgb", "row", "col", "latent", "milestone", "step", "shown"}
    assert found.sizes["step"] == 8
    assert found["shown"].values.tolist() == [0, 4]
    pictures = found["forwards"].item() - 2
    assert found["forward_equivalents"].item() == 3 * pictures + 2


def test_raw_makes_a_network_sure_and_says_when():
    found = ascend(classifier(), method="raw", unit=1, steps=120, every=20)
    assert found["confidence"].item() > 0.99
    largest, sure = found["reached"].values[:2]
    score = found["score"].values
    assert 0 <= largest <= sure
    assert score[int(sure)] > 0.99 >= score[int(sure) - 1]
    image = found["image"].values
    roughness = (np.abs(np.diff(image, axis=1)).mean() + np.abs(np.diff(image, axis=2)).mean()) / image.std()
    assert roughness > 1.5  # white noise has 2.26, natural images about 1


def test_units_in_a_batch_are_that_many_single_ascents():
    """To 1e-4 after 10 steps: torch sums a batch in another order, and an ascent lets differences grow."""
    together = ascend(classifier(), method="lucid", unit=[3, 0, 2], steps=10, every=10, seed=4)
    assert together["column"].values.tolist() == [3, 0, 2]
    for i, unit in enumerate((3, 0, 2)):
        alone = ascend(classifier(), method="lucid", unit=unit, steps=10, every=10, seed=4)
        np.testing.assert_allclose(together["code"].values[i], alone["code"].values, atol=1e-4)
        np.testing.assert_allclose(together["score"].values[i], alone["score"].values, rtol=1e-4)
        assert together["failure"].values[i] == alone["failure"].item()


def test_the_same_seed_gives_the_same_bits_and_another_another_image():
    one, again, other = (ascend(classifier(), method="maco", unit=1, steps=4, crops=3, seed=s) for s in (1, 1, 2))
    assert_same(one, again)
    assert not np.array_equal(one["image"], other["image"])


def test_suppression_falls():
    found = ascend(classifier(), method="tv", objective="suppression(0)", steps=20, every=20, tv=0.0, norm=0.0)
    assert found["response"].item() > found["shown_response"].values[0]  # the score is the negative response
    assert found["column"].item() == -1
    assert np.isnan(found["confidence"].item())
    assert found["neuroid_id"].item() == "-unit(0)"


def test_a_known_optimum_is_found():
    energy = EnergySubject(resolution=16)
    found = ascend(energy, Pixels(16), "raw", unit=0, steps=150, every=150, rate=0.2)
    assert found["response"].item() > 0.98 * energy.best_response(0, norm=None)
    fixed = ascend(energy, Pixels(16), "mei", unit=0, steps=60, every=60, contrast=0.1)
    assert fixed["image"].values.std() == pytest.approx(0.1, rel=0.05)
    assert fixed["response"].item() > 5 * fixed["shown_response"].values[0]


def test_all_copies_climb_and_the_best_is_shown():
    found = ascend(classifier(), method="tv", unit=0, steps=6, every=3, copies=7)
    assert found["forwards"].item() == 7 * 6 + 2
    assert found["failure"].item() == ""


def test_natural_images_beside_it():
    found = ascend(classifier(), method="tv", unit=0, steps=30, every=30, references=pictures())
    natural = classifier().record(quantize(pictures()))[:, 0]
    assert found["natural"].item() == pytest.approx(natural.max(), rel=1e-5)
    assert found["above_natural"].item() == (natural < found["response"].item()).mean() == 1


@pytest.mark.filterwarnings("ignore:subject 'tensors'. not a single response")
def test_dead_saturated_rising_and_undefined_ascents_are_reported():
    dead = Tensors(lambda x: torch.relu(x.mean((1, 2, 3), keepdim=True)[:, :, 0, 0] - 5))
    assert failure(dead, tv=0.0, norm=0.0).startswith("dead gradient")
    assert "did not rise: response 0 at the end" in failure(dead, tv=0.0, norm=0.0)
    bright = Tensors(lambda x: x.mean((1, 2, 3))[:, None])
    assert "saturated: 100 %" in failure(bright, rate=0.2, tv=0.0, norm=0.0)
    assert "not converged" in failure(bright, rate=0.002, tv=0.0, norm=0.0)
    root = Tensors(lambda x: torch.sqrt(0.5 + 0.0 * x - x.mean()).mean((1, 2, 3))[:, None])
    assert "not finite" in failure(root, start=np.ones((3, SIDE, SIDE), np.float32), generator=Plain())
    unsteady = Tensors(lambda x: torch.relu(x[:, :1, 0, 0] - 0.9))
    begin = np.full((3, SIDE, SIDE), 0.95, np.float32)
    begin[1:] = 0.4
    fell = failure(unsteady, objective="-1*unit(0)", unit=None, start=begin, generator=Plain(), tv=0.0, norm=0.0)
    assert "zero gradient in" in fell


def test_accentuation_begins_at_its_image_and_is_held_to_it():
    start = pictures(1)[0]
    options = {"method": "accentuate", "unit": 0, "start": start, "steps": 6, "every": 6, "crops": 4}
    held, free = (ascend(classifier(), Plain(), alpha=a, **options) for a in (50.0, 0.0))
    first = classifier().record(quantize(start[None]))[0, 0]
    for found in (held, free):
        assert found["shown_response"].values[0] == pytest.approx(first, rel=1e-5)
    away = [np.abs(found["code"].values - start.ravel()).mean() for found in (held, free)]
    assert away[0] < away[1]
    assert free["response"].item() > first
    assert held["forwards"].item() - 1 == 2 * (free["forwards"].item() - 1)


def test_generator_methods_on_a_network_with_an_encoder():
    linear = born(lambda: nn.Linear(5, 3 * SIDE**2), 2)
    made = TorchGenerator(
        nn.Sequential(linear, nn.Unflatten(1, (3, SIDE, SIDE)), nn.Sigmoid()), Space(5), output_range=(0, 1)
    )
    subject = classifier()
    found = ascend(subject, made, "dgn-am", unit=0, steps=30, every=30)
    assert found["response"].item() > found["shown_response"].values[0]
    with pytest.raises(InvalidArgumentError, match="expected one with an encoder"):
        ascend(subject, made, "ppgn", unit=0, steps=2)
    exact, published = (ascend(subject, Plain(), "ppgn", unit=0, steps=12, every=12, exact=e) for e in (True, False))
    assert exact["confidence"].item() > exact["shown_confidence"].values[0]
    assert not np.array_equal(exact["image"], published["image"])


@pytest.mark.parametrize("method", ["lucid", "maco"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, method, after):
    options = {"method": method, "unit": [0, 2], "steps": 6, "every": 2, "seed": 2, "references": pictures()}
    options |= {"crops": 3} if method == "maco" else {}
    whole = ascend(classifier(), save=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        ascend(classifier(), save=tmp_path / "run", observers=[Stop(after)], **options)
    with pytest.raises(RecordingError, match="not finished; go on with closedloop resume"):
        read_ascent(tmp_path / "run")
    resume(tmp_path / "run", subject=classifier())
    for found in (read_ascent(tmp_path / "run"), read_ascent(tmp_path / "whole")):
        assert_same(found, whole)
    one, other = (open_recording(tmp_path / name).load() for name in ("run", "whole"))
    for name in ("responses", "latent_code", "score", "stimulus_id"):
        np.testing.assert_array_equal(one[name].values, other[name].values)


def test_an_accentuation_goes_on_from_its_start_with_its_weight(tmp_path):
    options = {"method": "accentuate", "unit": 0, "start": pictures(1)[0], "steps": 9, "every": 3, "crops": 2}
    whole = ascend(classifier(), Plain(), **options)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        ascend(classifier(), Plain(), save=tmp_path / "run", observers=[Stop(2)], **options)
    with pytest.raises(InvalidArgumentError, match="generator"):
        resume(tmp_path / "run", subject=classifier())
    resume(tmp_path / "run", subject=classifier(), generator=Plain())
    assert_same(read_ascent(tmp_path / "run", generator=Plain()).isel(unit=0), whole)


def test_a_run_by_names_needs_nothing_to_go_on_and_is_read_like_any_other(tmp_path):
    subject = GaborSubject(resolution=16, count=2, seed=1)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="stop"):
        ascend(subject, method="tv", unit=[1, 0], steps=8, save=folder, observers=[Stop(3)])
    resume(folder)
    assert read_experiment(folder)["options"] == {"rate": 0.05, "tv": 1.0, "norm": 1.0, "l1": 0.0}
    recording = open_recording(folder)
    found = read_ascent(folder)
    summaries = summarize(recording)
    assert [s.thread for s in summaries] == ["unit-1", "unit-0"]
    assert [s.generations for s in summaries] == [8, 8]
    last = render(recording, ["unit-1-last-000", "unit-0-last-000"])
    np.testing.assert_array_equal(last, found["image"].values)


def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path):
    subject, folder = classifier(), tmp_path / "run"

    class Rig:
        name, units = "rig", Units.numbered("rig", 1)

        def record(self, images):
            return images.mean((1, 2, 3))[:, None]

    lone = GaborSubject(resolution=SIDE)
    cases = [
        (UnknownNameError, "no method 'lucit'. Did you mean 'lucid'", {"method": "lucit"}),
        (InvalidArgumentError, "ratio: method 'lucid' has no such option. Did you mean 'rate'", {"ratio": 3}),
        (InvalidArgumentError, "unit: 4 is out of range; the subject has response columns 0 to 3", {"unit": 4}),
        (InvalidArgumentError, "unit: column 1 is named twice", {"unit": [1, 1]}),
        (InvalidArgumentError, "unit: expected none beside an objective", {"objective": "unit(0)"}),
        (InvalidArgumentError, "start: expected an image for 'accentuate'", {"method": "accentuate"}),
        (InvalidArgumentError, "start: expected one image", {"start": pictures(2), "generator": Plain()}),
        (InvalidArgumentError, "cannot encode an image", {"start": pictures(1)[0], "generator": CPPN(SIDE)}),
        (InvalidArgumentError, "generator: expected a Generator, got 'fourier'", {"generator": "fourier"}),
        (InvalidArgumentError, "steps: expected a whole number of at least 1", {"steps": 0}),
        (InvalidArgumentError, "rate: expected a finite number above 0", {"rate": -1}),
        (InvalidArgumentError, "columns: expected one or more units", {
            "method": "accentuate", "start": pictures(1)[0], "generator": Plain(), "subject": lone,
        }),
        (InvalidArgumentError, "subject: expected a differentiable one", {"subject": Rig(), "generator": Pixels(8)}),
    ]  # fmt: skip
    for kind, message, options in cases:
        with pytest.raises(kind, match=message):
            ascend(**{"subject": subject, "method": "lucid", "unit": 0, "save": folder, "steps": 2, **options})
        assert not folder.exists()


def test_a_run_of_something_else_is_no_ascent(tmp_path):
    with pytest.raises(RecordingError, match="not a run"):
        read_ascent(tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", PUBLISHED)
def test_on_a_gpu_it_climbs_the_same(method):
    """The first steps are those on a CPU; what comes later grows apart with rounding."""
    net = born(lambda: nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 0)
    options = {"steps": 3, "every": 3, "unit": [0, 1]}
    if method == "accentuate":
        options["start"] = np.random.default_rng(0).random((3, 32, 32), dtype=np.float32)
    cpu, gpu = (ascend(TorchSubject(net, resolution=32, device=d), None, method, **options) for d in ("cpu", "cuda"))
    for name in ("score", "gradient_norm"):
        np.testing.assert_allclose(gpu[name][:, 0], cpu[name][:, 0], rtol=0.02, atol=1e-4)
    assert np.isfinite(gpu["response"]).all()
