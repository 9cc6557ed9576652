"""Images in and out."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import encode_png, from_bytes, quantize, to_bytes, write_png
from closedloop.images.resizing import resize_images, resize_matrix
from closedloop.images.sets import (
    ImageSet,
    as_image_set,
    folder_fingerprint,
    natural_references,
    read_folder,
    read_image,
)
from closedloop.interfaces import STILL, Form
from closedloop.references import __path__ as references
from tests.strategies import BAD_NAMES


def noise(n=2, h=12, w=12, seed=0):
    return np.random.default_rng(seed).random((n, 3, h, w), dtype=np.float32)


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels)).save(path, **options)


def colored(h, w, rgb):
    return np.broadcast_to(np.array(rgb, np.uint8), (h, w, 3))


def test_all_8_bit_values_survive():
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(to_bytes(from_bytes(values)), values)
    np.testing.assert_array_equal(quantize(from_bytes(values)), from_bytes(values))
    assert from_bytes(values).dtype == np.float32


def test_quantize_rounds_to_the_nearest():
    images = noise()
    quantized = quantize(images)
    assert np.abs(quantized - images).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(quantized * 255, np.rint(quantized * 255), atol=1e-4)
    np.testing.assert_array_equal(quantize(quantized), quantized)


def test_resize_to_the_same_size_is_the_same_image():
    images = noise()
    assert resize_images(images, 12) is images


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 50), st.floats(0, 1, width=32))
@settings(max_examples=40)
def test_flat_images_stay_flat(h, w, new, grey):
    resized = resize_images(np.full((1, 3, h, w), grey, np.float32), new)
    assert resized.shape == (1, 3, new, new)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, grey, atol=1e-6)


@pytest.mark.parametrize("new", [8, 24, 48, 5])
def test_resize_preserves_the_mean_and_the_place_of_things(new):
    y, x = (np.arange(24) + 0.5) / 24, (np.arange(24) + 0.5) / 24
    spot = np.exp(-((y[:, None] - 0.35) ** 2 + (x[None] - 0.6) ** 2) / 0.02)
    images = np.broadcast_to(spot, (1, 3, 24, 24)).astype(np.float32)
    resized = resize_images(images, new)[0, 0]
    assert resized.mean() == pytest.approx(spot.mean(), rel=0.03)
    place = (np.arange(new) + 0.5) / new
    assert (resized.sum(1) @ place) / resized.sum() == pytest.approx((spot.sum(1) @ y) / spot.sum(), abs=0.01)
    assert (resized.sum(0) @ place) / resized.sum() == pytest.approx((spot.sum(0) @ x) / spot.sum(), abs=0.01)


def test_shrinking_is_antialiased():
    stripes = np.zeros((1, 3, 32, 32), np.float32)
    stripes[..., ::2] = 1
    assert np.abs(resize_images(stripes, 8)[..., 1:-1] - 0.5).max() < 0.05


def test_resize_equals_torch():
    torch = pytest.importorskip("torch")
    images = noise(h=13, w=13)
    for new in (7, 29):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(images), (new, new), mode="bilinear", antialias=True, align_corners=False
        )
        np.testing.assert_allclose(resize_images(images, new), expected.numpy(), atol=1e-5)


def test_resize_matrix_rows_sum_to_one():
    for size, new in [(5, 9), (9, 5), (4, 4), (1, 3)]:
        matrix = resize_matrix(size, new)
        assert matrix.shape == (new, size)
        np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(resize_matrix(6, 6), np.eye(6))


def test_read_image_takes_the_central_square(tmp_path):
    wide = np.concatenate([colored(8, 4, (255, 0, 0)), colored(8, 8, (0, 0, 255)), colored(8, 4, (255, 0, 0))], axis=1)
    save(tmp_path / "wide.png", wide)
    save(tmp_path / "tall.png", wide.transpose(1, 0, 2))
    for name in ("wide.png", "tall.png"):
        image = read_image(tmp_path / name, 8)
        assert image.shape == (3, 8, 8)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, colored(8, 8, (0, 0, 255)).transpose(2, 0, 1))
        assert read_image(tmp_path / name, 4).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((4, 4), 77, np.uint8), 77),
        (np.full((4, 4, 2), (10, 255), np.uint8), 10),
        (np.full((4, 4, 2), (10, 0), np.uint8), 128),
        (np.full((4, 4, 4), (255, 255, 255, 0), np.uint8), 128),
        (np.full((4, 4, 4), (9, 9, 9, 255), np.uint8), 9),
        (np.full((4, 4), 257 * 40, np.uint16), 40),
    ],
    ids=["grey", "grey opaque", "grey transparent", "transparent", "opaque", "16 bit"],
)
def test_other_kinds_of_files(tmp_path, pixels, expected):
    save(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 4), np.full((3, 4, 4), expected))


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (4, 4))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png", transparency=b"\x00\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 4), np.full((3, 4, 4), 128))


def test_photographs_stand_upright(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    save(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 4)[0], pixels[::-1, :, 0])


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(InvalidArgumentError, match=r"cannot read .*broken\.png as a PNG image"):
        read_folder(tmp_path, 8)
    save(tmp_path / "good.png", colored(32, 32, (9, 9, 9)))
    (tmp_path / "short.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    with pytest.raises(InvalidArgumentError, match=r"cannot read .*short\.png as a PNG image"):
        read_image(tmp_path / "short.png", 8)
    save(tmp_path / "float.tif", np.full((4, 4), 0.5, np.float32))
    with pytest.raises(InvalidArgumentError, match="no known range"):
        read_image(tmp_path / "float.tif", 4)


def test_read_folder_in_the_order_of_names(tmp_path):
    for name, grey in [("b.png", 2), ("a.png", 1), ("c.PNG", 3), ("d.png", 4), ("d.bmp", 5)]:
        save(tmp_path / name, colored(4, 4, (grey, grey, grey)))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    found = read_folder(str(tmp_path), 4)
    assert found.ids == ("a", "b", "c", "d.bmp", "d.png")
    assert to_bytes(found.images)[:, 0, 0, 0].tolist() == [1, 2, 3, 5, 4]
    assert len(found) == 5


def test_a_link_to_what_is_not_there_is_no_image_less(tmp_path):
    save(tmp_path / "a.png", colored(4, 4, (1, 1, 1)))
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "notes.txt").symlink_to("nowhere")
    assert read_folder(tmp_path, 4).ids == ("a", "b")
    (tmp_path / "c.png").symlink_to("nowhere")
    (tmp_path / "d.jpg").symlink_to("d.jpg")
    with pytest.raises(InvalidArgumentError, match=r"images: .*c\.png is a link to a file that is not there, and so"):
        read_folder(tmp_path, 4)


@pytest.mark.parametrize("value", [-1, 65536, 2**31 - 1])
def test_grey_values_of_more_than_16_bits_are_not_cut(tmp_path, value):
    Image.fromarray(np.full((4, 4), value, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InvalidArgumentError, match="expected grey values of 16 bits, 0 to 65535, got"):
        read_image(tmp_path / "a.tif", 4)


def test_folders_without_images(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"no image in .*expected files ending in .jpg"):
        read_folder(tmp_path, 8)
    with pytest.raises(InvalidArgumentError, match="which is not a folder"):
        read_folder(tmp_path / "nowhere", 8)


def test_image_set_refuses():
    with pytest.raises(InvalidArgumentError, match="ids: expected 2 names, got 1"):
        ImageSet(("a",), noise())
    with pytest.raises(InvalidArgumentError, match="ids: each must be unique, got 'a' twice"):
        ImageSet(("a", "a"), noise())
    for wrong in (
        noise() * 9,
        noise() * np.nan,
        (noise() * 255).astype(np.uint8),
        np.ma.masked_less(noise(), 0.5),
        None,
    ):
        with pytest.raises(InvalidArgumentError, match=r"^images: expected "):
            ImageSet(("a", "b"), wrong)
    for name in BAD_NAMES:
        with pytest.raises(InvalidArgumentError, match="ids: expected texts of one line"):
            ImageSet(("a", name), noise())


def test_as_image_set(tmp_path):
    made = as_image_set(noise(3), 12)
    assert made.ids == ("image-00000", "image-00001", "image-00002")
    np.testing.assert_array_equal(made.images, quantize(noise(3)))
    np.testing.assert_array_equal(as_image_set(made, 12).images, made.images)
    smaller = as_image_set(made, 6)
    assert smaller.ids == made.ids
    np.testing.assert_array_equal(smaller.images, quantize(resize_images(made.images, 6)))
    write_png(tmp_path / "x.png", made.images[0])
    np.testing.assert_array_equal(as_image_set(tmp_path, 12).images, made.images[:1])
    with pytest.raises(InvalidArgumentError, match="expected at least one image, got none"):
        as_image_set(np.empty((0, 3, 4, 4)), 4)
    with pytest.raises(InvalidArgumentError, match="images: expected shape"):
        as_image_set(np.zeros((4, 4)), 4)


def test_bundled_references():
    found = as_image_set("bundled", 16)
    assert len(found) >= 100
    assert found.images.shape[1:] == (3, 16, 16)
    np.testing.assert_array_equal(natural_references(16).images, found.images)


@pytest.mark.parametrize("form", [STILL, Form(1), Form(3, 4, 10.0)], ids=["colours", "grey", "movies"])
def test_bundled_references_are_read_once_and_handed_out_anew(form, monkeypatch):
    first = natural_references(11, form)
    expected = read_folder(references[0], 11, form)
    assert (first.ids, first.rate_hz) == (expected.ids, expected.rate_hz)
    np.testing.assert_array_equal(first.images, expected.images)
    monkeypatch.setattr("closedloop.images.sets.read_image", None)
    natural_references(11, form).images[:] = 0
    np.testing.assert_array_equal(natural_references(11, form).images, expected.images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (16, 16), (33, 50)])
@pytest.mark.parametrize("kind", ["noise", "flat", "ramp"])
def test_a_png_holds_exactly_these_values(channels, size, kind):
    shape = (channels, *size)
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    ramp = np.arange(values.size).reshape(shape) % 256
    values = {"noise": values, "flat": np.full(shape, 200, np.uint8), "ramp": ramp}
    data = encode_png(from_bytes(values[kind].astype(np.uint8)))
    with Image.open(io.BytesIO(data)) as image:
        image.verify()  # checksums of the chunks
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("L" if channels == 1 else "RGB")
        read = np.asarray(image).reshape(*size, channels).transpose(2, 0, 1)
    np.testing.assert_array_equal(read, values[kind])


def test_write_png_is_exact_and_leaves_nothing_behind(tmp_path):
    image = quantize(noise(1))[0]
    write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(from_bytes(read_image(tmp_path / "a.png", 12)), image)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("call", [natural_references, lambda size: resize_images(noise(1), size)])
def test_what_no_memory_holds_is_refused_at_once(call):
    with pytest.raises(InvalidArgumentError, match=r"resolution: an array of .* takes .* GB, and this computer has"):
        call(10**7)


def test_an_argument_of_another_name_is_named_so(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"^references: expected a folder of images, got 10"):
        as_image_set("10", 8, name="references")


def test_a_name_that_is_no_text_has_a_fingerprint_too(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    one = folder_fingerprint(tmp_path)
    (tmp_path / os.fsdecode(b"\xff.png")).rename(tmp_path / os.fsdecode(b"\xfe.png"))
    assert folder_fingerprint(tmp_path) != one


def test_a_resolution_beyond_all_floats_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"resolution: an array of .{40,100} takes .{40} GB"):
        natural_references(10**400)
