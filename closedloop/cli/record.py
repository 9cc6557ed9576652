"""``closedloop record``: responses to a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from closedloop.cli.console import console, free_path, present_bar, safe_name
from closedloop.cli.evolve import _SUBJECT
from closedloop.images.sets import folder_images
from closedloop.protocols import present
from closedloop.subjects import load_subject


def run_record(images: Path | None, out: Path | None, given: dict[str, Any]) -> None:
    """``closedloop record``."""
    if images is not None:
        folder_images(images)  # before the subject is loaded
    options = {k: given[k] for k in (*_SUBJECT, "units") if k in given}
    with console.status("Loading the subject …"):
        subject = load_subject(given.get("subject", "lite0"), **options)
    folder = out or free_path(Path("runs") / f"{safe_name(subject.name)}-recorded")
    settings = {k: given[k] for k in ("repeats", "seed", "retries", "timeout_s") if k in given}
    with present_bar() as progress:
        recording = present(
            subject, "bundled" if images is None else images, save=folder, progress=progress, **settings
        )
    console.print(f"Recorded {recording.sizes['presentation']} presentations × {recording.sizes['neuroid']} units.")
    console.print(f"Run: {folder}    Open it: closedloop.open_recording({str(folder)!r})", highlight=False)
