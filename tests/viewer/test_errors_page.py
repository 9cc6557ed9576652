"""The errors page without a browser: what it says, what it sends, and what it refuses."""

import asyncio
import csv
import io
import re
import tempfile
import threading
import time
import zipfile

import numpy as np
import pytest
from starlette.testclient import TestClient

from closedloop import Units
from closedloop.images.sets import read_image
from closedloop.subjects import FunctionSubject
from closedloop.viewer import create_app, errors_page
from tests.planted import planted_folder, planted_subject
from tests.viewer.clients import asked

#: Requests until a survey of 24 images, or 3 explanations, are done; each waits a little.
PATIENCE = 400


@pytest.fixture
def folder(tmp_path):
    return planted_folder(tmp_path / "pictures")


def client_of(subject, folder):
    return TestClient(create_app(subject, labelled=folder), base_url="http://127.0.0.1")


def follow(client):
    """Waits until nothing is left to do, and returns the state."""
    for _ in range(PATIENCE):
        state = client.get("/api/errors").json()
        if state["trouble"] or (state["done"] == state["of"] and not state["waiting"]):
            return state
    raise AssertionError(state)


def test_errors_are_found_explained_and_grouped(folder):
    subject = planted_subject()
    with client_of(subject, folder) as client:
        state = follow(client)
        assert (state["done"], state["errors"], state["explained"]) == (24, 3, 0)
        page = client.get("/errors").text
        assert "3 of 24 images answered wrongly (12.5 %)" in page
        assert "green → red" in page
        assert "/errors/0.jpg" in page
        assert "No error is explained yet" in client.get("/errors?by=cluster").text
        assert client.post("/api/errors/explain").status_code == 200
        assert follow(client)["explained"] == 3
        page = client.get("/errors?by=cluster").text
        assert f"Units {subject.model.spurious}" in page
        assert "1 unit corrects it" in page
        for by in ("confidence", "class"):
            assert "<h2" in client.get(f"/errors?by={by}").text
        assert "No error matches" in client.get("/errors?q=nothing").text
        assert 'value="green"' in client.get("/errors?q=green").text


def test_one_image_by_a_layer_of_choice(folder):
    subject = planted_subject()
    with client_of(subject, folder) as client:
        assert "Not shown yet" in client.get("/errors/23").text
        follow(client)
        page = client.get("/errors/0").text
        assert 'data-image="0"' in page
        for layer, unit in (("relu", subject.model.spurious), ("conv", subject.model.spurious)):
            assert client.post(f"/api/errors/0?layer={layer}").json()["image"] == 0
            page = client.get(f"/errors/0?layer={layer}").text
            assert page.index(f"Unit {unit}<") < page.index("corrects the answer")
            assert f"/errors/0/unit/{unit}.jpg?layer={layer}" in page
            crop = client.get(f"/errors/0/unit/{unit}.jpg?layer={layer}")
            assert (crop.status_code, crop.headers["content-type"]) == (200, "image/jpeg")
        assert "called so" in client.get("/errors/20").text  # one that was right
        assert client.get("/errors/0.jpg?size=64").content[:2] == b"\xff\xd8"


def test_a_group_is_sent_whole(folder):
    with client_of(planted_subject(), folder) as client:
        follow(client)
        answer = client.get("/errors/group.zip?by=class&group=0")
        assert 'filename="errors-class-0.zip"' in answer.headers["content-disposition"]
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        rows = list(csv.DictReader(io.StringIO(archive.read("group.csv").decode())))
        rows.sort(key=lambda row: row["path"])
        assert rows[0] == {"path": "images/green/00.png", "label": "green", "predicted": "red", "group": "green"}
        assert [row["path"] for row in rows] == [f"images/green/0{i}.png" for i in range(3)]
        assert archive.read("images/green/01.png") == (folder / "green" / "01.png").read_bytes()
        assert len(client.get("/errors/group.zip").content) > 0


def test_a_download_that_is_broken_off_leaves_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(errors_page, "_PART", 100)
    before = sorted(p.name for p in tmp_path.iterdir())
    app = create_app(planted_subject(), labelled=folder)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        follow(client)
    sent = []

    class Gone(list):
        def append(self, message):
            super().append(message)
            if len(self) == 3:
                raise EOFError("the reader has gone")

    with pytest.raises(EOFError, match="the reader has gone"):
        asyncio.run(asked(app, "/errors/group.zip", told=Gone(sent)))
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_layers_are_a_choice(folder):
    with client_of(planted_subject(), folder) as client:
        follow(client)
        page = client.get("/errors/0").text
        chosen = re.findall(r"<option( selected)?>([^<]*)</option>", page)
        assert chosen == [("", "conv"), (" selected", "relu")]


