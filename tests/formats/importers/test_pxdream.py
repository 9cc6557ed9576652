"""State folders of P-XDream, as its state is dumped."""

from __future__ import annotations

import json

import numpy as np
import pytest

from closedloop import open_recording, summarize
from closedloop.errors import RecordingError
from closedloop.formats.importers import import_pxdream
from tests.strange_folders import read_or_refused

G, N, NATURAL, LATENT = 3, 4, 2, 5


def state(folder, states=False, natural=True):
    """The arrays of an experiment of three generations, as `ZdreamExperimentState.dump` saves them."""
    rng = np.random.default_rng(0)
    (folder / "state").mkdir(parents=True)
    total = N + NATURAL * natural
    mask = np.zeros((G, total), dtype=bool)
    for g in range(G):
        mask[g, rng.permutation(total)[:N]] = True
    arrays = {
        "mask": mask, "codes": rng.standard_normal((G + 1, N, LATENT)).astype(np.float32),
        "scores_gen": rng.random((G, N)).astype(np.float32),
    }  # fmt: skip
    if natural:
        arrays["scores_nat"] = rng.random((G, NATURAL)).astype(np.float32)
        arrays["labels"] = rng.integers(0, 1000, (G, NATURAL)).astype(np.int32)
    for name, values in arrays.items():
        np.save(folder / "state" / f"{name}.npy", values)
    if states:
        arrays["states"] = {"08_conv": rng.random((G, total, 3)), "21_linear": rng.random((G, total, 2))}
        np.savez(folder / "state" / "states.npz", **arrays["states"])
        np.savez(
            folder / "state" / "rec_units.npz",
            **{"08_conv": [[3, 1, 2], [4, 5, 6], [7, 8, 9]], "21_linear": [[11], [12]]},
        )
    parameters = {"variant": "fc7", "net_name": "resnet50", "optimizer_type": "cmaes", "random_seed": 50, "iter": G}
    (folder / "params.json").write_text(json.dumps(parameters))
    return arrays


def test_scores_alone(tmp_path):
    arrays = state(tmp_path / "experiment")
    recording = import_pxdream(tmp_path / "experiment", tmp_path / "run")
    assert open_recording(tmp_path / "run").equals(recording)
    evolved = recording.isel(presentation=np.flatnonzero((recording["thread"] == "main").values))
    np.testing.assert_array_equal(evolved["latent_code"], arrays["codes"][:G].reshape(-1, LATENT))
    np.testing.assert_array_equal(evolved["score"], arrays["scores_gen"].ravel())
    np.testing.assert_array_equal(evolved["responses"][:, 0], arrays["scores_gen"].ravel())
    natural = recording.isel(presentation=np.flatnonzero((recording["thread"] == "reference").values))
    np.testing.assert_array_equal(natural["responses"][:, 0], arrays["scores_nat"].ravel())
    assert natural["stimulus_id"].values.tolist() == [f"natural-{label:05d}" for label in arrays["labels"].ravel()]
    assert (recording["thread"] == "main").values.tolist() == arrays["mask"].ravel().tolist()
    assert recording["generation"].values.tolist() == [g for g in range(G) for _ in range(N + NATURAL)]
    facts = {n: recording[n].item() for n in ("subject", "generator", "optimizer", "seed")}
    assert facts == {"subject": "resnet50", "generator": "fc7", "optimizer": "cmaes", "seed": 50}
    assert summarize(recording)[0].noisy_maximum == pytest.approx(arrays["scores_gen"].max())


def test_recorded_activations(tmp_path):
    arrays = state(tmp_path, states=True)
    recording = import_pxdream(tmp_path / "state")
    expected = np.concatenate([arrays["states"]["08_conv"], arrays["states"]["21_linear"]], axis=2)
    np.testing.assert_array_equal(recording["responses"], expected.reshape(-1, 5))
    assert recording["layer"].values.tolist() == ["08_conv"] * 3 + ["21_linear"] * 2
    assert recording["channel"].values.tolist() == [3, 4, 7, 11, 12]
    assert recording["y"].values.tolist() == [1, 5, 8, -1, -1]
    assert recording["x"].values.tolist() == [2, 6, 9, -1, -1]


