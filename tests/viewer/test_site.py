"""An atlas as files: complete, relative, without scripts, and nothing outside its folder."""

import re
from html import unescape
from urllib.parse import unquote

import pytest

from tests import small_atlas

pytest.importorskip("jinja2")

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.viewer import site
from closedloop.viewer.site import write_site


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("atlas")
    small_atlas.fill(place / "run", small_atlas.photographs(place / "naturals"))
    return place / "run"


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "out"
    assert write_site([run], out) == 1 + 2 + 5
    return out


def test_every_link_leads_to_a_file_of_the_folder(written):
    pages = sorted(written.rglob("*.html"))
    assert len(pages) == 8
    for page in pages:
        text = page.read_text("utf-8")
        assert "<script" not in text
        for address in re.findall(r'(?:href|src)="([^"]*)"', text):
            plain = unquote(unescape(address)).partition("#")[0]
            assert not re.match(r"[a-z]+:|/", plain), address
            assert not plain or (page.parent / plain).resolve().is_relative_to(written), address
            assert not plain or (page.parent / plain).is_file(), address


def test_names_fit_every_file_system(written):
    names = sorted(p.relative_to(written).as_posix() for p in written.rglob("*.html"))
    assert names[:3] == ["a_b.c/0.html", "a_b.c/1.html", "a_b.c/10_1_3.html"]
    assert site._slugs(["A/b", "a_b", "..", "", "index", "Static"]) == {
        "A/b": "A_b", "a_b": "a_b-2", "..": "_", "": "_-2", "index": "index_", "Static": "Static_",
    }  # fmt: skip


def test_a_site_is_written_again_and_no_other_folder_is_touched(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_site([run], out)
    write_site([run], out)
    (out / "CNAME").write_text("a file of the user's")
    (out / "pictures" / "mine.webp").write_bytes(b"another")
    with pytest.raises(RecordingError, match=r"none of an exported atlas \(CNAME, pictures/mine.webp\)"):
        write_site([run], out)
    assert (out / "CNAME").read_text() == "a file of the user's"
    with pytest.raises(RecordingError, match="expected a folder outside of a run's"):
        write_site([run], run / "site")
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("all of it")
    with pytest.raises(RecordingError, match=r"export: .* holds files that are none of an exported atlas"):
        write_site([run], foreign)
    assert [p.name for p in foreign.iterdir()] == ["thesis.txt"]
    with pytest.raises(RecordingError, match="which is something else"):
        write_site([run], foreign / "thesis.txt")
    with pytest.raises(InvalidArgumentError, match="atlases: expected the folder of an atlas"):
        write_site([tmp_path / "nowhere"], tmp_path / "new")
    with pytest.raises(InvalidArgumentError, match="atlas: expected the folder of a run of closedloop atlas"):
        write_site([foreign], tmp_path / "new")
    with pytest.raises(InvalidArgumentError, match=r"out: expected a path, .* with a name of 300"):
        write_site([run], tmp_path / ("x" * 300))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]


def test_what_cannot_be_written_whole_is_not_written(run, tmp_path, monkeypatch):
    write_site([run], tmp_path / "out")
    before = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*"))
    monkeypatch.setattr(site, "unit_page", lambda *_a, **_k: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division"):
        write_site([run], tmp_path / "out")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == before
