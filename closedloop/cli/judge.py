"""``closedloop judge``: which treatments of a network help, over several seeds?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.cli.building import numbers_of, read_config, training_of, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.loop.parts import FilePart, RunPart
from closedloop.loop.settings import read_settings


def judge(given: Mapping[str, Any]) -> None:
    """Judge treatments over seeds: accuracy overall and in the worst group, against as many steps without them."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import JudgeSettings
    from closedloop.protocols import judge as judge_treatments

    numbers = training_of(given, read_config(given, "judge")) | numbers_of(JudgeSettings, given, {})
    where = where_of(given, "judge", read_settings(JudgeSettings, numbers).network)
    say(f"Run: {where['save']}")
    with Meter("judging") as meter:
        judge_treatments(**where, progress=meter, **numbers)
    show_run(where["save"])


COMMAND = Command(judge, (FilePart, "closedloop.protocols:JudgeSettings", RunPart))
