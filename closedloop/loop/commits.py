"""The one loop that commits: show a block, learn from it, write its rows with the state that follows, and again.

Evolutions, sessions, recorded images, landscapes, ascents, elites and comparisons all go through `record`. What differs
between them is a `Course`: what is shown next, and what is made of the answer. Every block is committed before the next
is shown, so a run goes on after a crash at any moment as if nothing had happened. What can be made of the next one
without showing it, its codes and images, a course makes while the disk takes the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from closedloop.blame import parts_named
from closedloop.capability import Capability
from closedloop.errors import (
    ClosedLoopError,
    FolderLostError,
    InvalidArgumentError,
    OptimizerError,
    RecordingError,
    SubjectError,
    blamed,
    reword,
)
from closedloop.interfaces import Presenting, State, Stateful, Subject
from closedloop.loop.answers import extended, session_name, with_answers
from closedloop.loop.contents import Handing, Held
from closedloop.loop.findings import summary_of
from closedloop.loop.notices import kept
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Shown
from closedloop.loop.settings import check_choice
from closedloop.presentations import Beginning
from closedloop.recipes import as_recorded, fingerprint, older_fingerprints, plain, same_fingerprint, same_recipe
from closedloop.recording.layout import POINTER, Layout, Rows, is_run
from closedloop.recording.places import root_of
from closedloop.recording.reader import open_recording, read_experiment, read_kept, read_pointer, read_state
from closedloop.recording.states import pack_state, unpack_state
from closedloop.recording.writer import Recording

if TYPE_CHECKING:
    import xarray as xr

#: Entries of an experiment's file that may differ between a run and the call that goes on with it.
_MAY_DIFFER = ("closedloop", "fingerprints", "lost_blocks")
#: Entries that name a folder of images, which may have moved if its images have the same fingerprint.
_PLACES = ("references", "images", "naturals")
#: Entry of a state: what parts hold that were handed over as Python objects.
HELD = "contents"
#: The file of a run with the state in which a rig was before its first block.
BEGUN = "rig.npz"
#: The file of a run with what its rig said of itself: units, screen, clock.
ABOUT = "rig.json"


class Course(Protocol):
    """An experiment under way, from one commit to the next. It calls nothing that writes."""

    @property
    def subject(self) -> Subject:
        """The network or animal that is shown images."""
        ...

    @property
    def reason(self) -> str:
        """Why it ended, in words, for the record; it may be empty."""
        ...

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        ...

    def begin(self, recording: Recording) -> None:
        """Is called once before the first block, also of a run that goes on; keeps files beside the data."""
        ...

    def show(self) -> Shown | None:
        """Shows the next block to the subject; returns None when there is none left."""
        ...

    def learn(self, shown: Shown) -> Rows:
        """Learns from the block that was shown last, whose responses were checked, and returns its rows."""
        ...

    def committed(self) -> None:
        """Is called when these rows are safe on the disk."""
        ...

    def end(self) -> None:
        """Is called once when all is over, also after an error."""
        ...

    def state(self) -> State:
        """Returns all that is needed to go on identically, but for the subject's own state."""
        ...

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        ...


@runtime_checkable
class Preparing(Capability, Protocol):
    """A course that makes its next block while the one before is brought to the disk."""

    def prepare(self) -> None:
        """Makes what is shown next, where there is something left; shows nothing, and writes nothing."""
        ...


def record(
    course: Course, experiment: Mapping[str, Any], save: str | Path | None = None, exists: str = RunPart.exists
) -> xr.Dataset:
    """Runs an experiment in a new folder, or goes on with the same experiment in an existing one.

    Args:
        course: The experiment, at its beginning.
        experiment: What repeats it, for the run's ``experiment.yaml``.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: ``"fail"``, or ``"resume"`` it. A finished run is returned as it is.

    Returns:
        The recording, see `closedloop.open_recording`.

    Raises:
        InvalidArgumentError: `exists` is neither, or the run in the folder is of another experiment.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and the run can be resumed.
    """
    content = plain(experiment)
    if not goes_on(save, exists):
        return run_course(course, Recording.create(save, extended(course.layout(), course.subject), content))
    check_same_experiment(Path(str(save)), content)
    check_fingerprints(Path(str(save)), read_experiment(str(save)), content.get("fingerprints") or {})
    if is_finished(str(save)):
        saved = read_state(str(save)) or {}
        if HELD in saved:
            _held(course).check(str(save), saved[HELD], finished=True)
        return open_recording(str(save))
    return run_course(course, Recording.reopen(str(save)))


