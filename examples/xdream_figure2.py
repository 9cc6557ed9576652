"""How far beyond natural images do evolved ones drive units, layer by layer? After Xiao & Kreiman 2020, figure 2.

They evolved 10,000 images for each of 100 units of a layer and divided by the best of some 1.4 million photographs.
Here it is fewer units, fewer images, and the 160 photographs that come with the installation, so ratios are larger.

    python examples/xdream_figure2.py [UNITS] [IMAGES]      # by default 6 units of each layer, 1,000 images each
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import closedloop
from closedloop import summarize
from closedloop.generators import load_generator
from closedloop.protocols import evolve
from closedloop.subjects import load_subject

units, images = int(sys.argv[1]) if len(sys.argv) > 1 else 6, int(sys.argv[2]) if len(sys.argv) > 2 else 1000
layers = ["blocks.1", "blocks.3", "blocks.5", "output"]
generator, ratios = load_generator("native"), {}
for layer in layers:
    subject = load_subject("lite0", layer=layer, units="all")
    ds = evolve(
        subject, generator, "auto", units=f"random:{units}", images=images, save=f"runs/xdream/{layer}", exists="resume"
    )
    ratios[layer] = np.array([thread.ratio for thread in summarize(ds)])
    above = np.mean(ratios[layer] > 1)
    print(f"{layer:10} median {np.nanmedian(ratios[layer]):.2f}, above the best photograph {100 * above:.0f} %")

with closedloop.style():
    figure = Figure(figsize=(5, 3.2))
    ax = figure.add_subplot()
    rng = np.random.default_rng(0)
    for place, layer in enumerate(layers):
        found = ratios[layer]
        ax.plot(place + rng.uniform(-0.12, 0.12, len(found)), found, "o", ms=4, alpha=0.6, color="C0")
        ax.plot([place - 0.25, place + 0.25], [np.nanmedian(found)] * 2, lw=2, color="C1")
    ax.axhline(1, ls="--", lw=1, color="0.5")
    ax.set_yscale("log")
    ax.set_xticks(range(len(layers)), layers)
    ax.set_ylabel("evolved ÷ best photograph")
    ax.set_title(f"{units} units a layer, {images:,} images each; lines are medians")
    figure.savefig("xdream_figure2.png")
