"""Training as an experiment: a network learns a bundled task, its loss changes are shared out, and layers are treated.

What can be done to layers: freeze them, from a step on; give them a rate or a momentum of their own; remove them (the
identity stands in their place) and train on from a run that had them. Everything follows from the seed, so that a run
that was killed goes on bit by bit.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.allocation import LCA, definition, layer_allocations, read_allocation, step_shares
from closedloop.analysis.synchrony import learning_peaks, peak_synchrony
from closedloop.errors import InvalidArgumentError, RecordingError, TrainingError, blamed, reason, require
from closedloop.interfaces import Subject
from closedloop.loop.commits import is_finished
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress
from closedloop.loop.protocol import Handed, RunFigure, RunMovie, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import check_options, option, read_settings, settings
from closedloop.readable import percent
from closedloop.recording.reader import open_recording, read_experiment, read_state
from closedloop.seeds import numbered_generator
from closedloop.signatures import at_door, check_fields

from .lca import AllocationSettings, LossChangeAllocation
from .stored import naming
from .sweep_trainings import swept
from .tasks import task_arrays

if TYPE_CHECKING:
    from torch import nn

#: Entry of a run's file with the settings of `train`.
TRAINING = "training"


@settings
class TrainSettings:
    """What is trained, and how."""

    network: str = option(default="mlp", choices=("mlp", "conv", "resnet"), help="See closedloop.networks.small.")
    data: str = option(
        default="digits",
        metavar="NAME|FILE",
        help="digits (1,797 of scikit-learn, 8 x 8), watermarked-digits (see closedloop treat), or an .npz file with x "
        "(n, channels, side, side) or (n, side, side), y (n,), and x_validation, y_validation.",
    )
    steps: int = option(default=300, least=1, help="Steps of training.")
    batch: int = option(default=50, least=2, help="Examples of a batch.")
    optimizer: str = option(default="sgd", choices=("sgd", "adam"), help="What trains it.")
    rate: float = option(default=0.05, unit="a rate", help="Rate of learning.")
    momentum: float = option(default=0.9, help="Momentum; of adam the first of its two numbers.")
    l2: float = option(default=0.0, help="Weight decay; what it comes to is a line of its own.")
    subset: int | None = option(
        default=None,
        least=1,
        shown="all",
        help="So many examples, drawn by the seed, define the loss that is shared out.",
    )
    freeze: tuple[str, ...] = option(
        default=(), shown="none", metavar="LAYER[@STEP]", help="A layer that does not learn, from a step on."
    )
    layer_rate: tuple[str, ...] = option(
        default=(), shown="none", metavar="LAYER=RATE", help="A layer with a rate of its own."
    )
    layer_momentum: tuple[str, ...] = option(
        default=(), shown="none", metavar="LAYER=VALUE", help="A layer with a momentum of its own."
    )
    remove: tuple[str, ...] = option(
        default=(), shown="none", metavar="LAYER", help="A layer that the identity stands in for."
    )
    script: str | None = option(
        default=None,
        metavar="MODULE:FUNCTION",
        shown="none",
        help="A training of your own: a function of a seed that returns closedloop.protocols.Training, in a module "
        "or a FILE.py. It is imported where it is said, and never because a run's file says so.",
    )
    start: str | None = option(
        default=None, metavar="RUN", shown="random weights", help="Run whose last weights are trained on."
    )
    seed: int = option(default=0, least=0, help="Seed of weights and batches.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.l2 < 0:
            raise InvalidArgumentError(f"l2: expected a weight decay of at least 0, got {self.l2}.")
        if twice := [layer for layer in self.remove if self.remove.count(layer) > 1]:
            raise InvalidArgumentError(f"remove: expected each layer once, got {twice[0]!r} twice.")


@dataclass(frozen=True)
class Training:
    """A training of one's own, for `train` and ``closedloop lca --script MODULE:FUNCTION``.

    Attributes:
        model: The network.
        loss_fn: From outputs and targets to the mean loss that is shared out.
        data: Inputs and targets that define it.
        optimizer: Takes a step by ``step()`` when gradients are there.
        learn: Is called with the number of a step, and puts gradients there: zero, forward, backward. The batch follows
            from the number.
        losses: Further losses, as for `LossChangeAllocation`.
        carry: What else it draws on, likewise.
        subject: The network as a subject, for `closedloop.protocols.develop`; None for one made of its layers.
    """

    model: Any
    loss_fn: Callable[[Any, Any], Any]
    data: tuple[Any, Any]
    optimizer: Any
    learn: Callable[[int], None]
    losses: Mapping[str, Any] = field(default_factory=dict)
    carry: Mapping[str, Any] = field(default_factory=dict)
    subject: Subject | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        looked = {
            "model": (callable(getattr(self.model, "parameters", None)), "a network of PyTorch"),
            "optimizer": (callable(getattr(self.optimizer, "step", None)), "an optimizer of PyTorch"),
            "data": (isinstance(self.data, (tuple, list)) and len(self.data) == 2, "inputs and targets"),
        }
        for name, (fits, words) in looked.items():
            if not fits or isinstance(getattr(self, name), type):
                raise InvalidArgumentError(f"{name}: expected {words}, got {getattr(self, name)!r:.60}.")


#: Names of the settings.
OF_TRAINING, OF_ALLOCATION = (tuple(f.name for f in fields(made)) for made in (TrainSettings, AllocationSettings))


@at_door
def train(
    *,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = False,
    **options: Any,
) -> xr.Dataset:
    """Trains a small network, and shares out every change of its loss on training and validation examples.

    Args:
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called with steps done and of all.
        **options: Fields of `TrainSettings` and of `AllocationSettings`.

    Returns:
        See `closedloop.analysis.allocation_dataset`; with attributes for what the training ended with: ``loss_train``,
        ``loss_validation``, and of bundled networks ``accuracy_train`` and ``accuracy_validation``.

    Raises:
        InvalidArgumentError: An option does not fit.
        RecordingError: The folder exists, or cannot be written.
    """
    prepared = Prepared.told(options)
    lca = prepared.allocation(save, exists)
    if not lca.finished:
        with lca:
            prepared.go(lca, prepared.settings.steps, as_progress(progress, "training"))
    found = lca.dataset().assign_attrs({f"loss_{name}": value for name, value in lca.losses.items()})
    if prepared.settings.script is not None:
        return found
    training = prepared.training
    sets = {"train": training.data, **training.losses}
    return found.assign_attrs({f"accuracy_{name}": accuracy(training.model, *pair) for name, pair in sets.items()})


def check_training(options: Mapping[str, Any]) -> None:
    """Looks whether a training can begin, without taking a step.

    Args:
        options: As for `train`.

    Raises:
        InvalidArgumentError: An option does not fit.
    """
    Prepared.told(options).allocation(None, "fail").close()


@dataclass(frozen=True)
class Prepared:
    """A training before its first step.

    Attributes:
        settings: What is trained, and how.
        shared: How changes of the loss are shared out.
        training: Its parts.
        begun: What identifies the weights that it begins with, where a run had them.
        frozen: Parameters that do not learn, by the step from which on they do not.
        handed: Whether the training was handed over as an object, which no file can repeat.
    """

    settings: TrainSettings
    shared: AllocationSettings
    training: Training
    begun: Mapping[str, Any]
    frozen: Mapping[int, Sequence[Any]]
    handed: bool = False

    @classmethod
    def told(cls, options: Mapping[str, Any], training: Training | None = None) -> Prepared:
        """Makes a training of options by name.

        Args:
            options: Fields of `TrainSettings` and of `AllocationSettings`.
            training: One that was made already; None for what the options say.

        Raises:
            InvalidArgumentError: An option does not fit.
        """
        require("torch", "networks", "train")
        own = {name for name in options if name in OF_ALLOCATION}
        told = read_settings(TrainSettings, {name: value for name, value in options.items() if name not in own})
        shared = read_settings(AllocationSettings, {name: options[name] for name in own})
        begun: Mapping[str, Any] = {}
        handed = training is not None
        if training is None:
            training, begun = _bundled(told) if told.script is None else (_own_training(told), {})
        return cls(told, shared, training, begun, frozen_parameters(told, training.model), handed)

    @property
    def label(self) -> str:
        """What the network is called."""
        if self.handed:
            return type(self.training.model).__name__
        return self.settings.network if self.settings.script is None else self.settings.script

    @property
    def changes(self) -> str:
        """What is done to layers, and with which weights it begins, in words; "" for nothing."""
        told = self.settings
        frozen = (word.partition("@") for word in told.freeze)
        own = {"rate": told.layer_rate, "momentum": told.layer_momentum}
        pairs = ((what, *word.partition("=")[::2]) for what, words in own.items() for word in words)
        words = [
            *(f"{layer} removed" for layer in told.remove),
            *(f"{layer} frozen" + (f" from step {since} on" if sign else "") for layer, sign, since in frozen),
            *(f"{layer} with {what} {value}" for what, layer, value in pairs),
            *([f"begun with the weights of {told.start}"] if told.start is not None else []),
        ]
        return "; ".join(words)

    @property
    def content(self) -> dict[str, Any]:
        """What repeats it, for a run's file; of one that was handed over what else must be as it was."""
        shared = {name: getattr(self.shared, name) for name in OF_ALLOCATION}
        if self.handed:
            return {"steps": self.settings.steps, "seed": self.settings.seed, **shared}
        return {TRAINING: {name: getattr(self.settings, name) for name in OF_TRAINING}, **self.begun, **shared}

    def allocation(self, save: str | Path | None, exists: str) -> LossChangeAllocation:
        """Begins to share out its loss in a run, or goes on with that; the network is then where the run ended."""
        told, training = self.settings, self.training
        return LossChangeAllocation(
            training.model,
            training.loss_fn,
            training.data,
            losses=training.losses,
            optimizer=training.optimizer,
            carry=training.carry,
            subset=told.subset,
            seed=told.seed,
            save=save,
            exists=exists,
            label=self.label,
            changes=self.changes,
            experiment={name: value for name, value in self.content.items() if name not in (*OF_ALLOCATION, "seed")},
            **{name: getattr(self.shared, name) for name in OF_ALLOCATION},
        )

    def go(self, lca: LossChangeAllocation, until: int, watching: Callable[..., None] | None = None) -> None:
        """Takes the steps up to one, of those that are left.

        Args:
            lca: What `allocation` returned.
            until: Number of steps that are done then.
            watching: Is called after each step with the number of steps done and of all; None for nobody.
        """
        begin_progress(watching, lca.steps_done, until)
        try:
            for step in range(lca.steps_done, until):
                self.training.learn(step)
                hold(p for since, held in self.frozen.items() if since <= step for p in held)
                with lca.step():
                    self.training.optimizer.step()
                if watching is not None:
                    watching(step + 1, until)
        finally:
            end_progress(watching)


