"""``closedloop ascend``: climb by gradients, watch it, and say what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop.cli.building import DEFAULT_UNIT, columns_of, load, read_config, read_named, subject_recipe, where_of
from closedloop.cli.console import Meter, console, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.noise import unwrap, wrap
from closedloop.loop.parts import (
    FilePart,
    GeneratorPart,
    ObjectivePart,
    ReferencePart,
    RunPart,
    SubjectPart,
    UnitPart,
)
from closedloop.loop.settings import option, settings
from closedloop.yaml_text import read_yaml_text

if TYPE_CHECKING:
    from closedloop.interfaces import Generator, Subject
    from closedloop.loop.blocks import Generation
    from closedloop.loop.session import Session

#: Where a bare `closedloop ascend` differs from the definitions.
DEFAULTS = {"units": DEFAULT_UNIT, "method": "lucid"}
#: What is taken from a run's file.
_WRITTEN = ("subject", "copies", "seed", "references", "start", "columns", "objectives")
#: What is taken besides where the method is the same.
_OF_METHOD = ("options", "generator", "steps", "every")


@settings
class ClimbPart:
    """Where an ascent begins, and what its method is told."""

    start: Path | None = option(default=None, metavar="FILE", shown="the method's own", help="Image file to begin at.")
    set: tuple[str, ...] = option(
        default=(), shown="as published", metavar="NAME=VALUE", help="An option of the method, such as rate=0.1."
    )


def ascend(given: Mapping[str, Any]) -> None:
    """Climb by gradients to an image for one or more units, with one of the field's methods."""
    from closedloop.cli.show import show_run
    from closedloop.gradients.methods import find_method
    from closedloop.interfaces import resolution_of
    from closedloop.protocols import ascend as climb

    content = read_ascent_file(given)
    method = given.get("method", content.get("method", DEFAULTS["method"]))
    find_method(method)
    options = {**content.get("options", {}), **parse_options(given.get("set", ()))}
    network = (given.get(name, getattr(SubjectPart, name)) for name in ("subject", "layer"))
    where = where_of(given, *network, given.get("units"), method)
    subject, unit = climbed_units(given, content)
    with console.status("Loading the generator …"):
        generator = _generator(given, content, subject, method)
        start = None if "start" not in given else read_image_file(given["start"], resolution_of(subject))
    numbers = {k: v for k, v in {**content, **given}.items() if k in ("seed", "steps", "every", "copies", "references")}
    if numbers.get("references") == "none":
        del numbers["references"]
    objective = given.get("objective", None if unit is not None else content.get("objective"))
    climb(
        subject,
        generator,
        method,
        unit=unit,
        objective=objective,
        start=start,
        observers=[Steps()],
        progress=False,
        **where,
        **numbers,
        **options,
    )
    show_run(where["save"])


COMMAND = Command(
    ascend,
    (
        FilePart,
        SubjectPart,
        UnitPart,
        "closedloop.protocols:AscendSettings",
        ClimbPart,
        ObjectivePart,
        GeneratorPart,
        ReferencePart,
        RunPart,
    ),
    defaults=DEFAULTS,
    helps={
        "units": "Units to excite, each by itself: 292, 7,8, 0-9, random:8 …",
        "objective": "What to climb instead of a unit: 'unit(0) - 0.5*unit(1)' …",
    },
    says={"objective": "a unit's response", "generator": "the method's own", "references": "none"},
)


