"""The pages of an atlas as text: its layers, the units of one, and a unit. For the server and for a folder of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from closedloop.analysis.atlas import Made, Photograph, Response, Tuning, UnitPage, natural_name
from closedloop.analysis.contenders import METHOD_WORDS
from closedloop.images.naturalness import MEASURE_WORDS
from closedloop.networks.imagenet import class_words
from closedloop.readable import number, percent, with_error
from closedloop.report.wording import true_minus
from closedloop.viewer.atlases import Addresses, Book, Shelf, histogram

T = TypeVar("T", Made, Photograph)
#: Classes that a page lists.
CLASSES = 12
#: How attributions were made, in words.
_ATTRIBUTED = {"guided-backprop": "guided backpropagation", "gradient": "the gradient"}

#: Renders a template with a context: `closedloop.viewer.pages.render_text`, or the server's.
Render = Callable[..., Any]


@dataclass(frozen=True)
class Tile:
    """A picture with its number and what is said of it.

    Attributes:
        picture: Its address.
        alt: What it shows, for a reader who does not see it.
        number: Its re-tested response, with its error.
        lines: What is said below.
        whole: Address of the whole image; empty for none.
        beside: Address of its attribution; empty for none.
        flags: Words that classify it, with their kind (see badges).
        facts: Names and values of what else is known.
    """

    picture: str
    alt: str
    number: str
    lines: tuple[str, ...] = ()
    whole: str = ""
    beside: str = ""
    flags: tuple[tuple[str, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def shelf_page(render: Render, shelf: Shelf, to: Addresses, **more: Any) -> Any:
    """Renders the list of layers."""
    layers = []
    for layer, units in shelf.layers.items():
        first = [_card(layer, key, books, to) for key, books in list(units.items())[:6]]
        pictures = [card["made"] or card["natural"] for card in first]
        layers.append(
            {"name": layer, "address": to.layer(layer), "units": len(units), "pictures": list(filter(None, pictures))}
        )
    return render("atlas.html", title="Units", layers=layers, layer=None, **more)


def layer_page(render: Render, shelf: Shelf, layer: str, to: Addresses, **more: Any) -> Any:
    """Renders the units of a layer as a grid of cards, and what its methods found over units.

    Raises:
        InvalidArgumentError: There is no such layer.
    """
    units = shelf.layers.get(layer)
    if units is None:
        shelf.books[0].pages.column(layer, "")  # says which there are
    cards = [_card(layer, key, books, to) for key, books in (units or {}).items()]
    books = [book for book in shelf.books if layer in book.pages.keys]
    sets = {book.photographs: book.pages.natural_n for book in books}
    return render(
        "atlas.html",
        title=layer,
        layer=layer,
        cards=cards,
        methods=[row for book in books for row in _method_rows(book, layer, shelf.corrected(layer))],
        natural_n=sum(sets.values()),
        up=to.layer(""),
        **more,
    )


def _card(layer: str, key: str, books: Sequence[Book], to: Addresses) -> dict[str, Any]:
    """Returns what a card of a unit shows: its best image that was made, its best photograph, two numbers."""
    columns = {book.number: book.pages.keys[layer][key] for book in books}
    made = _highest((book, one) for book in books for one in book.pages.made(columns[book.number]))
    best = _highest((book, one) for book in books for one in book.pages.best(columns[book.number])[:1])
    high, natural = (float("nan") if found is None else found[1].response.mean for found in (made, best))
    ratio = high / natural if natural > 0 else float("nan")
    first = books[0]
    warnings = first.pages.warnings(columns[first.number])
    return {
        "key": key,
        "address": to.unit(layer, key),
        "made": "" if made is None else to.picture(made[0], _made_name(made[1], columns[made[0].number])),
        "method": "" if made is None else _method(made[1]),
        "natural": "" if best is None else to.picture(best[0], _crop_name(best[1], columns[best[0].number])),
        "response": number(high, 3),
        "best_natural": number(natural, 3),
        "ratio": f"×{ratio:.2g}" if np.isfinite(ratio) else "",
        "sort": ratio if np.isfinite(ratio) else 0.0,
        "sparseness": np.nan_to_num(first.pages.sparseness(columns[first.number])),
        "flag": warnings[0].partition(":")[0] if warnings else "",
    }


def _highest(found: Iterable[tuple[Book, T]]) -> tuple[Book, T] | None:
    """Returns what drives a unit most, with its atlas; None for none."""
    return max(found, key=lambda e: np.nan_to_num(e[1].response.mean, nan=-np.inf), default=None)


def _method_rows(book: Book, layer: str, adjusted: Mapping[tuple[int, str], float]) -> list[dict[str, str]]:
    """Returns a row for each method of an atlas: medians over the units of a layer."""
    found: dict[str, list[Made]] = {}
    for column in book.pages.keys[layer].values():
        for one in book.pages.made(column):
            found.setdefault(one.label, []).append(one)
    rows = []
    for made in found.values():
        ratios = np.array([one.ratio for one in made])
        above = [one.percentile >= 100 and adjusted[book.number, one.stimulus_id] < 0.05 for one in made]
        known = ratios[np.isfinite(ratios)]
        rows.append(
            {
                "method": _method(made[0]),
                "told": made[0].told,
                "n": str(len(made)),
                "ratio": number(float(np.median(known)), 3) if len(known) else "–",
                "above": _share(float(np.mean(above))),
                "percentile": number(float(np.nanmedian([one.percentile for one in made])), 4),
                "failed": _share(float(np.mean([bool(one.failure) for one in made]))),
            }
        )
    return rows


def unit_page(render: Render, shelf: Shelf, layer: str, key: str, to: Addresses, **more: Any) -> Any:
    """Renders all that is known of a unit.

    Raises:
        InvalidArgumentError: There is no such unit.
    """
    known = shelf.unit(layer, key)
    book, page = known[0]
    made = [(b, p, one) for b, p in known for one in p.made]
    made.sort(key=lambda e: -np.nan_to_num(e[2].response.mean, nan=-np.inf))
    keys = list(shelf.layers[layer])
    at, size, adjusted = keys.index(key), book.resolution, shelf.corrected(layer)
    names = _set_names([b for b, _ in known])
    tiles = [
        _made_tile(i, b, one, p, to, adjusted[b.number, one.stimulus_id], names[b.photographs])
        for i, (b, p, one) in enumerate(made, 1)
    ]
    return render(
        "unit.html",
        title=page.title,
        layer=layer,
        key=key,
        asked=key if "@" not in key else f"({key.replace('@', ',')})",
        unit=page,
        size=size,
        framed=page.field not in (None, (0, 0, size, size)),
        subject=book.subject,
        where=_where(page),
        noiseless=all(p.noiseless for _, p in known),
        made=tiles,
        sets=_sets(shelf, layer, key, known, names, [one.response.mean for *_, one in made], to),
        tests=len(adjusted),
        up=to.layer(layer),
        top=to.layer(""),
        before=to.unit(layer, keys[at - 1]) if at else "",
        after=to.unit(layer, keys[at + 1]) if at + 1 < len(keys) else "",
        runs=[f"{b.run.name}, seed {b.experiment.get('seed', 0)}" for b, _ in known],
        **more,
    )


def _set_names(books: Sequence[Book]) -> dict[str, str]:
    """Returns what each set of photographs is called where there are several; nothing is needed to tell one."""
    sets = {book.photographs: book.photographs_from for book in books}
    if len(sets) == 1:
        return dict.fromkeys(sets, "")
    called = list(sets.values())
    return {
        which: name if called.count(name) == 1 else f"{name} ({1 + called[:i].count(name)})"
        for i, (which, name) in enumerate(sets.items())
    }


def _sets(
    shelf: Shelf,
    layer: str,
    key: str,
    known: Sequence[tuple[Book, UnitPage]],
    names: Mapping[str, str],
    made: Sequence[float],
    to: Addresses,
) -> list[dict[str, Any]]:
    """Returns what is said of each set of photographs that the unit was shown, once for each."""
    corrected, found = shelf.classes_corrected(layer), []
    tests = sum(np.isfinite(p) for p in corrected.values())
    for which, name in names.items():
        book, page = next((b, p) for b, p in known if b.photographs == which)
        tuning = replace(page.tuning, p_adjusted=corrected.get((which, key), np.nan))
        found.append(
            {
                "name": name,
                "unit": page,
                "natural_n": f"{book.pages.natural_n:,}",
                "best": [_natural_tile(book, one, page, to) for one in page.best],
                "worst": [_natural_tile(book, one, page, to) for one in page.worst],
                "attributed": _ATTRIBUTED.get(page.attributed, ""),
                "histogram": histogram(page, made),
                "facts": _facts(page),
                "classes": _classes(tuning),
                "tuning": _tuning_words(tuning, tests, len(names)),
            }
        )
    return found


def _where(page: UnitPage) -> str:
    """Returns in words what a unit sees."""
    if page.field is None:
        return ""
    y0, x0, y1, x1 = page.field
    return f"It sees rows {y0} to {y1 - 1} and columns {x0} to {x1 - 1} of the image."


def _method(made: Made) -> str:
    words = METHOD_WORDS.get(made.method, made.method)
    return words if made.label in (made.method, "evolved") else f"{words}: {made.label}"


def _made_tile(
    place: int, book: Book, made: Made, page: UnitPage, to: Addresses, adjusted: float, photographs: str
) -> Tile:
    of = f" of {photographs}" if photographs else ""
    factor = book.contrast(made.stimulus_id, page.column)
    flags = [("shown with contrast ×" + f"{factor:.1f}", "")] if factor > 1 else []
    flags += [(made.failure.partition(":")[0], "warn")] if made.failure else []
    flags += [(f"above every photograph{of}", "accent")] if made.percentile >= 100 else []
    outside = ", ".join(MEASURE_WORDS[name] for name in made.outside)
    facts = [
        ("among photographs", f"above {_percentile(made.percentile)} {of.strip() or 'of them'}"),
        ("÷ best photograph", true_minus(number(made.ratio, 3))),
        ("rank test", f"{_p(made.p)}, corrected {_p(adjusted)}"),
        ("settings", f"{made.told}; {made.generator}, seed {made.seed}"),
        ("presentations", _presentations(made.response)),
        *([("went wrong", made.failure)] if made.failure else []),
        ("unlike photographs in", outside or "nothing measured"),
    ]
    return Tile(
        picture=to.picture(book, _made_name(made, page.column)),
        alt=f"Image {place}, {_method(made)}, for {page.title}",
        number=_response(made.response),
        lines=(f"{place} {_method(made)}",),
        whole=to.picture(book, f"whole-{made.stimulus_id}-0"),
        flags=tuple(flags),
        facts=tuple(facts),
    )


def _made_name(made: Made, column: int) -> str:
    """Returns the name of what a unit sees of an image, given its column in the same atlas."""
    return f"made-{made.stimulus_id}-{column}"


def _crop_name(one: Photograph, column: int) -> str:
    """Returns the name of what a unit sees of a photograph, given its column in the same atlas."""
    return f"crop-{natural_name(one.number)}-{column}"


def _natural_tile(book: Book, one: Photograph, page: UnitPage, to: Addresses) -> Tile:
    return Tile(
        picture=to.picture(book, _crop_name(one, page.column)),
        alt=f"{one.stimulus_id}, what the unit sees of it",
        number=_response(one.response),
        lines=(one.stimulus_id.replace("_", " "), class_words(one.category).replace("_", " ")),
        whole=to.picture(book, f"whole-{natural_name(one.number)}-0"),
        beside=to.picture(book, f"attribution-{one.place}-{page.column}") if page.attributed else "",
    )


def _response(response: Response) -> str:
    """Writes a re-tested response with its standard error, where there is one."""
    return true_minus(with_error(response.mean, response.sem))


def _presentations(response: Response) -> str:
    alike = ", answered alike" if response.n > 1 and response.sem == 0 else ""
    return f"{response.n} fresh{alike}"


def _share(value: float) -> str:
    return percent(value)


def _percentile(value: float) -> str:
    """Returns in words above how many photographs an image ranks; "all" is not said of what was rounded."""
    return "all" if value >= 100 else f"{number(min(value, 99.99), 4)} %"


def _p(value: float) -> str:
    if not np.isfinite(value):
        return "p unknown"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _facts(page: UnitPage) -> list[tuple[str, str]]:
    """Returns names and values of what is known of a unit's responses to natural images."""
    natural = page.natural
    if not len(natural):
        return []
    silent = float((natural <= 0).mean())
    return [
        ("lifetime sparseness", number(page.sparseness, 3)),
        ("excess kurtosis", true_minus(number(page.kurtosis, 3))),
        ("median", true_minus(number(float(np.median(natural)), 3))),
        ("at or below 0", f"{_share(silent)} of photographs"),
    ]


