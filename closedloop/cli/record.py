"""``closedloop record``: responses to a folder of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import load, named_parts, numbers_of, read_config, subject_recipe, where_of
from closedloop.cli.console import Meter, console, say
from closedloop.cli.options import Command
from closedloop.loop.parts import FilePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings
from closedloop.recipes import BUNDLED


@settings
class ImagesPart:
    """What is shown."""

    images: Path | None = option(
        default=None,
        metavar="FOLDER",
        shown="bundled photographs",
        help="Folder of images, or of movies, or 'bundled' (160 photographs).",
    )
    parameters: Path | None = option(
        default=None,
        metavar="FILE.csv",
        shown="none",
        help="What is known of each image (angle, size, category …): a table with a column for each, and one "
        "stimulus_id with the images' names.",
    )


def record(given: Mapping[str, Any]) -> None:
    """Record responses to a folder of images."""
    from closedloop.images.sets import folder_images
    from closedloop.interfaces import Resolved
    from closedloop.protocols import PresentSettings, present

    content = read_config(given, "present")
    images = _images(given, content)
    if isinstance(images, Path):
        folder_images(images)  # before the subject is loaded
    recipe = subject_recipe(given, content.get("subject"))
    where = where_of(given, *named_parts(recipe), "recorded")
    subject = load(recipe)
    parameters = given["parameters"] if "parameters" in given else _stored_parameters(given, content)
    own = {"resolution": subject.resolution} if isinstance(subject, Resolved) else {}
    numbers = own | numbers_of(PresentSettings, given, content)
    with Meter("recording") as meter:
        recording = present(subject, images, parameters=parameters, progress=meter, **where, **numbers)
    console.print(f"Recorded {recording.sizes['presentation']} presentations × {recording.sizes['neuroid']} units.")
    say(f"Run: {where['save']}    Open it: closedloop.open_recording({str(where['save'])!r})")


COMMAND = Command(
    record,
    (FilePart, ImagesPart, SubjectPart, UnitPart, "closedloop.protocols:PresentSettings", RunPart),
    says={"resolution": "the subject's, or 224"},
)


def _images(given: Mapping[str, Any], content: Mapping[str, Any]) -> Any:
    """Returns the folder of images that was given or that a file names, a run's own copy, or ``"bundled"``."""
    from closedloop.recording.layout import REFERENCES
    from closedloop.recording.references import read_references

    images = given.get("images", content.get("images", BUNDLED))
    if str(images) == BUNDLED and not Path(images).is_dir():
        return BUNDLED
    if "images" in given:
        return images
    run = Path(given["config"]).parent
    if images == REFERENCES and (stored := read_references(run)) is not None:
        return stored
    return run / images if (run / images).is_dir() else images


def _stored_parameters(given: Mapping[str, Any], content: Mapping[str, Any]) -> Any:
    """Returns what the run beside a file knows of its images; nothing where they are others."""
    from closedloop.protocols import stored_parameters

    return None if "images" in given or not content else stored_parameters(Path(given["config"]).parent, content)
