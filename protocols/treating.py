"""A small network in training, and what can be done to it by what a diagnosis saw; for `treat` and `judge`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.allocation import read_allocation
from closedloop.analysis.errors import answers_of, class_names
from closedloop.analysis.spurious import PASTED, spurious_units
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError, closest
from closedloop.files import complete
from closedloop.images.eight_bit import from_bytes, write_png
from closedloop.images.sets import read_images
from closedloop.interfaces import FloatArray, State
from closedloop.recipes import build, fingerprint, same_fingerprint
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording, read_experiment
from closedloop.seeds import numbered_generator

from .diagnose import diagnose
from .lca import LossChangeAllocation
from .spurious import ASCENDED, EVOLVED, Window
from .stored import folder_of
from .tasks import Task
from .train import (
    TrainSettings,
    answered,
    batch_rows,
    check_batch,
    frozen_parameters,
    hold,
    in_parts,
    learn_from,
    make_optimizer,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from closedloop.networks.kept import Facts

#: Treatments, and what they do.
TREATMENTS = {
    "none": "the same number of steps without a treatment",
    "reweight": "plain reweighting: training examples that the network gets wrong early are drawn more often "
    "(Liu et al. 2021, *Just Train Twice*); no diagnosis",
    "errors": "the labelled images that the network gets wrong are trained on, too",
    "evolved": "counter-examples: what spurious units want to see, evolved, is pasted into training images, "
    "or taken out",
    "cut": "the same with windows cut from labelled images",
    "ablate": "spurious units are held at their means",
    "freeze": "layers that hurt learn no more; freeze:LAYER for one by name",
    "remove": "layers that hurt are replaced by the identity; remove:LAYER for one by name",
}
#: Names in the folder of a run.
LABELLED_FOLDER, DIAGNOSIS, ALLOCATION, UNTREATED = "labelled", "diagnosis", "lca", "before.safetensors"
#: Labelled images that define the loss of which it is asked which layers hurt, at most.
SUBSET = 200


def parse_treatments(words: Sequence[str]) -> list[tuple[str, str]]:
    """Returns treatments, and the layers that they name.

    Raises:
        InvalidArgumentError: There is no such treatment.
    """
    found = []
    for word in words:
        name, sign, layer = str(word).partition(":")
        if name not in TREATMENTS or (sign and not (layer and name in ("freeze", "remove"))):
            raise InvalidArgumentError(
                f"treatment: expected one of {', '.join(TREATMENTS)}, freeze:LAYER or remove:LAYER, got {word!r}."
            )
        found.append((name, layer))
    if not found or ("none" in words and len(found) > 1) or len(set(found)) < len(found):
        raise InvalidArgumentError(
            f"treatment: expected 'none' alone, or one or more others, each once, got {list(words)}."
        )
    return found


def needs_diagnosis(treatments: Sequence[tuple[str, str]], group: bool = False) -> bool:
    """Tells whether treatments use a diagnosis; `errors` alone does not where the group of them was handed over."""
    names = {name for name, _ in treatments}
    return bool(names & {"evolved", "cut", "ablate"}) or ("errors" in names and not (names == {"errors"} and group))


def needs_allocation(treatments: Sequence[tuple[str, str]]) -> bool:
    """Tells whether treatments use loss change allocation: they freeze or remove layers, and name none."""
    return any(name in ("freeze", "remove") and not layer for name, layer in treatments)


@dataclass(frozen=True)
class Feature:
    """What a spurious unit answers to.

    Attributes:
        unit: Number of its channel.
        speaks_for: The class that it speaks for.
        window: Where it is.
        images: Images ``(n, 3, h, w)`` in [0, 1] whose window holds it: evolved, or labelled ones.
    """

    unit: int
    speaks_for: int
    window: Window
    images: NDArray[np.float32]


@dataclass(frozen=True)
class Findings:
    """What was found in a network before it is treated.

    Attributes:
        layer: Where the spurious units are.
        evolved: What they want to see.
        cut: Where they were found.
        errors: Labelled images that it got wrong, ``(n, 3, h, w)``, and their classes ``(n,)``.
        hurting: Layers whose learning raised the loss.
    """

    layer: str = ""
    evolved: tuple[Feature, ...] = ()
    cut: tuple[Feature, ...] = ()
    errors: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
    hurting: tuple[str, ...] = ()


def labelled_folder(folder: Path, task: Task) -> Path:
    """Returns a folder with the labelled images of a task; it is written where there is none."""
    place = folder / LABELLED_FOLDER
    if not place.is_dir():
        images, targets = task.labelled
        with complete(place, argument="save") as temporary:
            for i, (image, target) in enumerate(zip(images, targets, strict=True)):
                home = temporary / task.classes[target]
                home.mkdir(parents=True, exist_ok=True)
                write_png(home / f"{i:04d}.png", image)
    return place


def diagnosed(folder: Path, task: Task, network: Path, **numbers: Any) -> Path:
    """Diagnoses a network on the labelled images of a task; goes on with a diagnosis that was begun.

    Args:
        folder: Of the run; images and diagnosis lie below.
        task: Whose labelled images are shown.
        network: The network's file.
        **numbers: Of `diagnose`.

    Returns:
        The diagnosis' folder.
    """
    subject = build("subjects", f"treated:{network}")
    made = folder / DIAGNOSIS
    diagnose(subject, labelled_folder(folder, task), save=made, exists="resume", progress=False, **numbers)
    return made


def allocated(folder: Path, told: TrainSettings, task: Task) -> Path:
    """Shares out the changes of the loss on labelled images while the same network is trained in the same way.

    A run that was begun goes on.
    """
    from torch.nn.functional import cross_entropy

    network, made = Network(told, task, 0.0, 1), folder / ALLOCATION
    lca = LossChangeAllocation(
        network.model,
        cross_entropy,
        network.labelled(),
        optimizer=network.optimizer,
        subset=SUBSET if len(task.labelled[1]) > SUBSET else None,
        seed=told.seed,
        label=told.network,
        save=made,
        exists="resume",
    )
    if not lca.finished:
        network.done = lca.steps_done
        with lca:
            network.advance(told.steps - network.done, lca.step)
    return made


def hurting_layers_of(run: Path, layers: Collection[str]) -> tuple[str, ...]:
    """Returns the layers whose learning raised the loss, on labelled images where it was shared out on these, too.

    Args:
        run: A run of loss change allocation.
        layers: All layers of the network that is treated.

    Raises:
        InvalidArgumentError: It is of a network with other layers.
        RecordingError: It is no such run, or not finished.
    """
    of = "validation" if "validation" in read_experiment(run).get("losses", {}) else "train"
    if not open_recording(run).attrs["finished"]:
        raise RecordingError(f"lca: expected a finished run of loss change allocation, got {run}; go on with it first.")
    totals = read_allocation(run, of)["by_layer"].sum("step")
    named = totals["layer"].values.tolist()
    if not set(named) <= set(layers):
        raise InvalidArgumentError(
            f"lca: expected a run of the network that is treated, with layers such as {', '.join(list(layers)[:4])}, "
            f"got {run} of one with {', '.join(map(str, named[:4]))}."
        )
    return tuple(str(name) for name in totals["layer"].values[totals.values > 0])


def read_diagnosis(run: Path, task: Task) -> Findings:
    """Returns what a diagnosis saw: spurious units, what they answer to, and the errors.

    Raises:
        InvalidArgumentError: It is of a network with other classes.
        RecordingError: It is none that is finished, or its images are gone.
    """
    recording = open_recording(run)
    if read_experiment(run).get("protocol") != "diagnose" or not recording.attrs["finished"]:
        raise RecordingError(f"diagnosis: expected a finished run of diagnose, got {run}.")
    if (classes := tuple(class_names(recording))) != task.classes:
        raise InvalidArgumentError(
            f"diagnosis: expected one of a network with the {len(task.classes)} classes of {task.name}, "
            f"{', '.join(task.classes[:3])} …, got {run} with {len(classes)}, {', '.join(classes[:3])} …."
        )
    labelled = Path(read_experiment(run)["images"])
    if not labelled.is_dir():
        raise RecordingError(f"diagnosis: the images of {run} are gone from {labelled}; put them back there.")
    answers = answers_of(recording)
    wrong = answers.isel(image=np.flatnonzero(answers["wrong"].values))
    errors = None
    if wrong.sizes["image"]:
        pictures = read_images([labelled / str(name) for name in wrong["image"].values], task.side)
        errors = pictures, wrong["target"].values.astype(np.int64)
    layer = str(recording["diagnosed_layer"].values.flat[0])
    if "suspect" not in recording.coords:
        return Findings(layer, errors=errors)
    found = spurious_units(recording)
    own = [found.isel(suspect=i) for i in np.flatnonzero(found["spurious"].values)]
    evolved = [_wanted(recording, one) for one in own]
    return Findings(
        layer,
        tuple(feature for feature in evolved if feature is not None),
        tuple(_cut(recording, one, labelled, task.side) for one in own),
        errors,
    )


def check_diagnosed(run: Path, network: Path) -> None:
    """Raises unless a diagnosis is one of a network.

    Args:
        run: The diagnosis.
        network: The network's file.

    Raises:
        InvalidArgumentError: It is of another network, whose units are others.
    """
    known = (read_experiment(run).get("fingerprints") or {}).get("subject", "")
    if not same_fingerprint(known, fingerprint(build("subjects", f"treated:{network}"))):
        raise InvalidArgumentError(
            f"diagnosis: expected one of the network that is treated, got {run} of another: its units are not the ones "
            "that were tested there. Leave --diagnosis out, or give the network that was diagnosed with --start."
        )


def _feature(one: xr.Dataset, images: NDArray[np.float32]) -> Feature:
    window = Window(int(one["y"]), int(one["x"]), int(one["side"]))
    return Feature(int(one["unit"]), int(one["speaks_for"]), window, images)


def _wanted(recording: xr.Dataset, one: xr.Dataset) -> Feature | None:
    """Returns what a unit wants to see, evolved and ascended; None where that was not looked for."""
    pictures = Pictures(recording)
    names = [f"unit-{int(one['unit'])}-{int(one['speaks_for'])}-{how}" for how in (EVOLVED, ASCENDED)]
    kept = [image for name in names if (image := pictures.kept(name)) is not None]
    return _feature(one, from_bytes(np.moveaxis(np.stack(kept), -1, 1))) if kept else None


def _cut(recording: xr.Dataset, one: xr.Dataset, labelled: Path, side: int) -> Feature:
    """Returns the labelled images from which windows were cut that excite a unit."""
    own = (recording["suspect"].values == int(one["unit"])) & (recording["kind"].values == PASTED)
    own &= recording["speaks_for"].values == int(one["speaks_for"])
    own &= (recording["window_y"].values == int(one["y"])) & (recording["window_x"].values == int(one["x"]))
    names = sorted(set(recording["donor"].values[own].tolist()))
    return _feature(one, read_images([labelled / name for name in names], side))


def read_group(path: Path, task: Task) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the images of a ``group.csv`` that the viewer exported, with their true classes.

    Raises:
        InvalidArgumentError: It cannot be read, lacks a column, or names a class or an image that is not there.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgumentError(f"group: expected a group.csv of the viewer, got {path} ({error}).") from error
    if not rows or not {"path", "label"} <= set(rows[0]):
        raise InvalidArgumentError(f"group: expected rows with the columns path and label in {path}.")
    unknown = sorted({str(row["label"]) for row in rows} - set(task.classes))
    gone = [str(row["path"]) for row in rows if not (path.parent / str(row["path"])).is_file()]
    if unknown or gone:
        what = f"labels {unknown[:5]}, which are no class of {task.name}" if unknown else f"no image {gone[0]!r}"
        raise InvalidArgumentError(f"group: {path} has {what}.")
    pictures = read_images([path.parent / str(row["path"]) for row in rows], task.side)
    return pictures, np.array([task.classes.index(str(row["label"])) for row in rows], np.int64)


@dataclass
class Network:
    """A network in training on a task.

    Attributes:
        told: How it is trained; its steps are those before the treatment.
        task: On what.
        share: Share of a batch that a treatment puts in the place of training examples.
        weight: How much more often an example is drawn that was wrong early.
        done: Steps done.
    """

    told: TrainSettings
    task: Task
    share: float
    weight: int
    done: int = 0
    treatments: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        import torch

        from closedloop.networks.kept import Facts, built

        mean, deviation = self.task.colours
        check_batch(self.told.batch, len(self.task.train[1]))
        seed = self.told.seed
        facts = Facts(self.told.network, self.task.side, self.task.classes, mean, deviation, seed=seed)
        self.use(built(facts, self.told.seed), facts)
        self._x = self._normalized(self.task.train[0])
        self._y = torch.from_numpy(self.task.train[1])
        self._test = self._normalized(self.task.test[0])
        self._chance: FloatArray | None = None
        self._features: tuple[Feature, ...] = ()
        self._errors: tuple[Tensor, Tensor] | None = None
        self.loss: float = float("nan")
        self.found: int = 0

    @property
    def facts(self) -> Facts:
        """Returns what must be known of it besides its weights."""
        return replace(self._facts, steps=self.done)

    @property
    def layers(self) -> list[str]:
        """Returns the layers whose parameters learn, as loss change allocation names them."""
        from closedloop.networks.tensors import layers_of

        return layers_of(self.model)

    def use(self, model: nn.Module, facts: Facts) -> None:
        """Takes a network, with a fresh optimizer."""
        self.model: nn.Module = model
        self._facts = facts
        told = replace(self.told, freeze=())
        self.optimizer = make_optimizer(told, model)
        self._frozen: list[Any] = []

    def check_layer(self, layer: str | None) -> None:
        """Looks whether there is a layer whose units can be tested; None is one.

        Raises:
            InvalidArgumentError: Its units cannot be held, such as those of the output.
            UnknownNameError: The network has none of this name.
        """
        from closedloop.networks.kept import write_network

        known = {"output", *(name for name, _ in self.model.named_modules() if name)}
        if layer is not None and layer.partition("#")[0] not in known:  # "relu#1" is the first call of relu
            raise UnknownNameError(
                f"layer: no layer {layer!r} in network {self.told.network!r}.{closest(layer, known)}"
            )
        if layer is not None:
            with folder_of(None) as place:
                write_network(place / UNTREATED, self.model, self.facts)
                build("subjects", f"treated:{place / UNTREATED}").opened(layer)

    def check_treatments(self, treatments: Sequence[tuple[str, str]]) -> None:
        """Looks whether there are the layers that treatments name, on a network of its own.

        Raises:
            InvalidArgumentError: There is none of this name, or it cannot be removed.
        """
        if named := [(name, layer) for name, layer in treatments if layer]:
            other = Network(self.told, self.task, self.share, self.weight)
            other.treat(named, Findings(), lambda: np.zeros(0, bool))

    def _normalized(self, images: NDArray[np.float32]) -> Tensor:
        """Returns images as the network takes them."""
        import torch

        mean, deviation = self.task.colours
        return torch.from_numpy((images - np.float32(mean)) / np.float32(deviation))

    def labelled(self) -> tuple[Tensor, Tensor]:
        """Returns the labelled images as the network takes them, and their classes."""
        import torch

        images, targets = self.task.labelled
        return self._normalized(images), torch.from_numpy(targets)

    def advance(self, steps: int, around: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Takes steps of training.

        Args:
            steps: How many.
            around: Is entered around what changes the weights.
        """
        total = 0.0
        for _ in range(steps):
            total += learn_from(self.model, self.optimizer, *self._batch(self.done))
            hold(self._frozen)
            with around():
                self.optimizer.step()
            self.done += 1
        self.loss = total / max(1, steps)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Returns the examples of a step, with those of the treatment in the place of some."""
        told = self.told
        rows = batch_rows(told.seed, step, told.batch, len(self._x))
        rng = numbered_generator(told.seed, step, 1)
        if self._chance is not None:
            rows = rng.choice(len(self._x), told.batch, p=self._chance)
        x, y = self._x[rows], self._y[rows]
        count = round(self.share * len(rows))
        if self._features and self._errors is not None:
            count //= 2
        if self._features:
            for i in range(count):
                x[i] = self._counter_example(x[i], rng)
        if self._errors is not None:
            images, targets = self._errors
            chosen = rng.integers(len(images), size=count)
            x[len(x) - count :], y[len(y) - count :] = images[chosen], targets[chosen]
        return x, y

    def _counter_example(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Returns an image with the feature pasted in, or, as often, with another training image's window instead.

        That image is of another class than the one that the feature speaks for. The label stays: it is right.
        """
        which = int(rng.integers(len(self._features)))
        feature = self._features[which]
        if rng.random() < 0.5:
            image = self._pasted[which][rng.integers(len(feature.images))]
        else:
            image = self._x[rng.choice(self._others[feature.speaks_for])]
        made = x.clone()
        made[feature.window.place] = image[feature.window.place]
        return made

    def treat(self, treatments: list[tuple[str, str]], seen: Findings, early: Callable[[], NDArray[np.bool_]]) -> None:
        """Begins the treatment: from now on every step is under it.

        Args:
            treatments: Names and layers.
            seen: What was seen.
            early: Tells which training examples were wrong early.
        """
        import torch

        names = [name for name, _ in treatments]
        kinds = ("freeze", "remove")
        layers = {kind: [layer for name, layer in treatments if name == kind and layer] for kind in kinds}
        for which, named in layers.items():
            if which in names and not named:
                layers[which] = list(seen.hurting)
        self._change(seen, names, layers)
        if "reweight" in names:
            wrong = early()
            chance = np.where(wrong, float(self.weight), 1.0)
            self._chance, self.found = chance / chance.sum(), self.found + int(wrong.sum())
        self._features = (seen.evolved if "evolved" in names else ()) + (seen.cut if "cut" in names else ())
        self._pasted = [self._normalized(feature.images) for feature in self._features]
        targets = self.task.train[1]
        self._others = {f.speaks_for: np.flatnonzero(targets != f.speaks_for) for f in self._features}
        self.found += len({f.unit for f in self._features})
        if "errors" in names and seen.errors is not None:
            self._errors = self._normalized(seen.errors[0]), torch.from_numpy(seen.errors[1])
            self.found += len(seen.errors[1])

    def _change(self, seen: Findings, names: Sequence[str], layers: Mapping[str, Sequence[str]]) -> None:
        """Changes the network itself: removes layers, holds units, freezes; the optimizer begins anew."""
        from closedloop.networks.small import hold_channels, remove_layer

        model, facts = self.model, self._facts
        for layer in layers["remove"]:
            try:
                remove_layer(model, layer, self._x[:2])
            except InvalidArgumentError:
                if layer not in seen.hurting:
                    raise
                continue  # it hurts, and its shapes do not allow it
            facts = replace(facts, removed=(*facts.removed, layer))
            self.found += 1
        units = sorted({feature.unit for feature in seen.cut}) if "ablate" in names else []
        if units:
            hold_channels(model, seen.layer, units, self._means(seen.layer))
            facts = replace(facts, held=seen.layer, channels=tuple(units))
            self.found += len(units)
        self.use(model, facts)
        still = [layer for layer in layers["freeze"] if layer not in facts.removed]
        frozen = frozen_parameters(replace(self.told, freeze=tuple(still)), model)
        self._frozen = [parameter for held in frozen.values() for parameter in held]
        self.found += len(still)

    def _means(self, layer: str) -> Tensor:
        """Returns the mean of each channel at each place over the training images, ``(channels, …)``."""
        import torch

        from closedloop.networks.modules import undisturbed

        seen: list[Tensor] = []
        handle = self.model.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
        try:
            with undisturbed(self.model), torch.no_grad():
                for part in in_parts(self._x):
                    self.model(part)
        finally:
            handle.remove()
        return torch.cat(seen).mean(0)

    def named(self, which: Tensor) -> NDArray[np.int64]:
        """Returns the classes that normalized images are given, ``(n,)``, in evaluation mode."""
        found: NDArray[np.int64] = answered(self.model, which).numpy()
        return found

    def wrong(self) -> NDArray[np.bool_]:
        """Tells which training examples are named wrongly, ``(n,)``."""
        found: NDArray[np.bool_] = self.named(self._x) != self.task.train[1]
        return found

    def accuracies(self) -> FloatArray:
        """Returns the share of images of each group of the test that are named rightly, ``(groups,)``."""
        right = self.named(self._test) == self.task.test[1]
        count = np.bincount(self.task.group, minlength=len(self.task.groups))
        sums = np.bincount(self.task.group, right, len(count))
        return np.where(count > 0, sums / np.maximum(count, 1), np.nan)

    def state(self) -> State:
        """Returns what is needed to go on identically: weights, optimizer, steps."""
        from closedloop.networks.carried import save_part

        return {
            "model": save_part("model", self.model),
            "optimizer": save_part("optimizer", self.optimizer),
            "done": self.done,
            "loss": self.loss,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state, of a network with the same layers."""
        from closedloop.networks.carried import restore_part

        restore_part(self.model, state["model"])
        restore_part(self.optimizer, state["optimizer"])
        self.done = int(state["done"])
        self.loss = float(state["loss"])


def early_errors(told: TrainSettings, task: Task) -> NDArray[np.bool_]:
    """Tells which training examples the same network gets wrong after the first fifth of its steps, ``(n,)``."""
    network = Network(told, task, 0.0, 1)
    network.advance(max(1, round(told.steps / 5)))
    return network.wrong()
