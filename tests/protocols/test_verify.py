"""A verification says what is true: of promises that hold, of promises that do not, and beside controls."""

import threading

import numpy as np
import pytest

from closedloop.analysis import verification
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError
from closedloop.figures import plot_verification, plot_verification_matrix
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Units
from closedloop.protocols import present, resume, verify
from closedloop.protocols.verify import contrast_matched, spectrum_matched
from closedloop.subjects import FunctionSubject
from tests.small_twins import Means

SIDE = 16


def lab(noise: float = 0.05) -> FunctionSubject:
    """Two units: how red an image is, and how blue."""
    rng = np.random.default_rng(3)

    def answer(images):
        means = images.mean((2, 3))[:, [0, 2]]
        return means + noise * rng.normal(size=means.shape)

    return FunctionSubject(answer, units=["red", "blue"], name="lab")


class Dreamer(Means):
    """Predicts redness rightly, and of blue one more than there is."""

    name, units = "dreamer", Units(("twin.red", "twin.blue"), {})

    def record(self, images):
        return images.mean((2, 3))[:, [0, 2]] + [0, 1]


def made() -> np.ndarray:
    images = np.full((2, 3, SIDE, SIDE), 0.1, np.float32)
    images[0, 0], images[1, 2] = 0.9, 0.9
    images += np.random.default_rng(0).uniform(-0.05, 0.05, images.shape).astype(np.float32)
    return images


@pytest.fixture(scope="module")
def verified():
    return verify(lab(), made(), [0, 1], twin=Dreamer(), repeats=8, progress=False)


def test_promises_that_hold_have_no_gap_and_others_have_one(verified):
    found = verification(verified)
    own = found.isel(image=found["role"].values == "synthesized")
    assert own["target"].values.tolist() == ["red", "blue"]
    assert own["confirmed"].values == pytest.approx([0.9, 0.9], abs=0.06)
    assert own["gap_low"][0] < 0 < own["gap_high"][0]
    assert own["gap"].values[1] == pytest.approx(1, abs=0.06)
    assert (own["beyond_natural_low"] > 0).all()
    assert (own["n"] == 8).all()


def test_the_image_of_another_unit_is_a_control(verified):
    matrix = verification(verified)["matrix"].values
    np.testing.assert_allclose(matrix, [[0.9, 0.1], [0.1, 0.9]], atol=0.06)


def test_predictions_are_no_responses(verified):
    assert verified["responses"].values.max() < 1.3
    assert not any(name.startswith("twin") for name in verified["neuroid_id"].values)
    assert set(verified["kind"].values) == {"verification"}


def test_best_images_of_a_recording_are_controls(tmp_path):
    levels = np.linspace(0.1, 0.6, 6, dtype=np.float32)
    images = np.ones((6, 3, SIDE, SIDE), np.float32) * levels[:, None, None, None]
    before = present(lab(), ImageSet(tuple("abcdef"), images), repeats=3, progress=False, save=tmp_path / "before")
    found = verification(verify(lab(), made(), [0, 1], recording=before, progress=False))
    natural = found.isel(image=found["role"].values == "natural")
    assert natural["confirmed"].values == pytest.approx([0.6, 0.6], abs=0.06)
    assert np.isnan(found["predicted"].values).all()


def test_a_control_has_the_contrast_or_the_spectrum():
    rng = np.random.default_rng(1)
    image, other = 0.3 + 0.4 * rng.random((2, 3, SIDE, SIDE))
    like = contrast_matched(image.astype(np.float32), (0.5 + 0.3 * (other - 0.5)).astype(np.float32))
    np.testing.assert_allclose(like.std((1, 2)), 0.3 * other.std((1, 2)), rtol=1e-4)
    calm = (0.5 + 0.1 * (other - 0.5)).astype(np.float32)
    noise = spectrum_matched(calm, rng)
    np.testing.assert_allclose(np.abs(np.fft.fft2(noise)), np.abs(np.fft.fft2(calm)), rtol=0.05, atol=0.05)
    assert np.abs(np.corrcoef(noise.ravel(), calm.ravel())[0, 1]) < 0.3


def test_it_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    images = np.concatenate([made()[:1]] * 2 + [made()[1:]] * 18)
    images = (images * np.linspace(0.5, 1, len(images))[:, None, None, None]).astype(np.float32)

    pull = threading.Event()

    def many():
        shown = []

        def answer(x):
            shown.append(len(x))
            if pull.is_set() and len(shown) > 1:
                raise RuntimeError("unplugged")
            return x.mean((2, 3)) @ np.linspace(0, 1, 60).reshape(3, 20)

        return FunctionSubject(answer, units=20, name="many")

    options = {"repeats": 2, "progress": False}
    whole = verify(many(), images, range(20), save=tmp_path / "whole", **options)
    pull.set()
    with pytest.raises(SubjectError, match="unplugged"):
        verify(many(), images, range(20), save=tmp_path / "broken", **options)
    pull.clear()
    again = resume(tmp_path / "broken", subject=many())
    np.testing.assert_array_equal(again["responses"].values, whole["responses"].values)
    assert again["role"].values.tolist() == whole["role"].values.tolist()


def test_what_a_person_sees(tmp_path):
    from closedloop.report import write_report

    verify(lab(0.01), made(), [0, 1], twin=Dreamer(), repeats=3, progress=False, save=tmp_path / "run")
    write_report([tmp_path / "run"], tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert "Twin-fooling gap" in text
    assert "excites it more than its best natural image" in text


def test_the_figure_shows_what_was_promised(verified):
    ax = plot_verification(verified)
    labels = ax.get_legend_handles_labels()[1]
    assert "predicted by the twin" in labels
    promised = next(line for line in ax.lines if line.get_label() == "predicted by the twin")
    assert promised.get_xdata().max() > 1.7


def test_the_matrix_is_drawn_as_a_share_of_the_own_image(verified):
    ax = plot_verification_matrix(verified)
    shares = ax.images[0].get_array()
    np.testing.assert_allclose(np.diag(shares), 1)
    assert shares[0, 1] == pytest.approx(0.1 / 0.9, abs=0.08)


def test_what_was_verified_is_a_table_of_images(tmp_path, capsys):
    from closedloop.cli import main

    verify(lab(), made(), [0, 1], repeats=3, progress=False, save=tmp_path / "run")
    main(["analyze", str(tmp_path / "run"), "--what", "verification"])
    said = capsys.readouterr().out
    assert "synthesized" in said
    assert "no twin predicted these images" in " ".join(said.split())


def test_errors_name_the_argument(tmp_path):
    with pytest.raises(InvalidArgumentError, match="units: expected a unit for each of 2 images"):
        verify(lab(), made(), [0], progress=False)
    with pytest.raises(InvalidArgumentError, match="twin: it has no unit 'red'"):
        verify(lab(), made(), [0, 1], twin=Means(), progress=False)
    with pytest.raises(RecordingError, match="role and target"):
        verification(present(lab(), made(), progress=False))
