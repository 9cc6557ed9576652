"""What ``closedloop train-generator`` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from closedloop.cli.console import console, progress_bar
from closedloop.errors import InvalidArgumentError, closest
from closedloop.images.sets import folder_images

#: Networks whose features can steer the training, with the normalization of their images and the layers taken.
FEATURES = ("lite1", "lite2")
LAYERS = ("bn1", "blocks.1", "blocks.2", "blocks.4")


def run_training(
    images: Path, out: Path, start: Path | None, features: str, device: str, given: dict[str, Any]
) -> None:
    """``closedloop train-generator``.

    Raises:
        InvalidArgumentError: No such network of features, no images, or a number that does not fit.
    """
    if features not in FEATURES:
        raise InvalidArgumentError(f"features: expected one of {', '.join(FEATURES)}.{closest(features, FEATURES)}")
    folder_images(images)  # before torch is loaded
    import torch

    from closedloop.generators import FeatureTaps, TrainingSettings, train_native
    from closedloop.subjects import TorchSubject, load_subject

    settings = TrainingSettings(**given)
    with console.status("Loading the network of features …"):
        subject = cast(TorchSubject, load_subject(features, engine="eager"))
    taps = FeatureTaps(subject.model, LAYERS, (0.5,) * 3, (0.5,) * 3, features)
    torch.set_flush_denormal(True)  # once weights vanish, denormal numbers make a step many times slower
    try:
        with progress_bar() as bar:
            task = bar.add_task("training", total=settings.steps, facts="")

            def observe(step: int, losses: Mapping[str, float]) -> None:
                bar.update(task, completed=step, facts="  ".join(f"{k} {v:.3f}" for k, v in losses.items()))

            train_native(images, out, taps, settings, device=device, start=start, observe=observe)
    finally:
        torch.set_flush_denormal(False)
    console.print(f"Wrote {out}. Use it: closedloop.generators.load_generator('native', weights={str(out)!r})",
                  highlight=False, markup=False)  # fmt: skip
