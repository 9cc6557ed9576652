"""Pictures of a recording by name: files that were kept, else made again; a missing one has its reason."""

import shutil

import numpy as np
import pytest
from PIL import Image

from closedloop import RandomSearch, Session, Thread, Unit, open_recording
from closedloop.errors import RecordingError
from closedloop.generators import Fourier
from closedloop.recording.pictures import Pictures
from closedloop.subjects import FunctionSubject


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run that kept every image, and two references of which one is named like an evolved image."""
    from closedloop import ImageSet

    folder = tmp_path_factory.mktemp("pictures") / "run"
    generator = Fourier(16, cutoff=3)
    names = ("main-g0000-000", "natural")
    references = ImageSet(names, np.stack([np.zeros((3, 16, 16)), np.ones((3, 16, 16))]).astype(np.float32))
    Session(
        FunctionSubject(lambda images: images.mean((2, 3))[:, :1], units=1),
        [Thread(generator, RandomSearch(generator.space, 0, population=5), Unit(0))],
        references=references, images=10, keep="all", retest_repeats=2, save=folder,
    ).run()  # fmt: skip
    return folder


@pytest.fixture
def run(kept, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(kept, tmp_path / "run")


def test_a_kept_file_is_the_picture(run):
    with Image.open(run / "images" / "main-g0001-002.png") as image:
        expected = np.asarray(image)
    assert np.array_equal(Pictures(open_recording(run))("main-g0001-002"), expected)


def test_without_the_file_it_is_made_again_the_same(run):
    expected = Pictures(open_recording(run))("main-g0001-002")
    shutil.rmtree(run / "images")
    pictures = Pictures(open_recording(run))
    assert np.array_equal(pictures("main-g0001-002"), expected)
    assert not pictures.missing


def test_references_and_evolved_images_of_one_name_are_told_apart(run):
    pictures = Pictures(open_recording(run))
    assert pictures.reference("main-g0000-000").max() == 0
    assert pictures("main-g0000-000").max() > 0
    assert pictures.reference("natural").min() == 255
    assert pictures.reference("main-g0001-000") is None


def test_several_come_in_the_order_of_their_names(run):
    pictures = Pictures(open_recording(run))
    names = ["main-g0001-003", "nowhere", "main-g0000-001", "main-g0001-003"]
    (run / "images" / "main-g0000-001.png").unlink()
    found = pictures.several(names)
    assert found[1] is None
    assert found[0] is found[3]
    assert np.array_equal(found[2], Pictures(open_recording(run))("main-g0000-001"))


def test_a_name_never_leads_out_of_the_folder(run):
    Image.new("RGB", (2, 2)).save(run.parent / "private.png")
    assert Pictures(open_recording(run))("../../private") is None


def test_a_damaged_file_is_an_error(run):
    (run / "images" / "main-g0000-001.png").write_bytes(b"no image")
    with pytest.raises(RecordingError, match=r"main-g0000-001\.png is damaged \(its checksum"):
        Pictures(open_recording(run))("main-g0000-001")


def test_why_there_is_none(run):
    shutil.rmtree(run / "images")
    ds = open_recording(run)
    recipes = [text.replace("fourier", "python-object") for text in ds["generator_recipe"].values]
    pictures = Pictures(ds.assign_coords(generator_recipe=("evolution", recipes)))
    assert pictures("main-g0000-001") is None
    assert "has no name to load it by" in next(iter(pictures.missing))


def test_other_weights_are_a_doubt(run):
    shutil.rmtree(run / "images")
    pictures = Pictures(open_recording(run).assign_coords(generator_sha256=("evolution", ["0" * 64])))
    assert pictures("main-g0000-001") is not None
    missing, others = pictures.doubts
    assert missing == "images that the run kept are missing from its folder; they are made again."
    assert "are not those that made the images" in others


def test_an_image_that_was_never_committed_is_made_again(tmp_path):
    """A process died between an image and the commit that names it."""
    run, generator = tmp_path / "run", Fourier(16, cutoff=3)
    subject = FunctionSubject(lambda images: images.mean((2, 3))[:, :1], units=1)
    thread = Thread(generator, RandomSearch(generator.space, 0, population=5), Unit(0))
    Session(subject, [thread], references=None, images=10, save=run).run()
    files = list((run / "images").glob("*.png"))
    recording = open_recording(run)
    other = next(name for name in recording["stimulus_id"].values if name not in {file.stem for file in files})
    expected = Pictures(recording)(other)
    files[0].with_stem(other).write_bytes(files[0].read_bytes())
    np.testing.assert_array_equal(Pictures(open_recording(run))(other), expected)
