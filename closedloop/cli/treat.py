"""``closedloop treat``: train a small network, see what it answers to, and train it on with what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.cli.building import numbers_of, read_config, training_of, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.loop.parts import FilePart, RunPart
from closedloop.loop.settings import read_settings


def treat(given: Mapping[str, Any]) -> None:
    """Train a small network, diagnose it, and train it on under a treatment that uses what was found."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import TreatSettings
    from closedloop.protocols import treat as treat_network

    numbers = training_of(given, read_config(given, "treat")) | numbers_of(TreatSettings, given, {})
    where = where_of(given, "treat", "-".join(read_settings(TreatSettings, numbers).treatment))
    run = where["save"]
    say(f"Run: {run}")
    with Meter("treating") as meter:
        treat_network(**where, progress=meter, **numbers)
    show_run(run)
    if (run / "diagnosis").is_dir():
        say(f"Diagnosis: closedloop show {run / 'diagnosis'}")
    say(f"Network: --subject treated:{run}")


COMMAND = Command(treat, (FilePart, "closedloop.protocols:TreatSettings", RunPart))
