"""From a caption to an objective: ``CaptionObjective("a dog on grass")``.

Two ways. Without a model the caption is compared with the names of a classifier's outputs by an embedded sentence
encoder (extra `captions`), and the outputs that match are weighted: any subject with named outputs will do, with or
without gradients. With an image–text model of the user's the score is the likeness of image and caption in that model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from closedloop.checks import check_positive, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, ImageTextModel, Units
from closedloop.objectives.captions.terms import CaptionDirection, CaptionSimilarity, Match, caption_text
from closedloop.objectives.selecting import several_columns

__all__ = [
    "CaptionDirection",
    "CaptionObjective",
    "CaptionSimilarity",
    "ImageTextModel",
    "Match",
    "load_clip",
    "load_open_clip",
]


@overload
def CaptionObjective(
    text: str,
    *,
    labels: Sequence[str] | Units | None = None,
    columns: Sequence[int] | None = None,
    top: int = 8,
    temperature: float = 0.03,
    model: None = None,
) -> CaptionDirection: ...
@overload
def CaptionObjective(text: str, *, model: ImageTextModel) -> CaptionSimilarity: ...
def CaptionObjective(  # noqa: N802 - reads as the noun it makes
    text: str,
    *,
    labels: Sequence[str] | Units | None = None,
    columns: Sequence[int] | None = None,
    top: int = 8,
    temperature: float = 0.03,
    model: ImageTextModel | None = None,
) -> CaptionDirection | CaptionSimilarity:
    """Makes an objective from a caption.

    Args:
        text: For instance "a photo of a red bird".
        labels: Names of the responses, one for each column: a subject's `units`, or a list; an empty name takes no
            part. Default the 1,000 classes of ImageNet.
        columns: Where fewer responses are recorded: which of the labels each column is, ``(units,)``; of labels alone.
        top: How many of the classes take part, at the most.
        temperature: Of the softmax over similarities that gives their weights, in units of the cosine: with 0.03, 0.03
            of cosine are a factor e in weight.
        model: An image–text model, see `load_clip`; the other options do not go with it.

    Raises:
        InvalidArgumentError: An argument does not fit.
        MissingExtraError: The sentence encoder is not installed.
    """
    caption_text(text)
    if model is not None:
        if labels is not None or columns is not None:
            raise InvalidArgumentError("labels, columns: expected none beside a model, which looks at images alone.")
        return CaptionSimilarity(text, model)
    check_positive("temperature", temperature)
    names = _chosen(_names(labels), columns)
    named = [place for place, name in enumerate(names) if name]
    if not named:
        raise InvalidArgumentError("labels: expected the names of the responses, got none; give labels=[…].")
    near = _similarities(text, tuple(names[place] for place in named))
    return _direction(text, near, named, names, top, temperature)


def load_clip(folder: Any) -> ImageTextModel:
    """Loads CLIP from a local folder of Hugging Face files (extra `clip`); downloads nothing, runs no code.

    Args:
        folder: Holds ``config.json``, ``model.safetensors`` and the tokenizer's files.

    Raises:
        InvalidArgumentError: There is no such folder.
        MissingExtraError: transformers is not installed.
        WeightsError: It cannot be read.
    """
    from closedloop.objectives.captions.clip import ClipFolder

    return ClipFolder(folder).ready()


def load_open_clip(architecture: str, weights: Any) -> ImageTextModel:
    """Loads a model of open_clip with the weights of a local file (extra `open-clip`); downloads nothing.

    Args:
        architecture: For instance "ViT-B-32".
        weights: ``.safetensors``, or a state dictionary ``.pt``, read without running what it holds.

    Raises:
        InvalidArgumentError: No such architecture, or one that needs further files.
        MissingExtraError: open_clip is not installed.
        WeightsError: The weights cannot be read, or do not fit.
    """
    from closedloop.objectives.captions.clip import OpenClipFile

    return OpenClipFile(architecture, weights).ready()


def _names(labels: Sequence[str] | Units | None) -> list[str]:
    if labels is None:
        from closedloop.networks.imagenet import imagenet_classes

        return list(imagenet_classes())
    if isinstance(labels, Units):
        return [str(name) for name in labels.coords.get("label", ())]
    if isinstance(labels, str) or not all(isinstance(name, str) for name in labels):
        raise InvalidArgumentError(f"labels: expected names, one for each response, got {labels!r:.80}.")
    return list(labels)


def _chosen(names: list[str], columns: Sequence[int] | None) -> list[str]:
    """Returns the names of the responses that are recorded."""
    if columns is None:
        return names
    chosen = several_columns(columns, "columns")
    if max(chosen) >= len(names):
        raise InvalidArgumentError(f"columns: expected numbers of 0 to {len(names) - 1}, got {max(chosen)}.")
    return [names[c] for c in chosen]


def _similarities(text: str, names: tuple[str, ...]) -> FloatArray:
    """Returns how well each name fits, ``(names,)``: the mean of its own cosine and its nearest neighbours'.

    A caption of a dog is like each of a hundred breeds, but the name most like it may be another word's: of "a dog on
    grass" the grasshopper. Neighbours tell them apart. Few classes have no neighbours worth the name.
    """
    from closedloop.objectives.captions.sentence_encoder import label_features, sentence_features

    features = label_features(names)
    own: FloatArray = features @ sentence_features((text,))[0]
    k = min(5, len(names) // 20)  # so many neighbours of a class count with it
    if k == 0:
        return own
    alike = features @ features.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argpartition(-alike, k, axis=1)[:, :k]
    return np.asarray((own + own[nearest].mean(1)) / 2)


def _direction(
    text: str, near: FloatArray, columns: Sequence[int], names: Sequence[str], top: int, temperature: float
) -> CaptionDirection:
    """Puts softmax weights on the outputs that fit best, and leaves out those that round to nothing."""
    order = np.argsort(-near, kind="stable")[: check_whole("top", top, 1)]
    weights = np.exp((near[order] - near[order[0]]) / temperature)
    rounded = np.round(weights / weights.sum(), 3)  # so that the text of the objective stays short
    kept = [(columns[i], float(w)) for i, w in zip(order.tolist(), rounded, strict=True) if w > 0]
    return CaptionDirection(text, dict(kept), tuple(names[c] for c, _ in kept))
