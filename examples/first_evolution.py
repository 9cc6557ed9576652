"""Evolve an image for one class unit of EfficientNet-Lite0 and print what was found.

python examples/first_evolution.py [IMAGES]
"""

import sys

from closedloop import load_optimizer, open_recording, summarize
from closedloop.generators import load_generator
from closedloop.protocols import evolve
from closedloop.subjects import load_subject

images = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
subject = load_subject("lite0", layer="output", units=[980])
generator = load_generator("native")
optimizer = load_optimizer("auto", generator.space, seed=0, images=images)
evolve(subject, generator, optimizer, images=images, save="runs/first")

for thread in summarize(open_recording("runs/first")):
    print(f"{thread.target}: evolved {thread.evolved}, best natural {thread.natural}, ratio {thread.ratio:.2f}")
