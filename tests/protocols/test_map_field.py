"""Mapping a receptive field: what is shown, that it goes on, and that an evolution fills the field."""

import re

import numpy as np
import pytest
import yaml

from closedloop import open_recording
from closedloop.cli import main
from closedloop.cli.probing import place_of
from closedloop.errors import InvalidArgumentError
from closedloop.figures import plot_field
from closedloop.loop.experiment import parse_experiment
from closedloop.protocols import at_field, map_field, resume
from closedloop.protocols.probing import px_per_deg_of
from closedloop.subjects import FunctionSubject, GaborSubject, Poisson, load_subject

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

SUBJECT = "{name: energy, resolution: 48, cycles_per_image: 6, y: 18, x: 30}"


def subject():
    return Poisson(GaborSubject(resolution=32, count=2, seed=1), spikes=20, best=1.0, seed=2)


def seen(**numbers):
    """A recording whose responses are the mean of each image, from its background."""

    def look(shown):
        return (shown.mean((1, 2, 3)) - 128 / 255)[:, None]

    who = FunctionSubject(look, units=1)
    who.resolution = 40
    return map_field(who, progress=False, **numbers)


def test_sparse_noise():
    ds = seen()
    assert ds.sizes["presentation"] == 200
    assert set(ds["kind"].values) == set(ds["thread"].values) == {"field"}
    assert sorted(set(ds["stimulus_x_px"].values)) == pytest.approx(np.arange(10) * 4 + 1.5)
    assert set(ds["shown"].values) == {"bright", "dark"}
    expected = np.where(ds["shown"] == "bright", 127, -128) / 255 * 16 / 1600
    np.testing.assert_allclose(ds["responses"].values[:, 0], expected, atol=1e-6)
    assert ds["stimulus_sd_px"].values == pytest.approx(4 / 12**0.5)


def test_a_smaller_area_in_degrees():
    ds = seen(steps=4, extent=2.0, x=0.5, y=-1.0, px_per_deg=8.0, contrast=0.5)
    assert sorted(set(ds["stimulus_x_px"].values)) == pytest.approx(19.5 + 4 + np.array([-6, -2, 2, 6]))
    assert sorted(set(ds["stimulus_y_px"].values)) == pytest.approx(19.5 + 8 + np.array([-6, -2, 2, 6]))
    assert ds["px_per_deg"].item() == 8
    assert abs(ds["responses"].values).max() == pytest.approx(0.25 * 16 / 1600, rel=0.02)


def test_patches_of_the_photographs_that_come_with_it():
    ds = seen(stimuli="patches", pictures=2, sizes=2, steps=5)
    assert ds.sizes["presentation"] == 2 * 2 * 25
    assert sorted(set(ds["stimulus_sd_px"].values)) == [2.5, 5.0]
    assert len(set(ds["shown"].values)) == 2


def stopped(folder, **options):
    def stop(done, total):
        raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        map_field(subject(), save=folder, progress=stop, **options)
    return folder


@pytest.mark.parametrize("options", [{}, {"stimuli": "patches", "pictures": 2, "steps": 5}], ids=["noise", "patches"])
def test_it_goes_on_where_it_was(tmp_path, options):
    whole = map_field(subject(), progress=False, **options)
    once = resume(stopped(tmp_path / "a", **options))
    again = map_field(subject(), save=stopped(tmp_path / "b", **options), exists="resume", progress=False, **options)
    for found in (once, again):
        for name in whole.variables:
            np.testing.assert_array_equal(found[name].values, whole[name].values, err_msg=name)


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    main(["map-field", "--subject", SUBJECT, "--px-per-deg", "8", "--out", "run"])
    said = capsys.readouterr().out
    assert "Receptive fields" in said
    assert "Figure: run/field-0.png" in said
    assert not re.search(r"± 0*\.?0*\d(?![\d.])", said), said  # an error of one digit
    assert max(map(len, said.splitlines())) <= 80
    main(["map-field", "--config", "run/experiment.yaml", "--out", "again"])
    assert open_recording("again").load().equals(open_recording("run").load())
    main(["analyze", "run", "--what", "fit-field"])
    main(["report", "run", "--out", "run.html"])
    assert "Where the receptive field of" in (tmp_path / "run.html").read_text()
    capsys.readouterr()
    main(["evolve", "--subject", SUBJECT, "--generator", "{name: pixels, resolution: 16}", "--images", "20",
          "--references", "none", "--at-field", "run", "--out", "evolved"])  # fmt: skip
    made = yaml.safe_load((tmp_path / "evolved" / "experiment.yaml").read_text())["generator"]
    assert (made["name"], made["resolution"], made["generator"]["name"]) == ("placed", 48, "pixels")
    y0, x0, y1, x1 = made["box"]
    assert (y0 + y1 - 1) / 2 == pytest.approx(18, abs=1)
    assert (x0 + x1 - 1) / 2 == pytest.approx(30, abs=1)
    main(["map-field", "--subject", SUBJECT, "--stimuli", "patches", "--steps", "5", "--out", "patches"])
    main(["map-field", "--config", "patches/experiment.yaml", "--out", "patches-again"])
    assert open_recording("patches-again").load().equals(open_recording("patches").load())


