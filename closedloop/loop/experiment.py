"""Experiments as files: a whole experiment in YAML, validated, and built from names.

The same form is read by ``closedloop evolve --config`` and written into each run's folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from closedloop import recipes
from closedloop.errors import InvalidArgumentError, closest
from closedloop.gradients.settings import GradientSettings
from closedloop.interfaces import Generator, Optimizer, Space, Subject, Units
from closedloop.loop import parts
from closedloop.loop.each import each_unit
from closedloop.loop.noise import parse_noise, wrap
from closedloop.loop.sequential import RULES, parse_rule
from closedloop.loop.settings import Settings, Timing, option_types
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Thread
from closedloop.objectives import parse_objective
from closedloop.objectives.naming_units import UnitSpec
from closedloop.optimizers import load_optimizer
from closedloop.recipes import BUNDLED, OBJECT, as_recorded, matched_generator, plain, recipe, version
from closedloop.recording.references import source
from closedloop.seeds import named_seed
from closedloop.yaml_text import read_yaml_text

#: Settings that a file says where they are not these: runs of versions before did not know of them.
_LATER = {"responses": Settings.responses, "failures": Settings.failures}


class _Strict(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


class Named(BaseModel):
    """Something that is loaded by name; all other entries are its options."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class GradientPart(_Strict):
    """How gradients are taken, for an optimizer that needs them; see `closedloop.gradients.settings`."""

    view: str | None = None
    every: int = 1
    redirected: int = 0
    seed: int | None = None
    anchor: Named | None = None


class ThreadPart(_Strict):
    """One evolution."""

    name: str = "main"
    generator: Named
    optimizer: Named = Field(default_factory=lambda: Named(name=parts.OptimizerPart.optimizer))
    objective: str = parts.ObjectivePart.objective
    gradient: GradientPart = Field(default_factory=GradientPart)


#: The entries of a file that are numbers: those of `Settings`, with its types and defaults.
_NUMBERS: dict[str, Any] = {
    name: (kind | None if optional else kind, getattr(Settings, name))
    for name, (kind, optional) in option_types(Settings).items()
}
_Numbers = create_model("_Numbers", __base__=_Strict, **_NUMBERS)


class Experiment(_Numbers):  # type: ignore[misc, valid-type]
    """A whole experiment: subject, one or more threads, references, stopping rules, and the session's settings.

    With one thread, `generator`, `optimizer`, `objective` and `gradient` may stand at the top; several go into
    `threads`.
    """

    closedloop: str = ""
    protocol: Literal["evolve"] = "evolve"
    subject: Named
    threads: list[ThreadPart] = Field(default_factory=list)
    references: str | None = parts.ReferencePart.references
    stop: list[Named] = Field(default_factory=list)
    fingerprints: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _single_thread(cls, content: Any) -> Any:
        """Moves a single thread's parts into `threads`, and short names into their long form."""
        if not isinstance(content, dict):
            return content
        content = with_noise({k: _named(v) if k == "subject" else v for k, v in content.items()})
        if isinstance(content.get("stop"), list):
            content["stop"] = [parse_rule(rule) if isinstance(rule, str) else rule for rule in content["stop"]]
        single = {k: content.pop(k) for k in ("generator", "optimizer", "objective", "gradient") if k in content}
        if single and content.get("threads"):
            raise ValueError("give either threads, or generator, optimizer and objective at the top")
        threads = content.get("threads") or [single]
        if isinstance(threads, list):  # all else is refused by its type
            content["threads"] = [_long(thread) if isinstance(thread, dict) else thread for thread in threads]
        return content

    def optimizer_seed(self, thread: ThreadPart) -> int:
        """Returns an optimizer's seed where it names none: the experiment's, or one for each of several threads."""
        seed = int(self.settings["seed"])
        return seed if len(self.threads) == 1 else named_seed(seed, thread.name)

    @property
    def names_objective(self) -> bool:
        """Whether every thread says what it maximizes."""
        return all("objective" in thread.model_fields_set for thread in self.threads)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `Settings`."""
        return {name: getattr(self, name) for name in _NUMBERS}


def with_noise(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a file with its ``noise``, a list of words, put around its subject.

    Raises:
        UnknownNameError: No such noise.
        InvalidArgumentError: A word cannot be read, or there is no subject to put noise around.
    """
    whole = dict(content)
    words = whole.pop("noise", ())
    if not words:
        return whole
    subject = _named(whole.get("subject"))
    if not isinstance(subject, dict):
        raise InvalidArgumentError(f"noise: expected a subject beside it, got {subject!r:.80}.")
    return {**whole, "subject": wrap(subject, parse_noise(words, whole.get("seed", Timing.seed)))}


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _long(thread: dict[Any, Any]) -> dict[Any, Any]:
    """Returns a thread with its short names in their long form."""
    return {k: _named(v) if k in ("generator", "optimizer") else v for k, v in thread.items()}


