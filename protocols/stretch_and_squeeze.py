"""Images far from a reference at a held response, and images near it with the response gone, without a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.fronts import SQUEEZE, STRETCH, STRETCH_AND_SQUEEZE
from closedloop.checks import check_images, check_part, encode_images, make_images, record_images
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.eight_bit import quantize
from closedloop.images.forms import check_forms, shown_as
from closedloop.images.sets import ImageSet
from closedloop.interfaces import FloatArray, Form, Generator, Layered, Objective, State, Subject, Wrapping, form_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, Handed, RunProtocol, RunSummary
from closedloop.loop.settings import option, read_settings, settings
from closedloop.loop.thread import checked_scores
from closedloop.objectives import parse_objective
from closedloop.recipes import build_again, generator_of_run, recipe, version
from closedloop.recording.layout import REFERENCE
from closedloop.recording.reader import open_recording, read_kept
from closedloop.recording.states import pack_state, unpack_state
from closedloop.recording.writer import Recording
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

from .evolve import default_objective
from .fronts import FrontSettings, Searching, front_figure, front_images, front_table, interval, retested
from .stored import check_complete, stored_settings, subject_of

#: The stage in which distances are taken where none is named: the image itself.
PIXELS = "pixels"
#: Names of the images that are shown before the searches: the reference, and a grey one that should drive nothing.
GIVEN, GREY = "the-reference", "grey"
#: File of the reference's code in a run's folder.
CODE = "reference.state"


@settings
class StretchSettings(FrontSettings):
    """The numbers of a search for invariances and for what breaks a response."""

    margin: float = option(
        default=0.1,
        unit="share of the reference's response",
        help="How far a response may be from the reference's and count as held, or above grey's and count as gone, as "
        "a share of what the reference drives above grey. With noise: no less than that of one presentation.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.margin < 1:
            raise InvalidArgumentError(f"margin: expected a share between 0 and 1 such as 0.1, got {self.margin!r}.")


@at_door
def stretch_and_squeeze(
    subject: Subject,
    generator: Generator,
    reference: NDArray[Any],
    *,
    stage: Subject | str = PIXELS,
    objective: Objective | str | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Searches, without a gradient, what a response is invariant to and what it is sensitive to.

    Two searches side by side (Tausani et al. 2025). "stretch" wants images that are far from the reference in a stage
    and hold its response; "squeeze" images that are near it there, with the response gone. Each keeps the front of
    images of which none is better in both. First the reference, and a grey image, are shown ``retest_repeats`` times;
    at the end images of both fronts and these two again, in fresh presentations.

    The distance is the root of the mean squared difference in the stage. The second value of "stretch" is minus what
    the response differs from the reference's beyond `margin`, that of "squeeze" what it fell; both as a share of what
    the reference drives above grey.

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images.
        reference: A code ``(dim,)`` of the generator, such as that of an evolved image; or an image ``(3, h, h)`` in
            [0, 1] that the generator can encode: what is searched around, and compared with, is the image of its code.
        stage: Where distances are taken: "pixels"; the name of a layer, where the subject is a network of which
            layers can be recorded; or any other subject, such as a layer of another network.
        objective: What is to be held, or its text; default the response of the only unit.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function.
        **numbers: ``images`` (of each search), ``population``, ``margin``, ``retest_candidates``, ``retest_repeats``,
            ``seed`` …; see `StretchSettings`.

    Returns:
        The recording, with the threads "stretch" and "squeeze" and the coordinates `first` (distance, or minus it) and
        `second`; `usual_distance` is the median distance of draws from the generator's prior. See
        `closedloop.analysis.pareto_front`.

    Raises:
        InvalidArgumentError: An argument does not fit, or the reference drives the subject no more than grey.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(StretchSettings, numbers)
    if isinstance(objective, str):
        objective = parse_objective(objective, subject.units)
    wanted = default_objective(subject) if objective is None else objective
    check_part("objective", wanted)
    check_forms("generator", form_of(generator), form_of(subject))
    code = _code(generator, reference)
    where = stage_of(subject, stage)
    course = _course(subject, generator, code, where, wanted, chosen, progress)
    experiment = {
        "closedloop": version(),
        "protocol": STRETCH_AND_SQUEEZE,
        "subject": recipe(subject),
        "generator": recipe(generator),
        "stage": stage if isinstance(stage, str) else recipe(stage),
        "objective": wanted.describe(),
        **asdict(chosen),
        "fingerprints": fingerprints(
            subject=subject, generator=generator, stage=where or "", reference=pack_state({"code": code})
        ),
    }
    return record(course, experiment, save, exists)


def _course(
    subject: Subject,
    generator: Generator,
    code: FloatArray,
    where: Subject | None,
    objective: Objective,
    chosen: StretchSettings,
    progress: Progress,
) -> Searching:
    """Returns both searches at their beginning."""
    goal = Around(generator, code, where, objective, chosen.margin, form_of(subject))
    files = {CODE: pack_state({"code": code})}
    scalars = {"usual_distance": goal.usual(named_generator(chosen.seed, "usual"))}
    return Searching(subject, generator, goal, chosen, progress, chosen.retest_repeats, scalars, files)


def _code(generator: Generator, reference: NDArray[Any]) -> FloatArray:
    """Returns the code ``(dim,)`` around which is searched.

    Raises:
        InvalidArgumentError: It is neither a code nor an image that the generator can encode.
    """
    given = np.asarray(reference)
    if given.dtype.kind not in "fiu" or given.ndim not in (1, 3):
        raise InvalidArgumentError(
            f"reference: expected a code ({generator.space.dim},) of generator {generator.name!r}, or an image "
            f"(3, h, h) in [0, 1], got shape {given.shape} of {given.dtype}."
        )
    codes = given[None].astype(float)
    if given.ndim == 3:
        codes = generator.space.clip(encode_images(generator, check_images(given[None].astype(np.float32))))
    code: FloatArray = generator.space.check(codes)[0]
    return code


def stage_of(subject: Subject, stage: Subject | str) -> Subject | None:
    """Returns the subject whose responses are the stage; None for pixels.

    Raises:
        InvalidArgumentError: The subject has no layers to record.
    """
    if not isinstance(stage, str):
        check_part("subject", stage, "stage")
        return stage
    if stage == PIXELS:
        return None
    inner: Any = subject
    while not isinstance(inner, Layered) and isinstance(inner, Wrapping):
        inner = inner.subject
    if not isinstance(inner, Layered):
        raise InvalidArgumentError(
            f"stage: expected 'pixels' or another subject, for {subject.name!r} has no layers to record, got {stage!r}."
        )
    found: Subject = inner.at(stage)
    return found


@final
class Around:
    """Distance from a reference in a stage, and what becomes of the response: a `closedloop.protocols.fronts.Goal`.

    Args:
        generator: Turns codes into images.
        code: Of the reference, ``(dim,)``.
        stage: Whose responses distances are taken between; None for pixels.
        objective: What is to be held.
        margin: See `StretchSettings`.
        form: What the subject is shown.
    """

    searches: tuple[str, str] = (STRETCH, SQUEEZE)
    names: tuple[str, str] = ("distance", "response")

    def __init__(
        self,
        generator: Generator,
        code: FloatArray,
        stage: Subject | None,
        objective: Objective,
        margin: float,
        form: Form,
    ) -> None:
        self._generator, self._stage, self._objective, self._margin, self._form = (
            generator,
            stage,
            objective,
            margin,
            form,
        )
        self.start: FloatArray | None = code[None]
        image = quantize(shown_as(make_images(generator, code[None]), form))
        self.references: ImageSet = ImageSet((GIVEN, GREY), np.concatenate([image, quantize(np.full_like(image, 0.5))]))
        self._place = self._stages(image)[0]
        self._held = self._grey = np.nan

    def usual(self, rng: np.random.Generator) -> float:
        """Returns the median distance of draws from the generator's prior."""
        drawn = make_images(self._generator, self._generator.space.sample(32, rng))
        return float(np.median(self._distances(quantize(shown_as(drawn, self._form)))))

    def _stages(self, images: NDArray[np.float32]) -> FloatArray:
        """Returns where images stand in the stage, ``(n, dimensions)``."""
        found = images if self._stage is None else record_images(self._stage, images, "stage")
        return np.asarray(found, float).reshape(len(images), -1)

    def _distances(self, images: NDArray[np.float32]) -> FloatArray:
        found: FloatArray = np.sqrt(((self._stages(images) - self._place) ** 2).mean(1))
        return found

    def scores(self, responses: FloatArray, images: NDArray[np.float32]) -> FloatArray:
        """Returns the objective."""
        return checked_scores(self._objective, responses, images)

    def values(self, search: str, responses: FloatArray, images: NDArray[np.float32], scores: FloatArray) -> FloatArray:
        """Returns distance and response, both as larger values are better in a search."""
        if not search:
            return np.full((len(images), 2), np.nan)
        distance, span = self._distances(images), self._held - self._grey
        if search == STRETCH:
            away = np.maximum(np.abs(scores - self._held) / span - self._margin, 0)
            return np.stack([distance, -np.minimum(away, 1)], 1)
        # What lies below grey is gone, and no better than that.
        return np.stack([-distance, np.minimum((self._held - scores) / span, 1 - self._margin)], 1)

    def learn(self, ids: Sequence[str], scores: FloatArray, values: FloatArray) -> None:
        """Takes in what the reference and grey drive.

        Raises:
            InvalidArgumentError: The reference drives no more than grey.
        """
        self._held, self._grey = (float(scores[list(ids).index(name)]) for name in (GIVEN, GREY))
        if not self._held > self._grey:
            raise InvalidArgumentError(
                f"reference: expected one that drives the subject more than a grey image, got {self._held:.4g} and "
                f"{self._grey:.4g} (means); evolve one first."
            )

    def beside(self) -> Sequence[str]:
        """Returns both references: they are shown again."""
        return self.references.ids

    def chosen(self, search: str, values: FloatArray) -> int:
        """Returns the farthest image whose response is held, or the nearest whose response is gone."""
        whole = values[:, 1] >= (0 if search == STRETCH else 1 - self._margin)
        return int(np.where(whole, values[:, 0], -np.inf).argmax()) if whole.any() else int(values[:, 1].argmax())

    def state(self) -> State:
        """Returns what was learnt."""
        return {"held": self._held, "grey": self._grey}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._held, self._grey = float(state["held"]), float(state["grey"])


