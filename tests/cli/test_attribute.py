"""``closedloop attribute``, from the words to the figure."""

import numpy as np
import pytest
from PIL import Image

from closedloop.cli import main
from closedloop.figures import plot_attributions
from closedloop.gradients.attribution import attribute
from closedloop.images.eight_bit import from_bytes
from closedloop.subjects import load_subject


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path, from_bytes(pixels.transpose(2, 0, 1)[None])


def fails(capsys, *words):
    with pytest.raises(SystemExit, match="2"):
        main(["attribute", *map(str, words)])
    return " ".join(capsys.readouterr().err.split())


def test_a_layer_of_lite0(tmp_path, capsys, photo):
    words = ["--subject", "lite0", "--layer", "blocks.0", "--unit", "3", "--images", str(photo[0])]
    main(["attribute", *words, "--method", "guided-backprop", "--out", str(tmp_path / "map.png")])
    text = capsys.readouterr().out
    assert "guided-backprop of channel 3 of blocks.0, centre (56, 56)" in text
    assert "noise" in text
    with Image.open(tmp_path / "map.png") as figure:
        assert figure.width > 1000


def test_a_model_neuron_with_options(tmp_path, capsys, photo):
    words = ["--subject", "{name: energy, resolution: 16}", "--images", str(photo[0].parent)]
    words += ["--method", "integrated-gradients"]
    main(["attribute", *words, "--steps", "5", "--filter", "norm, raw", "--out", str(tmp_path / "map.svg")])
    text = capsys.readouterr().out
    assert "completeness error" in text
    assert f"{float(attribute(load_subject('energy', resolution=16), photo[1])['score'][0]):.4g}" in text
    assert (tmp_path / "map.svg").is_file()


def test_bad_words(tmp_path, capsys, photo):
    assert "out: expected a name ending in .png" in fails(capsys, "--out", "map.txt")
    assert "images: there is no nothing.jpg" in fails(capsys, "--images", "nothing.jpg")
    assert "filter: no filter 'blur'. Did you mean 'normblur'" in fails(capsys, "--filter", "blur")
    assert "units: expected one unit, got" in fails(capsys, "--subject", "lite0", "--layer", "blocks.0")


def test_the_figure_needs_as_many_images_as_attributions(photo):
    found = attribute(load_subject("energy", resolution=16), photo[1])
    with pytest.raises(ValueError, match="images, attributions: expected as many of one as of the other"):
        plot_attributions(np.concatenate([photo[1]] * 2), found)
    assert len(plot_attributions(photo[1], found, ["raw"]).axes) == 2