def parse_experiment(content: Any, where: str) -> Experiment:
    """Validates an experiment.

    Raises:
        InvalidArgumentError: With each entry that does not fit.
    """
    try:
        experiment: Experiment = Experiment.model_validate(content)
        return experiment
    except ValidationError as error:
        lines = [_in_words(e["loc"], e["msg"], e["type"], e["input"]) for e in error.errors()]
        raise InvalidArgumentError(f"{where}: not a valid experiment. " + "; ".join(lines) + ".") from error


def _in_words(place: Sequence[Any], what: str, kind: str, given: Any) -> str:
    """Says what is wrong with an entry: one that is not known, or one with a value that does not fit."""
    name = ".".join(map(str, place)) or "file"
    if kind != "extra_forbidden":
        return f"{name}: {what}" + ("" if isinstance(given, (dict, list)) else f", got {given!r:.60}")
    known = list(Experiment.model_fields) if len(place) == 1 else []
    return f"{name}: no such entry.{closest(str(place[-1]), known)}".rstrip(".")


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads the entries of a file.

    Raises:
        InvalidArgumentError: There is no such file, it is not YAML, or holds something else than entries.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgumentError(f"config: cannot read {path} as YAML ({error}).") from error
    content = read_yaml_text(text, f"config: {path}")
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"config: expected entries such as 'subject: …' in {path}, got {content!r:.80}.")
    return dict(as_recorded(content)) if "closedloop" in content else content  # a run wrote it


def read_experiment_file(path: str | Path) -> Experiment:
    """Reads an experiment from YAML. A relative folder of references is looked for beside the file.

    Raises:
        InvalidArgumentError: There is no such file, it is not YAML, or not a valid experiment.
    """
    path = Path(path)
    experiment = parse_experiment(read_yaml(path), str(path))
    beside = path.parent / str(experiment.references)
    if experiment.references not in (None, BUNDLED) and beside.is_dir():
        experiment.references = str(beside)
    return experiment


def build_subject(experiment: Experiment) -> Subject:
    """Loads the subject of an experiment.

    Raises:
        InvalidArgumentError: It was handed over as a Python object and has no name to load it by.
    """
    subject: Subject = _load("subjects", experiment.subject)
    return subject


def load_recorded_subject(content: Any, where: str) -> Subject:
    """Loads a subject from its entry in a run's file: a name, or a name with options.

    Raises:
        InvalidArgumentError: It is something else, or was handed over as a Python object.
    """
    try:
        part = Named.model_validate(_named(content))
    except ValidationError as error:
        raise InvalidArgumentError(
            f"{where}: subject: expected a name, or a name with options, got {content!r}."
        ) from error
    subject: Subject = _load("subjects", part)
    return subject


def build_threads(experiment: Experiment, subject: Subject) -> list[Thread]:
    """Builds the threads of an experiment, with fresh optimizers.

    A generator whose resolution or device is not given takes the subject's, where the subject has one. Threads that
    name the same generator share one.
    """
    threads, generators = [], dict[str, Generator]()
    for part in experiment.threads:
        known = json.dumps(part.generator.model_dump(), sort_keys=True, default=str)
        generator = generators.get(known) or _load_generator(part.generator, subject)
        generators[known] = generator
        optimizer = _load_optimizer(experiment, part, generator.space)
        gradient = _gradient(experiment, part) if optimizer.needs_gradient else GradientSettings()
        objective = parse_objective(part.objective, subject.units)
        threads.append(Thread(generator, optimizer, objective, part.name, gradient))
    return threads


def _gradient(experiment: Experiment, part: ThreadPart) -> GradientSettings:
    """Returns how a thread's gradients are taken."""
    given, view = part.gradient, None
    if given.anchor is not None:
        raise InvalidArgumentError(_from_python("anchor", given.anchor))
    if given.view is not None:
        from closedloop.gradients.views import parse_view

        try:
            view = parse_view(given.view)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f"thread {part.name!r}: {error} A view of one's own is handed over from Python: "
                "closedloop.protocols.resume(RUN, threads=…)."
            ) from error
    seed = experiment.optimizer_seed(part) if given.seed is None else given.seed
    return GradientSettings(view, every=given.every, redirected=given.redirected, seed=seed)


def _load_generator(part: Named, subject: Subject) -> Generator:
    """Loads a generator, at the subject's resolution and on its device unless it names its own."""
    if part.name == OBJECT:
        raise InvalidArgumentError(_from_python("generator", part))
    return matched_generator({"name": part.name, **part.options}, subject)


def _load_optimizer(experiment: Experiment, part: ThreadPart, space: Space) -> Optimizer:
    """Loads the optimizer of a thread, with a seed unless it names its own; its budget is the session's business."""
    name, options = part.optimizer.name, part.optimizer.options
    if name == OBJECT:
        raise InvalidArgumentError(_from_python("optimizer", part.optimizer))
    return load_optimizer(name, space, **{"seed": experiment.optimizer_seed(part), **options})


