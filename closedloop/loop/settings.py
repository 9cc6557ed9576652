"""The numbers of a session, checked where they come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from closedloop.checks import check_whole, is_number
from closedloop.errors import InvalidArgumentError, closest
from closedloop.loop.drift_correction import METHODS
from closedloop.seeds import check_seed


@final
@dataclass(frozen=True)
class Settings:
    """The numbers of a session.

    Attributes:
        images: Evolved presentations for each thread, repeats included; never exceeded.
        repeats: Presentations of each evolved image.
        interleave: Reference images shown in each generation, taken in turn; they do not count as evolved images.
        drift: What is done about slow drift of the subject, before scores reach the optimizers: ``"none"``, or
            ``"divide"`` by or ``"regress"`` on the interleaved references; see `closedloop.loop.drift_correction`. It
            pays where these tell more than noise: some 20 in each generation.
        drift_memory: Generations within which a reference's response is forgotten (to 1/e) in the correction.
        retries: How often a lost presentation is shown again.
        retest_candidates: Images of each thread that are re-tested, recommended by its optimizer or best-scored, and
            references; 0 for no re-test.
        retest_repeats: Fresh presentations of each in the re-test, and again of the selected one.
        soa_s: Nominal seconds from one presentation to the next; gives the coordinate `onset_s`.
        timeout_s: Seconds that the subject may take for one block of images; the largest block is the survey of all
            references. None waits for ever.
        keep: Which evolved images become PNG files: ``"best"`` of each generation, ``"all"`` or ``"none"``.
        seed: Seed of the presentation order. (Optimizers have seeds of their own.)
    """

    images: int = 2000
    repeats: int = 1
    interleave: int = 2
    drift: str = "none"
    drift_memory: float = 2.0
    retries: int = 2
    retest_candidates: int = 5
    retest_repeats: int = 10
    soa_s: float = 0.2
    timeout_s: float | None = None
    keep: str = "best"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"images": 1, "repeats": 1, "interleave": 0, "retries": 0, "retest_candidates": 0, "retest_repeats": 1}
        for name, low in least.items():
            check_whole(name, getattr(self, name), low)
        check_seed(self.seed)
        for name, unit in {"soa_s": "seconds", "timeout_s": "seconds", "drift_memory": "generations"}.items():
            value = getattr(self, name)
            if value is None and name == "timeout_s":
                continue
            if not (is_number(value) and 0 < value < np.inf):
                raise InvalidArgumentError(f"{name}: expected {unit} above 0, got {value!r}.")
        if self.drift not in METHODS:
            raise InvalidArgumentError(f"drift: expected 'none', 'divide' or 'regress', got {self.drift!r}.")
        if self.drift != "none" and self.interleave == 0:
            raise InvalidArgumentError(
                f"interleave: expected references in each generation for drift={self.drift!r}, got 0."
            )
        if self.keep not in ("best", "all", "none"):
            raise InvalidArgumentError(f"keep: expected 'best', 'all' or 'none', got {self.keep!r}.")


def read_settings(given: dict[str, Any]) -> Settings:
    """The settings, or an error with what a misspelt one may have meant."""
    known = Settings.__dataclass_fields__
    for name in given:
        if name not in known:
            raise InvalidArgumentError(f"{name}: no such setting.{closest(name, known)}")
    return Settings(**given)
