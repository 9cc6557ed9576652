"""A finished run in one file: easy to copy and to keep, and opened, shown, reported and exported as its folder is."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from closedloop.errors import RecordingError
from closedloop.files import PARTIAL, complete, synchronize
from closedloop.recording.checksums import Checked, Sum
from closedloop.recording.layout import DATA, LOCK
from closedloop.recording.places import PACKED, is_packed
from closedloop.recording.reader import check_kept, checked_sums, read_pointer, reading
from closedloop.signatures import at_door


@at_door
def pack(run: str | Path, out: str | Path | None = None, *, remove: bool = False) -> Path:
    """Packs a finished run into one zip file, which `closedloop.open_recording` opens as it does the folder.

    Each file of the data is compared with its checksum on the way. The zip is not compressed, so that it is read
    lazily, and holds the folder's files under their names: any program that reads zip files and zarr opens it.

    Args:
        run: The run's folder.
        out: The file, ending in ``.zip``; must not exist. Default beside the folder, with its name.
        remove: Whether the folder is removed once the file is complete.

    Returns:
        The file.

    Raises:
        RecordingError: It is not a run, not finished, or damaged; or the file exists or cannot be written.
    """
    folder = Path(run)
    file = folder.with_name(folder.name + PACKED) if out is None else Path(out)
    if is_packed(folder):
        raise RecordingError(f"{folder}: expected the folder of a run, but this is packed already.")
    if file.suffix.lower() != PACKED:
        raise RecordingError(f"out: expected a name ending in {PACKED}, got {file}.")
    pointer = read_pointer(folder)
    if not pointer["finished"]:
        raise RecordingError(f"{folder}: expected a finished run; go on with it first: closedloop resume {folder}")
    data = pointer.get("data", DATA)
    with reading(folder, disk=False):
        sums = checked_sums(folder, pointer) if "checksums" in pointer else {}
    check_kept(folder)
    with complete(file) as temporary:
        _write(folder, temporary, data, sums)
        synchronize(temporary)
    synchronize(file.parent)
    if remove:
        shutil.rmtree(folder)
    return file


def _write(folder: Path, out: Path, data: str, sums: dict[str, Sum]) -> None:
    """Writes all files of a run but its lock and what was never finished; what must be in the data is in `sums`."""
    checked = Checked(f"{folder}: {data}", sums, f"{data}/")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            left_over = bool(sums) and name.startswith(f"{data}/") and not checked.knows(name)
            if not path.is_file() or name == LOCK or name.endswith(PARTIAL) or left_over:
                continue
            content = path.read_bytes()
            archive.writestr(name, checked.committed(name, content) if checked.knows(name) else content)
