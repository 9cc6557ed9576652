"""Folders of other systems with something wrong in them: arrays of another type or shape, damaged and missing files."""

import shutil
from contextlib import suppress

import numpy as np

from closedloop.errors import ClosedLoopError
from closedloop.formats.importers.building import read_arrays

#: What is done to one array of a file.
CHANGES = [
    lambda a, rng: a[..., None],
    lambda a, rng: a.ravel()[:1].reshape(()) if a.size else a,
    lambda a, rng: a[:0] if a.ndim else a.ravel()[:0],
    lambda a, rng: a[1:] if a.ndim else a,
    lambda a, rng: np.concatenate([a, a]) if a.ndim else a,
    lambda a, rng: a.astype(str),
    lambda a, rng: a.astype("S"),
    lambda a, rng: np.full(a.shape, np.inf),
    lambda a, rng: np.full(a.shape, np.nan),
    lambda a, rng: np.full(a.shape, 1e300),
    lambda a, rng: np.full(a.shape, -1),
    lambda a, rng: np.full(a.shape, 2**62),
    lambda a, rng: np.full(a.shape, 1j),
    lambda a, rng: np.full(a.shape, True),
    lambda a, rng: np.full(a.shape, "gen\n\ud800"),
    lambda a, rng: np.full(a.shape, "gen000_000000"),
    lambda a, rng: np.full(a.shape, np.datetime64("2020-01-01")),
    lambda a, rng: np.zeros(a.shape, [("x", int)]),
    lambda a, rng: rng.permutation(a) if a.ndim else a,
    lambda a, rng: a.T,
]


def read_or_refused(folder, read, count, note):
    """Imports a folder in many damaged forms, and holds that each is read whole or refused by an error of ours.

    Args:
        folder: One that can be imported.
        read: The importer.
        count: How many forms.
        note: Called for each of them.
    """
    for seed in range(count):
        rng = np.random.default_rng(seed)
        strange, run = folder.with_name(f"strange-{seed}"), folder.with_name(f"run-{seed}")
        shutil.copytree(folder, strange)
        for _ in range(rng.integers(1, 3)):
            spoil(rng.choice(sorted(p for p in strange.rglob("*") if p.is_file())), rng)
        with suppress(ClosedLoopError):
            recording = read(strange, run)
            assert np.isfinite(recording["responses"]).any(), seed
            assert not np.isinf(recording["responses"]).any(), seed
            shutil.rmtree(run)
        assert not run.exists(), seed
        shutil.rmtree(strange)
        note("importers' folders")


def spoil(file, rng):
    """Changes one of a file's arrays, or damages, empties or removes it."""
    how = rng.choice(["array"] * 6 + ["bytes", "cut", "removed", "folder", "empty"])
    content = bytearray(file.read_bytes())
    with suppress(ClosedLoopError):  # a file that is damaged already
        if how == "array" and file.suffix in (".npy", ".npz"):
            return spoil_array(file, rng)
    if how == "empty" or not content:
        file.write_bytes(b"")
    elif how in ("removed", "folder"):
        file.unlink()
        if how == "folder":
            file.mkdir()
    elif how == "cut":
        file.write_bytes(content[: rng.integers(len(content))])
    else:
        for place in rng.integers(len(content), size=4):
            content[place] = rng.integers(256)
        file.write_bytes(content)
    return None


def spoil_array(file, rng):
    """Changes one of a file's arrays."""
    arrays = read_arrays(file)
    name, change = rng.choice(sorted(arrays)), CHANGES[rng.integers(len(CHANGES))]
    with suppress(ValueError, TypeError, OverflowError, UnicodeError), np.errstate(all="ignore"):
        arrays[name] = change(arrays[name], rng)
    if file.suffix == ".npz":
        np.savez(file, **arrays)
    else:
        np.save(file, arrays[""])
