"""NWB: nothing for the inspector to say, and what was recorded read back by pynwb, pynapple and closedloop."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import h5py
import numpy as np
import pynapple
import pytest
import xarray as xr
from nwbinspector import inspect_nwbfile, load_config
from pynwb import NWBHDF5IO, NWBFile

from closedloop import open_recording, render, show
from closedloop.errors import InvalidArgumentError, MissingExtraError, RecordingError, WeightsError
from closedloop.formats import export
from closedloop.images.eight_bit import to_bytes
from closedloop.recording import pictures

from .conftest import assert_same, evolution

DANDI = load_config(filepath_or_keyword="dandi")


def messages(path):
    """What the inspector says of a file, of any level, in both configurations."""
    return [str(m.message) for config in (None, DANDI) for m in inspect_nwbfile(nwbfile_path=path, config=config)]


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    """The NWB file of the run."""
    return export(run, "nwb", tmp_path_factory.mktemp("nwb") / "run.nwb")


@pytest.mark.sampled(2)
def test_the_inspector_finds_nothing_and_the_recording_comes_back_exactly(any_run, tmp_path):
    path = export(any_run, "nwb", tmp_path / "run.nwb")
    assert messages(path) == []
    assert_same(open_recording(path), open_recording(any_run))


def test_the_inspector_would_find_something(run, tmp_path):
    export(run, "nwb", tmp_path / "run.nwb", experimenter="N.N.", images=False)
    assert any("experimenter 'N.N.'" in message for message in messages(tmp_path / "run.nwb"))


def test_what_pynwb_reads(run, file):
    recording = open_recording(run)
    with NWBHDF5IO(str(file), "r") as io:
        nwb = io.read()
        assert nwb.subject.species == "http://purl.obolibrary.org/obo/NCBITaxon_32630"
        assert "IN SILICO" in nwb.subject.description
        assert nwb.protocol == (run / "experiment.yaml").read_text()
        np.testing.assert_array_equal(nwb.acquisition["responses"].data[:], recording["responses"])
        trials = nwb.trials.to_dataframe()
        for name in ("thread", "kind", "stimulus_id"):
            assert trials[name].tolist() == recording[name].values.tolist()
        np.testing.assert_array_equal(trials["start_time"], recording["onset_s"])
        np.testing.assert_array_equal(trials["score"], recording["score"])
        units = nwb.processing["misc"]["neuroids"].to_dataframe()
        assert units["neuroid_id"].tolist() == ["cell.0", "cell.1", "cell.2"]
        codes = nwb.processing["misc"]["evolved_stimuli"]
        rows = codes["trial"].data[:]
        np.testing.assert_array_equal(codes["latent_code"].data[:], recording["latent_code"].values[rows])
        generations = nwb.processing["misc"]["generations"].to_dataframe()
        first = generations.iloc[0]
        own = ((recording["thread"] == "fourier") & (recording["generation"] == 0)).values
        assert (first["thread"], first["presentations"]) == ("fourier", own.sum())
        assert first["best"] == np.nanmax(recording["score"].values[own])


def test_images_are_those_that_were_shown(run, file):
    recording = open_recording(run)
    coded = np.flatnonzero((recording["thread"] != "reference").values)
    natural = np.flatnonzero((recording["thread"] == "reference").values)
    with NWBHDF5IO(str(file), "r") as io:
        nwb = io.read()
        frames = nwb.stimulus["evolved_images"]
        expected = to_bytes(render(recording, coded)).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(frames.data[:], expected)
        np.testing.assert_allclose(frames.timestamps[:], recording["onset_s"].values[coded])
        shown = nwb.stimulus["reference_presentations"]
        pictures = list(shown.indexed_images.order_of_images.data)
        np.testing.assert_allclose(shown.timestamps[:], recording["onset_s"].values[natural])
        for row, index in zip(natural, shown.data[:], strict=True):
            assert pictures[index].description == recording["stimulus_id"].values[row]
            image = to_bytes(render(recording, row))[0].transpose(1, 2, 0)
            np.testing.assert_array_equal(pictures[index].data[:], image)


@pytest.mark.parametrize("few", [False, True])
def test_pictures_are_read_from_the_file_where_none_can_be_made(run, file, tmp_path, monkeypatch, few):
    path = file
    if few:
        evolution(tmp_path / "few", images=10)
        path = export(tmp_path / "few", "nwb", tmp_path / "few.nwb")
    recording = open_recording(path)
    ids, evolved = recording["stimulus_id"].values, recording["thread"].values != "reference"
    names = ids[evolved][[0, -1, 3]].tolist()
    expected = [to_bytes(render(recording, [name]))[0].transpose(1, 2, 0) for name in names]
    monkeypatch.setattr(pictures, "render", lambda *_: pytest.fail("an image was made"))
    pictured = pictures.Pictures(recording.isel(presentation=slice(None, None, -1)))
    np.testing.assert_array_equal(pictured.several(names), expected)
    assert pictured.reference(ids[~evolved][0]).shape == expected[0].shape
    assert show(recording).axes


@pytest.mark.parametrize("written", [lambda images: images / 255, lambda images: images * np.uint16(257)])
def test_pictures_that_another_program_wrote_anew_are_not_taken_for_8_bits(run, file, tmp_path, written):
    """Fractions would be black."""
    path = tmp_path / "again.nwb"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as content:
        held = content["stimulus/presentation/evolved_images"]
        changed, about = written(held["data"][:]), dict(held["data"].attrs)
        del held["data"]
        held.create_dataset("data", data=changed).attrs.update(about)
    recording = open_recording(run)
    name = recording["stimulus_id"].values[recording["thread"].values == "fourier"][0]
    assert list(pictures.pictures_in(file, [name], reference=False)) == [name]
    assert pictures.pictures_in(path, [name], reference=False) == {}


def test_what_pynapple_reads(run, file):
    recording = open_recording(run)
    loaded = pynapple.load_file(str(file))
    responses = loaded["responses"]
    np.testing.assert_array_equal(responses.values, recording["responses"])
    np.testing.assert_allclose(responses.t, recording["onset_s"], atol=1e-9)
    trials = loaded["trials"]
    assert len(trials) == recording.sizes["presentation"]
    assert list(trials["stimulus_id"]) == recording["stimulus_id"].values.tolist()
    assert list(trials["generation"]) == recording["generation"].values.tolist()
    np.testing.assert_array_equal(np.asarray(trials["score"], float), recording["score"])


def test_few_images_are_a_set(tmp_path):
    recording = evolution(None, threads=1, images=8, references=False, retest_candidates=0)
    export(recording, "nwb", tmp_path / "run.nwb")
    with NWBHDF5IO(str(tmp_path / "run.nwb"), "r") as io:
        shown = io.read().stimulus["evolved_presentations"]
        pictures = list(shown.indexed_images.order_of_images.data)
        found = np.stack([pictures[i].data[:] for i in shown.data[:]])
    np.testing.assert_array_equal(found, to_bytes(render(recording)).transpose(0, 2, 3, 1))
    assert messages(tmp_path / "run.nwb") == []


def test_an_animal(run, tmp_path):
    facts = {"species": "Macaca mulatta", "sex": "F", "age": "P8Y", "subject_id": "monkey-A"}
    began = datetime(2024, 5, 17, 9, 30, tzinfo=UTC)
    options = {"experimenter": "Ponce, Carlos", "institution": "A lab", "session_start": began, "images": False}
    export(run, "nwb", tmp_path / "run.nwb", subject=facts, **options)
    with NWBHDF5IO(str(tmp_path / "run.nwb"), "r") as io:
        nwb = io.read()
        assert (nwb.subject.species, nwb.session_start_time) == ("Macaca mulatta", began)
        assert not nwb.devices
        assert "silico" not in " ".join([nwb.session_description, nwb.data_collection, *nwb.keywords]).lower()
        assert "evolved_images" not in nwb.stimulus
    assert messages(tmp_path / "run.nwb") == []
    assert_same(open_recording(tmp_path / "run.nwb"), open_recording(run))


def test_times_that_were_not_recorded(run, tmp_path):
    recording = open_recording(run).load()
    recording["onset_s"] = recording["onset_s"] * np.nan
    export(recording, "nwb", tmp_path / "run.nwb", images=False)
    assert messages(tmp_path / "run.nwb") == []
    assert_same(open_recording(tmp_path / "run.nwb"), recording)


def test_what_is_not_one_run(run, tmp_path):
    recording = open_recording(run)
    joined = recording.assign_coords(seed=("presentation", np.arange(recording.sizes["presentation"])))
    for wrong, message in (
        (joined, r"expected one run, got several joined \(they differ in seed\)"),
        (recording.assign(extra=("neuroid", [1.0, 2.0, 3.0])), "got also extra; drop them first"),
        (recording.isel(presentation=slice(0)), "at least one presentation"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            export(wrong, "nwb", tmp_path / "run.nwb")
    with pytest.raises(InvalidArgumentError, match=r"subject: not what pynwb\.file\.Subject takes"):
        export(run, "nwb", tmp_path / "run.nwb", subject={"whiskers": 24})
    assert not any(tmp_path.iterdir())


def test_further_variables_are_read_back(run, tmp_path):
    recording = open_recording(run)
    n = recording.sizes["presentation"]
    curves = np.random.default_rng(0).random((n, 4), dtype=np.float32)
    recording = recording.assign(
        curve=(("presentation", "point"), curves), cost=("presentation", np.arange(n, dtype=np.int16))
    )
    for to, name in (("nwb", "run.nwb"), ("netcdf", "run.nc")):
        xr.testing.assert_identical(open_recording(export(recording, to, tmp_path / name)).load(), recording.load())


def test_other_and_damaged_files(file, tmp_path):
    other = NWBFile("a session", "x", datetime.now().astimezone())
    with NWBHDF5IO(str(tmp_path / "other.nwb"), "w") as io:
        io.write(other)
    with pytest.raises(RecordingError, match=r"other\.nwb: an NWB file, but not a recording of closedloop"):
        open_recording(tmp_path / "other.nwb")
    data = file.read_bytes()
    for name, content in (("half.nwb", data[: len(data) // 2]), ("text.nwb", b"no HDF5"), ("empty.nwb", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordingError, match=f"{name}: cannot read it as NWB"):
            open_recording(tmp_path / name)


def test_notes_are_json(run, file):
    with NWBHDF5IO(str(file), "r") as io:
        notes = json.loads(io.read().notes)
    assert notes["scalars"]["seed"] == [4, "int64"]
    assert notes["evolution"]["evolution"] == open_recording(run)["evolution"].values.tolist()
    assert notes["closedloop_schema"] == 3


def test_the_extra_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynwb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[nwb\]'"):
        export(run, "nwb", tmp_path / "run.nwb")


@pytest.mark.parametrize("part", [[0, 2, 3], slice(None, None, 3), [5], [0, 40]])
def test_trials_of_a_part_are_as_long_as_presentations(run, tmp_path, part):
    recording = open_recording(run).isel(presentation=part)
    export(recording, "nwb", tmp_path / "x.nwb", images=False)
    with NWBHDF5IO(str(tmp_path / "x.nwb"), "r") as io:
        trials = io.read().trials
        lengths = trials["stop_time"][:] - trials["start_time"][:]
    np.testing.assert_allclose(lengths, 0.2, atol=2e-6)
    assert_same(open_recording(tmp_path / "x.nwb"), recording.load())


@pytest.mark.parametrize("order", [[3, 1, 2], [2, 2], slice(None, None, -1)])
def test_presentations_out_of_order_are_refused(run, tmp_path, order):
    recording = open_recording(run).isel(presentation=order)
    with pytest.raises(InvalidArgumentError, match=r"is in the order of time; sort them \(recording.sortby"):
        export(recording, "nwb", tmp_path / "x.nwb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [MissingExtraError, WeightsError])
def test_images_that_cannot_be_made_here_can_be_left_out(run, tmp_path, monkeypatch, kind):
    def cannot(*args, **sources):
        raise kind("generator 'native' needs torch; install it: pip install torch")

    monkeypatch.setattr("closedloop.formats.nwb.render", cannot)
    with pytest.raises(
        kind, match=r"pip install torch; or write the file without images: images=False \(--no-images\)"
    ):
        export(run, "nwb", tmp_path / "run.nwb")
    assert not list(tmp_path.iterdir())
    assert_same(open_recording(export(run, "nwb", tmp_path / "run.nwb", images=False)), open_recording(run))
