"""Whatever is sent to whichever address, by whatever method: no fault of the server, and no file of anybody else."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from closedloop.analysis.run_index import run_id
from closedloop.recording.notes import add_note
from tests import small_atlas, small_runs
from tests.viewer.clients import client_of, picture_file

SECRET = b"kept to myself"
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")
NAMES = (
    *("layer", "unit", "y", "x", "sort", "boost", "individual", "mode", "input", "method", "filter", "fit", "size"),
    *("title", "from_layer", "from_unit", "token", "v", "page", "q", "group", "by", "where", "ids"),
    *("since", "state", "kind"),
)
VALUES = (
    *("responses", "output", "2", "-1", "0", "1e9", "nan", "activation", "selectivity", "backward", "patterns", "norm"),
    *("..", "%2e%2e", "..%2f", "%2fetc%2fpasswd", "....//", "..\\", "secret.txt", "%00", "a.jpg", "~", "C:", ""),
    *("a%2Fb.c", "a/b.c", "10%401%2C3", "odd#1?", "made-evolved-0-0-0", "whole-natural-0-0", "9" * 5000),
    *("class", "cluster", "alone", "once"),
    *(run_id("done"), run_id("seen"), run_id("cut"), f"{run_id('cut')}.{run_id('inner')}", run_id("out")),
    *(f"{run_id('done')},{run_id('seen')}", "running", "-evolved", "evolved>1", "image-00000", "evolved", "reference"),
)
BODIES = (
    *(b"", b"x", b"{}", b"[]", b'{"amounts": [1], "seed": 1}', b'{"seed": "x"}'),
    *(b"\x89PNG\r\n\x1a\n", picture_file()[:200], picture_file()),
)
ENTRIES = ("amounts", "seed", "morph", "walk")
TYPES = ("image/jpeg", "image/png", "image/gif", "application/json", "text/html", "", "multipart/form-data")


def addresses(app):
    """The addresses of all routes, their parameters to be filled in."""
    return sorted({getattr(route, "path", "") for route in app.routes} | {"/static/css/base.css", "/nowhere"})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of pictures, runs and an atlas, and a file beside them that nobody may see."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "secret.txt").write_bytes(SECRET)
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(picture_file())
    (folder / "images" / "out.jpg").symlink_to(folder / "secret.txt")
    (folder / "images" / os.fsdecode(b"\xff.jpg")).write_bytes(picture_file())
    for label in ("0", "3"):
        (folder / "labelled" / label).mkdir(parents=True)
        (folder / "labelled" / label / "a.jpg").write_bytes(picture_file())
    small_atlas.fill(folder / "atlas", small_atlas.photographs(folder / "photographs"))
    for made in ("evolve", "present"):
        small_runs.run(made, folder / "runs" / {"evolve": "done", "present": "seen"}[made])
    small_runs.cut_off("evolve", folder / "runs" / "cut")
    small_runs.cut_off("present", folder / "runs" / "cut" / "inner")
    add_note(folder / "runs" / "cut", {"at_s": 1.0, "text": "<b>rig silent</b>", "about": "silence"})
    (folder / "runs" / "seen" / "NOTICES.jsonl").symlink_to(folder / "secret.txt")
    (folder / "runs" / "out").symlink_to(folder)
    return folder


@pytest.fixture(scope="module")
def client(place, gabor):
    from closedloop.generators import Pixels

    folders = {name: place / name for name in ("images", "runs", "atlas", "labelled")}
    with client_of(gabor, **folders, generator=Pixels(16)) as client:
        yield client


words = st.one_of(st.sampled_from(VALUES), st.text(max_size=20), st.integers().map(str))
queries = st.dictionaries(st.sampled_from(NAMES), words, max_size=5)
bodies = st.one_of(
    st.sampled_from(BODIES),
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("amounts", "seed", "morph")), inner)
        ),
        max_leaves=6,
    ).map(lambda tree: json.dumps(tree).encode()),
)


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_is_the_servers_fault(client, data):
    path = data.draw(st.sampled_from(addresses(client.app)))
    while "{" in path:
        filled = data.draw(words).replace("{", "").replace("?", "").replace("#", "")
        path = path[: path.index("{")] + filled + path[path.index("}") + 1 :]
    method, kind = data.draw(st.sampled_from(METHODS)), data.draw(st.sampled_from(TYPES))
    query, body = data.draw(queries), data.draw(bodies)
    answer = asked(client, method, path, params=query, content=body, headers={"content-type": kind} if kind else {})
    if answer is None:
        return
    assert answer.status_code < 500, (method, path, query, body, answer.text[:300])
    assert SECRET not in answer.content
    if answer.status_code >= 400 and path.startswith("/api/") and method != "HEAD":
        assert answer.json()["error"]


def asked(client, method, path, **sent):
    """An answer; None for what a client of HTTP cannot send."""
    import httpx2

    try:
        return client.request(method, path, **sent)
    except (httpx2.InvalidURL, UnicodeError):
        return None


@pytest.mark.parametrize("up", ["../", "..%2f", "%2e%2e%2f", "..%5c", "out.jpg#"])
@pytest.mark.parametrize("before", ["/static/", "/api/inputs/", "/runs/", "/static/css/", "/units/"])
def test_no_file_beside_what_was_given_is_served(client, before, up):
    answer = client.get(f"{before}{up}secret.txt")
    assert answer.status_code >= 400 or answer.headers["content-type"].startswith("text/html")
    assert SECRET not in answer.content