def run_course(course: Course, recording: Recording) -> xr.Dataset:
    """Goes on with a recording from its last commit, or its beginning, to the end.

    Raises:
        InvalidArgumentError: The saved state is that of another subject, of other images or of other threads.
        RecordingError: The disk is full or cannot be written; what was committed before is safe.
        SubjectError: The subject failed; likewise.
    """
    try:
        return _go_on(course, recording)
    except SubjectError:
        raise
    except KeyboardInterrupt as stop:
        if recording.path is not None:
            stop.__notes__ = []  # of a part of it that was in memory alone
        stop.add_note(recording.what_is_safe())
        raise
    except ClosedLoopError:  # bad input that was met before anything was recorded leaves nothing behind
        recording.discard()
        raise
    finally:
        recording.close()


@parts_named()
def _go_on(course: Course, recording: Recording) -> xr.Dataset:
    """Does what `run_course` does; what went wrong it leaves to that."""
    session = session_name()
    recording.check_units(course.subject.units)
    saved = recording.state()
    held = _held(course, saved) if recording.path is not None else Held({})  # no other goes on in memory
    if saved is None:
        recording.use(extended(course.layout(), course.subject))
        _begin_as_before(course.subject, recording)
    else:
        if HELD in saved:
            held.check(str(recording.path), saved[HELD])
        _restore(course, saved)
    course.begin(recording)
    try:
        with kept(recording), _saying_what_is_safe(recording):
            while (shown := course.show()) is not None:
                recording.check(shown.responses)  # before anything is learnt from them
                rows = with_answers(
                    course.learn(shown), shown.answers, course.subject, recording.n_generations, session
                )
                held.look_again()
                with recording.appending(rows, _state(course, held)):
                    if isinstance(course, Preparing):
                        course.prepare()
                course.committed()
            recording.finish(_state(course, held), course.reason, summary_of(recording))
        return recording.dataset()
    finally:
        course.end()


@contextmanager
def _saying_what_is_safe(recording: Recording) -> Iterator[None]:
    """Adds to an error in which block it happened, what is safe, and how to go on."""
    try:
        with parts_named():
            yield
    except FolderLostError:
        raise  # it says itself where everything lies
    except ClosedLoopError as error:
        done = recording.n_generations
        if recording.path is None:
            safe = "The run was in memory alone, and is lost; with save=FOLDER it can go on."
        elif not done and not isinstance(error, SubjectError):
            safe = "Nothing was recorded; when this is mended begin again."
        else:
            safe = (
                f"{_blocks(done)}; when this is mended go on with: "
                f"closedloop resume {recording.path} (in Python closedloop.protocols.resume, with the objects "
                "that have no name)."
            )
        if "closedloop resume" not in str(error) and "begin again" not in str(error):
            reword(error, f"{str(error).rstrip('.')}. It happened in block {done}. {safe}")
        raise


def _begin_as_before(subject: Subject, recording: Recording) -> None:
    """Keeps the state with which a rig begins a run, or brings it back where the run died before its first commit.

    So the first block is named alike when it is asked for again, and a rig that has shown it does not show it twice.
    """
    kept = None if recording.path is None else read_kept(recording.path, BEGUN)
    known: Mapping[str, Any] = {}
    if kept is None and isinstance(subject, Beginning):
        with blamed(f"subject {subject.name!r}, begin_run()", SubjectError):
            known = subject.begin_run()
    if not (isinstance(subject, Presenting) and isinstance(subject, Stateful)):
        return
    with blamed(f"subject {subject.name!r}, state()", SubjectError):
        if kept is None:
            about = {ABOUT: (json.dumps(plain(known), indent=1) + "\n").encode()} if known else {}
            recording.keep_files({**about, BEGUN: pack_state(subject.state())})
        else:
            subject.restore(unpack_state(kept))


def _blocks(done: int) -> str:
    return f"{done} block{'s are' if done > 1 else ' is'} safe" if done else "Nothing is recorded yet"


def _held(course: Course, saved: State | None = None) -> Held:
    """Returns what the subject and other parts hold that were handed over as Python objects."""
    others = course.handed if isinstance(course, Handing) else {}
    return Held({"subject": course.subject, **others}, (saved or {}).get(HELD))


def _state(course: Course, held: Held) -> State:
    """Returns the state of a course and of its subject, all that is needed to go on identically."""
    subject, known = course.subject, {HELD: held.state()}
    if not isinstance(subject, Stateful):
        return {**course.state(), **known, "subject": None}
    with blamed(f"subject {subject.name!r}, state()", SubjectError):
        return {**course.state(), **known, "subject": subject.state()}