def _bundled(told: TrainSettings) -> tuple[Training, dict[str, Any]]:
    """Returns the training of a bundled network, and what identifies the weights that it begins with."""
    from torch.nn.functional import cross_entropy

    data = _examples(told.data, told.seed)
    check_batch(told.batch, len(data["train"][0]))
    model, begun = _built(told, data)
    optimizer = make_optimizer(told, model)
    inputs, targets = data.pop("train")

    def learn(step: int) -> None:
        rows = batch_rows(told.seed, step, told.batch, len(inputs))
        learn_from(model, optimizer, inputs[rows], targets[rows])

    return Training(model, cross_entropy, (inputs, targets), optimizer, learn, data), begun


def _own_training(told: TrainSettings) -> Training:
    """Returns the training that a script makes."""
    place, _, name = str(told.script).rpartition(":")
    used = [option for option in ("layer_rate", "layer_momentum", "remove", "start") if getattr(told, option)]
    if used:
        raise InvalidArgumentError(f"{used[0]}: expected none beside a script; let its function do that.")
    try:
        make = getattr(_module(place), name)
    except Exception as error:  # whatever a module of somebody raises where it is imported
        raise InvalidArgumentError(
            "script: expected MODULE:FUNCTION, of a module that Python finds, or FILE.py:FUNCTION, got "
            f"{told.script!r} ({reason(error)})."
        ) from error
    with blamed(f"script {told.script}", TrainingError):
        training = make(told.seed)
    if not isinstance(training, Training):
        raise InvalidArgumentError(
            f"script: expected {told.script} to return closedloop.protocols.Training, got {type(training).__name__}."
        )
    return training


