"""Control of two linear sites of a known overlap: what stretch carries along, one-hot holds back."""

import numpy as np
import pytest

from closedloop import Session, Thread
from closedloop.analysis import control_scores
from closedloop.errors import RecordingError
from closedloop.generators import Pixels
from closedloop.objectives import OneHot, Stretch
from closedloop.optimizers import IsotropicES
from closedloop.protocols import present
from closedloop.subjects import FunctionSubject
from tests.small_runs import pictures

SIDE, OVERLAP = 4, 0.8


def sites(noise=0.05):
    a, b, c = np.linalg.qr(np.random.default_rng(0).standard_normal((3 * SIDE**2, 3)))[0].T
    w = np.stack([a, OVERLAP * a + np.sqrt(1 - OVERLAP**2) * b, c])
    rng = np.random.default_rng(1)
    return FunctionSubject(
        lambda x: (x.reshape(len(x), -1) - 0.5) @ w.T + noise * rng.normal(size=(len(x), 3)),
        units=["target", "neighbour", "other"],
        name="sites",
    )


@pytest.fixture(scope="module")
def controlled():
    generator = Pixels(SIDE)
    threads = [
        Thread(generator, IsotropicES(generator.space, seed=i, population=20), objective, name)
        for i, (name, objective) in enumerate({"stretch": Stretch(0), "onehot": OneHot(0, (0, 1, 2))}.items())
    ]
    naturals = pictures(20)[:, :, :SIDE, :SIDE].copy()
    return Session(sites(), threads, references=naturals, images=1000, seed=2, retest_repeats=8, progress=False).run()


def test_both_exceed_the_best_natural_image(controlled):
    found = control_scores(controlled)
    assert found["thread"].values.tolist() == ["stretch", "onehot"]
    assert (found["control_low"].values > 0).all()
    np.testing.assert_allclose(found["control"], found["score"] - found["natural"])
    assert found["target"].values.tolist() == [[True, False, False]] * 2


def test_stretch_carries_the_neighbour_along_and_one_hot_does_not(controlled):
    found = control_scores(controlled)
    stretched, alone = (found["site"].sel(thread=name).values for name in ("stretch", "onehot"))
    assert stretched[1] > 0.5 * OVERLAP * stretched[0]
    assert stretched[0] > alone[0] > 2 * max(alone[1], 0.5)
    assert (found["site_low"].values <= found["site_high"].values).all()
    assert float(found["others"].sel(thread="stretch")) == pytest.approx(np.abs(stretched[1:]).max())


def test_other_recordings_are_named():
    with pytest.raises(RecordingError, match="expected an evolution"):
        control_scores(present(sites(), pictures(3)[:, :, :SIDE, :SIDE].copy(), progress=False))