def experiment_of_each(experiment: Experiment, units: Units, spec: UnitSpec) -> Experiment:
    """Returns an experiment of one evolution as one of a thread for each of some units of the subject.

    Unless it says otherwise, the response of each image's own unit is recorded, and a thread that fails ends alone.

    Raises:
        InvalidArgumentError: It has several threads, or says what to maximize.
    """
    (thread, *others), content = experiment.threads, experiment.model_dump(exclude_unset=True)
    if others or experiment.names_objective:
        held = "several threads" if others else f"the objective {thread.objective!r}"
        raise InvalidArgumentError(
            f"each: expected one evolution, whose objective is then the response of each unit in turn, got {held}; "
            "name neither threads nor an objective."
        )
    optimizer = {"name": thread.optimizer.name, **thread.optimizer.options}
    base = {k: v for k, v in content["threads"][0].items() if k not in ("name", "optimizer")}
    threads = [
        {**base, "name": one.name, "objective": f"unit({one.column})", "optimizer": {"seed": one.seed, **optimizer}}
        for one in each_unit(units, spec, experiment.settings["seed"])
    ]
    return parse_experiment({"responses": "own", "failures": "thread", **content, "threads": threads}, "each")


def build_rules(experiment: Experiment) -> Sequence[StoppingRule]:
    """Builds the stopping rules of an experiment."""
    rules = []
    for rule in experiment.stop:
        if rule.name == OBJECT:
            raise InvalidArgumentError(_from_python("stop", rule))
        if rule.name not in RULES:
            raise InvalidArgumentError(f"stop: expected one of {sorted(RULES)}, got {rule.name!r}.")
        try:
            rules.append(RULES[rule.name](**rule.options))
        except TypeError as error:
            raise InvalidArgumentError(f"stop: {rule.name}: {error}.") from error
    return rules


def _load(kind: str, part: Named, *arguments: Any) -> Any:
    known = {"name": part.name, **part.options}
    return recipes.build_again(kind, known, f"{kind[:-1]}: it", _cure(kind[:-1]), *arguments)


def _from_python(what: str, part: Named) -> str:
    """Makes the error for something that has no name to load it by."""
    return recipes.by_hand(part.options, f"{what}: it", _cure(what))


def _cure(what: str) -> str:
    """Says what a person can do, with the argument of `resume` that takes a part."""
    argument = {"subject": "subject", "stop": "stop"}.get(what, "threads")
    return f"go on from Python: closedloop.protocols.resume(RUN, {argument}=…)"


def describe_session(
    subject: Subject,
    threads: Sequence[Thread],
    references: Any,
    stop: Sequence[StoppingRule],
    settings: Settings,
) -> dict[str, Any]:
    """Returns plain values for ``experiment.yaml``.

    Args:
        subject: The network or animal that is shown images.
        threads: The evolutions.
        references: What the user named as references, before it was read.
        stop: The rules that end a thread.
        settings: The session's numbers.
    """
    described = [_described_thread(thread) for thread in threads]
    parts: dict[str, Any] = {"threads": described}
    if len(described) == 1 and described[0]["name"] == "main":
        parts = {k: v for k, v in described[0].items() if k != "name"}
    whole: dict[str, Any] = plain(
        {
            "closedloop": version(),
            "protocol": "evolve",
            "subject": recipe(subject),
            **parts,
            "references": source(references),
            "stop": [_described_rule(rule) for rule in stop],
            **{k: v for k, v in asdict(settings).items() if k not in _LATER or _LATER[k] != v},
        }
    )
    return whole


def _described_thread(thread: Thread) -> dict[str, Any]:
    described = {
        "name": thread.name,
        "generator": recipe(thread.generator),
        "optimizer": recipe(thread.optimizer),
        "objective": thread.objective.describe(),
    }
    return described | ({"gradient": _described_gradient(thread.gradient)} if thread.optimizer.needs_gradient else {})


def _described_gradient(how: GradientSettings) -> dict[str, Any]:
    """Says how gradients are taken; an anchor's code has no place in a file."""
    described: dict[str, Any] = {
        "view": None if how.view is None else how.view.describe(),
        "every": how.every,
        "redirected": how.redirected,
        "seed": how.seed,
    }
    if how.anchor is None:
        return described
    code = hashlib.sha256(np.ascontiguousarray(how.anchor.code).tobytes()).hexdigest()[:12]
    return described | {"anchor": {"name": OBJECT, "description": f"{type(how.anchor).__name__} {code}"}}


def _described_rule(rule: StoppingRule) -> dict[str, Any]:
    if isinstance(rule, tuple(RULES.values())):
        return {"name": type(rule).__name__.lower(), **vars(rule)}
    what: Any = rule if isinstance(rule, FunctionType) else type(rule)
    return {"name": OBJECT, "description": f"{what.__module__}.{what.__qualname__}"}