def _restore(course: Course, saved: State) -> None:
    """Puts a course and its subject back to a saved state, or says that it is another experiment's."""
    held = saved.get("subject")
    if isinstance(course.subject, Stateful) != (held is not None):
        has, was = ("a state", "none") if held is None else ("no state", "one")
        raise InvalidArgumentError(
            f"subject: it has {has}, but the run's subject had {was}; hand over the same subject."
        )
    try:
        course.restore(saved)
        if isinstance(course.subject, Stateful):
            with blamed(f"subject {course.subject.name!r}, restore()", SubjectError):
                course.subject.restore(saved["subject"])
    except (SubjectError, OptimizerError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        why = str(error) if isinstance(error, ClosedLoopError) else f"{type(error).__name__}: {error}"
        raise InvalidArgumentError(
            f"subject, threads: the saved state does not fit them ({why}); build them as for the run."
        ) from error


def goes_on(save: str | Path | None, exists: str) -> bool:
    """Returns whether a call goes on with a run that is there; False where it begins a new one.

    Raises:
        InvalidArgumentError: `exists` is neither "fail" nor "resume", or there is no folder to go on in.
    """
    check_choice(RunPart.__dataclass_fields__["exists"], exists)
    if exists == "resume" and save is None:
        raise InvalidArgumentError("save: expected the folder of the run for exists='resume', got None; name one.")
    return exists == "resume" and is_run(str(save))


def is_finished(run: str | Path) -> bool:
    """Returns whether a run has come to its end."""
    return (root_of(run) / POINTER).exists() and bool(read_pointer(run)["finished"])


def check_same_experiment(run: Path, wanted: Mapping[str, Any]) -> None:
    """Raises unless the run in a folder was begun with the same experiment.

    Raises:
        RecordingError: The run is of another experiment; the error names what differs. Nothing is changed.
    """
    held = as_recorded(read_experiment(run))
    known = held.get("fingerprints") or {}
    for name in [*wanted, *(key for key in held if key not in wanted)]:
        if name in _MAY_DIFFER or (name in _PLACES and name in known):
            continue
        if not same_recipe(held.get(name), wanted.get(name)):
            raise RecordingError(
                f"exists: {run} holds another experiment: {name} is {held.get(name)!r:.200} there, and "
                f"{wanted.get(name)!r:.200} here. Give the arguments of that run, or a new folder."
            )


class Fingerprint(str):
    """SHA-256 of a part of an experiment, which knows what older versions noted for that very part.

    Attributes:
        older: Those, for a part that they told by its recipe and engine alone.
    """

    older: Set[str] = frozenset()


def fingerprints(**parts: Any) -> dict[str, str]:
    """Returns SHA-256 of the parts of an experiment by their names; those that have none are left out.

    Args:
        **parts: Subjects, generators …; bytes; or a fingerprint itself, as text.
    """
    different = {id(part): part for part in parts.values()}  # threads may share one generator
    told = {key: _fingerprint(part) for key, part in different.items()}
    found = {name: told[id(part)] for name, part in parts.items()}
    return {name: known for name, known in found.items() if known}


def _fingerprint(part: Any) -> str:
    if isinstance(part, bytes):
        return hashlib.sha256(part).hexdigest() if part else ""
    if isinstance(part, str):
        return part
    known = Fingerprint(fingerprint(part))
    known.older = older_fingerprints(part)
    return known


def check_fingerprints(run: Path, content: Mapping[str, Any], now: Mapping[str, str]) -> None:
    """Raises unless a run goes on with the very parts that it began with; runs of older versions do not say.

    Of a network they noted its recipe and not its weights, which then are not compared.

    Args:
        run: The run's folder.
        content: Its experiment file.
        now: What `fingerprints` gives for the parts that it would go on with.

    Raises:
        InvalidArgumentError: Weights, options or images of a part are others; the error names it.
    """
    held: Mapping[str, str] = content.get("fingerprints") or {}
    for name, known in now.items():
        older = known.older if isinstance(known, Fingerprint) else ()
        if name in held and held[name] not in older and not same_fingerprint(held[name], known):
            raise InvalidArgumentError(
                f"{name}: expected the {name} with which {run} began, got another (its fingerprint "
                f"{known[:20]}…, of the run {held[name][:20]}…); restore its weights, options or images."
            )
