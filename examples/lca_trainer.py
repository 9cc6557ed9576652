"""Loss change allocation in Hugging Face's Trainer: a callback of ten lines.

pip install transformers accelerate && python examples/lca_trainer.py
"""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from closedloop.protocols import LossChangeAllocation


class Watched(TrainerCallback):
    """Shares out every change of the loss over a whole set of examples.

    Args:
        data: Inputs, by the names of the network's arguments, and targets.
    """

    def __init__(self, data: tuple[dict[str, Tensor], Tensor]) -> None:
        self.data = data

    def on_train_begin(self, *rest: Any, model: nn.Module, optimizer: Any = None, **more: Any) -> None:
        """Begins where the network stands, on the device that the Trainer has moved it to."""

        def loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
            return cross_entropy(outputs["logits"], targets)

        self.lca = LossChangeAllocation(model, loss, self.data)

    def on_step_end(self, *rest: Any, **more: Any) -> None:
        """Shares out the step that was just taken."""
        self.lca.stepped()

    def on_train_end(self, *rest: Any, **more: Any) -> None:
        """Ends it."""
        self.lca.finish()


class Network(nn.Module):
    """What is trained: a network as the Trainer expects it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 30), nn.Tanh(), nn.Linear(30, 2))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Returns outputs, and the loss where labels are given."""
        logits = self.layers(x)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}


class Examples(Dataset[dict[str, Tensor]]):
    """Rows of inputs and targets."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": self.inputs[i], "labels": self.targets[i]}


def main() -> None:
    """Trains for two epochs and compares."""
    inputs = torch.randn(400, 10, generator=torch.Generator().manual_seed(0))
    targets = (inputs[:, 0] + inputs[:, 1] ** 2 > 1).long()
    watched = Watched(({"x": inputs}, targets))
    with tempfile.TemporaryDirectory() as folder:
        told = TrainingArguments(
            folder,
            num_train_epochs=2,
            per_device_train_batch_size=20,
            learning_rate=0.01,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(Network(), told, train_dataset=Examples(inputs, targets), callbacks=[watched]).train()
    found = watched.lca.dataset()
    change = float(found.loss[-1] - found.loss_before[0])
    print(
        f"{found.sizes['step']} steps: the loss changed by {change:.6f}, the shares add up to {watched.lca.total():.6f}"
    )


if __name__ == "__main__":
    main()
