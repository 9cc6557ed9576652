"""Writes a recording in Neurodata Without Borders (NWB 2): one session of one subject, readable without closedloop.

What stands where: the network is the `Subject` (as a synthetic construct) and a `Device`; presentations are the
`trials`; responses a `TimeSeries` over presentations and units (a column of the table ``responses`` where units
outnumber presentations, which a time series must not have); units the table ``neuroids``, and with their spikes the
table ``units`` with ``electrodes`` (`closedloop.formats.nwb_spikes`); codes the table
``evolved_stimuli``; evolved images an `OpticalSeries`, which is an `ImageSeries`, with one frame for each presentation
(`Images` with an `IndexSeries` where they are few), reference images `Images` with an `IndexSeries`; grey images are
grey. Movies are such a series with all of their frames, at their rate where one follows the other without a pause;
stills that were held for all frames of a movie stand as images. ``protocol`` is the experiment as
YAML, and ``notes`` is JSON with all that the tables cannot hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, MissingExtraError, WeightsError, require
from closedloop.files import complete
from closedloop.formats import nwb_spikes
from closedloop.formats.hdf5 import hdf5_file
from closedloop.formats.png import best_of_generations, blocks
from closedloop.formats.pynapple import INTERVAL_GAP_S, interval_ends, presentation_s
from closedloop.formats.rig_times import is_of_a_rig, rig_times
from closedloop.images.eight_bit import to_bytes
from closedloop.recipes import version
from closedloop.recording.evolutions import EVOLUTION_RUN, experiment_of
from closedloop.recording.layout import EVOLUTION, EXPERIMENT, REFERENCE, recorded_form
from closedloop.recording.lean import ALL, COMMON_ROW, responses_of
from closedloop.recording.render import render


@dataclass
class _Session:
    """Holds what is written, and what is noted for reading it back.

    Attributes:
        pynwb: The package.
        recording: What is to be written.
        file: The NWB file.
        start_s: Begin of each presentation.
        soa_s: From one presentation to the next.
        sources: ``generators`` and ``references`` of `closedloop.render`.
        notes: What the tables cannot hold.
    """

    pynwb: Any
    recording: xr.Dataset
    file: Any
    start_s: NDArray[np.float64]
    soa_s: float
    sources: Mapping[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)

    def timing(self, rows: NDArray[np.int64], frames: int = 1) -> dict[str, Any]:
        """Returns begin and rate (Hz) of regular presentations, else the time of each; of movies those of frames."""
        start = self.start_s[rows]
        if frames > 1:
            rate = recorded_form(self.recording).rate_hz or 1.0
            start = (start[:, None] + np.arange(frames) / rate).ravel()
        steps = np.diff(start)
        if len(steps) == 0 or np.allclose(steps, steps[0], rtol=0, atol=1e-9):
            return {"starting_time": float(start[0]), "rate": 1 / float(steps[0] if len(steps) else self.soa_s)}
        return {"timestamps": start}


def write(
    recording: xr.Dataset,
    out: Path,
    *,
    images: bool = True,
    subject: Mapping[str, Any] | None = None,
    experimenter: str = "closedloop, software",
    institution: str = "not stated",
    session_start: datetime | None = None,
    **sources: Any,
) -> None:
    """Writes a recording of one run as NWB.

    Args:
        recording: One run; it is held in memory, its images are made part by part.
        out: The file, ending in ``.nwb``; must not exist.
        images: Whether to write the images, 8-bit, as they were shown.
        subject: An animal's facts as `pynwb.file.Subject` takes them (``species``, ``sex``, ``age`` …). Without it the
            file says that the subject is a model in silico.
        experimenter: "Last name, first name".
        institution: Where it was done.
        session_start: When; by default the time at which the run's folder was made.
        **sources: ``generators`` and ``references`` of `closedloop.render`.

    Raises:
        InvalidArgumentError: Several runs at once, or variables that no run has.
        RecordingError: The file exists or cannot be written, or a reference image is not to be found.
        MissingExtraError: The extra "nwb" is not installed.
    """
    pynwb = require("pynwb", "nwb", "the format nwb")
    _check(recording)
    with complete(out) as temporary:
        file = _header(pynwb, recording, session_start, experimenter, institution, subject)
        session = _Session(pynwb, recording, file, *_times(recording), sources)
        for add in (_add_trials, _add_neuroids, _add_responses, _add_codes, _add_variables, _add_generations):
            add(session)
        _add_spikes(session)
        if images:
            try:
                _add_evolved(session)
                _add_references(session)
            except (MissingExtraError, WeightsError) as error:  # what makes the images again is not here
                cure = "or write the file without images: images=False (--no-images)"
                raise type(error)(f"{str(error).rstrip('.')}; {cure}.") from error
        file.notes = json.dumps(_notes(session))
        h5py = require("h5py", "nwb", "the format nwb")
        with hdf5_file(temporary) as plain, h5py.File(plain, "w") as opened:
            with pynwb.NWBHDF5IO(file=opened, mode="w") as io:
                io.write(file)


def _check(recording: xr.Dataset) -> None:
    """Raises unless it is one run, with a presentation, and with no variable that a file would lose."""
    joined = [str(n) for n in ("subject", "seed", EVOLUTION_RUN) if n in recording and recording[n].ndim]
    if joined:
        raise InvalidArgumentError(
            f"recording: expected one run, got several joined (they differ in {', '.join(joined)}); an NWB file is one "
            "session, so export each run by itself."
        )
    lost = [
        str(n)
        for n, v in nwb_spikes.along_presentations(recording).data_vars.items()
        if n != ALL and (v.dims[:1] != ("presentation",) or v.dtype.kind not in "iufb")
    ]
    if lost:
        raise InvalidArgumentError(
            f"recording: expected variables of numbers with a row for each presentation, got also {', '.join(lost)}; "
            "drop them first."
        )
    if recording.sizes["presentation"] == 0:
        raise InvalidArgumentError("recording: expected at least one presentation, got none.")


def _times(recording: xr.Dataset) -> tuple[NDArray[np.float64], float]:
    """Returns the begin of each presentation ``(n,)`` and the time to the next, in seconds.

    Where the time was not recorded presentations count as one a second. At a rig no spike comes before second 0.

    Raises:
        InvalidArgumentError: The times do not rise.
    """
    if is_of_a_rig(recording):
        start, usual = rig_times(recording)
        before = min(start[0], nwb_spikes.first_spike_s(recording, start), 0.0)
        return start - before, usual
    onset = recording["onset_s"].values.astype(float)
    if not np.isfinite(onset).all() or onset[0] < 0:
        return np.arange(len(onset), dtype=float), 1.0
    if (np.diff(onset) <= 2 * INTERVAL_GAP_S).any():
        raise InvalidArgumentError(
            "recording: expected presentations whose onset_s rises, for an NWB file is in the order of time; sort them "
            "(recording.sortby('onset_s')), or assign the times at which they were."
        )
    return onset, presentation_s(recording)


def _header(
    pynwb: Any,
    recording: xr.Dataset,
    session_start: datetime | None,
    experimenter: str,
    institution: str,
    subject: Mapping[str, Any] | None,
) -> Any:
    """Returns the file with what is said of the whole session."""
    scalars = {str(n): c.item() for n, c in recording.coords.items() if c.ndim == 0}
    evolving = _evolutions(recording)
    name, experiment = str(scalars["subject"]), str(recording.attrs.get("experiment", ""))
    identity = hashlib.sha256(json.dumps([scalars, evolving, experiment]).encode()).hexdigest()
    silico = "In silico: the subject is a model. " if subject is None else ""
    said = {key: ", ".join(dict.fromkeys(evolving.get(key, ["-"]))) for key in ("generator", "optimizer", "objective")}
    file = pynwb.NWBFile(
        session_description=f"{silico}Images shown to {name}, and its responses.",
        identifier=identity,
        session_start_time=session_start or _began(recording),
        session_id=identity[:12],
        experimenter=[experimenter],
        institution=institution,
        experiment_description="closedloop: " + ", ".join(f"{key} {words}" for key, words in said.items()) + ".",
        keywords=["closed loop", "preferred stimulus", "evolution", *(["in silico"] if silico else [])],
        protocol=experiment or "not recorded",
        data_collection=f"{silico}Recorded by closedloop {scalars.get('closedloop_version', version())}.",
        was_generated_by=[["closedloop", version()]],
        subject=_subject(pynwb, name, subject),
    )
    if subject is None:
        recipe = json.dumps(experiment_of(recording).get("subject", {}))
        file.create_device(name="model", description=f"{name}, a model in silico; it is loaded by {recipe}.")
    return file


def _evolutions(recording: xr.Dataset) -> dict[str, list[str]]:
    """Returns what is known of each evolution, by the name of the coordinate."""
    return {str(n): list(map(str, c.values)) for n, c in recording.coords.items() if c.dims == (EVOLUTION,)}


def _began(recording: xr.Dataset) -> datetime:
    """Returns when the run's folder was made, or now where there is none."""
    file = Path(str(recording.encoding.get("source", ""))) / EXPERIMENT
    return datetime.fromtimestamp(file.stat().st_mtime).astimezone() if file.is_file() else datetime.now().astimezone()


