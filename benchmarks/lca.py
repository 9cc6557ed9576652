"""Loss change allocation: what a step costs in gradients of the whole set, memory for a parameter, and error by rule.

* ``simpson_cost``: seconds of the processor of a step of `LossChangeAllocation` with the rule simpson, without its
  commits, over those of a gradient of the whole set by plain torch before and after it; the median, in theory 2.
* ``bytes_per_parameter``: the peak of the process's memory in a step of a large network with few examples, the network
  itself included, over its parameters, without commits, where the allocator gives freed pages back at once.
* ``residual``: what simpson misses of the loss's change, relative to it, of a tanh network in float64; beside it all
  rules, on networks with ReLU and with batch norm, too.

    python benchmarks/lca.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from closedloop.networks.modules import born
from closedloop.networks.small import small_network
from closedloop.protocols import LossChangeAllocation

RULES = ("first-order", "trapezoid", "simpson", "adaptive-simpson")


def examples(n: int, side: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of ten classes, each a pattern of its own in noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(10, 1, side, side, generator=generator, dtype=dtype)
    targets = torch.arange(n) % 10
    return patterns[targets] + torch.randn(n, 1, side, side, generator=generator, dtype=dtype), targets


def trained(model: nn.Module, rule: str, steps: int, rate: float, data: tuple[Any, Any], **options: Any) -> Any:
    """Shares of some steps of training, in memory."""
    lca = LossChangeAllocation(model, cross_entropy, data, rule=rule, chunk=500, every=10**6, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for i in range(steps):
        rows = (torch.arange(50) + 50 * i) % len(data[0])
        optimizer.zero_grad()
        cross_entropy(model(data[0][rows]), data[1][rows]).backward()
        with lca.step():
            optimizer.step()
    return lca.dataset()


def missed(found: Any) -> float:
    """What is missed of the loss's change, relative to it."""
    change = float(found["loss"][-1] - found["loss_before"][0])
    return abs(float(found["residual"].sum())) / abs(change)


def tanh_network(activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Module:
    """Two hidden layers of 32 units, in float64."""
    layers = (nn.Flatten(), nn.Linear(64, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 10))
    return born(lambda: nn.Sequential(*layers), 0).double()


def errors(quick: bool) -> dict[str, dict[str, float]]:
    """What each rule misses on each network."""
    steps, n = (40, 300) if quick else (150, 1500)
    double, single = examples(n, 8, torch.float64), examples(n, 8)
    networks = {
        "tanh": lambda: (tanh_network(), double, 0.05),
        "relu": lambda: (tanh_network(nn.ReLU), double, 0.05),
        "batch norm": lambda: (small_network("resnet", 1, 8, 10, 0), single, 0.1),
    }
    found: dict[str, dict[str, float]] = {}
    for name, make in networks.items():
        for rule in RULES:
            model, data, rate = make()
            found.setdefault(name, {})[rule] = missed(trained(model, rule, steps, rate, data, tolerance=1e-5))
        print(name, {rule: f"{value:.2g}" for rule, value in found[name].items()}, flush=True)
    return found


def cost(quick: bool) -> float:
    """Seconds of a step with the rule simpson over those of a gradient of the whole set."""
    n, rounds = (2000, 9) if quick else (5000, 15)
    data, model = examples(n, 16), small_network("resnet", 1, 16, 10, 0).train()
    lca = LossChangeAllocation(model, cross_entropy, data, chunk=500, every=10**6)
    parameters, ratios = list(model.parameters()), []

    def gradient() -> None:
        for part, targets in zip(data[0].split(500), data[1].split(500), strict=True):
            torch.autograd.grad(cross_entropy(model(part), targets), parameters)

    def step() -> None:
        with lca.step(), torch.no_grad():
            for p in parameters:
                p.mul_(0.999)

    for i in range(rounds + 1):
        first, own, last = (seconds(call) for call in (gradient, step, gradient))
        if i:  # the first warms up
            ratios.append(2 * own / (first + last))
    return statistics.median(ratios)


def seconds(call: Callable[[], None]) -> float:
    """Seconds of the processor that a call takes."""
    before = time.process_time()
    call()
    return time.process_time() - before


def memory() -> float:
    """Bytes of a parameter at the peak of a step, the parameter itself included, as Linux counts resident pages.

    The network has 36 million in nine layers: what a step holds of a block of parameters at a time, some 80 MB, is then
    little, and so are the copies of a layer that libraries pack for their own use.
    """
    side, depth = 2000, 9
    small = LossChangeAllocation(nn.Linear(4, 4), cross_entropy, (torch.zeros(4, 4), torch.arange(4)))
    small.stepped()  # whatever is loaded and kept with the first step
    inputs, targets = torch.zeros(4, side), torch.arange(4)
    gc.collect()
    before = resident("VmRSS")
    model = nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(depth)))
    lca = LossChangeAllocation(model, cross_entropy, (inputs, targets), every=10**6)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(3):
        for weight in model.parameters():
            weight.data.mul_(0.99)
        lca.stepped()
    return (resident("VmHWM") - before) / (depth * side**2)


def memory_of_its_own() -> float:
    """Bytes of a parameter, in a process of its own whose allocator gives freed pages back at once.

    glibc keeps some of what was freed, and how much depends on the order of all that went before.
    """
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--memory"]
    found = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
    return float(found.stdout)


def resident(name: str) -> int:
    """Bytes of this process, from /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


def main() -> None:
    """Prints all, and the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, examples and rounds")
    parser.add_argument("--memory", action="store_true", help="print the bytes of a parameter alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        print(memory())
        return
    held = memory_of_its_own()
    found = errors(options.quick)
    result = {
        "simpson_cost": round(cost(options.quick), 3),
        "bytes_per_parameter": round(held, 2),
        "residual": float(np.format_float_scientific(found["tanh"]["simpson"], 3)),
        "residuals": found,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
