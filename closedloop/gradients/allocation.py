"""Loss change allocation: each step's change of a loss, shared out over all parameters (Lan et al. 2019).

Along the straight line from the parameters before a step, θ, to those after it, θ + D, the loss changes by

    L(θ + D) − L(θ) = ∫₀¹ ⟨∇L(θ + sD), D⟩ ds = Σᵢ Aᵢ,   Aᵢ = Dᵢ ∫₀¹ ∇ᵢL(θ + sD) ds

so that Aᵢ < 0 helps. The integral is taken by a rule of `RULES`; with n intervals, h = 1 / n and gᵢ = ∇L(θ + jD / n):

    first order   g(0)                                     exact for linear losses; for teaching
    trapezoid     (g(0) + g(1)) / 2                        exact for quadratic losses
    Simpson       h/3 (g(0) + 4 Σ_odd + 2 Σ_even + g(1))    exact to the fourth order

The gradient at the end of a step is that at the beginning of the next one. Loss and gradients are those of a whole set
in fixed chunks (`closedloop.gradients.whole_set`), in evaluation mode: dropout is off. Batch norm takes the statistics
of the chunk ("batch"), or the running ones ("frozen"); when these, or other buffers, move between two steps, the loss
becomes another function of the parameters, which no parameter did: that change is a line of its own, the drift.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from closedloop.errors import InvalidArgumentError, TrainingError
from closedloop.gradients.whole_set import WholeSet
from closedloop.networks.carried import array_tensor, tensor_array
from closedloop.networks.modules import undisturbed
from closedloop.networks.tensors import ParameterTensor, parameter_tensors

#: Rules, and the new gradients of the whole set that each takes for a step; of the last one at least.
RULES = {"first-order": 1, "trapezoid": 1, "simpson": 2, "adaptive-simpson": 2}
#: Intervals of the adaptive rule, at most.
MOST_SPLITS = 32


@dataclass(frozen=True)
class Account:
    """What a step did to one loss.

    Attributes:
        before: The loss before it, with the buffers of after it.
        after: The loss after it.
        drift: What the buffers' change did to the loss since the last step.
        columns: Change of the loss by each neuron's part of each tensor, tensor by tensor, ``(columns,)``.
        helped: Parameters of each tensor with a negative share, ``(tensors,)``.
        hurt: Parameters of each tensor with a positive share.
        series: Share of each parameter, ``(parameters,)`` float64, where it was asked for.
    """

    before: float
    after: float
    drift: float
    columns: NDArray[np.float64]
    helped: NDArray[np.int32]
    hurt: NDArray[np.int32]
    series: NDArray[np.float64] | None = None

    @property
    def total(self) -> float:
        """Sum of all shares."""
        return math.fsum(self.columns)

    @property
    def residual(self) -> float:
        """What the shares miss of the change of the loss."""
        return self.after - self.before - self.total


@dataclass
class _Ledger:
    """What is known of one loss between steps; tensors are parameter by parameter."""

    whole: WholeSet
    loss: float
    gradient: list[Tensor]
    total: list[Tensor]
    helped: list[Tensor]
    hurt: list[Tensor]
    losses: list[float] = field(default_factory=list)
    new_loss: float = 0.0
    drift: float = 0.0
    end: list[Tensor] = field(default_factory=list)
    odd: list[Tensor] = field(default_factory=list)

    def booked(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what was shared out so far to a tensor's parameters."""
        return self.total[i], self.helped[i], self.hurt[i]


