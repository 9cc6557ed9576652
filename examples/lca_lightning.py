"""Loss change allocation in Lightning: a callback of ten lines.

pip install pytorch-lightning && python examples/lca_lightning.py
"""

from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from closedloop.protocols import LossChangeAllocation


class Watched(lightning.Callback):
    """Shares out every change of the loss over a whole set of examples.

    Args:
        data: Inputs and targets that define the loss.
    """

    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.data = data

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Begins where the network stands, on the device that Lightning has moved it to."""
        self.lca = LossChangeAllocation(module.model, cross_entropy, self.data, optimizer=trainer.optimizers[0])

    def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
        """Shares out the step that was just taken."""
        self.lca.stepped()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Ends it."""
        self.lca.finish()


class Task(lightning.LightningModule):
    """What is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(10, 30), nn.Tanh(), nn.Linear(30, 2))

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Returns the loss of a batch."""
        inputs, targets = batch
        return cross_entropy(self.model(inputs), targets)

    def configure_optimizers(self) -> Any:
        """Returns what trains it."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main() -> None:
    """Trains for two epochs and compares."""
    inputs = torch.randn(400, 10, generator=torch.Generator().manual_seed(0))
    data = inputs, (inputs[:, 0] + inputs[:, 1] ** 2 > 1).long()
    watched = Watched(data)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=2, callbacks=[watched], accelerator="cpu", **quiet)
    trainer.fit(Task(), DataLoader(TensorDataset(*data), batch_size=20, shuffle=True))
    found = watched.lca.dataset()
    change = float(found.loss[-1] - found.loss_before[0])
    print(
        f"{found.sizes['step']} steps: the loss changed by {change:.6f}, the shares add up to {watched.lca.total():.6f}"
    )


if __name__ == "__main__":
    main()
