"""Networks of runs of treat as subjects."""

import numpy as np
import pytest
import torch

from closedloop.errors import WeightsError
from closedloop.networks.kept import Facts, built, write_network
from closedloop.subjects import load_subject


def test_a_trained_network_is_a_subject_by_name(tmp_path):
    facts = Facts("conv", 8, ("a", "b", "c"), 0.25, 0.5)
    model = built(facts, 3).eval()
    write_network(tmp_path / "network.safetensors", model, facts)
    subject = load_subject(f"treated:{tmp_path}")
    images = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        expected = model((torch.from_numpy(images) - 0.25) / 0.5).numpy()
    np.testing.assert_allclose(subject.record(images), expected, rtol=1e-4, atol=1e-5)
    assert subject.units.coords["label"] == ("a", "b", "c")
    assert subject.resolution == 8
    again = load_subject(**subject.recipe)
    assert again.fingerprint == subject.fingerprint
    assert load_subject(f"treated:{tmp_path}", layer="relu3", units="0-3").units.coords["layer"] == ("relu3",) * 4


def test_a_folder_without_one_is_named(tmp_path):
    with pytest.raises(WeightsError, match="expected a run of treat"):
        load_subject(f"treated:{tmp_path}")