def _subject(pynwb: Any, name: str, given: Mapping[str, Any] | None) -> Any:
    """Returns the `Subject`: an animal as it was described, or the one species of NCBI's taxonomy that is no animal."""
    flat = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    facts: dict[str, Any] = {"subject_id": flat, "description": f"Subject of closedloop: {name}"}
    if given is None:
        synthetic_construct = "http://purl.obolibrary.org/obo/NCBITaxon_32630"
        facts |= {"species": synthetic_construct, "sex": "U", "age": "P0D"}
        facts["description"] = f"IN SILICO MODEL, not an animal: {name}"
    try:
        return pynwb.file.Subject(**facts | dict(given or {}))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"subject: not what pynwb.file.Subject takes ({error}).") from error


# Tables ---------------------------------------------------------------------------------------------------------------


def _column(session: _Session, name: str, values: NDArray[Any], description: str) -> Any | None:
    """Returns a column of a table; None for one that says nothing (all NaN).

    A column of zeros and ones becomes text, for the inspector of NWB, which looks at the first 200 rows, takes it for
    true and false.
    """
    values = values.astype(np.float32) if values.dtype == np.float16 else values
    data: Any = values
    if values.dtype.kind not in "iufb":
        data = [str(value) for value in values]
    elif values.dtype.kind == "f" and np.isnan(values).all():
        return None
    elif values.dtype.kind != "b" and values.ndim == 1 and set(np.unique(values[:200]).tolist()) == {0, 1}:
        data = [str(value) for value in values.tolist()]
    return session.pynwb.core.VectorData(name=name, description=description, data=_packed(data))


