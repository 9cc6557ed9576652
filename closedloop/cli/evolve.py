"""``closedloop evolve``: build the evolutions, watch them, and say what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop.cli.building import DEFAULT_UNIT, named_parts, read_named, run_folder, subject_recipe
from closedloop.cli.console import Meter, loading, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError, closest
from closedloop.loop.parts import (
    EachPart,
    FilePart,
    GeneratorPart,
    ObjectivePart,
    OptimizerPart,
    PlacePart,
    ReferencePart,
    RunPart,
    StopPart,
    SubjectPart,
    ThreadsPart,
    UnitPart,
)
from closedloop.loop.progress import SessionMeter
from closedloop.loop.settings import Settings

if TYPE_CHECKING:
    from closedloop.loop.experiment import Experiment
    from closedloop.loop.session import Session

#: Parts of a thread that may be given, or stand in a file.
_PARTS = ("generator", "optimizer", "objective")


def evolve(given: Mapping[str, Any]) -> None:
    """Evolve an image for a unit, and compare it with natural images."""
    from closedloop.cli.show import show_run
    from closedloop.loop.experiment import (
        build_rules,
        build_subject,
        build_threads,
        experiment_of_each,
        read_experiment_file,
    )
    from closedloop.loop.session import Session

    with loading("Loading the subject …"):
        experiment = merge(read_experiment_file(given["config"]) if "config" in given else None, given)
        folder = run_folder({k: v for k, v in given.items() if k != "config"}, *named_parts(_recipe(experiment)))
        subject = build_subject(experiment)
        if given.get("each"):
            experiment = experiment_of_each(experiment, subject.units, "all")
        if "at_field" in given:
            from closedloop.protocols import at_field

            experiment = at_field(experiment, given["at_field"], subject)
        if len(subject.units) > 1 and not experiment.names_objective:
            raise InvalidArgumentError(
                f"units: expected one unit to excite, got {len(subject.units)} of {subject.name!r}; say "
                "which with --objective, such as 'unit(0)', or evolve an image for each with --each; of a network "
                "name one with --units."
            )
        session = Session(
            subject,
            build_threads(experiment, subject),
            references=_references(experiment, given),
            stop=build_rules(experiment),
            save=folder,
            observers=[Bar()],
            progress=False,
            **{"exists": given["exists"]} if "exists" in given else {},
            **experiment.settings,
        )
    session.run()
    show_run(folder)


COMMAND = Command(
    evolve,
    (
        FilePart,
        SubjectPart,
        UnitPart,
        ObjectivePart,
        GeneratorPart,
        PlacePart,
        OptimizerPart,
        EachPart,
        ThreadsPart,
        ReferencePart,
        StopPart,
        Settings,
        RunPart,
    ),
    defaults={"units": DEFAULT_UNIT},  # a bare `closedloop evolve` takes one
    helps={"units": "Unit to excite: 7, '(12,3,4)' …; several with --objective, or with --each: all, random:64, 0-99."},
)


def _references(experiment: Experiment, given: Mapping[str, Any]) -> Any:
    """Returns a folder, "bundled", None, or the references that the run beside the file keeps itself."""
    from closedloop.recording.layout import REFERENCES
    from closedloop.recording.references import read_references

    if "config" not in given or "references" in given:
        return experiment.references
    run = Path(given["config"]).parent
    kept = experiment.references is not None and Path(experiment.references) == run / REFERENCES
    return (read_references(run) if kept else None) or experiment.references


def _recipe(experiment: Experiment) -> dict[str, Any]:
    return {"name": experiment.subject.name, **experiment.subject.options}


def merge(experiment: Experiment | None, given: Mapping[str, Any]) -> Experiment:
    """Returns an experiment from a file (or the defaults) and the options that were given besides it."""
    from closedloop.loop.experiment import Experiment, parse_experiment
    from closedloop.loop.sequential import parse_rule

    content: dict[str, Any] = {}
    if experiment is not None:
        content = experiment.model_dump(exclude_unset=True)
        content.pop("fingerprints", None)
    threads = content.pop("threads", [{"generator": GeneratorPart.generator}])
    asked = {"seed": {"seed"}, "images": {"images", "repeats"}}  # that of the whole experiment is asked for
    for name in (name for name, options in asked.items() if options & given.keys()):
        for thread in threads:
            if isinstance(thread.get("optimizer"), dict):
                thread["optimizer"].pop(name, None)
    content["threads"] = _threads(threads, given)
    content["subject"] = subject_recipe(given, content.get("subject"), DEFAULT_UNIT)
    if {"plateau", "target", "stop"} & given.keys():
        rules = {"plateau": "generations", "target": "score"}
        short = [{"name": n, key: given[n]} for n, key in rules.items() if n in given]
        content["stop"] = [*short, *map(parse_rule, given.get("stop", ()))]
    plain = Experiment.model_fields.keys() - {"subject", "threads", "stop"}
    content |= {name: value for name, value in given.items() if name in plain}
    if content.get("references") == "none":
        content["references"] = None
    return parse_experiment(content, "options")


def _threads(held: list[dict[str, Any]], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the threads of a file (or the default one), with what the options say of them."""
    if len(held) > 1:
        if "thread" not in given and {*_PARTS, "resolution"} & given.keys():
            raise InvalidArgumentError(
                "config: it holds several threads; say which one you mean, such as --thread 'NAME: optimizer=nes'."
            )
        base: dict[str, Any] = {"generator": GeneratorPart.generator}
    else:
        base = {name: value for name, value in held[0].items() if name != "name"}
    base |= {name: given[name] for name in _PARTS if name in given}
    words = [parse_thread(word) for word in given.get("thread", ())]
    named = {name: dict(said) for name, said in words}
    if len(named) < len(words):
        raise InvalidArgumentError(f"thread: expected different names, got {[name for name, _ in words]}.")
    if len(held) > 1:
        known = {str(thread["name"]): thread for thread in held}
        threads = [thread | named.get(name, {}) for name, thread in known.items()]
        threads += [{**base, **said, "name": name} for name, said in named.items() if name not in known]
    else:
        threads = [{**base, **said, "name": name} for name, said in named.items()] or [held[0] | base]
    return [_whole(thread, given) for thread in threads]


