"""A caption as an objective: a weighted direction of a classifier's outputs, or the likeness to an image–text model.

`closedloop.objectives.captions.objective.CaptionObjective` makes both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.images.forms import recoloured
from closedloop.interfaces import Described, ImageTextModel
from closedloop.objectives.algebra import Linear, Term
from closedloop.objectives.image_terms import given_images, without_lost
from closedloop.objectives.selecting import one_column


@final
@dataclass(frozen=True)
class Match:
    """A class that a caption was matched with.

    Attributes:
        name: Its name; empty where the objective was read from a text.
        weight: What its output counts; the weights of a caption sum to 1.
        column: Which response it is.
    """

    name: str
    weight: float
    column: int


@final
@dataclass(frozen=True)
class CaptionDirection(Term):
    """The weighted mean of those outputs of a classifier whose names match a caption.

    Attributes:
        text: The caption.
        weights: What each output counts, by its column.
        names: Name of each output, in the order of `weights`; empty where they are not known.
    """

    text: str
    weights: Mapping[int, float]
    names: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        caption_text(self.text)
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise InvalidArgumentError(f"weights: expected a weight by column, {{3: 0.5}}, got {self.weights!r:.80}.")
        object.__setattr__(self, "weights", {one_column(c): float(w) for c, w in self.weights.items()})
        if not np.isfinite(list(self.weights.values())).all():
            raise InvalidArgumentError("weights: expected finite numbers, got NaN or infinity.")

    def matches(self) -> list[Match]:
        """Returns the classes it was matched with, the heaviest first."""
        names = self.names or ("",) * len(self.weights)
        found = [Match(n, w, c) for n, (c, w) in zip(names, self.weights.items(), strict=True)]
        return sorted(found, key=lambda match: -match.weight)

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``."""
        return Linear(self.weights, text=self.describe())(responses)

    def describe(self) -> str:
        """Writes ``caption("a yellow vehicle", {751: 0.6, 779: 0.4})``, read back without the sentence encoder."""
        return f"caption({quoted(self.text)}, {dict(self.weights)!r})"

    @property
    def columns(self) -> tuple[int, ...]:
        """The outputs that count."""
        return tuple(self.weights)

    def moved(self, columns: Sequence[int]) -> CaptionDirection:
        """Returns the same outputs at their new places."""
        return CaptionDirection(self.text, {columns[c]: w for c, w in self.weights.items()}, self.names)


@final
@dataclass(frozen=True)
class CaptionSimilarity(Term):
    """Cosine of an image's and a caption's features in an image–text model. The subject's responses play no part.

    Attributes:
        text: The caption.
        model: Of images and texts.
    """

    text: str
    model: ImageTextModel

    def __post_init__(self) -> None:
        caption_text(self.text)
        if not isinstance(self.model, ImageTextModel):
            raise InvalidArgumentError(
                "model: expected image_features(images) and text_features(texts), got "
                f"{type(self.model).__name__}; load one by "
                "closedloop.objectives.captions.load_clip(FOLDER), or write an adapter."
            )

    @property
    def needs_images(self) -> bool:
        """Always."""
        return True

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into scores ``(n,)`` in [-1, 1], NaN where one was lost."""
        from closedloop.objectives.captions.clip import similarity

        shown = given_images(images, responses, self.describe)
        if shown.ndim == 5:
            raise InvalidArgumentError(
                f"images: expected stills, which {self.describe()} was made for, got movies of {shown.shape[1]} frames."
            )
        shown = recoloured(shown, 3)
        return without_lost(similarity(self.model, shown, self._features), responses)

    @cached_property
    def _features(self) -> Any:
        """The caption's features, a tensor ``(1, d)``."""
        from closedloop.objectives.captions.clip import caption_features

        return caption_features(self.model, self.text)

    def describe(self) -> str:
        """Writes ``clip("a dog", "FOLDER")``; a model handed over as an object has no text that reads back."""
        recipe = self.model.recipe if isinstance(self.model, Described) else None
        if recipe is None:
            return f"caption({quoted(self.text)}, model={quoted(type(self.model).__name__)})"
        name, *options = recipe.values()
        return f"{name}({', '.join(map(quoted, [self.text, *options]))})"


def caption_text(text: Any) -> str:
    """Returns a caption that says something.

    Raises:
        InvalidArgumentError: It is empty or no text.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgumentError(f"text: expected a caption such as 'a dog on grass', got {text!r}.")
    return text


def quoted(text: Any) -> str:
    """Puts a text in quotes, without the sign that separates the threads of a recording."""
    return json.dumps(str(text), ensure_ascii=False).replace(";", "\\u003b")
