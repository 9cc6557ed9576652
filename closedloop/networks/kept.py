"""Small networks in files: their weights, what their images look like, and what was done to them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from closedloop.errors import WeightsError, reason
from closedloop.files import complete
from closedloop.networks.small import SMALL, hold_channels, remove_layer, small_network

#: Name of a network's file in the folder of a run.
NETWORK = "network.safetensors"
#: Entry of the file's header.
_FACTS = "closedloop"


@dataclass(frozen=True)
class Facts:
    """What must be known of a small network besides its weights.

    Attributes:
        network: Its name, see `closedloop.networks.small.SMALL`.
        side: Height and width of its images in pixels, RGB.
        classes: What its outputs are called.
        mean: Of its images, all colours; it is subtracted.
        deviation: Their standard deviation, which divides.
        steps: Steps that it was trained; 0 where that is not known.
        seed: Of its weights and batches; −1 where that is not known.
        removed: Layers in whose place the identity stands.
        held: Layer of which channels are held at their means; "" for none.
        channels: Which.
    """

    network: str
    side: int
    classes: tuple[str, ...]
    mean: float
    deviation: float
    steps: int = 0
    removed: tuple[str, ...] = ()
    held: str = ""
    channels: tuple[int, ...] = ()
    seed: int = -1


def built(facts: Facts, seed: int = 0, places: tuple[int, ...] = ()) -> nn.Module:
    """Returns a new network with random weights, and with what was done to one.

    Args:
        facts: What it is like.
        seed: Of the weights.
        places: Shape of the map of the layer that is held.
    """
    model = small_network(facts.network, 3, facts.side, len(facts.classes), seed)
    for layer in facts.removed:
        remove_layer(model, layer, torch.zeros(2, 3, facts.side, facts.side))
    if facts.held:
        hold_channels(model, facts.held, facts.channels, torch.zeros(max(facts.channels) + 1, *places))
    return model


def restored(facts: Facts, tensors: dict[str, Tensor]) -> nn.Module:
    """Returns the network of some weights.

    Raises:
        RuntimeError: They are those of another one.
    """
    means = tensors.get(f"{facts.held}.held.means")
    model = built(facts, places=() if means is None else tuple(means.shape[1:]))
    model.load_state_dict(tensors)
    return model.eval()


def write_network(path: Path, model: nn.Module, facts: Facts) -> None:
    """Writes a network into a file, ``.safetensors``, which takes the place of one that is there.

    Raises:
        RecordingError: It cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = save(tensors, {_FACTS: json.dumps(asdict(facts))})
    with complete(path, replace=True, argument="save") as temporary:
        temporary.write_bytes(data)


def read_network(path: str | Path) -> tuple[nn.Module, Facts]:
    """Returns the network of a file, in evaluation mode, and what is known of it.

    Args:
        path: The file, or the folder of a run with one.

    Raises:
        WeightsError: There is none, or it is no network that `write_network` wrote.
    """
    place = Path(path)
    place = place / NETWORK if place.is_dir() else place
    if not place.is_file():
        raise WeightsError(f"network: expected a run of treat, or its {NETWORK}, got {path}; it has none.")
    from safetensors import safe_open

    try:
        with safe_open(place, "pt") as file:
            header = json.loads((file.metadata() or {})[_FACTS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        told: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in header.items()}
        facts = Facts(**told)
        if facts.network not in SMALL:
            raise ValueError(f"no network {facts.network!r}")
        return restored(facts, tensors), facts
    except Exception as error:
        raise WeightsError(f"network: cannot read {place} as a network of treat ({reason(error)}).") from error
