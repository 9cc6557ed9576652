"""What a session stores: the shape of its recording, and the rows of each block."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import units_of
from closedloop.errors import InvalidArgumentError
from closedloop.images.naturalness import Looked, coords_of, presentation_coords
from closedloop.interfaces import Attributing, FloatArray, Presenting, Subject, form_of
from closedloop.loop.blocks import Block
from closedloop.loop.presenter import Shown
from closedloop.loop.reference_pool import ReferencePool
from closedloop.loop.settings import Settings
from closedloop.loop.sparing import one_thread
from closedloop.loop.thread import Evolution, Thread
from closedloop.recipes import fingerprint, recipe, version
from closedloop.recording.layout import EVOLUTION, IMAGE_BITS, PROPOSED, REFERENCE, Layout, Rows, form_scalars
from closedloop.recording.lean import OWN_UNIT


def own_columns(threads: Sequence[Thread], subject: Subject) -> dict[str, int]:
    """Returns the column of the one unit that each thread's objective reads, by the thread's name.

    Raises:
        InvalidArgumentError: One reads several units, or the threads' images differ in size.
    """
    columns = {}
    for thread in threads:
        read = getattr(thread.objective, "columns", None) or range(len(units_of(subject)))
        if len(read) != 1:
            raise InvalidArgumentError(
                f"responses: expected 'all', for thread {thread.name!r} maximizes "
                f"{thread.objective.describe():.60}, which reads {len(read)} units; got 'own'."
            )
        columns[thread.name] = int(read[0])
    if len(sizes := {thread.generator.resolution for thread in threads}) > 1:
        raise InvalidArgumentError(
            f"responses: expected 'all' for threads whose images differ in size, {sorted(sizes)} pixels; got 'own'."
        )
    return columns


def kinds_of(phase: str, block: Block) -> list[str]:
    """Returns what stands in the column `kind` for each image of a block of this phase."""
    natural = "reference" if phase in ("survey", "evolve") else "retest"
    own = "evolved" if phase == "evolve" else "retest"
    return [natural if thread == REFERENCE else own for thread in block.threads]


@final
class SessionRows:
    """Turns what was shown into what is recorded.

    Args:
        subject: The network or animal that is shown images.
        evolutions: The threads under way.
        references: The reference images.
        settings: The session's numbers.
    """

    def __init__(
        self, subject: Subject, evolutions: Sequence[Evolution], references: ReferencePool, settings: Settings
    ) -> None:
        self._subject, self._evolutions = subject, evolutions
        self._references, self._settings = references, settings
        self._form = form_of(subject)
        self._latent = max(e.thread.generator.space.dim for e in evolutions)
        self._attributed = any(isinstance(e.thread.optimizer, Attributing) for e in evolutions)
        self._own = own_columns([e.thread for e in evolutions], subject) if settings.responses == "own" else None

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        s, threads = self._settings, len(self._evolutions)
        generations = s.images  # at the most: one image in each
        copies = sum(len(e.ask()) for e in self._evolutions if e.climbs)  # a gradient method's last codes
        finalists = threads * (2 * s.retest_candidates + 1) + copies
        # On how many further days a run at a rig may survey its references again; unwritten rows cost nothing.
        surveys = 1 + 100 * isinstance(self._subject, Presenting)
        shown = surveys * len(self._references) + threads * s.images + generations * s.interleave
        shown += (finalists + 2 * threads) * s.retest_repeats
        return Layout(
            capacity=int(shown * (1 + s.retries)),
            latent=self._latent,
            units=self._subject.units,
            scalars={
                "subject": self._subject.name,
                **form_scalars(self._form),
                "seed": s.seed,
                "closedloop_version": version(),
                IMAGE_BITS: 8,
            },
            coords=coords_of([e.thread.generator.space for e in self._evolutions])
            | ({} if self._own is None else {OWN_UNIT: ("str", "")})
            | ({PROPOSED: ("str", "")} if self._attributed else {}),
            evolutions=self._identified(),
            lean=self._own is not None,
        )

    def _identified(self) -> dict[str, list[str]]:
        """Returns what identifies each evolution, column by column."""
        threads = [e.thread for e in self._evolutions]
        generators = {id(t.generator): t.generator for t in threads}
        told = {key: (fingerprint(g), json.dumps(recipe(g))) for key, g in generators.items()}
        known = [told[id(t.generator)] for t in threads]
        return {
            EVOLUTION: [t.name for t in threads],
            "generator": [t.generator.name for t in threads],
            "generator_sha256": [sha256 for sha256, _ in known],
            "generator_recipe": [how for _, how in known],
            "optimizer": [t.optimizer.name for t in threads],
            "objective": [t.objective.describe() for t in threads],
        }

    def rows(
        self,
        index: int,
        phase: str,
        first: int,
        block: Block,
        shown: Shown,
        scores: FloatArray,
        natural: Mapping[str, FloatArray],
    ) -> Rows:
        """Returns the rows of a block, one for each presentation.

        Args:
            index: Number of the block.
            phase: In which phase it was shown.
            first: How many presentations came before it.
            block: What was shown.
            shown: The presentations.
            scores: Score of each image, ``(m,)``.
            natural: What `naturalness` says of it.
        """
        stimulus, n = shown.stimulus, len(shown.stimulus)
        kinds = kinds_of(phase, block)
        codes = np.full((len(block.ids), self._latent), np.nan)
        for i, code in enumerate(block.codes):
            if code is not None:
                codes[i, : len(code)] = code
        coords = {
            "thread": np.array(block.threads)[stimulus],
            "generation": np.full(n, index, np.int32),
            "kind": np.array(kinds)[stimulus],
            "stimulus_id": np.array(block.ids)[stimulus],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (first + np.arange(n)) * max(self._settings.soa_s, self._form.duration_s),
            **{name: values[stimulus] for name, values in natural.items()},
        }
        own_column = None
        if self._own is not None:
            own_column = np.array([self._own.get(thread, -1) for thread in block.threads])[stimulus]
            names = np.array([*self._subject.units.neuroid_id, ""], dtype=object)  # that of column -1 is empty
            coords[OWN_UNIT] = names[own_column]
        if self._attributed:
            coords[PROPOSED] = self._proposers(block)[stimulus]
        return Rows(
            coords,
            shown.responses,
            codes[stimulus],
            scores[stimulus],
            self._kept(phase, block, scores),
            self._form.rate_hz,
            own=own_column,
        )

    def _proposers(self, block: Block) -> NDArray[np.object_]:
        """Returns how the code of each image of a block was found; empty for references."""
        found = np.full(len(block.ids), "", object)
        for evolution in self._evolutions:
            own = block.of(evolution.thread.name)
            if own and not evolution.failed:
                found[own] = evolution.thread.proposers(np.stack([c for i in own if (c := block.codes[i]) is not None]))
        return found

    def look(self, block: Block) -> Looked:
        """Measures each image of a block alone; see `closedloop.images.naturalness`."""
        return Looked.at(block.images, self._references.bank)

    def naturalness(self, block: Block, looked: Looked) -> dict[str, FloatArray]:
        """Returns how natural each image of a block looks, of what was measured of it alone."""
        spaces = {e.thread.name: e.thread.generator.space for e in self._evolutions}
        own = np.full(len(block.ids), -1)
        places = block.of(REFERENCE)
        own[places] = self._references.numbers(block, places)
        searched = [spaces.get(thread) for thread in block.threads]
        with one_thread():
            return presentation_coords(looked, block.codes, searched, self._references.bank, own)

    def _kept(self, phase: str, block: Block, scores: FloatArray) -> dict[str, NDArray[np.float32]]:
        """Returns the images that become files, by name."""
        keep = self._settings.keep
        if phase == "survey" or keep == "none":
            return {}
        kept: list[int] = []
        for evolution in self._evolutions:
            own = [i for i in block.of(evolution.thread.name) if not np.isnan(scores[i])]
            if own:
                kept += own if keep == "all" else [own[int(np.argmax(scores[own]))]]
        return {block.ids[i]: block.images[i] for i in kept}
