"""A run goes on with the Python objects that it began with: what they hold is compared, their code is spoken of."""

from __future__ import annotations

import functools
import time
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from closedloop import IsotropicES, Session, Thread, open_recording
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.interfaces import Space, Units
from closedloop.loop import contents as contents_module
from closedloop.loop.contents import contents
from closedloop.protocols import present, resume
from closedloop.recipes import fingerprint, same_fingerprint
from closedloop.subjects import FunctionSubject, Lossy, TorchSubject

GAIN = 2.0


class Stop:
    def __init__(self, blocks=1):
        self.left = blocks

    def __call__(self, done, total):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt("stopped")

    begin = end = lambda self, session: None
    generation = lambda self, generation: self(0, 0)  # noqa: E731


def pictures():
    return np.random.default_rng(0).random((80, 3, 8, 8), dtype=np.float32)


def closure(weights):
    return lambda images: images.reshape(len(images), -1) @ weights


def default(weights):
    return lambda images, *, w=weights: images.reshape(len(images), -1) @ w


def given(weights):
    return functools.partial(lambda w, images: images.reshape(len(images), -1) @ w, weights)


class Callable:
    def __init__(self, weights):
        self.weights = weights

    def __call__(self, images):
        return images.reshape(len(images), -1) @ self.weights

    def respond(self, images):
        return self(images)


def bound(weights):
    return Callable(weights).respond


def of_object(weights):
    held = Callable(weights)
    return lambda images: held(images)


def layered(weights):
    params = {"name": "linear", "layers": [weights, 1]}
    return lambda images: images.reshape(len(images), -1) @ params["layers"][0]


def fitted(weights):
    model = Callable(weights)
    return lambda images: model.respond(images)


def helped(weights):
    inner = closure(weights)
    return lambda images: inner(images)


def networked(weights):
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(192, 1, bias=False)
    with torch.no_grad():
        net.weight[:] = torch.from_numpy(weights.T)
    return lambda images: net(torch.from_numpy(images).flatten(1)).detach().numpy()


WAYS = [closure, default, given, Callable, bound, of_object, layered, fitted, helped, networked]


def weights(seed):
    return np.random.default_rng(seed).standard_normal((192, 1))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Lossy(s, 0.1)], ids=["bare", "wrapped"])
def test_a_function_that_holds_other_numbers_is_refused(way, wrap, tmp_path):
    def subject(seed):
        return wrap(FunctionSubject(way(weights(seed)), name="cell"))

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(subject(0), pictures(), save=tmp_path / "run", progress=Stop())
    for call in (
        lambda other: present(other, pictures(), save=tmp_path / "run", exists="resume"),
        lambda other: resume(tmp_path / "run", subject=other),
    ):
        with pytest.raises(InvalidArgumentError, match=r"subject: expected the subject with which .* got another"):
            call(subject(1))
    assert not open_recording(tmp_path / "run").attrs["finished"]
    found = resume(tmp_path / "run", subject=subject(0)).load()
    assert found.equals(present(subject(0), pictures()))
    again = present(subject(0), pictures(), save=tmp_path / "run", exists="resume")
    assert again.load().equals(found)
    with pytest.raises(InvalidArgumentError, match=r"subject: expected the subject with which .* got another"):
        present(subject(1), pictures(), save=tmp_path / "run", exists="resume")


class Rig:
    """A rig's own class: it counts, adapts, keeps the time, and has a gain and a filter."""

    name = "rig"
    units = Units(("cell",), {})

    def __init__(self, gain, tap=1.0):
        self.gain, self.trials, self.late, self.trace, self._open = gain, 0, 0, [], object()
        self.started, self.port, self.filter = time.time(), id(self), np.array([tap])

    def record(self, images):
        self.trials += 1
        self.late += self.trials > 2
        self.trace.append(float(images.mean()))
        return self.gain * images.mean((1, 2, 3))[:, None]


class Mended(Rig):
    """The same with mended code."""

    def record(self, images):
        return self.gain * images.mean(axis=(1, 2, 3))[:, None]


def test_what_changes_in_use_is_not_compared(tmp_path):
    rig = Rig(100.0)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(rig, pictures(), save=tmp_path / "run", progress=Stop())
    with pytest.raises(InvalidArgumentError, match="its filter is not the same"):
        resume(tmp_path / "run", subject=Rig(100.0, 2.0))
    rig.trials += 5
    assert resume(tmp_path / "run", subject=rig).sizes["presentation"] == 80


class Slotted:
    __slots__ = ("_gain", "never_set")

    def __init__(self, weights):
        self._gain = weights


class Deep(Rig):
    """A rig with parts of its own."""

    def __init__(self, hold, weights, mode="sum"):
        super().__init__(1.0)
        self.parts, self.mode = hold(weights), mode