def _packed(data: Any) -> Any:
    """Returns an array as HDF5 stores it compressed; those below 64 KiB and text as they are."""
    if not isinstance(data, np.ndarray) or data.nbytes < 2**16:
        return data
    return _hdf5(data, compression="gzip", compression_opts=4, shuffle=True)


def _hdf5(data: Any, **storage: Any) -> Any:
    """Returns data with the way in which HDF5 stores it."""
    return require("hdmf.backends.hdf5", "nwb", "the format nwb").H5DataIO(data, **storage)


def _table(session: _Session, name: str, description: str, columns: list[Any], kind: Any = None) -> Any:
    """Returns a table of those columns that say something."""
    make = session.pynwb.core.DynamicTable if kind is None else kind
    return make(name=name, description=description, columns=[c for c in columns if c is not None])


def _columns_along(session: _Session, dim: str) -> list[Any]:
    """Returns the coordinates on a dimension as columns, and notes their types."""
    coords = {str(n): c.values for n, c in session.recording.coords.items() if c.dims == (dim,)}
    session.notes[dim] = {name: _dtype(values) for name, values in coords.items()}
    return [_column(session, name, values, f"closedloop: {name}") for name, values in coords.items()]


def _dtype(values: NDArray[Any]) -> str:
    """Returns the name of a type, "object" for text."""
    return "object" if values.dtype.kind not in "iufb" else values.dtype.name


