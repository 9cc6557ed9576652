"""What the commands share that a session begins with: field, gratings, categories, invariance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import load, named_parts, numbers_of, read_config, subject_recipe, where_of
from closedloop.cli.console import Meter, say


def probe(
    protocol: str,
    run: Callable[..., Any],
    made: type[Any],
    given: Mapping[str, Any],
    word: str,
    own: Collection[str] = (),
) -> None:
    """Loads the subject, does the run, and shows what it found.

    Args:
        protocol: Its name in a run's file.
        run: The function of the protocol: subject, further arguments by name, numbers.
        made: Its class of settings.
        given: Options by name.
        word: Ends the name of a free folder.
        own: Options that are handed on as arguments; of a file "images" means the run's own pictures.
    """
    from closedloop.cli.show import show_run

    content = read_config(given, protocol)
    recipe = subject_recipe(given, content.get("subject"))
    arguments = {name: given.get(name, content.get(name)) for name in own}
    if "images" in own and "images" not in given and content.get("images"):
        arguments["images"] = own_pictures(Path(given["config"]).parent)
    where = where_of(given, *named_parts(recipe), word)
    subject = load(recipe)
    numbers = numbers_of(made, given, content)
    say(f"Run: {where['save']}")
    with Meter("recording") as meter:
        run(subject, progress=meter, **{k: v for k, v in arguments.items() if v is not None}, **where, **numbers)
    show_run(where["save"])


def own_pictures(run: Path) -> Any:
    """Returns the pictures that a run keeps; None where it keeps none."""
    from closedloop.recording.references import read_references

    return read_references(run)
