"""``closedloop plan``: how many images it will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from closedloop.cli.console import console, say, tell
from closedloop.cli.options import Command
from closedloop.cli.show import FIGURES
from closedloop.cli.tables import show_table
from closedloop.errors import InvalidArgumentError
from closedloop.files import complete
from closedloop.loop.settings import Settings, Timing, check_options, option, settings
from closedloop.readable import counted, percent
from closedloop.recipes import OPTIMIZER

if TYPE_CHECKING:
    import xarray as xr

    from closedloop.analysis.planning import NoiseModel

#: Options that are attributes of `NoiseModel`.
_MODEL = ("spikes", "fano", "drift", "lost", "start", "ceiling", "pace", "signal", "lift", "spread")


@settings
class PlanPart:
    """What is expected, and which designs are considered."""

    thread: str | None = option(default=None, metavar="NAME", shown="the only one", help="Evolution of the pilot.")
    spikes: float | None = option(
        default=None, shown="the pilot's, or 20", help="Spikes in the window at the best reference."
    )
    fano: float | None = option(default=None, shown="the pilot's, or 1", help="Variance over mean of the counts.")
    drift: float | None = option(
        default=None, shown="the pilot's, or -0.05", help="Relative change of responses in 1,000 presentations."
    )
    lost: float | None = option(
        default=None, shown="the pilot's, or 0.05", help="Probability that a presentation is lost."
    )
    start: float | None = option(
        default=None, shown="the pilot's, or 0.8", help="First generation's mean ÷ response to the best reference."
    )
    ceiling: float | None = option(
        default=None, shown="the pilot's, or 1.3", help="Where generations' means tend to, likewise."
    )
    pace: float | None = option(
        default=None, shown="the pilot's, or 480", help="Different images after which 63 % of the rise are done."
    )
    signal: float | None = option(
        default=None,
        shown="the pilot's, or 0.25",
        help="Coefficient of variation of responses to the images of a generation, without noise.",
    )
    lift: float | None = option(
        default=None, shown="the pilot's, or 1", help="Response to the re-tested image ÷ that to its generation."
    )
    spread: float | None = option(
        default=None, shown="0", help="Standard deviation of log(ceiling) over units; 0 for one unit."
    )
    generations: str = option(default="20,40,80,120,160,240", metavar="N,N,…", help="Generations to consider.")
    repeats: str = option(default="1", metavar="N,N,…", help="Presentations of each evolving image to consider.")
    retest_repeats: str = option(default="10,20,40", metavar="N,N,…", help="Presentations in a re-test to consider.")
    per_generation: int = option(
        default=10, least=1, help="Different images in a generation, as many as the optimizer asks for: auto for 10."
    )
    references: int = option(
        default=160, least=0, help="Photographs that are surveyed before, each shown once; those of evolve are 160."
    )
    interleave: int = option(default=Settings.interleave, least=0, help="References shown in each generation.")
    presentations: int | None = option(
        default=None,
        least=1,
        shown="any number",
        help="Presentations that there is time for, of the whole session: survey, references, re-tests and what is "
        "shown again included.",
    )
    success: str = option(
        default="beats",
        choices=("beats", "rises"),
        help="What is a success: the evolved image beats the best reference, or generations rise.",
    )
    wanted: float = option(default=0.8, help="Probability of success that is wanted, between 0 and 1.")
    sure: bool = option(default=False, help="Reach it by the lower end of the interval, which a pilot gives.")
    alpha: float = option(default=0.05, help="Level of the test.")
    soa_s: float = option(default=Timing.soa_s, unit="seconds", help="Seconds from one presentation to the next.")
    resamples: int = option(default=200, least=0, help="Bootstrap resamples of the pilot.")
    seed: int = option(default=Timing.seed, least=0, help="Of the resamples.")
    figure: Path | None = option(default=None, metavar="FILE", shown="none", help="Draw it to this file, PNG or PDF.")


def plan(
    given: Mapping[str, Any],
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Folder of a pilot run; without one a model is stated.")
    ] = None,
) -> None:
    """Say how many images it will take: the probability of success by design, and the cheapest design."""
    from closedloop.analysis.planning import Design
    from closedloop.analysis.planning import plan as planned_for

    chosen = PlanPart(**given)
    check_options(chosen)
    if run is None and (asked := sorted({"thread", "resamples", "sure"} & given.keys())):
        raise InvalidArgumentError(f"{asked[0]}: expected the folder of a pilot beside it: closedloop plan RUN.")
    numbers = {name: _numbers(name, getattr(chosen, name)) for name in ("generations", "repeats", "retest_repeats")}
    if chosen.figure is not None and chosen.figure.suffix.lower() not in FIGURES:
        raise InvalidArgumentError(f"figure: expected a name ending in {', '.join(FIGURES)}, got {chosen.figure}.")
    models, shown = _models(run, chosen)
    found = planned_for(
        models,
        **numbers,
        design=Design(per_generation=chosen.per_generation, references=chosen.references, interleave=chosen.interleave),
        success=chosen.success,  # type: ignore[arg-type]
        wanted=chosen.wanted,
        alpha=chosen.alpha,
        sure=chosen.sure,
        soa_s=chosen.soa_s,
        presentations=chosen.presentations,
    )
    _show(found, models, run, shown, chosen)
    if chosen.figure is not None:
        from closedloop.figures.plan import plot_plan
        from closedloop.figures.style import whole_figure

        with complete(chosen.figure, replace=True, argument="figure") as temporary:
            whole_figure(plot_plan(found)).savefig(temporary, dpi=150)
        say(f"Figure: {chosen.figure}")


def _models(run: Path | None, chosen: PlanPart) -> tuple[list[NoiseModel], int]:
    """Returns what is expected, of a pilot with its resamples, or as stated, which takes precedence; and its images."""
    from dataclasses import replace

    from closedloop.analysis.pilots import pilot_models
    from closedloop.analysis.planning import NoiseModel

    stated = {name: value for name in _MODEL if (value := getattr(chosen, name)) is not None}
    if run is None:
        return [NoiseModel(**stated)], 0
    from closedloop.recording.reader import open_recording

    with console.status("Reading the pilot …"):
        recording = open_recording(run)
        models = pilot_models(recording, chosen.thread, resamples=chosen.resamples, seed=chosen.seed)
        evolved = recording["thread"].values[recording["kind"].values == "evolved"]
    own = evolved == chosen.thread if chosen.thread is not None else np.ones(len(evolved), bool)
    return [replace(model, **stated) for model in models], int(own.sum())


def _numbers(name: str, text: str) -> list[int]:
    """Returns whole numbers of at least 1 from a text such as "5,10,20"."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word[:9]) >= 1 and len(word) < 8 for word in words):
        raise InvalidArgumentError(f"{name}: expected whole numbers from 1, such as 5,10,20, got {text!r:.80}.")
    return [int(word) for word in words]


