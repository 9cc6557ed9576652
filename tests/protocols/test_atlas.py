"""An atlas of a network small enough to be filled in seconds."""

import importlib

import numpy as np
import pytest

from closedloop import open_recording
from closedloop.analysis import AtlasPages, atlas_table
from closedloop.errors import InvalidArgumentError, ObserverError, UnknownNameError
from closedloop.images.eight_bit import from_bytes, quantize
from closedloop.loop.protocol import shown_protocol
from closedloop.protocols import Contender, atlas, resume
from closedloop.recording.reader import read_experiment
from closedloop.report import build_report
from closedloop.subjects import FunctionSubject, Poisson, load_subject
from tests import small_runs

SIDE = small_runs.SIDE
METHODS = (
    Contender("raw", "raw"),
    Contender("evolved", "evolve", {"name": "fourier", "cutoff": 2}, "isotropic"),
)
protocol = importlib.import_module("closedloop.protocols.atlas")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of three classes, and some without one."""
    from closedloop.images.movies import encode_image

    place = tmp_path_factory.mktemp("naturals")
    for i, image in enumerate(small_runs.pictures(72)):
        within = place / ("", "cat", "dog", "fox")[i % 4]
        within.mkdir(exist_ok=True)
        (within / f"{i:03d}.png").write_bytes(encode_image(image, None)[1])
    return place


@pytest.fixture(scope="module")
def filled(tmp_path_factory, folder):
    run = tmp_path_factory.mktemp("atlas") / "run"
    told = []
    atlas(
        small_runs.network(), ["0", "output"], METHODS, naturals=folder, budget=60, starts=2, top=3, save=run,
        progress=lambda done, total, what: told.append((done, total, what)),
    )  # fmt: skip
    return run, told


def test_numbers_are_those_of_the_stored_images(filled) -> None:
    """Each image is a file of the run, and its number the response to that very file, shown twice afresh."""
    run, _ = filled
    recording = open_recording(run)
    subject, pages = small_runs.network().at(["0", "output"]), AtlasPages(recording)
    assert {layer: len(units) for layer, units in pages.keys.items()} == {"0": 4, "output": 3}
    for layer, units in pages.keys.items():
        for key, column in units.items():
            made = pages.unit(layer, key).made
            assert {(m.label, m.seed) for m in made} == {(m, s) for m in ("raw", "evolved") for s in (0, 1)}
            for one in made:
                image = _stored(run, one.stimulus_id)
                assert one.response.mean == pytest.approx(subject.record(image)[0, column], rel=1e-4, abs=1e-5)
                assert (one.response.n, one.response.sem) == (2, 0)


def _stored(run, name):
    from closedloop.images.opening import open_picture

    with open_picture(run / "images" / f"{name}.png") as picture:
        return from_bytes(np.asarray(picture).transpose(2, 0, 1)[None])


def test_the_ends_are_those_of_all_photographs(filled, folder) -> None:
    run, _ = filled
    pages, subject = AtlasPages(open_recording(run)), small_runs.network().at(["0", "output"])
    library = protocol.library_of(folder, SIDE)
    responses = subject.record(library.read(np.arange(72)))
    for layer, units in pages.keys.items():
        for key, column in units.items():
            page = pages.unit(layer, key)
            order = np.argsort(-responses[:, column])
            assert [p.stimulus_id for p in page.best] == [library.ids[i] for i in order[:3]]
            assert [p.stimulus_id for p in page.worst] == [library.ids[i] for i in order[::-1][:3]]
            assert all(p.response.n >= 2 for p in (*page.best, *page.worst))
            for one in page.best:
                np.testing.assert_array_equal(
                    _stored(run, f"natural-{one.number}")[0], quantize(library.read(np.array([one.number])))[0]
                )
            assert page.attributed == "guided-backprop"
            strip = _stored(run, f"attribution-{column}")[0]
            y0, x0, y1, x1 = page.field
            assert strip.shape == (3, y1 - y0, 6 * (x1 - x0))
            np.testing.assert_allclose(page.natural, np.sort(responses[:, column]), rtol=1e-4, atol=1e-5)


def test_classes_are_tuned_and_corrected(filled) -> None:
    pages = AtlasPages(open_recording(filled[0]))
    tuned = [pages.unit("output", key).tuning for key in pages.keys["output"]]
    assert {c.name for c in tuned[0].classes} == {"cat", "dog", "fox"}
    assert [c.response.n for c in tuned[0].classes] == [18] * 3
    assert all(t.p_adjusted >= t.p for t in tuned)


def test_progress_is_told_of_all_parts(filled) -> None:
    _, told = filled
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert told[-1][0] == told[-1][1] == 2 + 2 * 2 * 2 + 2


def test_is_shown_reported_and_gone_on_with(filled) -> None:
    run, _ = filled
    recording = open_recording(run)
    summary = shown_protocol(read_experiment(run), str(run)).summary(run, recording)
    assert [t.title for t in summary.tables] == ["0: 4 units, 72 natural images", "output: 3 units, 72 natural images"]
    assert [row[0] for row in summary.tables[0].rows] == ["raw", "evolved"]
    assert "atlas" in build_report([run])
    assert resume(run, subject=small_runs.network()).sizes == recording.sizes
    table = atlas_table(recording)["output"]
    assert table["response"].dims == ("contender", "seed", "unit")
    assert np.isfinite(table["p_adjusted"]).all()
    assert (table["p_adjusted"] >= table["p"]).all()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_goes_on_where_it_was_cut_off(blocks, tmp_path) -> None:
    from xarray.testing import assert_identical

    whole = small_runs.run("atlas", tmp_path / "whole").load()
    found = small_runs.go_on("atlas", small_runs.cut_off("atlas", tmp_path / "run", blocks)).load()
    assert_identical(found.drop_attrs(), whole.drop_attrs())
    names = sorted(p.name for p in (tmp_path / "whole" / "images").iterdir())
    assert sorted(p.name for p in (tmp_path / "run" / "images").iterdir()) == names


def test_noise_gets_its_repeats_and_standard_errors(tmp_path) -> None:
    subject = Poisson(small_runs.cells(), 20, seed=1)
    run = tmp_path / "run"
    atlas(subject, None, METHODS[1:], naturals=small_runs.pictures(12), budget=60, top=2, repeats=5, save=run)
    page = AtlasPages(open_recording(run)).unit("gabor", "1")
    assert not page.noiseless
    assert [m.response.n for m in page.made] == [5]
    assert page.made[0].response.sem > 0
    assert all(p.response.n >= 5 for p in page.best)
    assert page.attributed == ""
    assert page.field is None


def test_a_black_box_is_recorded_as_it_is() -> None:
    found = atlas(small_runs.cells(), None, METHODS[1:], naturals=small_runs.pictures(4), budget=60)
    assert {k: list(v) for k, v in AtlasPages(found).keys.items()} == {"gabor": ["0", "1"]}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"layers": ["0", "nowhere"]}, "no layer 'nowhere'"),
        ({"methods": ["raw", "raw"]}, "methods: expected one or more with different labels"),
        ({"methods": ["lucyd"]}, "no method 'lucyd'"),
        ({"methods": [Contender("natural", "raw")]}, "label: expected letters"),
        ({"budget": 10}, "budget: expected 0, or at least 50"),
        ({"top": 0}, "top: expected"),
        ({"naturals": "nowhere"}, "expected a folder of images, got nowhere"),
        ({"layers": None, "units": "0-1"}, "units: expected layers beside units"),
    ],
)
def test_says_what_does_not_fit(changed, text, tmp_path) -> None:
    arguments = {"layers": ["0"], "methods": METHODS, "naturals": small_runs.pictures(4), **changed}
    with pytest.raises((InvalidArgumentError, UnknownNameError), match=text):
        atlas(small_runs.network(), save=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_subject_without_layers_says_so() -> None:
    with pytest.raises(InvalidArgumentError, match=r"layers: subject 'linear' cannot be recorded at other layers"):
        atlas(small_runs.classifier(), ["0"], METHODS[1:], naturals=small_runs.pictures(4))


def test_goes_on_with_no_other_photographs(tmp_path) -> None:
    run = tmp_path / "run"
    arguments = {"subject": small_runs.cells(), "methods": METHODS[1:], "budget": 60, "save": run}

    def stop(*_):
        raise OSError("enough")

    with pytest.raises(ObserverError, match="enough"):
        atlas(**arguments, naturals=small_runs.pictures(70), progress=stop)
    with pytest.raises(InvalidArgumentError, match="naturals: expected the naturals with which"):
        atlas(**arguments, naturals=small_runs.pictures(70, seed=1), exists="resume")


def test_every_layer_is_climbed_by_itself(filled) -> None:
    """A unit of an early layer is sought in a subject that ends there, with the same image."""
    subject = small_runs.network()
    both = atlas(subject, ["0", "output"], METHODS[:1], naturals=small_runs.pictures(4), budget=60)
    alone = atlas(subject, "0", METHODS[:1], naturals=small_runs.pictures(4), budget=60)
    one, other = (AtlasPages(r).unit("0", "2").made[0].response.mean for r in (both, alone))
    assert one == pytest.approx(other, rel=1e-3)


def test_a_named_network_is_loaded_again_at_its_layers() -> None:
    subject = load_subject("lite0", layer="output", units=0, engine="eager", weights="random")
    there = subject.at(["blocks.0", "output"], "0-1")
    assert there.recipe["layer"] == ["blocks.0", "output"]
    assert list(load_subject(**there.recipe).units.neuroid_id) == list(there.units.neuroid_id)


def test_no_presentation_is_answered() -> None:
    silent = FunctionSubject(lambda x: np.full((len(x), 2), np.nan), 2, name="silent")
    with pytest.warns(UserWarning, match="not a single response"):
        found = atlas(silent, None, METHODS[1:], naturals=small_runs.pictures(4), budget=60, top=1)
    page = AtlasPages(found).unit("responses", "0")
    assert page.best == ()
    assert page.natural.size == 0
