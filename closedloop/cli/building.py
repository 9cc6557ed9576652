"""What the commands share: parts of an experiment from options and from the file of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop import recipes
from closedloop.cli.console import free_folder, loading
from closedloop.errors import InvalidArgumentError
from closedloop.loop.noise import parse_noise, unwrap, wrap
from closedloop.loop.parts import RunPart, SubjectPart
from closedloop.loop.settings import Timing, check_choice
from closedloop.recipes import OBJECT, by_hand
from closedloop.yaml_text import read_yaml_text

if TYPE_CHECKING:
    from closedloop.interfaces import Subject

#: The unit that is asked for where neither subject nor layer nor unit is named: of lite0's output, "volcano". Of the
#: classes that were compared its images are most alike from seed to seed, and most often named (docs/native.md).
DEFAULT_UNIT = "980"


def read_named(text: Any) -> dict[str, Any]:
    """Returns name and options from a name, or from a mapping as YAML has it: ``{name: fourier, cutoff: 24}``.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if isinstance(text, Mapping):
        return dict(text)
    if not str(text).lstrip().startswith("{"):
        return {"name": str(text)}
    found = read_yaml_text(text, repr(text))
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise InvalidArgumentError(f"expected a name, or '{{name: NAME, OPTION: VALUE}}', got {text!r}.")
    return found


def subject_recipe(given: Mapping[str, Any], file: Any = None, units: str | None = None) -> dict[str, Any]:
    """Returns the recipe of the subject: of a file, or the default one, with the options that were given.

    Args:
        given: Options by name.
        file: The entry of a file: a name or a recipe; None for no file.
        units: Units of the default subject where none are named; None for all of them.
    """
    named = given.get("subject", SubjectPart.subject if file is None else None)
    inner, noise = unwrap(read_named(file)) if named is None else (read_named(named), [])
    said = {name: given[name] for name in ("layer", "units", "weights", "engine", "device") if name in given}
    if said:
        for wrapper in noise:
            wrapper.pop("best", None)  # that of other units, or of another network; it is measured anew
        _check_said(str(inner["name"]), said)
    inner |= said
    bare = inner["name"] == SubjectPart.subject and not {"units", "layer"} & inner.keys()
    if bare and units is not None:
        inner["units"] = units
    if "seed" in given:
        noise = [{**wrapper, "seed": given["seed"]} if "seed" in wrapper else wrapper for wrapper in noise]
    if "noise" in given:
        noise = parse_noise(given["noise"], given.get("seed", Timing.seed))
    return wrap(inner, noise)


def _check_said(name: str, said: Mapping[str, Any]) -> None:
    """Raises if a subject has nothing for an option that was given.

    Raises:
        InvalidArgumentError: The error says what can be said of it instead.
        UnknownNameError: No such subject.
    """
    for option in said:
        if recipes.has_option("subjects", name, option):
            continue
        own = [o for o in recipes.options("subjects", name) if o not in said]
        cure = (
            "all of its units are recorded; commands that excite units choose with --objective, such as 'unit(0)'"
            if option == "units"
            else f"leave --{option} out"
        )
        way = f"--subject '{{name: {name}, OPTION: VALUE}}', where OPTION is {', '.join(own)}"
        more = f"Its own options are given with its name: {way}." if own else "It has no options of its own."
        raise InvalidArgumentError(f"{option}: subject {name!r} takes no --{option}; {cure}. {more}")


def load(recipe: Mapping[str, Any]) -> Subject:
    """Loads a subject from its recipe, and says that it does.

    Raises:
        InvalidArgumentError: It was handed over as a Python object and has no name to load it by.
    """
    from closedloop.loop.experiment import load_recorded_subject

    with loading("Loading the subject …"):
        return load_recorded_subject(dict(recipe), "options")


