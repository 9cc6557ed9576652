"""A page about a sweep: what it says, what it warns of, where it links to."""

from __future__ import annotations

import re

import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.protocols import sweep
from closedloop.report import write_report


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "<s>"
    content = {
        "subject": {"name": "gabor", "resolution": 16, "count": 7, "seed": 1},
        "generator": {"name": "fourier", "cutoff": 2},
        "optimizers": [{"name": "isotropic", "population": 6}, {"name": "random", "population": 5}],
        "images": 18,
        "retest_candidates": 1,
        "retest_repeats": 2,
        "units": "0-7",  # there is no unit 7
        "seeds": [0],
    }
    sweep(content, folder, workers=0, progress=False)
    return folder


def test_it_says_what_axes_did_and_links_to_runs(swept, tmp_path):
    page = write_report([swept], swept.parent / "page.html").read_text()
    assert "A sweep of 16 runs" in page
    assert "14 finished, 2 failed" in page
    assert "By optimizer" in page
    assert "corrected together by Holm" in page
    assert "2 runs failed or cannot be read" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 12
    from html import unescape

    assert all((swept.parent / unescape(link)).is_dir() for link in links)
    assert page.count("<img") == 12
    assert "optimizer random(population=5)" in page
    assert "seed 0" not in page  # a tile says where runs differ
    assert "<s>" not in page  # names are escaped


def test_it_is_of_one_sweep(swept, tmp_path):
    with pytest.raises(InvalidArgumentError, match="expected the folder of one sweep alone"):
        write_report([swept, tmp_path], tmp_path / "page.html")


def test_before_anything_is_done_it_says_so(swept, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "sweep.jsonl").write_text((swept / "sweep.jsonl").read_text())
    page = write_report([tmp_path / "new"], tmp_path / "page.html").read_text()
    assert "16 planned" in page
    assert "No run has come to a number yet" in page
