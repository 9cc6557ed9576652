"""The server: where it listens, how it ends, and how Jupyter shows it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.viewer import view
from closedloop.viewer.serving import address_of, listen


def test_a_taken_port_is_an_error_or_the_next_one_is_taken():
    with listen() as first, listen() as second:
        taken = first.getsockname()[1]
        assert taken != second.getsockname()[1]
        with pytest.raises(InvalidArgumentError, match=f"port: cannot listen at 127.0.0.1 on port {taken}: Address"):
            listen(port=taken)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"host": "0.0.0.0"}, "give a token"),
        ({"host": "10.1.2.3"}, "give a token"),
        ({"host": "somewhere", "token": "secret12"}, "expected an IP address"),
        ({"port": 70000}, "expected 0 to 65535"),
        ({"host": "203.0.113.9", "token": "secret12", "port": 0}, "is no address of this computer"),
        ({"host": "203.0.113.9", "token": "secret12"}, "host: 203.0.113.9 is no address of this computer; give one"),
        (
            {"host": "::ffff:127.0.0.1", "token": "secret12"},
            r"host: cannot listen at ::ffff:127.0.0.1 \(.*\); give another",
        ),
    ],
)
def test_an_address_that_is_none_is_refused(arguments, said):
    with pytest.raises(InvalidArgumentError, match=said):
        listen(**arguments)


def test_the_address_is_one_that_a_browser_opens():
    with listen("0.0.0.0", 0, "secret12") as listening:
        port = listening.getsockname()[1]
        assert address_of(listening, "secret12") == f"http://127.0.0.1:{port}/?token=secret12"


def test_jupyter_shows_it_in_a_frame(gabor):
    with view(gabor, port=0) as shown:
        with urllib.request.urlopen(f"{shown.address}api/health", timeout=10) as answer:
            assert b'"look"' in answer.read()
            assert "http://localhost:*" in answer.headers["content-security-policy"]
        assert f'src="{shown.address}"' in shown._repr_html_()
        assert "served" in repr(shown)
    assert "closed" in repr(shown)


SERVER = """
import socket, sys, time
from starlette.responses import StreamingResponse
from starlette.routing import Route
import asyncio
from closedloop.cli.app import terminable
from closedloop.subjects import FunctionSubject
from closedloop.viewer import create_app
from closedloop.viewer.serving import address_of, listen, serve

def slow(images):
    print("asked", flush=True)
    time.sleep(60)
    return images.mean((1, 2, 3))

async def stream(request):
    async def endless():
        while True:
            yield b"data: x\\n\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(endless(), media_type="text/event-stream")

app = create_app(FunctionSubject(slow, name="slow"))
app.router.routes.append(Route("/api/stream", stream))
listening = listen(port=0)
print(address_of(listening), flush=True)
with terminable():
    try:
        serve(app, listening)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


def fetched(address):
    """What is at an address."""
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


@contextmanager
def running():
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-c", SERVER]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_it_ends_within_two_seconds_while_streams_are_open_and_the_model_is_busy(how):
    with running() as (process, address):
        name = fetched(f"{address}api/inputs").decode().split('"')[3]
        port = int(address.rsplit(":", 1)[1].strip("/"))
        head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n"
        place = ("127.0.0.1", port)
        with socket.create_connection(place) as stream, socket.create_connection(place) as look:
            stream.sendall(f"GET /api/stream {head}".encode())
            look.sendall(f"POST /api/look?layer=responses&input={name} {head}".encode())
            assert process.stdout.readline().strip() == "asked"
            assert b"data: x" in stream.recv(4096) + stream.recv(4096)
            assert b"ok" in fetched(f"{address}api/health")  # although the model is busy
            begin = time.monotonic()
            process.send_signal(how)
            assert process.stdout.readline().strip() == "stopped"
            assert time.monotonic() - begin < 2.0
            told = look.makefile("rb").read()
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b"viewer: it was ended where it was started" in told
            process.wait(20)
            assert process.stderr.read() == ""


BUSY = """
import threading, time
from closedloop.viewer.serving import leave
threading.Thread(target=time.sleep, args=(60,), name="AnyIO worker thread").start()
import atexit
atexit.register(print, "runs were ended", flush=True)
leave()
"""


def test_a_thread_at_work_does_not_keep_the_process():
    ended = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "runs were ended\n"


def test_answers_do_not_wait_for_an_acknowledgement():
    with listen(port=0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


LEAVING = """
import sys, threading, time
from closedloop.viewer.desk import Desk
from closedloop.viewer.serving import leave
begun = threading.Event()
def call():
    begun.set()
    time.sleep(float(sys.argv[1]))
Desk().later(call)
begun.wait(20)
start = time.monotonic()
leave()
print("went on", time.monotonic() - start < 0.25)
"""


@pytest.mark.parametrize(("seconds", "printed"), [(30, ""), (0.05, "went on True\n")])
def test_a_process_leaves_while_a_model_computes_and_waits_for_nothing_else(seconds, printed):
    """An engine that Python tears down in the middle of a call aborts the process."""
    done = subprocess.run(
        [sys.executable, "-c", LEAVING, str(seconds)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == printed
    assert done.stderr == ""
