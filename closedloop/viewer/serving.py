"""Runs the server: for the command, and in a thread for Python and Jupyter."""

from __future__ import annotations

import asyncio
import atexit
import errno
import html
import logging
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import uvicorn
from starlette.applications import Starlette

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Generator, Subject
from closedloop.rigs.places import is_loopback
from closedloop.signatures import at_door
from closedloop.viewer.app import create_app
from closedloop.viewer.desk import computing
from closedloop.viewer.manners import JUPYTER

#: The port that is tried first where none was asked for, and how many behind it.
PORT, PORTS = 8765, 32
#: Where it listens where nothing was said: this computer alone can reach it.
HERE = "127.0.0.1"

#: What anyio calls the threads in which handlers wait for the disk, and how long they are waited for at the end.
_WORKER, _PATIENCE_S = "AnyIO worker thread", 0.3


class _Ending(logging.Filter):
    """Leaves out of the log that what was under way is given up when the server ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, asyncio.CancelledError) or record.getMessage().startswith("Cancel "))


#: The one filter, so that a server that is set up again does not add a second.
_ENDING = _Ending()


def settings_of(app: Starlette) -> uvicorn.Config:
    """Returns how uvicorn runs the viewer: it says nothing, and ends within 2 s although streams are open."""
    logging.getLogger("uvicorn.error").addFilter(_ENDING)
    return uvicorn.Config(
        app,
        log_config=None,  # that of the program, or of Jupyter, stays
        timeout_graceful_shutdown=0.5,  # type: ignore[arg-type] # asyncio takes a fraction of a second, too
        log_level="error",
        access_log=False,
        proxy_headers=False,  # no other server stands before it
        server_header=False,
        ws="none",
        lifespan="off",
    )


def listen(host: str = HERE, port: int | None = None, token: str | None = None) -> socket.socket:
    """Returns a socket that listens at an address.

    Args:
        host: An IP address of this computer, or "localhost".
        port: The port; None for the first free one from `PORT` on.
        token: What visitors must know; needed where other computers can reach the address.

    Raises:
        InvalidArgumentError: The address is none of this computer, the port is taken, or a token is needed.
    """
    if not is_loopback(host) and not token:
        raise InvalidArgumentError(
            f"host: {host[:60]!r} is not this computer alone; give a token that visitors must know (--token), or leave "
            "host out and come through an SSH tunnel."
        )
    wanted = range(PORT, PORT + PORTS) if port is None else [port]
    for number in wanted:
        try:
            return _bound(host, number)
        except OSError as error:
            trouble = error
            if error.errno != errno.EADDRINUSE:
                break
    if trouble.errno == errno.EADDRNOTAVAIL:
        raise InvalidArgumentError(f"host: {host[:60]} is no address of this computer; give one that is, or 0.0.0.0.")
    why = trouble.strerror or str(trouble)
    if trouble.errno not in (errno.EADDRINUSE, errno.EACCES):  # it is not the port's fault
        raise InvalidArgumentError(f"host: cannot listen at {host[:60]} ({why}); give another address.")
    found = "all of them are taken" if port is None else why
    raise InvalidArgumentError(
        f"port: cannot listen at {host[:60]} on port {f'{wanted[0]} to {wanted[-1]}' if port is None else port}: "
        f"{found}; choose another one, or leave it out for the next that is free."
    )


def _bound(host: str, port: int) -> socket.socket:
    """Returns a socket at an address and a port, 0 for any.

    Raises:
        InvalidArgumentError: No such port, or no IP address.
        OSError: It is taken, or the address is none of this computer.
    """
    if not 0 <= port < 2**16:
        raise InvalidArgumentError(f"port: expected 0 to 65535, got {port}.")
    address = HERE if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.inet_pton(family, address)  # a name would be looked up elsewhere
    except (OSError, ValueError, UnicodeError) as error:
        raise InvalidArgumentError(f"host: expected an IP address of this computer, got {host[:60]!r}.") from error
    listening = socket.create_server((address, port), family=family, reuse_port=False)
    # Connections inherit it. Without it an answer of several packets waits some 40 ms for an acknowledgement; asyncio
    # sets it on sockets that it made itself alone.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address_of(listening: socket.socket, token: str | None = None, elsewhere: bool = False) -> str:
    """Returns the address that a browser of this computer opens, or one elsewhere in its network."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = _outward(listening.family) if elsewhere else {"0.0.0.0": HERE, "::": "::1"}[host]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (f"?token={token}" if token else "")


def _outward(family: socket.AddressFamily) -> str:
    """Returns the address from which this computer would send to others, its name where it is in no network."""
    far = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"  # for documentation (RFC 5737, 3849): nobody's
    with socket.socket(family, socket.SOCK_DGRAM) as unsent:  # a route is looked up, and nothing is sent
        try:
            unsent.connect((far, 9))
        except OSError:
            return socket.gethostname()
        return str(unsent.getsockname()[0])