def _show(found: xr.Dataset, models: Sequence[NoiseModel], run: Path | None, shown: int, chosen: PlanPart) -> None:
    """Prints a row for each number of generations and repeats, and the cheapest design."""
    model = models[0]
    what = "evolved beats the best reference" if found["success"].item() == "beats" else "generations rise"
    tell(f"Probability that {what} (one-sided Welch test at {found['alpha'].item():g})", style="bold")
    several = found.sizes["repeats"] > 1
    heads = ["generations", *(["repeats"] if several else []), "images", "shown", "minutes"]
    heads += [f"{n} re-tests" for n in found["retest_repeats"].values]
    rows = []
    for i, generations in enumerate(found["generations"].values):
        for j, repeats in enumerate(found["repeats"].values):
            one = found.isel(generations=i, repeats=j)
            cells = [str(generations), *([str(repeats)] if several else []), f"{int(one['images'][0]):,}"]
            for name in ("presentations", "minutes"):
                ends = [float(one[name].min()), float(one[name].max())]
                cells.append("–".join(dict.fromkeys(f"{value:,.0f}" for value in ends)))
            rows.append([*cells, *(_cell(one.isel(retest_repeats=k)) for k in range(one.sizes["retest_repeats"]))])
    show_table(heads, rows, keys=len(heads))
    source = f"Measured in {run}" if run is not None else "As stated"
    tell(
        f"{source}: {model.spikes:.3g} at the best reference, variance ÷ mean {model.fano:.2f}, drift "
        f"{percent(model.drift, sign='+')} in 1,000 presentations, {percent(model.lost)} lost; generations rise from "
        f"{model.start:.2f} towards {model.ceiling * model.lift:.2f} of it, 63 % within {model.pace:,.0f} images."
    )
    if len(models) > 1:
        tell(
            f"Behind each probability stands its 95 % interval, of {len(models) - 1} bootstrap resamples of the pilot."
        )
    # A design may have twice the images of the pilot before this is told.
    if run is not None and found["images"].values.max() > 2 * shown:
        tell(
            f"The pilot evolved {shown:,} images: what lies far beyond is its fitted curve, and a rise that begins "
            "later is not excluded, by the intervals neither; take a longer pilot before you give a unit up."
        )
    tell(
        f"Shown in the whole session: {chosen.references} references before, {chosen.interleave} in each generation, "
        "the evolving images, both re-tests, and what is lost once more."
    )
    tell(_advice(found, chosen))