def in_torch(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the recipe of a network that is not to be built into a fast engine; of another subject as it is."""
    head = str(recipe["name"]).partition(":")[0]
    eager = {"engine": "eager"} if head in ("lite0", "lite1", "lite2", "torchvision", "timm") else {}
    return {**recipe, **eager}


def columns_of(text: str, subject: Subject, given: Mapping[str, Any]) -> list[int]:
    """Returns the columns of a subject's responses that the options ``--units`` and ``--seed`` name.

    Raises:
        InvalidArgumentError: The text cannot be read, or a unit is out of range.
    """
    from closedloop.objectives.naming_units import parse_columns

    return parse_columns(text, len(subject.units), given.get("seed", Timing.seed))


def read_config(given: Mapping[str, Any], protocol: str, *others: str) -> dict[str, Any]:
    """Returns the entries of the file that was given, of a run of one protocol or of others; none where none was given.

    Raises:
        InvalidArgumentError: It cannot be read, is of another protocol, or holds what no name can load.
    """
    if "config" not in given:
        return {}
    from closedloop.loop.experiment import read_yaml, with_noise

    path = Path(given["config"])
    content = read_yaml(path)
    held = content.get("protocol")
    if held not in (protocol, *others):
        said = "it is none" if held is None else f"it is of {held!r}"
        raise InvalidArgumentError(f"config: expected the experiment.yaml of a run of {protocol}, got {path}: {said}.")
    check_loadable({name: part for name, part in content.items() if name not in given}, path)
    return with_noise(content)


def check_loadable(content: Mapping[str, Any], path: Path) -> None:
    """Raises if a part of a file was a Python object.

    Raises:
        InvalidArgumentError: The error names the part.
    """
    for name, part in content.items():
        if isinstance(part, Mapping) and part.get("name") == OBJECT:
            raise InvalidArgumentError(by_hand(part, f"config: the {name} of {path}", "repeat the run from Python"))


def training_of(given: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the file that was given says of a training; nothing where none was given.

    Raises:
        InvalidArgumentError: It says something else than options by name.
    """
    held = content.get("training", {})
    if not isinstance(held, Mapping):
        raise InvalidArgumentError(
            f"config: expected options by name under training in {given['config']}, such as steps: 300, "
            f"got {held!r:.60}."
        )
    return dict(held)


def numbers_of(made: type[Any], given: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a class of settings that a file says, and that were given, which take precedence."""
    names = made.__dataclass_fields__
    return {name: value for name, value in {**content, **given}.items() if name in names}


def run_folder(given: Mapping[str, Any], *names: Any) -> Path:
    """Returns the folder of the run: the one that was given, or a free one under ``runs/``.

    Args:
        given: Options by name.
        *names: Make the free folder's name; empty ones are left out.

    Raises:
        InvalidArgumentError: A run is to be gone on with, and no folder was given; or `exists` says something else.
    """
    check_choice(RunPart.__dataclass_fields__["exists"], given.get("exists", RunPart.exists))
    if given.get("exists") == "resume" and "out" not in given:
        raise InvalidArgumentError("exists: 'resume' goes on with the run in a folder; say which one with --out.")
    if "out" in given:
        return Path(given["out"])
    if "config" in given:
        return free_folder(f"{Path(given['config']).resolve().parent.name}-again")
    return free_folder("-".join(str(name) for name in names if name))


def where_of(given: Mapping[str, Any], *names: Any) -> dict[str, Any]:
    """Returns the arguments ``save`` and ``exists`` of a protocol."""
    said = {"exists": given["exists"]} if "exists" in given else {}
    return {"save": run_folder(given, *names), **said}


def asked(given: Mapping[str, Any], content: Mapping[str, Any], word: str) -> tuple[Subject, dict[str, Any]]:
    """Loads the subject of a command that asks it one objective; returns it, and what its protocol takes beside it.

    Args:
        given: Options by name.
        content: Entries of a file; see `read_config`.
        word: Ends the name of a free folder.

    Returns:
        The subject, and the arguments ``objective``, ``save`` and ``exists``.
    """
    recipe = subject_recipe(given, content.get("subject"), DEFAULT_UNIT)
    where = where_of(given, *named_parts(recipe), word)
    subject = load(recipe)
    return subject, {"objective": given.get("objective", content.get("objective")), **where}


def named_parts(recipe: Mapping[str, Any]) -> Sequence[str]:
    """Returns what a free folder is named for: subject, layer and units."""
    inner, noise = unwrap(recipe)
    words = [inner["name"], inner.get("layer", SubjectPart.layer), str(inner.get("units", ""))]
    return [*words, *(wrapper["name"] for wrapper in noise)]
