"""The routes of runs: what they answer, that nothing outside the folder is served, and that no request is a 5xx."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from closedloop.analysis.run_index import run_id
from closedloop.recording.ownership import OwnFolder
from closedloop.viewer import create_app
from tests import small_runs

pytest.importorskip("httpx2")
from starlette.testclient import TestClient


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("folder") / "runs"
    small_runs.run("evolve", made / "done")
    small_runs.run("present", made / "seen")
    small_runs.cut_off("evolve", made / "sub" / "cut")
    return made


@pytest.fixture
def client(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path))
    return TestClient(create_app(runs=folder), base_url="http://127.0.0.1")


def test_the_browser_finds_sorts_and_pages(client):
    listed = client.get("/api/runs?sort=path").json()
    assert [(row["path"], row["thread"]) for row in listed["rows"]] == [
        ("done", "cells"), ("done", "pixels"), ("seen", None), ("sub/cut", "cells"), ("sub/cut", "pixels"),
    ]  # fmt: skip
    assert listed["states"] == {"running": 0, "finished": 2, "stopped": 0, "interrupted": 1, "failed": 0}
    assert client.get("/api/runs?q=pixels&state=interrupted").json()["total"] == 1
    assert client.get("/api/runs?where=evolved%3E-100&where=path=done").json()["total"] == 2
    assert client.get("/api/runs?page=2").json()["rows"] == []
    page = client.get("/runs").text
    assert "done" in page
    assert f"/runs/{run_id('sub/cut')}" in page
    assert "No run fits" in client.get("/runs?q=nothing-like-that").text


def test_a_session_of_many_units_is_shown_as_any_run(tmp_path, monkeypatch):
    """Its recording is lean: the response of each image's own unit, and of all units to references."""
    from closedloop.generators import Fourier
    from closedloop.protocols import evolve
    from closedloop.subjects import GaborSubject

    subject = GaborSubject(resolution=16, count=8, seed=1)
    optimizer = {"name": "isotropic", "population": 6}
    settings = {"images": 12, "retest_repeats": 2, "retest_candidates": 1, "progress": False}
    evolve(subject, Fourier(16, 2), optimizer, units="all", save=tmp_path / "runs" / "many", **settings)
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path))
    client = TestClient(create_app(runs=tmp_path / "runs"), base_url="http://127.0.0.1")
    assert client.get("/api/runs").json()["total"] == 8
    many = run_id("many")
    page = client.get(f"/runs/{many}")
    assert page.status_code == 200
    assert "unit-7" in page.text
    live = client.get(f"/api/runs/{many}/live").json()
    assert {thread["name"] for thread in live["threads"]} == {f"unit-{unit}" for unit in range(8)}
    assert live["done"] == live["total"] == 96
    assert client.get(f"/api/runs/{many}/cautions").status_code == 200
    name = live["threads"][3]["best_id"][-1]
    assert client.get(f"/api/runs/{many}/pictures/{name}.jpg?size=64&kind=evolved").status_code == 200


def test_a_run_of_training_shows_its_movie_and_its_figure(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from closedloop.protocols import train

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "task.npz", x=rng.standard_normal((20, 4, 4)), y=np.arange(20) % 2)
    train(data=str(tmp_path / "task.npz"), steps=3, batch=8, save=tmp_path / "runs" / "learns")
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path))
    client = TestClient(create_app(runs=tmp_path / "runs"), base_url="http://127.0.0.1")
    learns = run_id("learns")
    page = client.get(f"/runs/{learns}").text
    assert "Loss change allocation of mlp" in page
    for file, begins in (("allocation.webp", b"RIFF"), ("allocation.png", b"\x89PNG")):
        assert f"/api/runs/{learns}/drawings/{file}" in page
        answer = client.get(f"/api/runs/{learns}/drawings/{file}")
        assert answer.content.startswith(begins)
        assert answer.headers["content-type"] == f"image/{file[-4:].lstrip('.')}"
    for other in ("allocation.gif", "evolution.png", "..%2Fexperiment.yaml"):
        assert client.get(f"/api/runs/{learns}/drawings/{other}").status_code == 404