DEEP = {
    "object": lambda weights: Callable(weights),
    "objects in objects": lambda weights: Callable(Callable(Callable(weights))),
    "slots": Slotted,
    "bound method": lambda weights: Callable(weights).respond,
    "list of objects": lambda weights: [1, Callable(weights)],
    "dictionary of objects": lambda weights: {"v1": {"cell": Callable(weights)}},
    "data frame": lambda weights: pd.DataFrame(weights),
    "data array": lambda weights: xr.DataArray(weights),
}


@pytest.mark.parametrize("hold", DEEP.values(), ids=DEEP)
def test_arrays_that_lie_deep_are_compared(hold, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(Deep(hold, weights(0)), pictures(), save=tmp_path / "run", progress=Stop())
    with pytest.raises(InvalidArgumentError, match=r"subject: .* got another: its parts"):
        resume(tmp_path / "run", subject=Deep(hold, weights(1)))
    assert resume(tmp_path / "run", subject=Deep(hold, weights(0))).sizes["presentation"] == 80


def test_another_text_or_number_in_an_attribute_is_said(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(Deep(list, [1.0], "sum"), pictures(), save=tmp_path / "run", progress=Stop())
    with pytest.warns(UserWarning, match=r"subject: attributes are not .* mode was 'sum' and is 'max'. .* goes on"):
        resume(tmp_path / "run", subject=Deep(list, [1.0], "max"))
    with pytest.warns(UserWarning, match=r"mode was 'max' and is 'sum'. .* the results there are those of the former"):
        present(Deep(list, [1.0], "sum"), pictures(), save=tmp_path / "run", exists="resume")


def test_what_a_network_holds_beside_its_weights_is_compared(tmp_path):
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self, mask, power=2):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(1))
            self.mask, self.power = mask, power

        def forward(self, x):
            return (self.body(x) * float(self.mask.sum())) ** self.power

    def subject(mask, power=2):
        torch.manual_seed(0)
        net = Net(np.array([mask]), power)
        net(torch.zeros(1, 3, 8, 8))
        return TorchSubject(net, resolution=8, engine="eager")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(subject(1.0), pictures(), save=tmp_path / "run", progress=Stop())
    with pytest.raises(InvalidArgumentError, match=r"subject: .* its model.mask is not the same"):
        resume(tmp_path / "run", subject=subject(2.0))
    with pytest.warns(UserWarning, match="model.power was 2 and is 4"):
        resume(tmp_path / "run", subject=subject(1.0, 4))


def test_mended_code_is_said_and_goes_on_but_returns_no_former_results(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(Rig(100.0), pictures(), save=tmp_path / "run", progress=Stop())
    with pytest.warns(UserWarning, match="subject: its code is not that with which"):
        resume(tmp_path / "run", subject=Mended(100.0))
    with pytest.raises(InvalidArgumentError, match=r"its code is not that .* give a new folder"):
        present(Rig(100.0), pictures(), save=tmp_path / "run", exists="resume")


def test_a_fingerprint_of_its_own_is_all_that_counts(tmp_path):
    one, other = Rig(1.0), Rig(2.0)
    one.fingerprint = other.fingerprint = ""
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        present(one, pictures(), save=tmp_path / "run", progress=Stop())
    assert resume(tmp_path / "run", subject=other).sizes["presentation"] == 80


def test_globals_that_a_function_names(monkeypatch):
    before = contents(FunctionSubject(lambda images: GAIN * images.mean((1, 2, 3))))
    monkeypatch.setitem(globals(), "GAIN", 3.0)
    after = contents(FunctionSubject(lambda images: GAIN * images.mean((1, 2, 3))))
    assert before["function.GAIN"] != after["function.GAIN"]
    assert {name for name in before if before[name] != after[name]} == {"function.GAIN"}


mean, calls = 3.0, 0


def counted_calls(images):
    global calls
    calls += 1
    return images.mean((1, 2, 3))


def test_only_globals_that_are_loaded_and_not_set_are_read():
    assert set(contents(FunctionSubject(counted_calls))) == {"code"}


def test_code_of_installed_packages_is_not_read():
    assert set(contents(FunctionSubject(functools.partial(np.mean, axis=(1, 2, 3))))) <= {"function.axis"}
    held = functools.partial(lambda stub, images: images.mean((1, 2, 3)), np.random.default_rng(0))
    alone = lambda stub, images: images.mean((1, 2, 3))  # noqa: E731
    assert contents(FunctionSubject(held)) == contents(FunctionSubject(alone))


class Proxy:
    """It answers to any name, as a proxy of an object elsewhere does."""

    name = "proxy"

    def __getattr__(self, name):
        raise AssertionError(f"it was asked for {name}") if name == "fingerprint" else AttributeError(name)


def test_a_fingerprint_counts_where_it_is_declared_and_a_text():
    class Stated:
        fingerprint = property(lambda self: "abc")

    class Odd:
        name, fingerprint = "odd", 3

    def held(thing):
        return contents(FunctionSubject(lambda images: thing)).keys() - {"code"}

    assert not held(Proxy())
    assert not held(MagicMock())
    assert not held(Odd())
    assert held(Stated()) == {"function.thing"}
    assert contents(Stated()) == {}
    assert fingerprint(Proxy()) == fingerprint(Odd()) == ""


def test_long_lists_and_large_arrays_are_sampled(monkeypatch):
    def told(thing):
        return contents(FunctionSubject(lambda images: thing))["function.thing"]

    numbers = list(range(30_001))
    assert told(numbers) == told([*numbers])
    assert told(numbers) != told([*numbers, 1])
    assert told(numbers) != told([-1, *numbers[1:]])
    monkeypatch.setattr(contents_module, "_LARGEST", 1000)
    monkeypatch.setattr(contents_module, "_SAMPLE", 100)
    large = np.arange(400.0).reshape(20, 20)
    assert told(large) == told(large.copy()) == told(np.asfortranarray(large))
    assert (
        len({told(large), told(large[:19]), told(large.reshape(400)), told(large + 1), told(large.astype("f4"))}) == 5
    )


def test_runs_in_memory_are_not_read(monkeypatch):
    def read(part):
        raise AssertionError("it was read")

    monkeypatch.setattr(contents_module, "contents", read)
    assert present(Rig(1.0), pictures()).sizes["presentation"] == 80


def test_nothing_is_called_and_the_unreadable_says_nothing():
    class Animal:
        name, units = "animal", Units(("cell",), {})

        def __init__(self):
            self.cable = open  # a function of C
            self.loop = [self]
            self.things = np.array([object()])

        def record(self, images):
            raise AssertionError("it was called")

    assert set(contents(Animal())) == {"code"}


class Made:
    """A generator of the user's."""

    name, space, resolution = "made", Space(4), 8

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, codes):
        return (1 / (1 + np.exp(-codes @ self.weights))).reshape(-1, 3, 8, 8).astype(np.float32)


