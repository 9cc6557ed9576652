"""The gradient of an objective with respect to codes: through the generator, a view of the image, and the subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from closedloop.errors import GeneratorError, InvalidArgumentError, ObjectiveError, SubjectError, blamed
from closedloop.gradients.redirected import InwardClamp, RedirectedReLU
from closedloop.gradients.settings import Climbing, Slope
from closedloop.images.forms import shown_as
from closedloop.interfaces import Differentiable, FloatArray, Form, Located, Subject, form_of
from closedloop.objectives import evaluate
from closedloop.seeds import named_generator, numbered_generator

#: Pictures whose graph through the subject is held in memory at a time.
PICTURES_AT_ONCE = 16


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
        fixed: What the view makes of the anchor, like `pictures`; None without one.
        pulls: Gradient of the distances from it, like `slopes`.
        distances: ``(n,)``.
    """

    thread: Climbing
    step: int
    images: Tensor
    pictures: Tensor
    slopes: Tensor
    scores: FloatArray
    fixed: Tensor | None
    pulls: Tensor
    distances: FloatArray

    @classmethod
    def of(cls, thread: Climbing, step: int, images: Tensor, form: Form) -> _Part:
        """Makes the beginning: nothing shown yet."""
        leaf = images.detach().requires_grad_()
        pictures, anchor, fixed = _seen(thread, step, leaf), thread.gradient.anchor, None
        if anchor is not None:
            with torch.no_grad():
                code = torch.as_tensor(anchor.code, dtype=images.dtype, device=images.device)
                image = _generated(thread, code[None], form).to(images)
                fixed = _seen(thread, step, image.repeat(len(images), *[1] * (images.ndim - 1)))
        nothing, zero = (torch.zeros_like(pictures) for _ in range(2)), np.zeros(len(images))
        return cls(thread, step, leaf, pictures, next(nothing), zero, fixed, next(nothing), zero.copy())

    @property
    def copies(self) -> int:
        """Pictures of each image."""
        return len(self.pictures) // len(self.images)

    @property
    def redirected(self) -> bool:
        """Whether rectifiers that let no gradient through are opened in this step."""
        return self.step < self.thread.gradient.redirected

    def jobs(self) -> Iterator[NDArray[np.int64]]:
        """Yields rows of `pictures` that are scored together: the same few copies of all images."""
        n = len(self.images)
        rows = np.arange(n * self.copies).reshape(n, self.copies)
        each = max(1, PICTURES_AT_ONCE // n)
        for first in range(0, self.copies, each):
            yield rows[:, first : first + each].ravel()

    def through_view(self, slopes: Tensor) -> Tensor:
        """Turns a gradient with respect to the pictures into one with respect to the images."""
        if self.pictures is self.images:
            return slopes
        (back,) = torch.autograd.grad(self.pictures, self.images, slopes, retain_graph=self.fixed is not None)
        return back

    def distance(self, responses: Tensor, fixed: Tensor) -> Tensor:
        """Measures how far responses ``(m, units[, time])`` are from the anchor, ``(m,)``, in the units that count."""
        columns = [] if self.thread.gradient.anchor is None else list(self.thread.gradient.anchor.columns)
        # ‖r - r₀‖ over the units; the sum over an image's pictures is then the mean of their distances.
        away: Tensor = (responses - fixed)[:, columns].flatten(1).norm(dim=1)
        return away / self.copies


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

    def __init__(self, subject: Subject, threads: Sequence[Climbing]) -> None:
        if not isinstance(subject, Differentiable):
            raise InvalidArgumentError(
                f"subject: expected a differentiable one (with forward) for a gradient method, got {subject.name!r}; "
                "record a torch network with TorchSubject, or evolve by an optimizer that does without (needs_gradient "
                "= False)."
            )
        for thread in threads:
            _differentiable(thread)
        self._form = form_of(subject)
        self._subject: Differentiable = subject
        self._name = subject.name
        self._device = subject.torch_device if isinstance(subject, Located) else "cpu"

    def slopes(self, threads: Sequence[Climbing], codes: Sequence[FloatArray], steps: Sequence[int]) -> list[Slope]:
        """Returns scores and gradients of each thread's codes ``(n, dim)``, in the step that each is at."""
        found: dict[int, Slope] = {}
        for which in _alike([id(thread.generator) for thread in threads]):
            told = self._same_generator(
                [threads[i] for i in which], [codes[i] for i in which], [steps[i] for i in which]
            )
            found.update(zip(which, told, strict=True))
        return [found[i] for i in range(len(threads))]

    def _same_generator(
        self, threads: Sequence[Climbing], codes: Sequence[FloatArray], steps: Sequence[int]
    ) -> list[Slope]:
        """Returns the slopes of threads that share a generator."""
        code = torch.from_numpy(np.concatenate(codes).astype(np.float32)).to(self._device).requires_grad_()
        with InwardClamp():
            images = _generated(threads[0], code, self._form)
        counts = [len(c) for c in codes]
        split = torch.split(images, counts)
        parts = [_Part.of(*entry, self._form) for entry in zip(threads, steps, split, strict=True)]
        for which in _alike([(part.pictures.shape[1:], part.redirected) for part in parts]):
            self._through_subject([parts[i] for i in which])
        # Chain rule, backwards: scores by pictures (the subject), by images (the view), by codes (the generator).
        held = any(part.fixed is not None for part in parts)
        gradients = _back(images, code, [part.through_view(part.slopes) for part in parts], held)
        if not held:
            return [Slope(p.scores, g, len(p.pictures)) for p, g in zip(parts, gradients, strict=True)]
        toward = [p.through_view(p.pulls) if p.fixed is not None else torch.zeros_like(p.images) for p in parts]
        pulls = _back(images, code, toward, False)
        return [
            Slope(p.scores, g, len(p.pictures))
            if p.fixed is None
            else Slope(p.scores, g, len(p.pictures) + len(p.fixed), p.distances, pull)
            for p, g, pull in zip(parts, gradients, pulls, strict=True)
        ]

    def _through_subject(self, parts: Sequence[_Part]) -> None:
        """Fills in scores and slopes of parts with pictures of one size, some pictures at a time."""
        for pack in _packs([(part, rows) for part in parts for rows in part.jobs()]):
            # A leaf of its own: the graph through the subject is dropped after each pack, that through the view stays.
            batch = torch.cat([part.pictures.detach()[rows] for part, rows in pack]).requires_grad_()
            counts = [len(rows) for _, rows in pack]
            with RedirectedReLU() if pack[0][0].redirected else nullcontext():
                responses = torch.split(self._responses(batch), counts)
                shown = torch.split(batch, counts)
                scores = [
                    _scored(part.thread, response, pictures) / part.copies
                    for (part, _), response, pictures in zip(pack, responses, shown, strict=True)
                ]
                held = any(part.fixed is not None for part, _ in pack)
                with blamed(f"subject {self._name!r}, its gradient", SubjectError):
                    slope = _slope(torch.cat(scores), batch, held)
                for (part, rows), score, back in zip(pack, scores, torch.split(slope, counts), strict=True):
                    part.slopes[rows] = back.to(part.slopes)
                    part.scores += _by_image(score, len(part.images))
                if held:
                    self._hold(pack, responses, batch)

    def _responses(self, pictures: Tensor) -> Tensor:
        """Returns responses ``(m, units[, time])`` to pictures ``(m, 3, h, w)``, in torch's graph."""
        with blamed(f"subject {self._name!r}, forward()", SubjectError):
            responses: Tensor = self._subject.forward(pictures)
            if not isinstance(responses, Tensor) or responses.ndim not in (2, 3) or len(responses) != len(pictures):
                raise SubjectError(
                    f"responses: expected a tensor ({len(pictures)}, units) or ({len(pictures)}, units, time), got "
                    f"{_shape_of(responses)}."
                )
        return responses

    def _hold(
        self, pack: Sequence[tuple[_Part, NDArray[np.int64]]], responses: Sequence[Tensor], batch: Tensor
    ) -> None:
        """Fills in the distances from anchors, and their slopes."""
        distances = []
        for (part, rows), response in zip(pack, responses, strict=True):
            if part.fixed is None:
                distances.append(response.flatten(1).sum(1) * 0)
                continue
            with torch.no_grad():
                fixed = self._responses(part.fixed[rows])
            distances.append(part.distance(response, fixed))
            part.distances += _by_image(distances[-1], len(part.images))
        slope = _slope(torch.cat(distances), batch, False)
        for (part, rows), back in zip(pack, torch.split(slope, [len(rows) for _, rows in pack]), strict=True):
            part.pulls[rows] = back.to(part.pulls)


def _differentiable(thread: Climbing) -> Differentiable:
    """Returns the generator of a thread, as one with a forward pass.

    Raises:
        InvalidArgumentError: It has none.
    """
    if not isinstance(thread.generator, Differentiable):
        raise InvalidArgumentError(
            f"thread {thread.name!r}: expected a differentiable generator (with forward) for a gradient method, got "
            f"{thread.generator.name!r}."
        )
    return thread.generator


def _generated(thread: Climbing, code: Tensor, form: Form) -> Tensor:
    """Makes images ``(n, 3, h, w)`` of codes ``(n, dim)`` in torch's graph, in the form that the subject is shown.

    Raises:
        GeneratorError: The generator raised, or returned no such tensor.
    """
    generator = _differentiable(thread)
    with blamed(f"thread {thread.name!r}: generator {thread.generator.name!r}, forward()", GeneratorError):
        images = generator.forward(code)
        if not isinstance(images, Tensor) or images.ndim < 4 or len(images) != len(code):
            raise GeneratorError(f"images: expected a tensor ({len(code)}, 3, h, w), got {_shape_of(images)}.")
        shown: Tensor = shown_as(images, form)
        return shown


def _scored(thread: Climbing, responses: Tensor, pictures: Tensor) -> Tensor:
    """Turns responses ``(m, units[, time])`` to pictures ``(m, 3, h, w)`` into scores ``(m,)``, in torch's graph.

    Raises:
        ObjectiveError: The objective raised, or returned no score for each picture.
    """
    with blamed(f"thread {thread.name!r}: its objective {type(thread.objective).__name__}", ObjectiveError):
        scores: Tensor = evaluate(thread.objective, responses, pictures)
        if not isinstance(scores, Tensor) or scores.shape != (len(pictures),):
            raise ObjectiveError(f"scores: expected a tensor ({len(pictures)},), got {_shape_of(scores)}.")
        return scores


def _shape_of(thing: object) -> str:
    """Returns the shape of a tensor in words, or what came in its place."""
    return str(tuple(thing.shape)) if isinstance(thing, Tensor) else f"{type(thing).__name__}"


def _seen(thread: Climbing, step: int, images: Tensor) -> Tensor:
    """Returns what the thread's view makes of images in a step; the same draws whenever it is asked."""
    how = thread.gradient
    if how.view is None:
        return images
    if how.stream == 1:  # as in older runs, where the stream of step 0 was that of the plain seed
        return how.view(images, step, numbered_generator(how.seed, step))
    return how.view(images, step, named_generator(how.seed, f"view {step}"))


def _slope(scores: Tensor, batch: Tensor, again: bool) -> Tensor:
    """Returns the gradient of scores ``(m,)`` with respect to the pictures ``(m, 3, h, w)`` that they belong to.

    Raises:
        InvalidArgumentError: The graph is broken between them.
    """
    back = None
    if scores.requires_grad:
        (back,) = torch.autograd.grad(scores.sum(), batch, retain_graph=again, allow_unused=True)
    if back is None:
        raise InvalidArgumentError(
            "subject: expected responses with a gradient, got some that do not depend on the images in torch's graph; "
            "forward must not detach, round or search, nor run under torch.no_grad()."
        )
    return back


def _back(images: Tensor, code: Tensor, slopes: Sequence[Tensor], again: bool) -> list[FloatArray]:
    """Turns gradients of images ``(n, 3, r, r)`` into gradients of their codes, ``(n, dim)``, thread by thread.

    Raises:
        InvalidArgumentError: The graph is broken between them.
    """
    if not images.requires_grad:
        raise InvalidArgumentError(
            "generator: expected images with a gradient, got some that do not depend on the codes in torch's graph."
        )
    (back,) = torch.autograd.grad(images, code, torch.cat(list(slopes)), retain_graph=again)
    return np.split(back.cpu().double().numpy(), np.cumsum([len(s) for s in slopes])[:-1])


def _by_image(scores: Tensor, images: int) -> FloatArray:
    """Sums the scores of each image's pictures, those of an image adjacent, to ``(images,)``."""
    summed: FloatArray = scores.detach().cpu().double().numpy().reshape(images, -1).sum(1)
    return summed


def _alike(keys: Sequence[object]) -> list[list[int]]:
    """Puts the indices of equal keys together."""
    groups: dict[object, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _packs(jobs: Sequence[tuple[_Part, NDArray[np.int64]]]) -> Iterator[list[tuple[_Part, NDArray[np.int64]]]]:
    """Yields jobs in their order, as many together as a chunk holds."""
    pack: list[tuple[_Part, NDArray[np.int64]]] = []
    for job in jobs:
        if pack and sum(len(rows) for _, rows in pack) + len(job[1]) > PICTURES_AT_ONCE:
            yield pack
            pack = []
        pack.append(job)
    if pack:
        yield pack
