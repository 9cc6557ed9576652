"""Images in and out: folders of photographs, resizing, 8-bit files. RGB in [0, 1], ``(n, 3, h, w)`` float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import from_bytes, quantize
from closedloop.images.resizing import resize_images

#: File endings that are read as photographs.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True)
class ImageSet:
    """Named images, all of one size, with 8-bit values so that a file can hold them exactly.

    Attributes:
        ids: A unique name for each.
        images: ``(n, 3, h, w)`` float32, RGB in [0, 1], multiples of 1/255.
    """

    ids: tuple[str, ...]
    images: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.images):
            raise InvalidArgumentError(f"ids: expected {len(self.images)} names, got {len(self.ids)}.")
        if len(set(self.ids)) != len(self.ids):
            raise InvalidArgumentError("ids: expected a different name for each image; two have the same.")

    def __len__(self) -> int:
        return len(self.ids)


def read_image(path: Path, resolution: int) -> NDArray[np.uint8]:
    """One photograph, upright, its central square, resized: ``(3, resolution, resolution)`` 8-bit RGB.

    Raises:
        InvalidArgumentError: The file is not a readable image.
    """
    try:
        with Image.open(path) as opened:
            picture = _as_rgb(ImageOps.exif_transpose(opened))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidArgumentError(f"images: cannot read {path} as an image ({error}).") from error
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    if side != resolution:
        square = square.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.asarray(square).transpose(2, 0, 1)


def folder_images(folder: str | Path) -> tuple[tuple[str, ...], list[Path]]:
    """Names and paths of the images in a folder, in the order of their names.

    Raises:
        InvalidArgumentError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidArgumentError(f"images: expected a folder of images, got {folder}, which is not a folder.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise InvalidArgumentError(f"images: no image in {folder}; expected files ending in {', '.join(SUFFIXES)}.")
    stems = Counter(p.stem for p in paths)
    return tuple(p.stem if stems[p.stem] == 1 else p.name for p in paths), paths


def _as_rgb(picture: Image.Image) -> Image.Image:
    """8-bit RGB: transparent parts show mid-grey, 16-bit grey values are divided by 257."""
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        grey = np.rint(np.asarray(picture, dtype=float) / 257).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
    return picture.convert("RGB")


def read_folder(folder: str | Path, resolution: int) -> ImageSet:
    """All images of a folder in the order of their names: the central square of each, resized.

    Raises:
        InvalidArgumentError: There is no such folder, no image in it, or an image that cannot be read.
    """
    ids, paths = folder_images(folder)
    return ImageSet(ids, from_bytes(np.stack([read_image(p, resolution) for p in paths])))


def natural_references(resolution: int = 224) -> ImageSet:
    """The bundled natural photographs; ``closedloop/references/CREDITS.md`` names their authors and licences."""
    with resources.as_file(resources.files("closedloop") / "references") as folder:
        return read_folder(folder, resolution)


def as_image_set(images: ImageSet | str | Path | NDArray[Any] | Sequence[Any], resolution: int) -> ImageSet:
    """An image set from a folder, an array ``(n, 3, h, w)`` or another set, at the given resolution.

    Arrays are rounded to 8 bits, so that what is stored is what was shown.
    """
    if isinstance(images, (str, Path)):
        return natural_references(resolution) if str(images) == "bundled" else read_folder(images, resolution)
    if isinstance(images, ImageSet):
        ids, array = images.ids, images.images
    else:
        array = check_images(np.asarray(images))
        ids = tuple(f"image-{i:05d}" for i in range(len(array)))
    if len(array) == 0:
        raise InvalidArgumentError("images: expected at least one image, got none.")
    return ImageSet(ids, quantize(resize_images(array, resolution)))
