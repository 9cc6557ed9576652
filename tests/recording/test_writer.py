"""The store: what is written is read back, commits are all or nothing, and damage is named."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from PIL import Image

from closedloop import load_optimizer
from closedloop.errors import RecordingError, SubjectError
from closedloop.files import do_together
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Space, Units
from closedloop.protocols import evolve
from closedloop.recording.layout import PRESENTATION, Layout, Rows, Variable, is_run
from closedloop.recording.pointer import pointer_bytes
from closedloop.recording.reader import open_recording, read_experiment, read_pointer
from closedloop.recording.references import read_references, reference_files, stored_references
from closedloop.recording.store import row_values
from closedloop.recording.writer import Recording
from closedloop.subjects import GaborSubject

UNITS = Units(("cell.a", "cell.b"), {"layer": ("x", "y"), "channel": (3, 7), "rf_size": (1.5, np.nan)})
SCALARS = {"subject": "cell", "seed": 4, "closedloop_version": "0"}


def layout(capacity=20, latent=3, units=UNITS, scalars=SCALARS):
    return Layout(capacity, latent, units, scalars)


def rows(n=4, generation=0, seed=0, time=None, latent=3, dtype=np.float64, images=None):
    rng = np.random.default_rng(seed + generation)
    shape = (n, 2) if time is None else (n, 2, time)
    coords = {
        "thread": np.array([("main", "other ü")[i % 2] for i in range(n)]),
        "generation": np.full(n, generation, np.int32),
        "kind": np.full(n, "evolved"),
        "stimulus_id": np.array([f"g{generation}-{i}" for i in range(n)]),
        "repeat": np.arange(n, dtype=np.int32),
        "onset_s": rng.random(n),
    }
    codes = rng.standard_normal((n, latent)) * 1e-17
    return Rows(coords, rng.standard_normal(shape).astype(dtype), codes, rng.random(n), images or {})


def create(folder, **options):
    return Recording.create(folder, layout(**options), {"protocol": "evolve", "note": "ü"})


def written(folder, generations=2, **options):
    """A recording with some generations; its lock is given back."""
    recording = create(folder)
    for g in range(generations):
        recording.append(rows(generation=g, **options), {"g": g})
    recording.close()
    return folder


def assert_holds(found, *parts):
    """That a dataset holds these rows, bit by bit."""
    for name in PRESENTATION:
        expected = np.concatenate([p.coords[name] for p in parts])
        assert found[name].dims == ("presentation",)
        assert found[name].values.tolist() == expected.tolist()
    np.testing.assert_array_equal(found["responses"], np.concatenate([p.responses for p in parts]))
    np.testing.assert_array_equal(found["latent_code"], np.concatenate([p.codes for p in parts]))
    np.testing.assert_array_equal(found["score"], np.concatenate([p.scores for p in parts]))


@pytest.fixture(params=["disk", "memory"])
def place(request, tmp_path):
    return tmp_path / "run" if request.param == "disk" else None


def test_what_is_written_is_read(place):
    recording = create(place)
    with pytest.raises(RecordingError, match="nothing is recorded yet"):
        recording.dataset()
    recording.append(rows(4, 0), {"a": 1})
    recording.append(rows(5, 1), {"a": 2})
    found = recording.dataset()
    assert_holds(found, rows(4, 0), rows(5, 1))
    assert found["responses"].dims == ("presentation", "neuroid")
    assert found["latent_code"].dims == ("presentation", "latent")
    assert found["latent_code"].dtype == np.float64
    assert found["generation"].dtype == np.int32
    assert found["neuroid_id"].values.tolist() == ["cell.a", "cell.b"]
    assert found["channel"].values.tolist() == [3, 7]
    np.testing.assert_array_equal(found["rf_size"], [1.5, np.nan])
    assert {n: found[n].item() for n in SCALARS} == SCALARS
    assert set(found.data_vars) == {"responses", "latent_code", "score"}
    assert (found.attrs["n_generations"], found.attrs["finished"]) == (2, 0)
    recording.finish({})
    recording.close()
    assert recording.dataset().attrs["finished"] == 1


@pytest.mark.parametrize(("dtype", "time"), [(np.float32, None), (np.float16, 3), (np.float64, 5)])
def test_precision_and_time_axis(place, dtype, time):
    recording = create(place)
    part = rows(dtype=dtype, time=time)
    part.responses[1] = np.nan
    recording.append(part, {})
    found = recording.dataset()["responses"]
    assert found.dtype == dtype
    assert found.dims == ("presentation", "neuroid", "time_bin")[: part.responses.ndim]
    np.testing.assert_array_equal(found, part.responses)
    recording.check(part.responses)
    with pytest.raises(SubjectError, match=r"expected responses of shape .* as before, got"):
        recording.check(part.responses[:, :1])
    with pytest.raises(RecordingError, match=r"responses had shape .* for each presentation before, now"):
        recording.append(rows(dtype=dtype, time=7), {})
    recording.close()


def test_without_codes(place):
    recording = create(place, latent=0)
    recording.append(rows(latent=0), {})
    assert "latent_code" not in recording.dataset()
    recording.close()


def test_more_than_was_announced(place):
    recording = create(place, capacity=6)
    recording.append(rows(4), {})
    with pytest.raises(RecordingError, match="expected at most 6 presentations, got 8"):
        recording.append(rows(4), {})
    recording.close()


def test_coordinates_of_mixed_types_become_text(place):
    recording = create(place, units=Units(("a", "b"), {"y": (None, 3)}))
    recording.append(rows(), {})
    assert recording.dataset()["y"].values.tolist() == ["None", "3"]
    recording.close()


def test_going_on_with_a_run(tmp_path):
    folder = written(tmp_path / "run")
    recording = Recording.reopen(folder)
    assert recording.n_presentations == 8
    assert recording.state() == {"g": 1}
    recording.append(rows(3, 2), {"g": 2})
    recording.close()
    assert_holds(open_recording(folder), rows(4, 0), rows(4, 1), rows(3, 2))
    assert len(list((folder / "state").iterdir())) == 2


def test_reopened_before_the_first_commit(tmp_path):
    create(tmp_path / "run").close()
    recording = Recording.reopen(tmp_path / "run")
    assert recording.state() is None
    with pytest.raises(RecordingError, match="no layout"):
        recording.append(rows(), {})
    recording.use(layout())
    recording.append(rows(), {})
    assert_holds(recording.dataset(), rows())
    recording.close()


def test_rows_of_an_unfinished_generation_do_not_count(tmp_path):
    folder = written(tmp_path / "run")
    recording = Recording.reopen(folder)
    cut_off = recording._store.append(recording.n_presentations, row_values(rows(6, 2, seed=50)))
    do_together([task for one in cut_off for task in one.tasks])
    recording.close()
    assert_holds(open_recording(folder), rows(4, 0), rows(4, 1))
    recording = Recording.reopen(folder)
    again = rows(4, 2)
    again.responses[:] = np.nan
    recording.append(again, {})
    recording.close()
    assert_holds(open_recording(folder), rows(4, 0), rows(4, 1), again)


def test_elapsed_time_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("closedloop.recording.writer.time.monotonic", lambda: 100.0)
    recording = create(tmp_path / "run")
    monkeypatch.setattr("closedloop.recording.writer.time.monotonic", lambda: 107.5)
    recording.append(rows(), {})
    recording.close()
    monkeypatch.setattr("closedloop.recording.writer.time.monotonic", lambda: 2.0)
    recording = Recording.reopen(tmp_path / "run")
    monkeypatch.setattr("closedloop.recording.writer.time.monotonic", lambda: 4.0)
    recording.finish({})
    recording.close()
    assert open_recording(tmp_path / "run").attrs["elapsed_s"] == 9.5


def test_images_are_files(tmp_path):
    image = np.random.default_rng(0).random((3, 5, 4), dtype=np.float32)
    recording = create(tmp_path / "run")
    recording.append(rows(images={"g0-1": image}), {})
    recording.close()
    with Image.open(tmp_path / "run" / "images" / "g0-1.png") as stored:
        np.testing.assert_array_equal(np.asarray(stored), np.rint(image * 255).transpose(1, 2, 0))


# What other programs see ----------------------------------------------------------------------------------------------


def test_xarray_and_zarr_open_the_data_directly(tmp_path):
    folder = written(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        direct = xr.open_zarr(folder / "data.zarr")
    assert direct.sizes["presentation"] == 20
    found = open_recording(folder)
    np.testing.assert_array_equal(direct["responses"][:8], found["responses"])
    assert np.isnan(direct["responses"][8:]).all()
    numbers, texts = list(direct.attrs["numbers"]), direct.attrs["texts"]
    np.testing.assert_array_equal(direct["numbers"][:8, numbers.index("score")], found["score"])
    assert np.isnan(direct["numbers"][8:]).all()
    assert direct["texts"][:8, texts.index("stimulus_id")].values.tolist() == found["stimulus_id"].values.tolist()
    assert (direct["texts"][8:] == "").all()
    assert direct.attrs["run"] == SCALARS
    assert zarr.open_group(folder / "data.zarr", mode="r")["numbers"].shape == (20, 4)


def test_reading_is_lazy(tmp_path):
    found = open_recording(written(tmp_path / "run"))
    assert not found["responses"].variable._in_memory
    assert not found["latent_code"].variable._in_memory


def test_two_runs_stay_apart_when_joined(tmp_path):
    parts = []
    for seed in (4, 5):
        recording = create(tmp_path / f"run-{seed}", scalars={**SCALARS, "seed": seed})
        recording.append(rows(4, 0, seed=seed), {})
        recording.close()
        parts.append(open_recording(tmp_path / f"run-{seed}"))
    both = xr.concat(parts, dim="presentation", data_vars="minimal", coords="different", compat="equals", join="exact")
    assert both.sizes == {"presentation": 8, "neuroid": 2, "latent": 3}
    assert both["seed"].values.tolist() == [4] * 4 + [5] * 4
    assert both["subject"].item() == "cell"


def test_further_variables(place):
    """Arrays of any shape and numbers, each with a row for each presentation; beside what every run holds."""
    known = {
        "image": Variable("uint8", 0, ("rgb", "row", "col"), (3, 4, 4)),
        "curve": Variable("float64", np.nan, ("point",), (5,)),
        "cost": Variable("float32", np.nan),
    }
    recording = Recording.create(place, replace(layout(), variables=known), {})
    parts = []
    for g in range(2):
        rng = np.random.default_rng(g)
        values = {
            "image": rng.integers(0, 256, (4, 3, 4, 4), np.uint8),
            "curve": rng.random((4, 5)),
            "cost": rng.random(4).astype(np.float32),
        }
        parts.append(replace(rows(4, g), variables=values))
        recording.append(parts[-1], {})
    found = recording.dataset()
    recording.close()
    assert_holds(found, *parts)
    for name, variable in known.items():
        assert found[name].dims == ("presentation", *variable.dims)
        assert found[name].dtype == variable.dtype
        np.testing.assert_array_equal(found[name], np.concatenate([p.variables[name] for p in parts]))


def test_numbers_that_float64_does_not_hold_keep_their_bits(place):
    large = np.array([2**62 + 1, -(2**62) - 1, 3, -1])
    recording = Recording.create(place, replace(layout(), coords={"seed_of_unit": ("int64", -1)}), {})
    part = rows()
    recording.append(replace(part, coords={**part.coords, "seed_of_unit": large}), {})
    found = recording.dataset()
    recording.close()
    assert found["seed_of_unit"].dtype == np.int64
    assert found["seed_of_unit"].values.tolist() == large.tolist()
    assert "seed_of_unit" in found.coords


class Codes512:
    """A generator of codes as long as those of `native`."""

    name, space, resolution = "codes", Space(512), 16

    def __call__(self, codes):
        values = codes.reshape(len(codes), -1, 2).mean(2)[:, None]
        shown = 0.5 + 0.5 * np.tanh(values.reshape(len(codes), 1, 16, 16))
        return np.repeat(shown, 3, 1).astype(np.float32)


def test_a_run_of_300_images_is_small(tmp_path):
    """At most 25 files and 300 kB beside codes, state and pictures; the figure of `show` is one more file."""
    generator = Codes512()
    evolve(
        GaborSubject(resolution=16, count=1, seed=0),
        generator,
        load_optimizer("auto", generator.space, seed=1, images=300),
        images=300,
        save=tmp_path / "run",
    )
    found = open_recording(tmp_path / "run")
    assert 290 <= int((found["kind"] == "evolved").sum()) <= 300
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file() and p.suffix != ".png"]
    lean = [p for p in files if "latent_code" not in p.parts and "state" not in p.parts]
    assert len(files) < 25
    assert sum(p.stat().st_size for p in lean) <= 300_000


def test_to_netcdf(tmp_path):
    found = open_recording(written(tmp_path / "run")).load()
    found.to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as read:
        for name in found.variables:
            np.testing.assert_array_equal(read[name].values, found[name].values, err_msg=name)


# Folders and locks ----------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_something(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(
        RecordingError, match=r"expected a new or empty folder, got .*mine, which holds something; choose"
    ):
        create(tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(RecordingError, match=r"thesis\.txt, which is a file"):
        create(tmp_path / "mine" / "thesis.txt")
    folder = written(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(RecordingError, match=f"or go on with it: closedloop resume {folder}"):
        create(folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_an_empty_folder_and_the_rest_of_a_failed_birth_are_free(tmp_path):
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty").close()
    (tmp_path / "rest").mkdir()
    (tmp_path / "rest" / "LOCK").touch()
    (tmp_path / "rest" / "experiment.yaml.partial").write_text("half")
    create(tmp_path / "rest").close()
    assert read_experiment(tmp_path / "rest") == {"protocol": "evolve", "note": "ü"}


def test_one_writer_at_a_time(tmp_path):
    recording = create(tmp_path / "run")
    recording.append(rows(), {})
    with pytest.raises(RecordingError, match=r"this process is writing this run already; close\(\) what has it open"):
        Recording.reopen(tmp_path / "run")
    assert_holds(open_recording(tmp_path / "run"), rows())
    recording.close()
    Recording.reopen(tmp_path / "run").close()


def test_a_failed_reopening_frees_the_lock(tmp_path):
    folder = written(tmp_path / "run")
    pointer = (folder / "COMMITTED.json").read_text()
    (folder / "COMMITTED.json").write_text("{}")
    with pytest.raises(RecordingError, match=r"cannot read COMMITTED\.json") as caught:
        Recording.reopen(folder)
    (folder / "COMMITTED.json").write_text(pointer)
    Recording.reopen(folder).close()
    assert caught.value


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            RecordingError, match=r"cannot write \(No space left on device\). No generation was finished"
        ) as caught:
            create(tmp_path / "run")
    assert not is_run(tmp_path / "run")
    create(tmp_path / "run").close()
    assert caught.value


@pytest.mark.parametrize("call", ["reopen", "experiment", "open"])
def test_not_a_run(tmp_path, call):
    read = {"reopen": Recording.reopen, "experiment": read_experiment, "open": open_recording}[call]
    with pytest.raises(RecordingError, match="not a run of closedloop"):
        read(tmp_path)
    with pytest.raises(RecordingError, match="not a run of closedloop"):
        read(tmp_path / "nowhere")
    assert not any(tmp_path.iterdir())


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fail_at", range(6))
@pytest.mark.parametrize("call", ["replace", "fsync", "fdatasync"])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, fail_at, call):
    folder = written(tmp_path / "run")
    recording = Recording.reopen(folder)
    genuine, left = getattr(os, call), [fail_at]

    def sometimes(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return genuine(*arguments, **options)

    third = rows(4, 2, images={"g2-0": np.zeros((3, 2, 2), np.float32)})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, sometimes)
        try:
            recording.append(third, {"g": 2})
            failed = False
        except RecordingError as error:
            failed = True
            message = str(error)
    recording.close()
    if failed:
        assert "No space left on device" in message
        assert f"Every finished generation is safe; make room, then go on with: closedloop resume {folder}" in message
        assert left[0] < 0
    held = open_recording(folder).attrs["n_generations"]
    assert held == 3 if not failed else held in (2, 3)
    assert_holds(open_recording(folder), *[rows(4, 0), rows(4, 1), third][:held])
    recording = Recording.reopen(folder)
    assert recording.state() == {"g": held - 1}
    if held == 2:
        recording.append(third, {"g": 2})
    recording.close()
    assert_holds(open_recording(folder), rows(4, 0), rows(4, 1), third)


def test_the_pointer_outlives_no_data(tmp_path, monkeypatch):
    """Each file is on the disk before it gets its name, and all of them before the pointer."""
    recording = create(tmp_path / "run")
    recording.append(rows(4, 0), {})
    done = []
    sync, rename = os.fsync, Path.replace

    def watch_sync(descriptor):
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).relative_to(tmp_path / 'run')}")
        sync(descriptor)

    def watch_rename(path, target):
        done.append(f"rename {Path(target).relative_to(tmp_path / 'run')}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watch_sync)
    monkeypatch.setattr(os, "fdatasync", watch_sync)
    monkeypatch.setattr(Path, "replace", watch_rename)
    recording.append(rows(5, 1), {})
    monkeypatch.undo()
    recording.close()
    renames = [entry for entry in done if entry.startswith("rename")]
    assert not any("data.zarr" in entry for entry in renames)  # rows go into files that are there
    assert "rename state/000002.npz" in renames
    for entry in renames:
        assert done.index(entry.replace("rename", "sync") + ".partial") < done.index(entry)
    pointer = done.index("sync COMMITTED.json.partial")
    assert done[pointer + 1 :] == ["rename COMMITTED.json", "sync ."]
    arrays = {f"sync data.zarr/{name}/c.0.0" for name in ("responses", "latent_code", "numbers", "texts")}
    assert {"sync state", *arrays} <= set(done[:pointer])
    assert max(i for i, entry in enumerate(done) if entry.startswith("rename state")) < done.index("sync state")


# Damage ---------------------------------------------------------------------------------------------------------------


WHOLE = {"schema": 1, "n_presentations": 8, "n_generations": 2, "finished": False, "elapsed_s": 1, "state": "x"}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": "x"}', "\udcff"]
    + [json.dumps({**WHOLE, **wrong}) for wrong in ({"n_presentations": -1}, {"finished": 3}, {"state": None})],
)
def test_a_damaged_pointer(tmp_path, content):
    folder = written(tmp_path / "run")
    (folder / "COMMITTED.json").write_bytes(content.encode(errors="surrogateescape"))
    for read in (read_pointer, open_recording, Recording.reopen):
        with pytest.raises(RecordingError, match=r"cannot read COMMITTED\.json"):
            read(folder)


def test_a_newer_schema(tmp_path):
    folder = written(tmp_path / "run")
    (folder / "COMMITTED.json").write_text(json.dumps({"schema": 5, "something": "else"}))
    for read in (read_pointer, open_recording, Recording.reopen):
        with pytest.raises(RecordingError, match=r"newer closedloop \(schema 5, this one knows 4\); update it"):
            read(folder)


CHUNKS = ["responses/c.0.0", "latent_code/c.0.0", "numbers/c.0.0", "texts/c.0.0", "zarr.json"]


def spoil(file, damage):
    data = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "half":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[min(len(data) // 3, 20)] ^= 1  # among the rows that count
        file.write_bytes(data)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("damage", ["gone", "half", "one bit"])
def test_a_damaged_chunk_is_never_read_as_data(tmp_path, chunk, damage):
    folder = written(tmp_path / "run")
    spoil(folder / "data.zarr" / chunk, damage)
    before = written_at(folder)
    words = {"gone": "is missing", "half": "is cut short", "one bit": r"is damaged \(its checksum"}[damage]
    with pytest.raises(RecordingError, match=f"{chunk} {words}"):
        open_recording(folder).load()
    if damage != "one bit":
        with pytest.raises(RecordingError, match=f"{chunk} {words}"):
            Recording.reopen(folder)
    assert written_at(folder) == before


def written_at(folder):
    """When each file was written, but for the lock, which some versions of filelock write anew as they take it."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != "LOCK"}