def _misc(session: _Session) -> Any:
    """Returns the module for tables that NWB has no place for."""
    if "misc" in session.file.processing:
        return session.file.processing["misc"]
    return session.file.create_processing_module(name="misc", description="Codes, units and generations of closedloop")


def _add_trials(session: _Session) -> None:
    """Adds a trial for each presentation, with its coordinates and its score."""
    vector = session.pynwb.core.VectorData
    start, score = session.start_s, session.recording["score"].values
    stop = interval_ends(start, session.soa_s)
    columns = [
        vector(name="start_time", description="Begin of the presentation in seconds", data=start),
        vector(name="stop_time", description="A microsecond before the next one could begin", data=stop),
        *_columns_along(session, "presentation"),
        _column(session, "score", score, "Score of the image: of its mean response in this block"),
    ]
    session.notes["score"] = _dtype(score)
    kind = session.pynwb.epoch.TimeIntervals
    session.file.trials = _table(session, "trials", "One row for each image shown", columns, kind)


def _add_neuroids(session: _Session) -> None:
    """Adds the units; a single one is noted instead, for a table should have more rows than one."""
    columns = _columns_along(session, "neuroid")
    if session.recording.sizes["neuroid"] > 1:
        _misc(session).add(_table(session, "neuroids", "Recorded units, in the order of the responses", columns))
        return
    single = {name: (session.recording[name].values[0], dtype) for name, dtype in session.notes["neuroid"].items()}
    session.notes["single_neuroid"] = {n: str(v) if dtype == "object" else v.item() for n, (v, dtype) in single.items()}


def _add_responses(session: _Session) -> None:
    """Adds the responses: a time series, or a table where units (or bins) outnumber presentations."""
    name = responses_of(session.recording.variables)
    responses = session.recording[name]
    session.notes["responses"] = {"dtype": responses.dtype.name, "dims": [str(d) for d in responses.dims]}
    values = responses.values.astype(np.float32) if responses.dtype == np.float16 else responses.values
    description = "Responses, presentation by unit" + (" by time bin" if values.ndim == 3 else "") + "; NaN: lost"
    rows = np.arange(len(values))
    if name == ALL:  # of a lean recording, those to references; the others stand among the further variables
        rows, description = _rows_of_all(session), f"{description}; to the presentations that concern all units"
    if max(values.shape[1:]) > len(values):  # a time series must be longest in time
        column = session.pynwb.core.VectorData(name="responses", description=description, data=_packed(values))
        _misc(session).add(_table(session, "responses", description, [column]))
        return
    series = session.pynwb.TimeSeries(
        name="responses",
        description=description,
        data=_packed(values),
        unit="a.u.",
        **session.timing(rows),
    )
    session.file.add_acquisition(series)


def _rows_of_all(session: _Session) -> NDArray[np.int64]:
    """Returns the presentations of a lean recording whose responses are recorded of all units."""
    return np.flatnonzero(session.recording[COMMON_ROW].values >= 0)


def _coded(recording: xr.Dataset) -> NDArray[np.int64]:
    """Returns the presentations whose image has a code."""
    if "latent_code" not in recording:
        return np.empty(0, np.int64)
    return np.flatnonzero(recording["thread"].values != REFERENCE)


def _add_codes(session: _Session) -> None:
    """Adds the codes of the presentations that have one."""
    if "latent_code" not in session.recording:
        return
    codes = session.recording["latent_code"].values
    rows = np.flatnonzero(~np.isnan(codes).all(axis=1))
    session.notes["latent_code"] = {"dtype": codes.dtype.name, "length": codes.shape[1]}
    if len(rows) == 0:
        return
    vector = session.pynwb.core.VectorData
    said = "Code of the image; NaN beyond the end of a shorter one"
    columns = [
        vector(name="trial", description="Row of the trial", data=rows),
        vector(name="latent_code", description=said, data=_packed(codes[rows])),
    ]
    _misc(session).add(_table(session, "evolved_stimuli", "Codes of the evolved images", columns))


