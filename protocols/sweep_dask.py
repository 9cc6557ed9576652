"""Workers of a sweep on a Dask cluster: one that is there, or one of this computer.

A cluster runs code for whoever connects to it. One that is made here listens on this computer alone; to others a
connection by TLS is wanted, and anything else is warned of.
"""

from __future__ import annotations

import json
import logging
import queue
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from closedloop.errors import InvalidArgumentError, reason, require
from closedloop.rigs.places import is_loopback

from .sweep_local import Word
from .sweep_plan import PlannedRun
from .sweep_runs import FAILED, Outcome, run_of_text

#: Seconds for which the number of workers is taken for known: of a thousand it is a long answer.
_KNOWN_S = 2.0


@final
class DaskWorkers:
    """The workers of a Dask cluster.

    Args:
        scheduler: Its address, such as ``tls://head:8786``; "local" for one of this computer; or a cluster itself.
        count: Workers of a local one.

    Raises:
        MissingExtraError: The extra "sweep" is not installed.
        InvalidArgumentError: No scheduler answers there.

    Warns:
        UserWarning: The connection leaves this computer without TLS.
    """

    def __init__(self, scheduler: Any, count: int) -> None:
        distributed = require("distributed", "sweep", "--scheduler")
        self._cluster: Any = None
        where = scheduler
        if scheduler == "local":
            self._cluster = where = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=50,
                memory_limit=0,
            )
        elif isinstance(scheduler, str):
            check_address(scheduler)
        try:
            self._client = distributed.Client(where, set_as_default=False, timeout=20)
        except (OSError, ValueError, TimeoutError) as error:
            raise InvalidArgumentError(
                f"scheduler: no scheduler of Dask answers at {scheduler} ({reason(error)}); begin one: dask scheduler"
            ) from error
        self._log = logging.getLogger("distributed.client")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL)  # a scheduler that is lost is said here, and not by Dask's own traceback
        self._gone = distributed.client.FutureCancelledError
        self._heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}
        self._threads, self._asked = 0, -_KNOWN_S

    @property
    def room(self) -> int:
        """How many more runs can be handed over now."""
        now = time.monotonic()
        if now - self._asked >= _KNOWN_S:
            workers = self._information()["workers"].values()
            self._threads, self._asked = sum(int(worker["nthreads"]) for worker in workers), now
        # One run for each worker is handed over beyond those under way: one that is done has the next at once.
        return max(0, self._threads * 2 - len(self._futures))

    def _information(self) -> dict[str, Any]:
        """Asks the scheduler who is there.

        Raises:
            InvalidArgumentError: It is lost.
        """
        if self._client.status not in ("running", "connecting"):
            raise InvalidArgumentError(_lost())
        found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)
        return found

    def start(self, run: PlannedRun, folder: Path) -> None:
        """Hands a run over, as a text."""
        text = json.dumps({"id": run.id, "content": run.content, "folder": str(folder.resolve())})
        future = self._client.submit(run_of_text, text, pure=False, key=f"closedloop-{run.id}", retries=0)
        self._futures[run.id] = future
        future.add_done_callback(lambda done, identity=run.id: self._heard.put((identity, done)))

    def hear(self, seconds: float) -> Sequence[Word]:
        """Returns what became of runs; of one whose worker died again and again, that.

        Raises:
            InvalidArgumentError: The scheduler is lost.
        """
        words: list[Word] = []
        with suppress(queue.Empty):
            words.append(self._word(*self._heard.get(timeout=seconds)))
            while True:
                words.append(self._word(*self._heard.get_nowait()))
        if not words:
            self._information()  # whether it is still there
        return words

    def _word(self, identity: str, future: Any) -> Word:
        self._futures.pop(identity, None)
        if future.status == "cancelled":
            raise InvalidArgumentError(_lost())
        try:
            return identity, Outcome(**json.loads(future.result(timeout=10)))
        except self._gone as error:
            raise InvalidArgumentError(_lost()) from error
        except Exception as error:  # noqa: BLE001 - of a worker, whatever it was
            if type(error).__name__ == "KilledWorker":
                return identity, None
            return identity, Outcome(identity, FAILED, reason(error))

    def why(self) -> str:
        """Returns nothing: workers elsewhere keep their own logs."""
        return ""

    def close(self) -> None:
        """Lets go of runs that have not begun; those under way end by themselves, and a local cluster ends."""
        with suppress(Exception):
            self._client.cancel(list(self._futures.values()), force=True)
        with suppress(Exception):
            self._client.close(timeout=5)
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close(timeout=10)
        self._log.setLevel(self._level)


def _lost() -> str:
    return (
        "scheduler: it is lost. What is finished is safe, and so is each committed block of a run under way; begin a "
        "scheduler again, and give the same command: it goes on."
    )


def check_address(address: str) -> None:
    """Warns of a scheduler that is not on this computer and is reached without TLS."""
    found = urlsplit(address if "//" in address else f"tcp://{address}")
    if found.scheme in ("tls", "wss") or is_loopback(found.hostname or "localhost"):
        return
    if found.scheme == "inproc":
        return
    warnings.warn(
        f"scheduler: {address} is reached without TLS: whoever can connect to it runs code on all of its workers. Use "
        "tls://… (dask scheduler --tls-cert …), or see to it that no one else can reach it.",
        UserWarning,
        stacklevel=3,
    )
