"""XDream's file layout over a folder, so that a lab's existing MATLAB task works unchanged.

XDream's `EPhysScorer` (Ponce et al. 2019; Xiao & Kreiman 2020) writes the images of a block as
``block%03d_%03d_<id>.png``, and waits for ``block%03d.mat`` with ``stimulusID`` (paths or names of the images that were
shown) and ``tEvokedResp`` (in MATLAB channels × images). Here the rig has no journal and says nothing of onsets or
trials: what the file does not name was not shown, and an image that it names several times was shown so often, and has
the mean response.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, MissingExtraError, RecordingError, RigError, SubjectError, require
from closedloop.files import PARTIAL, put_file
from closedloop.rigs.folder import COPYING_S
from closedloop.rigs.messages import Message, message

#: Seconds between two looks at the folder, as XDream does.
POLL_S = 0.1


@final
class XDreamTransport:
    """The side of the experiment, where the rig's task is one that was made for XDream.

    Args:
        folder: The folder in which the task looks for images; it must be there.
        units: Names of the channels, in the order of the columns of ``tEvokedResp``.

    Raises:
        RecordingError: There is no such folder.
    """

    encodings: tuple[str, ...] = ("png",)

    def __init__(self, folder: str | Path, units: Sequence[str]) -> None:
        self.address: str = f"folder:{folder}"
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise RecordingError(f"rig: there is no folder {folder}; make it, or start the task first.")
        self._units = list(units)
        self._waiting: list[Message] = []
        self._asked: Message | None = None
        self._last: Message | None = None
        self._seen: tuple[int, int] | None = None
        self._unread_s: float | None = None

    def send(self, sent: Message) -> None:
        """Writes the images of a block, or answers in the place of the task who it is."""
        if sent.type == "hello":
            units = [{"id": name, "channel": place} for place, name in enumerate(self._units)]
            known: dict[str, Any] = {
                "rig_id": "xdream",
                "units": units,
                "gives": "counts",
                "encoding": "png",
                "last_done": 0,
            }
            self._waiting = [message("welcome", session=sent.header["session"], **known)]
            return
        self._own(str(sent.header["session"]))
        self._write(sent)
        if self._last is not sent:  # what cannot be read is no younger for being asked for again
            self._last, self._seen, self._unread_s = sent, None, None
        self._asked = sent

    def _own(self, session: str) -> None:
        """Notes whose blocks lie in the folder.

        Raises:
            RigError: There are some of another session.
        """
        file = self._folder / "closedloop-session.txt"  # the session that uses the folder is noted there
        if not file.exists():
            if any(self._folder.glob("block*.*")):
                raise RigError(f"{self._folder} holds blocks already; clear it, or name an empty folder.", "conflict")
            put_file(file, session.encode())
        elif (other := file.read_text("utf-8", "replace")) != session:
            raise RigError(
                f"{self._folder} holds blocks of another session, {other!r:.80}; clear it, or name an empty one.",
                "conflict",
            )

    def _write(self, sent: Message) -> None:
        """Writes an image for each trial, under temporary names until all are there; those that are there stay."""
        names, missing = file_names(sent.header), []
        for name, trial in zip(names, sent.header["trials"], strict=True):
            path, part = self._folder / name, sent.parts[trial["image"]]
            if path.exists() and path.read_bytes() == part:
                continue
            temporary = path.with_name(name + PARTIAL)
            temporary.write_bytes(part)
            missing.append((temporary, path))
        for temporary, path in missing:
            temporary.replace(path)

    def receive(self, timeout_s: float) -> Message | None:
        """Looks for the responses to the block that was sent last."""
        if self._waiting:
            return self._waiting.pop(0)
        end = time.monotonic() + timeout_s
        while True:
            if self._asked is not None and (found := self._responses(self._asked.header)) is not None:
                self._asked = None
                return found
            if (left := end - time.monotonic()) <= 0:
                return None
            time.sleep(min(POLL_S, left))

    def _responses(self, header: Mapping[str, Any]) -> Message | None:
        """Returns the answer that a block's file is; None where it is not there, or still being written.

        Raises:
            SubjectError: It has not changed for long, and cannot be read.
        """
        path = self._folder / f"block{header['seq']:03d}.mat"
        try:
            now = path.stat()
            content = path.read_bytes()
        except OSError:
            return None
        size = (now.st_size, now.st_mtime_ns)
        if size != self._seen:  # looked at twice, it is whole
            self._seen, self._unread_s = size, None
            return None
        try:
            shown, responses = read_block(content)
        except (MissingExtraError, InvalidArgumentError):
            raise
        except Exception as error:  # readers of half a file raise all kinds
            self._unread_s = time.monotonic() if self._unread_s is None else self._unread_s
            if time.monotonic() - self._unread_s > COPYING_S:
                raise SubjectError(
                    f"rig: expected stimulusID and tEvokedResp (in MATLAB channels × images) in {path}, got something "
                    f"else ({type(error).__name__}: {error}). Mend the task, let it write that file again, and go on."
                ) from error
            return None
        return self._answer(header, shown, responses)

    def _answer(self, header: Mapping[str, Any], shown: Sequence[str], responses: NDArray[np.float64]) -> Message:
        if responses.shape[1] != len(self._units):
            raise InvalidArgumentError(
                f"units: expected the channels of tEvokedResp, {responses.shape[1]}, got {len(self._units)}."
            )
        place = {
            Path(name).stem: trial["trial"] for name, trial in zip(file_names(header), header["trials"], strict=True)
        }
        found: dict[str, list[NDArray[np.float64]]] = {}
        for name, row in zip(shown, responses, strict=True):
            trial = place.get(name, f"unknown image {name}")
            found.setdefault(trial, []).append(row)
        trials = []
        for trial, rows in found.items():
            known = np.stack(rows)
            count = (~np.isnan(known)).sum(axis=0)
            mean = np.where(count > 0, np.nansum(known, axis=0) / np.maximum(count, 1), np.nan)
            counts = [None if np.isnan(value) else float(value) for value in mean]
            trials.append({"trial": trial, "status": "ok", "counts": counts})
        names = ("session", "seq", "block")
        return message("answer", trials=trials, **{name: header[name] for name in names})

    def renew(self) -> None:
        """Does nothing: what lies in the folder stays."""

    def close(self) -> None:
        """Leaves everything as it is."""


def file_names(header: Mapping[str, Any]) -> list[str]:
    """Returns the name of the file of each trial of a block."""
    ids = [re.sub(r"[^0-9A-Za-z_.-]", "-", str(image["id"])) for image in header["images"]]
    return [f"block{header['seq']:03d}_{i:03d}_{ids[t['image']]}.png" for i, t in enumerate(header["trials"])]


def read_block(content: bytes) -> tuple[list[str], NDArray[np.float64]]:
    """Returns names of images, without folder and ending, and responses ``(images, channels)`` of a block's .mat file.

    Args:
        content: The file, of MATLAB 7.3 (HDF5; needs h5py, extra `netcdf`) or older.

    Raises:
        Exception: It is another file, or not yet whole.
    """
    names, responses = _read_hdf5(content) if content.startswith(b"MATLAB 7.3 MAT-file") else _read_older(content)
    if responses.ndim != 2 or len(responses) != len(names):
        raise ValueError(f"{len(names)} names for responses of shape {responses.shape}")
    return [re.split(r"[\\/]", name)[-1].removesuffix(".png") for name in names], responses


def _read_hdf5(content: bytes) -> tuple[list[str], NDArray[np.float64]]:
    h5py = require("h5py", "netcdf", "a .mat file of MATLAB 7.3")
    with h5py.File(io.BytesIO(content), "r") as file:
        references = np.asarray(file["stimulusID"]).ravel()
        names = ["".join(map(chr, np.asarray(file[reference]).ravel())) for reference in references]
        responses = np.atleast_2d(_real(np.asarray(file["tEvokedResp"])))  # HDF5 turns MATLAB's axes around
    return names, responses


def _read_older(content: bytes) -> tuple[list[str], NDArray[np.float64]]:
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(content), squeeze_me=False)
    cells = np.asarray(found["stimulusID"], object).ravel()
    names = [str(np.asarray(cell).ravel()[0]) for cell in cells]
    return names, np.atleast_2d(_real(np.asarray(found["tEvokedResp"]))).T


def _real(values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns numbers; those that are complex, whose half would be dropped, are none."""
    if np.iscomplexobj(values):
        raise TypeError("complex numbers")
    return values.astype(np.float64)