def _module(place: str) -> ModuleType:
    """Returns a module by its name, or by its file, which ends in ``.py``."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} is no file of Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_batch(batch: int, examples: int) -> None:
    """Raises where a batch is larger than what is trained on.

    Raises:
        InvalidArgumentError: With both numbers.
    """
    if batch > examples:
        raise InvalidArgumentError(
            f"batch: expected at most {examples}, the examples that are trained on, got {batch}; say a smaller one."
        )


def batch_rows(seed: int, step: int, batch: int, examples: int) -> NDArray[np.int64]:
    """Returns the examples of a step: each once in an epoch, in an order of its own; what is left over is left out."""
    per_epoch = max(1, examples // batch)
    order = numbered_generator(seed, step // per_epoch).permutation(examples)
    place = step % per_epoch
    return order[place * batch : (place + 1) * batch]


def learn_from(model: nn.Module, optimizer: Any, inputs: Any, targets: Any) -> float:
    """Puts the gradients of a batch's cross entropy where the optimizer finds them; returns the loss."""
    from torch.nn.functional import cross_entropy

    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss: Any = cross_entropy(model(inputs), targets)
    loss.backward()
    return float(loss.detach())


def hold(parameters: Iterable[Any]) -> None:
    """Keeps parameters from the optimizer's next step: without a gradient neither momentum nor decay moves them."""
    for parameter in parameters:
        parameter.grad = None