def _add_variables(session: _Session) -> None:
    """Adds what else was recorded of each presentation, as a table with a column for each variable."""
    along = nwb_spikes.along_presentations(session.recording)
    # These have places of their own in a file.
    own = {str(n): v for n, v in along.data_vars.items() if n not in ("responses", ALL, "latent_code", "score")}
    if not own:
        return
    session.notes["variables"] = {name: [v.dtype.name, [str(d) for d in v.dims]] for name, v in own.items()}
    columns = []
    for name, variable in own.items():
        values = variable.values.astype(np.float32) if variable.dtype == np.float16 else variable.values
        columns.append(
            session.pynwb.core.VectorData(name=name, description=f"closedloop: {name}", data=_packed(values))
        )
    _misc(session).add(_table(session, "variables", "Further variables, a row for each trial", columns))


def _add_spikes(session: _Session) -> None:
    """Adds units with spike times, electrodes, and what is known of units block by block."""

    def table(name: str, description: str, columns: list[Any]) -> None:
        _misc(session).add(_table(session, name, description, columns))

    nwb_spikes.add_units(session)
    nwb_spikes.add_presented_spikes(session, table, lambda *of_column: _column(session, *of_column))


def _add_generations(session: _Session) -> None:
    """Adds best and mean score of each generation: what a reader would compute first."""
    recording = session.recording
    best = best_of_generations(recording)
    if len(best) < 2:
        return
    thread, generation, score = (recording[n].values for n in ("thread", "generation", "score"))
    evolved = recording["kind"].values == "evolved"
    own = [score[evolved & (thread == b.thread) & (generation == b.generation)] for b in best]
    means = np.array([s[~np.isnan(s)].mean() if np.isfinite(s).any() else np.nan for s in own])
    columns = {
        "thread": np.array([b.thread for b in best], dtype=object),
        "generation": np.array([b.generation for b in best], dtype=np.int32),
        "best": np.array([b.score for b in best]),
        "mean": means,
        "presentations": np.array([len(s) for s in own], dtype=np.int32),
    }
    made = [_column(session, name, values, f"closedloop: {name}") for name, values in columns.items()]
    _misc(session).add(_table(session, "generations", "Scores of the generations of the evolution", made))


# Images ---------------------------------------------------------------------------------------------------------------


def _pixels(session: _Session, rows: NDArray[np.int64], one_frame: bool = False) -> Iterator[NDArray[np.uint8]]:
    """Yields images ``(h, w, 3)``, grey ones ``(h, w)``, of these presentations; of movies all frames.

    Args:
        session: Whose presentations.
        rows: Which.
        one_frame: Whether the first frame of a movie stands for it.
    """
    for part in blocks(rows):
        made = to_bytes(render(session.recording, part, **session.sources))
        made = made[:, 0] if made.ndim == 5 and one_frame else made
        pictures = made.reshape(-1, *made.shape[-3:])
        yield from pictures[:, 0] if pictures.shape[1] == 1 else pictures.transpose(0, 2, 3, 1)


def _add_evolved(session: _Session) -> None:
    """Adds the evolved images: a frame for each presentation, or a set of images where these are few; movies whole."""
    rows = _coded(session.recording)
    if len(rows) == 0:
        return
    if recorded_form(session.recording).frames is not None:
        _add_series(session, "evolved_movies", "Movies made from codes, frame by frame, on a virtual screen", rows)
        return
    if len(rows) < max(next(_pixels(session, rows[:1])).shape):  # a series must be longest in time
        _add_images(session, "evolved", rows)
        return
    text = "Images made from codes, one frame for each presentation, on a virtual screen"
    _add_series(session, "evolved_images", text, rows)


