"""Climb to a preferred stimulus by gradients: the baselines that an evolution is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.ascents import ASCEND, ascent_dataset, classes_of, is_output, rivals_of
from closedloop.analysis.findings import thread_findings
from closedloop.checks import check_images, check_whole, encode_images
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.gradients.methods import METHODS, Request, check_method, find_method, make_plan
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet
from closedloop.interfaces import RESOLUTION, Encoding, FloatArray, Generator, Objective, Subject, resolution_of
from closedloop.loop.blocks import Observer
from closedloop.loop.commits import is_finished
from closedloop.loop.experiment import load_recorded_subject
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import ImageCount
from closedloop.loop.protocol import Handed, RunFigure, RunProtocol, RunSummary, RunTable, summarize_responses
from closedloop.loop.session import Session
from closedloop.loop.settings import check_options, option, settings
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit, parse_objective
from closedloop.objectives.naming_units import UnitSpec, columns_text, parse_columns
from closedloop.recipes import OBJECT, matched_generator, recipe, version
from closedloop.recording.reader import open_recording, read_experiment, read_kept, read_pointer, read_state
from closedloop.recording.references import source
from closedloop.recording.states import pack_state, unpack_state
from closedloop.recording.titles import result_title
from closedloop.recording.writer import Recording
from closedloop.seeds import check_seed
from closedloop.signatures import at_door

from .evolve import default_objective
from .stored import check_complete, experiment_of_protocol, stored_images, subject_of
from .sweep_plan import check_entries, climbed, look_at

#: Presentations of an ascent, about, where `every` is not given.
PRESENTATIONS = 50
#: File of the first codes in a run's folder.
START = "start.state"


@settings
class AscendSettings:
    """The numbers of an ascent."""

    method: str = option(
        default="raw", help="A method of the field; see closedloop.gradients.methods.", choices=tuple(METHODS)
    )
    steps: int | None = option(default=None, least=1, shown="as published", help="Gradient steps.")
    every: int | None = option(
        default=None,
        least=1,
        shown="some 50 presentations",
        help="Steps from one presentation of the image to the next.",
    )
    copies: int = option(
        default=1,
        least=1,
        help="Codes that climb side by side for each unit; the best is re-tested. They know of each other only through "
        "an objective such as 'unit(0) - 100 * diversity()'.",
    )
    seed: int = option(default=0, least=0, help="Seed of first codes and views; all units begin alike.")


@at_door
def ascend(
    subject: Subject,
    generator: Generator | None = None,
    method: str = AscendSettings.method,
    *,
    unit: UnitSpec | None = None,
    objective: Objective | str | None = None,
    seed: int = AscendSettings.seed,
    steps: int | None = AscendSettings.steps,
    every: int | None = AscendSettings.every,
    start: NDArray[Any] | None = None,
    copies: int = AscendSettings.copies,
    references: ImageSet | str | Path | NDArray[Any] | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    observers: Sequence[Observer] = (),
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Climbs once, or once for each of several units, side by side and independent of each other.

    Args:
        subject: The network that is shown images; differentiable.
        generator: Turns codes into images; differentiable. None for the one that the method was published with, at the
            subject's resolution and on its device.
        method: "raw", "yosinski-1" … "yosinski-4", "tv", "mei", "deepdream", "lucid", "maco", "accentuate", "dgn-am",
            "ppgn" or "adam"; see `closedloop.gradients.methods`.
        unit: Column of the unit, or several: then the result has the dimension ``unit``.
        objective: What is climbed instead of a unit's response.
        seed: Of first codes and views; all units begin alike.
        steps: Gradient steps; default as published.
        every: Steps between two presentations of the image; default some 50 presentations in all.
        start: An image ``(3, h, w)`` in [0, 1] to begin at, for generators that can encode one.
        copies: Codes that climb side by side for each unit; the best is re-tested. They know of each other only through
            an objective such as "unit(0) - 100 * diversity()".
        references: Natural images to compare with; as for `evolve`, but none by default.
        save: Folder of the run; None keeps it in memory. `closedloop.open_recording` reads what was presented,
            `read_ascent` this result; `resume` goes on after a crash.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        observers: Watch the session.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is.
        **options: The method's own, such as `rate`.

    Returns:
        ``response`` to the last image (8 bits, whole), ``confidence`` (softmax probability, where the unit is an output
        and all outputs are recorded, else NaN), ``best_response`` on the way, ``image`` ``(rgb, row, col)``, ``code``,
        ``forwards`` and ``forward_equivalents`` (a backward pass counts 2), ``failure`` (what went wrong, in words, or
        empty), ``reached`` (``milestone``: the first step at which the unit is the largest output, and those with a
        confidence above .99, .999, .9999; NaN for never: at presentations, and in every step where the method climbs
        the confidence of the image as it is), ``natural`` and ``above_natural`` (the best reference, and the share of
        references below the response), ``score`` and ``gradient_norm`` of each step, ``shown_response`` and
        ``shown_confidence`` of the presentations.

    Raises:
        UnknownNameError: No such method.
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
    """
    found = find_method(method)
    generator = matched_generator(found.generator, subject, RESOLUTION) if generator is None else _checked(generator)
    wanted, columns = _targets(subject, unit, objective)
    steps = check_whole("steps", found.steps if steps is None else steps, 1)
    rivals = [() if c is None else classes_of(subject.units, c) for c in columns]
    codes = None if start is None else _encoded(generator, start, copies)
    content: dict[str, Any] = {
        "closedloop": version(),
        "protocol": ASCEND,
        "subject": recipe(subject),
        "generator": recipe(generator),
        "method": method,
        "options": {**found.options, **options},
        "names": _names(columns),
        "objectives": [w.describe() for w in wanted],
        "columns": columns,
        "rivals": [columns_text(r) for r in rivals],
        "outputs": [is_output(subject.units, r) for r in rivals],
        "steps": steps,
        "copies": check_whole("copies", copies, 1),
        "every": check_whole("every", max(1, steps // PRESENTATIONS) if every is None else every, 1),
        "start": start is not None,
        "references": source(references),
        "seed": check_seed(seed),
    }
    session = _session(subject, generator, wanted, content, codes, references, save, exists, observers, progress)
    recording = session.run()
    result = (
        ascent_dataset(recording, session.state()["evolutions"], content, wanted, generator)
        if save is None
        else read_ascent(save, generator=generator)
    )
    return result.isel(unit=0) if unit is None or isinstance(unit, (int, np.integer)) else result


@at_door
def read_ascent(run: str | Path, *, generator: Generator | None = None) -> xr.Dataset:
    """Returns the result of a finished run of `ascend`, with the dimension ``unit``.

    Args:
        run: The run's folder.
        generator: Where the run's generator was a Python object without a name.

    Raises:
        RecordingError: Not a run of `ascend`, or not finished: `resume` goes on with it.
    """
    content = experiment_of_protocol(run, ASCEND)
    state = read_state(run) if read_pointer(run)["finished"] else None
    if state is None:
        raise RecordingError(f"{run}: it is not finished; go on with closedloop resume {run}.")
    wanted = [parse_objective(text) for text in content["objectives"]]
    return ascent_dataset(open_recording(run), state["evolutions"], content, wanted, generator)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with an ascent; returns the recording, of a finished run at once.

    Raises:
        RecordingError: The run ended before its first image was stored.
        InvalidArgumentError: Something that the run used cannot be loaded by name and was not handed over.
    """
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, AscendSettings, "subject", "generator", "objectives")
    subject = subject_of(run, content, handed)
    generator = handed.generator
    if generator is None:
        generator = matched_generator(content["generator"], subject, RESOLUTION)
    wanted = [parse_objective(text) for text in content["objectives"]]
    codes = read_start(run) if content["start"] else None
    stored = stored_images(run, content["references"])
    references = content["references"] if stored is None else stored
    watch = handed.observers, handed.progress is True
    session = _session(subject, generator, wanted, content, codes, references, run, "resume", *watch)
    return session.resume(Recording.reopen(run))


def _session(
    subject: Subject,
    generator: Generator,
    wanted: Sequence[Objective],
    content: Mapping[str, Any],
    codes: FloatArray | None,
    references: Any,
    save: str | Path | None,
    exists: str,
    observers: Sequence[Observer],
    progress: bool,
) -> Session:
    """Returns a session with a thread for each target."""
    threads = []
    for i, objective in enumerate(wanted):
        rivals = tuple(rivals_of(content, i))
        request = Request(
            generator,
            objective,
            content["columns"][i],
            rivals,
            content["outputs"][i],
            content["seed"],
            content["steps"],
            codes,
            content["copies"],
            resolution_of(subject),
            len(subject.units),
            content["options"],
        )
        plan = make_plan(content["method"], request)
        gradient = replace(plan.gradient, every=content["every"])
        threads.append(Thread(generator, plan.optimizer, plan.objective, content["names"][i], gradient))
    presentations = -(-content["steps"] // content["every"])
    started = {} if codes is None else {START: pack_state({"codes": codes})}
    return Session(
        subject,
        threads,
        references=references,
        save=save,
        exists=exists,
        observers=observers,
        progress=progress,
        experiment={**content, "fingerprints": {name: sha256(data).hexdigest() for name, data in started.items()}},
        files=started,
        images=presentations * content["copies"],
        interleave=0,
        retest_candidates=1,
        retest_repeats=1,
        seed=content["seed"],
        lost_blocks=presentations + 10,  # that a response is not a number is a result here, and reported
    )


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns each unit's last image, in numbers and a figure, and what went wrong; before the end, the responses."""
    from closedloop.figures import plot_ascents

    if not is_finished(run) or read_experiment(run)["generator"]["name"] == OBJECT:
        return summarize_responses(run, recording)
    result = read_ascent(run)
    lines = [f"{result_title(one)}: {failure}" for one in _units(result) if (failure := str(one["failure"].item()))]
    caption = "The last image of each unit, and score and gradient on the way."
    figures = {"ascents": RunFigure(partial(plot_ascents, result), caption)}
    return RunSummary([_table(result)], lines or ["Nothing went wrong that is looked for."], figures)


#: What others must know of ascents.
#: What a plan may say of an ascent, besides its subject and its units; the first are arguments of `ascend` as they are.
_HANDED = ("unit", "objective", "references", "seed", "steps", "every", "copies")


def _planned(content: Mapping[str, Any], units: Sequence[str], alone: bool) -> tuple[dict[str, Any], int]:
    """Returns the experiment of an ascent in a sweep, and about how many images it shows."""
    check_entries(content, (*_HANDED, "generator", "method", "options"), ASCEND)
    name, options = content.get("method", AscendSettings.method), content.get("options", {})
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise InvalidArgumentError(
            f"method, options: expected a name, and a mapping, got {name!r} and {options!r:.80}."
        )
    if check_method(name, options).needs_start:
        raise InvalidArgumentError(
            f"method: expected one that begins by itself, got {name!r}, which begins at an image."
        )
    check_options(AscendSettings(**{n: content[n] for n in ("steps", "every", "copies", "seed") if n in content}))
    if content.get("generator") is not None:
        named = content["generator"]
        look_at("generators", {"name": named} if isinstance(named, str) else named)
    subject, columns = climbed(content["subject"], units)
    whole = {"method": AscendSettings.method, **content, "subject": subject}
    if whole.get("references") == "none":
        del whole["references"]
    return whole | ({"unit": columns} if units else {}), PRESENTATIONS * max(len(units), 1)


def _begin(content: Mapping[str, Any], save: Path, told: Callable[[int], None]) -> xr.Dataset:
    """Does a run of a sweep."""
    subject = load_recorded_subject(content["subject"], str(save))
    named = content.get("generator")
    options = {"name": named} if isinstance(named, str) else named
    ascend(
        subject,
        None if options is None else matched_generator(options, subject, RESOLUTION),
        content["method"],
        save=save,
        exists="resume",
        progress=False,
        observers=[ImageCount(told)],
        **{name: content[name] for name in _HANDED if name in content},
        **content.get("options", {}),
    )
    return open_recording(save)


PROTOCOL = RunProtocol(
    ASCEND,
    _resume,
    _summary,
    command="ascend",
    repeats=lambda experiment: None if experiment.get("start") else (),  # its image is in no file
    findings=thread_findings,
    planned=_planned,
    begin=_begin,
)


#: What two of its columns say, where they are there.
_REACHED = "; “largest”, “> .99”: the step at which the unit was the largest output, and surer than that"


def _table(result: xr.Dataset) -> RunTable:
    """Returns one row for each unit, the last image and what it cost; columns without a number are left out."""
    rows = [_row(one) for one in _units(result)]
    kept = [name for name in rows[0] if any(row[name] != "–" for row in rows)]
    sure = {"largest", "> .99"} & set(kept)
    subject, method = (np.atleast_1d(result[name].values)[0] for name in ("subject", "method"))
    return RunTable(
        f"{method} on {subject}: the last image, as a file holds it",
        kept,
        [[row[name] for name in kept] for row in rows],
        f"cost in forward passes of the subject, a backward pass for two{_REACHED if sure else ''}",
    )


def _units(result: xr.Dataset) -> list[xr.Dataset]:
    return [result.isel(unit=i) for i in range(result.sizes["unit"])]


def _row(one: xr.Dataset) -> dict[str, str]:
    largest, sure = (f"step {step:.0f}" if np.isfinite(step) else "–" for step in one["reached"].values[:2])
    numbers = {"response": "response", "confidence": "confidence", "best natural": "natural"}
    found = {word: float(one[name].item()) for word, name in numbers.items()}
    return {
        "unit": result_title(one),
        **{word: f"{value:.4g}" if np.isfinite(value) else "–" for word, value in found.items()},
        "largest": largest,
        "> .99": sure,
        "steps": str(one.sizes["step"]),
        "cost": str(one["forward_equivalents"].item()),
    }


def _checked(generator: Generator) -> Generator:
    if not isinstance(generator, Generator):
        raise InvalidArgumentError(
            f"generator: expected a Generator, got {generator!r:.80}; names are loaded by load_generator(…)."
        )
    return generator


def _targets(
    subject: Subject, unit: UnitSpec | None, objective: Objective | str | None
) -> tuple[list[Objective], list[int | None]]:
    """Returns what is climbed, and the column of each where it is a unit's response."""
    if objective is not None:
        if unit is not None:
            raise InvalidArgumentError(f"unit: expected none beside an objective, got {unit!r}.")
        return [parse_objective(objective) if isinstance(objective, str) else objective], [None]
    if unit is None:
        default_objective(subject)  # says so where there are several units
    columns = parse_columns(0 if unit is None else unit, len(subject.units), name="unit")
    wanted: list[Objective] = [Unit(column) for column in columns]
    return wanted, [*columns]


def _names(columns: Sequence[int | None]) -> list[str]:
    return ["main" if column is None else f"unit-{column}" for column in columns]


def _encoded(generator: Generator, start: NDArray[Any], copies: int) -> FloatArray:
    """Returns codes ``(copies, dim)`` of an image."""
    if not isinstance(generator, Encoding):
        raise InvalidArgumentError(
            f"start: generator {generator.name!r} cannot encode an image; begin without one, or find a code with "
            "closedloop.generators.invert."
        )
    image = np.asarray(start)
    image = check_images(image[None] if image.ndim == 3 else image, name="start")
    if len(image) != 1:
        raise InvalidArgumentError(f"start: expected one image (3, h, w), got {len(image)}.")
    codes = encode_images(generator, resize_images(image, generator.resolution))
    return np.repeat(generator.space.clip(codes), copies, axis=0)


def read_start(run: str | Path) -> FloatArray:
    """Reads the first codes of a run.

    Raises:
        RecordingError: They are missing.
    """
    kept = read_kept(run, START)
    if kept is None:
        raise RecordingError(f"{run}: it ended before its first image was stored; begin it again, in the same folder.")
    codes: FloatArray = unpack_state(kept)["codes"]
    return codes
