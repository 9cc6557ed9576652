"""Runs the server: for the command, and in a thread for Python and Jupyter."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette


def settings_of(app: Starlette) -> uvicorn.Config:
    """How uvicorn runs the viewer: it says nothing, and ends within 2 s although streams are open."""
    return uvicorn.Config(
        app,
        timeout_graceful_shutdown=1,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
    )


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serves until it is interrupted.

    Args:
        app: The viewer.
        listening: A socket that is bound to its address.
    """
    uvicorn.Server(settings_of(app)).run(sockets=[listening])


def view() -> None:
    """Shows a subject or runs in Jupyter."""
