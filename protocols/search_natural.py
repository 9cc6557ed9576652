"""Search a large folder of photographs for those that drive a unit most, of which only a few can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.searches import CONFIRM, PHASE, PREDICTED, SEARCH, SEARCH_NATURAL, SELECT, natural_search
from closedloop.checks import check_part
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.interfaces import FloatArray, Objective, State, Subject, resolution_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import FeaturesPart, RunPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Meter, Progress, as_progress, end_progress, move_progress
from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.loop.sparing import one_thread
from closedloop.loop.thread import checked_scores
from closedloop.objectives import parse_objective
from closedloop.recipes import OBJECT, build_again, by_hand, recipe, version
from closedloop.recording.layout import IMAGE_BITS, REFERENCE, Layout, Rows, form_scalars
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import recorded_title
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, named_seed, numbered_generator, restore_generator
from closedloop.signatures import at_door
from closedloop.twins.fitting import feature_network
from closedloop.twins.judging import LEAST
from closedloop.twins.pool import Folder, Pool, gather_pool
from closedloop.twins.posterior import Posterior

from .evolve import default_objective
from .stored import check_complete, stored_settings, subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@settings
class SearchSettings(Timing):
    """The numbers of a search among natural images."""

    budget: int = option(
        default=200, least=1, help="Presentations of the search; it is never exceeded. Re-tests come on top of it."
    )
    start: int = option(default=40, least=1, help="Images that are drawn at random before anything was learnt.")
    batch: int = option(default=20, least=1, help="Images that are chosen, and shown, together after that.")
    repeats: int = option(default=1, least=1, help="Presentations of each image in the search.")
    retest_candidates: int = option(default=5, least=1, help="Images that are re-tested.")
    retest_repeats: int = option(
        default=10, least=1, help="Fresh presentations of each in the re-test, and again of the selected one."
    )
    resolution: int | None = option(
        default=None, least=8, shown="the subject's, or 224", help="Height and width of the images in pixels."
    )


@at_door
def search_natural(
    subject: Subject,
    images: str | Path,
    *,
    objective: Objective | str | None = None,
    features: str | Mapping[str, Any] | Subject = FeaturesPart.features,
    layers: str | Sequence[str] = FeaturesPart.layers,
    cache: str | Path | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Looks for the images of a folder that drive a subject most, and shows few of them.

    Features of all images are found once by a network (`closedloop.twins.pool`). After some images that are drawn at
    random, a readout of these features is fitted to the scores by evidence; each image of the next batch is the best
    one by a draw from what the fit leaves open (Thompson sampling), until the budget is used up. Then the images with
    the highest scores, and those of which the readout expects most, are re-tested in fresh presentations, and the best
    of them is confirmed in others. Only these last presentations say how much it drives the subject.

    Args:
        subject: The network or animal that is shown images.
        images: A folder of images, of which there may be a million; those in folders within it count, too. Images that
            cannot be read are left out, with a warning.
        objective: What is maximized, or its text such as "unit(0) - unit(1)"; default the response of the only unit.
        features: A network, as for `closedloop.twins.fit_twin`; one that knows nothing of the subject's weights.
        layers: Names of its layers, or "auto".
        cache: Folder in which features are kept; None for the user's cache.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called with what is done and of how much: first images that have features, then presentations.
        **numbers: ``budget``, ``start``, ``batch``, ``repeats``, ``seed`` …; see `SearchSettings`.

    Returns:
        The recording, whose images are named by their paths within the folder. `score` is that of each presentation;
        the coordinate `phase` is "search", "select" or "confirm", and `predicted` what the readout expected of an
        image before it was shown (NaN for what was drawn at random); it is no response. See
        `closedloop.analysis.natural_search`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.

    Warns:
        UserWarning: Some images cannot be read.
    """
    chosen = read_settings(SearchSettings, numbers)
    if isinstance(objective, str):
        objective = parse_objective(objective, subject.units)
    wanted = default_objective(subject) if objective is None else objective
    check_part("objective", wanted)
    folder = Folder.of(images)
    network = feature_network(features, layers, chosen.seed)
    course = Search(subject, wanted, folder, network, chosen, cache, progress)
    experiment = {
        "closedloop": version(),
        "protocol": SEARCH_NATURAL,
        "subject": recipe(subject),
        "images": str(folder.place.resolve()),
        "features": recipe(network),
        "objective": wanted.describe(),
        **asdict(chosen),
        "resolution": course.side,
        "fingerprints": fingerprints(subject=subject, images=folder.fingerprint, features=network),
    }
    return record(course, experiment, save, exists)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a search; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, SearchSettings, "subject", "images", "features", "objective")
    subject = subject_of(run, content, handed)
    chosen = stored_settings(SearchSettings, content)
    folder = Folder.of(content["images"])
    network = _network_of(run, content)
    check_fingerprints(run, content, fingerprints(subject=subject, images=folder.fingerprint, features=network))
    wanted = parse_objective(content["objective"], subject.units)
    course = Search(subject, wanted, folder, network, chosen, None, handed.progress)
    return run_course(course, Recording.reopen(run))


