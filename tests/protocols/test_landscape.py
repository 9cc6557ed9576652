"""The sphere around a preferred stimulus: where its points lie, and that it is recorded like any run."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from closedloop import CMAES, Session, Thread, Unit, analysis, open_recording, render
from closedloop.analysis.preferred import evolved_codes
from closedloop.cli import main
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError
from closedloop.generators import Fourier, Pixels
from closedloop.images.eight_bit import quantize
from closedloop.protocols import evolve, landscape, resume
from closedloop.subjects import FunctionSubject, GaborSubject
from closedloop.testing.common import untouched_randomness

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

GENERATOR = Fourier(resolution=16, cutoff=2)


def subject():
    return GaborSubject(resolution=16, count=2, seed=1)


@pytest.fixture(scope="module")
def evolved():
    optimizer = CMAES(GENERATOR.space, seed=0, population=10)
    return evolve(subject(), GENERATOR, optimizer, objective="unit(1)", images=200, references=None)


@pytest.fixture(scope="module")
def found(evolved):
    return landscape(subject(), GENERATOR, evolved, seed=3)


def plane(recording, name, dims=("theta_deg", "phi_deg")):
    """Codes of one plane, by angle ``(11, 11, dim)``."""
    own = recording.isel(presentation=(recording["plane"] == name).values)
    order = np.lexsort([own[d].values for d in dims[::-1]])
    return own["latent_code"].values[order].reshape(11, 11, -1)


def test_the_default_grid(found):
    assert found.sizes["presentation"] == 2 * 11 * 11
    assert set(found["plane"].values) == {"pc1-pc2", "pc1-random"}
    np.testing.assert_allclose(np.unique(found["theta_deg"]), np.arange(-90, 91, 18), atol=1e-9)
    np.testing.assert_allclose(np.unique(found["phi_deg"]), np.arange(-90, 91, 18), atol=1e-9)
    assert set(found["kind"].values) == set(found["thread"].values) == {"landscape"}
    assert len(set(found["stimulus_id"].values)) == 242


def test_points_lie_on_a_sphere_at_their_angles(found, evolved):
    codes, rows = evolved_codes(evolved, "main")
    generation = evolved["generation"].values[rows]
    radius = np.linalg.norm(codes[generation == generation.max()], axis=1).mean()
    np.testing.assert_allclose(np.linalg.norm(found["latent_code"], axis=1), radius)
    table = plane(found, "pc1-pc2") / radius
    center = table[5, 5]
    best = evolved["generation"].values == evolved["generation"].values.max()
    winner = evolved["latent_code"].values[best][0]
    assert center @ winner / np.linalg.norm(winner) == pytest.approx(1)
    along = np.rad2deg(np.arccos(np.clip(table[:, 5] @ center, -1, 1)))
    np.testing.assert_allclose(along, np.abs(np.arange(-90, 91, 18)), atol=1e-4)
    assert table[10, 5] @ table[5, 10] == pytest.approx(0, abs=1e-9)  # the two directions are at right angles


def test_directions_are_the_axes_of_the_codes(found, evolved):
    codes, _ = evolved_codes(evolved, "main")
    table = plane(found, "pc1-pc2")
    table = table / np.linalg.norm(table[5, 5])
    peak, first, second = table[5, 5], table[10, 5], table[5, 10]
    rest = codes - np.outer(codes @ peak, peak)
    vectors = np.linalg.svd(rest - rest.mean(0), full_matrices=False)[2]
    assert abs(first @ vectors[0]) == pytest.approx(1)
    assert abs(second @ vectors[1]) == pytest.approx(1)
    other = plane(found, "pc1-random")
    np.testing.assert_allclose(other[:, 5], plane(found, "pc1-pc2")[:, 5])
    assert abs(other[5, 10] @ second) < 0.9 * np.linalg.norm(other[5, 10])


def test_responses_are_those_to_the_images(found):
    images = quantize(GENERATOR(found["latent_code"].values))
    np.testing.assert_allclose(found["responses"], subject().record(images), atol=1e-5)
    np.testing.assert_array_equal(render(found, [0, 17]), quantize(GENERATOR(found["latent_code"].values[[0, 17]])))


def test_the_evolved_unit_has_its_peak_near_the_center(evolved):
    recording = landscape(subject(), GENERATOR, evolved, steps=21, planes=["pc1-pc2"])
    assert recording.sizes["presentation"] == 441
    np.testing.assert_allclose(np.diff(np.unique(recording["theta_deg"])), 9)
    fit = analysis.fit_kent(recording, units=[1])
    assert fit["offset_deg"].item() < 20
    assert fit["r_squared"].item() > 0.8
    distance = analysis.distance_to_peak(recording, GENERATOR)
    assert analysis.radial_tuning(recording, distance)["spearman"].values[1] < -0.5


def test_a_code_as_center(evolved):
    code = np.full(GENERATOR.space.dim, 2.0)
    one = landscape(subject(), GENERATOR, code, planes=["random-random", ("random", "random")], steps=3, repeats=2)
    assert one.sizes["presentation"] == 36
    assert set(one["plane"].values) == {"random-random", "random-random-2"}
    np.testing.assert_allclose(np.linalg.norm(one["latent_code"], axis=1), np.linalg.norm(code))
    codes, _ = evolved_codes(evolved, "main")
    other = landscape(subject(), GENERATOR, code, codes=codes, planes=["random-pc2"], steps=3, radius=5, extent_deg=30)
    np.testing.assert_allclose(np.linalg.norm(other["latent_code"], axis=1), 5)
    assert other["theta_deg"].max() == 30


def test_random_directions_follow_from_the_seed():
    code = np.full(GENERATOR.space.dim, 2.0)
    with untouched_randomness():
        one, same, other = (
            landscape(subject(), GENERATOR, code, planes=["random-random"], steps=3, seed=s) for s in (1, 1, 2)
        )
    np.testing.assert_array_equal(one["latent_code"], same["latent_code"])
    assert not np.allclose(np.sort(one["latent_code"], 0), np.sort(other["latent_code"], 0))


def test_one_of_several_threads():
    threads = [Thread(GENERATOR, CMAES(GENERATOR.space, seed=i), Unit(i), n) for i, n in enumerate("ab")]
    recording = Session(subject(), threads, images=40).run()
    found = landscape(subject(), GENERATOR, recording, thread="b", steps=3)
    assert found.sizes["presentation"] == 18
    with pytest.raises(InvalidArgumentError, match=r"thread: the recording has several, \['a', 'b'\]; say which one"):
        landscape(subject(), GENERATOR, recording, steps=3)
    with pytest.raises(UnknownNameError, match="no thread 'c' in the recording"):
        landscape(subject(), GENERATOR, recording, thread="c", steps=3)


def interrupted(folder, evolved, who=None, generator=GENERATOR):
    def stop(done, total):
        raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        landscape(who or subject(), generator, evolved, seed=3, save=folder, progress=stop)
    return folder


def test_it_is_resumed_from_its_file_alone(tmp_path, evolved, found):
    folder = interrupted(tmp_path / "run", evolved)
    assert open_recording(folder).sizes["presentation"] == 64
    again = resume(folder)
    assert set(again.variables) == set(found.variables)
    for name in found.variables:
        np.testing.assert_array_equal(again[name].values, found[name].values, err_msg=name)
    content = yaml.safe_load((folder / "experiment.yaml").read_text())
    assert (content["protocol"], content["planes"]) == ("landscape", ["pc1-pc2", "pc1-random"])


def test_from_the_command_line(tmp_path, evolved, capsys):
    folder = interrupted(tmp_path / "run", evolved)
    main(["resume", str(folder)])
    assert "Images with the highest mean response" in capsys.readouterr().out
    main(["show", str(folder)])
    assert "Images with the highest mean response" in capsys.readouterr().out


def test_python_objects_are_handed_over_again(tmp_path, evolved, found):
    class Own:
        name, resolution, space = "own", 16, GENERATOR.space

        def __call__(self, codes):
            return GENERATOR(codes)

    gabor = subject()
    who = FunctionSubject(gabor.record, units=2, name="mine")
    folder = interrupted(tmp_path / "run", evolved, who, Own())
    said = r"generator was handed over as a Python object \(Own own\).*resume\(RUN, generator=…"
    with pytest.raises(InvalidArgumentError, match=said):
        resume(folder, subject=who)
    again = resume(folder, subject=who, generator=Own())
    np.testing.assert_array_equal(again["responses"], found["responses"])


def test_a_run_without_its_directions(tmp_path, evolved):
    folder = interrupted(tmp_path / "run", evolved)
    (folder / "basis.npz").write_bytes(b"torn")
    with pytest.raises(RecordingError, match=r"basis\.npz is damaged"):
        resume(folder)
    content = yaml.safe_load((folder / "experiment.yaml").read_text())
    del content["radius"]
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(RecordingError, match=r"experiment\.yaml is damaged"):
        resume(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 10}, "steps: expected an odd number of at least 3, so that the center is among the points; got 10"),
        ({"steps": 1}, "steps: expected an odd number"),
        ({"extent_deg": 120}, "extent_deg: expected an angle above 0 and at most 90 degrees, got 120"),
        ({"radius": 0}, "radius: expected a length above 0, got 0"),
        ({"planes": ["pc1"]}, "planes: expected pairs of different directions"),
        ({"planes": ["pc1-pc1"]}, "planes: expected pairs of different directions"),
        ({"planes": [("pc1", "up")]}, "planes: expected pairs of different directions"),
        ({"planes": []}, "planes: expected at least one pair of directions, got none"),
        ({"planes": ["pc1-pc99"]}, "planes: expected directions up to 'pc.*got 'pc99'"),
        ({"repeats": 0}, "repeats: expected a whole number of at least 1"),
        ({"seed": -1}, "seed: expected"),
        ({"center": np.ones(3)}, r"codes: expected shape \(n, 39\), got \(1, 3\)"),
        ({"center": np.ones((2, 39))}, "center: expected a recording or one code"),
        ({"center": np.zeros(39), "planes": ["random-random"]}, "center: expected a code that is not zero"),
        ({"center": np.ones(39)}, r"codes: expected codes \(n, dim\) for the directions 'pc1'"),
        ({"codes": np.ones((2, 3))}, r"codes: expected shape \(n, 39\), got \(2, 3\)"),
        ({"generator": Pixels(16)}, "generator: expected an unbounded space of codes"),
        ({"generator": Fourier(16, 3)}, "center: expected a recording with codes of the generator, of length"),
    ],
)
def test_wrong_arguments(tmp_path, evolved, options, message):
    arguments = {"generator": GENERATOR, "center": evolved, "save": tmp_path / "run", **options}
    with pytest.raises(InvalidArgumentError, match=message):
        landscape(subject(), arguments.pop("generator"), arguments.pop("center"), **arguments)
    assert not (tmp_path / "run").exists()


def test_its_images_are_shown_as_a_file_holds_them(found):
    shown = render(found)
    np.testing.assert_array_equal(shown, quantize(shown))
    assert found["image_bits"].item() == 8
