"""Whom the server answers, and what its answers say to the browser."""

import asyncio
import errno
import json
import os

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from closedloop.viewer import create_app, manners
from tests.viewer.clients import asked


def client(host="127.0.0.1", **options):
    return TestClient(create_app(**options), base_url=f"http://{host}", follow_redirects=False)


def test_each_answer_has_a_strict_policy():
    headers = client().get("/api/health").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_another_name_for_this_computer_is_refused():
    assert client("evil.example").get("/api/health").status_code == 403
    assert client("localhost:8000").get("/api/health").status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1.evil"])
def test_what_changes_something_comes_from_own_pages_alone(origin):
    found = client().post("/api/health", headers={"origin": origin})
    assert (found.status_code, "origin" in found.json()["error"]) == (403, True)


def test_own_pages_may_post():
    assert client().post("/api/health", headers={"origin": "http://127.0.0.1"}).status_code == 405
    assert client().post("/api/health", headers={"sec-fetch-site": "cross-site"}).status_code == 403


FOREIGN = (("document", (), 200), ("image", (), 403), ("empty", (), 403), ("iframe", (), 403), ("iframe", ("x",), 200))


@pytest.mark.parametrize(("dest", "framed", "status"), FOREIGN)
def test_a_foreign_page_can_link_here_and_ask_for_nothing(dest, framed, status):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-dest": dest}
    assert client(framed=framed).get("/api/health", headers=headers).status_code == status


def test_a_token_is_asked_for_once():
    one = client(token="secret12")
    assert one.get("/api/health").status_code == 403
    assert one.get("/api/health?token=wrong").status_code == 403
    let = one.get("/api/health?token=secret12&a=1")
    assert (let.status_code, let.headers["location"]) == (303, "/api/health?a=1")
    assert "httponly" in let.headers["set-cookie"].lower()
    assert "secret" not in let.headers["set-cookie"]
    assert one.get("/api/health").status_code == 200


def test_a_body_is_measured_while_it_comes_in(monkeypatch):
    monkeypatch.setattr(manners, "MOST_BYTES", 10)
    assert client().post("/api/health", content=b"x" * 11).status_code == 413
    assert client().post("/api/health", headers={"content-length": "many"}).status_code == 400


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/a.zip"), "No space left on device (/tmp/a.zip)"),
        (PermissionError(), "PermissionError"),
    ],
)
def test_what_the_disk_refuses_is_told(error, said):
    async def write(request):
        raise error

    app = create_app()
    app.router.routes.append(Route("/api/written", write))
    found = TestClient(app, base_url="http://127.0.0.1").get("/api/written")
    assert (found.status_code, found.json()["error"]) == (409, f"disk: {said}; mend that, and open the page again.")


def test_a_frame_is_allowed_where_it_was_asked_for():
    plain, framed = client().get("/api/health"), client(framed=manners.JUPYTER).get("/api/health")
    assert plain.headers["x-frame-options"] == "SAMEORIGIN"
    assert "http://localhost:*" in framed.headers["content-security-policy"]
    assert "x-frame-options" not in framed.headers


def test_a_number_that_is_too_long_to_be_one_is_no_fault_of_the_server():
    found = client(runs=".", subject="gabor").get("/api/jobs/" + 5000 * "9")
    assert (found.status_code, found.json()["error"].partition(":")[0]) == (414, "address")


def test_who_waits_when_the_server_ends_is_told_so():
    app = create_app()

    async def given_up(request):
        raise asyncio.CancelledError

    app.router.routes.append(Route("/api/slow", given_up))
    sent = []

    async def wait():
        try:
            await asked(app, "/api/slow", told=sent)
        except asyncio.CancelledError:
            return
        raise AssertionError("it was answered")

    asyncio.run(wait())
    assert sent[0]["status"] == 503
    assert "start it again" in json.loads(sent[1]["body"])["error"]
