"""The page as a reader, a screen reader and a malicious file meet it."""

import re
import shutil
import sys

import numpy as np
import pytest

from closedloop import open_recording, summarize
from closedloop.analysis.quality import cautions
from closedloop.analysis.summary import Estimate, beside
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.formats import export
from closedloop.generators import load_generator
from closedloop.protocols.landscape import landscape
from closedloop.readable import with_error
from closedloop.recording.pictures import Pictures
from closedloop.recording.pointer import parse_pointer, pointer_bytes
from closedloop.report import build_report, write_report
from closedloop.subjects import load_subject


@pytest.fixture(scope="module")
def page(run):
    return build_report([run])


@pytest.fixture(scope="module")
def parsed(page, read):
    return read(page)


def addresses(parsed):
    """Everything that a browser would fetch or follow."""
    names = ("src", "href", "srcset", "xlink:href", "action", "data", "poster")
    return [attrs[n] for _, attrs in parsed.tags for n in names if n in attrs]


def assert_self_contained(page, parsed):
    assert {a.split(",")[0] for a in addresses(parsed)} <= {"data:image/png;base64", "data:image/jpeg;base64"} | {
        a for a in addresses(parsed) if a.startswith("#")
    }
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert not parsed.named("script")
    assert not parsed.named("link")
    assert not parsed.named("iframe")
    assert not [n for _, attrs in parsed.tags for n in attrs if n.startswith("on")]


def test_it_needs_no_network_and_runs_no_code(page, parsed):
    assert_self_contained(page, parsed)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=\s]*", "", page)


def test_ids_are_unique_and_links_lead_to_them(parsed):
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 10
    assert {a[1:] for a in addresses(parsed) if a.startswith("#")} <= set(ids)


def test_a_screen_reader_finds_its_way(parsed):
    assert parsed.named("html")[0]["lang"] == "en"
    assert all(attrs.get("alt") for attrs in parsed.named("img"))
    assert parsed.named("img")
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in parsed.named("svg"))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all("scope" in attrs for attrs in parsed.named("th"))


def test_it_adapts_to_phones_darkness_and_paper(page, parsed):
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.named("meta")
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 34rem"):
        assert rule in page
    assert "currentColor" in page
    assert "#333333" not in page


def test_every_number_of_the_summary_stands_in_it(run, parsed):
    for s in summarize(open_recording(run)):
        for value in (str(s.evolved), str(s.natural), s.evolved.stimulus_id, s.natural.stimulus_id, s.target,
                      s.objective, s.thread, with_error(s.ratio, s.ratio_sem), f"{s.noisy_maximum:.4g}",
                      f"{beside(s.curse, s.noisy_maximum):.4g}", str(s.images), str(s.generations), str(s.lost),
                      str(s.evolved.n)):  # fmt: skip
            assert value in parsed.text


def test_every_caution_stands_in_it_and_no_other(run, parsed, page):
    recording = open_recording(run)
    found = cautions(recording, Pictures(recording), str(run))
    assert {c.kind for c in found} >= {"lost"}
    for caution in found:
        assert caution.text in parsed.text
    assert re.findall(r'data-kind="([\w-]+)"', page) == [c.kind for c in found]


def test_pictures_stand_beside_their_numbers(run, parsed):
    alts = [attrs["alt"] for attrs in parsed.named("img")]
    red, dark = summarize(open_recording(run))
    for summary in (red, dark):
        assert f"evolved image {summary.evolved.stimulus_id}" in alts
        assert f"reference image {summary.natural.stimulus_id}" in alts
    assert sum(alt.startswith("best image of generation") for alt in alts) == 16
    last = open_recording(run)["generation"].where(open_recording(run)["kind"] == "evolved").max()
    ids = [name for name in set(open_recording(run)["stimulus_id"].values) if name.startswith(f"red-g{int(last):04d}")]
    assert sum(alt.startswith(f"image red-g{int(last):04d}") for alt in alts) == len(ids) > 0


def test_each_figure_is_drawn_or_said_to_be_missing(parsed):
    labels = " ".join(attrs["aria-label"] for attrs in parsed.named("svg"))
    for words in ("Course of the evolution", "against the references", "principal axes", "side by side",
                  "Cross-driving", "Reliability of two-units.0", "Reliability of two-units.1"):  # fmt: skip
        assert words in labels
    assert "Not drawn" not in parsed.text


def test_it_says_how_to_repeat_the_run(run, parsed):
    assert "The run was given Python objects" in parsed.text
    assert "Noisy two-units" in parsed.text
    assert f"closedloop show {run}" in parsed.text
    assert "retest_repeats: 4" in parsed.text
    assert "seed 0" in parsed.text


def test_hostile_names_are_words(hostile, read):
    page = build_report([hostile], "<i>.html")
    parsed = read(page)
    assert_self_contained(page, parsed)
    for name in ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>", "{{ 7*7 }}"):
        assert name in parsed.text
    assert len(parsed.named("style")) == 1
    assert not [attrs for attrs in parsed.named("img") if attrs["src"] == "x"]


def test_the_same_run_gives_the_same_page_and_nothing_is_written_on_reading(run, page):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert build_report([run]) == page
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


