"""``closedloop attribute``: which pixels a response comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from closedloop.cli.building import DEFAULT_UNIT, in_torch, load, subject_recipe
from closedloop.cli.console import say
from closedloop.cli.options import Command
from closedloop.cli.show import FIGURES
from closedloop.cli.tables import show_table
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.files import complete
from closedloop.loop.parts import ObjectivePart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings
from closedloop.recipes import BUNDLED
from closedloop.recording.titles import subject_title

if TYPE_CHECKING:
    from closedloop.gradients.attribution import Filter
    from closedloop.interfaces import Subject

#: Images in one figure.
MOST = 24


@settings
class AttributionPart:
    """How a response is attributed, and what is drawn."""

    images: Path | None = option(
        default=None, metavar="FILE", shown="bundled photographs", help=f"An image, or a folder of up to {MOST}."
    )
    method: str = option(
        default="guided-backprop", help="gradient, deconvnet, guided-backprop or integrated-gradients."
    )
    seed: str = option(default="one", help="What the backward pass begins with: one, or activation.")
    steps: int = option(default=64, least=1, help="Points of integrated gradients.")
    filter: str = option(default="all", help="raw, gray, norm, normblur, several with commas, or all.")
    out: Path = option(default=Path("attribution.png"), metavar="FILE", help="The figure (.png, .pdf, .svg).")


def attribute(given: Mapping[str, Any]) -> None:
    """Show which pixels of images a unit's response comes from."""
    from closedloop.figures import plot_attributions
    from closedloop.gradients.attribution import attribute as explain
    from closedloop.interfaces import resolution_of

    chosen, out, images = _checked(given)
    subject = load(in_torch(subject_recipe(given, units=DEFAULT_UNIT)))
    if len(subject.units) > 1 and "objective" not in given:
        raise InvalidArgumentError(
            f"units: expected one unit, got {len(subject.units)} of {subject.name!r}; name one with --units, or say "
            "what is attributed with --objective."
        )
    names, shown = _read(images, resolution_of(subject))
    device = {"device": given["device"]} if "device" in given else {}
    method, seed = (given.get(name, getattr(AttributionPart, name)) for name in ("method", "seed"))
    steps = given.get("steps", AttributionPart.steps)
    found = explain(subject, shown, given.get("objective", 0), method, seed=seed, steps=steps, **device)
    target = _target(subject, given.get("objective"))
    with complete(out, replace=True) as temporary:
        plot_attributions(shown, found, chosen, names, target).savefig(temporary)
    say(f"{method} of {target}")
    _show(found, names)
    say(f"Wrote {out}.")


COMMAND = Command(
    attribute,
    (SubjectPart, UnitPart, ObjectivePart, AttributionPart),
    without=("engine", "noise"),
    defaults={"units": DEFAULT_UNIT},
    helps={"units": "Unit: 7, '(12,3,4)' …; several with --objective.", "objective": "What is attributed."},
)


def _checked(given: Mapping[str, Any]) -> tuple[tuple[Filter, ...], Path, Path | None]:
    """Returns filters, the figure's path and that of the images, before anything is loaded."""
    chosen = _filters(given.get("filter", AttributionPart.filter))
    out, images = given.get("out", AttributionPart.out), given.get("images")
    if out.suffix.lower() not in FIGURES:
        raise InvalidArgumentError(f"out: expected a name ending in {', '.join(FIGURES)}, got {out}.")
    if images is not None and str(images) == BUNDLED and not images.exists():
        images = None
    if images is not None and not images.exists():
        raise InvalidArgumentError(f"images: there is no {images}; expected a file or a folder of images.")
    return chosen, out, images


def _target(subject: Subject, objective: str | None) -> str:
    """Says what is attributed, in words."""
    if objective is not None:
        return f"{objective} of {subject.name}"
    return subject_title(subject.units)


def _filters(text: str) -> tuple[Filter, ...]:
    """Returns the filters that a text names, in its order; all of them for "all"."""
    from closedloop.gradients.attribution import FILTERS

    known: dict[str, Filter] = {name: name for name in FILTERS}
    names = known if text == "all" else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise UnknownNameError(f"filter: no filter {name!r}.{closest(name, (*FILTERS, 'all'))}")
    return tuple(known[name] for name in names)


def _read(images: Path | None, resolution: int) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float32]]]:
    """Reads names and images ``(n, 3, h, w)``: of a file, of a folder, or some of the bundled photographs."""
    from closedloop.images.eight_bit import from_bytes
    from closedloop.images.sets import folder_images, natural_references, read_image

    if images is None:
        known = natural_references(resolution)
        return list(known.ids[:8]), known.images[:8]
    ids, paths = ((images.stem,), [images]) if images.is_file() else folder_images(images)
    return list(ids[:MOST]), from_bytes(np.stack([read_image(p, resolution) for p in paths[:MOST]]))


def _show(found: Any, names: list[str]) -> None:
    """Prints the score of each image, and of integrated gradients what they leave unexplained."""
    words = {"score": "score", "baseline_score": "score of the baseline", "completeness_error": "completeness error"}
    keys = [key for key in words if key in found.coords]
    rows = [[name, *(f"{float(found[key][i]):.4g}" for key in keys)] for i, name in enumerate(names)]
    show_table(["image", *(words[key] for key in keys)], rows)
