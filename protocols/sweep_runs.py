"""Doing one run of a sweep: on any computer that has its folder, begun or gone on with, and what became of it.

What travels to who does it are the recipe of the run and the place of its folder, never an object. Whether a run is
another's is decided by the lock of its folder alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from closedloop.analysis.run_index import MARK
from closedloop.analysis.run_index import failure_of as noted_failure
from closedloop.errors import ClosedLoopError, FolderBusyError, InvalidArgumentError
from closedloop.errors import reason as reason_of
from closedloop.files import PARTIAL, remove, replace_file
from closedloop.loop.commits import is_finished
from closedloop.loop.protocol import protocol_of
from closedloop.recipes import KeptParts, keeping
from closedloop.recording.layout import REFERENCES, is_run

#: What can have become of a run: at its end; failed; or in the hands of another process.
DONE, FAILED, BUSY = "done", "failed", "busy"
#: The folder of a sweep with the files that its runs share.
SHARED = "shared"

#: Subjects and generators that stay loaded in this process, for the next run that has the same.
_WARM = KeptParts()


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        id: Its name.
        state: "done", "failed" or "busy": another process is writing it.
        reason: Why it failed, in words.
        images: How many images it evolved, or steps it trained, in this process.
    """

    id: str
    state: str
    reason: str = ""
    images: int = 0


def do_run(
    identity: str, content: Mapping[str, Any], folder: Path, told: Callable[[int], None] | None = None
) -> Outcome:
    """Does a run, or goes on with it where it stands; one that is at its end is left as it is.

    A failure is an outcome and leaves its mark beside the folder; what was committed before is safe.

    Args:
        identity: Its name.
        content: Its experiment.
        folder: Of the run.
        told: Is called with the images evolved so far, at most twice a second.
    """
    if is_run(folder) and _finished(folder):
        return Outcome(identity, DONE)
    shown, said, first = [0], [0.0], list[int]()

    def tell(images: int) -> None:
        shown[0] = images
        first.append(images) if not first else None
        if told is not None and time.monotonic() - said[0] >= 0.5:  # seconds between two words
            said[0] = time.monotonic()
            told(images)

    try:
        begin = protocol_of(content, str(folder)).begin
        if begin is None:
            raise InvalidArgumentError(f"{folder}: a sweep cannot run its protocol, {content.get('protocol')!r}.")
        with keeping(_WARM):
            begin(content, folder, tell).close()
    except FolderBusyError:
        return Outcome(identity, BUSY)
    except ClosedLoopError as error:
        return _failed(identity, folder, str(error), shown[0])
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends this run alone
        where = "".join(traceback.format_exception(error)[-2:]).strip()
        return _failed(identity, folder, f"{reason_of(error)}\n{where}", shown[0])
    with suppress(OSError):
        remove(mark_of(folder))
        if _is_of_sweep(identity, folder):
            share_files(folder / REFERENCES, folder.parents[2] / SHARED)
    return Outcome(identity, DONE, images=shown[0] - (first[0] if first else 0))


def _is_of_sweep(identity: str, folder: Path) -> bool:
    """Tells whether a run's folder stands where a sweep puts it: ``ab/cd/abcd…``."""
    return [folder.parent.parent.name, folder.parent.name, folder.name] == [identity[:2], identity[2:4], identity]


def share_files(folder: Path, pool: Path) -> None:
    """Lets the files of a finished run's folder be those of other runs that hold the same: hard links to one copy.

    Each run has its own copies of the references, which are most of its files and bytes. They are never written in
    place, so that runs can share them; each name stays where it was, with the same content, at every moment.

    Args:
        folder: Whose files.
        pool: Where one of each stands, named by its SHA-256; on the same disk.

    Raises:
        OSError: The disk knows no hard links, or is full; all files are as they were.
    """
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = hashlib.sha256(file.read_bytes()).hexdigest()
        one = pool / name[:2] / name
        one.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(file, one)
        if os.path.samefile(file, one):
            continue
        link = file.with_name(f"{file.name}.{os.getpid()}{PARTIAL}")
        os.link(one, link)
        link.replace(file)


def _finished(folder: Path) -> bool:
    try:
        return is_finished(folder)
    except ClosedLoopError:  # damaged: going on with it says how
        return False


def _failed(identity: str, folder: Path, why: str, images: int) -> Outcome:
    outcome = Outcome(identity, FAILED, why, images)
    mark_failed(folder, outcome)
    return outcome


def mark_of(folder: Path) -> Path:
    """Returns the file that says why a run failed."""
    return folder.with_name(folder.name + MARK)


def mark_failed(folder: Path, outcome: Outcome) -> None:
    """Notes why a run failed, beside its folder; a disk that is full takes no note."""
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        replace_file(mark_of(folder), (json.dumps(asdict(outcome), indent=1) + "\n").encode())


def failure_of(folder: Path) -> str:
    """Returns why a run failed; empty where it did not, or its mark was removed."""
    return noted_failure(folder.parent, folder.name)


def forget_failure(folder: Path) -> None:
    """Removes the note that a run failed, so that it is tried again."""
    remove(mark_of(folder))


def run_of_text(text: str) -> str:
    """Does a run that is told, and tells what became of it, in a line of JSON each: what a cluster is sent.

    Args:
        text: ``{"id": …, "content": …, "folder": …}``.
    """
    task = json.loads(text)
    return json.dumps(asdict(do_run(task["id"], task["content"], Path(task["folder"]))))
