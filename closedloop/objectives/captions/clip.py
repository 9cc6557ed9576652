"""Image–text models from local files, and the likeness of images to a caption in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError, closest, reason, require
from closedloop.interfaces import ImageTextModel
from closedloop.networks.modules import born, undisturbed
from closedloop.networks.torchvision import import_torchvision
from closedloop.networks.weights import load_weights

#: Mean and standard deviation of the colours that OpenAI's CLIP was trained with.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def caption_features(model: ImageTextModel, text: str) -> Tensor:
    """Returns the features ``(1, d)`` of a caption, without a graph.

    Raises:
        InvalidArgumentError: The model's features have another shape.
    """
    with torch.no_grad():
        return _features(model.text_features([text]), 1, "text_features")


def similarity(model: ImageTextModel, images: Any, caption: Tensor) -> Any:
    """Returns the cosine of each image with a caption.

    Args:
        model: Of images and texts.
        images: ``(n, 3, h, w)`` in [0, 1], numpy, or torch with its graph.
        caption: Features of the caption, ``(1, d)``.

    Returns:
        ``(n,)``, float64 of numpy images, a tensor of tensors.

    Raises:
        InvalidArgumentError: The model's features have another shape.
    """
    if isinstance(images, Tensor):
        return _cosine(model, images, caption)
    with torch.no_grad():
        batches = [torch.from_numpy(images[i : i + 32]) for i in range(0, len(images), 32)]
        scores = [_cosine(model, batch, caption).double().cpu().numpy() for batch in batches]
    return np.concatenate([np.empty(0), *scores])


def _cosine(model: ImageTextModel, images: Tensor, caption: Tensor) -> Tensor:
    """Returns the cosine of each image's features with those of the caption, ``(n,)``."""
    features = _features(model.image_features(images), len(images), "image_features")
    return nn.functional.cosine_similarity(features, caption.to(features), dim=1)


def _features(features: Any, n: int, name: str) -> Tensor:
    """Checks the features ``(n, d)`` of a model, and returns them.

    Raises:
        InvalidArgumentError: They have another shape, or are no tensor.
    """
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != n:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InvalidArgumentError(f"model.{name}: expected a tensor of shape ({n}, d), got {shape}.")
    return features


@final
class ClipFolder:
    """A CLIP model of transformers in a local folder, read when it is first asked.

    Args:
        folder: Holds ``config.json``, ``model.safetensors`` and the tokenizer's files.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).resolve()

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Which function of an objective's text loads it again, and from where."""
        return {"name": "clip", "folder": str(self._folder)}

    def ready(self) -> ClipFolder:
        """Reads the model, and returns itself."""
        _clip(self._folder)
        return self

    def image_features(self, images: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into features ``(n, d)``."""
        model, _, (side, mean, std) = _clip(self._folder)
        model.to(images.device)
        with undisturbed(model):
            pooled = model.vision_model(pixel_values=_prepared(images, side, mean, std)).pooler_output
            features: Tensor = model.visual_projection(pooled)
        return features

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Turns texts into features ``(m, d)``."""
        model, tokenizer, _ = _clip(self._folder)
        tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(model.device)
        with undisturbed(model):
            pooled = model.text_model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
            features: Tensor = model.text_projection(pooled)
        return features


@final
class OpenClipFile:
    """A model of open_clip with weights of a local file, read when it is first asked.

    Args:
        architecture: For instance "ViT-B-32".
        weights: ``.safetensors`` or a state dictionary ``.pt``.
    """

    def __init__(self, architecture: str, weights: str | Path) -> None:
        self._architecture, self._weights = architecture, Path(weights).resolve()

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Which function of an objective's text loads it again, and from where."""
        return {"name": "openclip", "architecture": self._architecture, "weights": str(self._weights)}

    def ready(self) -> OpenClipFile:
        """Reads the model, and returns itself."""
        _open_clip(self._architecture, self._weights)
        return self

    def image_features(self, images: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into features ``(n, d)``."""
        model, _, (side, mean, std) = _open_clip(self._architecture, self._weights)
        model.to(images.device)
        with undisturbed(model):
            features: Tensor = model.encode_image(_prepared(images, side, mean, std))
        return features

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Turns texts into features ``(m, d)``."""
        model, tokenizer, _ = _open_clip(self._architecture, self._weights)
        with undisturbed(model):
            features: Tensor = model.encode_text(tokenizer(list(texts)).to(next(model.parameters()).device))
        return features


#: Side of a model's images in pixels, mean and standard deviation of its colours.
_Preset = tuple[int, Sequence[float], Sequence[float]]


def _prepared(images: Tensor, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Brings images to a model's size and colours; images that are not square are squeezed."""
    images = images.float()
    if images.shape[2:] != (side, side):
        images = nn.functional.interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]


@lru_cache(maxsize=2)
def _clip(folder: Path) -> tuple[Any, Any, _Preset]:
    """Returns network, tokenizer and preset of a folder."""
    if not (folder / "config.json").is_file():
        raise InvalidArgumentError(f"folder: expected one with config.json and model.safetensors, got {folder}.")
    import_torchvision()
    transformers = _module("transformers", "clip")
    try:
        with _quiet(transformers):
            model: Any = born(lambda: _from_folder(transformers.CLIPModel, folder, use_safetensors=True).eval(), 0)
            tokenizer = _from_folder(transformers.CLIPTokenizerFast, folder)
            mean, std = _colours(transformers, folder)
    except Exception as error:
        raise WeightsError(f"folder: cannot read {folder} as a CLIP model ({reason(error)}).") from error
    return model, tokenizer, (int(model.config.vision_config.image_size), mean, std)


def _from_folder(kind: Any, folder: Path, **options: Any) -> Any:
    return kind.from_pretrained(str(folder), local_files_only=True, **options)


def _colours(transformers: Any, folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Returns what the folder says of its colours; OpenAI's where it says nothing."""
    if not (folder / "preprocessor_config.json").is_file():
        return MEAN, STD
    processor = transformers.CLIPImageProcessor.get_image_processor_dict(str(folder), local_files_only=True)[0]
    return processor.get("image_mean", MEAN), processor.get("image_std", STD)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keeps transformers from showing progress bars and reports meanwhile."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@lru_cache(maxsize=2)
def _open_clip(architecture: str, weights: Path) -> tuple[Any, Callable[[list[str]], Tensor], _Preset]:
    """Returns network, tokenizer and preset of an architecture."""
    import_torchvision()
    open_clip = _module("open_clip", "open-clip")
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise UnknownNameError(
            f"architecture: open_clip has no {architecture!r}.{closest(architecture, open_clip.list_models())}"
        )
    if any(key.startswith("hf_") for key in config["text_cfg"]):
        raise InvalidArgumentError(
            f"architecture: {architecture!r} takes its texts from files of Hugging Face that would be downloaded; "
            "expected one with open_clip's own, such as 'ViT-B-32'."
        )
    model = born(lambda: open_clip.create_model(architecture, load_weights=False).eval(), 0)
    load_weights(model, weights)
    visual = model.visual
    side = visual.image_size[0] if isinstance(visual.image_size, (tuple, list)) else visual.image_size
    return model, open_clip.get_tokenizer(architecture), (int(side), visual.image_mean or MEAN, visual.image_std or STD)


def _module(name: str, extra: str) -> Any:
    return require(name, extra, "captions")