def test_without_natural_images_or_parameters(tmp_path):
    state(tmp_path, natural=False)
    (tmp_path / "params.json").unlink()
    (tmp_path / "state" / "mask.npy").unlink()
    recording = import_pxdream(tmp_path)
    assert set(recording["thread"].values) == {"main"}
    assert recording["generator"].item() == "unknown"
    assert recording["seed"].item() == -1


def spoil(folder, name, values):
    np.save(folder / "state" / f"{name}.npy", values)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("codes", np.zeros((G + 2, N, LATENT)), "expected codes of 3 generations or of one more, got of 5"),
        ("codes", np.zeros((G, N + 1, LATENT)), r"codes: expected numbers of shape \(any, 4, any\)"),
        ("scores_gen", np.zeros(G), "scores_gen: expected numbers of shape"),
        ("mask", np.zeros((G, N + NATURAL), bool), "expected a mask with 4 synthetic images in each generation"),
        ("mask", np.ones(G, bool), "expected a mask with 4"),
        ("labels", np.zeros((G, 7)), r"expected labels of shape \(3, 2\), got \(3, 7\)"),
        ("codes", np.array([object()]), "holds pickled Python objects"),
        ("codes", np.full((G, N, LATENT), np.nan), "codes: expected finite numbers"),
        ("codes", np.zeros((G, N, 0)), "codes: expected numbers of shape"),
        ("scores_gen", np.zeros((0, N)), "scores_gen: expected numbers of shape"),
        ("scores_gen", np.full((G, N), np.inf), "scores_gen: expected finite numbers"),
        ("scores_gen", np.full((G, N), "x"), "scores_gen: expected numbers, got <U1"),
        ("scores_nat", np.full((G, NATURAL), np.inf), "scores_nat: expected finite numbers"),
        ("mask", np.full((G, N + NATURAL), 0.5), "expected a mask of True and False, got float64"),
        ("labels", np.full((G, NATURAL), np.inf), "labels: expected finite numbers"),
        ("labels", np.full((G, NATURAL), 0.5), "expected whole numbers as labels"),
        ("labels", np.full((G, NATURAL), "cat"), "labels: expected numbers, got <U3"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, name, values, message):
    state(tmp_path)
    spoil(tmp_path, name, values)
    with pytest.raises(RecordingError, match=message):
        import_pxdream(tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_states_that_do_not_fit(tmp_path):
    state(tmp_path)
    np.savez(tmp_path / "state" / "states.npz", conv=np.zeros((G, 2, 3)))
    with pytest.raises(RecordingError, match=r"expected states of conv for \(3, 6\) images, got \(3, 2\)"):
        import_pxdream(tmp_path)


def test_what_is_no_such_folder(tmp_path):
    with pytest.raises(RecordingError, match=r"no codes\.npy"):
        import_pxdream(tmp_path)
    state(tmp_path)
    (tmp_path / "params.json").write_text("{")
    with pytest.raises(RecordingError, match=r"params\.json: cannot read it as JSON"):
        import_pxdream(tmp_path)


@pytest.mark.parametrize("positions", [np.full((3, 3), np.nan), np.full((3, 3), -2), np.full((3, 3), "x")])
def test_positions_that_are_none(tmp_path, positions):
    state(tmp_path, states=True)
    np.savez(tmp_path / "state" / "rec_units.npz", **{"08_conv": positions})
    with pytest.raises(RecordingError, match="rec_units of 08_conv: expected"):
        import_pxdream(tmp_path)


def test_parameters_that_are_nested_too_deeply(tmp_path):
    state(tmp_path)
    (tmp_path / "params.json").write_text("[" * 100_000)
    with pytest.raises(RecordingError, match=r"params\.json: cannot read it as JSON"):
        import_pxdream(tmp_path)


def test_strange_folders_are_read_or_refused_and_leave_nothing(tmp_path, counted, tally):
    state(tmp_path / "experiment", states=True)
    read_or_refused(tmp_path / "experiment", import_pxdream, counted(quick=60, reduced=600, full=5_000), tally)
