"""Fooling images of all classes at once: on a small linear classifier where every class can be reached."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop import open_recording, render
from closedloop.analysis import class_elites, class_probabilities
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError
from closedloop.generators import CPPN, Fourier, Pixels
from closedloop.images.eight_bit import quantize
from closedloop.protocols import evolve_elites, present, resume
from closedloop.subjects import FunctionSubject, GaborSubject
from closedloop.testing.common import untouched_randomness

SIDE, CLASSES = 6, 4
#: Images of a run.
IMAGES = 200
GENERATOR = Pixels(SIDE)
WEIGHTS = np.random.default_rng(3).standard_normal((3 * SIDE**2, CLASSES)).astype(np.float32)


def logits(images, sharpness=2.0):
    """Responses ``(n, CLASSES)``; each image by itself, so that a batch does not change a rounding error."""
    flat = images.reshape(len(images), -1) - 0.5
    return np.array([sharpness * (image @ WEIGHTS) for image in flat]).reshape(-1, CLASSES)


def classifier(function=logits, **options):
    return FunctionSubject(function, CLASSES, name="linear", **options)


def run(subject=None, generator=GENERATOR, **options):
    return evolve_elites(
        subject or classifier(), generator, **({"images": IMAGES, "children": 20, "seed": 1} | options)
    )


def probabilities(images):
    """The softmax, written another way."""
    values = np.exp(logits(images).astype(float))
    return values / values.sum(1, keepdims=True)


@pytest.mark.parametrize("generator", [GENERATOR, CPPN(SIDE, nodes=8), Fourier(SIDE, 2)], ids=lambda g: g.name)
def test_every_class_is_reached(generator):
    found = run(generator=generator, images=600)
    assert found["probability"].min() > 0.99
    assert found["median_probability"].values[-1] == np.median(found["probability"])
    np.testing.assert_array_equal(found["above"].values[:, -1], [CLASSES, CLASSES])


def test_an_elites_code_gives_its_recorded_score():
    found = run(images=200)
    images = GENERATOR(found["code"].values)
    np.testing.assert_allclose(found["probability"], np.diag(probabilities(quantize(images))), rtol=1e-6)


@settings(max_examples=5)
@given(st.integers(0, 2**20), st.integers(2, 30), st.integers(30, 150))
def test_the_recording_says_what_the_archive_knew(seed, children, images):
    recorded = []
    subject = classifier(lambda x: recorded.append(logits(x)) or recorded[-1])
    found = run(subject, images=images, children=children, seed=seed, retest=False)
    table = np.concatenate([np.exp(r.astype(float)) / np.exp(r.astype(float)).sum(1, keepdims=True) for r in recorded])
    assert len(table) == images // children * children == found["images"].values[-1]
    np.testing.assert_allclose(found["probability"], table.max(0), rtol=1e-6)
    course = np.maximum.accumulate(table.reshape(-1, children, CLASSES).max(1))
    np.testing.assert_allclose(found["median_probability"], np.median(course, 1), rtol=1e-6)
    np.testing.assert_array_equal(found["above"], [(course >= t).sum(1) for t in (0.5, 0.99)])
    assert (np.diff(found["median_probability"]) >= 0).all()
    assert np.isnan(found["retested"]).all()
    assert set(found["reason"].values) == {"retested: its image was not shown again, or the presentation was lost"}


def test_all_that_was_shown_is_recorded(tmp_path):
    found = run(save=tmp_path / "run")
    recording = open_recording(tmp_path / "run")
    kinds = recording["kind"].values
    unique = set(found["stimulus_id"].values)
    assert (kinds == "elites").sum() == IMAGES
    assert set(recording["stimulus_id"].values[kinds == "retest"]) == unique
    assert (kinds == "retest").sum() == len(unique)
    assert recording.attrs["finished"]
    shown = render(recording)
    np.testing.assert_allclose(recording["responses"].values[:IMAGES], logits(shown[:IMAGES]), rtol=1e-6)
    np.testing.assert_allclose(recording["responses"].values[IMAGES:], logits(shown[IMAGES:]), rtol=1e-6)
    np.testing.assert_allclose(recording["score"].values[:IMAGES], probabilities(shown[:IMAGES]).max(1), rtol=1e-6)
    np.testing.assert_array_equal(
        render(recording, list(found["stimulus_id"].values)), quantize(GENERATOR(found["code"].values))
    )
    order = np.array([(int(s[8:13]) * 20 + int(s[14:])) + 1 for s in found["stimulus_id"].values])
    np.testing.assert_array_equal(found["evaluation"], order)
    assert class_elites(recording).equals(found)
    content = yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())
    assert (content["protocol"], content["classes"], content["breeding"]) == ("elites", "all", {"children": 20})


def test_same_seed_same_elites():
    with untouched_randomness():
        one, same, other = (run(images=100, seed=s) for s in (1, 1, 2))
    assert one.identical(same)
    assert not np.array_equal(one["code"], other["code"])


@pytest.mark.parametrize("after", [1, 10])
def test_a_run_that_was_killed_goes_on_identically(tmp_path, after):
    def stop(done, total):
        assert total == IMAGES
        if done == 20 * after:
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        run(save=tmp_path / "run", progress=stop)
    assert open_recording(tmp_path / "run").sizes["presentation"] == 20 * after
    partly = class_elites(open_recording(tmp_path / "run"))
    assert partly["images"].values[-1] == 20 * after
    with pytest.raises(InvalidArgumentError, match="subject: it was handed over as a Python object"):
        resume(tmp_path / "run")
    again, whole = resume(tmp_path / "run", subject=classifier()), run(save=tmp_path / "whole")
    assert again.drop_vars("reason").equals(whole.drop_vars("reason"))
    one, other = open_recording(tmp_path / "run"), open_recording(tmp_path / "whole")
    for name in other.variables:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)
    assert resume(tmp_path / "run").equals(again)  # finished: nothing is shown


def test_it_goes_on_within_the_retest(tmp_path):
    count = []

    def fails_late(images):
        count.append(len(images))
        if sum(count) > 62:
            raise OSError("the rig is gone")
        return logits(images)

    options = {"images": 60, "children": 2}
    with pytest.raises(SubjectError, match="the rig is gone"):
        run(classifier(fails_late), save=tmp_path / "run", **options)
    assert open_recording(tmp_path / "run").sizes["presentation"] == 62
    with pytest.warns(UserWarning, match="subject: its code is not that with which"):
        again = resume(tmp_path / "run", subject=classifier())
    assert again.equals(run(**options))
    assert len(set(again["stimulus_id"].values)) > 2


@pytest.mark.filterwarnings("ignore:subject 'linear'. not a single response")
def test_lost_presentations_are_shown_again_or_left_out():
    rng = np.random.default_rng(0)

    def lossy(images):
        responses = logits(images)
        responses[rng.random(len(images)) < 0.3] = np.nan
        return responses

    found = run(classifier(lossy), retries=1, images=600)
    assert found["probability"].min() > 0.99
    blind = run(classifier(lambda images: np.full((len(images), CLASSES), np.nan)), images=60)
    assert np.isnan(blind["probability"]).all()
    assert np.isnan(blind["median_probability"]).all()
    assert set(blind["reason"].values) == {"no image gave a response"}
    assert np.isnan(blind["code"]).all()


def test_some_classes_of_a_softmax_over_all():
    found = run(classes=[3, 1], images=200)
    assert found.sizes["neuroid"] == 2
    assert list(found["neuroid_id"].values) == ["linear.3", "linear.1"]
    np.testing.assert_allclose(
        found["probability"], np.diag(probabilities(GENERATOR(found["code"].values))[:, [3, 1]]), rtol=1e-6
    )


def test_responses_in_time_are_averaged():
    responses = np.random.default_rng(0).standard_normal((5, CLASSES, 3))
    found = class_probabilities(responses, np.arange(CLASSES))
    np.testing.assert_allclose(found, class_probabilities(responses.mean(-1), np.arange(CLASSES)))
    np.testing.assert_allclose(found.sum(1), 1)


def test_bad_arguments(tmp_path):
    with pytest.raises(InvalidArgumentError, match="subject: expected the two or more outputs of a classifier, got 1"):
        evolve_elites(FunctionSubject(lambda x: x.mean((1, 2, 3))), GENERATOR)
    with pytest.raises(
        InvalidArgumentError, match=r"classes: expected one or more different columns of the 4 .*\[1, 1\]"
    ):
        run(classes=[1, 1])
    with pytest.raises(InvalidArgumentError, match=r"classes: expected one or more different columns .*\[4\]"):
        run(classes=[4])
    with pytest.raises(InvalidArgumentError, match="images: expected at least the 20 of the first generation, got 10"):
        run(images=10, save=tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match=r"breeding: .*unexpected keyword argument 'childern'"):
        run(childern=3)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RecordingError, match="recording: expected one of evolve_elites"):
        class_elites(present(GaborSubject(resolution=16, count=2), np.zeros((3, 3, 16, 16), np.float32)))


def test_another_generator_is_refused(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        run(save=tmp_path / "run", progress=stop)
    with pytest.raises(InvalidArgumentError, match="generator: expected the generator with which"):
        resume(tmp_path / "run", subject=classifier(), generator=Pixels(5))


def test_all_images_are_shown_as_a_file_holds_them():
    shown = []
    subject = classifier(lambda x: shown.append(x.copy()) or logits(x))
    found = run(subject, images=100)
    np.testing.assert_array_equal(np.concatenate(shown), quantize(np.concatenate(shown)))
    np.testing.assert_array_equal(found["retested"], found["probability"])
