"""The gradient of an objective with respect to codes: through the generator, a view of the image, and the subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from closedloop.errors import InvalidArgumentError
from closedloop.evolution import Thread
from closedloop.gradients.redirected import RedirectedReLU
from closedloop.interfaces import Differentiable, FloatArray, Subject
from closedloop.objectives import evaluate

#: Pictures whose graph through the subject is held at a time.
CHUNK = 16


@dataclass(frozen=True)
class Slope:
    """What a gradient method is told of the codes of one thread.

    Attributes:
        scores: ``(n,)``, mean over the pictures that the view makes of an image.
        gradients: Of the scores with respect to the codes, ``(n, dim)``.
        pictures: How many pictures the subject was shown for it; each costs a forward and a backward pass.
    """

    scores: FloatArray
    gradients: FloatArray
    pictures: int


@dataclass
class _Part:
    """The images of one thread on their way through the subject.

    Attributes:
        thread: Whose they are.
        step: At which step it is.
        images: ``(n, 3, r, r)``, a leaf of the graph.
        pictures: What the view makes of them, ``(n · copies, 3, h, w)``, the copies of an image side by side.
        slopes: Gradient of the scores with respect to the pictures.
        scores: ``(n,)``.
    """

    thread: Thread
    step: int
    images: Tensor
    pictures: Tensor
    slopes: Tensor
    scores: FloatArray

    @classmethod
    def of(cls, thread: Thread, step: int, images: Tensor) -> _Part:
        """The beginning: nothing shown yet."""
        leaf = images.detach().requires_grad_()
        how = thread.gradient
        pictures = leaf if how.view is None else how.view(leaf, step, np.random.default_rng([how.seed, step]))
        return cls(thread, step, leaf, pictures, torch.zeros_like(pictures), np.zeros(len(images)))

    @property
    def copies(self) -> int:
        """Pictures of each image."""
        return len(self.pictures) // len(self.images)

    @property
    def redirected(self) -> bool:
        """Whether rectifiers that let no gradient through are opened in this step."""
        return self.step < self.thread.gradient.redirected

    def jobs(self) -> Iterator[NDArray[np.int64]]:
        """Rows of `pictures` that are scored together: the same few copies of all images."""
        n = len(self.images)
        rows = np.arange(n * self.copies).reshape(n, self.copies)
        each = max(1, CHUNK // n)
        for first in range(0, self.copies, each):
            yield rows[:, first : first + each].ravel()

    def through_view(self) -> Tensor:
        """Gradient of the scores with respect to the images."""
        if self.pictures is self.images:
            return self.slopes
        return torch.autograd.grad(self.pictures, self.images, self.slopes)[0]


@final
class GradientPath:
    """Differentiates the objectives of threads on one subject.

    Threads share the passes through the subject, and through the generator where they have the same. The gradient of
    a code does not depend on other codes, but for objectives that compare the images of a thread with each other.

    Args:
        subject: A differentiable subject.
        threads: Threads with differentiable generators.

    Raises:
        InvalidArgumentError: One of them is not differentiable.
    """

    def __init__(self, subject: Subject, threads: Sequence[Thread]) -> None:
        if not isinstance(subject, Differentiable):
            raise InvalidArgumentError(
                f"subject: expected a differentiable one (with forward) for a gradient method, got {subject.name!r}; "
                "record a torch network with TorchSubject, or evolve without gradients."
            )
        for thread in threads:
            if not isinstance(thread.generator, Differentiable):
                raise InvalidArgumentError(
                    f"thread {thread.name!r}: expected a differentiable generator (with forward) for a gradient method, "
                    f"got {thread.generator.name!r}."
                )
        self._subject: Differentiable = subject

    def slopes(self, threads: Sequence[Thread], codes: Sequence[FloatArray], steps: Sequence[int]) -> list[Slope]:
        """Scores and gradients of the codes ``(n, dim)`` of each thread, in the step that each is at."""
        found: dict[int, Slope] = {}
        for which in _alike([id(thread.generator) for thread in threads]):
            told = self._same_generator(*([given[i] for i in which] for given in (threads, codes, steps)))
            found.update(zip(which, told, strict=True))
        return [found[i] for i in range(len(threads))]

    def _same_generator(
        self, threads: Sequence[Thread], codes: Sequence[FloatArray], steps: Sequence[int]
    ) -> list[Slope]:
        """The slopes of threads that share a generator."""
        code = torch.from_numpy(np.concatenate(codes).astype(np.float32)).requires_grad_()
        images = cast(Differentiable, threads[0].generator).forward(code)
        counts = [len(c) for c in codes]
        split = torch.split(images, counts)
        parts = [_Part.of(*entry) for entry in zip(threads, steps, split, strict=True)]
        for which in _alike([(part.pictures.shape[1:], part.redirected) for part in parts]):
            self._through_subject([parts[i] for i in which])
        (back,) = torch.autograd.grad(images, code, torch.cat([part.through_view() for part in parts]))
        gradients = np.split(back.double().cpu().numpy(), np.cumsum(counts)[:-1])
        return [Slope(p.scores, g, len(p.pictures)) for p, g in zip(parts, gradients, strict=True)]

    def _through_subject(self, parts: Sequence[_Part]) -> None:
        """Fills in scores and slopes of parts with pictures of one size, some pictures at a time."""
        for pack in _packs([(part, rows) for part in parts for rows in part.jobs()]):
            batch = torch.cat([part.pictures.detach()[rows] for part, rows in pack]).requires_grad_()
            counts = [len(rows) for _, rows in pack]
            with RedirectedReLU() if pack[0][0].redirected else nullcontext():
                responses = torch.split(self._subject.forward(batch), counts)
                shown = torch.split(batch, counts)
                scores = [
                    evaluate(part.thread.objective, response, pictures) / part.copies
                    for (part, _), response, pictures in zip(pack, responses, shown, strict=True)
                ]
                (slope,) = torch.autograd.grad(torch.cat(scores).sum(), batch)
            for (part, rows), score, back in zip(pack, scores, torch.split(slope, counts), strict=True):
                part.slopes[rows] = back.to(part.slopes)
                part.scores += score.detach().double().cpu().numpy().reshape(len(part.images), -1).sum(1)


def _alike(keys: Sequence[object]) -> list[list[int]]:
    """Indices of equal keys, together."""
    groups: dict[object, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _packs(jobs: Sequence[tuple[_Part, NDArray[np.int64]]]) -> Iterator[list[tuple[_Part, NDArray[np.int64]]]]:
    """Jobs in their order, as many together as a chunk holds."""
    pack: list[tuple[_Part, NDArray[np.int64]]] = []
    for job in jobs:
        if pack and sum(len(rows) for _, rows in pack) + len(job[1]) > CHUNK:
            yield pack
            pack = []
        pack.append(job)
    if pack:
        yield pack
