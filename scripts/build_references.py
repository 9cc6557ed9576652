"""Build the bundled reference photographs and their credits from Debian packages.

The script downloads pinned versions of Debian packages, crops openly licensed photographs out of them, and writes
square JPEG files and ``CREDITS.md`` to the output folder. It needs a Debian 12 system with ``apt-get`` and
``dpkg-deb``. The same package versions and the same Pillow version give the same bytes.

Usage:
    python scripts/build_references.py --out closedloop/references
"""

from __future__ import annotations

import argparse
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from PIL import Image, ImageOps
from reference_photos import GCOMPRIS_RCC, GCOMPRIS_ROOT, LICENCES, PACKAGES, PHOTOS, ROOTS, SHARE_ALIKE, Credit, Photo

from closedloop.images.opening import open_picture

SIDE = 224
"""Width and height of every written photograph, in pixels."""


def fetch(packages: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Download packages and unpack each into a folder of its own.

    Args:
        packages: Versions by package name.
        folder: Empty folder to work in.

    Returns:
        The unpacked folder of each package.
    """
    unpacked: dict[str, Path] = {}
    for name, version in packages.items():
        subprocess.run(
            ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", f"{name}={version}"],
            cwd=folder,
            check=True,
        )
        (archive,) = folder.glob(f"{name}_*.deb")
        unpacked[name] = folder / name
        subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked[name])], check=True)
        archive.unlink()
    return unpacked


def read_rcc(data: bytes) -> dict[str, bytes]:
    """Read every file of a Qt binary resource bundle.

    Args:
        data: Content of the bundle.

    Returns:
        File contents by path inside the bundle.

    Raises:
        ValueError: If the data is no such bundle or uses a compression other than zlib.
    """
    if data[:4] != b"qres":
        raise ValueError("not a Qt resource bundle")
    version, tree, blobs, names = struct.unpack_from(">iiii", data, 4)
    node_size = 22 if version >= 2 else 14
    files: dict[str, bytes] = {}

    def visit(index: int, parent: str) -> None:
        node = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", data, node)
        path = parent
        if index:
            (length,) = struct.unpack_from(">H", data, names + name_offset)
            start = names + name_offset + 6
            name = data[start : start + 2 * length].decode("utf-16-be")
            path = f"{parent}/{name}" if parent else name
        if flags & 2:
            count, first = struct.unpack_from(">II", data, node + 6)
            for child in range(first, first + count):
                visit(child, path)
            return
        if flags & 4:
            raise ValueError(f"{path}: unknown compression")
        (offset,) = struct.unpack_from(">I", data, node + 10)
        (size,) = struct.unpack_from(">I", data, blobs + offset)
        blob = data[blobs + offset + 4 : blobs + offset + 4 + size]
        files[path] = zlib.decompress(blob[4:]) if flags & 1 else blob

    visit(0, "")
    return files


def spdx(licence: str) -> str:
    """Return the SPDX identifier of a licence named in a README of GCompris.

    Args:
        licence: Name such as `CC-BY-SA 4.0` or `Public Domain`.

    Returns:
        One of the keys of `LICENCES`.

    Raises:
        ValueError: If the licence is not one of them.
    """
    name = licence.strip().replace(" ", "-")
    name = {"public-domain": "LicenseRef-Public-Domain", "gplv2+": "GPL-2.0-or-later"}.get(name.lower(), name)
    if name not in LICENCES:
        raise ValueError(f"licence not allowed: {licence}")
    return name


def readme_credit(readme: str, name: str) -> Credit:
    """Find the credit of one file in a README of GCompris.

    The README has one paragraph per author, with the fields `Copyright`, `License`, `Source` and `Files`.

    Args:
        readme: Text of the README.
        name: Path of the file, relative to the README.

    Returns:
        The credit.

    Raises:
        ValueError: If not exactly one paragraph names the file, or its licence is not allowed.
    """
    found: list[dict[str, list[str]]] = []
    for paragraph in re.split(r"\n\s*\n", readme):
        fields: dict[str, list[str]] = {}
        key = ""
        for line in paragraph.splitlines():
            match = re.match(r"(Copyright|Licen[sc]e|Source|Files|Comments?):\s*(.*)$", line)
            if match:
                key, line = match[1].replace("Licence", "License"), match[2]
            if key and line.strip():
                fields.setdefault(key, []).append(line.strip())
        if name in fields.get("Files", []):
            found.append(fields)
    if len(found) != 1:
        raise ValueError(f"{name}: {len(found)} credits instead of one")
    fields = found[0]
    source = fields.get("Source", [""])[0]
    title = ""
    if "File:" in source:
        title = re.sub(r"\.\w+$", "", unquote(source.split("File:")[1])).replace("_", " ").strip()
    author = " ".join(fields["Copyright"]).removeprefix("©").strip()
    return Credit(author, spdx(fields["License"][0]), title, source)


def crop_box(size: tuple[int, int], crop: tuple[float, float, float]) -> tuple[int, int, int, int]:
    """Return the pixel box of a square crop, moved inside the image where it would stick out.

    Args:
        size: Width and height of the image.
        crop: Centre and side as in `Photo.crop`.

    Returns:
        Left, top, right and bottom.
    """
    width, height = size
    side = round(min(width, height) * crop[2])
    left = min(max(round(width * crop[0] - side / 2), 0), width - side)
    top = min(max(round(height * crop[1] - side / 2), 0), height - side)
    return left, top, left + side, top + side


def square(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Crop a photograph and scale it to the final size."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    return image.crop(box).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def on_grey(image: Image.Image) -> Image.Image:
    """Scale a cut-out object to the final size and place it in the middle of a grey square."""
    image = image.convert("RGBA")
    image = image.crop(image.getchannel("A").getbbox())
    room = round(SIDE * (1 - 2 * 0.06))  # 6 % of the side stay free on each side of the object
    scale = room / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Scaling in premultiplied alpha keeps hidden colours out of the edges.
    image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    canvas = Image.new("RGBA", (SIDE, SIDE), (128, 128, 128, 255))
    canvas.alpha_composite(image, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return canvas.convert("RGB")


def encode(image: Image.Image, most_bytes: int = 22_000) -> bytes:
    """Encode a photograph as a baseline JPEG without metadata, at the best quality that fits, from 92 down to 75."""
    data = b""
    for quality in range(92, 74, -1):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=False)
        data = buffer.getvalue()
        if len(data) <= most_bytes:
            break
    return data


def credits_table(rows: Sequence[tuple[str, Photo, Credit, str, str]]) -> str:
    """Return the text of `CREDITS.md`.

    Args:
        rows: File name, entry, credit, path inside the package, and crop box of each photograph.

    Returns:
        Markdown text with one table row per photograph.
    """
    used = {row[2].licence for row in rows}
    lines = [
        "# Credits of the reference photographs",
        "",
        "Each photograph keeps its own licence: the licence of the folder is per file, and the table names it.",
        "The licence of the program does not cover these files.",
        "Every photograph is changed from its source: it is cropped to a square, scaled to 224 x 224 pixels and",
        "encoded again as JPEG. Cut-out objects are placed on mid-grey.",
        "Paths after `!` are paths inside a resource bundle of the package.",
        "",
        "## Licences",
        "",
        "Photographs under a CC-BY-SA, GPL or LGPL licence are marked as share-alike: changed versions of them must",
        "keep that licence. `LicenseRef-Public-Domain` marks photographs that their source calls public domain.",
        "",
        "| SPDX id | Photographs | Share-alike | Text |",
        "| --- | --- | --- | --- |",
    ]
    for licence, address in LICENCES.items():
        if licence in used:
            count = sum(row[2].licence == licence for row in rows)
            share_alike = "yes" if licence.startswith(SHARE_ALIKE) else "no"
            lines.append(f"| {licence} | {count} | {share_alike} | <{address}> |")
    lines += [
        "",
        "## Photographs",
        "",
        "| File | Title | Author | Licence | Package | Version | Path in the package | Crop box |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, photo, credit, path, box in rows:
        title = credit.title or "untitled"
        if credit.source:
            title = f"[{title}]({quote(unquote(credit.source), safe=':/?=&,;')})"
        cells = [name, title, credit.author, credit.licence, photo.package, PACKAGES[photo.package], f"`{path}`", box]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def build(out: Path) -> int:
    """Write the photographs and `CREDITS.md`; photographs that were in the folder before are removed.

    Args:
        out: Folder to write to; it is made where missing.

    Returns:
        Size of the written files in bytes.

    Raises:
        ValueError: If a credit or a licence is missing, or the files are too large together.
    """
    rows: list[tuple[str, Photo, Credit, str, str]] = []
    files: dict[str, bytes] = {}
    bundles: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = fetch(PACKAGES, Path(temporary))
        for number, photo in enumerate(PHOTOS, start=1):
            if photo.package == "gcompris-qt-data":
                bundle = f"{GCOMPRIS_RCC}/{photo.path.split('/')[0]}.rcc"
                if bundle not in bundles:
                    bundles[bundle] = read_rcc((unpacked[photo.package] / bundle).read_bytes())
                inner = f"{GCOMPRIS_ROOT}/{photo.path}"
                raw, path = bundles[bundle][inner], f"{bundle}!/{inner}"
                readme = next(
                    str(folder / "README")
                    for folder in Path(inner).parents
                    if str(folder / "README") in bundles[bundle]
                )
                relative = os.path.relpath(inner, Path(readme).parent)
                credit = readme_credit(bundles[bundle][readme].decode(), relative)
            else:
                path = f"{ROOTS[photo.package]}/{photo.path}"
                raw = (unpacked[photo.package] / path).read_bytes()
                if photo.credit is None:
                    raise ValueError(f"{photo.slug}: no credit")
                credit = photo.credit
            if credit.licence not in LICENCES:
                raise ValueError(f"{photo.slug}: licence not allowed: {credit.licence}")
            with open_picture(raw, Path(path).suffix) as image:
                if photo.crop is None:
                    picture, box = on_grey(image), "whole, on grey"
                else:
                    edges = crop_box(ImageOps.exif_transpose(image).size, photo.crop)
                    picture, box = square(image, edges), ", ".join(map(str, edges))
            name = f"{number:03d}_{photo.slug}.jpg"
            files[name] = encode(picture)
            rows.append((name, photo, credit, path, box))
    files["CREDITS.md"] = credits_table(rows).encode()
    total = sum(map(len, files.values()))
    most = 3_000_000  # of the whole folder
    if total > most:
        raise ValueError(f"{total} bytes are more than {most}")
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.jpg"):
        old.unlink()
    for name, data in files.items():
        (out / name).write_bytes(data)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script.

    Args:
        argv: Command-line arguments without the program name; those of the process where not given.

    Returns:
        Exit status.
    """
    parser = argparse.ArgumentParser(description="Build the reference photographs from Debian packages.")
    parser.add_argument(
        "--out", type=Path, default=Path("closedloop/references"), help="folder to write to (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    total = build(arguments.out)
    sys.stdout.write(f"{len(PHOTOS)} photographs, {total} bytes in {arguments.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
