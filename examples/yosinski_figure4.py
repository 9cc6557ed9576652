"""What units of eight layers want to see, by gradients with regularizers. After Yosinski et al. 2015, figure 4.

Their figure shows units of every layer of CaffeNet, each several times, by four sets of regularizers that people
chose. Here are the same four sets on units of a network of today.

    python examples/yosinski_figure4.py [STEPS]      # by default 200 steps
"""

import sys

from matplotlib.figure import Figure

import closedloop
from closedloop.protocols import ascend
from closedloop.subjects import load_subject

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
layers = ["bn1", *(f"blocks.{number}" for number in range(6)), "output"]
units = dict(zip(layers, (10, 3, 5, 7, 20, 30, 60, 292), strict=True))
sets = [f"yosinski-{number}" for number in (1, 2, 3, 4)]

with closedloop.style():
    figure = Figure(figsize=(1.5 * len(units), 1.7 * len(sets)))
    grid = figure.subplots(len(sets), len(units))
for column, (layer, unit) in enumerate(units.items()):
    subject = load_subject("lite0", layer=layer, units=[unit])
    for row, method in enumerate(sets):
        run = f"runs/yosinski/{layer}-{method}"
        found = ascend(subject, method=method, unit=0, steps=steps, save=run, exists="resume", progress=False)
        grid[row, column].imshow(found["image"].squeeze().transpose("row", "col", "rgb"))
        grid[row, column].axis("off")
        grid[row, column].set_title(f"{layer}, {unit}" if row == 0 else "", fontsize=8)
    print(layer, "done", flush=True)
figure.savefig("yosinski_figure4.png")
