"""``closedloop ascend``: climb by gradients, watch it, and say what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.analysis.ascents import ASCEND
from closedloop.cli.console import console, progress_bar
from closedloop.cli.show import show_run
from closedloop.errors import InvalidArgumentError
from closedloop.gradients.methods import find_method
from closedloop.images.eight_bit import from_bytes
from closedloop.images.sets import read_image
from closedloop.interfaces import RESOLUTION, Generator, Subject, resolution_of
from closedloop.loop.blocks import Generation
from closedloop.loop.experiment import read_yaml
from closedloop.loop.session import Session
from closedloop.objectives.selecting import parse_columns
from closedloop.optimizers.gradient.ascent import Ascent
from closedloop.protocols import ascend
from closedloop.recipes import matched_generator
from closedloop.subjects import load_subject

#: The layer of which all units are recorded, so that a confidence is known.
OUTPUT = "output"
#: What a bare `closedloop ascend` asks.
DEFAULT_UNIT = "971"
#: Stands where there is no number.
NOTHING = "–"
#: The figure in a run's folder.
FIGURE = "ascents.png"
_SUBJECT = ("weights", "engine", "device")
_ARGUMENTS = ("objective", "seed", "steps", "every", "copies", "references")
#: What is taken from a run's file.
_WRITTEN = ("subject", "generator", "method", "options", "steps", "every", "copies", "seed", "references", "start",
            "columns", "objectives")  # fmt: skip


def run_ascent(out: Path, given: Mapping[str, Any]) -> None:
    """``closedloop ascend`` into a new folder."""
    written = read_ascent_file(Path(given["config"]), given) if "config" in given else {}
    method = given.get("method", written.get("method", "lucid"))
    find_method(method)
    options = {**written.get("options", {}), **parse_options(given.get("set", ()))}
    with console.status("Loading the subject …"):
        subject, unit = _repeated(written, given) if written else climbed_units(given)
        generator = _generator(written, given, subject, method)
        start = None if "start" not in given else read_start(Path(given["start"]), resolution_of(subject))
    arguments = {name: value for name, value in {**written, **given}.items() if name in _ARGUMENTS}
    if arguments.get("references") == "none":
        del arguments["references"]
    ascend(subject, generator, method, unit=unit, start=start, save=out, observers=[Steps()], **arguments, **options)
    show_run(out)


def read_ascent_file(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the ``experiment.yaml`` of an ascent says, but for what is said anew: in the words of `ascend`.

    Of another method neither options nor generator and steps are kept.

    Raises:
        InvalidArgumentError: The file cannot be read, is of something else, or cannot be repeated from here.
    """
    content = read_yaml(path)
    missing = [name for name in _WRITTEN if name not in content]
    if content.get("protocol") != ASCEND or missing:
        what = f"it has no entry {missing[0]!r}" if content.get("protocol") == ASCEND else "it is none"
        raise InvalidArgumentError(f"config: expected the experiment.yaml of a run of ascend, got {path}: {what}.")
    for part in ("subject", "generator"):
        if not content[part]:
            raise InvalidArgumentError(f"config: the {part} of {path} was built by hand; repeat the run from Python.")
    if content["start"] and "start" not in given:
        raise InvalidArgumentError(f"start: the run of {path} began at an image; name the file with --start.")
    same = given.get("method", content["method"]) == content["method"]
    kept = [name for name in _WRITTEN if same or name not in ("method", "options", "generator", "steps", "every")]
    found = {name: content[name] for name in kept if content[name] is not None}
    if "objective" not in given and "unit" not in given:
        whole = None in content["columns"]
        found |= {"objective": content["objectives"][0]} if whole else {"unit": content["columns"]}
    return found