def _whole(thread: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a thread with names in their long form, at the resolution that was given."""
    from closedloop import recipes

    thread = {k: read_named(v) if k in ("generator", "optimizer") else v for k, v in thread.items()}
    if "resolution" in given and recipes.takes("generators", thread["generator"]["name"], "resolution"):
        thread["generator"] = {**thread["generator"], "resolution": given["resolution"]}
    return thread


def parse_thread(word: str) -> tuple[str, dict[str, Any]]:
    """Returns name and parts of a thread from ``"a: optimizer=nes generator=fourier objective=unit(0)"``.

    Raises:
        InvalidArgumentError: It is something else.
    """
    name, _, rest = (part.strip() for part in word.partition(":"))
    first, *words = re.split(r"(?:^|\s)(\w+)=", rest)  # a part's name, what it is, the next one's name …
    said = {part: text.strip() for part, text in zip(words[::2], words[1::2], strict=True)}
    wrong = [part for part in said if part not in _PARTS]
    if wrong:
        raise InvalidArgumentError(f"thread: {name!r} has no part {wrong[0]!r}.{closest(wrong[0], _PARTS)}")
    if not name or "=" in name or first.strip() or not all(said.values()):
        raise InvalidArgumentError(
            f"thread: expected a name with parts such as 'a: optimizer=nes objective=unit(0)', got {word!r}."
        )
    return name, {k: read_named(v) if k != "objective" else v for k, v in said.items()}


class Bar(SessionMeter):
    """Images shown, their rate, best and mean so far, time left, as commands show them."""

    def __init__(self) -> None:
        super().__init__(Meter)

    def begin(self, session: Session) -> None:
        """Says where the run is recorded, and starts the bar."""
        say(f"Run: {session.save}")
        super().begin(session)
