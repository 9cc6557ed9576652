"""The plan of a sweep: which runs its axes span, and the name of each by what it is.

A plan is a mapping, as YAML has it. What every run has in common stands in it as in a run's ``experiment.yaml``, and
each axis is a plural: ``units``, ``seeds``, ``generators``, ``optimizers``, ``noises``, ``subjects``, ``layers``,
``methods``, ``protocols``, ``objectives``, and further settings under ``vary``. All combinations are runs. What is no
product of axes is a list of plans under ``plans``: each says what it has besides the entries above it. A run's name
is the SHA-256 of its experiment, so that the same run has the same folder in whatever plan it stands, and what a plan
gains or loses leaves all other runs where they are.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from closedloop import recipes
from closedloop.checks import read_whole
from closedloop.errors import InvalidArgumentError, closest
from closedloop.interfaces import Subject
from closedloop.loop.each import each_unit
from closedloop.loop.experiment import load_recorded_subject, parse_experiment, with_noise
from closedloop.loop.noise import unwrap, wrap
from closedloop.loop.parts import GeneratorPart, OptimizerPart, SubjectPart
from closedloop.loop.protocol import EVOLVE, RunProtocol, protocol_of
from closedloop.loop.settings import Settings, read_settings
from closedloop.objectives import parse_objective
from closedloop.objectives.naming_units import columns_text, read_columns
from closedloop.recipes import BUNDLED, check_name, check_recipe, plain

#: Each axis, and what it is for one run.
AXES = {
    "protocols": "protocol",
    "subjects": "subject",
    "layers": "layer",
    "units": "unit",
    "generators": "generator",
    "optimizers": "optimizer",
    "methods": "method",
    "objectives": "objective",
    "noises": "noise",
    "seeds": "seed",
}
#: The entry of a plan that holds several, each with what it has besides.
_PARTS = "plans"
#: Entries of a plan that are no part of an experiment.
_OWN = ("out", "together", "vary", *AXES)
#: Runs that a plan may have: what holds their list, and who looks at it, are one process.
MOST_RUNS = 1_000_000
#: Entries that name a folder of images, or one of these.
_FOLDERS, _NO_FOLDERS = ("references", "naturals"), (BUNDLED, "none")


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep.

    Attributes:
        id: Its name, hexadecimal digits of the SHA-256 of `content`.
        content: Its experiment in plain values, as in a file; its protocol among them.
        facts: Where it stands on each axis that the plan names, in words.
        images: About how many images it evolves or climbs through.
        steps: About how many steps it trains a network of its own.
    """

    id: str
    content: Mapping[str, Any]
    facts: Mapping[str, str] = field(default_factory=dict)
    images: int = 0
    steps: int = 0

    @property
    def inner(self) -> str:
        """Its subject without noise, as a text: what a worker keeps warm."""
        return json.dumps(unwrap(self.content["subject"])[0], sort_keys=True) if "subject" in self.content else ""

    @property
    def place(self) -> str:
        """Its folder below that of the sweep; sharded, so that no folder holds more than some hundred others."""
        return f"{self.id[:2]}/{self.id[2:4]}/{self.id}"


@dataclass(frozen=True)
class Plan:
    """A sweep as it was asked for.

    Attributes:
        out: Its folder.
        runs: All runs, each once; those of one subject follow each other.
    """

    out: Path
    runs: Sequence[PlannedRun]

    @property
    def images(self) -> int:
        """About how many images all runs evolve."""
        return sum(run.images for run in self.runs)

    @property
    def steps(self) -> int:
        """About how many steps all runs train."""
        return sum(run.steps for run in self.runs)

    @property
    def work(self) -> str:
        """What all runs do, in words."""
        said = f"{len(self.runs):,} runs"
        said += f", {self.images:,} images" if self.images or not self.steps else ""
        return said + (f", {self.steps:,} steps of training" if self.steps else "")


