"""``closedloop judge``: which treatments of a network help, over several seeds?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.cli.building import numbers_of, read_config, run_folder
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.loop.parts import FilePart, RunPart


def judge(given: Mapping[str, Any]) -> None:
    """Judge treatments over seeds: accuracy overall and in the worst group, against as many steps without them."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import JudgeSettings
    from closedloop.protocols import judge as judge_treatments

    numbers = numbers_of(JudgeSettings, given, read_config(given, "judge").get("training", {}))
    run = run_folder(given, "judge", numbers.get("network", JudgeSettings.network))
    say(f"Run: {run}")
    with Meter("judging") as meter:
        judge_treatments(save=run, exists=given.get("exists", "fail"), progress=meter, **numbers)
    show_run(run)


COMMAND = Command(judge, (FilePart, "closedloop.protocols:JudgeSettings", RunPart))