def read_ascent_file(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the file of an ascent says, but for what is said anew; nothing where there is no file.

    Of another method neither options nor generator and steps are kept.

    Raises:
        InvalidArgumentError: The file cannot be read, is of something else, or cannot be repeated from here.
    """
    content = read_config(given, "ascend")
    if not content:
        return {}
    missing = [name for name in (*_WRITTEN, *_OF_METHOD, "method") if name not in content]
    if missing:
        raise InvalidArgumentError(
            f"config: expected the experiment.yaml of a run of ascend, got {given['config']}: it has no entry "
            f"{missing[0]!r}."
        )
    for part in ("subject", "generator"):
        if not content[part]:  # a run of an early version, with a Python object
            raise InvalidArgumentError(
                f"config: the {part} of {given['config']} was built by hand; repeat the run from Python."
            )
    if content["start"] and "start" not in given:
        raise InvalidArgumentError(
            f"start: the run of {given['config']} began at an image; name the file with --start."
        )
    same = given.get("method", content["method"]) == content["method"]
    kept = [*_WRITTEN, "method", *(_OF_METHOD if same else ())]
    found = {name: content[name] for name in kept if content[name] is not None}
    if None in content["columns"]:
        found |= {"columns": None, "objective": content["objectives"][0]}
    return found


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Reads options of a method from ``name=value``; values as YAML has them: numbers, true, null, [3, 1].

    Raises:
        InvalidArgumentError: A word is something else.
    """
    options = {}
    for word in words:
        name, sign, value = word.partition("=")
        options[name.strip()] = read_yaml_text(value, f"set: {word!r}")
        if not sign or not name.strip().isidentifier():
            raise InvalidArgumentError(f"set: expected NAME=VALUE, such as rate=0.1, got {word!r}.")
    return options


def climbed_units(given: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[Subject, list[int] | None]:
    """Returns the subject, and the columns climbed; None where an objective says it, or there is one unit only.

    Of the output all units are recorded, so that a confidence is known; of another layer those that are named.

    Args:
        given: Options by name.
        content: Entries of a file, with ``subject`` and ``columns``; empty for no file.
    """
    units, told = given.get("units"), "objective" in given
    if units is not None and told:
        raise InvalidArgumentError(f"units: expected none beside an objective, got {units!r}.")
    recipe = subject_recipe({k: v for k, v in given.items() if k != "units"}, content.get("subject"))
    inner, noise = unwrap(recipe)
    held = content.get("columns") if not {"units", "layer", "subject", "objective"} & given.keys() else None
    if inner.get("layer", SubjectPart.layer) != SubjectPart.layer:
        if units is not None or (content and held is None and not told):
            inner["units"] = units or UnitPart.units
        subject = load(wrap(inner, noise))
        own = None if told or content.get("objective") else list(range(len(subject.units)))
        return subject, held or own
    subject = load(recipe)
    if units is None and not content and not told and inner["name"] == SubjectPart.subject:
        units = DEFAULT_UNIT
    return subject, held if units is None else columns_of(units, subject, given)


def _generator(given: Mapping[str, Any], content: Mapping[str, Any], subject: Subject, method: str) -> Generator | None:
    """Loads the one that was named, a file's, or the method's at another resolution; None for the method's own."""
    from closedloop import recipes
    from closedloop.gradients.methods import find_method
    from closedloop.interfaces import RESOLUTION

    options = dict(content.get("generator", find_method(method).generator if "resolution" in given else {}))
    if "generator" in given:
        options = read_named(given["generator"])
    if not options:
        return None
    if "resolution" in given and recipes.takes("generators", options["name"], "resolution"):
        options["resolution"] = given["resolution"]
    return recipes.matched_generator(options, subject, RESOLUTION)


def read_image_file(path: Path, resolution: int) -> Any:
    """Reads an image file ``(3, r, r)`` float32 in [0, 1].

    Raises:
        InvalidArgumentError: There is no such file, or it is no image.
    """
    from closedloop.images.eight_bit import from_bytes
    from closedloop.images.sets import read_image

    if not path.is_file():
        raise InvalidArgumentError(f"start: expected an image file, got {path}, which does not exist.")
    return from_bytes(read_image(path, resolution))


class Steps:
    """Steps taken by all units together, score shown last, length of the gradient: an observer of a session."""

    def begin(self, session: Session) -> None:
        """Starts the bar where the session stands."""
        from closedloop.optimizers.gradient.ascent import Ascent

        say(f"Run: {session.save}")
        total = sum(e.thread.optimizer.steps for e in session.evolutions if isinstance(e.thread.optimizer, Ascent))
        self._meter = Meter("climbing", total or None)
        self._meter.start(sum(len(e.climbed) for e in session.evolutions))

    def generation(self, generation: Generation) -> None:
        """Moves it on."""
        first = generation.evolutions[0]
        facts = ""
        if first.climbed and first.history:
            facts = f"score {first.history[-1].best:.4g}  gradient {first.climbed[-1][1].max():.2g}"
        self._meter.move(sum(len(e.climbed) for e in generation.evolutions), facts=facts)

    def end(self, session: Session) -> None:
        """Stops the bar."""
        self._meter.stop()
