"""``closedloop train-generator``: a native generator of one's own photographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.cli.console import Meter, console, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError, closest

#: Networks whose features can steer the training.
FEATURES = ("lite1", "lite2")
#: Their layers that are compared, by the model that is trained.
LAYERS: dict[str, tuple[str, ...]] = {
    "spatial": ("bn1", "blocks.1", "blocks.2", "blocks.4"),
    "two-part": ("blocks.1", "blocks.2", "blocks.4", "blocks.6", "output"),
}


def train_generator(
    images: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of photographs.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File of weights to write, .safetensors; must be new.", show_default=False),
    ],
    given: Mapping[str, Any],
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights of a native generator to begin with, of the first model.",
            show_default="random; for the two-part model the embedded ones",
        ),
    ] = None,
    features: Annotated[
        str, typer.Option(help="Network of the feature losses, lite1 or lite2; never the subject of the study.")
    ] = FEATURES[0],
    device: Annotated[str, typer.Option(help="cpu, cuda …")] = "cpu",
) -> None:
    """Train a native generator on your own photographs; the same command goes on after a crash."""
    from closedloop.images.sets import folder_images

    if features not in FEATURES:
        raise InvalidArgumentError(f"features: expected one of {', '.join(FEATURES)}.{closest(features, FEATURES)}")
    folder_images(images)  # before torch is loaded
    import torch

    from closedloop.generators import FeatureTaps, TrainingSettings, train_native
    from closedloop.loop.settings import read_settings
    from closedloop.subjects import TorchSubject, load_subject

    settings = read_settings(TrainingSettings, given)
    with console.status("Loading the network of features …"):
        subject = load_subject(features, engine="eager")
    if not isinstance(subject, TorchSubject):
        raise InvalidArgumentError(f"features: expected a network, got {subject.name!r}.")
    taps = FeatureTaps(subject.model, LAYERS[settings.model], (0.5,) * 3, (0.5,) * 3, features)
    torch.set_flush_denormal(True)  # once weights vanish, denormal numbers make a step many times slower
    try:
        with Meter("training", settings.steps) as meter:

            def observe(step: int, losses: Mapping[str, float]) -> None:
                meter.move(step, facts="  ".join(f"{k} {v:.3f}" for k, v in losses.items()))

            train_native(images, out, taps, settings, device=device, start=start, observe=observe, progress=False)
    finally:
        torch.set_flush_denormal(False)
    say(f"Wrote {out}. Use it: closedloop.generators.load_generator('native', weights={str(out)!r})")


COMMAND = Command(train_generator, ("closedloop.generators.training_settings:TrainingSettings",))