def serve(app: Starlette, listening: socket.socket, opened: str | None = None) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
        app: The viewer.
        listening: Where it listens.
        opened: The address that a browser opens as soon as it is served; None for no browser.
    """
    server = uvicorn.Server(settings_of(app))
    if opened is not None:
        threading.Thread(target=_open, args=(server, opened), daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()


def leave() -> None:
    """Ends the process where a thread still works: at a report, for which Python would wait, or at a model's call.

    A network's engine that is torn down while it computes would abort the process, with a message of its own. Call it
    last, after `serve`. What ends with the process, such as runs that a page began, is ended as always.
    """
    working = [*(thread for thread in threading.enumerate() if thread.name == _WORKER), *computing()]
    until = time.monotonic() + _PATIENCE_S
    for thread in working:
        _wait(thread, until)
    if computing() or any(thread.is_alive() for thread in working if thread.name == _WORKER):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(0)


def _wait(thread: threading.Thread, until: float) -> None:
    """Waits until a thread has ended, or its model has answered, or it is later than a time."""
    while thread.is_alive() and (thread.name == _WORKER or thread in computing()) and time.monotonic() < until:
        thread.join(0.02)


def _open(server: uvicorn.Server, address: str) -> None:
    """Opens a browser once the server has started."""
    for _ in range(600):
        if server.started:
            webbrowser.open(address)
            return
        time.sleep(0.05)


@final
class View:
    """A viewer that is served from a thread, and shown in a frame by Jupyter.

    It ends with `close`, at the end of a ``with`` block, or with the kernel.

    Attributes:
        address: Where it is.
        height: Of the frame in pixels.

    Args:
        app: The viewer.
        port: Where it listens at 127.0.0.1; None for the first free one.
        height: Of the frame in pixels.
    """

    def __init__(self, app: Starlette, port: int | None = None, height: int = 860) -> None:
        self._listening = listen(HERE, port)
        self.address: str = address_of(self._listening)
        self.height: int = height
        self._server = uvicorn.Server(settings_of(app))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listening]}, name="closedloop viewer", daemon=True
        )
        self._thread.start()
        until = time.monotonic() + 30
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        if not self._server.started:
            self.close()
            raise InvalidArgumentError(f"port: the server at {self.address} did not start; choose another port.")

    def close(self) -> None:
        """Ends the server, within 2 s."""
        self._server.should_exit = True
        self._thread.join(5)
        self._listening.close()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "served" if self._thread.is_alive() else "closed"
        return f"View: {self.address} ({state})"

    def _repr_html_(self) -> str:
        """Returns the frame that Jupyter shows."""
        return (
            f'<iframe src="{html.escape(self.address)}" width="100%" height="{int(self.height)}" allow="camera" '
            'style="border: 0"></iframe>'
        )


@at_door
def view(
    shown: Subject | str | Path | None = None,
    *,
    runs: str | Path | None = None,
    labelled: str | Path | None = None,
    images: str | Path | None = None,
    generator: Generator | str | None = None,
    atlas: str | Path | None = None,
    port: int | None = None,
    height: int = 860,
    framed: Sequence[str] = JUPYTER,
) -> View:
    """Shows a subject, or runs, from Python: in a frame where Jupyter displays what this returns.

    Args:
        shown: A subject, its name, the folder of a run, or a folder of runs.
        runs: The folder of a run or of many, beside a subject.
        labelled: A folder of images in folders by class, or with a ``labels.csv``, for the errors page.
        images: A folder of images to look at.
        generator: What makes images from codes, or its name.
        atlas: The folder that ``closedloop atlas`` has filled.
        port: Where it listens at 127.0.0.1; None for the first free one from 8765 on.
        height: Of the frame in pixels.
        framed: Origins whose pages may show it in a frame; by default those of this computer.

    Returns:
        The viewer, which is served from a thread until it is closed, or the kernel ends.

    Raises:
        InvalidArgumentError: A folder is not there, a name is not known, or the port is taken.
    """
    folder = shown if isinstance(shown, Path) or (isinstance(shown, str) and Path(shown).is_dir()) else None
    if folder is not None and runs is not None:
        raise InvalidArgumentError(f"runs: {folder} is a folder of runs already; give one of the two.")
    subject = None if folder is not None else shown
    app = create_app(
        subject,  # type: ignore[arg-type]
        runs=folder if runs is None else runs,
        labelled=labelled,
        images=images,
        generator=generator,
        atlas=atlas,
        framed=framed,
    )
    return View(app, port, height)