def _network_of(run: Path, content: Mapping[str, Any]) -> Subject:
    """Returns the network that found the features of a run.

    Raises:
        InvalidArgumentError: It was a Python object, which no file can name.
    """
    known = content["features"]
    if known.get("name") == OBJECT:
        cure = f"call search_natural with the arguments of {run} again, and exists='resume'"
        raise InvalidArgumentError(by_hand(known, "features: the network", cure))
    network: Subject = build_again("subjects", known, "features: the network", "hand it over")
    return network


class Search:
    """A search among natural images under way: the course of `search_natural`.

    Args:
        subject: The network or animal that is shown images.
        objective: What is maximized.
        folder: The images.
        features: Turns images into features.
        chosen: The numbers.
        cache: Where features are kept; None for the user's cache.
        progress: Whether progress is shown, or who is told it.
    """

    reason = ""

    def __init__(
        self,
        subject: Subject,
        objective: Objective,
        folder: Folder,
        features: Subject,
        chosen: SearchSettings,
        cache: str | Path | None,
        progress: Progress,
    ) -> None:
        if chosen.repeats > chosen.budget:
            raise InvalidArgumentError(
                f"budget: expected at least the {chosen.repeats} presentations of one image, got {chosen.budget}."
            )
        self.subject: Subject = subject
        self.side: int = chosen.resolution or resolution_of(subject)
        self._objective, self._folder, self._features, self._settings = objective, folder, features, chosen
        self._cache = cache
        self._progress = as_progress(progress, "searching")
        self._presenter = Presenter(subject, chosen.retries, chosen.timeout_s, chosen.lost_blocks)
        self._rng = named_generator(chosen.seed, "order")
        self._pool: Pool | None = None
        self._phase, self._last = "", ""
        self._generation, self._presentations, self._spent = 0, 0, 0
        self._seen: NDArray[np.int64] = np.empty(0, np.int64)
        self._sum: FloatArray = np.empty(0)
        self._count: FloatArray = np.empty(0)
        self._winner = -1
        self._which: NDArray[np.int64] = np.empty(0, np.int64)
        self._expected: FloatArray = np.empty(0)
        self._images: NDArray[np.float32] = np.empty((0, 3, 1, 1), np.float32)

    @property
    def pool(self) -> Pool:
        """The images with their features; they are found when they are first asked for."""
        if self._pool is None:
            self._pool = gather_pool(
                self._folder, self._features, self._cache, partial(self._move, what="finding features")
            )
        return self._pool

    def _move(self, done: int, total: int, what: str) -> None:
        """Moves the progress on; a bar says what is being done, too."""
        if isinstance(self._progress, Meter):
            self._progress.move(done, total, description=what)
        else:
            move_progress(self._progress, done, total)

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        chosen = self._settings
        retested = (chosen.retest_candidates + 1) * chosen.retest_repeats * (1 + chosen.retries)
        scalars: dict[str, str | int | float] = {
            "subject": self.subject.name,
            **form_scalars(self._presenter.form),
            "seed": chosen.seed,
            "closedloop_version": version(),
            IMAGE_BITS: 8,
            "pool": len(self._folder),
        }
        coords: dict[str, tuple[str, Any]] = {PHASE: ("str", ""), PREDICTED: ("float64", np.nan)}
        return Layout(chosen.budget + retested, 0, self.subject.units, scalars, coords)

    def begin(self, recording: Recording) -> None:
        """Finds the features of all images, unless they are known."""
        try:
            self.pool  # noqa: B018 - before anything is shown, for it may take hours
            self._move(self._spent, self._settings.budget, "searching")
        except BaseException:
            end_progress(self._progress)  # what does not begin is not ended by others
            raise

    def show(self) -> Shown | None:
        """Shows the next images: of the search, to be re-tested, or the selected one."""
        chosen = self._settings
        left = (chosen.budget - self._spent) // chosen.repeats
        if self._last == CONFIRM:
            return None
        if self._winner >= 0:
            self._phase, self._which = CONFIRM, np.array([self._winner])
        elif left > 0 and len(self._seen) + len(self.pool.unreadable) < len(self._folder):
            self._phase = SEARCH
        else:
            self._phase, self._which = SELECT, self._candidates()
        repeats = chosen.repeats if self._phase == SEARCH else chosen.retest_repeats
        self._expected = np.full(len(self._which), np.nan)
        if self._phase == SEARCH:
            self._which, self._expected = self._next(min(left, chosen.batch if len(self._seen) else chosen.start))
        self._images = quantize(self._presenter.fitted(self._folder.read(self._which, self.side)))
        times = np.full(len(self._which), repeats)
        spare = np.array([chosen.budget - self._spent - times.sum()]) if self._phase == SEARCH else None
        names = [self._folder.ids[i] for i in self._which]
        return self._presenter.show(self._images, times, self._rng, spare, ids=names)

    def _next(self, size: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Returns the images that are shown next, and what the readout expects of them; NaN where it knows nothing."""
        posterior = self._posterior()
        without = self._without()
        rng = numbered_generator(named_seed(self._settings.seed, "draws"), self._generation)
        if posterior is None:
            free = np.flatnonzero(~without)
            drawn = rng.permutation(free)[:size]
            return drawn, np.full(len(drawn), np.nan)
        with one_thread():
            liked, _ = self.pool.best(posterior.draw(size, rng).T, size, without)
            found: list[int] = []
            for row in liked.tolist():
                found += [i for i in row if i not in found][:1]
            which = np.array(found, np.int64)
            return which, posterior.mean(self.pool.rows(which))

    def _posterior(self) -> Posterior | None:
        """Returns what the scores so far say; None where they are too few, or all alike."""
        known = self._count > 0
        if known.sum() < LEAST:
            return None
        mean = self._sum[known] / self._count[known]
        with one_thread():
            return Posterior.of(self.pool.rows(self._seen[known]), self.pool.columns, mean, self._count[known])

    def _without(self) -> NDArray[np.bool_]:
        """Tells which images are not to be shown: those that were, and those that cannot be read."""
        without = np.zeros(len(self._folder), bool)
        without[self._seen] = True
        without[self.pool.unreadable] = True
        return without

    def _candidates(self) -> NDArray[np.int64]:
        """Returns the images that are re-tested: those with the highest scores, and those expected to be the best."""
        with np.errstate(invalid="ignore"):
            mean = np.where(self._count > 0, self._sum / np.maximum(self._count, 1), -np.inf)
        by_score = self._seen[np.argsort(-mean, kind="stable")]
        posterior = self._posterior()
        expected = by_score
        if posterior is not None:
            expected = self._seen[np.argsort(-posterior.mean(self.pool.rows(self._seen)), kind="stable")]
        pairs = [int(i) for pair in zip(by_score, expected, strict=True) for i in pair]
        return np.array(list(dict.fromkeys(pairs))[: self._settings.retest_candidates], np.int64)

    def learn(self, shown: Shown) -> Rows:
        """Takes in the scores, and returns the rows."""
        n, phase = len(shown.stimulus), self._phase
        scores = checked_scores(self._objective, shown.responses, self._images[shown.stimulus])
        known = ~np.isnan(scores)
        total = np.bincount(shown.stimulus, np.where(known, scores, 0), len(self._which))
        count = np.bincount(shown.stimulus, known, len(self._which))
        if phase == SEARCH:
            self._seen = np.concatenate([self._seen, self._which])
            self._sum, self._count = np.concatenate([self._sum, total]), np.concatenate([self._count, count])
            self._spent += n
        elif phase == SELECT:
            mean = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
            self._winner = int(self._which[mean.argmax()])
        names = np.array([self._folder.ids[i] for i in self._which], object)
        soa_s = max(self._settings.soa_s, self._presenter.form.duration_s)
        coords = {
            "thread": np.full(n, REFERENCE),
            "generation": np.full(n, self._generation, np.int32),
            "kind": np.full(n, "reference" if phase == SEARCH else "retest"),
            "stimulus_id": names[shown.stimulus],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (self._presentations + np.arange(n)) * soa_s,
            PHASE: np.full(n, phase),
            PREDICTED: self._expected[shown.stimulus],
        }
        self._generation += 1
        self._presentations += n
        self._last = phase
        return Rows(coords, shown.responses, np.empty((n, 0)), scores)

    def committed(self) -> None:
        """Moves the progress on."""
        self._move(self._spent, self._settings.budget, "searching" if self._last == SEARCH else "re-testing")

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    @property
    def handed(self) -> Mapping[str, Any]:
        """The network that finds features, which may be an object without a name."""
        return {"features": self._features}

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {
            "phase": self._last,
            "generation": self._generation,
            "presentations": self._presentations,
            "spent": self._spent,
            "winner": self._winner,
            "seen": self._seen,
            "sum": self._sum,
            "count": self._count,
            "order": generator_state(self._rng),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._last = str(state["phase"])
        self._generation, self._presentations = int(state["generation"]), int(state["presentations"])
        self._spent, self._winner = int(state["spent"]), int(state["winner"])
        self._seen = np.asarray(state["seen"], np.int64)
        self._sum, self._count = np.asarray(state["sum"], float), np.asarray(state["count"], float)
        restore_generator(self._rng, state["order"])


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what was found, how the search went, and whether its readout knew what was coming."""
    found = natural_search(recording)
    rows = [
        [str(int(one["images"])), *(_number(one[name]) for name in ("mean", "best", "predicted", "r"))]
        for one in (found.isel(batch=i) for i in range(found.sizes["batch"]))
    ]
    columns = ("images", "mean score of the batch", "highest so far", "expected", "r")
    said = "Expected: by the readout before they were shown, no response. r: correlation of both over the batch."
    lines = [_line(found)]
    if np.isfinite(float(found["r_all"])):
        lines.append(
            f"Over all images that were chosen, expected and shown scores correlate by {float(found['r_all']):.2f}."
        )
    figure = RunFigure(partial(_draw, recording), "Scores of what was shown, and the images that were re-tested.")
    units = recorded_title(recording, 0) if recording.sizes["neuroid"] == 1 else str(recording["subject"].item())
    return RunSummary(
        [RunTable("The search, batch by batch", columns, rows, said)],
        lines,
        {"search": figure},
        f"Which of {int(found['pool']):,} images does {units} prefer?",
    )


def _number(value: Any) -> str:
    return f"{float(value):.3g}" if np.isfinite(float(value)) else "–"


def _line(found: xr.Dataset) -> str:
    """Says which image won, and what fresh presentations say of it."""
    images, pool = int(found["images"].values[-1]), int(found["pool"])
    if not str(found["winner"].item()):
        return f"{images} of {pool:,} images were shown so far; none was re-tested."
    low, high = float(found["confirmed_low"]), float(found["confirmed_high"])
    ends = f" ({low:.3g} to {high:.3g})" if np.isfinite(low) else ""
    start, sd = float(found["start_mean"]), float(found["start_sd"])
    return (
        f"Of {pool:,} images {images} were shown. The best, {found['winner'].item()}, drives it by "
        f"{_number(found['confirmed'])}{ends} in fresh presentations; images drawn at random by {start:.3g} ± {sd:.2g} "
        "(standard deviation)."
    )


def _draw(recording: xr.Dataset) -> Figure:
    from closedloop.figures import plot_natural_search

    return plot_natural_search(recording)


#: What others must know of searches among natural images.
PROTOCOL = RunProtocol(
    SEARCH_NATURAL,
    _resume,
    _summary,
    command="search-natural",
    analyses={"search": Analysis(natural_search, "runs")},
)
