"""Rehearse a session at a rig: a noisy model neuron that loses presentations, two optimizers side by side.

The subject here is a model; at the rig it is a function that shows images and returns firing rates.

python examples/rehearsal.py
"""

from closedloop import CMAES, IsotropicES, Session, Thread, summarize
from closedloop.generators import Fourier
from closedloop.subjects import Drift, EnergySubject, Lossy, Poisson

# A complex cell with 20 spikes at half of its best response, which drifts as recorded neurons do; one presentation in
# fifty is lost.
neuron = EnergySubject(orientation_deg=45.0, cycles_per_image=4.0, resolution=32)
subject = Lossy(Poisson(Drift(neuron), spikes=40, best=neuron.best_response(norm=None)), rate=0.02)

generator = Fourier(32, cutoff=5, shell=False)
session = Session(
    subject,
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
