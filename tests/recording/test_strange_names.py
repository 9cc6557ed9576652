"""Names of runs, threads, units, columns, labels and images: each reads back as it was, or is refused."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from closedloop.errors import ClosedLoopError
from closedloop.generators import Pixels
from closedloop.images.eight_bit import write_png
from closedloop.images.sets import ImageSet, read_folder
from closedloop.interfaces import Units
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit
from closedloop.optimizers import RandomSearch
from closedloop.protocols import present
from closedloop.recording.packing import pack
from closedloop.recording.reader import open_recording

#: Names that mean something to a system, a format, a program or a shell; and texts of every script.
SAID = (
    "", " ", "a", "A", "0", "-1", "007", "1e5", "nan", "None", "true", "null", "~", "$HOME", "%s", "%", "{x}", "{", "*",
    "?", "[/red]", "[red]", "<b>b</b>", "&amp;", "a b", " a", "a ", "a.", ".a", "..", ".", "../x", "a/../b", "/abs",
    "a/b", "a\\b", "C:", "CON", "nul.txt", "aux", "-rf", "--help", "=1+1", "@x", "a,b", 'a"b', "a'b", "a;b", "a:b",
    "a|b", "#", "a\nb", "a\rb", "a\tb", "a\x00b", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\u200b",
    "\ud83d",
    "é", "e\u0301", "ß", "SS", "İ", "ǆ", "Ω", "\u2126", "日本語", "нейрон", "وحدة", "א", "🧠", "👩\u200d🔬", "🇫🇷",
    "a" * 100, "a" * 101, "b" * 255, "b" * 300, "é" * 200, "neuroid_id", "subject", "kind", "score", "responses",
    "presentation", "latent_code", "stimulus_id", "thread", "reference", "images", "COMMITTED.json", "LOCK",
    "data.zarr", "__class__", "self", "main",
)  # fmt: skip


def name(rng):
    """A name: one of those above, two of them, or letters of any kind."""
    how = rng.random()
    if how < 0.4:
        return str(SAID[rng.integers(len(SAID))])
    if how < 0.6:
        return str(SAID[rng.integers(len(SAID))]) + str(SAID[rng.integers(len(SAID))])
    top = int(rng.choice([0x7F, 0x24F, 0x2FFF, 0x1FFFF]))
    return "".join(chr(c) for c in rng.integers(0, top, rng.integers(1, 9)))


def ordinary(text):
    """Whether no program could object to a name: letters, digits, and spaces, dashes or dots between them."""
    inner = set(text) <= {" ", "-", "_", "."} | {c for c in text if unicodedata.category(c)[0] in "LN"}
    return 0 < len(text.encode(errors="replace")) <= 60 and inner and text[0].isalnum() and text[-1].isalnum()


class Cells:
    def __init__(self, units, name="cells"):
        self.units, self.name = units, name

    def record(self, images):
        return np.repeat(images.mean((1, 2, 3))[:, None].astype(float), len(self.units), 1)


def taken(names, make, argument):
    """Those of names that are not refused when they are handed over alone; a refusal names the argument."""
    found = []
    for text in names:
        try:
            make(text)
        except ClosedLoopError as error:
            assert argument in str(error), (text, error)  # noqa: PT017
            assert len(str(error)) < 1000, error  # noqa: PT017
        else:
            found.append(text)
    return list(dict.fromkeys(found))


def pictures(n):
    return (np.arange(n * 48) % 256).reshape(n, 3, 4, 4).astype(np.float32) / np.float32(255)


def thread(text, seed=0):
    generator = Pixels(4)
    return Thread(generator, RandomSearch(generator.space, seed, population=2), Unit(0), text)


def drawn(rng, n):
    return [name(rng) for _ in range(n)]


def one_folder(seed, place):
    """One run with all names that are taken; it, and its packed copy, say them as they were. Returns their number."""
    rng = np.random.default_rng(seed)
    names = {kind: drawn(rng, 5) for kind in ("units", "columns", "texts", "images", "parameters", "labels")}
    units = taken(names["units"], lambda t: Units([t], {}), "units: neuroid_id") or ["u"]
    columns = taken(names["columns"], lambda t: Units(["a"], {t: ["x"]}), "units:")
    texts = taken(names["texts"], lambda t: Units(["a"], {"x": [t]}), "units: coordinate 'x'") or ["t"]
    images = taken(names["images"], lambda t: ImageSet([t], pictures(1)), "ids") or ["i"]
    known = Units(units, {column: [texts[i % len(texts)] for i in range(len(units))] for column in columns})
    shown = ImageSet(images, pictures(len(images)))

    def parametrized(t):
        present(Cells(known), shown, parameters={t: ["x"] * len(images)}, progress=False)

    def labelled(t):
        present(Cells(known), shown, parameters={"label": [t] * len(images)}, progress=False)

    parameters = taken(names["parameters"], parametrized, "parameters: column")
    labels = taken(names["labels"], labelled, "parameters: column 'label'") or ["l"]
    table = {p: [labels[i % len(labels)] for i in range(len(images))] for p in parameters}
    for kind, kept in (("units", units), ("texts", texts), ("images", images), ("labels", labels)):
        assert set(kept) >= {t for t in names[kind] if ordinary(t)}, (kind, names[kind])
    found = present(Cells(known), shown, parameters=table, save=place / "run", progress=False)
    said_as_given(found, known, shown, table)
    said_as_given(open_recording(pack(place / "run", place / "run.zip")), known, shown, table)
    return sum(map(len, names.values()))


def said_as_given(found, units, shown, table):
    assert found["neuroid_id"].values.tolist() == list(units.neuroid_id)
    for column, values in units.coords.items():
        assert found[column].values.tolist() == list(values)
    assert set(found["stimulus_id"].values.tolist()) == set(shown.ids)
    where = [shown.ids.index(i) for i in found["stimulus_id"].values.tolist()]
    for column, values in table.items():
        assert found[column].values.tolist() == [values[i] for i in where]
    np.testing.assert_array_equal(found["responses"][:, 0], shown.images.mean((1, 2, 3))[where])


def one_evolution(seed, place):
    """Names of a run's folder, of its threads, and of the subject."""
    rng = np.random.default_rng(seed)
    names, folder, who = drawn(rng, 6), name(rng), name(rng)
    threads = taken(names, thread, "name: expected") or ["main"]
    session = {"images": 2, "retest_candidates": 0, "save": f"{place}/runs/{folder}", "progress": False}
    try:
        found = Session(Cells(Units(["u"], {}), who), [thread(t, i) for i, t in enumerate(threads)], **session).run()
    except ClosedLoopError as error:
        text = str(error)
        assert "subject" in text or "save" in text or "runs" in text, text
        assert not (ordinary(folder) and ordinary(who)), text
        assert not [p for p in place.rglob("*") if p.is_file()], text
        assert not (place / "runs").exists() or not any((place / "runs").iterdir()), text
    else:
        assert set(found["thread"].values.tolist()) == set(threads)
        assert str(found["subject"].values) == who
        assert open_recording(f"{place}/runs/{folder}").load().identical(found.load())
        assert {p.name for p in place.rglob("COMMITTED.json")} == {"COMMITTED.json"}
    return 8


