"""Manners of the server: whom it answers, what a page may load, and how errors are worded.

It answers requests for a host that it was told to serve (a foreign page can point its own name at 127.0.0.1 and would
then be of the same origin), takes what changes something from its own pages alone, and, where it listens on the
network, asks for a token. Pages load nothing from elsewhere, which the content-security policy makes the browser hold.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from closedloop.errors import ClosedLoopError, InvalidArgumentError
from closedloop.viewer.asked import RequestError
from closedloop.viewer.pages import render

#: The names of this computer, which no other can take.
LOCAL = ("127.0.0.1", "localhost", "::1")
#: Bytes of the largest body of a request: that of a picture; and characters of the longest path.
MOST_BYTES, MOST_PATH = 20 * 2**20, 2000
#: The pages that may show the viewer in a frame where Jupyter does; its port is not known.
JUPYTER = ("http://localhost:*", "http://127.0.0.1:*")
#: The cookie that holds the pass of a browser.
_COOKIE = "closedloop_viewer"
#: What those are told who still wait when the server ends.
_ENDS = "viewer: it was ended where it was started, before this was answered; start it again, and open the page anew."


@final
@dataclass(frozen=True)
class Manners:
    """Wraps an application: refuses what it should not answer, and says with each answer what a page may do.

    Attributes:
        app: The application.
        hosts: Names by which it may be asked, without port.
        token: What must be known to be answered; None where nobody else can ask.
        framed: Origins whose pages may show it in a frame.
    """

    app: ASGIApp
    hosts: Sequence[str] = LOCAL
    token: str | None = None
    framed: Sequence[str] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, self._with_headers(send))
        else:  # a websocket, which nothing here uses
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            self._check_host(request)
            _check_path(request)
            _check_origin(request)
            self._check_reader(request)
            answer = self._check_token(request)
            _check_length(request.headers)
        except RequestError as error:
            answer = refusal(request, error)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await (answer or self.app)(scope, _measured(receive), sending)
        except asyncio.CancelledError:  # the server ends, and gives up what is under way
            if not begun:
                await refusal(request, RequestError(_ENDS, 503))(scope, receive, send)
            raise

    def _check_host(self, request: Request) -> None:
        name = _host_name(request.headers.get("host", ""))
        mine = (request.scope.get("server") or ("",))[0] if self.token is not None else None
        if name not in self.hosts and name != mine:  # no page can take an address in numbers for its own
            raise RequestError(
                f"host: this viewer answers to {', '.join(self.hosts)} only, and was asked for {name[:60]!r}; another "
                "name is given with --host.",
                403,
            )

    def _check_reader(self, request: Request) -> None:
        """Raises where a page of somebody else asks for what it could not read: it would only keep the model busy."""
        foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
        allowed = ("document", "iframe") if self.framed else ("document",)
        if foreign and request.headers.get("sec-fetch-dest") not in allowed:
            raise RequestError("origin: a page of another origin can link here, and ask for nothing.", 403)

    def _check_token(self, request: Request) -> Response | None:
        """Lets those in who know the token; returns where to go on where it came with the address."""
        if self.token is None:
            return None
        pass_ = hmac.new(self.token.encode(), b"closedloop viewer", "sha256").hexdigest()
        if _equal(_cookie(request), pass_):
            return None
        if not _equal(request.query_params.get("token", ""), self.token):
            raise RequestError("token: open the address with its ?token=… as the terminal shows it.", 403)
        rest = [(k, v) for k, v in parse_qsl(request.url.query, keep_blank_values=True) if k != "token"]
        path = "/" + request.url.path.lstrip("/")  # //elsewhere would be another host
        answer = RedirectResponse(f"{path}?{urlencode(rest)}" if rest else path, 303)
        answer.set_cookie(_COOKIE, pass_, httponly=True, samesite="lax", path="/")
        return answer

    def _with_headers(self, send: Send) -> Send:
        """Adds what each answer says to the browser; a policy of the answer's own stays."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = list(message.get("headers", ()))
                known = {name for name, _ in said}
                message["headers"] = said + [one for one in self._headers if one[0] not in known]
            await send(message)

        return sending

    @cached_property
    def _headers(self) -> list[tuple[bytes, bytes]]:
        ancestors = " ".join(["'self'", *self.framed])
        frames = [] if self.framed else [("x-frame-options", "SAMEORIGIN")]
        said = [
            ("content-security-policy", f"{policy()}; frame-ancestors {ancestors}"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("permissions-policy", "camera=(self), microphone=(), geolocation=(), interest-cohort=()"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
            *frames,
        ]
        return [(name.encode(), value.encode()) for name, value in said]


def check_token(token: str | None) -> None:
    """Raises unless a token is None, or a text that can stand in an address and is not guessed.

    Raises:
        InvalidArgumentError: It is something else; it is not shown.
    """
    if token is None or (isinstance(token, str) and token.isascii() and token.isalnum() and len(token) >= 8):
        return
    raise InvalidArgumentError("token: expected at least 8 letters and digits, such as of: openssl rand -hex 16.")


def policy() -> str:
    """Returns the content-security policy of pages: their own files, and pictures that they hold themselves."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'"
    )


def _host_name(text: str) -> str:
    """Returns the name in a Host header, in lower case and without port; "" for what is none."""
    try:
        return (urlsplit(f"//{text}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _check_path(request: Request) -> None:
    """Raises for a path that is longer than any here: a number in it may be too long to be read as one."""
    if len(request.scope["path"]) > MOST_PATH:
        raise RequestError(f"address: expected a path of at most {MOST_PATH} characters.", 414)


def _check_origin(request: Request) -> None:
    """Raises for a request that changes something and comes from a page of somebody else."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    own = request.headers.get("host", "").lower()
    if (origin is None and site in ("same-origin", "none")) or _place(origin or "") == own:
        return
    raise RequestError("origin: a page of another origin cannot change anything here.", 403)


def _place(origin: str) -> str:
    """Returns host and port of an origin, in lower case; "" for an opaque one."""
    scheme, _, place = origin.lower().partition("://")
    return place if scheme in ("http", "https") else ""


def _cookie(request: Request) -> str:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _equal(given: str, known: str) -> bool:
    """Compares two texts in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), known.encode())


def _too_much() -> RequestError:
    return RequestError(f"body: expected at most {MOST_BYTES // 2**20} MB, got more; send a smaller picture.", 413)


def _check_length(headers: Headers) -> None:
    stated = headers.get("content-length", "0")
    if not (stated.isascii() and stated.isdecimal() and len(stated) < 20):
        raise RequestError("body: expected a whole number as Content-Length.")
    if int(stated) > MOST_BYTES:
        raise _too_much()


def _measured(receive: Receive) -> Receive:
    """Counts the bytes of a body while they come in, whatever length was stated."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            raise _too_much()
        return message

    return receiving


def refusal(request: Request, error: Exception) -> Response:
    """Answers a request that cannot be served: JSON below ``/api``, else a page; only the server's end is a 5xx.

    Args:
        request: What was asked.
        error: A `ClosedLoopError`, whose attribute `status` counts where it has one, or one of Starlette's.
    """
    status, said, headers = _status(error)
    if request.url.path.startswith("/api/") or request.method not in ("GET", "HEAD"):
        return JSONResponse({"error": said}, status, headers)
    answer = render(request, "error.html", status, message=said)
    answer.headers.update(headers)
    return answer


def _status(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Status, message and headers of an answer to an error."""
    if isinstance(error, HTTPException):
        words = {404: "there is nothing at this address.", 405: "this address takes another method."}
        return error.status_code, words.get(error.status_code, error.detail), dict(error.headers or {})
    if isinstance(error, OSError):
        return 409, _refused_by_the_disk(error), {}
    return getattr(error, "status", 400), str(error), {}


def _refused_by_the_disk(error: OSError) -> str:
    """Says of a file that it is gone, may not be read or cannot be written, or that a disk is full."""
    where = f" ({error.filename})" if error.filename else ""
    return f"disk: {error.strerror or type(error).__name__}{where}; mend that, and open the page again."


async def answer_error(request: Request, error: Exception) -> Response:
    """Handles errors of ours, of Starlette's own, and of the disk."""
    return refusal(request, error)


#: What Starlette does with errors.
HANDLERS = {ClosedLoopError: answer_error, HTTPException: answer_error, OSError: answer_error}
