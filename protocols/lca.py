"""Loss change allocation of any training loop of PyTorch: which parameters, neurons and layers help, at every step.

    lca = LossChangeAllocation(model, loss_fn, (inputs, targets), save="run")
    for batch in batches:
        ...                      # forward, backward, as ever
        with lca.step():
            optimizer.step()

Each change of the mean loss over the whole set is shared out over all parameters (Lan, Liu, Zhou & Yosinski 2019); the
definition is in `closedloop.gradients.allocation`. A share below 0 helps. The recording is a run as any other, with a
row for each step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import xarray as xr

from closedloop.analysis.allocation import LCA, SERIES, allocation_dataset, encode_series, with_parameters
from closedloop.checks import check_flag, check_whole
from closedloop.errors import AllocationWarning, CallOrderError, InvalidArgumentError, require
from closedloop.interfaces import Units
from closedloop.loop.commits import check_same_experiment, goes_on, is_finished
from closedloop.loop.parts import RunPart
from closedloop.loop.settings import check_options, option, settings
from closedloop.recipes import plain, version
from closedloop.recording.layout import Layout, Rows, Variable
from closedloop.recording.reader import open_recording, read_state
from closedloop.recording.writer import Recording
from closedloop.seeds import check_seed, named_generator
from closedloop.signatures import at_door

if TYPE_CHECKING:
    from closedloop.gradients.allocation import Account, Allocator

#: Name of the loss that is handed over first.
TRAIN = "train"


@settings
class AllocationSettings:
    """How changes of a loss are shared out and recorded."""

    rule: str = option(
        default="simpson",
        choices=("first-order", "trapezoid", "simpson", "adaptive-simpson"),
        help="How gradients along a step are weighed. first-order is for teaching: it costs as much as trapezoid, and "
        "misses most.",
    )
    chunk: int = option(
        default=1000,
        least=1,
        help="Examples of a chunk, at most. With batch norm on batch statistics chunks are part of the loss.",
    )
    tolerance: float = option(
        default=1e-3,
        unit="a loss",
        help="Residual of a step that the adaptive rule accepts; else it doubles the intervals, up to 32.",
    )
    batch_norm: str = option(
        default="batch",
        choices=("batch", "frozen"),
        help="Statistics of batch norm where the loss is computed: of the chunk, or the running ones; when these move, "
        "what that does to the loss is a line of its own, the drift, and a step costs one gradient more.",
    )
    series: str = option(
        default="none",
        choices=("none", *SERIES),
        help="Whether the share of every parameter in every step is kept, and in which form.",
    )
    every: int = option(default=10, least=1, help="Steps from one commit to the next; a crash loses fewer than these.")
    check: int = option(
        default=50,
        least=1,
        help="Steps from one look to the next at examples, frozen parameters, and whether the loss is random.",
    )
    capacity: int = option(default=1_000_000, least=1, help="Steps for which the recording has room.", hidden=True)

    def __post_init__(self) -> None:
        check_options(self)


@final
class LossChangeAllocation:
    """Shares out every change of a loss over the parameters of a network while it is trained.

    The network is left exactly as it is found: parameters, gradients, buffers, modes, and torch's random state. Losses
    are computed with dropout off. Weight decay has no part in them: what L2 comes to is a line of its own.

    Args:
        model: The network, as before the first step. With ``exists="resume"`` it is put where the run ended.
        loss_fn: From what the network returns and targets to the mean loss of these examples, a scalar.
        data: ``(inputs, targets)``, with a row for each example; all of them define the loss. Inputs may be a tuple of
            arguments or a mapping.
        rule, chunk, tolerance, batch_norm, series, every, check, capacity: See `AllocationSettings`.
        losses: Further losses by name, such as ``{"validation": (inputs, targets)}``, or with a function of their own,
            ``(loss_fn, (inputs, targets))``. Each costs as much again.
        parameters: "trained" for those that ask for a gradient now, or "all". Others must stay as they are.
        subset: So many examples, drawn once by `seed`, define the loss instead of all; the recording says so.
        seed: See there, and a name of this run.
        optimizer: Its state is saved and put back with the run's, its weight decay gives the line of L2, and its
            groups stand beside the neurons. Further optimizers go into `carry`; they count in both, too.
        carry: What else the training loop draws on, by name, to be saved and put back: what has ``state_dict()``, such
            as a schedule, a generator of torch (``torch.default_generator`` where the loop uses the global one) or of
            numpy.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume": then `steps_done` says where to go on.
        label: Of the network, for tables and figures.
        changes: What was done to the training, in words, such as "output frozen"; likewise.
        experiment: Further entries of the run's file, such as what repeats it, with names of their own.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        TrainingError: The loss is random, or not finite.
        RecordingError: The folder exists, or cannot be written.
    """

    @at_door
    def __init__(
        self,
        model: Any,
        loss_fn: Callable[[Any, Any], Any],
        data: tuple[Any, Any],
        *,
        rule: str = AllocationSettings.rule,
        chunk: int = AllocationSettings.chunk,
        tolerance: float = AllocationSettings.tolerance,
        batch_norm: str = AllocationSettings.batch_norm,
        series: str = AllocationSettings.series,
        every: int = AllocationSettings.every,
        check: int = AllocationSettings.check,
        capacity: int = AllocationSettings.capacity,
        losses: Mapping[str, Any] | None = None,
        parameters: str = "trained",
        subset: int | None = None,
        seed: int = 0,
        optimizer: Any = None,
        carry: Mapping[str, Any] | None = None,
        save: str | Path | None = None,
        exists: str = RunPart.exists,
        label: str = "",
        changes: str = "",
        experiment: Mapping[str, Any] | None = None,
    ) -> None:
        require("torch", "networks", "LossChangeAllocation")
        self.settings: AllocationSettings = AllocationSettings(
            rule=rule,
            chunk=chunk,
            tolerance=tolerance,
            batch_norm=batch_norm,
            series=series,
            every=every,
            check=check,
            capacity=capacity,
        )
        self._changes, self._seed = changes, check_seed(seed)
        self._carried = {**({} if optimizer is None else {"optimizer": optimizer}), **(carry or {})}
        self._carried_state()
        kept = {id(part): part for part in self._carried.values() if hasattr(part, "param_groups")}
        self._groups = [group for optimizer in kept.values() for group in optimizer.param_groups]
        network = _network(model)
        sets = self._sets(network, loss_fn, data, losses or {}, subset)
        self._content = {
            "closedloop": version(),
            "protocol": LCA,
            "network": label or type(network).__name__,
            **{name: getattr(self.settings, name) for name in _WRITTEN},
            "parameters": _choice("parameters", parameters, ("trained", "all")),
            "subset": subset,
            "seed": self._seed,
            "losses": {name: {"examples": one.examples, "sha256": one.fingerprint} for name, one in sets.items()},
        }
        own = plain(dict(experiment or {}))
        if taken := sorted(own.keys() & self._content.keys()):
            raise InvalidArgumentError(
                f"experiment: expected entries with names of their own, got {taken[0]!r}, which the run says itself."
            )
        self._content |= own
        self._pending: list[dict[str, Any]] = []
        self._within, self._missed, self._moved = False, 0.0, 0.0
        self._astray = self._failed = False  # a block ended in an error; a step could not be shared out
        self._begin(network, sets, save, exists)

    def _sets(
        self, network: Any, loss_fn: Any, data: tuple[Any, Any], losses: Mapping[str, Any], subset: int | None
    ) -> dict[str, Any]:
        """Returns the losses by name."""
        from closedloop.gradients.whole_set import WholeSet

        wanted = {TRAIN: (loss_fn, _pair("data", data))}
        for name, value in losses.items():
            if not str(name).isidentifier() or name == TRAIN:
                raise InvalidArgumentError(f"losses: expected names such as 'validation', got {name!r}.")
            own = isinstance(value, tuple) and len(value) == 2 and callable(value[0])
            wanted[name] = (value[0], _pair(name, value[1])) if own else (loss_fn, _pair(name, value))
        made = {name: WholeSet(name, network, f, *pair, self.settings.chunk) for name, (f, pair) in wanted.items()}
        self._whole = made[TRAIN].examples
        if subset is not None:
            whole = made[TRAIN]
            if check_whole("subset", subset, 1) > whole.examples:
                raise InvalidArgumentError(f"subset: expected at most {whole.examples} examples, got {subset}.")
            rows = np.sort(named_generator(self._seed, "subset").permutation(whole.examples)[:subset])
            made[TRAIN] = whole.subset(rows)
        return made

    def _begin(self, network: Any, sets: Mapping[str, Any], save: str | Path | None, exists: str) -> None:
        from closedloop.gradients.allocation import Allocator

        going_on = goes_on(save, exists)
        if going_on:
            check_same_experiment(Path(str(save)), self._content)
        numbers = self.settings
        everything = self._content["parameters"] == "all"
        self._allocator: Allocator = Allocator(
            network, sets, numbers.rule, numbers.tolerance, numbers.batch_norm, everything
        )
        self.finished: bool = going_on and is_finished(str(save))
        if self.finished:
            self._restore(read_state(str(save)))
            self._recording: Recording | None = None
            self._save = save
            return
        self._save = save
        recording = self._recording = (
            Recording.reopen(str(save)) if going_on else Recording.create(save, self._layout(), self._content)
        )
        try:
            saved = recording.state()
            if saved is None:
                recording.use(self._layout())
            else:
                recording.check_units(self._units())
                self._restore(saved)
        except BaseException:
            recording.discard()
            raise

    @property
    def steps_done(self) -> int:
        """Steps that were shared out; of a run that goes on, those that are committed: the loop begins behind them."""
        return self._allocator.steps

    @property
    def losses(self) -> dict[str, float]:
        """Each loss after the last step, by name; before the first one that of the network as it was handed over."""
        return self._allocator.losses

    @property
    def layers(self) -> list[str]:
        """The layers whose parameters are shared out, in their order."""
        return list(dict.fromkeys(tensor.layer for tensor in self._allocator.tensors))

    @contextmanager
    def step(self) -> Iterator[None]:
        """Is entered around what changes the parameters: ``with lca.step(): optimizer.step()``.

        At its end the state of what is carried may be saved: a schedule's step belongs into it, too.

        Raises:
            TrainingError: Something is not as it should be: parameters were changed since the last step, examples were
                changed, the loss is random or not finite; the error says which.
        """
        self._check_open()
        if self._within:
            raise CallOrderError("step: another block of it is open; leave that first, and put what is done into one.")
        self._allocator.check_unmoved()
        self._within = self._astray = True
        try:
            yield
        finally:
            self._within = False
        self.stepped()

    def stepped(self) -> None:
        """Shares out whatever happened to the parameters since the last call: for callbacks that come after a step.

        The state of what is carried may be saved now: it is called last, after a schedule's step.

        Raises:
            TrainingError: As for `step`, but that nobody can tell what else changed the parameters.
        """
        self._check_open()
        if self._within:
            raise CallOrderError("stepped: the step's block calls it; leave it out.")
        if self.steps_done >= self.settings.capacity:
            raise InvalidArgumentError(f"capacity: expected at most {self.settings.capacity} steps; say more.")
        kept = self.settings.series != "none"
        self._failed = True  # until it is shared out: gradients may be half summed up
        accounts, splits = self._allocator.advance(kept)
        self._missed += abs(accounts[TRAIN].residual)
        self._moved += abs(accounts[TRAIN].after - accounts[TRAIN].before)
        self._pending.append(self._row(accounts, splits))
        self._failed = self._astray = False
        if self.steps_done % self.settings.check == 0:
            self._allocator.check_assumptions(self.steps_done // self.settings.check)
        if len(self._pending) >= self.settings.every:
            self.commit()

    def _check_open(self) -> None:
        if self.finished:
            raise CallOrderError("lca: it is finished; begin another one for further steps.")
        if self._failed:
            raise CallOrderError(
                "step: the last one failed, and nothing can follow it; begin again, of a run on the disk with "
                "exists='resume', which goes on behind its last commit."
            )

    def commit(self) -> None:
        """Brings all steps so far to the disk.

        Not after a step that failed: the optimizer may have moved already, and a run must go on from where all of it
        stood together. The steps since the last commit are then taken again.
        """
        if self._save is None or not (self._astray or self._failed):
            self._append()

    def _append(self) -> None:
        """Adds the steps since the last commit to the recording."""
        if not self._pending or self._recording is None:
            return
        self._recording.append(self._rows(), {} if self._save is None else self._state())
        self._pending = []

    def finish(self, reason: str = "") -> xr.Dataset:
        """Looks at all examples once more, commits what is left, marks the run as finished, and returns `dataset`.

        Also after a step that failed: then the run ends with the one before it.

        Args:
            reason: Why it ended.

        Raises:
            CallOrderError: Before the first step; the folder of a run that has just begun is then gone.
            TrainingError: Examples or frozen parameters were changed, or the loss is random.
        """
        if not self.finished and self._recording is not None and self.steps_done:
            if not self._failed:
                self.commit()
                self._allocator.check_end()
            self._append()
            self._recording.finish({} if self._save is None else self._state(), reason)
            self.finished = True
            self._recording.close()
            self._warn()
        elif not self.finished:
            self.close()
        return self.dataset()

    def close(self, commit: bool = True) -> None:
        """Gives the folder back, without an end: the run can go on. One without a step leaves nothing.

        Args:
            commit: Whether what is left is committed before. Not in the middle of a step, whose optimizer may have
                moved already; the steps since the last commit are then taken again.
        """
        if self._recording is not None and not self.finished:
            if commit:
                self.commit()
            (self._recording.close if self.steps_done else self._recording.discard)()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: Any) -> None:
        if kind is None and self.steps_done:
            try:
                self.finish()
            except BaseException:
                self.close(commit=False)
                raise
        else:
            self.close(commit=kind is None)

    def _warn(self) -> None:
        # Of all changes, up and down, 1 % may be missed, and what rounding takes of a loss.
        if self.settings.rule != "first-order" and self._missed > 0.01 * self._moved + 1e-6:
            warnings.warn(
                f"The shares miss {self._missed:.3g} of changes of the loss by {self._moved:.3g} in all; take "
                "rule='adaptive-simpson' with a smaller tolerance. If that does not help, examples were changed for a "
                "while, or loss_fn is another function at each step.",
                AllocationWarning,
                stacklevel=3,
            )

    @at_door
    def total(self, of: str = TRAIN) -> float:
        """Returns the sum of all shares so far; the loss changed by it, by `drift`, and by what the rule missed.

        Args:
            of: Which loss.
        """
        return float(self._allocator.totals(self._known(of))[0].sum())

    @at_door
    def dataset(self, of: str = TRAIN, parameters: bool = False) -> xr.Dataset:
        """Returns what is recorded so far.

        Args:
            of: Which loss.
            parameters: Whether the sum of each parameter's shares, and how often it helped and hurt, are added.

        Returns:
            See `closedloop.analysis.allocation.allocation_dataset`. Of a run on the disk, after a step that failed,
            what is committed; see `commit`.

        Raises:
            CallOrderError: Before the first step, or the first commit.
        """
        self._known(of)
        if not self.steps_done:
            raise CallOrderError("dataset: no step was shared out yet.")
        self.commit()
        recording = open_recording(str(self._save)) if self._recording is None else self._recording.dataset()
        found = allocation_dataset(recording, of)
        return with_parameters(found, *self._allocator.totals(of)) if check_flag("parameters", parameters) else found

    def _known(self, of: str) -> str:
        return _choice("of", of, tuple(self._allocator.losses))

    def _units(self) -> Units:
        """Returns the neurons' parts of tensors: the columns of the recording."""
        tensors, groups = self._allocator.tensors, self._group_of()
        parts = [(t, i) for t in tensors for i in range(t.neurons)]
        columns: dict[str, list[Any]] = {
            "layer": [t.layer for t, _ in parts],
            "part": [t.kind for t, _ in parts],
            "neuron": [i for _, i in parts],
            "parameter_tensor": [t.name for t, _ in parts],
            "parameter_count": [t.size // t.neurons for t, _ in parts],
            "parameter_group": [groups.get(t.name, -1) for t, _ in parts],
        }
        return Units(tuple(f"{t.name}[{i}]" for t, i in parts), {name: tuple(v) for name, v in columns.items()})

    def _group_of(self) -> dict[str, int]:
        """Returns the group of each parameter, by name; those of further optimizers follow the first one's."""
        names = {id(p): name for name, p in self._allocator.model.named_parameters()}
        groups = enumerate(self._groups)
        return {names[id(p)]: i for i, group in groups for p in group["params"] if id(p) in names}

    def _layout(self) -> Layout:
        names, tensors = list(self._allocator.losses), len(self._allocator.tensors)
        number, count = Variable("float64", np.nan), Variable("int32", 0, ("tensor",), (tensors,))
        variables = {"splits": Variable("int32", -1), "l2": number}
        for name in names:
            variables |= {f"{what}_{name}": number for what in ("before", "loss", "drift", "residual")}
            variables |= {f"helped_{name}": count, f"hurt_{name}": count}
            if name != TRAIN:
                shape = (self._allocator.columns,)
                variables[f"shares_{name}"] = Variable("float64", np.nan, ("neuroid",), shape)
            if self.settings.series != "none":
                dtype, size = SERIES[self.settings.series], sum(t.size for t in self._allocator.tensors)
                variables[f"series_{name}"] = Variable(dtype, 0, ("parameter",), (size,))
                variables[f"scale_{name}"] = Variable("float64", np.nan, ("tensor",), (tensors,))
        scalars: dict[str, str | int | float] = {
            "subject": self._content["network"],
            "seed": self._seed,
            "closedloop_version": version(),
            "rule": self.settings.rule,
            "losses": " ".join(names),
            "examples": int(self._content["losses"][TRAIN]["examples"]),
            "examples_whole": self._whole,
            "chunk": self.settings.chunk,
            "batch_norm": self.settings.batch_norm if self._allocator.normalizes else "none",
            "dropout": "off",
            "changes": self._changes,
        }
        return Layout(self.settings.capacity, 0, self._units(), scalars, variables=variables)

    def _row(self, accounts: Mapping[str, Account], splits: int) -> dict[str, Any]:
        """Returns what is recorded of the step that was just shared out."""
        row: dict[str, Any] = {"splits": splits, "l2": self._l2()}
        for name, one in accounts.items():
            numbers = (one.before, one.after, one.drift, one.residual)
            row |= {f"{w}_{name}": v for w, v in zip(("before", "loss", "drift", "residual"), numbers, strict=True)}
            row |= {f"helped_{name}": one.helped, f"hurt_{name}": one.hurt, f"shares_{name}": one.columns}
            if one.series is not None:
                sizes = [t.size for t in self._allocator.tensors]
                row[f"series_{name}"], row[f"scale_{name}"] = encode_series(one.series, sizes, self.settings.series)
        return row

    def _rows(self) -> Rows:
        """Returns the steps since the last commit as rows of the recording."""
        n, rows = len(self._pending), self._pending
        steps = np.arange(self.steps_done - n, self.steps_done)
        coords = {
            "thread": np.full(n, "training"),
            "generation": steps.astype(np.int32),
            "kind": np.full(n, "step"),
            "stimulus_id": np.array([f"step-{i}" for i in steps]),
            "repeat": np.zeros(n, np.int32),
            "onset_s": steps.astype(float),
        }
        values = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
        shares = values.pop(f"shares_{TRAIN}")
        return Rows(coords, shares, np.empty((n, 0)), np.full(n, np.nan), variables=values)

    def _l2(self) -> float:
        """Returns ½ Σ λ |θ|² over the groups of all optimizers; NaN where none was handed over."""
        if not self._groups:
            return float("nan")
        total = 0.0
        for group in self._groups:
            decay = float(group.get("weight_decay") or 0.0)
            total += sum(decay * float(p.detach().double().square().sum()) for p in group["params"] if decay)
        return total / 2

    def _state(self) -> dict[str, Any]:
        held, carried = self._allocator.state(), self._carried_state()
        return {"allocator": held, "carry": carried, "missed": self._missed, "moved": self._moved}

    def _carried_state(self) -> dict[str, Any]:
        """Returns what the training loop draws on, as plain values; raises where something has no state."""
        from closedloop.networks.carried import save_part

        return {name: save_part(name, part) for name, part in self._carried.items()}

    def _restore(self, saved: Mapping[str, Any] | None) -> None:
        from closedloop.networks.carried import restore_part

        if saved is None:
            return
        held = set(saved["carry"])
        if held != set(self._carried):
            raise InvalidArgumentError(
                f"carry: expected what the run was begun with, {sorted(held)}, got {sorted(self._carried)}."
            )
        self._allocator.restore(saved["allocator"])
        self._missed, self._moved = float(saved["missed"]), float(saved["moved"])
        for name, part in self._carried.items():
            restore_part(part, saved["carry"][name])


#: Settings that stand in a run's file: those on which its numbers depend.
_WRITTEN = ("rule", "chunk", "tolerance", "batch_norm", "series", "every", "check", "capacity")


def _network(model: Any) -> Any:
    from closedloop.networks.modules import as_network

    return as_network(model)


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InvalidArgumentError(
            f"{name}: expected (inputs, targets), tensors with a row for each example, got {type(value).__name__}."
        )
    return value[0], value[1]


def _choice(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise InvalidArgumentError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}.")
    return value
