"""``closedloop atlas``: fill the pages of whole layers, and write them as a folder that any browser shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import load, named_parts, numbers_of, read_config, subject_recipe, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.noise import unwrap
from closedloop.loop.parts import FilePart, ReferencePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings
from closedloop.recording.layout import REFERENCES, is_run


@settings
class AtlasOptions:
    """Whose pages are filled, by what, and where they are written."""

    layers: str | None = option(
        default=None, metavar="NAMES", shown="none", help="Layers, separated by commas; see: closedloop units."
    )
    methods: str = option(
        default="lucid,maco,dgn-am,evolved",
        metavar="NAMES",
        help="Methods of ascend, and 'evolved'; separated by commas.",
    )
    naturals: str = option(
        default=ReferencePart.references,
        metavar="FOLDER",
        help="Natural images: a folder, whose subfolders are classes, or 'bundled' (160 photographs).",
    )
    export: Path | None = option(
        default=None,
        metavar="FOLDER",
        shown="none",
        help="Write the pages as files that need no server, into a new folder; of an atlas that is there already in "
        "the folder --out nothing is filled.",
    )


def atlas(given: Mapping[str, Any]) -> None:
    """Fill the pages of whole layers: what every unit prefers, made by several methods and photographed."""
    filled = given.get("out")
    if "export" in given and filled is not None and is_run(filled) and "exists" not in given:
        run = Path(filled)
    else:
        run = _fill(given)
    if "export" in given:
        from closedloop.viewer.site import write_site

        pages = write_site([run], given["export"])
        say(f"Pages:  {pages} in {given['export']}; open {Path(given['export']) / 'index.html'}")


COMMAND = Command(
    atlas,
    (FilePart, SubjectPart, AtlasOptions, UnitPart, "closedloop.protocols:AtlasSettings", RunPart),
    without=("layer",),
    helps={"units": "Units of each layer: 7, 0-9, all, random:8 …; of a map the channel at its centre."},
)


def _fill(given: Mapping[str, Any]) -> Path:
    """Fills an atlas, shows what was found, and returns its folder."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import AtlasSettings, Contender
    from closedloop.protocols import atlas as fill_pages

    content = read_config(given, "atlas")
    methods: Any = [Contender(**written) for written in content.get("methods", ())]
    if "methods" in given or not content:
        methods = [word.strip() for word in given.get("methods", AtlasOptions.methods).split(",")]
    recipe = _subject(given, content)
    naturals = _naturals(given, content)
    where = where_of(given, *named_parts(recipe), "atlas")
    with Meter("filling pages") as meter:
        fill_pages(
            load(recipe),
            None,
            methods,
            naturals=naturals,
            progress=meter,
            **where,
            **numbers_of(AtlasSettings, given, content),
        )
    run: Path = where["save"]
    show_run(run)
    return run


def _subject(given: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the recipe of the subject at its layers.

    Raises:
        InvalidArgumentError: It has layers, and none is named.
    """
    from closedloop import recipes

    layers = [word.strip() for word in given.get("layers", "").split(",") if word.strip()]
    said = {**given, "layer": layers[0] if len(layers) == 1 else layers} if layers else given
    recipe = subject_recipe(said, content.get("subject"))
    inner, _ = unwrap(recipe)
    if not layers and not content and "layer" not in inner and recipes.has_option("subjects", inner["name"], "layer"):
        if "export" in given and "out" in given:
            raise InvalidArgumentError(
                f"out: there is no atlas in {given['out']} to export; give the folder of one, or --layers to fill one."
            )
        raise InvalidArgumentError(
            f"layers: expected one or more layers of {inner['name']}, got none; closedloop units --subject "
            f"{inner['name']} lists them."
        )
    return recipe


def _naturals(given: Mapping[str, Any], content: Mapping[str, Any]) -> Any:
    """Returns the folder of natural images, a run's own copy of them, or ``"bundled"``."""
    from closedloop.recording.references import read_references

    naturals = given.get("naturals", content.get("naturals", AtlasOptions.naturals))
    if "naturals" not in given and naturals == REFERENCES:
        return read_references(Path(given["config"]).parent)
    return naturals
