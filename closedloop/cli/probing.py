"""What the commands share that a session begins with: field, gratings, categories, invariance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop.cli.building import (
    DEFAULT_UNIT,
    load,
    named_parts,
    numbers_of,
    read_config,
    subject_recipe,
    where_of,
)
from closedloop.cli.console import Meter, say
from closedloop.loop.settings import option, settings

if TYPE_CHECKING:
    from closedloop.interfaces import Subject


@settings
class AtFieldPart:
    """Where stimuli stand."""

    at_field: Path | None = option(
        default=None,
        metavar="RUN",
        shown="--x, --y and --size",
        help="Run of 'closedloop map-field': stimuli stand in the receptive fields of the units, four standard "
        "deviations wide.",
    )


def probe(
    protocol: str,
    run: Callable[..., Any],
    made: type[Any],
    given: Mapping[str, Any],
    word: str,
    own: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
    recorded: Any = None,
) -> None:
    """Loads the subject, does the run, and shows what it found.

    Args:
        protocol: Its name in a run's file.
        run: The function of the protocol: subject, further arguments by name, numbers.
        made: Its class of settings.
        given: Options by name.
        word: Ends the name of a free folder.
        own: Options that are handed on as arguments; beside a file its run's own pictures stand for the images, or
            the folder that it names.
        more: Further arguments.
        recorded: Recipe of the subject where neither an option nor a file names one.
    """
    from closedloop.cli.show import show_run

    content = read_config(given, protocol)
    recipe = subject_recipe(given, content.get("subject", recorded), DEFAULT_UNIT)
    arguments = {name: given.get(name) for name in own} | dict(more or {})
    taken = {"images", "image"} & set(own)
    if own and content.get("images") and not (taken & given.keys()):
        pictures = own_pictures(Path(given["config"]).parent)
        arguments |= dict.fromkeys(taken, content["images"] if pictures is None else pictures)
    where = where_of(given, *named_parts(recipe), word)
    subject = load(recipe)
    numbers = numbers_of(made, given, content)
    if "at_field" in given:
        numbers |= place_of(given["at_field"], subject, numbers.get("px_per_deg"))
    say(f"Run: {where['save']}")
    with Meter("recording") as meter:
        run(subject, progress=meter, **{k: v for k, v in arguments.items() if v is not None}, **where, **numbers)
    show_run(where["save"])


def own_pictures(run: Path) -> Any:
    """Returns the pictures that a run keeps; None where it keeps none."""
    from closedloop.recording.references import read_references

    return read_references(run)


def place_of(run: Path, subject: Subject, px_per_deg: float | None = None) -> dict[str, Any]:
    """Returns x, y and size of the smallest square around the fields of a subject's units, as a protocol takes them.

    Args:
        run: Folder of a field's mapping.
        subject: Who is to be shown stimuli there.
        px_per_deg: What was given for the screen; None for that of the mapping.

    Raises:
        InvalidArgumentError: None of its units has a field there, or images are of another width than in the mapping.
        RecordingError: It is no run of a field's mapping.
    """
    import numpy as np

    from closedloop.analysis import fit_field
    from closedloop.errors import InvalidArgumentError
    from closedloop.images.patterns import Screen
    from closedloop.protocols import check_width
    from closedloop.recording.reader import open_recording

    found = fit_field(open_recording(run))
    if px_per_deg is None:
        check_width(found, run, subject)
    own = np.isin(found["neuroid_id"].values.astype(str), subject.units.neuroid_id) & (found["reason"].values == "")
    if not own.any():
        raise InvalidArgumentError(f"at_field: none of the units has a receptive field in {run}; map theirs first.")
    known = float(found["px_per_deg"])
    scale = px_per_deg or (known if np.isfinite(known) else None)
    screen = Screen(int(found["resolution_px"]), scale)
    rows, columns, reach = (found[name].values[own] for name in ("y_px", "x_px", "sigma_px"))
    low, high = np.array([rows - 2 * reach, columns - 2 * reach]), np.array([rows + 2 * reach, columns + 2 * reach])
    row, column = (low.min(1) + high.max(1)) / 2
    said = {"px_per_deg": scale} if scale is not None else {}
    size = float((high.max(1) - low.min(1)).max()) / screen.scale
    place = {"x": float(screen.right(column)), "y": float(screen.up(row)), "size": size}
    return {**place, "resolution": screen.resolution, **said}