def _classes(tuning: Tuning) -> list[dict[str, Any]]:
    """Returns the classes with the highest means, and where their bars lie: from 0, to the right or to the left."""
    shown = tuning.classes[:CLASSES]
    means = [one.response.mean for one in shown]
    least, most = min([0.0, *means]), max([0.0, *means])
    span = (most - least) or 1.0
    zero = round(-100 * least / span, 1)
    return [
        {
            "name": class_words(one.name).replace("_", " "),
            "mean": _response(one.response),
            "n": one.response.n,
            "zero": zero,
            "length": round(100 * abs(one.response.mean) / span, 1),
            "begin": round(zero + min(0.0, 100 * one.response.mean / span), 1),
            "below": one.response.mean < 0,
        }
        for one in shown
    ]


def _tuning_words(tuning: Tuning, tests: int, sets: int = 1) -> str:
    """Returns in words whether classes differ.

    Args:
        tuning: It.
        tests: For how many tests its p-value is corrected: of each unit of the layer, with each set of photographs.
        sets: How many such sets there are.
    """
    if not tuning.classes:
        return ""
    more = len(tuning.classes) - CLASSES
    listed = f" The {CLASSES} classes with the highest means; {more} more were tested." if more > 0 else ""
    over = (
        f"{tests} units of the layer" if sets == 1 else f"{tests} pairs of a unit of the layer and a set of photographs"
    )
    return (
        f"Kruskal–Wallis over {len(tuning.classes)} classes: H = {number(tuning.h, 3)}, {_p(tuning.p_adjusted)} (Holm "
        f"over {over}), ε² = {number(tuning.epsilon_squared, 2)}.{listed}"
    )
