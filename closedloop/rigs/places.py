"""Places on a network: ``HOST:PORT``, and whether other computers reach them."""

from __future__ import annotations

import ipaddress

from closedloop.checks import whole_number
from closedloop.errors import InvalidArgumentError

#: The largest number of a port.
LAST_PORT = 65_535
#: Where a rig is asked, and where a session is asked by a rig, unless something else is said.
RIG, SESSION = "127.0.0.1:5570", "127.0.0.1:5580"


def split_place(place: str) -> tuple[str, int] | None:
    """Returns host, without brackets, and port of ``HOST:PORT``; None where it is none."""
    host, _, port = str(place).rpartition(":")
    bare, number = host.removeprefix("[").removesuffix("]"), whole_number(port)
    return (bare, number) if bare and number is not None and 0 <= number <= LAST_PORT else None


def parse_place(name: str, place: str, example: str) -> tuple[str, int]:
    """Returns host, without brackets, and port of ``HOST:PORT``.

    Args:
        name: Of the argument.
        place: What came.
        example: One that fits, for the error.

    Raises:
        InvalidArgumentError: It is none.
    """
    found = split_place(place)
    if found is None:
        raise InvalidArgumentError(f"{name}: expected HOST:PORT, such as {example}, got {place!r:.80}.")
    return found


def joined_place(host: str, port: int | str) -> str:
    """Returns ``HOST:PORT``, with brackets around an address of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tells whether no other computer reaches a host, given without brackets; names but "localhost" may be others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
