"""A fixed set of images, shown in random order and recorded."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import xarray as xr
import yaml

from closedloop import ImageSet, Units, open_recording
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError
from closedloop.images.eight_bit import write_png
from closedloop.protocols import present, resume
from closedloop.protocols.present import BLOCK
from closedloop.seeds import generator_state, restore_generator


class Spy:
    """The grey value of an image with a little noise, which goes on after a restore."""

    name = "spy"
    units = Units(("spy.0",), {"layer": ("l",)})
    fingerprint = ""  # when it fails is no part of what it is

    def __init__(self, trouble=lambda call, answer: answer):
        self.trouble, self.sizes, self.rng = trouble, [], np.random.default_rng(0)

    def record(self, images):
        self.sizes.append(len(images))
        return self.trouble(
            len(self.sizes) - 1, images[:, :1, 0, 0] + 1e-6 * self.rng.standard_normal((len(images), 1))
        )

    def state(self):
        return {"rng": generator_state(self.rng)}

    def restore(self, state):
        restore_generator(self.rng, state["rng"])


def pictures(n):
    """Images whose grey value tells their index: i / 255."""
    return np.broadcast_to((np.arange(n) / 255)[:, None, None, None], (n, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(pictures(BLOCK + 10)):
        write_png(tmp_path / "photos" / f"photo-{i:03d}.png", picture)
    return tmp_path / "photos"


def fail_at(call, error=None):
    def trouble(now, answer):
        if now == call:
            raise error or ValueError("the rig is off")
        return answer

    return trouble


def assert_equal(found: xr.Dataset, expected: xr.Dataset):
    assert set(found.variables) == set(expected.variables)
    for name in expected.variables:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)


@pytest.mark.parametrize("save", [False, True])
def test_an_array(tmp_path, save):
    subject, told = Spy(), []
    found = present(
        subject, pictures(100), repeats=2, soa_s=0.5, save=tmp_path / "run" if save else None,
        progress=lambda *numbers: told.append(numbers),
    )  # fmt: skip
    assert found.sizes == {"presentation": 200, "neuroid": 1}
    assert subject.sizes == [2 * BLOCK, 2 * 36]
    assert told == [(64, 100), (100, 100)]
    index = np.array([int(i.removeprefix("image-")) for i in found["stimulus_id"].values])
    np.testing.assert_allclose(found["responses"][:, 0], index / 255, atol=1e-4)
    assert np.bincount(index).tolist() == [2] * 100
    assert index.tolist() != sorted(index.tolist())
    for i in range(100):
        assert sorted(found["repeat"].values[index == i].tolist()) == [0, 1]
    assert set(found["kind"].values) == {"reference"}
    assert set(found["generation"].values) == {0, 1}
    np.testing.assert_allclose(found["onset_s"], 0.5 * np.arange(200))
    assert np.isnan(found["score"]).all()
    assert found["subject"].item() == "spy"
    assert found.attrs["finished"] == 1


def test_a_folder_is_read_block_by_block(folder, tmp_path, monkeypatch):
    read = []
    module = sys.modules["closedloop.protocols.present"]  # the function hides the module of its name
    genuine = module.read_images
    monkeypatch.setattr(module, "read_images", lambda paths, *how: read.extend(paths) or genuine(paths, *how))
    with pytest.raises(SubjectError, match="raised ValueError: the rig is off"):
        present(Spy(fail_at(0)), folder, resolution=8, save=tmp_path / "run")
    assert len(read) == BLOCK
    found = present(Spy(), folder, resolution=8)
    assert sorted(found["stimulus_id"].values) == [f"photo-{i:03d}" for i in range(BLOCK + 10)]
    index = np.array([int(i.removeprefix("photo-")) for i in found["stimulus_id"].values])
    np.testing.assert_allclose(found["responses"][:, 0], index / 255, atol=1e-4)


def test_image_sets_and_bundled():
    names = ImageSet(("cat", "dog"), pictures(2))
    assert set(present(Spy(), names)["stimulus_id"].values) == {"cat", "dog"}
    assert present(Spy(), "bundled", resolution=16).sizes["presentation"] >= 20


def test_the_order_follows_from_the_seed():
    one, same, other = (present(Spy(), pictures(20), seed=s)["stimulus_id"].values.tolist() for s in (1, 1, 2))
    assert one == same != other


def test_lost_presentations_are_shown_again():
    def lose(call, answer):
        answer[: 5 if call == 0 else 0] = np.nan
        return answer

    found = present(Spy(lose), pictures(20), retries=2)
    assert found.sizes["presentation"] == 25
    assert np.isnan(found["responses"]).sum() == 5
    always = present(Spy(lambda call, answer: answer * np.nan), pictures(20), retries=2)
    assert always.sizes["presentation"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats: expected a whole number of at least 1, got 0"),
        ({"repeats": 1.5}, "repeats: expected a whole number"),
        ({"retries": -1}, "retries: expected"),
        ({"soa_s": 0}, "soa_s: expected seconds above 0"),
        ({"timeout_s": -1}, "timeout_s: expected seconds above 0"),
        ({"seed": -1}, "seed: expected a whole number"),
        ({"resolution": 0}, "resolution: expected a whole number of at least 1, got 0"),
        ({"resolution": "big"}, "resolution: expected"),
        ({"images": np.zeros((2, 3, 8, 6), np.float32)}, r"expected square images \(n, 3, h, h\), got \(2, 3, 8, 6\)"),
        ({"images": np.zeros((0, 3, 8, 8), np.float32)}, "expected at least one image"),
        ({"images": np.zeros(())}, "images: expected shape"),
        ({"images": pictures(2) * 255 * 9}, "divide by 255"),
        ({"images": "no/such/folder"}, "images: expected a folder of images"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    subject = Spy()
    with pytest.raises(InvalidArgumentError, match=message):
        present(subject, **{"images": pictures(4), "save": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()
    assert not subject.sizes


def test_numpy_numbers(tmp_path):
    present(Spy(), pictures(4), repeats=np.int64(2), soa_s=np.float32(0.5), save=tmp_path / "run")
    content = yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())
    assert (content["protocol"], content["repeats"], content["soa_s"]) == ("present", 2, 0.5)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("kind", ["folder", "array"])
@pytest.mark.parametrize("error", [ValueError("the rig is off"), KeyboardInterrupt("stop")])
def test_what_failed_goes_on(tmp_path, folder, call, kind, error):
    images = folder if kind == "folder" else pictures(BLOCK + 10)
    whole = present(Spy(), images, resolution=8)
    with pytest.raises((SubjectError, KeyboardInterrupt), match=r"the rig is off|stop") as caught:
        present(Spy(fail_at(call, error)), images, resolution=8, save=tmp_path / "run")
    if call:
        assert_equal(open_recording(tmp_path / "run"), whole.isel(presentation=slice(0, BLOCK)))
    told = []
    found = resume(tmp_path / "run", subject=Spy(), progress=lambda *numbers: told.append(numbers))
    assert_equal(found, whole)
    assert len(told) == 2 - call
    assert caught.value


def test_a_folder_that_changed_meanwhile(tmp_path, folder):
    with pytest.raises(SubjectError, match="the rig is off"):
        present(Spy(fail_at(1)), folder, resolution=8, save=tmp_path / "run")
    write_png(folder / "photo-new.png", pictures(1)[0])
    with pytest.raises(InvalidArgumentError, match="images: expected the images with which"):
        resume(tmp_path / "run", subject=Spy())
    (folder / "photo-new.png").unlink()
    assert resume(tmp_path / "run", subject=Spy()).sizes["presentation"] == BLOCK + 10


def test_a_changed_shape_of_the_responses(tmp_path):
    def widen(call, answer):
        return answer if call == 0 else np.stack([answer, answer], 2)

    with pytest.raises(SubjectError, match="as before, got"):
        present(Spy(widen), pictures(BLOCK + 1), save=tmp_path / "run")
    assert open_recording(tmp_path / "run").sizes["presentation"] == BLOCK


def test_an_existing_run(tmp_path):
    present(Spy(), pictures(4), save=tmp_path / "run")
    with pytest.raises(RecordingError, match="expected a new or empty folder"):
        present(Spy(), pictures(4), save=tmp_path / "run")


def angles(n):
    return {"angle_deg": np.linspace(0, 90, n), "category": [f"c{i % 3}" for i in range(n)], "size": np.arange(n)}


def test_parameters_become_coordinates(tmp_path):
    found = present(Spy(), pictures(10), repeats=2, parameters=angles(10), save=tmp_path / "run")
    image = np.array([int(i.removeprefix("image-")) for i in found["stimulus_id"].values])
    for name, column in angles(10).items():
        assert found[name].dims == ("presentation",)
        assert found[name].values.tolist() == np.asarray(column)[image].tolist()
    assert found["size"].dtype == np.int64


def test_parameters_of_a_file_follow_the_names_of_the_images(folder, tmp_path):
    names = [f"photo-{i:03d}" for i in range(BLOCK + 10)]
    rows = [f"{n},{i / 2},{'' if i == 3 else i}" for i, n in enumerate(names)]
    (tmp_path / "p.csv").write_text("\n".join(["stimulus_id,angle_deg,seen", *rows[::-1]]))
    found = present(Spy(), folder, resolution=8, parameters=tmp_path / "p.csv")
    index = np.array([int(i.removeprefix("photo-")) for i in found["stimulus_id"].values])
    np.testing.assert_array_equal(found["angle_deg"], index / 2)
    np.testing.assert_array_equal(found["seen"], np.where(index == 3, np.nan, index))


def test_parameters_are_resumed(tmp_path):
    whole = present(Spy(), pictures(BLOCK + 5), parameters=angles(BLOCK + 5))
    with pytest.raises(SubjectError, match="the rig is off"):
        present(Spy(fail_at(1)), pictures(BLOCK + 5), parameters=angles(BLOCK + 5), save=tmp_path / "run")
    xr.testing.assert_identical(
        resume(tmp_path / "run", subject=Spy()).drop_attrs(deep=False), whole.drop_attrs(deep=False)
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"angle": [1, 2]}, "column 'angle': expected 5 values, one for each image"),
        ({"thread": range(5)}, "column 'thread': a recording has something else of that name"),
        ({"a": [1, "x", 2, 3, 4]}, "column 'a': expected text throughout or numbers throughout"),
        ({"a": [1.0, np.inf, 2, 3, 4]}, "column 'a': expected finite numbers"),
        (
            {"stimulus_id": [f"{i}.png" for i in range(5)], "a": range(5)},
            "the name of each image once, got none that is '.*' but '0.png'.*named as their files are, without",
        ),
        (7, "expected a mapping from names to one value for each image, a DataFrame, or a CSV file, got int"),
        ("nowhere.csv", "cannot read nowhere.csv as CSV"),
    ],
)
def test_parameters_that_do_not_fit(given, message, tmp_path):
    with pytest.raises(InvalidArgumentError, match=message):
        present(Spy(), pictures(5), parameters=given, save=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.zeros(2, "datetime64[s]"), "expected texts or real numbers, got datetime64"),
        (np.ones(2, complex), "expected texts or real numbers, got complex128"),
        ([2**70, 1], "expected whole numbers of at most 64 bits"),
        ([10**400, 0.5], "expected text throughout or numbers throughout"),
    ],
)
def test_parameters_of_other_types(column, message):
    with pytest.raises(InvalidArgumentError, match=f"parameters: column 'x': {message}"):
        present(Spy(), pictures(2), parameters={"x": column})


def test_masked_parameters_are_missing():
    masked = np.ma.masked_array([3, 4], mask=[False, True])
    found = present(Spy(), pictures(2), parameters={"angle": masked})
    np.testing.assert_array_equal(np.sort(found["angle"].values), [3, np.nan])


def test_parameters_with_names_that_no_recording_can_hold():
    for name in ("two\nlines", "", "tv", "half \ud83d"):
        with pytest.raises(InvalidArgumentError, match=r"parameters: column .*: a recording has something else"):
            present(Spy(), pictures(2), parameters={name: [1, 2]})