def test_links_lead_to_unit_pages_that_there_are(folder, monkeypatch):
    subject = planted_subject()
    spurious = subject.model.spurious
    monkeypatch.setattr(errors_page, "unit_addresses", lambda shown, layer: {spurious: f"/units/{layer}/{spurious}"})
    with client_of(subject, folder) as client:
        follow(client)
        client.post("/api/errors/0?layer=relu")
        page = client.get("/errors/0?layer=relu").text
        assert re.findall(r'href="/units/([^"]*)"', page) == [f"relu/{spurious}"]
        assert page.count('<article class="card unit"') == 6


def test_few_large_pictures_are_decoded_at_once(folder, monkeypatch):
    at_work, most, lock = 0, [], threading.Lock()

    def read(path, resolution):
        nonlocal at_work
        with lock:
            at_work += 1
            most.append(at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return read_image(path, resolution)

    monkeypatch.setattr(errors_page, "read_image", read)
    app = create_app(planted_subject(), labelled=folder)

    async def ask():
        return await asyncio.gather(*(asked(app, f"/errors/{i}.jpg") for i in range(12)))

    assert {status for status, _ in asyncio.run(ask())} == {200}
    assert max(most) == 2


def test_a_black_box_says_why_there_are_no_units(folder):
    known = planted_subject()
    box = FunctionSubject(known.record, units=Units(("a", "b"), {"label": ("red", "green")}), name="box")
    with client_of(box, folder) as client:
        assert follow(client)["errors"] == 3
        assert "is a black box, without layers" in client.get("/errors").text
        assert "is a black box, without layers" in client.get("/errors/0").text
        for address in ("/api/errors/explain", "/api/errors/0", "/api/errors/0?layer=relu"):
            answer = client.post(address)
            assert (answer.status_code, "black box" in answer.json()["error"]) == (400, True)
        assert client.get("/errors/0/unit/1.jpg?layer=relu").status_code == 404


def test_the_output_is_recorded_whatever_the_subject_records(folder):
    with client_of(planted_subject(layer="conv", units="0"), folder) as client:
        assert follow(client)["errors"] == 3


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/errors?by=colour", 400),
        ("/errors?group=nothing", 404),
        ("/errors/group.zip?group=nothing", 404),
        ("/errors/24", 404),
        ("/errors/24.jpg", 404),
        ("/errors/99999999999999999999.jpg", 404),
        ("/errors/-1", 404),
        ("/errors/0.jpg?size=100000", 400),
        ("/errors/0/unit/8.jpg?layer=relu", 404),
        ("/errors/0/unit/0.jpg?layer=nothing", 404),
        ("/errors/..%2f..%2fetc%2fpasswd", 404),
    ],
)
def test_what_is_refused(folder, address, status):
    with client_of(planted_subject(), folder) as client:
        follow(client)
        assert client.get(address).status_code == status


def test_a_layer_that_is_not_there(folder):
    with client_of(planted_subject(), folder) as client:
        follow(client)
        answer = client.post("/api/errors/0?layer=rel")
        assert (answer.status_code, "no layer 'rel'" in answer.json()["error"]) == (400, True)


def test_trouble_is_told(folder):
    with client_of(planted_subject(), folder) as client:
        kept = (folder / "red" / "11.png").read_bytes()
        (folder / "red" / "11.png").unlink()
        trouble = follow(client)["trouble"]
        assert "11.png as a PNG image: No such file or directory." in trouble
        assert "11.png" in client.get("/errors").text
        (folder / "red" / "11.png").write_bytes(b"no picture")
        follow(client)
        client.get("/errors")
        assert "content is something else" in follow(client)["trouble"]
        (folder / "red" / "11.png").write_bytes(kept)
        client.get("/errors")  # it goes on where it was stopped
        state = follow(client)
        assert (state["done"], state["trouble"]) == (24, "")


def test_without_a_folder_there_is_no_page():
    client = TestClient(create_app(planted_subject()), base_url="http://127.0.0.1")
    assert client.get("/errors").status_code == 404


def test_what_a_unit_wants_stands_beside_what_it_answers(folder, monkeypatch):
    subject, asked = planted_subject(), []

    def preferred(shown, layer, only):
        asked.append((layer, list(only)))
        return {subject.model.spurious: np.full((16, 16, 3), 200, np.uint8)}

    monkeypatch.setattr(errors_page, "preferred", preferred)
    with client_of(subject, folder) as client:
        follow(client)
        client.post("/api/errors/0?layer=relu")
        page = client.get("/errors/0?layer=relu").text
    assert page.count("wants to see") == 1
    assert f'alt="What unit {subject.model.spurious} wants to see"' in page
    assert {layer for layer, _ in asked} == {"relu"}