def stored_reference(run: str | Path) -> FloatArray:
    """Returns the code ``(dim,)`` of the reference of a run.

    Raises:
        RecordingError: The run died before it was stored.
    """
    kept = read_kept(run, CODE)
    if kept is None:
        raise RecordingError(f"{run}: it ended before its reference was stored; begin it again, in the same folder.")
    return np.asarray(unpack_state(kept)["code"], float)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a search; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, StretchSettings, "subject", "generator", "stage", "objective")
    subject, generator = subject_of(run, content, handed), generator_of_run(run, content, handed.generator)
    code = stored_reference(run)
    stage = content["stage"]
    if not isinstance(stage, str):
        cure = f"call stretch_and_squeeze with the arguments of {run} again, and exists='resume'"
        stage = build_again("subjects", stage, "stage: the subject", cure)
    where = stage_of(subject, stage)
    now = fingerprints(subject=subject, generator=generator, stage=where or "")
    check_fingerprints(run, content, now)
    chosen = stored_settings(StretchSettings, content)
    wanted = parse_objective(content["objective"], subject.units)
    course = _course(subject, generator, code, where, wanted, chosen, handed.progress)
    return run_course(course, Recording.reopen(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns both fronts, and what each says in a sentence."""
    found = retested(recording)
    figure = {"fronts": front_figure(recording, "Distance and response of what was shown, and the images shown again.")}
    if found is None:
        return RunSummary([], ["No image of a front was shown again yet."], figure)
    titles = ((STRETCH, "Far from the reference at a held response"), (SQUEEZE, "Near it, with the response gone"))
    tables = [front_table(recording, found, thread, title) for thread, title in titles]
    lines = [f"A usual distance, of draws from the generator's prior, is {float(recording['usual_distance']):.3g}."]
    beside = found.isel(image=np.flatnonzero(found["thread"].values == REFERENCE))
    for name, what in ((GIVEN, "The reference"), (GREY, "Grey")):
        for i in np.flatnonzero(beside["stimulus_id"].values == name):
            lines.append(f"{what} drives it by {interval(beside.isel(image=int(i)), 'score')}.")
    return RunSummary(tables, lines, figure, "What does the response not care for, and what breaks it?")


#: What others must know of searches for invariances and for what breaks a response.
PROTOCOL = RunProtocol(
    STRETCH_AND_SQUEEZE,
    _resume,
    _summary,
    command="stretch-and-squeeze",
    ends=True,
    analyses={"front": Analysis(front_images, "runs")},
)