def test_a_chunk_that_is_lost_after_opening_is_noticed(tmp_path):
    folder = written(tmp_path / "run")
    found = open_recording(folder)
    (folder / "data.zarr" / "responses" / "c.0.0").unlink()
    with pytest.raises(RecordingError, match=r"responses/c\.0\.0 is missing; restore it"):
        found["responses"].load()
    assert np.isfinite(found["latent_code"]).all()


@pytest.mark.parametrize("damage", ["gone", "half", "one bit"])
def test_damaged_checksums(tmp_path, damage):
    folder = written(tmp_path / "run")
    spoil(folder / "CHECKSUMS", damage)
    for read in (open_recording, Recording.reopen):
        with pytest.raises(RecordingError, match=r"cannot read data\.zarr \(.*CHECKSUMS"):
            read(folder)


def test_checksums_are_those_of_other_programs(tmp_path):
    folder = written(tmp_path / "run", generations=3)
    last = {}
    lines = (folder / "CHECKSUMS").read_text().splitlines()
    for line in lines + json.loads((folder / "COMMITTED.json").read_text())["open"]:
        digest, size, _, name = line.split(" ", 3)
        last[name] = (digest, int(size))
    digest, size = last.pop("/experiment.yaml")  # what lies beside the data
    assert (digest, size) == (
        hashlib.sha256((folder / "experiment.yaml").read_bytes()).hexdigest(),
        (folder / "experiment.yaml").stat().st_size,
    )
    files = {p.relative_to(folder / "data.zarr").as_posix() for p in (folder / "data.zarr").rglob("*") if p.is_file()}
    assert set(last) == files
    for name, (digest, size) in last.items():
        assert hashlib.sha256((folder / "data.zarr" / name).read_bytes()[:size]).hexdigest() == digest