def _add_series(session: _Session, name: str, description: str, rows: NDArray[np.int64]) -> None:
    """Adds all frames of these presentations, one after the other, on a virtual screen."""
    frames = recorded_form(session.recording).frames or 1
    shape = next(_pixels(session, rows[:1])).shape
    chunks = require("hdmf.data_utils", "nwb", "the format nwb").DataChunkIterator(
        data=_pixels(session, rows), maxshape=(frames * len(rows), *shape), dtype=np.dtype("uint8"), buffer_size=64
    )
    series = session.pynwb.image.OpticalSeries(
        name=name,
        description=description,
        data=_hdf5(chunks, compression="gzip", compression_opts=1, chunks=(1, *shape)),
        unit="n.a.",
        format="raw",
        distance=0.57,  # metres: where a centimetre is a degree
        field_of_view=(0.08, 0.08),  # metres: 8 degrees wide
        orientation="upper left",
        **session.timing(rows, frames),
    )
    session.file.add_stimulus(series)


def _add_references(session: _Session) -> None:
    """Adds the reference images as a set with the order of their presentations, reference movies as a series."""
    rows = np.flatnonzero(session.recording["thread"].values == REFERENCE)
    if not len(rows):
        return
    if _held(session, rows):
        _add_images(session, "reference", rows)
    else:
        _add_series(session, "reference_movies", "Reference movies, frame by frame, on a virtual screen", rows)


def _held(session: _Session, rows: NDArray[np.int64]) -> bool:
    """Tells whether these presentations show one picture each, be it held for all frames of a movie."""
    if recorded_form(session.recording).frames is None:
        return True
    first = np.unique(session.recording["stimulus_id"].values[rows].astype(str), return_index=True)[1]
    made = (render(session.recording, rows[part], **session.sources) for part in blocks(first))
    return all(bool((movies == movies[:, :1]).all()) for movies in made)


def _add_images(session: _Session, what: str, rows: NDArray[np.int64]) -> None:
    """Adds a set of different images, and which of them was shown when."""
    pynwb = session.pynwb
    ids = session.recording["stimulus_id"].values[rows].astype(str)
    names, first, index = np.unique(ids, return_index=True, return_inverse=True)
    pixels = _pixels(session, rows[first], one_frame=True)
    grey = recorded_form(session.recording).channels == 1
    kind = pynwb.image.GrayscaleImage if grey else pynwb.image.RGBImage
    pictures = [
        kind(name=f"{i:05d}", data=_packed(image), description=str(name))
        for i, (name, image) in enumerate(zip(names, pixels, strict=True))
    ]
    order = pynwb.base.ImageReferences(name="order_of_images", data=pictures)
    description = f"The {what} images; each is described by its stimulus_id"
    images = pynwb.base.Images(name=f"{what}_images", images=pictures, description=description, order_of_images=order)
    session.file.add_stimulus_template(images)
    series = pynwb.image.IndexSeries(
        name=f"{what}_presentations",
        description=f"Which of the {what} images was shown",
        data=index.astype(np.uint32),
        indexed_images=images,
        unit="N/A",
        **session.timing(rows),
    )
    session.file.add_stimulus(series)


def _notes(session: _Session) -> dict[str, Any]:
    """Returns all that is needed to read the recording back, beside the tables."""
    recording = session.recording
    scalars = {str(n): c for n, c in recording.coords.items() if c.ndim == 0}
    bins = {str(n): c for n, c in recording.coords.items() if c.dims == ("time_bin",)}
    return {
        "closedloop_schema": recording.attrs["closedloop_schema"],
        "attrs": recording.attrs,
        EVOLUTION: _evolutions(recording),
        "scalars": {n: [c.item(), _dtype(c.values)] for n, c in scalars.items()},
        "time_bin": {n: [c.values.tolist(), _dtype(c.values)] for n, c in bins.items()},
        "order": [str(n) for n in recording.coords],
        **session.notes,
    }