def _cell(one: xr.Dataset) -> str:
    power, low, high = (float(one[name]) for name in ("power", "low", "high"))
    return f"{power:.2f}" if low != low else f"{power:.2f} {low:.2f}–{high:.2f}"


def _advice(found: xr.Dataset, chosen: PlanPart) -> str:
    """Says which design is the cheapest, or why none is and which comes nearest, and the options that ask for it."""
    wanted, sure = float(found["wanted"]), ", by the lower end of its interval," if bool(found["sure"]) else ""
    if (found["cheapest"].values >= 0).all():
        return f"Cheapest design that reaches {wanted:g}{sure}: {_design(found, 'cheapest', chosen)}"
    reason = found["reason"].item()
    if (found["likeliest"].values < 0).any():
        return f"{reason[:1].upper()}{reason[1:]}. Consider fewer --generations, --retest-repeats or --references."
    return (
        f"{reason[:1].upper()}{reason[1:]}{sure.rstrip(',')}: {_design(found, 'likeliest', chosen)} "
        "More --generations or --retest-repeats reach more, and so does a unit with more spikes or less variance."
    )


def _design(found: xr.Dataset, which: str, chosen: PlanPart) -> str:
    """Writes one of the designs, and what to ask `closedloop evolve` for."""
    place = found[which].values
    best = found.isel(dict(zip(found["axis"].values.tolist(), place.tolist(), strict=True)))
    repeats, retests = int(best["repeats"]), int(best["retest_repeats"])
    options = [f"--images {int(best['images'])}", f"--retest-repeats {retests}"]
    options += [f"--repeats {repeats}"] if repeats > 1 else []
    options += [f"--interleave {chosen.interleave}"] if chosen.interleave != PlanPart.interleave else []
    if chosen.per_generation != PlanPart.per_generation:
        options.append(f"--optimizer '{{name: {OPTIMIZER}, population: {chosen.per_generation}}}'")
    if chosen.references != PlanPart.references:
        options.append(f"--references {'FOLDER' if chosen.references else 'none'}")
    folder = f" FOLDER holds {counted(chosen.references, 'photograph')}." if "--references FOLDER" in options else ""
    return (
        f"{int(best['generations'])} generations of {int(found['per_generation'])} images, each shown {repeats}×, "
        f"re-tested {retests}×: {float(best['presentations']):,.0f} presentations, {float(best['minutes']):.0f} min. "
        f"To do it: closedloop evolve {' '.join(options)}.{folder}"
    )


COMMAND = Command(plan, (PlanPart,))