def test_checksums_go_on_after_a_failed_commit(tmp_path, monkeypatch):
    """In the same process, at the very first commit and at a later one."""
    recording = create(tmp_path / "run")
    for generation in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr("closedloop.recording.writer.pack_state", lambda state: 1 / 0)
            with pytest.raises(ZeroDivisionError, match="division"):
                recording.append(rows(7, generation, seed=9), {})
        recording.append(rows(4, generation), {})
    recording.close()
    assert_holds(open_recording(tmp_path / "run").load(), rows(4, 0), rows(4, 1))
    Recording.reopen(tmp_path / "run").close()


def test_other_things_than_runs_are_named(tmp_path):
    folder = written(tmp_path / "run")
    zarr.open_group(tmp_path / "other", mode="w").create_array("x", shape=(3,), dtype="f4")
    (tmp_path / "text").write_text("no run")
    for path, message in (
        (folder / "data.zarr", f"the data of one; open its folder, {folder}"),
        (tmp_path / "other", r"another zarr store; open it with xarray\.open_zarr"),
        (tmp_path / "nowhere", "there is no such folder or file"),
        (tmp_path / "text", r"expected a run's folder, or a file ending in \.zip, \.nc or \.nwb"),
    ):
        with pytest.raises(RecordingError, match=message):
            open_recording(path)


