"""``closedloop rig-sim``: a rig without an animal, in a process of its own, to rehearse an experiment with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from closedloop.cli.building import DEFAULT_UNIT, load, subject_recipe
from closedloop.cli.console import say, tell
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Resolved, Subject
from closedloop.loop.parts import SubjectPart, UnitPart
from closedloop.loop.settings import Timing, option, settings
from closedloop.rigs.places import RIG


@settings
class RigPart:
    """The rig around a subject."""

    listen: str = option(
        default=f"zmq://{RIG}",
        metavar="ADDRESS",
        help="Where it is asked: zmq://HOST:PORT (extra rig), or folder:DIR.",
    )
    journal: Path = option(
        default=Path("rig-journal.sqlite"), metavar="FILE", help="What it has shown; with it, it goes on after a crash."
    )
    faults: tuple[str, ...] = option(
        default=(),
        shown="none",
        metavar="NAME:NUMBER",
        help="What goes wrong, several times for several: lost:0.1, fixation:0.02:8 (bursts), artifact, frames, "
        "aborted, drift:-0.3:1000, dead:0:500 (unit, from when), swap:0:1:500, adaptation:0.2, late:0.2:0.3, "
        "double:0.3, reorder, mute:0.2, silent, crash:0.05, crash-after.",
    )
    spikes: float = option(
        default=20.0, help="Expected spikes at a unit's best natural response; 0 answers with the responses themselves."
    )
    pace: float = option(default=1.0, help="Seconds that a second of the experiment takes; 0 is as fast as it goes.")
    token_file: Path | None = option(
        default=None, metavar="FILE", shown="CLOSEDLOOP_RIG_TOKEN_FILE", help="File of mode 0600 with the token."
    )
    lsl: str | None = option(
        default=None, metavar="STREAM", shown="none", help="Send markers to LabStreamingLayer by this name (extra lsl)."
    )
    seed: int = option(default=Timing.seed, least=0, help="Of spikes and of what goes wrong.")


def rig_sim(given: Mapping[str, Any]) -> None:
    """Play a rig: show images to a subject, answer with spikes, and let go wrong what goes wrong at rigs."""
    from closedloop.rigs.faults import FaultyListener, parse_faults
    from closedloop.rigs.journal import Journal
    from closedloop.rigs.markers import MarkedRig, Markers
    from closedloop.rigs.messages import read_token
    from closedloop.rigs.server import RigServer, Shows
    from closedloop.rigs.simulated import SimulatedRig
    from closedloop.rigs.transports import listen, parse_address

    chosen = RigPart(**{name: given[name] for name in RigPart.__dataclass_fields__ if name in given})
    parse_address(chosen.listen, "listen")
    faults, token = parse_faults(chosen.faults), read_token(chosen.token_file)
    if not (np.isfinite(chosen.spikes) and chosen.spikes >= 0 and np.isfinite(chosen.pace) and chosen.pace >= 0):
        raise InvalidArgumentError(f"spikes, pace: expected numbers from 0, got {chosen.spikes}, {chosen.pace}.")
    recipe = subject_recipe(given, units=given.get("units", DEFAULT_UNIT))
    if str(recipe["name"]).startswith("rig:"):
        raise InvalidArgumentError(f"subject: expected who looks, such as lite0 or gabor, got a rig, {recipe['name']}.")
    subject = load(recipe)
    rig = SimulatedRig(subject, _firing(subject, chosen), faults, chosen.seed, chosen.pace)
    shows: Shows = rig if chosen.lsl is None else MarkedRig(rig, Markers(chosen.lsl))
    with closing(Journal(chosen.journal)) as journal, closing(listen(chosen.listen, token)) as listener:
        server = RigServer(shows, FaultyListener(listener, faults, chosen.seed), journal)
        port = getattr(listener, "port", None)
        place = chosen.listen if port is None else f"{chosen.listen.rpartition(':')[0]}:{port}"
        words = f"{len(subject.units):,} unit" + ("s" if len(subject.units) > 1 else "")
        say(f"Rig: {subject.name}, {words}, at {place}; journal {chosen.journal}")
        tell(f"Ask it by --subject 'rig:{place}'. Ctrl-C stops it.")
        try:
            server.run()
        except KeyboardInterrupt:  # that is how it is stopped
            tell("Stopped; what it has shown is in its journal.")


def _firing(subject: Subject, chosen: RigPart) -> Any:
    """Returns what makes spikes of a subject's responses; None where it answers with these."""
    from closedloop.rigs.spiking import Firing
    from closedloop.subjects import best_natural

    if chosen.spikes == 0:
        return None
    best = best_natural(subject) if isinstance(subject, Resolved) else np.ones(len(subject.units))
    return Firing(len(subject.units), (0.05, 0.2), chosen.spikes / np.where(best > 0, best, 1), seed=chosen.seed)


COMMAND = Command(
    rig_sim,
    (SubjectPart, UnitPart, RigPart),
    defaults={"units": DEFAULT_UNIT},
    helps={"subject": "Who looks: lite0, torchvision:NAME, gabor, energy …"},
)
