"""What the units of a small convolutional network want to see while it learns digits, and what its layers come to.

python examples/development.py

The function `made` is a training of one's own; it is also followed by

closedloop develop --script examples/development.py:made --layers 0,3,output --units 0-3 --steps 200
closedloop lca --script examples/development.py:made --steps 200
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from closedloop.analysis import layer_table
from closedloop.figures import plot_development
from closedloop.networks.modules import born
from closedloop.protocols import Training, develop


def made(seed: int) -> Training:
    """Makes network, data and optimizer, and says how a step is learnt. The batch follows from the step's number."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    x = torch.from_numpy(digits.images[order][:, None].astype(np.float32) / 16)
    y = torch.from_numpy(digits.target[order])
    model = born(
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)),
        ),
        seed,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train, validation = (x[:1500], y[:1500]), (x[1500:], y[1500:])

    def learn(step: int) -> None:
        rows = np.random.default_rng([seed, step]).choice(1500, 50, replace=False)
        optimizer.zero_grad()
        cross_entropy(model(train[0][rows]), train[1][rows]).backward()

    return Training(model, cross_entropy, train, optimizer, learn, losses={"validation": validation})


if __name__ == "__main__":
    looks = {"steps": 60, "at": (0, 10, 30, 60), "layers": "3,output", "units": "0-3", "images": 200, "subset": 500}
    found = develop(made(0), **looks, progress=True)
    for layer in ("3", "output"):
        print(f"layer {layer}, medians over its units")
        print(layer_table(found, layer).to_dataframe().round(2).to_string())
    plot_development(found).savefig("development.png")
    print("What they want to see: development.png")
