"""Clients of viewers, and what they send and get."""

import asyncio
import io
import json

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from closedloop.viewer import create_app


def client_of(subject=None, **options):
    """A client of a viewer, which answers as the server does at 127.0.0.1."""
    return TestClient(create_app(subject, **options), base_url="http://127.0.0.1", follow_redirects=False)


def unpacked(content):
    """The header of an answer of /api/look, and its sprite ``(h, w)`` or ``(h, w, 3)``."""
    length = int.from_bytes(content[:4], "big")
    header, rest = json.loads(content[4 : 4 + length]), content[4 + length :]
    if header["form"] != "grey":
        return header, np.asarray(Image.open(io.BytesIO(rest), formats=[header["form"].upper()]))
    sides = header["rows"] * header["tile"][0], header["columns"] * header["tile"][1]
    return header, np.frombuffer(rest, np.uint8).reshape(sides)


def picture_file(form="JPEG", size=(48, 32), **options):
    """The bytes of a picture: red on the left, green on the right."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2, 0], pixels[:, size[0] // 2 :, 1] = 255, 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


async def asked(app, path, method="GET", body=b"", told=None):
    """Status and content of an answer, asked for within the loop that runs; `told` gets what was sent so far."""
    sent = [] if told is None else told

    once = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if not once:
            await asyncio.Event().wait()  # it stays connected
        return once.pop()

    async def send(message):
        sent.append(message)

    where, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": where, "raw_path": where.encode(), "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1"), (b"origin", b"http://127.0.0.1")], "scheme": "http",
        "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])
