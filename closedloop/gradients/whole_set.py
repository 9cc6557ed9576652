"""A loss as a fixed function of the parameters: the mean over a whole set of examples, and its gradient, in chunks.

The order and the content of chunks are part of the definition, for with batch statistics the loss of an example depends
on its chunk. Chunks are of nearly equal size, none above what was asked for, and count by their size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from closedloop.errors import ClosedLoopError, InvalidArgumentError, TrainingError, reason


@final
class WholeSet:
    """The mean loss of a network over a set of examples.

    Args:
        name: Of the set, for errors.
        model: The network.
        loss_fn: From what the network returns and targets to the mean loss of these examples, a scalar.
        inputs: ``(n, …)``; a tuple or list for several arguments of the network, a mapping for named ones.
        targets: ``(n, …)``; likewise, as the loss takes them.
        chunk: Examples of a chunk, at most.

    Raises:
        InvalidArgumentError: An argument does not fit.
    """

    def __init__(
        self, name: str, model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], inputs: Any, targets: Any, chunk: int
    ) -> None:
        self.name: str = name
        self._model = model
        self._loss_fn = loss_fn
        self._chunk = chunk
        self._inputs, self._targets = _as_tensors(f"{name}: inputs", inputs), _as_tensors(f"{name}: targets", targets)
        self._tensors = [*_leaves(self._inputs), *_leaves(self._targets)]
        lengths = {len(t) for t in self._tensors}
        if len(lengths) != 1:
            raise InvalidArgumentError(
                f"{name}: expected inputs and targets of the same number of examples, got {sorted(lengths)}."
            )
        if 0 in lengths:
            raise InvalidArgumentError(f"{name}: expected inputs and targets of one example or more, got none.")
        self.examples: int = lengths.pop()
        count = -(-self.examples // chunk)
        self._edges = [self.examples * i // count for i in range(count + 1)]
        self._device = next(model.parameters()).device
        self._digests = [self._digest(i) for i in range(count)]
        self._versions = self._version()

    def subset(self, rows: Any) -> WholeSet:
        """Returns the mean loss over some of the examples, by their numbers."""
        chosen = torch.as_tensor(rows)
        inputs, targets = (_mapped(v, lambda t: t[chosen.to(t.device)]) for v in (self._inputs, self._targets))
        return WholeSet(self.name, self._model, self._loss_fn, inputs, targets, self._chunk)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return len(self._edges) - 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of examples and chunks."""
        return hashlib.sha256(b"".join(self._digests)).hexdigest()

    def add_gradient(self, parameters: Sequence[Tensor], into: Sequence[Tensor], factor: float = 1.0) -> list[float]:
        """Adds the gradient of the mean loss, times a factor, and returns the loss of each chunk.

        Args:
            parameters: By which is differentiated.
            into: Sums of their shapes.
            factor: What the gradient is multiplied by.
        """
        losses = []
        for i in range(self.chunks):
            weight = self._weight(i)
            loss = self._loss(i)
            if not loss.requires_grad:
                raise InvalidArgumentError(
                    f"loss_fn: expected a loss of {self.name} that depends on the parameters, got one that does not; "
                    "compute it by torch from what the network returns."
                )
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for total, gradient in zip(into, gradients, strict=True):
                if gradient is not None:
                    total.add_(gradient, alpha=factor * weight)
            losses.append(loss.detach().double())
            del gradients, loss
        found: list[float] = torch.stack(losses).tolist()
        return found

    def mean(self, losses: Sequence[float]) -> float:
        """Returns the mean loss from that of each chunk."""
        return math.fsum(self._weight(i) * loss for i, loss in enumerate(losses))

    def _weight(self, i: int) -> float:
        return (self._edges[i + 1] - self._edges[i]) / self.examples

    def _loss(self, i: int) -> Tensor:
        """Returns the mean loss of a chunk."""
        return self._loss_of(slice(self._edges[i], self._edges[i + 1]))

    def _loss_of(self, part: slice) -> Tensor:
        """Returns the mean loss of some examples."""
        inputs, targets = self._part(self._inputs, part), self._part(self._targets, part)
        try:
            outputs = _call(self._model, inputs)
            loss = self._loss_fn(outputs, targets)
        except ClosedLoopError:
            raise
        except Exception as error:
            raise InvalidArgumentError(
                f"{self.name}: the loss of examples {part.start} to {part.stop - 1} cannot be computed "
                f"({reason(error)}); expected loss_fn(model(inputs), targets) to be a scalar."
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise InvalidArgumentError(
                f"loss_fn: expected a scalar, the mean loss of the examples, got {_shown(loss)}; use reduction='mean'."
            )
        return loss.reshape(())

    def check_mean(self) -> None:
        """Raises where the loss of some examples is their sum, which chunks cannot be averaged from.

        Raises:
            InvalidArgumentError: It is.
        """
        half = (self._edges[1] - self._edges[0]) // 2
        if half:
            parts = slice(0, 2 * half), slice(0, half), slice(half, 2 * half)
            both, *halves = (self._loss_of(part).double().item() for part in parts)
            # A mean is about half of the sum of the halves' means, a sum is the sum; batch norm may blur it.
            if abs(sum(halves)) > 1e-12 and both / sum(halves) > 0.75:
                raise InvalidArgumentError(
                    f"loss_fn: expected the mean loss of the examples, got one of {self.name} that grows with their "
                    f"number: {halves[0]:.4g} and {halves[1]:.4g} for two halves, {both:.4g} for both; use "
                    "reduction='mean'."
                )

    def _part(self, values: Any, part: slice) -> Any:
        def moved(tensor: Tensor) -> Tensor:
            one = tensor[part].to(self._device, non_blocking=True)
            return one.clone() if one.is_inference() else one  # no gradient may reach what inference mode made

        return _mapped(values, moved)

    def check_same_point(self, i: int, losses: Sequence[float]) -> None:
        """Raises unless a chunk has the loss again that it had at these parameters.

        Args:
            i: Which chunk.
            losses: What `add_gradient` returned there.

        Raises:
            TrainingError: It has another one: something in the loss is random.
        """
        i %= self.chunks
        # With gradients, as it was computed then: without them attention takes another way, which pads differently.
        again = [self._loss(i).double().item() for _ in range(2)]
        known = losses[i]
        if any(not math.isclose(known, one, rel_tol=1e-5, abs_tol=1e-9) for one in again if math.isfinite(one)):
            raise TrainingError(
                f"{self.name}: the same examples at the same parameters have a loss of {known:.9g}, and then of "
                f"{again[0]:.9g} and {again[1]:.9g}: something in the network or in loss_fn is random, though dropout "
                "is off. Take augmentation and noise out of the loss that is shared out; training may have them."
            )

    def check_same_data(self, i: int | None = None) -> None:
        """Looks at a chunk of the examples, and at all of them where torch noted a change.

        Args:
            i: Which chunk; None for none, where torch noted no change.

        Raises:
            TrainingError: They are others than at the beginning.
        """
        now = self._version()
        one = [] if i is None else [i % self.chunks]
        for j in one if now == self._versions else range(self.chunks):
            if self._digest(j) != self._digests[j]:
                raise TrainingError(
                    f"{self.name}: examples {self._edges[j]} to {self._edges[j + 1] - 1} were changed since the "
                    "beginning: the loss is no longer the same function. Hand over a copy (.clone()), and transform "
                    "what is trained on elsewhere."
                )
        self._versions = now

    def _version(self) -> list[int]:
        """Counts, by torch, of changes in place of each tensor."""
        return [-1 if tensor.is_inference() else tensor._version for tensor in self._tensors]

    def _digest(self, i: int) -> bytes:
        made = hashlib.blake2b(digest_size=16)
        for tensor in self._tensors:
            part = tensor[self._edges[i] : self._edges[i + 1]].detach().cpu().contiguous()
            made.update(f"{part.dtype}{tuple(part.shape)}".encode())
            made.update(part.reshape(-1).view(torch.uint8).numpy().data)
        return made.digest()


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _as_tensors(name: str, values: Any) -> Any:
    """Returns tensors, in the lists and mappings in which they came."""
    if isinstance(values, Mapping):
        return {key: _as_tensors(f"{name}[{key!r}]", value) for key, value in values.items()}
    if isinstance(values, (tuple, list)) and any(isinstance(v, Tensor) or hasattr(v, "dtype") for v in values):
        return type(values)([_as_tensors(f"{name}[{i}]", value) for i, value in enumerate(values)])
    try:
        found = torch.as_tensor(values)
    except Exception as error:
        raise InvalidArgumentError(f"{name}: expected a tensor, got {_shown(values)} ({reason(error)}).") from error
    if found.layout != torch.strided or found.is_nested or found.is_quantized:
        raise InvalidArgumentError(
            f"{name}: expected a dense tensor, from which rows can be taken, got a sparse, nested or quantized one; "
            "hand over tensor.to_dense(), or a padded or dequantized one."
        )
    if found.ndim == 0:
        raise InvalidArgumentError(f"{name}: expected a tensor with a row for each example, got a single number.")
    return found


def _mapped(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(values, Mapping):
        return {name: _mapped(value, change) for name, value in values.items()}
    if isinstance(values, (tuple, list)):
        return type(values)([_mapped(value, change) for value in values])
    return change(values)


def _leaves(values: Any) -> list[Tensor]:
    if isinstance(values, Mapping):
        return [leaf for value in values.values() for leaf in _leaves(value)]
    return [leaf for value in values for leaf in _leaves(value)] if isinstance(values, (tuple, list)) else [values]


def _shown(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