class Liking:
    """An objective of the user's."""

    def __init__(self, weight):
        self.weight = np.array([weight])

    def __call__(self, responses):
        return self.weight * responses[:, 0]

    def describe(self):
        return "liking"


def evolved(folder, seed=0, weight=1.0, stop=None, exists="resume", subject=None):
    generator = Made(np.random.default_rng(seed).standard_normal((4, 192)))
    thread = Thread(generator, IsotropicES(generator.space, seed=1, population=6), Liking(weight), "main")
    subject = subject or FunctionSubject(closure(weights(0)), name="cell")
    return Session(subject, [thread], references=None, images=30, save=folder, exists=exists,
                   observers=[stop] if stop else []).run()  # fmt: skip


def test_a_rig_made_afresh_goes_on_though_it_began_to_count_late(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        evolved(tmp_path / "run", stop=Stop(4), subject=Rig(100.0))
    found = evolved(tmp_path / "run", subject=Rig(100.0)).load()
    assert found.equals(evolved(None, exists="fail", subject=Rig(100.0)))


def test_generators_and_objectives_of_the_users(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        evolved(tmp_path / "run", stop=Stop(2))
    for _ in range(2):  # under way and finished
        with pytest.raises(InvalidArgumentError, match="generator of main: expected the generator of main with which"):
            evolved(tmp_path / "run", seed=1)
        with pytest.raises(InvalidArgumentError, match=r"objective of main: .* its weight is not the same"):
            evolved(tmp_path / "run", weight=2.0)
        found = evolved(tmp_path / "run").load()
    assert found.equals(evolved(None, exists="fail"))
    assert found["generator_sha256"].values[0]


def test_a_generator_of_the_users_is_told_by_its_images(tmp_path):
    generator = Made(np.random.default_rng(0).standard_normal((4, 192)))
    assert fingerprint(generator) == fingerprint(Made(generator.weights.copy()))
    assert fingerprint(generator) != fingerprint(Made(2 * generator.weights))
    assert fingerprint(Fourier(16, 2)) != fingerprint(Fourier(16, 3))

    class Elsewhere(Made):
        def __call__(self, codes):
            return np.clip(super().__call__(codes) + np.float32(0.006), 0, 1)

    here, there, other = (
        fingerprint(made) for made in (generator, Elsewhere(generator.weights), Made(1.1 * generator.weights))
    )
    assert here != there
    assert same_fingerprint(here, there)
    assert not same_fingerprint(here, other)
    assert not same_fingerprint(here, "0" * 64)
    assert not same_fingerprint(here, here.replace("2x3x8x8", "2x3x4x16"))

    class Moody(Made):
        def __call__(self, codes):
            return np.random.default_rng().random((len(codes), 3, 8, 8)).astype(np.float32)

    assert fingerprint(Moody(generator.weights)) == ""
