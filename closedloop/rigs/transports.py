"""Ways between an experiment and a rig, by address: ``zmq://HOST:PORT`` and ``folder:DIR``."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from closedloop.capability import Capability
from closedloop.errors import InvalidArgumentError
from closedloop.rigs.messages import Message
from closedloop.rigs.places import split_place


@runtime_checkable
class Transport(Capability, Protocol):
    """The side of the experiment: sends messages, and takes what comes. It neither waits for answers nor resends."""

    @property
    def address(self) -> str:
        """Where the rig is, as `connect` takes it; empty for one that was built by hand."""
        ...

    @property
    def encodings(self) -> tuple[str, ...]:
        """How images may be sent, the preferred way first."""
        ...

    def send(self, sent: Message) -> None:
        """Sends a message, or puts it where the rig finds it.

        Raises:
            OSError: It cannot at this moment.
        """
        ...

    def receive(self, timeout_s: float) -> Message | None:
        """Returns the next message; None where none comes in time.

        Raises:
            RigError: What came is damaged, not authenticated, or of another version.
        """
        ...

    def renew(self) -> None:
        """Begins anew, as after a cable was pulled: what is under way may be lost."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Listener(Protocol):
    """The side of the rig: takes messages, and answers whoever sent them."""

    def receive(self, timeout_s: float) -> tuple[Any, Message] | None:
        """Returns who sent the next message, and the message; None where none comes in time.

        What is not authenticated, damaged or of another version is refused here, and not returned.
        """
        ...

    def reply(self, peer: Any, sent: Message) -> None:
        """Sends a message to who asked."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


def connect(address: str, token: bytes | None = None) -> Transport:
    r"""Returns the way to a rig.

    Args:
        address: ``zmq://HOST:PORT``, or ``folder:DIR``, where DIR may be such as ``C:\data``.
        token: Authenticates messages over ZeroMQ; a folder is as safe as who may read and write it.

    Raises:
        InvalidArgumentError: The address is none.
        MissingExtraError: ZeroMQ needs the extra `rig`.
    """
    kind, rest = parse_address(address)
    if kind == "folder":
        from closedloop.rigs.folder import FolderTransport

        return FolderTransport(rest)
    from closedloop.rigs.zeromq import ZmqTransport

    return ZmqTransport(rest, token)


def listen(address: str, token: bytes | None = None) -> Listener:
    """Returns where a rig is asked; raises as `connect` does, and for an open port without a token."""
    kind, rest = parse_address(address)
    if kind == "folder":
        from closedloop.rigs.folder import FolderListener

        return FolderListener(rest)
    from closedloop.rigs.zeromq import ZmqListener

    return ZmqListener(rest, token)


def parse_address(address: str, name: str = "address") -> tuple[str, str]:
    """Returns kind and rest of an address: ``("zmq", "HOST:PORT")`` or ``("folder", DIR)``.

    Raises:
        InvalidArgumentError: It is neither; the error speaks of it by this name.
    """
    if isinstance(address, str) and address.startswith("zmq://"):
        if split_place(rest := address.removeprefix("zmq://")) is not None:
            return "zmq", rest
    elif isinstance(address, str) and address.startswith("folder:") and address != "folder:":
        return "folder", address.removeprefix("folder:")
    raise InvalidArgumentError(f"{name}: expected zmq://HOST:PORT or folder:DIR, got {address!r:.120}.")
