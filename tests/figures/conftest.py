"""A small noisy session that the tests of figures share."""

import numpy as np
import pytest

from closedloop import IsotropicES, RandomSearch, Session, Thread, Unit, open_recording
from closedloop.generators import Fourier
from closedloop.subjects import FunctionSubject


def counts(rng):
    """Poisson counts of two units: one likes red, the other dark images."""

    def record(images):
        red = images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))
        expected = np.stack([40 * np.clip(red + 0.2, 0, None), 40 * (1 - images.mean((1, 2, 3)))], axis=1)
        return rng.poisson(expected).astype(float)

    return record


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run with two threads, "red" and "dark", on noisy units."""
    folder = tmp_path_factory.mktemp("figures") / "run"
    generator = Fourier(16, cutoff=3)
    Session(
        FunctionSubject(counts(np.random.default_rng(0)), units=2),
        [
            Thread(generator, IsotropicES(generator.space, 0, population=12), Unit(0), "red"),
            Thread(generator, RandomSearch(generator.space, 0, population=8), Unit(1), "dark"),
        ],
        references="bundled",
        interleave=16,
        images=120,
        retest_repeats=4,
        save=folder,
    ).run()
    return folder


@pytest.fixture
def recording(run):
    """What that run recorded."""
    return open_recording(run)


@pytest.fixture(scope="session")
def texts():
    """All words in a figure and its parts."""

    def words(figure):
        found = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
        return " | ".join(t for t in found if t)

    return words