@pytest.mark.parametrize("damage", ["gone", "half", "empty"])
def test_a_damaged_state(tmp_path, damage):
    folder = written(tmp_path / "run")
    file = folder / "state" / "000002.npz"
    data = file.read_bytes()
    file.unlink() if damage == "gone" else file.write_bytes(data[: len(data) // 2] if damage == "half" else b"")
    recording = Recording.reopen(folder)
    with pytest.raises(
        RecordingError, match=r"cannot go on, for state/000002.npz cannot be read .* open_recording reads"
    ):
        recording.state()
    recording.close()
    assert_holds(open_recording(folder), rows(4, 0), rows(4, 1))


@pytest.mark.parametrize(
    "damage", ["data.zarr", "data.zarr/zarr.json", "data.zarr/texts/zarr.json", "data.zarr/texts/c.0.0"]
)
def test_missing_parts_of_the_store(tmp_path, damage):
    folder = written(tmp_path / "run")
    target = folder / damage
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(RecordingError, match=r"cannot read data.zarr .* incomplete or damaged"):
        open_recording(folder)


def test_a_truncated_chunk_of_text(tmp_path):
    folder = written(tmp_path / "run")
    chunk = folder / "data.zarr" / "texts" / "c.0.0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(RecordingError, match=r"cannot read data.zarr"):
        open_recording(folder)


def test_a_store_that_lacks_an_array_cannot_be_gone_on_with(tmp_path):
    folder = written(tmp_path / "run")
    shutil.rmtree(folder / "data.zarr" / "numbers")
    with pytest.raises(RecordingError, match=r"cannot read data.zarr \(numbers/.* is missing\)"):
        Recording.reopen(folder)


def test_more_rows_than_the_store_holds(tmp_path):
    folder = written(tmp_path / "run")
    pointer = json.loads((folder / "COMMITTED.json").read_text())
    for rows_named in (12, 21):
        (folder / "COMMITTED.json").write_bytes(pointer_bytes({**pointer, "n_presentations": rows_named}))
        with pytest.raises(
            RecordingError, match=f"{rows_named} presentations are committed, but some of them are missing"
        ):
            open_recording(folder)


@pytest.mark.parametrize(
    ("content", "message"), [(b"a: [", "cannot read"), (b"\xff\xfe\xfa", "cannot read"), (b"5", "holds no")]
)
def test_a_damaged_experiment(tmp_path, content, message):
    folder = written(tmp_path / "run")
    (folder / "experiment.yaml").write_bytes(content)
    for read in (read_experiment, open_recording):
        with pytest.raises(RecordingError, match=r"experiment\.yaml is damaged \(its checksum"):
            read(folder)
    (folder / "COMMITTED.json").unlink()  # a run of an older version, begun and no more
    (folder / "CHECKSUMS").unlink()
    with pytest.raises(RecordingError, match=message):
        read_experiment(folder)


# Reference images -----------------------------------------------------------------------------------------------------


def references():
    values = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8)).astype(np.float32) / np.float32(255)
    return ImageSet(("zebra", "a/b: ü", "cat"), values)


def write_references(folder, images):
    """As the first versions left them: without checksums."""
    (folder / "references").mkdir(exist_ok=True)
    for name, data in reference_files(images).items():
        (folder / name).write_bytes(data)


def test_references_are_kept_exactly_and_in_their_order(tmp_path):
    assert read_references(tmp_path) is None
    write_references(tmp_path, references())
    found = read_references(tmp_path)
    assert found.ids == references().ids
    np.testing.assert_array_equal(found.images, references().images)
    assert stored_references(tmp_path / "references").ids == references().ids
    assert stored_references(tmp_path) is None


def test_references_half_written_do_not_count(tmp_path):
    write_references(tmp_path, references())
    (tmp_path / "references" / "ids.json").unlink()
    assert read_references(tmp_path) is None
    write_references(tmp_path, references())
    assert read_references(tmp_path).ids == references().ids


@pytest.mark.parametrize("content", ["{", "5", '["a"]', '["a", "a", "b"]'])
def test_damaged_references(tmp_path, content):
    write_references(tmp_path, references())
    (tmp_path / "references" / "ids.json").write_text(content)
    with pytest.raises(RecordingError, match="cannot read the reference images"):
        read_references(tmp_path)
