"""What a request asks for, at the door."""

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from closedloop.viewer import asked
from closedloop.viewer.manners import HANDLERS


async def read(request):
    return JSONResponse(await asked.body_json(request, ("a", "b")))


async def queried(request):
    found = (
        asked.whole(request, "n", 3, 0, 9),
        asked.number(request, "x", 0.5, 0, 1),
        asked.text(request, "t", "word"),
    )
    return JSONResponse(found)


CLIENT = TestClient(
    Starlette(routes=[Route("/api/j", read, methods=["POST"]), Route("/api/q", queried)], exception_handlers=HANDLERS)
)
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "said"),
    [
        ("{}", {}, 415, "Content-Type"),
        ("{", JSON, 400, "expected JSON"),
        ("[" * 40000, JSON, 400, "expected JSON"),
        ('{"a": NaN}', JSON, 400, "NaN"),
        ("[1]", JSON, 400, "JSON object"),
        ('{"c": 1}', JSON, 400, "no entry 'c'"),
        (b"\xff\xfe\x00", JSON, 400, "expected JSON"),
        ("{}" + " " * asked.MOST_JSON, JSON, 413, "at most"),
        ('{"a": 1' + "0" * 5000 + "}", JSON, 400, "expected JSON"),
    ],
)
def test_a_body_that_is_none_is_refused(content, headers, status, said):
    answer = CLIENT.post("/api/j", content=content, headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_body_is_read():
    assert CLIENT.post("/api/j", json={"a": [1]}).json() == {"a": [1]}


@pytest.mark.parametrize(
    "query",
    ["n=10", "n=-1", "n=1.5", "n=٣", "n=" + "9" * 30, "x=2", "x=nan", "x=1e999", "x=x", "t=%00", "t=" + "a" * 300],
)
def test_a_parameter_that_is_none_is_refused(query):
    answer = CLIENT.get(f"/api/q?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(query[0])


def test_parameters_are_read():
    assert CLIENT.get("/api/q?n=4&x=1e-1&t=%C3%A4").json() == [4, 0.1, "ä"]
    assert CLIENT.get("/api/q").json() == [3, 0.5, "word"]


def test_entries_of_a_body():
    assert asked.entry_number({"a": 1}, "a", 0, 0, 2) == 1.0
    assert asked.entry_numbers({"a": [1, 0.5]}, "a", 0, 2, 2) == [1.0, 0.5]
    with pytest.raises(asked.RequestError, match="a: expected a whole number"):
        asked.entry_whole({"a": True}, "a", 0, 0, 2)
    with pytest.raises(asked.RequestError, match="a: expected a list of at most 1"):
        asked.entry_numbers({"a": [1, 2]}, "a", 0, 2, 1)
