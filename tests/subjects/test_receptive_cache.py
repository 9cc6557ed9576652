import json

import pytest
import torch
from torch import nn

from closedloop.subjects import load_subject, receptive_cache
from closedloop.subjects.receptive import ReceptiveField
from closedloop.subjects.receptive_cache import kept_fields, network_key

FIELD = ReceptiveField((3, 3), (1, 1), (-1, -1), "computed")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(receptive_cache, "_found", {})
    return tmp_path / "cache" / "receptive-fields"


class Finder:
    """Finds one field for each layer, and counts."""

    def __init__(self, field=FIELD):
        self.asked, self.field = [], field

    def __call__(self, layers):
        self.asked += layers
        return [self.field] * len(layers)


def forget(monkeypatch):
    """As in another process."""
    monkeypatch.setattr(receptive_cache, "_found", {})


def test_a_field_is_found_once(folder, monkeypatch):
    find = Finder()
    assert kept_fields("k", ["a", "b"], find) == [FIELD] * 2
    assert kept_fields("k", ["b", "c"], find) == [FIELD] * 2
    forget(monkeypatch)
    assert kept_fields("k", ["a", "b", "c"], find) == [FIELD] * 3
    assert find.asked == ["a", "b", "c"]
    assert kept_fields("other", ["a"], find) == [FIELD]
    assert find.asked == ["a", "b", "c", "a"]


def test_nothing_is_kept_of_a_network_without_a_name(folder):
    find = Finder()
    for _ in range(2):
        kept_fields(None, ["a"], find)
    assert find.asked == ["a", "a"]
    assert not folder.exists()


def test_what_is_not_known_is_asked_for_again(folder):
    find = Finder(ReceptiveField((9, 9), (0, 0), (0, 0), "unknown"))
    for _ in range(2):
        assert kept_fields("k", ["a"], find) == [find.field]
    assert find.asked == ["a", "a"]


GOOD = {"size": [3, 3], "stride": [1, 1], "start": [-1, -1], "method": "computed"}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"a": 3}', '{"a": {}}', "\xff", json.dumps({"a": GOOD | {"size": ["3", 3]}}),
     json.dumps({"a": GOOD | {"start": [1]}}), json.dumps({"a": GOOD | {"method": "guessed"}})],
)  # fmt: skip
def test_a_damaged_file_is_none(folder, text):
    folder.mkdir(parents=True)
    (folder / "k.json").write_text(text, "latin-1")
    find = Finder()
    assert kept_fields("k", ["a"], find) == [FIELD]
    assert find.asked == ["a"]
    assert json.loads((folder / "k.json").read_text()) == {"a": GOOD}


def test_a_folder_that_cannot_be_written_does_not_matter(folder, monkeypatch):
    folder.parent.write_text("in the way")
    assert kept_fields("k", ["a"], Finder()) == [FIELD]


def test_the_key_follows_from_all_that_decides():
    def make(seed=0, **options):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 2, 3, **options), nn.BatchNorm2d(2))

    keys = [
        network_key(make(), "a", 8), network_key(make(1), "a", 8), network_key(make(stride=2), "a", 8),
        network_key(make(), "b", 8), network_key(make(), "a", 9),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert keys[0] == network_key(make(), "a", 8)


def test_a_subject_is_loaded_without_its_fields(folder, monkeypatch):
    subject = load_subject("lite0", layer="blocks.0", units="3,7", engine="eager", weights="random")
    units = subject.units
    assert (len(units), units.coords["channel"]) == (2, (3, 7))
    assert "rf_y0" in units.coords
    assert list(units.coords)[-5:] == ["rf_y0", "rf_x0", "rf_y1", "rf_x1", "rf_method"]
    assert not folder.exists()
    box = [units.coords[f"rf_{side}"] for side in ("y0", "x0", "y1", "x1")]
    assert box == [(110, 110), (110, 110), (117, 117), (117, 117)]
    assert len(list(folder.iterdir())) == 1
    forget(monkeypatch)
    monkeypatch.setattr("closedloop.subjects.torch_subject.computed_fields", None)
    again = load_subject("lite0", layer="blocks.0", units="3,7", engine="eager", weights="random")
    assert dict(again.units.coords) == dict(units.coords)