def answered(model: nn.Module, inputs: Any) -> Any:
    """Returns the classes that a network gives to examples, ``(n,)``, in evaluation mode."""
    import torch

    from closedloop.networks.modules import undisturbed

    with undisturbed(model), torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in in_parts(inputs)])


def in_parts(inputs: Any) -> Any:
    """Returns examples in parts that go through a network together."""
    return inputs.split(500)


def accuracy(model: nn.Module, inputs: Any, targets: Any) -> float:
    """Returns the share of examples that a network names rightly, in evaluation mode."""
    return float((answered(model, inputs) == targets).double().mean())


def _examples(name: str, seed: int) -> dict[str, tuple[Any, Any]]:
    """Returns the sets of a task by name: inputs ``(n, channels, side, side)`` of mean 0 and deviation 1, targets."""
    import torch

    arrays = task_arrays(name, seed)
    x = arrays["x"].astype(np.float32)
    mean, deviation = float(x.mean()), float(x.std()) or 1.0
    sets = {"train": (x, arrays["y"])}
    if "x_validation" in arrays:
        sets["validation"] = arrays["x_validation"].astype(np.float32), arrays["y_validation"]
    made = {}
    for key, (images, targets) in sets.items():
        images = images[:, None] if images.ndim == 3 else images
        made[key] = torch.from_numpy((images - mean) / deviation), torch.from_numpy(targets.astype(np.int64))
    return made


