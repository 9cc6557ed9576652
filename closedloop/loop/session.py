"""The closed loop: ask → generate → present → record → score → tell.

A session goes through phases, one block of presentations at a time: a survey of all reference images, the evolution
with references interleaved, a re-test that selects among the candidates, and a second, fresh re-test of the selected
image that confirms its response. What is shown next stands in `closedloop.loop.schedule`, what is learnt from it in
`closedloop.loop.learning`, what is stored of it in `closedloop.loop.rows`; `closedloop.loop.commits` goes round.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.blame import parts_named
from closedloop.checks import check_flag, check_part, units_of
from closedloop.errors import CallOrderError, InvalidArgumentError, ObserverError, OptimizerError, blamed
from closedloop.images.forms import check_forms
from closedloop.images.naturalness import Looked
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Budgeted, Form, Presenting, Sighted, State, Subject, form_of
from closedloop.loop.answers import today
from closedloop.loop.blocks import Block, Generation, Observer
from closedloop.loop.commits import check_fingerprints, fingerprints, record, run_course
from closedloop.loop.ending import EndRequest
from closedloop.loop.experiment import describe_session
from closedloop.loop.failing import Failing
from closedloop.loop.learning import Learning
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Presenter, Shown, Telling
from closedloop.loop.progress import SessionMeter
from closedloop.loop.reference_pool import ReferencePool
from closedloop.loop.rows import SessionRows, kinds_of
from closedloop.loop.schedule import Schedule
from closedloop.loop.sequential import Comparing
from closedloop.loop.settings import Settings, read_settings
from closedloop.loop.sparing import Beside
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Evolution, Thread
from closedloop.objectives import Linear
from closedloop.readable import Readable, counted, some
from closedloop.recording.layout import Layout, Rows
from closedloop.recording.reader import read_experiment
from closedloop.recording.references import keep_references
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, restore_generator

if TYPE_CHECKING:
    import xarray as xr


@final
class Session(Readable):
    """Several evolutions on one subject, with reference images between them.

    Args:
        subject: The network or animal that is shown images.
        threads: The evolutions.
        references: Natural images to compare with: a folder, an array ``(n, 3, h, w)``, an `ImageSet`, ``"bundled"``,
            or None. Rounded to 8 bits and resized to the largest generator's resolution; grey for a grey subject.
        stop: Rules that end a thread's evolution before its budget is used up.
        save: Folder of the run; None keeps it in memory.
        exists: What `run` does if there is such a run: "fail", or "resume" it if it is of the same experiment.
        observers: Watch the session.
        experiment: Plain values that repeat the run, for its folder; default the session's own description.
        files: Further files of the run's folder, by name.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is.
        **settings: See `closedloop.loop.settings.Settings`.

    Attributes:
        presentations: Images shown so far, with all repeats.
    """

    @parts_named()
    def __init__(
        self,
        subject: Subject,
        threads: Sequence[Thread],
        *,
        references: ImageSet | str | Path | NDArray[Any] | None = None,
        stop: Sequence[StoppingRule] = (),
        save: str | Path | None = None,
        exists: str = RunPart.exists,
        observers: Sequence[Observer] = (),
        experiment: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        progress: bool = True,
        **settings: Any,
    ) -> None:
        check_part("subject", subject)
        threads = _check_threads(threads, subject)
        self.form: Form = form_of(subject)
        for thread in threads:
            check_forms(f"thread {thread.name!r}", form_of(thread.generator), self.form)
        self.subject = subject
        self.settings: Settings = read_settings(Settings, settings)
        self.save: str | Path | None = save
        self.exists: str = exists
        shown = [SessionMeter()] if check_flag("progress", progress) else []
        self.stop: tuple[Any, ...] = _several("stop", stop)
        self.observers: tuple[Any, ...] = (*_several("observers", observers), *shown)
        self.evolutions: list[Evolution] = [Evolution(t, self.settings.retest_candidates) for t in threads]
        self.resolution: int = max(t.generator.resolution for t in threads)
        self._references = ReferencePool(references, self.resolution, self.form)
        self._failing = Failing(self.evolutions, self.settings.failures == "thread")
        compares = any(isinstance(rule, Comparing) for rule in self.stop)
        self._learning = Learning(subject, self.evolutions, self._references, self.settings, self._failing, compares)
        self._schedule = Schedule(self.evolutions, self._references, self.stop, self.settings, self._failing)
        self._stored = SessionRows(subject, self.evolutions, self._references, self.settings)
        chosen = self.settings
        self._presenter = Presenter(subject, chosen.retries, chosen.timeout_s, chosen.lost_blocks, chosen.soa_s)
        self._experiment, self._files = experiment, files or {}
        self._order = named_generator(self.settings.seed, "order")
        self._block: Block | None = None
        self._beside = Beside()
        self._looked: Callable[[], Looked] | None = None
        self._prepared = self._planned = False
        self._generation: Generation | None = None
        self.presentations: int = 0
        self._day = ""
        if not len(self._references) and self.settings.drift != "none":
            raise InvalidArgumentError(f"references: expected some for drift={self.settings.drift!r}, got None.")

    def _in_words(self) -> str:
        names = [e.thread.name for e in self.evolutions]
        budget = f"{self.settings.images:,} images each, {self.presentations:,} presentations so far ({self.phase})"
        return f"{self.subject.name}: {counted(len(names), 'thread')} ({some(names)}), {budget}"

    @property
    def references(self) -> ImageSet | None:
        """The reference images as they are shown; None where there are none."""
        return self._references.images

    @property
    def handed(self) -> Mapping[str, Any]:
        """What each thread maximizes, which may be an object of the user's."""
        return {f"objective of {e.thread.name}": e.thread.objective for e in self.evolutions}

    @property
    def phase(self) -> str:
        """Which of `closedloop.loop.blocks.PHASES` is under way."""
        return self._schedule.phase

    @property
    def index(self) -> int:
        """Number of the next block; -1 for the survey."""
        return self._schedule.index

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why each thread that has ended did so, by its name."""
        return self._schedule.reasons

    @property
    def reason(self) -> str:
        """Why the evolutions ended, in words."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.reasons.items())

    @parts_named()
    def run(self) -> xr.Dataset:
        """Runs the experiment and returns what was recorded.

        Raises:
            RecordingError: The folder exists (and is not to be gone on with), or cannot be written.
            InvalidArgumentError: The budget does not hold one generation; nothing is written.
            SubjectError: The subject failed; all finished generations are safe and the run can be resumed.
        """
        if self.presentations or self.phase == "done":
            raise CallOrderError("session: it has run already; build a new one, with new optimizers.")
        self.plan()
        return record(self, self._described(), self.save, self.exists)

    @parts_named()
    def plan(self) -> None:
        """Hands out budgets, shows generators to optimizers that look, and asks each thread for its first codes; once.

        `run` begins with it. Whoever runs a session later calls it where what does not fit is to be said at once.

        Raises:
            InvalidArgumentError: The budget does not hold one generation.
        """
        if self._planned:
            return
        self._hand_out_budget()
        self._show_generators()
        self._schedule.check_budget()
        self._planned = True

    @parts_named()
    def resume(self, recording: Recording) -> xr.Dataset:
        """Goes on with a reopened recording, to what an uninterrupted run would have given."""
        try:
            recording.check_units(self.subject.units)
            if recording.path is not None:
                check_fingerprints(recording.path, read_experiment(recording.path), self._fingerprints())
            saved = recording.state()
            if saved is None or "budgeted" in saved:  # sessions of older versions left budgets to their optimizers
                self._hand_out_budget()
            self._show_generators()
        except BaseException:
            recording.close()
            raise
        return run_course(self, recording)

    def _hand_out_budget(self) -> None:
        """Tells every optimizer that plans with a budget how many codes it may ask for.

        One that was given another budget keeps it, with a warning.
        """
        codes = max(self.settings.images // self.settings.repeats, 1)
        for evolution in self.evolutions:
            optimizer, name = evolution.thread.optimizer, evolution.thread.name
            if not isinstance(optimizer, Budgeted):
                continue
            if optimizer.budget is None:
                with blamed(f"thread {name!r}: optimizer {optimizer.name!r}, plan()", OptimizerError):
                    optimizer.plan(codes)
            elif optimizer.budget != codes:
                warnings.warn(
                    f"thread {name!r}: its optimizer plans with {optimizer.budget} codes, but the session has "
                    f"{self.settings.images} presentations for it, which are {codes} codes; build the optimizer "
                    "without a budget (images), and the session hands it its own.",
                    UserWarning,
                    stacklevel=3,
                )

    def _show_generators(self) -> None:
        """Shows every optimizer that looks at images the generator that makes them."""
        for evolution in self.evolutions:
            optimizer, name = evolution.thread.optimizer, evolution.thread.name
            if isinstance(optimizer, Sighted):
                with blamed(f"thread {name!r}: optimizer {optimizer.name!r}, see()", OptimizerError):
                    optimizer.see(evolution.thread.generator)

    def _described(self) -> Mapping[str, Any]:
        """Returns what repeats the run, for its folder, with fingerprints of all that was handed over."""
        threads = [e.thread for e in self.evolutions]
        described = self._experiment
        if described is None:
            described = describe_session(self.subject, threads, self._references.source, self.stop, self.settings)
        return {**described, "fingerprints": {**described.get("fingerprints", {}), **self._fingerprints()}}

    def _fingerprints(self) -> dict[str, str]:
        """Returns SHA-256 of subject, references and generators, as far as they can tell."""
        made = {f"generator of {e.thread.name}": e.thread.generator for e in self.evolutions}
        natural = {} if self.references is None else {"references": self.references.fingerprint}
        return fingerprints(subject=self.subject, **natural, **made)

    # The course that `closedloop.loop.commits` follows -----------------------------------------------------------

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        return self._stored.layout()

    def begin(self, recording: Recording) -> None:
        """Keeps the references beside the data, and tells the observers."""
        for name, data in self._files.items():
            recording.keep(name, data)
        self._schedule.asked = EndRequest(recording.path)
        keep_references(recording, self.references)
        for observer in self.observers:
            with _watching(observer, "begin()"):
                observer.begin(self)

    def prepare(self) -> None:
        """Makes the images of the next block."""
        self._block, self._prepared = self._schedule.next(), True

    def show(self) -> Shown | None:
        """Shows the next block."""
        if not self._prepared or self._schedule.overtaken:
            self.prepare()
        self._prepared = False
        if self._block is None:
            return None
        spare, group = self._schedule.spare(self._block)
        block = self._block
        self._looked = self._beside.begin(partial(self._stored.look, block))
        telling = Telling(block.threads, kinds_of(self.phase, block), self.phase, self.index)
        return self._presenter.show(block.images, block.repeats, self._order, spare, group, block.ids, telling)

    def learn(self, shown: Shown) -> Rows:
        """Tells the threads what their images brought, and goes on to the next block."""
        if self._block is None or self._looked is None:
            raise CallOrderError("session: expected show before learn.")
        index, phase, block, first = self.index, self.phase, self._block, self.presentations
        scores, scored = self._learning.score(phase, block, shown)
        self._learning.learn(phase, block, shown, scores, scored)
        self._learning.climb(phase, block)
        before, self._day = self._day, today()
        self.presentations += len(shown.stimulus)
        self._schedule.note_failures()
        self._schedule.advance()
        if before not in ("", self._day) and isinstance(self.subject, Presenting):  # a rig was waited for over night
            self._schedule.survey_again()
        self._generation = Generation(index, phase, block, shown, scores, self.evolutions)
        natural = self._stored.naturalness(block, self._looked())
        return self._stored.rows(index, phase, first, block, shown, scores, natural)

    def committed(self) -> None:
        """Tells the observers."""
        if self._generation is not None:
            for observer in self.observers:
                with _watching(observer, "generation()"):
                    observer.generation(self._generation)

    def end(self) -> None:
        """Tells the observers."""
        self._beside.end()
        for observer in self.observers:
            with _watching(observer, "end()"):
                observer.end(self)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {
            **self._schedule.state(),
            "presentations": self.presentations,
            "order": generator_state(self._order),
            "references": self._references.state(),
            "drift": self._learning.state(),
            "evolutions": [self._state_of(e) for e in self.evolutions],
            "budgeted": True,
            **({"day": self._day} if isinstance(self.subject, Presenting) else {}),
        }

    def _state_of(self, evolution: Evolution) -> State:
        """Returns the state of a thread; without its optimizer's where that fails at it."""
        found: State | None = None
        with self._failing.of(evolution):
            found = evolution.state()
        return found or evolution.state()

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._schedule.restore(state)
        self.presentations = int(state["presentations"])
        self._day = today()
        if state.get("day", self._day) != self._day:
            self._schedule.survey_again()
        restore_generator(self._order, state["order"])
        self._references.restore(state["references"])
        if "drift" in state:  # the first sessions knew of none
            self._learning.restore(state["drift"])
        for evolution, saved in zip(self.evolutions, state["evolutions"], strict=True):
            evolution.restore(saved)


def _watching(observer: Observer, call: str) -> AbstractContextManager[None]:
    """Names the observer in which something goes wrong."""
    return blamed(f"observer {type(observer).__name__}, {call}", ObserverError)


def _several(name: str, values: Any) -> tuple[Any, ...]:
    """Returns values as a tuple; raises for a single one."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidArgumentError(f"{name}: expected a list of them, got {values!r:.80}; put it in brackets.")
    return tuple(values)


def _check_threads(given: Sequence[Thread], subject: Subject) -> tuple[Thread, ...]:
    """Returns the threads if they have different names and optimizers, and objectives that suit the subject."""
    threads = _several("threads", given)
    for thread in threads:
        if not isinstance(thread, Thread):
            raise InvalidArgumentError(f"threads: expected a Thread each, got {thread!r:.80}.")
    names = [t.name for t in threads]
    if not names or len(set(names)) != len(names):
        raise InvalidArgumentError(f"threads: expected one or more with different names, got {names}.")
    if len({id(t.optimizer) for t in threads}) < len(threads):
        raise InvalidArgumentError("threads: two of them share one optimizer; build one for each.")
    for thread in threads:
        if isinstance(thread.objective, Linear):  # others may ask for a time axis, which is not known yet
            thread.objective(np.zeros((1, len(units_of(subject)))))
    return threads