def test_a_field_of_another_unit_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["map-field", "--subject", SUBJECT, "--out", "run"])
    with pytest.raises(SystemExit, match="2"):
        main(["evolve", "--subject", "gabor", "--generator", "pixels", "--images", "20", "--at-field", "run"])
    assert "at_field: expected a thread that excites one unit of those in run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stimuli": "dots"}, "stimuli: expected 'noise' or 'patches'"),
        ({"steps": 2}, "steps: expected a whole number of at least 3"),
        ({"steps": 33}, "steps: expected at most 32, one for each pixel, got 33"),
        ({"extent": 20.0, "x": 8.0}, "extent: expected what lies within the image, which goes 16 px from its middle"),
        ({"x": 17.0}, "x, y: expected a place within the image, at most 16 px from its middle, got 17.0 and 0.0"),
        ({"x": 2.5, "px_per_deg": 8.0}, "at most 2° from its middle"),
        ({"contrast": 1.5}, "contrast: expected a contrast above 0 and at most 1"),
        ({"background": -0.1}, "background: expected a grey level"),
        ({"stimuli": "patches", "sizes": 6}, "sizes: expected patches of at least 2 pixels"),
        ({"images": np.zeros((1, 3, 8, 8))}, "images: expected none with stimuli='noise'"),
        ({"px_per_deg": 0}, "px_per_deg: expected pixels per degree above 0"),
        ({"step": 3}, "step: no such setting. Did you mean 'steps'"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        map_field(subject(), save=tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()


def test_a_field_that_was_mapped_in_images_of_another_width_is_refused(tmp_path):
    """It is elsewhere in them."""
    screened = FunctionSubject(load_subject(**yaml.safe_load(SUBJECT)).record, units=1, name="screened")
    screened.resolution = 48
    map_field(screened, save=tmp_path / "run", px_per_deg=6.0, progress=False)  # 8° wide
    threads = [{"generator": "pixels", "objective": "unit(0)"}]
    experiment = parse_experiment({"subject": "gabor", "threads": threads, "images": 20}, "here")
    at_field(experiment, tmp_path / "run", screened)  # of an unknown screen
    screened.width_deg = 8.0
    at_field(experiment, tmp_path / "run", screened)
    assert place_of(tmp_path / "run", screened)["px_per_deg"] == 6.0
    screened.width_deg = 6.0
    for ask in (lambda: at_field(experiment, tmp_path / "run", screened), lambda: place_of(tmp_path / "run", screened)):
        with pytest.raises(InvalidArgumentError, match=r"were mapped in images 8° wide, and .* shows them 6° wide"):
            ask()
    assert place_of(tmp_path / "run", screened, 6.0)["px_per_deg"] == 6.0  # who says it knows it


def test_a_subject_says_its_screen():
    who = GaborSubject(resolution=32)
    assert px_per_deg_of(who) is None
    screened = FunctionSubject(who.record, units=1)
    screened.px_per_deg = 20.0
    assert px_per_deg_of(Poisson(screened, spikes=20, best=1.0)) == 20.0
    screened.px_per_deg = float("nan")
    assert px_per_deg_of(screened) is None


@pytest.mark.long
def test_units_of_a_network_have_their_fields_where_its_layers_have_them():
    pytest.importorskip("torch")
    network = load_subject("lite0", layer="blocks.3", units=[20])
    from closedloop.analysis import fit_field

    found = fit_field(map_field(network, stimuli="patches", pictures=2, sizes=2, progress=False)).isel(neuroid=0)
    coords = network.units.coords
    for axis in "yx":
        low, high = coords[f"rf_{axis}0"][0], coords[f"rf_{axis}1"][0]
        assert abs(float(found[f"{axis}_px"]) - (low + high - 1) / 2) < (high - low) / 8


@pytest.mark.parametrize("stimuli", ["noise", "patches"])
def test_a_unit_whose_presentations_are_all_lost_is_drawn(stimuli):
    who = FunctionSubject(lambda shown: np.full((len(shown), 1), np.nan), units=1)
    who.resolution = 24
    ds = map_field(who, progress=False, stimuli=stimuli, steps=3, sizes=1, pictures=1)
    assert plot_field(ds).axes is not None
