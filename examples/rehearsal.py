"""Rehearse a session at a rig: a noisy model neuron that loses presentations, two optimizers side by side.

The subject here is a function of images; at the rig it is a function that shows them and returns firing rates.

python examples/rehearsal.py
"""

import numpy as np

from closedloop import CMAES, IsotropicES, Session, Thread, summarize
from closedloop.generators import Fourier
from closedloop.subjects import EnergySubject, FunctionSubject

neuron = EnergySubject(orientation_deg=45.0, cycles_per_image=4.0, resolution=32)
rng = np.random.default_rng(0)


def rates(images: np.ndarray) -> np.ndarray:
    """Spike counts of a complex cell, 20 at half of its best response; one presentation in fifty is lost."""
    expected = 40 * neuron.record(images) / neuron.best_response(norm=None)
    counts = rng.poisson(expected).astype(float)
    counts[rng.random(len(images)) < 0.02] = np.nan
    return counts


generator = Fourier(32, cutoff=5, shell=False)
session = Session(
    FunctionSubject(rates, name="complex-cell"),
    [
        Thread(generator, CMAES(generator.space, seed=1, covariance="diagonal"), name="cma"),
        Thread(generator, IsotropicES(generator.space, seed=1), name="isotropic"),
    ],
    references="bundled",
    interleave=8,
    images=3000,
    retest_repeats=20,
)
for thread in summarize(session.run()):
    print(
        f"{thread.thread:10s} re-tested {thread.evolved}   best natural {thread.natural}   "
        f"highest single score {thread.noisy_maximum:.3g} (winner's curse {thread.curse:.2g})"
    )
