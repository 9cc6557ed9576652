"""The four trainings of Lan, Liu, Zhou & Yosinski (2019), for those who have MNIST and CIFAR-10.

Their files are looked for in the folder ``data``, or in the one that the variable ``CLOSEDLOOP_DATA`` names: those of
MNIST as they are published (IDX), of CIFAR-10 the binary version. For instance:

closedloop lca --config examples/lca_mnist_fc.yaml --script examples/lca_paper.py:mnist_fc
closedloop lca --config examples/lca_mnist_lenet.yaml --script examples/lca_paper.py:mnist_lenet
closedloop lca --config examples/lca_cifar_allcnn.yaml --script examples/lca_paper.py:cifar_allcnn
closedloop lca --config examples/lca_cifar_resnet20.yaml --script examples/lca_paper.py:cifar_resnet20

Each step takes two gradients of the whole training set, and as many of the validation set: hours, on a GPU.
``--subset`` takes fewer examples. Batches of 250, SGD with momentum 0.9; the loss that is shared out is that of the
whole training set, in chunks as there.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from closedloop.errors import InvalidArgumentError
from closedloop.images.published import LabelledArrays, read_cifar10, read_mnist
from closedloop.networks.published import published_network
from closedloop.protocols import Training
from closedloop.protocols.train import batch_rows

BATCH, MOMENTUM = 250, 0.9
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def mnist_fc(seed: int) -> Training:
    """784-100-50-10."""
    return training("mnist-fc", read_mnist(folder()), 1 / 12, 0.01, seed)


def mnist_lenet(seed: int) -> Training:
    """LeNet with dropout."""
    return training("mnist-lenet", read_mnist(folder()), 1 / 12, 0.01, seed)


def cifar_allcnn(seed: int) -> Training:
    """The all-convolutional network."""
    return training("cifar-allcnn", read_cifar10(folder()), 1 / 10, 0.01, seed)


def cifar_resnet20(seed: int) -> Training:
    """ResNet-20."""
    return training("cifar-resnet20", read_cifar10(folder()), 1 / 10, 0.1, seed)


def folder() -> Path:
    """Where the files are looked for.

    Raises:
        InvalidArgumentError: There is no such folder.
    """
    place = Path(os.environ.get("CLOSEDLOOP_DATA", "data"))
    if not place.is_dir():
        raise InvalidArgumentError(
            f"CLOSEDLOOP_DATA: expected the folder with the files of MNIST or CIFAR-10, got {place}, which is none. "
            "Nothing is fetched: put them there, or set this variable to where they are."
        )
    return place


def training(network: str, data: LabelledArrays, held_out: float, rate: float, seed: int) -> Training:
    """Makes a training of a network, with a part of the training set held out for validation."""
    mean, deviation = data.x.mean((0, 2, 3), keepdims=True) / 255, data.x.std((0, 2, 3), keepdims=True) / 255
    x = torch.from_numpy(((data.x / np.float32(255) - mean) / deviation).astype(np.float32)).to(DEVICE)
    y = torch.from_numpy(data.y).to(DEVICE)
    order = np.random.default_rng(0).permutation(len(x))
    cut = round(held_out * len(x))
    validation, train = ((x[rows], y[rows]) for rows in (order[:cut], order[cut:]))
    batch = min(BATCH, len(train[0]))
    model = published_network(network, seed).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM)

    def learn(step: int) -> None:
        rows = batch_rows(seed, step, batch, len(train[0]))
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.random.fork_rng(devices=[0] if DEVICE == "cuda" else []):
            torch.manual_seed(seed * 10**7 + step)  # what dropout draws follows from the number of the step
            cross_entropy(model(train[0][rows]), train[1][rows]).backward()

    return Training(model, cross_entropy, train, optimizer, learn, losses={"validation": validation})
