"""The way over ZeroMQ: frames ``[HMAC-SHA256, header, image …]`` between a DEALER and a ROUTER socket (extra `rig`)."""

from __future__ import annotations

import weakref
from typing import Any, final

from closedloop.errors import InvalidArgumentError, RigError, require
from closedloop.rigs.messages import Message, frames_of, opened, refusal
from closedloop.rigs.places import RIG, is_loopback, joined_place, parse_place


def _zmq() -> Any:
    return require("zmq", "rig", "a rig over ZeroMQ")


@final
class ZmqTransport:
    """The side of the experiment.

    Args:
        place: ``HOST:PORT``.
        token: Authenticates messages; None for none.
    """

    encodings: tuple[str, ...] = ("rgb8", "png")

    def __init__(self, place: str, token: bytes | None = None) -> None:
        self.address: str = f"zmq://{place}"
        self._host, self._port = parse_place("address", place, RIG)
        self._token = token
        self._zmq = _zmq()
        self._context = self._zmq.Context()
        self._open: list[Any] = []
        self._joined = False  # until the rig says that it knows how to take them apart
        self._closing = weakref.finalize(self, _close, self._context, self._open)  # also when it is forgotten
        self.renew()

    @property
    def _socket(self) -> Any:
        return self._open[0]

    def send(self, sent: Message) -> None:
        """Sends a message; where nobody listens yet it waits in this process."""
        self._socket.send_multipart(frames_of(self._token, sent, self._joined), copy=False)

    def receive(self, timeout_s: float) -> Message | None:
        """Returns the next message; None where none comes in time."""
        if not self._socket.poll(max(0, round(1000 * timeout_s))):
            return None
        got = opened(self._token, self._socket.recv_multipart())
        if got.type == "welcome":
            self._joined = got.header.get("joined") is True
        return got

    def renew(self) -> None:
        """Throws the socket away with all that is in it, and opens a fresh one."""
        if self._open:
            self._open.pop().close(linger=0)
        self._open.append(self._context.socket(self._zmq.DEALER))
        self._socket.setsockopt(self._zmq.LINGER, 0)
        self._socket.setsockopt(self._zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(self._zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(self._zmq.IPV6, ":" in self._host)
        self._socket.connect(f"tcp://{joined_place(self._host, self._port)}")

    def close(self) -> None:
        """Closes the socket."""
        self._closing()


def _close(context: Any, sockets: list[Any]) -> None:
    for socket in sockets:
        socket.close(linger=0)
    context.term()


@final
class ZmqListener:
    """The side of the rig.

    Args:
        place: ``HOST:PORT``; port 0 takes a free one.
        token: Authenticates messages; needed where others than this computer can reach the port.

    Attributes:
        port: The port that is listened at.

    Raises:
        InvalidArgumentError: The port is open to others and there is no token, or it cannot be listened at.
    """

    def __init__(self, place: str, token: bytes | None = None) -> None:
        zmq, (host, port) = _zmq(), parse_place("listen", place, RIG)
        if token is None and not is_loopback(host):
            raise InvalidArgumentError(
                f"listen: {host} can be reached from other computers; give both sides a token (a file of mode 0600, "
                "named by CLOSEDLOOP_RIG_TOKEN_FILE), or listen at 127.0.0.1."
            )
        self._token, self._context = token, zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.IPV6, ":" in host)
        try:
            self._socket.bind(f"tcp://{joined_place(host, port or '*')}")
        except zmq.ZMQError as error:
            self.close()
            raise InvalidArgumentError(f"listen: cannot listen at {place} ({error}).") from error
        self.port: int = int(self._socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0").rpartition(":")[2])

    def receive(self, timeout_s: float) -> tuple[Any, Message] | None:
        """Returns who sent the next message, and the message; refuses what is none."""
        if not self._socket.poll(max(0, round(1000 * timeout_s))):
            return None
        peer, *frames = self._socket.recv_multipart(copy=False)  # a block of images is some MB
        peer, head, parts = peer.bytes, [frame.bytes for frame in frames[:2]], [frame.buffer for frame in frames[2:]]
        try:
            return peer, opened(self._token, [*head, *parts])
        except RigError as error:
            self.reply(peer, refusal(error))
            return None

    def reply(self, peer: Any, sent: Message) -> None:
        """Sends a message to who asked; what it does not wait for any more is dropped."""
        self._socket.send_multipart([peer, *frames_of(self._token, sent)], copy=False)

    def close(self) -> None:
        """Closes the socket; what was sent last still goes out."""
        self._socket.close()
        self._context.term()