def one_library(seed, place):
    """Names of files in a folder of images."""
    rng, written = np.random.default_rng(seed), {}
    place.mkdir(parents=True)
    for i, text in enumerate(drawn(rng, 4)):
        path = place / f"{text}.png"
        try:
            if not path.name.endswith(f"{text}.png") or path.exists() or path.parent != place:
                continue
            write_png(path, pictures(4)[i])
        except (OSError, ValueError, ClosedLoopError):  # no file of this system can have it
            continue
        written[path.name[:-4]] = i
    (place / "plain.txt").touch()
    try:
        found = read_folder(place, 4)
    except ClosedLoopError as error:
        strange = [t for t in written if not ordinary(t)]
        assert strange or not written, error  # noqa: PT017
        assert not written or any(repr(t)[1:-1][:60] in str(error) for t in strange), error  # noqa: PT017
    else:
        assert len(found) <= len(written)
        for text, image in zip(found.ids, found.images, strict=True):
            np.testing.assert_array_equal(image, pictures(4)[written[text]])
    return 4


def test_names_read_back_as_they_were_or_are_refused(tmp_path, counted, tally):
    for seed in range(counted(quick=1, reduced=10, full=240)):
        for one in (one_folder, one_evolution, one_library):
            place = tmp_path / one.__name__ / str(seed)
            try:
                tally("names", one(seed, place))
            except Exception as error:
                raise AssertionError(f"{one.__name__}({seed})") from error


def test_half_a_character_is_refused_before_anything_is_written(tmp_path):
    """As a path that a system call would refuse, and as a label that no file can hold."""
    for where in (f"{tmp_path}/half \ud83d", tmp_path / "half \ud83d", f"{tmp_path}/nul\x00"):
        with pytest.raises(ClosedLoopError, match=r"save: expected a path, got .* half a character"):
            present(Cells(Units(["a"], {})), pictures(2), save=where, progress=False)
    with pytest.raises(ClosedLoopError, match=r"parameters: column 'x': expected texts that a file can hold"):
        present(Cells(Units(["a"], {})), pictures(2), parameters={"x": ["a", "\udc00"]}, save=tmp_path / "run")
    assert not list(tmp_path.iterdir())
