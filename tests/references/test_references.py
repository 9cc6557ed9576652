from __future__ import annotations

import hashlib
import importlib.resources
from collections import Counter
from importlib.resources.abc import Traversable
from io import BytesIO

import pytest
from PIL import Image

FOLDER = importlib.resources.files("closedloop") / "references"
PHOTOGRAPHS = sorted((item for item in FOLDER.iterdir() if item.name.endswith(".jpg")), key=lambda item: item.name)
ALLOWED_LICENCES = {
    "LicenseRef-Public-Domain",
    "CC0-1.0",
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "GPL-2.0-or-later",
    "LGPL-3.0-only",
}


def credit_rows() -> list[list[str]]:
    text = (FOLDER / "CREDITS.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in text.splitlines()]
    return [row for row in rows if row[0].endswith(".jpg")]


def test_there_are_enough_photographs() -> None:
    assert len(PHOTOGRAPHS) >= 100


def test_the_folder_is_small() -> None:
    credits_bytes = (FOLDER / "CREDITS.md").read_bytes()
    assert sum(len(item.read_bytes()) for item in PHOTOGRAPHS) + len(credits_bytes) <= 3_000_000


@pytest.mark.parametrize("item", PHOTOGRAPHS, ids=lambda item: item.name)
def test_a_photograph_is_a_plain_square_jpeg(item: Traversable) -> None:
    assert item.name.isascii()
    with Image.open(BytesIO(item.read_bytes())) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (224, 224))
        assert not image.getexif()
        assert not {"exif", "icc_profile", "progressive"} & set(image.info)


def test_every_photograph_has_exactly_one_credit() -> None:
    assert Counter(row[0] for row in credit_rows()) == Counter(item.name for item in PHOTOGRAPHS)


def test_every_credit_names_an_author_and_an_allowed_licence() -> None:
    for row in credit_rows():
        assert len(row) == 8, row
        assert all(row), row
        assert row[3] in ALLOWED_LICENCES, row


def test_no_two_photographs_are_the_same() -> None:
    digests = Counter(hashlib.sha256(item.read_bytes()).hexdigest() for item in PHOTOGRAPHS)
    assert max(digests.values()) == 1
