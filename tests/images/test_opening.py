"""Pictures are decoded as what their endings promise, and as nothing else."""

import contextlib
import struct
import subprocess
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from closedloop.errors import InvalidArgumentError
from closedloop.images.opening import FORMATS, open_picture, read_picture
from tests.strategies import counted_settings

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n0 0 20 20 rectfill\nshowpage\n%%EOF\n"


def written(path, form):
    """A small picture in a format, under whatever name."""
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path, format=form)
    return path


def test_a_bomb_is_refused_in_words():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(InvalidArgumentError, match=r"more than 179 megapixels, .*; make it smaller\.$"):
        read_picture(bomb, ".png", most=50_000_000)


@pytest.mark.parametrize(("ending", "form"), FORMATS.items())
def test_every_format_is_read_under_its_own_endings(tmp_path, ending, form):
    for name in (f"a{ending}", f"b{ending.upper()}"):
        assert read_picture(written(tmp_path / name, form)).size == (8, 8)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("form", sorted(set(FORMATS.values())))
def test_another_format_is_named_with_its_ending(tmp_path, ending, form):
    if FORMATS[ending] == form:
        return
    with pytest.raises(InvalidArgumentError, match=f"its content is {form}; let its name end in"):
        read_picture(written(tmp_path / f"a{ending}", form))


@pytest.mark.parametrize("ending", FORMATS)
def test_no_interpreter_is_started_on_what_is_no_picture(tmp_path, monkeypatch, ending):
    def start(*_, **__):
        raise AssertionError("a program was started")

    for module, name in ((subprocess, "Popen"), (subprocess, "check_call"), (EpsImagePlugin, "Ghostscript")):
        monkeypatch.setattr(module, name, start)
    file = tmp_path / f"x{ending}"
    file.write_bytes(EPS)
    with pytest.raises(InvalidArgumentError, match=f"cannot read .* as a {FORMATS[ending]} image"):
        read_picture(file)


@pytest.mark.parametrize("form", ["PPM", "PCX", "TGA", "SGI", "ICO", "PDF", "JPEG2000", "DDS", "MSP"])
def test_formats_that_no_ending_promises_are_refused(tmp_path, form):
    file = tmp_path / "x.png"
    Image.new("1" if form == "MSP" else "RGB", (8, 8)).save(file, format=form)
    with pytest.raises(InvalidArgumentError, match="as a PNG image"):
        read_picture(file)


@pytest.mark.parametrize("name", ["x.eps", "x", "x.svg", "x.png.txt", ".png"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(InvalidArgumentError, match=r"expected one of \.jpg"):
        read_picture(written(tmp_path / name, "PNG"))


def test_a_picture_without_a_file_tells_its_ending(tmp_path):
    raw = written(tmp_path / "a.png", "PNG").read_bytes()
    with open_picture(raw, ".png") as opened:
        assert opened.size == (8, 8)
    with pytest.raises(InvalidArgumentError, match="these bytes as a GIF image"), open_picture(raw, ".gif"):
        pass


def test_damaged_pictures_end_in_one_kind_of_error(tmp_path, counted, tally):
    whole = {form: written(tmp_path / "a.bin", form).read_bytes() for form in FORMATS.values()}

    @counted_settings(counted, full=20_000)
    @given(ending=st.sampled_from(sorted(FORMATS)), data=st.data())
    def holds(ending, data):
        raw = bytearray(whole[FORMATS[ending]])
        for _ in range(data.draw(st.integers(1, 6))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        file = tmp_path / f"a{ending}"
        file.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
        tally("picture files")
        with contextlib.suppress(InvalidArgumentError):
            assert read_picture(file).mode == "RGB"

    holds()