def run_name(content: Mapping[str, Any]) -> str:
    """Returns the name of a run: digits of SHA-256 of its experiment's canonical text (sorted keys, no spaces).

    Raises:
        InvalidArgumentError: A number of it is not finite.
    """
    try:
        text = json.dumps(plain(content), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except ValueError:
        raise InvalidArgumentError(f"plan: expected finite numbers, got {plain(content)!r:.300}.") from None
    # 20 digits: of 10⁶ runs two have the same name with a probability below 10⁻¹².
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def make_plan(content: Mapping[str, Any], out: Path, where: str = "plan", beside: Path = Path()) -> Plan:
    """Expands a plan into its runs; all of them are checked, and nothing is written.

    Args:
        content: The plan's entries.
        out: The folder of the sweep.
        where: The plan, for errors.
        beside: Where relative folders of images are looked for first: that of the plan's file.

    Raises:
        InvalidArgumentError: An entry cannot be read, or a run's experiment does not fit; the error names it.
    """
    found: dict[str, PlannedRun] = {}
    for part, name in _parts(content, where):
        for run in _Expansion(part, name, beside).runs():
            found.setdefault(run.id, run)
            if len(found) > MOST_RUNS:
                raise _too_many(where)
    by_subject: dict[str, list[PlannedRun]] = {}
    for run in found.values():
        by_subject.setdefault(run.inner, []).append(run)
    return Plan(out, [run for runs in by_subject.values() for run in runs])


def _parts(content: Mapping[str, Any], where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yields the plans that a plan consists of, each with what they have in common, and what errors call it."""
    if _PARTS not in content:
        yield content, where
        return
    common, parts = {name: value for name, value in content.items() if name != _PARTS}, content[_PARTS]
    if not isinstance(parts, (list, tuple)) or not parts or not all(isinstance(part, Mapping) for part in parts):
        raise InvalidArgumentError(
            f"{where}: plans: expected a list of plans, such as - {{layer: output, units: 0-9}}, got {parts!r:.80}."
        )
    for number, part in enumerate(parts, 1):
        for name in {"out", _PARTS} & part.keys():
            raise InvalidArgumentError(f"{where}: plans: {name} stands above all plans, not in number {number}.")
        yield {**common, **part}, f"{where}: plans: number {number}"


class _Expansion:
    """A plan on the way to its runs; subjects are loaded once where only they know their units."""

    def __init__(self, content: Mapping[str, Any], where: str, beside: Path) -> None:
        self._where, self._beside = where, beside
        for name in content:
            if not isinstance(name, str):
                raise InvalidArgumentError(f"{where}: expected entries with a name, got {name!r:.80}.")
        self._fixed = {name: value for name, value in content.items() if name not in _OWN}
        self._together = content.get("together", 1)
        self._axes = {name: _values(name, content[name]) for name in AXES if name in content}
        self._vary = {str(k): _values(f"vary: {k}", v) for k, v in _mapping(content.get("vary", {})).items()}
        self._units: dict[str, list[str]] = {}
        self._check()

    def _check(self) -> None:
        for axis in self._axes:
            if AXES[axis] in self._fixed:
                raise InvalidArgumentError(
                    f"{self._where}: expected {axis} or {AXES[axis]}, got both; a plural is an axis of the sweep."
                )
        both = sorted(self._vary.keys() & (self._fixed.keys() | set(AXES.values())))
        if both:
            raise InvalidArgumentError(f"{self._where}: vary: {both[0]!r} stands elsewhere in the plan, too.")
        if not isinstance(self._together, int) or isinstance(self._together, bool) or self._together < 0:
            raise InvalidArgumentError(
                f"{self._where}: together: expected how many units share a session, 0 for all, got {self._together!r}."
            )
        axes = [values for axis, values in self._axes.items() if axis != "units"]
        if math.prod(len(values) for values in (*axes, *self._vary.values())) > MOST_RUNS:
            raise _too_many(self._where)

    def runs(self) -> Iterator[PlannedRun]:
        """Yields the runs of all combinations.

        Raises:
            InvalidArgumentError: Two are the same experiment: what they differ in has no effect.
        """
        known: dict[str, Mapping[str, str]] = {}
        for chosen in self._combinations():
            for run in self._of(chosen):
                other = known.setdefault(run.id, run.facts)
                if other != run.facts:
                    axis = next(name for name in run.facts if other.get(name) != run.facts[name])
                    raise InvalidArgumentError(
                        f"{self._where}: {axis}: expected values that make a difference, but with {other.get(axis)!r} "
                        f"and {run.facts[axis]!r} the experiment is the same; does another entry say what it is?"
                    )
                yield run

    def _combinations(self) -> Iterator[dict[str, Any]]:
        """Yields one value for each axis but units; seeds and what is cheap to change turn fastest."""
        axes = {AXES[name]: values for name, values in self._axes.items() if name != "units"} | self._vary
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))

    def _of(self, chosen: Mapping[str, Any]) -> Iterator[PlannedRun]:
        """Yields the runs of one combination: one for each unit, or for some of them together."""
        content = {**self._fixed, **chosen}
        named = content.get("protocol", EVOLVE)
        if not isinstance(named, str):
            raise InvalidArgumentError(f"{self._where}: protocol: expected a name, such as evolve, got {named!r:.80}.")
        protocol = _protocol(named, self._where)
        facts = {name: _words(value) for name, value in chosen.items()}
        if protocol.trains:
            yield self._training(protocol, content, facts)
            return
        content = self._with_folders(content)
        content["subject"] = self._subject(content)
        content.pop("layer", None)
        noise = content.pop("noise", None)
        words = [] if noise in (None, "none") else [noise] if isinstance(noise, str) else noise
        if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
            raise InvalidArgumentError(
                f"{self._where}: noise: expected words such as poisson:20, or a list of them, got {noise!r:.80}."
            )
        content = with_noise({**content, "noise": list(words)})
        _check_subject(content["subject"])
        groups: Sequence[Sequence[str]] = [()]
        if "units" in self._axes:
            units = self._named_units(content["subject"], self._axes["units"])
            size = self._together or len(units)
            groups = [units[i : i + size] for i in range(0, len(units), size)]
        for group in groups:
            known = facts | ({"unit": group[0] if len(group) == 1 else f"{len(group)} units"} if group else {})
            yield _planned(protocol, content, group, known, self._together == 1, self._where)

    def _training(self, protocol: RunProtocol, content: Mapping[str, Any], facts: Mapping[str, str]) -> PlannedRun:
        """Returns the run of one combination that trains a network of its own."""
        if "units" in self._axes:
            raise InvalidArgumentError(
                f"{self._where}: units: expected none for runs of {protocol.name}, which train a network of their own; "
                "a setting of that name stands under vary, such as vary: {units: ['random:4']}."
            )
        found, data = self._with_folders(content, (*_NO_FOLDERS, "examples")), content.get("data")
        if isinstance(data, str):  # a name, or a file that is found whoever does the run
            files = [place for place in (self._beside / data, Path(data)) if place.is_file()]
            found["data"] = str(files[0].resolve()) if files else data
        return _planned(protocol, found, (), facts, True, self._where)

    def _with_folders(self, content: Mapping[str, Any], others: Collection[str] = _NO_FOLDERS) -> dict[str, Any]:
        """Returns the entries with folders of images that are found whoever does the run, and wherever.

        Args:
            content: The entries.
            others: Words that are no folders.
        """
        found = dict(content)
        for name in _FOLDERS:
            named = content.get(name)
            if not isinstance(named, str) or named in others:
                continue
            places = [place for place in (self._beside / named, Path(named)) if place.is_dir()]
            if not places:
                raise InvalidArgumentError(f"{self._where}: {name}: expected a folder of images, got {named!r:.200}.")
            found[name] = str(places[0].resolve())
        return found

    def _subject(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the recipe of a combination's subject, with its layer."""
        named = content.get("subject", SubjectPart.subject)
        if not isinstance(named, (str, Mapping)):
            raise InvalidArgumentError(
                f"{self._where}: subject: expected a name, or a name with options, got {named!r:.80}."
            )
        inner, noise = unwrap({"name": named} if isinstance(named, str) else dict(named))
        if "layer" in content:
            inner["layer"] = content["layer"]
        return wrap(inner, noise)

    def _named_units(self, subject: Mapping[str, Any], spec: Sequence[Any]) -> list[str]:
        """Returns the names of the units of a subject that an axis stands for, each as text.

        Those that only the subject knows ("all", "random:8", "full") are asked of it, loaded once.
        """
        text = ",".join(str(item) for item in spec)
        if re.fullmatch(r"[\d,\s-]+", text):
            return list(dict.fromkeys(str(column) for column in _whole_numbers("units", text)))
        inner, _ = unwrap(subject)
        key = json.dumps([plain(inner), text], sort_keys=True)
        if key not in self._units:
            self._units[key] = _asked_units(inner, text, self._where)
        return self._units[key]


def _too_many(where: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{where}: expected at most {MOST_RUNS:,} runs, got more; make several plans of it.")


def _check_subject(recipe: Mapping[str, Any]) -> None:
    """Looks at the recipe of a subject and of the noise around it, as far as that can be without making it."""
    inner, noise = unwrap(recipe)
    for part in (inner, *noise):
        look_at("subjects", part)


def look_at(kind: str, recipe: Any) -> None:
    """Does what `check_recipe` does, of many runs with the same part once."""
    _looked_at(kind, json.dumps(plain(recipe), sort_keys=True))


@cache
def _looked_at(kind: str, text: str) -> None:
    check_recipe(kind, json.loads(text))


@cache
def _takes_units(subject: str) -> bool:
    """Tells whether a subject records the units that it is told; a look-up reads all packages that are installed."""
    return recipes.has_option("subjects", subject, "units")


@cache
def _parsed(objective: str) -> None:
    parse_objective(objective)


@cache
def _protocol(name: str, where: str) -> RunProtocol:
    check_name("protocols", name)
    return protocol_of({"protocol": name}, where)


def _whole_numbers(name: str, text: str) -> list[int]:
    """Returns the numbers of a text such as "0-9, 12"; there are not more than a plan may have runs."""
    for first, last in re.findall(r"(\d+)\s*-\s*(\d+)", text):
        if read_whole(name, last) - read_whole(name, first) >= MOST_RUNS:
            raise InvalidArgumentError(f"{name}: expected at most {MOST_RUNS:,} numbers, got {text!r:.80}.")
    return read_columns(text)


def _asked_units(recipe: Mapping[str, Any], text: str, where: str) -> list[str]:
    """Loads a subject, and returns the names of the units that a text stands for."""
    inner = dict(recipe)
    if not _takes_units(str(inner["name"])):
        subject = load_recorded_subject(inner, where)
        return [str(one.column) for one in each_unit(subject.units, text, 0)]
    subject = load_recorded_subject({**inner, "units": text}, where)
    return unit_names(subject, "full" in text or "(" in text)


def unit_names(subject: Subject, places: bool) -> list[str]:
    """Returns what names each unit of a network's layer: its channel, or with `places` its channel, row and column."""
    coords, count = subject.units.coords, len(subject.units)
    if "channel" not in coords:
        return [str(column) for column in range(count)]
    if places and {"y", "x"} <= set(coords) and coords["y"][0] >= 0:
        return [f"({c},{y},{x})" for c, y, x in zip(coords["channel"], coords["y"], coords["x"], strict=True)]
    return [str(channel) for channel in coords["channel"]]


def _planned(
    protocol: RunProtocol,
    content: Mapping[str, Any],
    units: Sequence[str],
    facts: Mapping[str, str],
    alone: bool,
    where: str,
) -> PlannedRun:
    """Returns one run; its experiment in its canonical form, which has passed the checks of its protocol."""
    if protocol.planned is None:
        raise InvalidArgumentError(
            f"{where}: protocol: expected one that a sweep can run, evolve, ascend, compare, lca, develop or judge, "
            f"got {protocol.name!r}."
        )
    whole, count = protocol.planned(content, units, alone)
    whole = plain({"protocol": protocol.name, **whole})
    images, steps = (0, count) if protocol.trains else (count, 0)
    return PlannedRun(run_name(whole), whole, facts, images, steps)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"vary: expected settings with a list of values each, got {value!r:.80}.")
    return value


def _values(name: str, value: Any) -> list[Any]:
    """Returns the values of an axis: a list, or for seeds and units a text such as "0-9"."""
    if name == "seeds" and isinstance(value, str) and re.fullmatch(r"[\d,\s-]+", value):
        return _whole_numbers(name, value)
    if name in ("units", "seeds") and isinstance(value, (str, int)) and not isinstance(value, bool):
        return [value]
    if not isinstance(value, (list, tuple)) or not value:
        raise InvalidArgumentError(f"{name}: expected a list of values, one for each run, got {value!r:.80}.")
    return list(value)


def _words(value: Any) -> str:
    """Returns a value of an axis as a table says it."""
    if isinstance(value, Mapping):
        options = ", ".join(f"{k}={_words(v)}" for k, v in value.items() if k != "name")
        return f"{value.get('name', '')}({options})" if options else str(value.get("name", ""))
    if isinstance(value, (list, tuple)):
        return " ".join(_words(v) for v in value) or "none"
    return str(value)


# Plans of the protocols -----------------------------------------------------------------------------------------------


def with_units(subject: Mapping[str, Any], units: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """Returns the recipe of a subject that records some units, and their columns among its responses."""
    inner, noise = unwrap(subject)
    if not units or not _takes_units(str(inner["name"])):
        return dict(subject), [int(unit) for unit in units]
    return wrap({**inner, "units": ",".join(units)}, noise), list(range(len(units)))


def climbed(subject: Mapping[str, Any], units: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """Returns the same for gradient methods: of an output all units are recorded, so that a confidence is known."""
    inner, _ = unwrap(subject)
    output = inner.get("layer", SubjectPart.layer) == SubjectPart.layer
    return whole_layer(subject, units) if output else with_units(subject, units)


def whole_layer(subject: Mapping[str, Any], units: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """Returns the recipe of a subject that records all units of its layer, and the columns of those that are named.

    Units at places of their own are none of a layer's row of channels; of these, they alone are recorded.
    """
    channels = all(unit.isdigit() for unit in units)
    return (dict(subject), [int(unit) for unit in units]) if channels else with_units(subject, units)


def check_entries(content: Mapping[str, Any], known: Collection[str], protocol: str) -> None:
    """Raises InvalidArgumentError if a plan says something that the runs of a protocol do not know."""
    for name in content:
        if name not in (*known, "protocol", "subject"):
            raise InvalidArgumentError(f"plan: runs of {protocol} have no entry {name!r}.{closest(name, known)}")


def planned_evolution(content: Mapping[str, Any], units: Sequence[str], alone: bool) -> tuple[dict[str, Any], int]:
    """Returns the experiment of an evolution, or of one for each of some units in one session.

    Entries that are a default are left out, so that a setting that a later version adds gives no run another name.
    """
    whole = {"generator": GeneratorPart.generator, "optimizer": OptimizerPart.optimizer, **content}
    whole["subject"], columns = with_units(content["subject"], units)
    if whole.get("references") == "none":
        whole["references"] = None
    if units and alone and columns[0]:
        whole.setdefault("objective", f"unit({columns[0]})")
    each = bool(units) and not alone
    if each and {"objective", "threads"} & whole.keys():
        raise InvalidArgumentError("together: expected no objective and no threads, for each unit is one's objective.")
    experiment = parse_experiment(whole, "plan")
    read_settings(Settings, experiment.settings)
    for thread in experiment.threads:
        look_at("generators", thread.generator.model_dump())
        look_at("optimizers", thread.optimizer.model_dump())
        _parsed(thread.objective)
    found = experiment.model_dump(exclude_defaults=True)
    if len(experiment.threads) == 1:
        found |= {k: v for k, v in found.pop("threads")[0].items() if k != "name"}
    threads = len(units) if each else len(experiment.threads)
    return found | ({"each": columns_text(columns)} if each else {}), threads * int(experiment.settings["images"])
