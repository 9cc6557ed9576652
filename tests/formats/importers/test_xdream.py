"""Result folders of XDream: the layout that its code writes, values in their places, and nothing that runs code."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import open_recording, render, summarize
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.formats.importers import import_xdream
from closedloop.protocols import resume
from tests.strange_folders import read_or_refused

PARAMETERS = {
    "class": "CNNExperiment", "nthreads": 1,
    "optimizer": {"class": "Genetic", "generator_name": "deepsim-fc6", "optimizer_random_seed": 13},
    "scorer": {"class": "NoIOCNNScorer", "target_neuron": ("caffenet", "fc8", 7)},
}  # fmt: skip


def step(folder, number, ids, scores, kind="scores_step", **more):
    np.savez(folder / f"{kind}{number:03d}.npz", image_ids=ids, scores=scores, **more)


def network_run(folder, steps=3, n=4):
    """As `CNNExperiment` writes it with ``write_codes=True``, references scored once at the beginning."""
    rng = np.random.default_rng(1)
    step(folder, 0, ["bagel", "golfball"], np.array([0.5, 0.25]))
    codes, scores = {}, []
    for g in range(steps):
        ids = [f"gen{g:03d}_{g * n + i:06d}" for i in range(n)]
        scores.append(rng.random(n))
        step(folder, g + 1, ids, scores[-1])
        for name in ids:
            codes[name] = rng.standard_normal(6)
            np.save(folder / f"{name}.npy", codes[name].reshape(2, 3))
    (folder / "parameters.txt").write_text(str(PARAMETERS))
    return codes, np.concatenate(scores)


def test_a_run_on_a_network(tmp_path):
    (tmp_path / "results").mkdir()
    codes, scores = network_run(tmp_path / "results")
    recording = import_xdream(tmp_path / "results", tmp_path / "run")
    again = open_recording(tmp_path / "run")
    assert again.equals(recording)
    evolved = recording.isel(presentation=np.flatnonzero((recording["kind"] == "evolved").values))
    assert evolved["stimulus_id"].values.tolist() == list(codes)
    np.testing.assert_array_equal(evolved["latent_code"], np.stack(list(codes.values())))
    np.testing.assert_array_equal(evolved["score"], scores)
    np.testing.assert_array_equal(evolved["responses"][:, 0], scores)
    assert evolved["generation"].values.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    survey = recording.isel(presentation=np.flatnonzero((recording["generation"] == -1).values))
    assert survey["stimulus_id"].values.tolist() == ["bagel", "golfball"]
    assert survey["kind"].values.tolist() == ["reference"] * 2
    assert survey["responses"].values.ravel().tolist() == [0.5, 0.25]
    assert np.isnan(survey["score"]).all()
    assert np.isnan(recording["onset_s"]).all()
    evolving = ("generator", "optimizer", "objective", "evolution")
    facts = {n: recording[n].item() for n in ("subject", "seed")}
    facts |= {n: recording[n].values.tolist() for n in evolving}
    assert facts == {
        "subject": "caffenet.fc8.7", "generator": ["deepsim-fc6"], "optimizer": ["Genetic"], "objective": ["unit(0)"],
        "evolution": ["main"], "seed": 13,
    }  # fmt: skip
    assert recording.attrs["finished"] == 1
    assert "NoIOCNNScorer" in recording.attrs["experiment"]


def test_what_one_does_with_it(tmp_path):
    network_run(tmp_path)
    recording = import_xdream(tmp_path, tmp_path / "run")
    assert summarize(recording)[0].noisy_maximum == recording["score"].max()
    with pytest.raises(InvalidArgumentError, match=r"XDream: deepsim-fc6.* has no name to load it by; hand it over"):
        render(recording, 5)
    assert resume(tmp_path / "run").equals(recording)


def test_a_session_at_the_rig(tmp_path):
    """As `EphysExperiment` writes it: two threads, a channel for each, repeats, lost presentations, references."""
    folder = tmp_path / "backup"
    rng = np.random.default_rng(2)
    for t in range(2):
        (folder / f"thread{t:02d}").mkdir(parents=True)
    ids = [f"thread{t:02d}_gen000_{i:06d}" for t in range(2) for i in range(2)] + ["face", "house"]
    shown = np.array([3, 1, 2, 0, 2, 1])
    single = np.full((6, 2, 3), np.nan)
    for i, n in enumerate(shown):
        single[i, :, :n] = rng.random((2, n))
    means = np.array([[np.nan if n == 0 else s[:n].mean() for s in single[i]] for i, n in enumerate(shown)])
    step(folder, 4, np.array(ids), means, "scores_end_block", scores_reps=single, nscores=shown)
    for name in ids[:4]:
        np.save(folder / name[:8] / f"{name}.npy", np.full(3 + int(name[7]), float(name[-1])))
    (folder / "parameters.txt").write_text("{'scorer': {'channel': Ellipsis}}")
    recording = import_xdream(tmp_path)
    assert recording["stimulus_id"].values.tolist() == [
        n for n, k in zip(ids, np.maximum(shown, 1), strict=True) for _ in range(k)
    ]
    assert recording["repeat"].values.tolist() == [0, 1, 2, 0, 0, 1, 0, 0, 1, 0]
    assert recording["thread"].values.tolist() == ["thread00"] * 4 + ["thread01"] * 3 + ["reference"] * 3
    np.testing.assert_array_equal(recording["responses"][:3], single[0].T)
    assert np.isnan(recording["responses"][6]).all()
    np.testing.assert_array_equal(recording["score"][:7], [*[means[0, 0]] * 3, means[1, 0], *[means[2, 1]] * 2, np.nan])
    assert recording["objective"].values.tolist() == ["unit(0)", "unit(1)"]
    np.testing.assert_array_equal(recording["latent_code"][4], [0, 0, 0, 0])
    np.testing.assert_array_equal(recording["latent_code"][3], [1, 1, 1, np.nan])
    assert recording["optimizer"].values.tolist() == ["unknown", "unknown"]


def test_channels_that_are_pooled(tmp_path):
    ids = [f"thread{t:02d}_gen000_{i:06d}" for t in range(2) for i in range(3)]
    scores = np.random.default_rng(3).random((6, 2, 4))
    step(tmp_path, 0, ids, scores)
    recording = import_xdream(tmp_path)
    np.testing.assert_array_equal(recording["responses"], scores.reshape(6, 8))
    np.testing.assert_allclose(recording["score"], np.concatenate([scores[:3, 0].mean(1), scores[3:, 1].mean(1)]))
    assert recording["objective"].values.tolist() == ["mean(0,1,2,3)", "mean(4,5,6,7)"]
    assert "latent_code" not in recording


class Trap:
    def __reduce__(self):
        import os

        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("where", ["scores", "codes"])
def test_pickles_are_refused_and_nothing_runs(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    network_run(tmp_path / "results")
    trap = np.array([Trap()], dtype=object)
    if where == "scores":
        np.savez(tmp_path / "results" / "scores_step001.npz", image_ids=trap, scores=np.zeros(1))
    else:
        np.save(tmp_path / "results" / "gen001_000004.npy", trap)
    with pytest.raises(RecordingError, match=r"holds pickled Python objects, which run code .* nothing was loaded"):
        import_xdream("results", "run")
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


#: A step of one image.
ONE = {"image_ids": ["gen000_000000"], "scores": np.zeros(1)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"scores": np.zeros(2)}, "expected image_ids and scores, got scores"),
        (
            {"image_ids": ["gen000_000000"], "scores": np.zeros(2)},
            r"scores: expected numbers of shape \(1\), got \(2,\)",
        ),
        ({"image_ids": ["gen000_000000"], "scores": ["x"]}, "scores: expected numbers, got <U1"),
        (
            {"image_ids": ["gen000_000000"], "scores": np.zeros(1), "scores_reps": np.zeros((2, 3))},
            r"scores_reps: expected numbers of shape \(1, any\), got \(2, 3\)",
        ),
        ({"image_ids": ["bagel"], "scores": np.zeros(1)}, "no evolved image in the scores"),
        ({"image_ids": "gen000_000000", "scores": np.zeros(1)}, r"image_ids: expected names \(n,\)"),
        ({"image_ids": [1.5], "scores": np.zeros(1)}, r"image_ids: expected names \(n,\) .* got float64"),
        ({"image_ids": np.array([], str), "scores": np.zeros(0)}, "at least one image"),
        ({"image_ids": [""], "scores": np.zeros(1)}, "image_ids: expected texts of one line"),
        ({"image_ids": ["gen000_000000", "a\nb"], "scores": np.zeros(2)}, "image_ids: expected texts of one line"),
        ({"image_ids": ["gen000_000000"], "scores": np.zeros((1, 0))}, r"scores: expected numbers of shape \(1, any\)"),
        ({"image_ids": ["gen000_000000"], "scores": np.float64(1)}, "expected scores of 1 images"),
        ({"image_ids": ["gen000_000000"], "scores": np.array([np.inf])}, "scores: expected finite numbers"),
        ({"image_ids": ["gen000_000000"], "scores": np.array([1j])}, "scores: expected numbers, got complex"),
        ({**ONE, "scores_reps": np.zeros((1, 0))}, "scores_reps: expected numbers of shape"),
        ({**ONE, "scores_reps": np.full((1, 2), -np.inf)}, "scores_reps: expected finite numbers"),
        ({**ONE, "nscores": -1}, "nscores: expected whole numbers of at least 0"),
        ({**ONE, "nscores": [np.nan]}, "nscores: expected finite numbers"),
        ({**ONE, "nscores": 0.5}, "nscores: expected whole numbers"),
        ({**ONE, "nscores": 3}, "nscores says 3 repeats, but scores_reps holds 1"),
        ({**ONE, "nscores": [1, 1]}, r"nscores: expected numbers of shape \(1\)"),
        ({**ONE, "nscores": "many"}, "nscores: expected numbers"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "scores_step000.npz", **arrays)
    with pytest.raises(RecordingError, match=message):
        import_xdream(tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_channels_that_change(tmp_path):
    step(tmp_path, 0, ["gen000_000000"], np.zeros(1))
    step(tmp_path, 1, ["gen001_000001"], np.zeros((1, 3)))
    with pytest.raises(RecordingError, match=r"same number of channels in all steps, got \[\(1, 1\), \(3, 1\)\]"):
        import_xdream(tmp_path)


def test_what_is_no_such_folder(tmp_path):
    with pytest.raises(RecordingError, match=r"expected files scores_stepNNN\.npz or .* found none"):
        import_xdream(tmp_path)
    with pytest.raises(RecordingError, match=r"expected a folder, got .*nowhere, which is not there"):
        import_xdream(tmp_path / "nowhere")
    (tmp_path / "scores_step000.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(RecordingError, match=r"scores_step000\.npz: cannot read it as a numpy file"):
        import_xdream(tmp_path)


def test_bytes_are_names_too(tmp_path):
    step(tmp_path, 0, np.array([b"gen000_000000"]), np.ones(1))
    assert import_xdream(tmp_path)["stimulus_id"].values.tolist() == ["gen000_000000"]


def test_two_files_of_one_step(tmp_path):
    step(tmp_path, 0, ["gen000_000000"], np.zeros(1))
    step(tmp_path, 0, ["gen000_000000"], np.zeros(1), kind="scores_end_block")
    with pytest.raises(RecordingError, match="one file of scores for each step"):
        import_xdream(tmp_path)


@pytest.mark.parametrize(
    "code", [np.zeros(0), np.full(3, np.nan), np.full(3, np.inf), np.zeros(3, complex), np.array("x")]
)
def test_codes_that_are_none(tmp_path, code):
    step(tmp_path, 0, ["gen000_000000"], np.zeros(1))
    np.save(tmp_path / "gen000_000000.npy", code)
    with pytest.raises(RecordingError, match=r"gen000_000000\.npy: expected"):
        import_xdream(tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_code_in_a_file_of_several(tmp_path):
    step(tmp_path, 0, ["gen000_000000"], np.zeros(1))
    with (tmp_path / "gen000_000000.npy").open("wb") as file:
        np.savez(file, a=np.zeros(2))
    with pytest.raises(RecordingError, match="expected one array, got a file of several: a"):
        import_xdream(tmp_path)


@pytest.mark.parametrize(
    "text", ["[1]", "{'scorer': 3, 'optimizer': [1]}", "{'scorer': {'target_neuron': 5}}", "{[]: 1}", "(" * 5000, "\0"]
)
def test_parameters_of_any_kind_do_no_harm(tmp_path, text):
    step(tmp_path, 0, ["gen000_000000"], np.ones(1))
    (tmp_path / "parameters.txt").write_text(text)
    assert import_xdream(tmp_path)["optimizer"].item() == "unknown"


def test_strange_folders_are_read_or_refused_and_leave_nothing(tmp_path, counted, tally):
    folder = tmp_path / "results"
    folder.mkdir()
    network_run(folder)
    read_or_refused(folder, import_xdream, counted(quick=60, reduced=600, full=5_000), tally)
