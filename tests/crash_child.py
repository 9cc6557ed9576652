"""A process that runs small evolutions in forks of itself, each of which can be killed at any moment.

It reads one JSON command a line (``{"action": "run", "folder": …}``) and answers on stdout: the fork's process id, a
line after each commit, and how the fork ended. One import of the libraries serves all the kills. It imports numpy,
xarray and zarr; torch only where it is called with the argument "torch".
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the small runs of other tests

from closedloop import CMAES, IsotropicES, Session, Thread, Unit, Units, files
from closedloop.generators import Fourier, Pixels
from closedloop.protocols import present, resume
from closedloop.recording import chunks
from closedloop.seeds import generator_state, named_generator, restore_generator

UNITS = 2
SIDE = 16


class NoisyCells:
    """Linear cells with noise, adaptation and lost trials; what they answer next depends on all that came before."""

    name = "noisy-cells"
    units = Units(("noisy.0", "noisy.1"), {"layer": ("a", "b"), "rf_size": (1.5, 2.5)})

    def __init__(self):
        self._rng = named_generator(3, "noise")
        self._filters = named_generator(4, "filters").standard_normal((3 * SIDE**2, UNITS)) / SIDE
        self._adaptation = np.zeros(UNITS)

    def record(self, images):
        drive = (images.reshape(len(images), -1) - 0.5).astype(float) @ self._filters
        noise = self._rng.standard_normal(drive.shape)
        lost = self._rng.random(len(images)) < 0.1
        answer = drive + 0.3 * noise - self._adaptation
        answer[lost] = np.nan
        self._adaptation = 0.9 * self._adaptation + 0.1 * drive.mean(0)
        return answer

    def state(self):
        return {"rng": generator_state(self._rng), "adaptation": self._adaptation}

    def restore(self, state):
        restore_generator(self._rng, state["rng"])
        self._adaptation = np.array(state["adaptation"])


class Told:
    """Reports each commit."""

    def begin(self, session):
        say("begins")

    def generation(self, generation):
        say("committed")

    def end(self, session):
        pass


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def threads():
    """Two evolutions of different resolution, code length and algorithm."""
    fourier, pixels = Fourier(resolution=SIDE, cutoff=3), Pixels(resolution=8)
    return [
        Thread(fourier, CMAES(fourier.space, seed=1, population=6), Unit(0), "full"),
        Thread(pixels, IsotropicES(pixels.space, seed=2, population=5), Unit(1) - 0.5 * Unit(0), "isotropic"),
    ]


def session(folder, references):
    return Session(
        NoisyCells(), threads(), references=references, save=folder, observers=[Told()], seed=5,
        images=66, repeats=2, interleave=2, retest_candidates=2, retest_repeats=3, keep="all",
    )  # fmt: skip


def seers():
    """Two evolutions that look at images: `auto` with eyes, and a twin, each with a small network's activations."""
    from closedloop import load_optimizer

    pixels = Pixels(resolution=SIDE)
    makes = {"auto": {"population": 8}, "twin": {"population": 8, "initial": 8}}
    return [
        Thread(pixels, load_optimizer(name, pixels.space, 4, features=network(), **options), Unit(i), name)
        for i, (name, options) in enumerate(makes.items())
    ]


def seeing(folder, references):
    return Session(
        NoisyCells(), seers(), references=references, save=folder, observers=[Told()], seed=5, images=48,
        interleave=2, retest_candidates=2, retest_repeats=2,
    )  # fmt: skip


def perform(command):
    folder, references = Path(command["folder"]), command["references"]
    if command.get("die_at") is not None:
        die_at(command["die_at"], command["before"], command.get("ending", ""))
    if command["action"] == "run":
        session(folder, references).run()
    elif command["action"] == "resume":
        resume(folder, subject=NoisyCells(), observers=[Told()], progress=lambda done, total: say("committed"))
    elif command["action"] == "climb":
        from closedloop.protocols import ascend

        ascend(
            network(), method="lucid", unit=[0, 2], seed=5, references=references, save=folder, observers=[Told()],
            steps=12, every=2,
        )  # fmt: skip
    elif command["action"] == "climb on":
        resume(folder, subject=network(), observers=[Told()])
    elif command["action"] == "see":
        seeing(folder, references).run()
    elif command["action"] == "see on":
        resume(folder, subject=NoisyCells(), threads=seers(), observers=[Told()])
    elif command["action"] == "small":
        from tests import small_runs

        small_runs.run(command["name"], folder, "resume")
    elif command["action"] == "export":
        from closedloop.formats import export

        export(folder, command["to"], command["out"])
    elif command["action"] == "pack":
        from closedloop.recording import pack

        pack(folder, command["out"])
    elif command["action"] == "train":
        train(folder, Path(command["references"]))
    elif command["action"] == "poll":
        poll(folder)
    elif command["action"] == "present":
        present(NoisyCells(), references, resolution=SIDE, repeats=40, save=folder, seed=5)


def poll(folder):
    """Opens the newest run of a folder again and again, until a file says that all is done."""
    from closedloop import open_recording

    done = False
    while not done:
        done = (folder / "done").exists()  # asked first, so that all is read once more
        newest = max((run for run in folder.iterdir() if (run / "COMMITTED.json").exists()), default=None)
        if newest is not None:
            open_recording(newest).load()
            say("committed")


def train(out, photographs):
    """Trains a small generator for a few steps, each of which is committed."""
    import torch
    from torch import nn

    from closedloop.generators import FeatureTaps, TrainingSettings, learning, training
    from closedloop.networks.modules import born

    torch.set_num_threads(1)
    training.COMMIT_STEPS, learning.quicker_precision = 1, lambda device: "single"
    taps = FeatureTaps(born(lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1)), 1), ("0",), (0.5,) * 3, (0.5,) * 3, "one")
    settings = TrainingSettings(steps=4, batch=2, resolution=64, crops=2, draws_start=1)
    training.train_native(photographs, out, taps, settings)


def network():
    """All outputs of a small torch network."""
    import torch
    from torch import nn

    from closedloop.networks.modules import born
    from closedloop.subjects import TorchSubject

    torch.set_num_threads(1)
    net = born(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14**2, 3)), 1)
    return TorchSubject(net, resolution=SIDE, engine="eager", name="small")


def die_at(count, before, ending):
    """Kills this process at its n-th change of a file whose name has this ending.

    A change is a renaming to that name, or a writing into it in place. It dies just before or just after; in place also
    half way, where `before` says so.
    """
    rename, write, left = os.replace, files.write_at, [count]

    def due(path):
        left[0] -= str(path).endswith(ending)
        return left[0] < 0

    def replace(source, target):
        dies = due(target)
        if dies and before:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    def write_at(path, offset, data):
        dies = due(path)
        write(path, offset, data[: len(data) // 2] if dies and before else data)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace, chunks.write_at = replace, write_at


def main():
    if "torch" in sys.argv:
        import torch  # noqa: F401 - before the forks, which then need not
    # A kill is no power cut: what was written stays, and more kills fit in a minute.
    os.fsync = os.fdatasync = lambda descriptor: None
    say("ready")
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                perform(command)
                code = 0
            except Exception:  # noqa: BLE001 - shown, and told by the exit code
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        say(f"pid {child}")
        say(f"ended {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


if __name__ == "__main__":
    main()
