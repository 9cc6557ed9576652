"""What a subject is shown of a photograph while gradients are taken: nine pictures of each published view.

python examples/views.py [FILE]
"""

import sys

import numpy as np
import torch
from PIL import Image

from closedloop.gradients import views
from closedloop.images.eight_bit import to_bytes
from closedloop.images.sets import natural_references

SIDE, GAP, COLUMNS = 96, 4, 9
photograph = torch.from_numpy(natural_references(512).images[27:28])
small = views.Resize(128)(photograph, 0, np.random.default_rng(0))
dream = views.deepdream_view()
rows = [
    (views.Whole(), small, 0),
    (views.Chain((views.Repeat(COLUMNS), views.lucid_view())), small, 0),
    *((views.maco_view(copies=COLUMNS), photograph, step) for step in (0, 100, 200, 255)),
    (views.accentuation_view(copies=COLUMNS), photograph, 0),
    *((dream, photograph, step) for step in range(0, 40, 10)),
    *((views.vit_view(copies=COLUMNS), small, step) for step in (0, 300)),
]

rng = np.random.default_rng(0)
sheet = np.ones((3, len(rows) * (SIDE + GAP), COLUMNS * (SIDE + GAP)), np.float32)
for i, (view, image, step) in enumerate(rows):
    pictures = views.Resize(SIDE)(view(image, step, rng), 0, rng).clamp(0, 1).numpy()
    for j, picture in enumerate(pictures):
        y, x = i * (SIDE + GAP), j * (SIDE + GAP)
        sheet[:, y : y + SIDE, x : x + SIDE] = picture
Image.fromarray(to_bytes(sheet).transpose(1, 2, 0)).save(sys.argv[1] if len(sys.argv) > 1 else "views.jpg")
