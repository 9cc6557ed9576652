"""Loss change allocation around a bare training loop: two lines more. Kill it, start it again, and it goes on.

python examples/lca_loop.py
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from closedloop.analysis import layer_allocations
from closedloop.protocols import LossChangeAllocation

STEPS, BATCH = 60, 20

random = torch.Generator().manual_seed(0)
inputs = torch.randn(400, 10, generator=random)
targets = (inputs[:, 0] + inputs[:, 1] ** 2 > 1).long()
model = nn.Sequential(nn.Linear(10, 30), nn.Tanh(), nn.Linear(30, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

shares = {"optimizer": optimizer, "carry": {"random": random}}
lca = LossChangeAllocation(model, cross_entropy, (inputs, targets), **shares, save="runs/lca", exists="resume")
for _ in range(lca.steps_done, STEPS):
    rows = torch.randint(len(inputs), (BATCH,), generator=random)
    optimizer.zero_grad()
    cross_entropy(model(inputs[rows]), targets[rows]).backward()
    with lca.step():
        optimizer.step()

found = lca.finish()
print(layer_allocations(found)[["total", "helping"]].to_dataframe())
print(f"the loss changed by {float(found.loss[-1] - found.loss_before[0]):.6f}, the shares add up to {lca.total():.6f}")