def test_a_run_its_curves_pictures_and_report(client):
    done = run_id("done")
    page = client.get(f"/runs/{done}").text
    assert "evolved ÷ natural" in page or "best natural" in page
    live = client.get(f"/api/runs/{done}/live").json()
    assert [t["name"] for t in live["threads"]] == ["cells", "pixels"]
    assert client.get(f"/api/runs/{done}/live?since=1").json()["threads"][0]["generation"] == [2]
    assert isinstance(client.get(f"/api/runs/{done}/cautions").json(), list)
    picture = client.get(f"/api/runs/{done}/pictures/{live['threads'][0]['best_id'][0]}.jpg?size=64")
    assert picture.content[:3] == b"\xff\xd8\xff"
    assert client.get(f"/api/runs/{done}/pictures/image-00000.jpg?kind=reference").status_code == 200
    report = client.get(f"/runs/{done}/report")
    assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "done" in report.text


def test_a_stream_ends_with_its_run(client):
    told = client.get(f"/api/runs/{run_id('done')}/events?since=0").text
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
    assert len(events) == 1
    assert events[0]["state"] == "finished"
    assert events[0]["threads"][0]["generation"] == [1, 2]


def test_recorded_images_have_a_table(client):
    assert "Images with the highest mean response" in client.get(f"/runs/{run_id('seen')}").text


def test_runs_on_one_axis(client):
    ids = f"{run_id('done')},{run_id('sub/cut')}"
    assert "2 runs on one axis" in client.get(f"/runs/compare?ids={ids}").text
    compared = client.get(f"/api/runs/compare?ids={ids}").json()["runs"]
    assert [run["name"] for run in compared] == ["done", "cut"]
    assert len(compared[0]["findings"]) == 2
    assert compared[1]["findings"] == []


def test_a_run_is_asked_to_end(client, folder):
    cut = run_id("sub/cut")
    refused = client.post(f"/api/runs/{cut}/end")
    assert refused.status_code == 400
    assert "no process is writing it now" in refused.json()["error"]
    own = OwnFolder(folder / "sub" / "cut")
    assert client.post(f"/api/runs/{cut}/end").status_code == 202
    assert client.get(f"/api/runs/{cut}/live").json()["asked_to_end"]
    own.release()
    (folder / "sub" / "cut" / "END").unlink()
    foreign = client.post(f"/api/runs/{cut}/end", headers={"origin": "http://elsewhere.example"})
    assert foreign.status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        "/runs/%2e%2e%2fdone", "/runs/0000000000000000", "/api/runs/x/live", "/runs/x/report",
        "/api/runs/{done}/pictures/..%2f..%2fexperiment.jpg", "/api/runs/{done}/pictures/nothing.jpg",
        "/api/runs/{done}/pictures/%00.jpg", "/api/runs/{done}/pictures/image-00000.jpg?size=0", "/runs?sort=x",
        "/api/runs?where=x", "/api/runs?where=%00", "/api/runs?page=0", "/api/runs?state=x", "/runs/compare",
        "/runs/compare?ids=,,", "/runs/compare?ids=x", "/api/runs/compare?ids=" + "a,b," * 40, "/api/jobs/7",
        "/api/runs/{done}/live?since=x",
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_4xx(client, address):
    answer = client.get(address.replace("{done}", run_id("done")))
    assert 400 <= answer.status_code < 500


def test_links_lead_nowhere(client, folder, tmp_path):
    small_runs.run("present", tmp_path / "outside")
    link = folder / "link"
    link.symlink_to(tmp_path / "outside")
    try:
        assert client.get(f"/runs/{run_id('link')}").status_code == 404
        assert "link" not in [row["path"] for row in client.get("/api/runs").json()["rows"]]
    finally:
        link.unlink()


def test_one_run_alone_and_an_empty_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))
    alone = TestClient(create_app(runs=folder / "done"), base_url="http://127.0.0.1")
    assert alone.get(f"/runs/{run_id('.')}").status_code == 200
    (tmp_path / "empty").mkdir()
    empty = TestClient(create_app(runs=tmp_path / "empty"), base_url="http://127.0.0.1")
    assert "No runs yet" in empty.get("/runs").text
    none = empty.post("/api/jobs", json={"protocol": "evolve", "layer": "a", "unit": 1})
    assert none.status_code == 409
    assert "this viewer shows none" in none.json()["error"]


