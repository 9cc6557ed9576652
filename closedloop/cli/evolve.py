"""What the commands that record do: build the experiment, watch it, and say what was found."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from closedloop.cli.console import console, free_folder, progress_bar
from closedloop.cli.show import show_run
from closedloop.errors import InvalidArgumentError
from closedloop.loop.blocks import Generation
from closedloop.loop.experiment import (
    Experiment,
    build_rules,
    build_subject,
    build_threads,
    parse_experiment,
    read_experiment_file,
)
from closedloop.loop.session import Session
from closedloop.optimizers.loading import DEFAULT

#: What a bare `closedloop evolve` does.
DEFAULTS: dict[str, Any] = {"subject": "lite0", "generator": "native", "optimizer": DEFAULT, "images": 4000}
DEFAULT_UNIT = "971"
_SUBJECT = ("layer", "weights", "engine", "device")


def run_evolution(config: Path | None, out: Path | None, given: dict[str, Any]) -> None:
    """``closedloop evolve``."""
    with console.status("Loading the subject …"):
        experiment = merge(None if config is None else read_experiment_file(config), given)
        subject = build_subject(experiment)
        if len(subject.units) > 1 and not experiment.names_objective:
            raise InvalidArgumentError(
                f"unit: expected one unit to excite, got {len(subject.units)} of {subject.name!r}; name one with "
                "--unit, or say what to maximize with --objective."
            )
        session = Session(
            subject,
            build_threads(experiment, subject),
            references=experiment.references,
            stop=build_rules(experiment),
            save=_folder(out, experiment),
            observers=[Bar()],
            **experiment.settings,
        )
    session.run()
    show_run(Path(str(session.save)), None)


def merge(experiment: Experiment | None, given: dict[str, Any]) -> Experiment:
    """An experiment from a file (or the defaults) and the options that were given besides it."""
    content: dict[str, Any] = dict(DEFAULTS) if experiment is None else experiment.model_dump(exclude_unset=True)
    for name in {"seed", "images"} & given.keys():
        for thread in content.get("threads", []):
            thread["optimizer"].pop(name, None)  # that of the whole experiment is asked for
    if experiment is not None and len(experiment.threads) == 1:
        content.update({k: v for k, v in content.pop("threads")[0].items() if k != "name"})
    if "threads" in content and {"generator", "optimizer", "objective", "resolution"} & given.keys():
        raise InvalidArgumentError("config: it holds several threads; change generator and optimizer in the file.")
    subject = content["subject"] if isinstance(content["subject"], dict) else {"name": content["subject"]}
    if "subject" in given:
        subject = {"name": given["subject"]}
    subject |= {k: given[k] for k in _SUBJECT if k in given}
    if "unit" in given or ("units" not in subject and "layer" not in subject and subject["name"] == "lite0"):
        subject["units"] = given.get("unit", DEFAULT_UNIT)
    for part in ("generator", "optimizer"):
        if part in given:
            content[part] = {"name": given[part]}
    if "resolution" in given:
        generator = content["generator"]
        content["generator"] = {
            **(generator if isinstance(generator, dict) else {"name": generator}), "resolution": given["resolution"]
        }  # fmt: skip
    if "plateau" in given or "target" in given:
        rules = {"plateau": "generations", "target": "score"}
        content["stop"] = [{"name": n, key: given[n]} for n, key in rules.items() if n in given]
    if given.get("references", "") == "none":
        given = {**given, "references": None}
    plain = set(Experiment.model_fields) - {"subject", "threads", "stop"} | {"objective"}
    content |= {k: v for k, v in given.items() if k in plain}
    return parse_experiment({**content, "subject": subject}, "options")


class Bar:
    """A progress bar: images shown, images a second, best and mean so far, time left."""

    def __init__(self) -> None:
        self._progress = progress_bar()
        self._task: Any = None
        self._started = (0.0, 0)

    def begin(self, session: Session) -> None:
        """Starts the bar where the session stands."""
        done = sum(e.images for e in session.evolutions)
        total = session.settings.images * len(session.evolutions)
        console.print(f"Run: {session.save}", highlight=False)
        self._progress.start()
        self._task = self._progress.add_task("surveying references", total=total, completed=done, facts="")
        self._started = (time.monotonic(), session.presentations)
        self._shown = session.presentations

    def generation(self, generation: Generation) -> None:
        """Moves it on."""
        self._shown += len(generation.shown.stimulus)
        seconds = time.monotonic() - self._started[0]
        rate = (self._shown - self._started[1]) / max(seconds, 1e-9)
        done = sum(e.images for e in generation.evolutions)
        name = {"survey": "evolving", "evolve": "evolving", "select": "re-testing", "confirm": "done"}[generation.phase]
        self._progress.update(
            self._task, completed=done, description=name, facts=f"{rate:.0f} images/s  {_facts(generation)}"
        )

    def end(self, session: Session) -> None:
        """Stops the bar."""
        self._progress.stop()


def _facts(generation: Generation) -> str:
    """Best so far and mean of the last generation, of the first thread."""
    history = generation.evolutions[0].history
    if not history:
        return ""
    best = max((s.best for s in history if not np.isnan(s.best)), default=float("nan"))
    return f"best {best:.4g}  mean {history[-1].mean:.4g}"


def _folder(out: Path | None, experiment: Experiment) -> Path:
    """The run's folder; without ``--out`` a free name under ``runs/``."""
    if out is not None:
        return out
    subject = experiment.subject
    parts = [subject.name, subject.options.get("layer", "output"), str(subject.options.get("units", ""))]
    return free_folder("-".join(p for p in parts if p))