@final
class Allocator:
    """Shares out what happens to a network's parameters from one call of `advance` to the next.

    Beside the network it holds, for each parameter of 4 bytes, 40 bytes: parameters before and after the step,
    gradients at its beginning, at its end and of a chunk, the sum of all shares (8) and two counts; 12 more while the
    adaptive rule is at work, and 24 for each further loss.

    Args:
        model: The network, whose parameters are as before the first step.
        sets: The losses, by name.
        rule: One of `RULES`.
        tolerance: Of the adaptive rule: residual of a step that is accepted, in units of the loss.
        batch_norm: "batch" or "frozen".
        every_parameter: Whether those are shared out, too, that do not ask for a gradient now.
    """

    def __init__(
        self,
        model: nn.Module,
        sets: Mapping[str, WholeSet],
        rule: str = "simpson",
        tolerance: float = 1e-3,
        batch_norm: str = "batch",
        every_parameter: bool = False,
    ) -> None:
        self.model: nn.Module = model
        self.rule: str = rule
        self.tolerance: float = tolerance
        self._batch_norm = batch_norm
        if strange := [name for name, p in model.named_parameters() if p.is_complex()]:
            raise InvalidArgumentError(
                f"model: expected real parameters, got complex ones such as {strange[0]!r}; hold their real and "
                "imaginary parts as parameters (torch.view_as_real)."
            )
        if kept := [name for name, p in model.named_parameters() if p.is_inference()]:
            raise InvalidArgumentError(
                f"model: expected parameters that gradients can reach, got {kept[0]!r}, which was made in "
                "torch.inference_mode(); make the network outside of it, or load its weights into one that was."
            )
        every = _floating(model)
        names = [name for name, p in every.items() if p.numel() and (p.requires_grad or every_parameter)]
        if not names:
            raise InvalidArgumentError(
                "model: expected parameters that are trained, got none that asks for a gradient; "
                "say requires_grad_(True), or parameters='all'."
            )
        if lost := [name for name in names if not every[name].isfinite().all()]:
            raise InvalidArgumentError(f"model: expected finite parameters, got NaN or infinity in {lost[0]!r}.")
        self.parameters: list[Tensor] = [every[name] for name in names]
        self.tensors: list[ParameterTensor] = parameter_tensors(model, names)
        self._others = {name: p for name, p in every.items() if name not in set(names)}
        self._others_are = self._hash_others()
        self.steps: int = 0
        self._previous = [_copy(p) for p in self.parameters]
        self._spare = [torch.empty_like(p) for p in self._previous]
        self._buffers = {name: b.detach().clone() for name, b in self._fixed_buffers().items()}
        self._ledgers = {name: self._opened(whole) for name, whole in sets.items()}

    def _opened(self, whole: WholeSet) -> _Ledger:
        """Returns the ledger of a loss, with the gradient at the present parameters."""
        gradient, total, helped, hurt = ([_zeros(t, dtype) for t in self._previous] for dtype in _KEPT)
        made = _Ledger(whole, 0.0, gradient, total, helped, hurt)
        with self._evaluating():
            made.losses = whole.add_gradient(self.parameters, made.gradient)
            whole.check_same_point(0, made.losses)
            whole.check_mean()
        made.loss = whole.mean(made.losses)
        if not math.isfinite(made.loss):
            raise TrainingError(
                f"before the first step: the loss of {whole.name} is {made.loss}; look at the examples, and at what "
                "the network makes of them."
            )
        return made

    @property
    def losses(self) -> dict[str, float]:
        """Each loss at the last point."""
        return {name: ledger.loss for name, ledger in self._ledgers.items()}

    @property
    def columns(self) -> int:
        """Neurons' parts of tensors."""
        return sum(tensor.neurons for tensor in self.tensors)

    def totals(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
        """Returns, of each parameter, the sum of its shares, and the steps in which it helped and hurt."""
        ledger = self._ledgers[name]
        total, helped, hurt = (
            torch.cat([t.reshape(-1).cpu() for t in tensors]).numpy()
            for tensors in (ledger.total, ledger.helped, ledger.hurt)
        )
        return total, helped, hurt

    def check_unmoved(self) -> None:
        """Raises unless all parameters are as at the last point.

        Raises:
            TrainingError: One was changed; the error names it.
        """
        self._check_members()
        for tensor, parameter, before in zip(self.tensors, self.parameters, self._previous, strict=True):
            if not _same(parameter.data, before):
                raise TrainingError(
                    f"step {self.steps}: {tensor.name!r} was changed elsewhere, between the end of the last step and "
                    "the beginning of this one, so that nobody would be credited for it. Do it within the step's "
                    "block, or use lca.stepped() after everything that changes parameters."
                )

    def _check_members(self) -> None:
        """Raises unless the network still consists of the parameters that it had at the beginning."""
        now = _floating(self.model)
        names = (tensor.name for tensor in self.tensors)
        known = dict(zip(names, self.parameters, strict=True)) | self._others
        for name in known | now:
            if now.get(name) is not known.get(name):
                what = "is gone" if name not in now else "is new" if name not in known else "is another tensor"
                raise TrainingError(
                    f"step {self.steps}: {name!r} {what} since the beginning, and nobody would be credited for what it "
                    "does: a layer was replaced, added or removed. Change weights in place, or share out what follows "
                    "by another LossChangeAllocation."
                )
        for tensor, parameter, before in zip(self.tensors, self.parameters, self._previous, strict=True):
            if _form(parameter.data) != _form(before):
                raise TrainingError(
                    f"step {self.steps}: {tensor.name!r} was {_form(before)}, and is {_form(parameter.data)}: what a "
                    "step did to it cannot be told. Change type, size and device of the network before the beginning."
                )

    def check_end(self) -> None:
        """Looks at all examples, at parameters that are not shared out, and whether losses are still functions.

        Losses are left out where the network is no longer where the last step ended.

        Raises:
            TrainingError: One of these is not as it should be; the error says which.
        """
        self.check_others()
        for ledger in self._ledgers.values():
            for turn in range(ledger.whole.chunks):
                ledger.whole.check_same_data(turn)
        there = all(_same(p.data, before) for p, before in zip(self.parameters, self._previous, strict=True))
        if there and not self._buffers_moved():
            with self._evaluating():
                for ledger in self._ledgers.values():
                    ledger.whole.check_same_point(0, ledger.losses)

    def check_assumptions(self, turn: int) -> None:
        """Looks at some examples, at parameters that are not shared out, and whether losses are still functions.

        Args:
            turn: Which chunk is looked at; they take turns.

        Raises:
            TrainingError: One of these is not as it should be; the error says which.
        """
        self.check_others()
        for ledger in self._ledgers.values():
            ledger.whole.check_same_data(turn)
        with self._evaluating():
            for ledger in self._ledgers.values():
                ledger.whole.check_same_point(turn, ledger.losses)

    def check_others(self) -> None:
        """Raises where a parameter was changed that is not shared out.

        Raises:
            TrainingError: One was; the error names it.
        """
        now = self._hash_others()
        moved = [name for name, known in self._others_are.items() if now[name] != known]
        if moved:
            raise TrainingError(
                f"step {self.steps}: {moved[0]!r} was changed, which did not ask for a gradient at the beginning and "
                "is not shared out; say parameters='all'."
            )

    def _hash_others(self) -> dict[str, bytes]:
        return {
            name: hashlib.blake2b(p.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data).digest()
            for name, p in self._others.items()
        }

    def advance(self, series: bool = False) -> tuple[dict[str, Account], int]:
        """Shares out what happened to the parameters since the last call.

        Args:
            series: Whether the share of each parameter is returned, too.

        Returns:
            What was done to each loss, and the intervals that were used: 0 for first order, 1 for the trapezoid.

        Raises:
            TrainingError: Examples were changed, or a loss is not finite.
        """
        self._check_members()
        for ledger in self._ledgers.values():
            ledger.whole.check_same_data()
        for spare, parameter in zip(self._spare, self.parameters, strict=True):
            spare.copy_(parameter.data)
        with self._evaluating():
            self._credit_drift()
            for ledger in self._ledgers.values():
                ledger.end = [_zeros(t, _KEPT[0]) for t in self._previous]
                ledger.losses = ledger.whole.add_gradient(self.parameters, ledger.end)
                ledger.new_loss = ledger.whole.mean(ledger.losses)
                _check_finite(ledger.whole.name, ledger.new_loss, self.steps + 1)
            scale, splits = self._integrate()
        self._check_shareable()
        accounts = {name: self._close(ledger, scale, series) for name, ledger in self._ledgers.items()}
        self._previous, self._spare = self._spare, self._previous
        self.steps += 1
        return accounts, splits

    def _credit_drift(self) -> None:
        """Takes loss and gradient before the step anew, where buffers have moved that they depend on."""
        for ledger in self._ledgers.values():
            ledger.drift = 0.0
        if not self._buffers_moved():
            return
        with self._moved(0.0):
            for ledger in self._ledgers.values():
                for gradient in ledger.gradient:
                    gradient.zero_()
                loss = ledger.whole.mean(ledger.whole.add_gradient(self.parameters, ledger.gradient))
                ledger.drift, ledger.loss = loss - ledger.loss, loss
        self._buffers = {name: buffer.detach().clone() for name, buffer in self._fixed_buffers().items()}

    def _buffers_moved(self) -> bool:
        """Tells whether buffers on which losses depend are others than in the last step."""
        now, known = self._fixed_buffers(), self._buffers
        return now.keys() != known.keys() or not all(_same(now[name], known[name]) for name in now)

    def _integrate(self) -> tuple[float, int]:
        """Turns each ledger's first gradient into the sum of gradients along the way; returns its factor, intervals."""
        if self.rule == "first-order":
            return 1.0, 0
        for ledger in self._ledgers.values():
            for gradient, end in zip(ledger.gradient, ledger.end, strict=True):
                gradient.add_(end)  # g(0) + g(1)
        if self.rule == "trapezoid":
            return 0.5, 1
        if self.rule == "simpson":
            self._add_points([0.5], {name: ledger.gradient for name, ledger in self._ledgers.items()}, 4.0)
            return 1 / 6, 2
        return self._adapt()

    def _adapt(self) -> tuple[float, int]:
        """Doubles the intervals until every loss's residual is within the tolerance; old points are used again."""
        splits = 2
        for ledger in self._ledgers.values():
            ledger.odd = [_zeros(t, _KEPT[0]) for t in self._previous]
        while True:
            odd = {name: ledger.odd for name, ledger in self._ledgers.items()}
            self._add_points([j / splits for j in range(1, splits, 2)], odd, 1.0)
            self._weigh(4.0)  # g(0) + g(1) + 2 Σ_even + 4 Σ_odd
            scale = 1 / (3 * splits)
            if splits >= MOST_SPLITS or all(self._is_exact(ledger, scale) for ledger in self._ledgers.values()):
                break
            self._weigh(-2.0)  # what was odd is even among twice as many intervals
            for ledger in self._ledgers.values():
                for gradient in ledger.odd:
                    gradient.zero_()
            splits *= 2
        for ledger in self._ledgers.values():
            ledger.odd = []
        return scale, splits

    def _weigh(self, factor: float) -> None:
        for ledger in self._ledgers.values():
            for gradient, odd in zip(ledger.gradient, ledger.odd, strict=True):
                gradient.add_(odd, alpha=factor)

    def _is_exact(self, ledger: _Ledger, scale: float) -> bool:
        """Tells whether the shares, as they stand, sum up to the change of the loss within the tolerance."""
        sums = []
        for tensor, *tensors in zip(self.tensors, ledger.gradient, self._previous, self._spare, strict=True):
            for gradient, before, after in tensor.blocks(*tensors):
                sums.append((gradient.double() * (after.double() - before.double())).sum())
        total = math.fsum(torch.stack(sums).tolist()) * scale
        return abs(ledger.new_loss - ledger.loss - total) <= self.tolerance

    def _add_points(self, places: Sequence[float], into: Mapping[str, list[Tensor]], factor: float) -> None:
        """Adds gradients at places from 0, before the step, to 1, after it."""
        for place in places:
            with self._moved(place):
                for name, ledger in self._ledgers.items():
                    ledger.whole.add_gradient(self.parameters, into[name], factor)

    def _check_shareable(self) -> None:
        """Raises where a parameter or a gradient is not finite, before anything is booked."""
        moved = [not total for total in _finite(self._spare)]
        if any(moved):
            raise TrainingError(
                f"step {self.steps + 1}: {self.tensors[moved.index(True)].name!r} became NaN or infinite, so that "
                "nothing can be shared out, though the loss does not show it. What was recorded before is safe."
            )
        for ledger in self._ledgers.values():
            if not all(_finite(ledger.gradient)):
                raise TrainingError(
                    f"step {self.steps + 1}: the loss of {ledger.whole.name} is finite, but its gradient is not, so "
                    "that nothing can be shared out; look for a root, a logarithm or a division at 0 in the loss. What "
                    "was recorded before is safe."
                )

    def _close(self, ledger: _Ledger, scale: float, series: bool) -> Account:
        """Shares out, adds to what was shared out before, and goes to the end of the step."""
        columns, helped, hurt, shares = [], [], [], []
        for i, tensor in enumerate(self.tensors):
            whole = [torch.empty_like(ledger.total[i])] if series else []
            own = (ledger.gradient[i], self._previous[i], self._spare[i], *ledger.booked(i), *whole)
            counts = []
            for blocks in tensor.blocks(*own):
                share = _shares(blocks, scale)
                columns.append(share.sum((1, 3)).reshape(-1))
                counts.append(torch.stack([(share < 0).sum(), (share > 0).sum()]))
            shares += [one.reshape(-1).cpu() for one in whole]
            both = torch.stack(counts).sum(0)
            helped.append(both[0])
            hurt.append(both[1])
        made = Account(
            ledger.loss,
            ledger.new_loss,
            ledger.drift,
            torch.cat(columns).cpu().numpy(),
            torch.stack(helped).cpu().numpy().astype(np.int32),
            torch.stack(hurt).cpu().numpy().astype(np.int32),
            torch.cat(shares).numpy() if series else None,
        )
        ledger.loss, ledger.gradient, ledger.end = ledger.new_loss, ledger.end, []
        return made

    @property
    def normalizes(self) -> bool:
        """Whether the network has batch norm, whose statistics are part of the loss."""
        return any(isinstance(module, _BatchNorm) for module in self.model.modules())

    def _fixed_buffers(self) -> dict[str, Tensor]:
        """Buffers on which losses depend: without those that the mode of batch norm does not read."""
        found: dict[str, Tensor] = {}
        for place, module in self.model.named_modules():
            batch = isinstance(module, _BatchNorm) and self._batch_norm == "batch"
            own = {} if batch else dict(module.named_buffers(recurse=False))
            found |= {f"{place}.{name}": buffer for name, buffer in own.items() if name != "num_batches_tracked"}
        return found

    @contextmanager
    def _moved(self, place: float) -> Iterator[None]:
        """Puts the parameters to a place between before the step, 0, and after it, 1; and back to where they are."""
        try:
            for parameter, before, after in zip(self.parameters, self._previous, self._spare, strict=True):
                if place == 0:
                    parameter.data.copy_(before)
                else:
                    parameter.data.copy_(after).lerp_(before, 1 - place)
            yield
        finally:
            for parameter, after in zip(self.parameters, self._spare, strict=True):
                parameter.data.copy_(after)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Runs the network as losses are defined; all of it is put back."""
        device = self.parameters[0].device.type
        whole = torch.autocast(device, enabled=False)  # a block of the training loop's would serve weights of before
        with undisturbed(self.model), torch.inference_mode(False), torch.enable_grad(), whole:
            modes = {m: m.training for m in self.model.modules() if self._trains(m)}
            try:
                for module in modes:
                    module.training = True
                for parameter in self.parameters:
                    parameter.requires_grad_(True)
                yield
            finally:
                for parameter in self.parameters:
                    parameter.requires_grad_(False)
                for module, mode in modes.items():
                    module.training = mode

    def _trains(self, module: nn.Module) -> bool:
        """Tells whether a module is in training mode while losses are computed; cuDNN differentiates only such RNNs."""
        if isinstance(module, nn.RNNBase):
            return not module.dropout
        return isinstance(module, _BatchNorm) and self._batch_norm == "batch"

    def state(self) -> dict[str, Any]:
        """Returns all that is needed to go on identically, the network's own parameters and buffers among it.

        The arrays are those at work, and change with the next step.
        """
        ledgers = {
            name: {
                "loss": one.loss,
                **{what: list(map(tensor_array, getattr(one, what))) for what in ("gradient", *_BOOKED)},
            }
            for name, one in self._ledgers.items()
        }
        return {
            "steps": self.steps,
            "parameters": [tensor_array(t) for t in self._previous],
            "buffers": {name: tensor_array(b) for name, b in self.model.named_buffers()},
            "fixed": {name: tensor_array(b) for name, b in self._buffers.items()},
            "others": {name: known.hex() for name, known in self._others_are.items()},
            "ledgers": ledgers,
        }

    def _restore_buffers(self, saved: Mapping[str, Any]) -> None:
        """Puts the network's buffers to saved ones; registers those that it makes itself when it is first run.

        Raises:
            InvalidArgumentError: The run's network had others.
        """
        own = dict(self.model.named_buffers())
        modules = dict(self.model.named_modules())
        strange = [n for n in saved if n not in own and n.rpartition(".")[0] not in modules] + [*(own.keys() - saved)]
        if strange:
            raise InvalidArgumentError(f"model: expected the buffers of the run's network, got others: {strange[0]!r}.")
        for name, values in saved.items():
            if name in own:
                _set(own[name].data, values)
            else:
                made = torch.from_numpy(np.array(values)).to(self._previous[0].device)
                modules[name.rpartition(".")[0]].register_buffer(name.rpartition(".")[2], made)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state, and puts the network's parameters and buffers there.

        Raises:
            InvalidArgumentError: A parameter that is not shared out is another one than in the run.
        """
        self.steps = int(state["steps"])
        if {name: known.hex() for name, known in self._others_are.items()} != dict(state["others"]):
            raise InvalidArgumentError(
                "model: expected the parameters that are not trained to be those of the run, got others."
            )
        for parameter, before, saved in zip(self.parameters, self._previous, state["parameters"], strict=True):
            _set(before, saved)
            parameter.data.copy_(before)
        self._restore_buffers(state["buffers"])
        fixed = state["fixed"]  # runs of older versions have a list of them
        known = fixed if isinstance(fixed, Mapping) else dict(zip(self._buffers, fixed, strict=True))
        buffers = self._fixed_buffers()
        self._buffers = {name: _like(buffers[name], values) for name, values in known.items() if name in buffers}
        for name, ledger in self._ledgers.items():
            own = state["ledgers"][name]
            ledger.loss = float(own["loss"])
            for what in ("gradient", *_BOOKED):
                for tensor, saved in zip(getattr(ledger, what), own[what], strict=True):
                    _set(tensor, saved)


def _floating(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters that can be shared out, by name."""
    return {name: p for name, p in model.named_parameters() if p.is_floating_point()}


def _like(tensor: Tensor, saved: Any) -> Tensor:
    """Returns saved values in the type and at the place of a tensor."""
    return array_tensor(saved, str(tensor.dtype).removeprefix("torch.")).to(tensor.device)


#: Types of what a ledger keeps of each parameter; None for that of the parameter, at least float32.
_KEPT = (None, torch.float64, torch.int32, torch.int32)
#: What a ledger books of each parameter: the sum of its shares, and how many of them helped and hurt.
_BOOKED = ("total", "helped", "hurt")


def _shares(blocks: Sequence[Tensor], scale: float) -> Tensor:
    """Returns the shares of a block of parameters in float64, and books them."""
    gradient, before, after, total, helped, hurt, *whole = blocks
    share = (after.double() - before.double()).mul_(gradient).mul_(scale)
    total.add_(share)
    helped.add_(share < 0)
    hurt.add_(share > 0)
    for kept in whole:
        kept.copy_(share)
    return share


def _check_finite(name: str, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"step {step}: the loss of {name} is {loss}; nothing can be shared out. Training has diverged: lower the "
            "rate. What was recorded before is safe."
        )


def _form(tensor: Tensor) -> str:
    """Says type, shape and device."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} on {tensor.device}"


def _same(tensor: Tensor, other: Tensor) -> bool:
    """Tells whether two tensors are of one type, shape and device, and equal."""
    return _form(tensor) == _form(other) and torch.equal(tensor, other)


def _finite(tensors: Sequence[Tensor]) -> list[bool]:
    """Tells of each tensor whether all its values are finite: only then their sum in float64 is."""
    return torch.stack([tensor.sum(dtype=torch.float64) for tensor in tensors]).isfinite().tolist()


def _copy(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor.data)


def _zeros(like: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Returns zeros, contiguous, in the type of a gradient where none is named."""
    return torch.zeros(like.shape, dtype=dtype or torch.promote_types(like.dtype, torch.float32), device=like.device)


def _set(tensor: Tensor, saved: Any) -> None:
    tensor.copy_(_like(tensor, saved))