def test_a_damaged_run_says_so(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))
    small_runs.run("present", tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "COMMITTED.json").write_bytes(b"{}")
    broken = TestClient(create_app(runs=tmp_path / "runs"), base_url="http://127.0.0.1")
    assert "cannot read COMMITTED.json" in broken.get("/runs").text
    for address in ("", "/report"):
        assert broken.get(f"/runs/{run_id('broken')}{address}").status_code in (200, 400)
    assert broken.get(f"/api/runs/{run_id('broken')}/live").status_code == 400


def test_a_damaged_run_hides_no_other_in_a_comparison(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(folder / "done", tmp_path / "runs" / "done")
    shutil.copytree(folder / "done", tmp_path / "runs" / "broken")
    client = TestClient(create_app(runs=tmp_path / "runs"), base_url="http://127.0.0.1")
    assert client.get("/api/runs").json()["total"] == 4
    (tmp_path / "runs" / "broken" / "COMMITTED.json").write_bytes(b"{}")
    ids = f"{run_id('broken')},{run_id('done')},0000000000000000"
    broken, done, gone = client.get(f"/api/runs/compare?ids={ids}").json()["runs"]
    assert (broken["name"], broken["threads"]) == ("broken", [])
    assert "COMMITTED.json" in broken["problem"]
    assert (done["problem"], len(done["threads"]), len(done["findings"])) == ("", 2, 2)
    assert "there is no run '0000000000000000'" in gone["problem"]
    assert "3 runs on one axis" in client.get(f"/runs/compare?ids={ids}").text


def test_a_run_that_has_not_begun_has_a_page_that_waits(tmp_path, monkeypatch):
    monkeypatch.setattr("closedloop.viewer.jobs.AT_ONCE", 0)
    client = TestClient(create_app("gabor", runs=tmp_path), base_url="http://127.0.0.1")
    job = client.post("/api/jobs", json={"unit": 0}).json()
    assert (job["state"], job["begun"]) == ("queued", False)
    assert "It waits for its turn." in client.get(f"/runs/{job['run']}").text
    client.post(f"/api/jobs/{job['id']}/cancel")
    assert "It ended before there was anything to see." in client.get(f"/runs/{job['run']}").text


def test_a_treatment_says_what_must_be_known_and_leads_to_the_runs_within_it(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from closedloop.protocols import treat

    rng = np.random.default_rng(0)
    x, y = rng.random((40, 3, 8, 8)).astype(np.float32), np.arange(40) % 2
    parts = {"x": x, "y": y, "x_labelled": x[:20], "y_labelled": y[:20], "x_test": x, "y_test": y, "group_test": y}
    np.savez(tmp_path / "task.npz", **parts)
    told = {"data": str(tmp_path / "task.npz"), "network": "conv", "steps": 10, "more": 2, "every": 2, "batch": 8}
    treat(**told, treatment="errors", suspects=1, preferred=20, save=tmp_path / "runs" / "treated")
    (tmp_path / "runs" / "treated" / "linked").symlink_to(tmp_path / "runs" / "treated" / "diagnosis")
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path))
    client = TestClient(create_app(runs=tmp_path / "runs"), base_url="http://127.0.0.1")
    assert client.get("/api/runs").json()["total"] == 1
    treated = run_id("treated")
    page = client.get(f"/runs/{treated}").text
    assert "The treatment made use of" in page
    assert f'/runs/{treated}.{run_id("diagnosis")}">diagnosis</a>' in page
    assert "linked" not in page
    inner = client.get(f"/runs/{treated}.{run_id('diagnosis')}").text
    assert "diagnose on " in inner
    assert f'href="/runs/{treated}">treated</a>' in inner
    assert client.get(f"/api/runs/{treated}.{run_id('diagnosis')}/live").json()["state"] == "finished"
    for other in (f"{treated}.{run_id('linked')}", f"{treated}.", f"{run_id('x')}.{run_id('diagnosis')}", ".x"):
        assert client.get(f"/runs/{other}").status_code == 404


def test_a_run_that_died_before_anything_was_committed_says_so(tmp_path, monkeypatch):
    small_runs.cut_off("present", tmp_path / "runs" / "born", blocks=1)
    (tmp_path / "runs" / "born" / "COMMITTED.json").unlink()
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path))
    client = TestClient(create_app(runs=tmp_path / "runs"), base_url="http://127.0.0.1")
    page = client.get(f"/runs/{run_id('born')}").text
    assert "before anything was committed" in page
    assert ">Report<" not in page
