"""What one unit's image does to another, and how alike images are."""

import numpy as np
import pytest

from closedloop import CMAES, Session, Thread, Unit
from closedloop.analysis import concat, cross_driving, embedding, preference_similarity
from closedloop.analysis.similarity import squared_distances
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.generators import Fourier, Pixels
from closedloop.protocols import present
from closedloop.subjects import FunctionSubject, GaborSubject

GENERATOR = Fourier(resolution=16, cutoff=2)


@pytest.fixture(scope="module")
def session():
    threads = [Thread(GENERATOR, CMAES(GENERATOR.space, seed=i), Unit(i), n) for i, n in enumerate("ab")]
    return Session(GaborSubject(resolution=16, count=2, seed=1), threads, images=90, retest_repeats=2).run()


def retested(recording, thread):
    last = recording["generation"].values.max()
    return (recording["thread"].values == thread) & (recording["generation"].values == last)


def test_cross_driving_of_a_session(session):
    found = cross_driving(session)
    for i, thread in enumerate("ab"):
        expected = session["responses"].values[retested(session, thread)].mean(0)
        np.testing.assert_allclose(found["response"].values[i], expected)
    np.testing.assert_allclose(np.diag(found["normalized"]), 1)
    np.testing.assert_allclose(
        found["normalized"].values[0, 1], found["response"].values[0, 1] / found["response"].values[1, 1]
    )
    assert found["unit"].values.tolist() == session["neuroid_id"].values.tolist()
    assert found["basis"].values.tolist() == ["re-test", "re-test"]
    assert (found["sem"].values == 0).all()
    assert set(found["reason"].values.ravel()) == {""}


def own(evolution, values, unit, **options):
    """A run that records two units, whose images drive them by `values`."""
    run = evolution([[1.0, 2.0]] * 2, objective=f"unit({unit})", **options)
    run = run.isel(neuroid=[0, 0]).copy(deep=True)
    run["responses"][:] = values
    return run.assign_coords(neuroid_id=("neuroid", np.array(["v4.0", "v4.1"], object)))


def test_cross_driving_of_several_runs(evolution):
    runs = {"one": own(evolution, [8.0, 2.0], 0), "two": own(evolution, [4.0, 5.0], 1)}
    for found in (cross_driving(runs), cross_driving(concat(runs))):
        assert found["evolved_for"].values.tolist() == ["one/main", "two/main"]
        assert found["response"].values.tolist() == [[8, 2], [4, 5]]
        assert found["normalized"].values.tolist() == [[1, 0.4], [0.5, 1]]
        assert found["basis"].values.tolist() == ["last generation"] * 2
        assert found["n"].values.tolist() == [[2, 2], [2, 2]]


def test_cross_driving_says_what_is_missing(evolution):
    both = own(evolution, [8.0, -2.0], 0)
    other = own(evolution, [4.0, -5.0], 1)
    alone = evolution([[1.0, 2.0]] * 2)
    mixed = evolution([[1.0, 2.0]] * 2, objective="mean(0)")
    difference = own(evolution, [1.0, 1.0], 0).assign_coords(objective=("evolution", ["unit(0) - unit(1)"]))
    found = cross_driving({"both": both, "other": other, "alone": alone, "mixed": mixed, "difference": difference})
    table = found["reason"].values
    assert np.isnan(found["response"].values[2, 1])
    assert table[2, 1] == "the unit was not recorded, or every presentation was lost"
    assert table[0, 1] == "normalized: the unit's response to its own image is not above 0"
    assert np.isnan(found["normalized"].values[0, 1])
    assert found["response"].values[0, 1] == -2
    assert set(table[:, 4]) == {"the evolution excited more than a single unit"}
    assert found["unit"].values.tolist() == ["v4.0", "v4.1", "v4.0", "v4.0", ""]


def test_only_evolutions_drive():
    shown = present(GaborSubject(resolution=16, count=2, seed=1), np.zeros((2, 3, 16, 16), np.float32))
    with pytest.raises(
        RecordingError, match="recording: expected an evolution, but it has no coordinate evolution, objective"
    ):
        cross_driving(shown)


def test_similarity_of_codes(evolution):
    codes = np.zeros((1, 2, 3))
    codes[0, :, 0] = 2
    other = codes + np.array([0, 2, 0])
    runs = [evolution([[1.0, 2.0]], codes=c) for c in (codes, other, codes[..., :2], 0 * codes)]
    found = preference_similarity([*runs, evolution([[1.0, 2.0]])])
    cosine, reason = found["cosine"].values, found["reason"].values
    assert cosine[0, 0] == pytest.approx(1)
    assert cosine[0, 1] == cosine[1, 0] == pytest.approx(0.5**0.5)
    assert np.isnan(cosine[0, 2:]).all()
    assert reason[0, 2] == "codes of different length, 3 and 2"
    assert reason[0, 3] == "a code is zero"
    assert reason[0, 4] == "no code was recorded"
    assert "distance" not in found


def test_similarity_of_images(session):
    subject = GaborSubject(resolution=16, count=9, seed=3)
    codes = [session["latent_code"].values[retested(session, t)][0] for t in "ab"]
    images = GENERATOR(np.stack(codes))
    pixels = preference_similarity(session, generator=GENERATOR)["distance"].values
    assert pixels[0, 1] == pytest.approx(((images[0] - images[1]) ** 2).mean(), rel=1e-4)
    features = subject.record(images)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = preference_similarity(session, generator=GENERATOR, features=subject)["distance"].values
    assert found[0, 1] == found[1, 0] == pytest.approx(2 - 2 * unit[0] @ unit[1], rel=1e-4)
    assert np.diag(found).tolist() == [0, 0]
    with pytest.raises(InvalidArgumentError, match="expected the one that made the codes, got one for codes of length"):
        preference_similarity(session, generator=Pixels(resolution=16))
    with pytest.raises(InvalidArgumentError, match="features: expected a generator beside them"):
        preference_similarity(session, features=subject)


def test_embedding_is_lpips_without_weights(rng):
    images = rng.random((2, 3, 8, 8), dtype=np.float32)
    layers = [rng.standard_normal((2, 5, 4, 4)), rng.standard_normal((2, 7, 2, 2)), rng.standard_normal((2, 6))]
    points = embedding(images, lambda _: layers)
    expected = 0.0
    for layer in layers:
        maps = layer.reshape(2, layer.shape[1], -1)
        unit = maps / np.sqrt((maps**2).sum(1, keepdims=True))
        expected += ((unit[0] - unit[1]) ** 2).sum(0).mean()
    assert squared_distances(points, points)[0, 1] == pytest.approx(expected)
    scaled = embedding(images, lambda _: [3 * layer for layer in layers])
    np.testing.assert_allclose(scaled, points)


def test_wrong_features(rng):
    images = rng.random((2, 3, 8, 8), dtype=np.float32)
    with pytest.raises(InvalidArgumentError, match=r"features: expected finite numbers of shape \(2, channels\)"):
        embedding(images, lambda _: np.zeros(2))
    lost = FunctionSubject(lambda shown: np.full((len(shown), 1), np.nan), name="lost")
    with pytest.raises(InvalidArgumentError, match="with NaN or infinity"):
        embedding(images, lost)
    with pytest.raises(InvalidArgumentError, match="images: expected"):
        embedding(images * 300)
