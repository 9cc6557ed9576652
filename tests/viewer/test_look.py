"""The routes of the live window."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest

from closedloop.subjects import FunctionSubject
from closedloop.viewer import create_app, look
from closedloop.viewer.inputs import Inputs
from tests.viewer.clients import asked, client_of, picture_file, unpacked

JPEG = {"content-type": "image/jpeg"}


def first_input(client):
    return client.get("/api/inputs").json()[0]["id"]


def test_the_page_and_the_way_there(looked):
    assert looked.get("/").headers["location"] == "/look"
    page = looked.get("/look")
    assert page.status_code == 200
    assert "<title>Look" in page.text
    assert looked.get("/api/health").json()["parts"] == ["look", "runs"]


def test_a_network_says_its_layers(inside):
    told = inside.get("/api/subject").json()
    assert (told["name"], told["resolution"], told["form"], told["labels"]) == ("small", 32, "colour stills", True)
    assert [layer["name"] for layer in told["layers"]] == ["0", "1", "2", "3", "output"]
    first = told["layers"][0]
    assert (first["kind"], first["shape"], first["grid"], first["rf"]["size"]) == (
        "Conv2d",
        [5, 16, 16],
        [16, 16],
        [3, 3],
    )
    assert told["layers"][-1]["output"]
    assert told["layers"][-1]["grid"] is None


def test_all_channels_of_a_layer_in_one_answer(inside):
    name = first_input(inside)
    header, sprite = unpacked(inside.post(f"/api/look?layer=2&input={name}&sort=activation&unit=4").content)
    values = np.array(header["values"])
    assert header["order"] == np.argsort(-values, kind="stable").tolist()
    assert len(values) == 7
    assert sprite.shape == (header["rows"] * header["tile"][0], header["columns"] * header["tile"][1])
    unit = header["unit"]
    assert (unit["channel"], unit["value"]) == (4, pytest.approx(values[4], rel=1e-5))
    y0, x0, y1, x1 = unit["box"]
    assert 0 <= y0 < y1 <= 32
    assert 0 <= x0 < x1 <= 32
    assert header["top"][0][0] in ("cat", "dog", "boat")
    assert sum(p for _, p in header["top"]) == pytest.approx(1)


def test_a_frame_of_a_camera_is_seen_and_not_kept(inside):
    before = inside.get("/api/inputs").json()
    header, _ = unpacked(inside.post("/api/look?layer=output", content=picture_file(), headers=JPEG).content)
    assert header["unit"]["label"] == header["top"][0][0]
    assert inside.get("/api/inputs").json() == before


def test_what_is_dropped_is_listed_first_and_named_by_its_pixels(looked):
    content = picture_file("PNG")
    told = looked.post("/api/inputs?title=mine", content=content, headers={"content-type": "image/png"}).json()
    again = looked.post("/api/inputs?title=mine", content=content, headers={"content-type": "image/png"}).json()
    assert told == again
    assert looked.get("/api/inputs").json()[0] == told
    assert told["title"] == "mine"
    assert looked.get(f"/api/inputs/{told['id']}.jpg?size=64").headers["content-type"] == "image/jpeg"
    header, _ = unpacked(looked.post(f"/api/look?layer=responses&input={told['id']}").content)
    assert header["order"] == list(range(12))


def test_the_folder_of_the_user_and_nothing_beside_it(gabor, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jpg").write_bytes(picture_file())
    (tmp_path / "secret.jpg").write_bytes(picture_file())
    (tmp_path / "mine" / "b.jpg").symlink_to(tmp_path / "secret.jpg")
    client = client_of(gabor, images=tmp_path / "mine")
    listed = [entry for entry in client.get("/api/inputs").json() if entry["source"] == "folder"]
    assert [entry["title"] for entry in listed] == ["a"]
    assert client.get(f"/api/inputs/{listed[0]['id']}.jpg").status_code == 200


def test_a_black_box_says_why_nothing_is_propagated_back():
    box = FunctionSubject(lambda images: images.mean((1, 2, 3)), name="box")
    client = client_of(box)
    told = client.get("/api/subject").json()
    assert told["differentiable"] is False
    assert "black box" in told["why_not"]
    name = first_input(client)
    refused = client.post(f"/api/backward?layer=responses&unit=0&input={name}")
    assert (refused.status_code, "black box" in refused.json()["error"]) == (400, True)
    header, _ = unpacked(client.post(f"/api/look?layer=responses&input={name}").content)
    assert header["values"] == [pytest.approx(header["unit"]["value"], rel=1e-5)]
    assert "no layers" in client.post(f"/api/look?layer=responses&input={name}&mode=backward").json()["error"]


def test_lost_presentations_are_null():
    client = client_of(FunctionSubject(lambda images: np.full((len(images), 2), np.nan), units=2, name="lost"))
    header, _ = unpacked(client.post(f"/api/look?layer=responses&input={first_input(client)}").content)
    assert header["values"] == [None, None]
    assert header["unit"]["value"] is None
    assert header["lost"] == 2


def test_what_was_seen_before_waits_for_no_call_of_the_model():
    gate, begun, calls = threading.Event(), threading.Event(), []

    def slow(images):
        calls.append(len(images))
        if len(calls) > 1:
            begun.set()
            gate.wait(20)
        return images.mean((2, 3))

    client = client_of(FunctionSubject(slow, units=3, name="slow"))
    first, second = (entry["id"] for entry in client.get("/api/inputs").json()[:2])

    def look(name, unit, tab):
        return client.post(f"/api/look?layer=responses&input={name}&unit={unit}", headers={"X-Tab": tab})

    client.get("/api/subject")
    look(first, 0, "a")
    other = threading.Thread(target=look, args=(second, 0, "b"))
    other.start()
    try:
        assert begun.wait(20)
        header, _ = unpacked(look(first, 2, "a").content)
        assert client.get("/api/subject").json()["name"] == "slow"
    finally:
        gate.set()
        other.join()
    assert (header["unit"]["channel"], header["lost"], len(calls)) == (2, 0, 2)


@pytest.mark.parametrize("method", ["gradient", "guided-backprop", "deconvnet"])
@pytest.mark.parametrize("way", ["raw", "normblur"])
def test_one_unit_is_propagated_back(inside, method, way):
    address = f"/api/backward?layer=2&unit=1&input={first_input(inside)}&method={method}&filter={way}"
    answer = inside.post(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert '"scale"' in answer.headers["x-info"]


def test_back_from_a_frame_of_a_camera_is_a_jpeg(inside):
    answer = inside.post("/api/backward?layer=2&unit=1&y=3&x=2", content=picture_file(), headers=JPEG)
    assert answer.headers["content-type"] == "image/jpeg"


def test_tiles_show_what_a_later_unit_is_driven_by(inside):
    name = first_input(inside)
    origin = "&mode=backward&from_layer=2&from_unit=3&from_y=1&from_x=1"
    _, sprite = unpacked(inside.post(f"/api/look?layer=0&input={name}{origin}").content)
    assert sprite.std() > 0
    refused = inside.post(f"/api/look?layer=3&input={name}{origin}")
    assert (refused.status_code, "reaches" in refused.json()["error"]) == (400, True)
    assert inside.post(f"/api/look?layer=0&input={name}&mode=backward").status_code == 200


def test_patterns_that_are_missing_are_named(inside):
    header, sprite = unpacked(inside.post(f"/api/look?layer=0&input={first_input(inside)}&mode=patterns").content)
    assert header["missing"] == [0, 1, 2, 3, 4]
    assert sprite.ndim == 3


def test_selectivity_is_measured_once_and_sorts(looked):
    told = looked.get("/api/selectivity?layer=responses").json()
    values = np.array(told["values"])
    assert ((values >= 0) & (values <= 1)).all()
    assert told["images"] >= 100
    header, _ = unpacked(looked.post(f"/api/look?layer=responses&input={first_input(looked)}&sort=selectivity").content)
    assert header["order"] == np.argsort(-values, kind="stable").tolist()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("layer=nothing", "layer"),
        ("layer=2&unit=99", "unit: expected 0 to 6"),
        ("layer=2&unit=1&y=9&x=0", "y, x: expected a position"),
        ("layer=2&sort=size", "sort: no sort 'size'"),
        ("layer=2&boost=0", "boost: expected a number"),
        ("unit=1", "layer: expected a value"),
        ("layer=2&input=gone", "there is no input 'gone'"),
    ],
)
def test_what_cannot_be_answered_is_said(inside, query, said):
    query = query if "input=" in query else f"{query}&input={first_input(inside)}"
    answer = inside.post(f"/api/look?{query}")
    assert 400 <= answer.status_code < 500
    assert said in answer.json()["error"]


def test_a_code_becomes_an_input(gabor):
    from closedloop.generators import Fourier

    client = client_of(gabor, generator=Fourier(32, 2))
    about = client.get("/api/codes").json()
    assert about["dim"] == Fourier(32, 2).space.dim
    made = client.post("/api/codes", json={"amounts": [1, -2], "seed": 3}).json()
    other = client.post("/api/codes", json={"seed": 3, "morph": [3, 4, 0.5]}).json()
    assert made["id"] != other["id"]
    assert client.get(f"/api/inputs/{made['id']}.jpg").status_code == 200
    assert made["id"] not in [entry["id"] for entry in client.get("/api/inputs").json()]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"amounts": "x"}, "amounts: expected a list"),
        ({"amounts": [1e9]}, r"amounts\[0\]: expected a number"),
        ({"seed": -1}, "seed: expected a whole number"),
        ({"morph": [1, 2]}, "morph: expected"),
        ({"morph": [1, 2, "x"]}, r"morph\[2\]: expected"),
        ({"other": 1}, "no entry 'other'"),
    ],
)
def test_a_code_that_is_none_is_refused(looked, body, said):
    answer = looked.post("/api/codes", json=body)
    assert answer.status_code == 400
    assert said.replace("\\", "") in answer.json()["error"]


def test_patterns_are_read_once_until_an_atlas_grows(network, monkeypatch):
    asked_for, stamps = [], [1]

    def preferred(shown, layer):
        asked_for.append(layer)
        return {2: np.full((9, 9, 3), 200, np.uint8)}

    monkeypatch.setattr(look, "preferred", preferred)
    monkeypatch.setattr(look.Shown, "stamps", property(lambda self: tuple(stamps)))
    client = client_of(network)

    def missing(layer):
        address = f"/api/look?layer={layer}&input={first_input(client)}&mode=patterns"
        return unpacked(client.post(address).content)[0]["missing"]

    assert missing("0") == missing("0")
    assert 2 not in missing("0")
    assert asked_for == ["0"]
    missing("2")
    stamps[0] = 2
    missing("2")
    assert asked_for == ["0", "2", "2"]


def test_few_large_pictures_are_decoded_at_once(gabor, tmp_path, monkeypatch):
    for i in range(12):
        (tmp_path / f"{i}.jpg").write_bytes(picture_file())
    at_work, most, lock, decoded = 0, [], threading.Lock(), Inputs.decoded

    def slow(self, *what):
        nonlocal at_work
        with lock:
            at_work += 1
            most.append(at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return decoded(self, *what)

    monkeypatch.setattr(Inputs, "decoded", slow)
    app = create_app(gabor, images=tmp_path)

    async def ask():
        names = [entry["id"] for entry in json.loads((await asked(app, "/api/inputs"))[1])][:12]
        return await asyncio.gather(*(asked(app, f"/api/inputs/{name}.jpg?size=64") for name in names))

    assert {status for status, _ in asyncio.run(ask())} == {200}
    assert max(most) == 2
    assert len(most) == 12
