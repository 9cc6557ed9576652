"""The application: its health, its files, its errors."""

import pytest
from starlette.testclient import TestClient

from closedloop.errors import InvalidArgumentError
from closedloop.viewer import create_app


@pytest.fixture
def client():
    return TestClient(create_app(), base_url="http://127.0.0.1")


def test_health_names_the_parts(client):
    found = client.get("/api/health").json()
    assert found["ok"] is True
    assert found["parts"] == []


def test_an_unknown_address_is_a_page_and_json_below_api(client):
    page, told = client.get("/nowhere"), client.get("/api/nowhere")
    assert (page.status_code, told.status_code) == (404, 404)
    assert page.headers["content-type"].startswith("text/html")
    assert "nothing at this address" in told.json()["error"]


def test_a_part_that_is_not_shown_says_what_it_needs(client):
    for path, needs in (("/units/conv1/3", "--atlas FOLDER"), ("/errors", "--labelled FOLDER")):
        told = client.get(path)
        assert (told.status_code, needs in told.text) == (404, True)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InvalidArgumentError, match="labelled: expected a folder"):
        create_app(labelled=tmp_path / "nothing")


@pytest.mark.parametrize("path", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "js/../../app.py", "/etc/passwd"])
def test_no_file_outside_the_package_is_served(client, path):
    assert client.get(f"/static/{path}").status_code in (404, 405)


@pytest.mark.parametrize("token", ["", "short", 5, "ab cd efgh", "schlüssel1"])
def test_a_token_that_lets_anyone_in_is_refused(token):
    with pytest.raises(InvalidArgumentError, match="token: expected at least 8 letters and digits"):
        create_app(token=token)


def test_hosts_are_a_list():
    with pytest.raises(InvalidArgumentError, match="hosts: expected a list, got 'localhost'"):
        create_app(hosts="localhost")