def _built(told: TrainSettings, data: Mapping[str, tuple[Any, Any]]) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the network before the first step, and what identifies the weights that it begins with."""
    from closedloop.networks.small import remove_layer, small_network

    inputs, _ = data["train"]
    classes = int(max(pair[1].max() for pair in data.values())) + 1
    model = small_network(told.network, inputs.shape[1], inputs.shape[-1], classes, told.seed)
    begun = {} if told.start is None else {"start_sha256": _load(model, told.start)}
    for layer in told.remove:
        remove_layer(model, layer, inputs[:2])
    return model, begun


def _load(model: nn.Module, run: str) -> str:
    """Puts the last weights of a run into a network; returns their fingerprint."""
    import hashlib

    import torch

    with naming("start"):
        held_by = read_experiment(run).get("protocol")
        recording, state = open_recording(run), read_state(run) or {}
    if held_by != LCA:
        raise RecordingError(f"start: expected a run of loss change allocation, got {run}.")
    names = list(dict.fromkeys(recording["parameter_tensor"].values.tolist()))
    held = dict(zip(names, state["allocator"]["parameters"], strict=True)) | state["allocator"]["buffers"]
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in held.items()})
    except RuntimeError as error:
        layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))
        raise InvalidArgumentError(
            f"start: expected a run of this network, for images of this size and as many classes, got {run}, of one "
            f"with the layers {layers}; say its network, and its data."
        ) from error
    made = hashlib.sha256()
    for name in sorted(held):
        made.update(np.ascontiguousarray(held[name]).tobytes())
    return made.hexdigest()


def _own(option: str, words: Sequence[str], sign: str, model: nn.Module) -> dict[str, str | None]:
    """Returns what was said of layers: name and value; None where none was said.

    Raises:
        InvalidArgumentError: There is no such layer with parameters, or it, or one that holds it, is named twice.
    """
    layers = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    found: dict[str, str | None] = {}
    for word in words:
        name, said, value = word.partition(sign)
        if name not in layers:
            raise InvalidArgumentError(f"{option}: expected a layer of {', '.join(layers)}, got {word!r}.")
        _check_apart(option, name, found)
        found[name] = value if said else None
    return found


def _check_apart(option: str, name: str, others: Iterable[str]) -> None:
    """Raises where a layer is one of others, or a part of one, or holds one."""
    for other in others:
        if f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}."):
            same = "twice" if name == other else f"beside {other!r}, with which it shares parameters"
            raise InvalidArgumentError(f"{option}: expected each layer once, got {name!r} {same}.")


def frozen_parameters(told: TrainSettings, model: nn.Module) -> dict[int, list[Any]]:
    """Returns the parameters that are frozen, by the step from which on they are.

    Raises:
        InvalidArgumentError: There is no such layer, or the step is none of the training.
    """
    found: dict[int, list[Any]] = {}
    for name, since in _own("freeze", told.freeze, "@", model).items():
        if since is not None and not (since.isascii() and since.isdecimal() and int(since) < told.steps):
            raise InvalidArgumentError(
                f"freeze: expected LAYER@STEP, a whole number from 0 to {told.steps - 1}, got '{name}@{since}'."
            )
        found.setdefault(int(since or 0), []).extend(model.get_submodule(name).parameters())
    return found


def _own_numbers(option: str, words: Sequence[str], model: nn.Module) -> dict[str, float]:
    """Returns the numbers that were said of layers, by name."""
    found = {}
    for name, value in _own(option, words, "=", model).items():
        try:
            found[name] = float(value or math.nan)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise InvalidArgumentError(
                f"{option}: expected LAYER=NUMBER, a finite one, got {name if value is None else f'{name}={value}'!r}."
            )
    return found


def make_optimizer(told: TrainSettings, model: nn.Module) -> Any:
    """Returns the optimizer, with a group for each layer that has a rate or a momentum of its own."""
    import torch

    rates = _own_numbers("layer_rate", told.layer_rate, model)
    momenta = _own_numbers("layer_momentum", told.layer_momentum, model)
    for layer in momenta:
        _check_apart("layer_momentum", layer, rates.keys() - {layer})
    own = list(dict.fromkeys([*rates, *momenta]))
    of = {id(p): name for name in own for p in model.get_submodule(name).parameters()}
    groups = []
    for name in (None, *own):
        parameters = [p for p in model.parameters() if of.get(id(p)) == name]
        rate, momentum = rates.get(name or "", told.rate), momenta.get(name or "", told.momentum)
        if not 0 <= momentum < 1 or not rate >= 0:
            raise InvalidArgumentError(
                f"rate, momentum: expected numbers of at least 0, momentum below 1, got {rate} and {momentum}."
            )
        told_so = {"momentum": momentum} if told.optimizer == "sgd" else {"betas": (momentum, 0.999)}
        groups += [{"params": parameters, "lr": rate, **told_so}] if parameters else []
    made: Any = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[told.optimizer]
    return made(groups, weight_decay=told.l2)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a run of `train`; one of another training loop is only read.

    Raises:
        RecordingError: The training loop is somebody's own, and not finished.
    """
    if is_finished(run):
        return open_recording(run)
    if TRAINING not in content:
        raise RecordingError(
            f"{run}: it was recorded by a training loop of your own; run that again with exists='resume'."
        )
    if script := content[TRAINING].get("script"):
        raise RecordingError(
            f"{run}: its training is a script, which no file may start; say closedloop lca "
            f"--config {run}/experiment.yaml --script {script} --exists resume --out {run}."
        )
    shared = {name: content[name] for name in OF_ALLOCATION}
    train(save=run, exists="resume", progress=handed.progress, **content[TRAINING], **shared)
    return open_recording(run)


