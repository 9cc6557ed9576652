"""What a person sees of an object in a notebook: one line with what is needed of it.

The parts here take it from one mixin. Subjects, generators and optimizers of others need none of it.
"""

from __future__ import annotations

import math
from typing import Any

#: The dash that stands where there is no number.
NO_NUMBER = "–"


class Readable:
    """A line for ``repr``: the class, and what `_in_words` says of the object.

    Dataclasses keep it, too: it is put into each class before their own would be made.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = cls.__repr__  # type: ignore[method-assign] # its own, or the one that it inherits

    def __repr__(self) -> str:
        try:
            said = self._in_words()
        except (AttributeError, TypeError, ValueError):  # half made, in the middle of an error
            said = ""
        return f"<{type(self).__name__}{' ' * bool(said)}{said}>"

    def _in_words(self) -> str:
        """Returns name, sizes and what else a person needs."""
        return ""


class ReadableSubject(Readable):
    """A subject: its name, units, the size of what it is shown, and where it runs."""

    def _in_words(self) -> str:
        part: Any = self
        shown = getattr(part, "resolution", None)
        engine, device = getattr(part, "engine", ""), getattr(part, "torch_device", "")
        facts = [counted(len(part.units), "unit")]
        facts += [f"images of {shown} × {shown} pixels"] if shown else []
        facts += [" on ".join(text for text in (engine, device) if text)] if engine or device else []
        return f"{part.name}: {', '.join(facts)}"


class ReadableGenerator(Readable):
    """A generator: its name, from codes of which length it makes images of which size."""

    def _in_words(self) -> str:
        part: Any = self
        side, frames = part.resolution, getattr(part, "frames", None)
        made = f"movies of {frames} frames, " if frames else "images of "
        grey = "grey " if getattr(part, "channels", 3) == 1 else ""
        return f"{part.name}: codes of {part.space.dim} numbers → {grey}{made}{side} × {side} pixels"


class ReadableOptimizer(Readable):
    """An optimizer: its name, the dimensions it searches, its seed and its budget."""

    def _in_words(self) -> str:
        part: Any = self
        recipe = part.recipe or {}
        facts = [counted(part.space.dim, "dimension")]
        facts += [f"seed {recipe['seed']}"] if "seed" in recipe else []
        budget = getattr(part, "budget", None)
        facts += [f"budget of {budget:,} codes"] if budget is not None else []
        return f"{part.name}: {', '.join(facts)}"


def wordnet_id(name: str) -> str:
    """Returns the WordNet id with which a name begins, as of a folder or a file: ``n01440764_tench``; "" for none."""
    plain = name[:1] == "n" and name[1:9].isdecimal() and name[1:9].isascii() and not name[9:10].isalnum()
    return name[:9] if plain and len(name) > 8 else ""


def counted(number: int, word: str) -> str:
    """Returns a number with its noun: "1 unit", "1,000 units"."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def some(names: Any, most: int = 3) -> str:
    """Returns the first names, with an ellipsis for those that are left out."""
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")


def number(value: float | None, digits: int = 4) -> str:
    """Writes a number with its significant digits, thousands set apart; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1000 else f"{value:.{digits}g}"


def percent(share: float, digits: int = 0, sign: str = "") -> str:
    """Writes a share as per cent, ``percent(0.25)`` as "25 %"; a dash where it is no number.

    Args:
        share: 1 is all.
        digits: After the point.
        sign: "+" to write that of a rise, too.
    """
    return f"{100 * share:{sign}.{digits}f} %" if math.isfinite(share) else NO_NUMBER


def with_error(value: float | None, error: float | None) -> str:
    """Writes a number with its standard error: two digits of the error, and the number to the same place.

    The number stands alone where the error is not known, or is 0 as that of a deterministic subject; a dash stands
    where there is no number. Tiny and huge ones share a power of ten: "(2.53 ± 0.12)e-05".
    """
    if value is None or not math.isfinite(value) or error is None or not 0 < error < math.inf:
        return number(value)
    size = _power(max(abs(value), error))  # of the first digit of the larger of the two
    if not -5 < size < 6:
        return f"({with_error(value / 10.0**size, error / 10.0**size)})e{size:+03d}"
    place = _power(float(f"{error:.1e}")) - 1  # of the error's second digit, once it is rounded
    place = max(place, size - 6)  # the digits of single precision
    rounded, shown = round(value, -place) + 0.0, round(error, -place)
    decimals = max(0, -place)
    return f"{rounded:,.{decimals}f} ± {shown:,.{decimals}f}" if shown else f"{rounded:,.{decimals}f} ± {error:.2g}"


def _power(value: float) -> int:
    """Returns the power of ten of a number's first digit."""
    return math.floor(math.log10(value))
