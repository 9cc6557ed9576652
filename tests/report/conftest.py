"""Small runs that the tests of the report share, and a reader of HTML that is strict where browsers are not."""

from html.parser import HTMLParser

import numpy as np
import pytest

from closedloop import ImageSet, IsotropicES, RandomSearch, Session, Thread, Unit, load_optimizer
from closedloop.generators import Fourier, load_generator
from closedloop.interfaces import Units
from closedloop.protocols import present
from closedloop.subjects import load_subject

VOID = {"meta", "img", "br", "hr", "link", "input"}
#: Names as a malicious file would give them.
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>", r"$\frac{$ {{ 7*7 }}")


class Reader(HTMLParser):
    """Reads a page: its tags with attributes, its words; every tag must be closed in its turn."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self._open = [], [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        """All words, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def named(self, tag):
        """The attributes of all tags of a name."""
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="session")
def read():
    return Reader


class Noisy:
    """Two units with Gaussian noise; it loses some presentations."""

    def __init__(self, name="two-units", labels=("red", "dark"), lost=0.0, noise=1.0):
        self.name = name
        self.units = Units((f"{name}.0", f"{name}.1"), {"label": labels})
        self._rng, self._lost, self._noise = np.random.default_rng(0), lost, noise

    def record(self, images):
        red = images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))
        clean = 5 + 40 * np.stack([red, 1 - images.mean((1, 2, 3))], axis=1)
        found = clean + self._noise * self._rng.standard_normal(clean.shape)
        found[self._rng.random(len(images)) < self._lost] = np.nan
        return found


def natural(names):
    """Reference images with these names."""
    images = np.random.default_rng(0).integers(0, 256, (len(names), 3, 16, 16)) / 255
    return ImageSet(tuple(names), images.astype(np.float32))


def run_session(folder, subject, references, **settings):
    generator = Fourier(16, cutoff=3)
    settings = {"images": 120, "interleave": 4, "retest_repeats": 4, **settings}
    threads = [
        Thread(generator, IsotropicES(generator.space, 0, population=12), Unit(0), "red"),
        Thread(generator, RandomSearch(generator.space, 0, population=12), Unit(1), "dark"),
    ]
    Session(subject, threads, references=references, save=folder, **settings).run()
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Two threads, twelve references, noise, lost presentations."""
    names = [f"photo-{i:02d}" for i in range(12)]
    return run_session(tmp_path_factory.mktemp("report") / "run", Noisy(lost=0.02), natural(names))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """A run in which every name that a file can give is hostile."""
    names = [f"{name} {i}" for i in range(3) for name in HOSTILE]
    subject = Noisy(HOSTILE[0], labels=(HOSTILE[1], HOSTILE[3]))
    return run_session(tmp_path_factory.mktemp("report") / "<b>run", subject, natural(names), images=24)


@pytest.fixture(scope="session")
def gabor(tmp_path_factory):
    """A single thread on a deterministic model neuron that can be loaded by name; without references or re-test."""
    folder = tmp_path_factory.mktemp("report") / "gabor"
    generator = load_generator("fourier", resolution=16, cutoff=3)
    optimizer = load_optimizer("isotropic", generator.space, population=12)
    Session(
        load_subject("gabor", resolution=16), [Thread(generator, optimizer)],
        references=natural(["photo"]), images=36, retest_candidates=0, save=folder,
    ).run()  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """Responses to twelve images, three times each."""
    folder = tmp_path_factory.mktemp("report") / "recorded"
    present(Noisy(), natural([f"photo-{i:02d}" for i in range(12)]), repeats=3, save=folder)
    return folder
