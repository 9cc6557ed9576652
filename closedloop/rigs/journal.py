"""What a rig has shown: written down before it shows a block, and once more before it answers.

So a block that is asked for again, since its answer was lost or the asker died, is answered and not shown again. Only a
rig that dies while it shows a block shows it twice, and says so.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from closedloop.errors import RecordingError, RigError
from closedloop.interfaces import State
from closedloop.recording.states import pack_state, unpack_state

#: The tables of a journal, in SQL.
_TABLES = """
CREATE TABLE IF NOT EXISTS blocks (
    session TEXT NOT NULL, seq INTEGER NOT NULL, block TEXT NOT NULL,
    attempt INTEGER NOT NULL, answer BLOB,
    PRIMARY KEY (session, seq, block));
CREATE TABLE IF NOT EXISTS rig (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (session TEXT PRIMARY KEY, units TEXT NOT NULL);
"""

#: Seconds that a journal is waited for which somebody else has open: a rig that is ending.
LOCKED_S = 2.0


class Entry(NamedTuple):
    """What is known of one block.

    Attributes:
        block: Its name.
        attempt: How many times it has been begun.
        answer: The header of its answer; None where it was begun and not finished.
    """

    block: str
    attempt: int
    answer: bytes | None


@final
class Journal:
    """The journal of a rig: an SQLite file on a disk of the rig's own computer.

    It is that of one rig: two that answer the same experiment would show its blocks twice. The file is locked as long
    as it is open, by the operating system, which lets go of it however the process ends.

    Args:
        path: The file; ":memory:" for one that is lost with the process.

    Raises:
        RecordingError: It cannot be opened, another rig has it, or it is another file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path: str = str(path)
        self._made = self.path != ":memory:" and not Path(self.path).exists()
        try:
            self._file = sqlite3.connect(self.path, isolation_level=None, timeout=LOCKED_S, check_same_thread=False)
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.executescript(_TABLES)
        except sqlite3.Error as error:
            locked = "locked" in str(error)
            cure = "another rig writes it; end that one, or name another file" if locked else "name a new file"
            raise RecordingError(f"journal: cannot open {path} ({error}); {cure}.") from error

    def last_done(self, session: str) -> int:
        """Returns the number of the last block of a session that is answered; 0 for none."""
        row = self._one("SELECT MAX(seq) FROM blocks WHERE session = ? AND answer IS NOT NULL", session)
        return int(row[0] or 0)

    def entries(self, session: str, seq: int) -> list[Entry]:
        """Returns what was begun under this number, the oldest first; several only where one superseded another."""
        rows = self._execute(
            "SELECT block, attempt, answer FROM blocks WHERE session = ? AND seq = ? ORDER BY rowid", (session, seq)
        )
        return [Entry(*row) for row in rows]

    def check_units(self, session: str, units: Sequence[str], *, supersede: bool = False) -> None:
        """Writes down which units a session is answered for; from then on they stay, for answers name them by place.

        Raises:
            RigError: They are others ("conflict").
        """
        said = json.dumps(list(units), ensure_ascii=False)
        row = self._one("SELECT units FROM sessions WHERE session = ?", session)
        if row is not None and row[0] != said and not supersede:
            known = json.loads(row[0])
            raise RigError(
                f"session {session} was answered for {len(known)} units such as {known[0]!r:.60}, and this rig records "
                f"{len(units)} such as {units[0]!r:.60}, or in another order. Start it with the units that it had; or "
                "begin a new run.",
                "conflict",
            )
        if row is None or row[0] != said:
            self._execute("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (session, said))

    def begin(self, session: str, seq: int, block: str, *, supersede: bool = False) -> int:
        """Writes down that a block is about to be shown; returns which attempt that is, from 1.

        Raises:
            RigError: The number is that of another block ("conflict"), or blocks before it are missing ("gap").
        """
        known = self.entries(session, seq)
        own = next((entry for entry in known if entry.block == block), None)
        if known and own is None and not supersede:
            raise RigError(
                f"block {seq} of session {session} was another one here ({known[-1].block[:12]}…, not {block[:12]}…). "
                "Rounding on another computer may have changed a pixel, or the run was gone on with elsewhere. Go on "
                "where it was begun; or let the subject supersede it: then it is shown, and both are kept.",
                "conflict",
            )
        if seq > (last := self.last_done(session)) + 1 and not supersede:
            raise RigError(
                f"expected block {last + 1} of session {session}, got {seq}: this journal lacks those between. "
                "Start the rig with the journal of this session, or let the subject supersede it.",
                "gap",
            )
        attempt = 1 if own is None else own.attempt + 1
        self._execute(
            "INSERT INTO blocks (session, seq, block, attempt) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (session, seq, block) DO UPDATE SET attempt = excluded.attempt",
            (session, seq, block, attempt),
        )
        return attempt

    def finish(self, session: str, seq: int, block: str, answer: bytes, state: State | None = None) -> None:
        """Writes down the answer to a block, with the state of the rig that follows, before it is sent."""
        self._execute("BEGIN IMMEDIATE")
        try:
            self._execute(
                "UPDATE blocks SET answer = ? WHERE session = ? AND seq = ? AND block = ?",
                (answer, session, seq, block),
            )
            if state is not None:
                self._execute("INSERT OR REPLACE INTO rig VALUES (1, ?)", (pack_state(state),))
            self._execute("COMMIT")
        except BaseException:
            if self._file.in_transaction:  # a full disk has ended it already
                self._execute("ROLLBACK")
            raise

    def state(self) -> State | None:
        """Returns the state of the rig after the last block that was finished; None where it has none."""
        row = self._one("SELECT state FROM rig")
        return None if row is None else unpack_state(row[0])

    def shown(self) -> list[tuple[str, int, str, int, bool]]:
        """Returns session, number, name and attempts of each block, and whether it was finished."""
        rows = self._execute("SELECT session, seq, block, attempt, answer IS NOT NULL FROM blocks ORDER BY rowid")
        return [(s, int(q), b, int(a), bool(done)) for s, q, b, a, done in rows]

    def close(self) -> None:
        """Closes the file; one that was made here, and into which nothing was written, is removed."""
        nothing = self._made and self._one("SELECT 1 FROM blocks UNION SELECT 1 FROM rig LIMIT 1") is None
        self._file.close()
        if nothing:
            for ending in ("", "-wal", "-shm"):
                Path(self.path + ending).unlink(missing_ok=True)

    def _one(self, words: str, *values: Any) -> Any:
        return self._execute(words, values).fetchone()

    def _execute(self, words: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Asks the file something, or writes into it.

        Raises:
            RigError: It cannot be read or written: the disk is full, or is away.
        """
        try:
            return self._file.execute(words, values)
        except sqlite3.Error as error:
            raise RigError(
                f"the journal {self.path} cannot be read or written ({error}); make room at the rig, or look at its "
                "disk, and go on: what it has not written down is shown again."
            ) from error
