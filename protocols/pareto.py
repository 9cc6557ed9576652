"""Search for images of which none is better by both of two objectives: what one costs the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.fronts import FIRST, FIRST_NAME, PARETO, SECOND, SECOND_NAME
from closedloop.checks import check_part
from closedloop.errors import InvalidArgumentError
from closedloop.images.forms import check_forms
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import FloatArray, Generator, Objective, State, Subject, form_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import ReferencePart, RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, Handed, RunProtocol, RunSummary
from closedloop.loop.settings import read_settings
from closedloop.loop.thread import checked_scores
from closedloop.objectives import parse_objective
from closedloop.optimizers.pareto import fronts
from closedloop.recipes import generator_of_run, recipe, version
from closedloop.recording.layout import REFERENCE
from closedloop.recording.reader import open_recording
from closedloop.recording.references import source
from closedloop.recording.writer import Recording
from closedloop.signatures import at_door

from .fronts import FrontSettings, Searching, front_figure, front_images, front_table, interval, retested
from .stored import check_complete, stored_images, stored_settings, subject_of


@at_door
def pareto(
    subject: Subject,
    generator: Generator,
    objectives: Sequence[Objective | str],
    *,
    references: ImageSet | str | Path | NDArray[Any] = ReferencePart.references,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Looks for images of which no other one is better by both of two objectives, without a gradient.

    A sum of two objectives finds one compromise; the front shows what one costs the other, such as how far a site can
    be driven while another one stays silent (Bashivan, Kar & DiCarlo 2019). Natural images are shown once before the
    search. Images evenly along the front, and the best natural ones, are shown again in fresh presentations: which
    images are on a front by single presentations is chosen by chance, too.

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images.
        objectives: Two, or their texts, such as ``["unit(0)", "-1*unit(1)"]``; both are maximized.
        references: Natural images to compare with: a folder, an array ``(n, 3, h, w)`` in [0, 1], an `ImageSet`, or
            "bundled".
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function.
        **numbers: ``images``, ``population``, ``retest_candidates``, ``retest_repeats``, ``seed`` …; see
            `FrontSettings`.

    Returns:
        The recording, with the coordinates `first` and `second` of each presentation; see
        `closedloop.analysis.pareto_front`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(FrontSettings, numbers)
    both = two_objectives(objectives, subject)
    check_forms("generator", form_of(generator), form_of(subject))
    naturals = as_image_set(references, generator.resolution, form_of(subject), "references")
    course = Searching(subject, generator, Both(both, naturals), chosen, progress)
    experiment = {
        "closedloop": version(),
        "protocol": PARETO,
        "subject": recipe(subject),
        "generator": recipe(generator),
        "objectives": [objective.describe() for objective in both],
        "references": source(references),
        **asdict(chosen),
        "fingerprints": fingerprints(subject=subject, generator=generator, references=naturals.fingerprint),
    }
    return record(course, experiment, save, exists)


def two_objectives(objectives: Sequence[Objective | str], subject: Subject) -> tuple[Objective, Objective]:
    """Returns two objectives, read where they are texts.

    Raises:
        InvalidArgumentError: There are not two different ones.
    """
    if isinstance(objectives, str) or not hasattr(objectives, "__len__") or len(objectives) != 2:
        raise InvalidArgumentError(
            f"objectives: expected two, such as ['unit(0)', '-1*unit(1)'], got {objectives!r:.80}."
        )
    made: list[Any] = [parse_objective(o, subject.units) if isinstance(o, str) else o for o in objectives]
    for i, objective in enumerate(made):
        check_part("objective", objective, f"objectives[{i}]")
    if made[0].describe() == made[1].describe():
        raise InvalidArgumentError(
            f"objectives: expected two different ones, got {made[0].describe()!r} twice; evolve maximizes a single one."
        )
    return made[0], made[1]


@final
class Both:
    """Two objectives of the responses, as a `closedloop.protocols.fronts.Goal`.

    Args:
        objectives: They.
        naturals: Natural images.
    """

    searches: tuple[str, ...] = (PARETO,)
    start = None

    def __init__(self, objectives: tuple[Objective, Objective], naturals: ImageSet) -> None:
        self._objectives = objectives
        self.references: ImageSet = naturals
        self._best: list[str] = []

    @property
    def names(self) -> tuple[str, str]:
        """The objectives' texts."""
        return self._objectives[0].describe(), self._objectives[1].describe()

    def scores(self, responses: FloatArray, images: NDArray[np.float32]) -> FloatArray:
        """Returns the first objective."""
        return checked_scores(self._objectives[0], responses, images)

    def values(self, search: str, responses: FloatArray, images: NDArray[np.float32], scores: FloatArray) -> FloatArray:
        """Returns both."""
        return np.stack([scores, checked_scores(self._objectives[1], responses, images)], 1)

    def learn(self, ids: Sequence[str], scores: FloatArray, values: FloatArray) -> None:
        """Notes the natural images that are shown again: ends and middle of their own front."""
        known = np.flatnonzero(np.isfinite(values).all(1))
        if not len(known):
            return
        own = known[fronts(values[known]) == 0]
        own = own[np.argsort(-values[own, 0], kind="stable")]
        # Beside the best by each objective four of their own front are shown again.
        even = np.linspace(0, len(own) - 1, min(4, len(own))).round().astype(int)
        self._best = [ids[i] for i in own[even]]

    def beside(self) -> Sequence[str]:
        """Returns the natural images that are shown again."""
        return self._best

    def chosen(self, search: str, values: FloatArray) -> int:
        """Returns the end of the front with the largest first value."""
        return int(values[:, 0].argmax())

    def state(self) -> State:
        """Returns what was learnt."""
        return {"best": list(self._best)}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._best = [str(name) for name in state["best"]]


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a search; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, FrontSettings, "subject", "generator", "objectives", "references")
    subject, generator = subject_of(run, content, handed), generator_of_run(run, content, handed.generator)
    stored = stored_images(run, content["references"])
    naturals = content["references"] if stored is None else stored
    naturals = as_image_set(naturals, generator.resolution, form_of(subject), "references")
    now = fingerprints(subject=subject, generator=generator, references=naturals.fingerprint)
    check_fingerprints(run, content, now)
    both = two_objectives(content["objectives"], subject)
    chosen = stored_settings(FrontSettings, content)
    course = Searching(subject, generator, Both(both, naturals), chosen, handed.progress)
    return run_course(course, Recording.reopen(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns the front, and by how much it exceeds natural images."""
    found = retested(recording)
    first, second = (str(recording[name].item()) for name in (FIRST_NAME, SECOND_NAME))
    figure = {"front": front_figure(recording, f"{second} over {first}: what was shown, and the front shown again.")}
    if found is None:
        return RunSummary([], ["No image of the front was shown again yet."], figure)
    tables = [front_table(recording, found, PARETO, f"The front of {first} and {second}")]
    tables += [front_table(recording, found, REFERENCE, "Natural images of their own front")] * bool(
        (found["thread"].values == REFERENCE).any()
    )
    lines = [_line(found, name, word) for name, word in ((FIRST, first), (SECOND, second))]
    return RunSummary(tables, lines, figure, f"What does {first} cost {second}?")


def _line(found: xr.Dataset, name: str, word: str) -> str:
    """Says what the end of the front, and the best natural image, reach of one objective."""
    texts = []
    for thread, what in ((PARETO, "the front reaches"), (REFERENCE, "natural images")):
        own = found.isel(image=np.flatnonzero(found["thread"].values == thread))
        known = np.nan_to_num(own[name].values, nan=-np.inf)
        if len(known) and np.isfinite(known.max()):
            texts.append(f"{what} {interval(own.isel(image=int(known.argmax())), name)}")
    return f"{word}: {', '.join(texts)}. These are the largest of several means, and so a little high."


#: What others must know of searches along the front of two objectives.
PROTOCOL = RunProtocol(
    PARETO,
    _resume,
    _summary,
    command="pareto",
    ends=True,
    analyses={"front": Analysis(front_images, "runs")},
)
