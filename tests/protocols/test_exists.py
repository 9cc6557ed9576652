"""`exists="resume"`: for every protocol the same call begins a run, goes on with it, and returns a finished one."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import Thread
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.generators import Fourier
from closedloop.loop.session import Session
from closedloop.optimizers import load_optimizer
from closedloop.protocols import ascend, evolve, evolve_elites, landscape, present
from closedloop.recording.reader import open_recording, read_pointer
from closedloop.subjects import FunctionSubject, GaborSubject, Poisson
from tests.small_runs import RUNS, call_again, cut_off, finished
from tests.small_runs import run as small_run


class Stop:
    """Interrupts a run when some blocks are committed."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks

    def begin(self, session) -> None:
        pass

    def generation(self, generation) -> None:
        self(0, 0)

    def end(self, session) -> None:
        pass

    def __call__(self, done: int, total: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt("stopped")


def noisy():
    return Poisson(GaborSubject(resolution=16), spikes=20, best=1.0, seed=2)


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((150, 3, 16, 16), dtype=np.float32)


def evolved(stop=None, budget: int = 120, **options):
    generator = Fourier(16, 3)
    optimizer = load_optimizer("auto", generator.space, seed=1)
    watching = [] if stop is None else [stop]
    references = images()[:4]
    return evolve(noisy(), generator, optimizer, references=references, images=budget, observers=watching, **options)


def two_threads(stop=None, budget: int = 80, **options):
    generator = Fourier(16, 3)
    threads = [Thread(generator, load_optimizer(n, generator.space, seed=1), name=n) for n in ("isotropic", "cma")]
    watching = [] if stop is None else [stop]
    return Session(noisy(), threads, images=budget, observers=watching, **options).run()


def presented(stop=None, budget: int = 1, **options):
    return present(noisy(), images(), repeats=budget, progress=stop, **options)


def landscaped(stop=None, budget: int = 5, **options):
    generator = Fourier(16, 3)
    center = np.random.default_rng(0).standard_normal(generator.space.dim)
    planes = [("random", "random")] * 3
    return landscape(noisy(), generator, center, planes=planes, steps=budget + 2, progress=stop, **options)


def elites(stop=None, budget: int = 60, **options):
    pytest.importorskip("ribs")
    subject = GaborSubject(resolution=16, count=4)
    return evolve_elites(subject, Fourier(16, 3), images=budget, children=10, progress=stop, **options)


def climbed(stop=None, budget: int = 12, **options):
    pytest.importorskip("torch")
    watching = [] if stop is None else [stop]
    subject = GaborSubject(resolution=16)
    return ascend(subject, Fourier(16, 3), "adam", steps=budget, every=2, observers=watching, **options)


PROTOCOLS = [evolved, two_threads, presented, landscaped, elites, climbed]


@pytest.mark.parametrize("run", PROTOCOLS, ids=lambda f: f.__name__)
def test_the_same_call_begins_goes_on_and_returns(run, tmp_path):
    whole = run()
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        run(Stop(2), save=tmp_path / "run", exists="resume")
    assert not read_pointer(tmp_path / "run")["finished"]
    on = run(save=tmp_path / "run", exists="resume")
    again = run(save=tmp_path / "run", exists="resume")
    for found in (on, again):
        assert found.sizes == whole.sizes
        for name in whole.data_vars:
            np.testing.assert_array_equal(found[name].values, whole[name].values, err_msg=name)


@pytest.mark.parametrize("run", PROTOCOLS, ids=lambda f: f.__name__)
def test_another_experiment_is_refused(run, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        run(Stop(1), save=tmp_path / "run")
    before = open_recording(tmp_path / "run").sizes["presentation"]
    with pytest.raises(RecordingError, match=r"another experiment: .* there, and .* here"):
        run(budget={"presented": 3, "landscaped": 7}.get(run.__name__, 500), save=tmp_path / "run", exists="resume")
    with pytest.raises(RecordingError, match="save: expected a new or empty folder"):
        run(save=tmp_path / "run")
    assert open_recording(tmp_path / "run").sizes["presentation"] == before


def test_other_images_of_the_same_names_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(noisy(), images(0), progress=Stop(1), save=tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match="images: expected the images with which"):
        present(noisy(), images(1), save=tmp_path / "run", exists="resume")


def test_a_folder_that_moved(tmp_path):
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(70):
        Image.fromarray(np.full((16, 16, 3), i * 3, np.uint8)).save(folder / f"{i:02d}.png")
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(noisy(), folder, resolution=16, progress=Stop(1), save=tmp_path / "run")
    folder.rename(tmp_path / "moved")
    found = present(noisy(), tmp_path / "moved", resolution=16, save=tmp_path / "run", exists="resume")
    assert found.sizes["presentation"] == 70


def test_a_subject_that_lost_its_state(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(noisy(), images(), progress=Stop(1), save=tmp_path / "run")
    from closedloop.protocols import resume

    plain = FunctionSubject(lambda shown: shown.mean((1, 2, 3))[:, None], units=noisy().units)
    with pytest.raises(InvalidArgumentError, match=r"subject: .*(no state|got another)"):
        resume(tmp_path / "run", subject=plain)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", RUNS)
def test_of_every_protocol_the_same_call_goes_on_and_then_returns(name, tmp_path, tmp_path_factory):
    whole = open_recording(finished(name, tmp_path_factory.getbasetemp())).load()
    cut_off(name, tmp_path / "run")
    assert not read_pointer(tmp_path / "run")["finished"]
    call_again(name, tmp_path / "run")
    on = open_recording(tmp_path / "run").load()
    assert on.sizes == whole.sizes
    for data in whole.data_vars:
        np.testing.assert_array_equal(on[data].values, whole[data].values, err_msg=data)

    def kept():  # of each file when it was last written, but for the lock, which is taken to look
        return {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != "LOCK"}

    before = kept()
    call_again(name, tmp_path / "run")
    assert kept() == before
    with pytest.raises(RecordingError, match="save: expected a new or empty folder"):
        small_run(name, tmp_path / "run")
