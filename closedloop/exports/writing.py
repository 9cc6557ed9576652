"""What the exports share: files that appear complete or not at all, and packages that an extra installs."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from closedloop.errors import MissingExtraError, RecordingError

#: pynapple joins or cuts intervals that touch, so each ends this much before the next begins.
GAP_S = 1e-6


def require(module: str, extra: str, what: str) -> Any:
    """Imports a package that an extra installs.

    Args:
        module: Its name.
        extra: The extra of closedloop that installs it.
        what: What needs it, for the error.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {module}, which cannot be imported ({error}); install it: pip install 'closedloop[{extra}]'"
        ) from error


@contextmanager
def complete(out: Path) -> Iterator[Path]:
    """A temporary path beside `out` to write a file or a folder at; it gets its name when all went well.

    Raises:
        RecordingError: `out` exists already, or cannot be written; nothing is left behind.
    """
    if out.exists():
        raise RecordingError(f"out: {out} exists already; choose another name, or remove it first.")
    temporary = out.with_name(f".partial-{out.name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"out: cannot make {out.parent} ({error.strerror or error}).") from error
    remove(temporary)
    try:
        yield temporary
        temporary.rename(out)
    except OSError as error:
        raise RecordingError(f"out: cannot write {out} ({error.strerror or error}).") from error
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
