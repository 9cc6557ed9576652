"""Gratings: what is shown, that it goes on, and the command."""

import re

import numpy as np
import pytest

from closedloop import open_recording
from closedloop.cli import main
from closedloop.errors import InvalidArgumentError
from closedloop.figures import plot_gratings
from closedloop.protocols import gratings, resume
from closedloop.subjects import EnergySubject, FunctionSubject, GaborSubject, Poisson

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

SUBJECT = "{name: energy, resolution: 48, orientation_deg: 30, y: 18, x: 30}"


def subject():
    return Poisson(GaborSubject(resolution=32, count=2, seed=1), spikes=20, best=1.0, seed=2)


def test_the_default_set():
    ds = gratings(EnergySubject(resolution=64), progress=False)
    assert ds.sizes["presentation"] == 12 * 6 * 4 + 1
    np.testing.assert_allclose(np.unique(ds["grating_orientation_deg"])[:12], np.arange(12) * 15)
    np.testing.assert_allclose(np.unique(ds["grating_cycles_per_image"])[:6], np.geomspace(1, 16, 6))
    np.testing.assert_allclose(np.unique(ds["grating_phase_deg"])[:4], [0, 90, 180, 270])
    assert (ds["stimulus_id"] == "blank").sum() == 1
    assert np.isnan(ds["grating_phase_deg"].values[ds["stimulus_id"].values == "blank"]).all()


def test_the_grey_image_is_grey_and_windows_end():
    shown = {}

    def look(images):
        shown.update({image.tobytes(): image for image in images})
        return np.zeros((len(images), 1))

    who = FunctionSubject(look, units=1)
    who.resolution = 32
    gratings(who, progress=False, size=8, x=8, y=8, orientations=4, frequencies=3, contrast=0.5)
    images = np.stack(list(shown.values()))
    assert (images.std((1, 2, 3)) == 0).sum() == 1
    assert np.ptp(images[:, :, 24:, :8]) < 0.02
    assert np.ptp(images[:, :, 4:12, 20:28]) == pytest.approx(0.5, abs=0.05)


def test_it_goes_on_where_it_was(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt("stop")

    whole = gratings(subject(), progress=False)
    calls = resume, lambda path: gratings(subject(), save=path, exists="resume", progress=False)
    for call in calls:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(KeyboardInterrupt, match="stop"):
            gratings(subject(), save=path, progress=stop)
        found = call(path)
        for name in whole.variables:
            np.testing.assert_array_equal(found[name].values, whole[name].values, err_msg=name)


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    main(["map-field", "--subject", SUBJECT, "--out", "field"])
    main(["gratings", "--subject", SUBJECT, "--at-field", "field", "--out", "run"])
    said = capsys.readouterr().out
    assert "Tuning to gratings" in said
    assert not re.search(r"± 0*\.?0*\d(?![\d.])", said), said  # an error of one digit
    assert "Simple (F1/F0 above 1): 0; complex: 1." in said
    assert max(map(len, said.splitlines())) <= 80
    content = open_recording("run").attrs
    assert content is not None
    main(["gratings", "--config", "run/experiment.yaml", "--out", "again"])
    assert open_recording("again").load().equals(open_recording("run").load())
    main(["report", "run", "--out", "run.html"])
    assert "Which gratings drive" in (tmp_path / "run.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 9.0, "highest": 3.0}, "lowest, highest: expected a lower and a higher frequency of at most 16"),
        ({"highest": 40.0}, "lowest, highest: expected a lower"),
        ({"phases": 2}, "phases: expected a whole number of at least 3"),
        ({"contrast": 2.0}, "contrast: expected a contrast above 0 and at most 1"),
        ({"size": 0}, "size: expected a length above 0"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        gratings(subject(), save=tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()


def test_the_figure():
    ds = gratings(EnergySubject(resolution=48, orientation_deg=[30.0, 120.0], cycles_per_image=6), progress=False)
    figure = plot_gratings(ds, 1)
    assert re.search(r"prefers 1(19\.9|20\.0)\d ± ", figure.get_suptitle())
    line = figure.axes[1].lines[1].get_xydata()
    assert line[line[:, 1].argmax(), 0] == pytest.approx(120, abs=1.5)
    with pytest.raises(InvalidArgumentError, match="unit: expected a column from 0 to 1, got 2"):
        plot_gratings(ds, 2)
