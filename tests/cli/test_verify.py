"""``closedloop verify``: a twin's images, shown to the subject of the run."""

import pytest

from closedloop.analysis import verification
from closedloop.cli import main
from closedloop.protocols import present
from closedloop.recording.reader import open_recording
from closedloop.subjects import load_subject
from tests import small_twins

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")


def test_a_twins_images_are_shown_to_the_subject(tmp_path, capsys):
    run, twin, out = tmp_path / "run", tmp_path / "twin", tmp_path / "verified"
    subject = load_subject("gabor", resolution=16)
    present(subject, small_twins.shown(), repeats=2, progress=False, save=run)
    features = "{name: lite0, resolution: 32, weights: random, engine: eager}"
    main(["fit-twin", str(run), "--features", features, "--layers", "blocks.0", "--out", str(twin)])
    steps = ["--steps", "2", "--generator", "fourier", "--repeats", "3"]
    main(["verify", str(run), "--twin", str(twin), *steps, "--out", str(out)])
    said = capsys.readouterr().out
    assert "predicted and confirmed" in said
    assert "Twin-fooling gap" in said
    found = verification(open_recording(out))
    assert found["role"].values[0] == "synthesized"
    assert (found["n"] == 3).all()


def test_several_images_of_a_unit_are_shown(tmp_path, capsys):
    run, twin, out = tmp_path / "run", tmp_path / "twin", tmp_path / "verified"
    present(load_subject("gabor", resolution=16), small_twins.shown(), repeats=2, progress=False, save=run)
    features = "{name: lite0, resolution: 32, weights: random, engine: eager}"
    main(["fit-twin", str(run), "--features", features, "--layers", "blocks.0", "--out", str(twin)])
    numbers = ["--steps", "4", "--generator", "fourier", "--repeats", "2", "--diverse", "3", "--apart", "codes"]
    main(["verify", str(run), "--twin", str(twin), *numbers, "--out", str(out)])
    said = " ".join(capsys.readouterr().out.split())
    made = (verification(open_recording(out))["role"].values == "synthesized").sum()
    assert 1 <= made <= 3
    assert made == 1 or f"of {made - 1} other images" in said