def _repeated(written: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Subject, list[int] | None]:
    """The subject of a file, and the columns that are climbed; None where an objective says it."""
    for name in ("layer", *_SUBJECT):
        if name in given:
            raise InvalidArgumentError(f"{name}: expected none beside a config, got {given[name]!r}; edit the file.")
    options = dict(written["subject"])
    subject = load_subject(options.pop("name"), **options)
    columns = len(subject.units)
    return subject, parse_columns(given["unit"], columns) if "unit" in given else written.get("unit")


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Options of a method from ``name=value``; values as YAML has them: numbers, true, null, [3, 1].

    Raises:
        InvalidArgumentError: A word is something else.
    """
    options = {}
    for word in words:
        name, sign, value = word.partition("=")
        try:
            options[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InvalidArgumentError(f"set: cannot read {word!r} ({str(error).splitlines()[0]}).") from error
        if not sign or not name.strip().isidentifier():
            raise InvalidArgumentError(f"set: expected NAME=VALUE, such as rate=0.1, got {word!r}.")
    return options


def climbed_units(given: Mapping[str, Any]) -> tuple[Subject, list[int] | None]:
    """The subject, and the columns that are climbed; None where an objective says it, or there is one unit only.

    Of the output all units are recorded; of another layer those that are named.
    """
    name, layer, unit = given.get("subject", "lite0"), given.get("layer", OUTPUT), given.get("unit")
    options = {k: given[k] for k in _SUBJECT if k in given}
    if unit is not None and "objective" in given:
        raise InvalidArgumentError(f"unit: expected none beside an objective, got {unit!r}.")
    if layer != OUTPUT:
        subject = load_subject(name, layer=layer, units=unit or "all", **options)
        return subject, None if "objective" in given else list(range(len(subject.units)))
    subject = load_subject(name, **options)
    if unit is None and name == "lite0" and "objective" not in given:
        unit = DEFAULT_UNIT
    return subject, None if unit is None else parse_columns(unit, len(subject.units))


def _generator(written: Mapping[str, Any], given: Mapping[str, Any], subject: Subject, method: str) -> Generator | None:
    """The one that was named, that of a file, or the method's at another resolution; None for the method's own."""
    options = dict(written.get("generator", find_method(method).generator if "resolution" in given else {}))
    if "generator" in given:
        options = {"name": given["generator"]}
    if not options:
        return None
    if "resolution" in given and recipes.takes("generators", options["name"], "resolution"):
        options["resolution"] = given["resolution"]
    return matched_generator(options, subject, RESOLUTION)


def read_start(path: Path, resolution: int) -> NDArray[np.float32]:
    """An image file ``(3, r, r)`` in [0, 1].

    Raises:
        InvalidArgumentError: There is no such file, or it is no image.
    """
    if not path.is_file():
        raise InvalidArgumentError(f"start: expected an image file, got {path}, which does not exist.")
    image: NDArray[np.float32] = from_bytes(read_image(path, resolution))
    return image


class Steps:
    """A progress bar: steps taken by all units together, response shown last, length of the gradient."""

    def __init__(self) -> None:
        self._progress = progress_bar()
        self._task: Any = None

    def begin(self, session: Session) -> None:
        """Starts the bar where the session stands."""
        console.print(f"Run: {session.save}", highlight=False)
        total = sum(e.thread.optimizer.steps for e in session.evolutions if isinstance(e.thread.optimizer, Ascent))
        done = sum(len(e.climbed) for e in session.evolutions)
        self._progress.start()
        self._task = self._progress.add_task("climbing", total=total or None, completed=done, facts="")

    def generation(self, generation: Generation) -> None:
        """Moves it on."""
        first = generation.evolutions[0]
        facts = ""
        if first.climbed and first.history:
            facts = f"score {first.history[-1].best:.4g}  gradient {first.climbed[-1][1].max():.2g}"
        done = sum(len(e.climbed) for e in generation.evolutions)
        self._progress.update(self._task, completed=done, facts=facts)

    def end(self, session: Session) -> None:
        """Stops the bar."""
        self._progress.stop()