def repeated_with(experiment: Mapping[str, Any]) -> Sequence[str] | None:
    """Returns what a command needs besides a run's file to train again: its script, which no file may start.

    None for a training that was handed over in Python.
    """
    if TRAINING not in experiment:
        return None
    script = experiment[TRAINING].get("script")
    return ("--script", script) if script else ()


def goes_on_alone(experiment: Mapping[str, Any]) -> bool:
    """Tells whether a run's file is enough to go on with its training."""
    return repeated_with(experiment) == ()


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what each layer came to, how exact that is, and the page of figures."""
    from functools import partial

    from closedloop.figures import allocation_movie, plot_allocation

    found = read_allocation(run)
    figures = {"allocation": RunFigure(partial(plot_allocation, found), "Who helped and who hurt in training.")}
    question = f"Who helped and who hurt while {found.attrs['subject']} was trained?"
    words = "The network while it learns: each neuron a square, blue where it helps, orange where it hurts."
    movies = {"allocation": RunMovie(partial(allocation_movie, found), 10.0, words)}  # 10 pictures in a second
    return RunSummary([_table(found)], _lines(found), figures, question, movies, steady=False, rows="steps of training")


def _table(found: xr.Dataset) -> RunTable:
    """Returns a row for each layer."""
    layers = layer_allocations(found)
    rows = [
        [
            str(one["layer"].item()),
            f"{int(one['parameters'])}",
            f"{float(one['total']):+.3g}",
            *(f"{100 * float(one[what]):.1f}" for what in ("helping", "hurting", "nothing")),
        ]
        for one in (layers.isel(layer=i) for i in range(layers.sizes["layer"]))
    ]
    columns = ("layer", "parameters", "change", "help %", "hurt %", "nothing %")
    said = definition(found)
    caption = f"change of the loss ({found.attrs['of']}) that each layer came to; below 0 it helped"
    caption += f". The loss: {said}" if said else ""
    return RunTable(f"Loss change allocation of {found.attrs['subject']}", columns, rows, caption)


def _lines(found: xr.Dataset) -> list[str]:
    """Returns sentences on the loss, on what is missed, and on the three observations."""
    start = float(found["loss_before"][0] - found["drift"][0])
    change, missed = float(found["loss"][-1]) - start, float(found["residual"].sum())
    share = missed / change if change else float("nan")
    shares, worst = step_shares(found), float(np.abs(found["residual"]).max())
    totals, kinds = found["by_layer"].sum("step"), found["by_part"].sum(("step", "layer")).values.tolist()
    parts = dict(zip(("kernels", "biases", "scales and shifts of normalization"), kinds, strict=True))
    hurting = [str(name) for name in totals["layer"].values[totals.values > 0]]
    lines = [
        f"The loss went from {start:.4g} to {start + change:.4g} in {found.sizes['step']} steps; by the "
        f"rule {found.attrs['rule']} the shares miss {missed:.2g} of it ({percent(abs(share), 2)}), "
        f"up to {worst:.2g} in a step.",
        f"In a step {percent(float(shares['helping'].mean()), 1)} of the parameters help, "
        f"{percent(float(shares['hurting'].mean()), 1)} hurt; of those that do something "
        f"{percent(float(shares['helping_of_moving'].mean()), 1)} help.",
        f"Layers that hurt, in all: {', '.join(hurting) or 'none'}.",
        "Of the change " + ", ".join(f"{one} come to {amount:+.3g}" for one, amount in parts.items() if amount) + ".",
    ]
    if found.attrs["rule"] == "first-order":
        lines.append("The rule first-order is for teaching: trapezoid costs as much and misses far less.")
    marks = learning_peaks(found["by_layer"]).sum("step")
    if int((marks > 0).sum()) > 1:
        together = peak_synchrony(found["by_layer"])
        lines.append(
            f"Peaks of learning coincide in {int(together['pairs'])} pairs of layers, {float(together['ratio']):.2f} "
            f"times as often as by chance (p = {float(together['p']):.2g})."
        )
    return lines


#: What others must know of runs of loss change allocation.
PROTOCOL = RunProtocol(
    LCA,
    _resume,
    _summary,
    command="lca",
    repeats=repeated_with,
    resumes=goes_on_alone,
    **swept(LCA, train, (TrainSettings, AllocationSettings)),
)