@pytest.fixture(scope="module")
def several(gabor, hostile, recorded, read):
    return read(build_report([gabor, recorded, hostile]))


def test_several_runs(several):
    ids = [attrs["id"] for _, attrs in several.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert "3 runs of closedloop" in several.text
    assert {f"#run-{i}" for i in (1, 2, 3)} <= set(addresses(several))
    assert "Not drawn: reliability of gabor.0: " in several.text


def test_runs_that_ask_the_same_are_drawn_together(gabor, tmp_path, read):
    again = shutil.copytree(gabor, tmp_path / "again")
    labels = [attrs["aria-label"] for attrs in read(build_report([gabor, again])).named("svg")]
    assert labels[0].startswith("The runs side by side.")


def test_runs_that_ask_different_things_are_not(several):
    assert not [attrs for attrs in several.named("svg") if attrs["aria-label"].startswith("The runs")]


def test_recorded_images(recorded, read):
    parsed = read(build_report([recorded]))
    ds = open_recording(recorded)
    means = ds["responses"].isel(neuroid=0).groupby("stimulus_id").mean()
    best = str(means["stimulus_id"].values[int(np.argmax(means.values))])
    assert "12 images were shown to two-units, 36 presentations in all; 2 units answered." in parsed.text
    highest = ds["responses"].isel(neuroid=0).sel(presentation=ds["stimulus_id"] == best).values
    assert str(Estimate.of(best, highest)) in parsed.text
    assert f"{best} · n = 3" in parsed.text
    assert "No warning Looked for: an unfinished run, lost presentations, answers to other images." in parsed.text
    assert "Noisy two-units" in parsed.text


def test_an_unfinished_run_says_how_to_go_on(gabor, tmp_path, read):
    copy = shutil.copytree(gabor, tmp_path / "half way")
    pointer = parse_pointer((copy / "COMMITTED.json").read_bytes())
    (copy / "COMMITTED.json").write_bytes(pointer_bytes({**pointer, "finished": False}))
    parsed = read(build_report([copy]))
    assert "the run is not finished" in parsed.text
    assert "Before you trust the numbers" in parsed.text
    assert f"closedloop resume '{copy}'" in parsed.text


def test_a_run_without_retests_reports_no_response(gabor, read):
    parsed = read(build_report([gabor]))
    assert "No image has been re-tested for" in parsed.text
    assert "best score so far, optimistic · not re-tested" in parsed.text
    assert f"closedloop evolve --config {gabor}/experiment.yaml --out {gabor}-again" in parsed.text


def test_a_tuning_landscape(gabor, tmp_path, read):
    subject, generator = load_subject("gabor", resolution=16), load_generator("fourier", resolution=16, cutoff=3)
    landscape(subject, generator, open_recording(gabor), steps=5, save=tmp_path / "run")
    parsed = read(build_report([tmp_path / "run"]))
    labels = [attrs["aria-label"] for attrs in parsed.named("svg")]
    assert [label.split(":")[0] for label in labels] == [
        f"Tuning landscape of gabor.0, {plane}" for plane in ("pc1-pc2", "pc1-random")
    ]
    assert "The tuning landscape of gabor.0" in parsed.text
    assert f"closedloop landscape --config {tmp_path / 'run' / 'experiment.yaml'}" in parsed.text
    assert "50 of the landscape" in parsed.text


def test_an_export_is_reported_like_its_run(run, tmp_path, read):
    pytest.importorskip("h5netcdf")
    pytest.importorskip("h5py")
    export(run, "netcdf", tmp_path / "run.nc")
    parsed = read(build_report([tmp_path / "run.nc"]))
    for s in summarize(open_recording(run)):
        assert str(s.evolved) in parsed.text
    assert "save this as experiment.yaml" in parsed.text
    assert "closedloop show" not in parsed.text


@pytest.mark.skipif(sys.platform != "linux", reason="only there a name may be any bytes")
def test_a_run_whose_name_is_no_text(recorded, tmp_path):
    for name, shown in ((b"r\xff", "r\ufffd"), ("\u00fc".encode(), "\u00fc")):
        odd = tmp_path / name.decode("ascii", "surrogateescape")
        shutil.copytree(recorded, odd)
        assert shown in write_report([odd], tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_file(recorded, tmp_path):
    path = write_report([recorded], tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_bad_input_writes_nothing(recorded, tmp_path):
    run = recorded
    with pytest.raises(InvalidArgumentError, match=r"out: expected the name of a file that ends in \.html"):
        write_report([run], tmp_path / "report.pdf")
    with pytest.raises(InvalidArgumentError, match="expected the folder of at least one run"):
        build_report([])
    with pytest.raises(InvalidArgumentError, match="got one twice"):
        build_report([run, f"{run}/../{run.name}"])
    with pytest.raises(RecordingError, match="not a run of closedloop"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="out: cannot write"):
        write_report([run], tmp_path / "file" / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_it_says_how_natural_the_evolved_image_looks(parsed):
    assert "How natural it looks, beside the references" in parsed.text
    assert "measure evolved best reference references it lies black or white values" in parsed.text
