"""The options of ``closedloop compare``, apart from the command: its name is listed without what they import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.checks import whole_number
from closedloop.errors import InvalidArgumentError
from closedloop.loop.settings import Timing, option, settings
from closedloop.protocols import CONTENDERS, PUBLISHED, CompareSettings, Contender


@settings
class CompareOptions(CompareSettings):
    """What is compared."""

    methods: str = option(
        default=",".join(CONTENDERS), metavar="NAMES", help="Methods of ascend, and 'evolved'; separated by commas."
    )
    budgets: str = option(default=PUBLISHED, metavar="NUMBERS", help="Numbers, and 'published'; separated by commas.")
    seed: int = option(default=Timing.seed, least=0, help="Seed of the whole experiment.")


def told(given: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `compare` that the options say, a file, or the definitions."""
    found: dict[str, Any] = {
        "methods": [Contender(**written) for written in content.get("methods", ())],
        "budgets": content.get("budgets"),
        "seeds": content.get("seeds"),
        "count": content.get("count", CompareOptions.count),
    }
    if "methods" in given or not content:
        found["methods"] = [word.strip() for word in given.get("methods", CompareOptions.methods).split(",")]
    if "budgets" in given or not content:
        found["budgets"] = parse_budgets(given.get("budgets", CompareOptions.budgets))
    if "seed" in given or not content:
        found["seeds"] = (given.get("seed", CompareOptions.seed),)
    return found | ({"count": given["count"]} if "count" in given else {})


def parse_budgets(text: str) -> list[int | str]:
    """Reads budgets from ``"published"``, ``"3000"`` or ``"1000,3000,published"``.

    Raises:
        InvalidArgumentError: It is something else.
    """
    budgets: list[int | str] = []
    for word in (w.strip() for w in text.split(",")):
        number = whole_number(word)
        if word != PUBLISHED and (number is None or number < 0):
            raise InvalidArgumentError(
                f"budgets: expected numbers or {PUBLISHED!r}, separated by commas, got {text!r}."
            )
        budgets.append(PUBLISHED if number is None else number)
    return budgets
