"""Progress: lines in a log file, a bar where somebody looks, silence where it is asked for."""

import io
import sys
import threading
import time

import numpy as np
import pytest

from closedloop import RandomSearch, Session, Thread, Unit, natural_references
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Pixels
from closedloop.loop import progress as module
from closedloop.loop.progress import Lines, Meter, Pace, SessionMeter, as_progress, end_progress
from closedloop.protocols import ascend, compare, evolve, present, resume
from closedloop.subjects import FunctionSubject, GaborSubject

IMAGES = np.random.default_rng(0).random((130, 3, 8, 8), dtype=np.float32)


@pytest.fixture
def log(monkeypatch):
    """Standard error as a file."""
    file = io.StringIO()
    monkeypatch.setattr(module, "stream", lambda: file)
    return lambda: file.getvalue().splitlines()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which goes on where a test adds to it."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def mean_luminance():
    return FunctionSubject(lambda images: images.mean((1, 2, 3)), name="mean")


def test_a_log_has_a_line_at_the_start_and_one_about_every_tenth():
    lines = []
    log = Lines(lines.append)
    for done in range(0, 1001, 5):
        log.move("evolving", done, 1000, "best 2  mean 1")
    log.stop()
    assert lines[0].startswith("evolving: 0 of 1,000  best 2")
    assert [int(line.split()[1]) if "," not in line.split()[1] else 1000 for line in lines] == [*range(0, 1001, 100)]
    assert all("/s" in line for line in lines[1:])
    assert all(" left" in line for line in lines[1:-1])
    assert not any(character < " " for line in lines for character in line)


def test_a_log_has_a_line_in_time_though_nothing_moves():
    lines = []
    log = Lines(lines.append, every_s=0.05)
    log.move("evolving", 0, 1000)
    deadline = time.monotonic() + 5
    while len(lines) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    log.move("evolving", 1, 1000)
    log.stop()
    assert len(lines) >= 3
    assert set(lines[:3]) == {"evolving: 0 of 1,000"}
    said = len(lines)
    time.sleep(0.15)
    assert len(lines) == said


def test_no_clock_is_left_behind(log):
    with Meter("working", 10) as meter:
        for done in range(11):
            meter.move(done)
    time.sleep(0.05)
    assert not [t for t in threading.enumerate() if t.name == "closedloop-progress"]
    assert log()[-1].startswith("working: 10 of 10")


@pytest.mark.parametrize(
    ("elapsed", "done", "total", "words"),
    [
        (10, 0, 100, ""),
        (10, 50, 100, "5.0/s  10 s left"),
        (1, 40, 8000, "40/s  3 min 19 s left"),
        (100, 1, 200, "0.6/min  5 h 31 min left"),
        (10, 100, 100, "10/s"),
        (10, 100, None, "10/s"),
    ],
)
def test_the_pace_in_words(clock, elapsed, done, total, words):
    pace = Pace()
    clock[0] += elapsed
    pace.move(done)
    assert pace.words(total) == words


def test_the_time_left_runs_down_while_one_part_is_silent(clock):
    pace = Pace()
    clock[0] += 60
    pace.move(1)
    said = []
    for _ in range(5):
        said.append(pace.words(4))
        clock[0] += 45
    assert said == [f"1.0/min  {left} left" for left in ("3 min 0 s", "2 min 15 s", "1 min 30 s", "45 s")] + ["1.0/min"]
    pace.move(2)  # it took 225 s: now more is expected of the rest
    assert pace.words(4) == "0.4/min  4 min 45 s left"


def test_a_part_of_its_own_has_its_own_number_and_rate(clock):
    lines = []
    shown = Lines(lines.append)
    shown.begin("surveying references", 0, 160)
    clock[0] += 60
    shown.begin("evolving", 0, 40)
    clock[0] += 2
    shown.move("evolving", 20, 40)
    shown.begin("re-testing", 0, None, "best 3")
    shown.stop()
    assert lines == [
        "surveying references: 0 of 160",
        "evolving: 0 of 40",
        "evolving: 20 of 40  10/s  2 s left",
        "re-testing: best 3",
    ]


def test_re_tests_after_the_last_image_do_not_slow_what_was_measured(clock):
    pace = Pace()
    clock[0] += 4
    pace.move(40)
    assert pace.words(40) == "10/s"
    clock[0] += 60
    pace.move(40)
    assert pace.words(40) == "10/s"


def test_another_word_with_another_total_begins_anew_and_another_word_alone_does_not(log, clock):
    with Meter("finding features", 1000) as meter:
        meter.start()
        clock[0] += 100
        meter.move(1000)
        meter.move(0, 50, description="searching")
        clock[0] += 5
        meter.move(25, 50, description="still searching")
    assert log()[-2:] == ["searching: 0 of 50", "still searching: 25 of 50  5.0/s  5 s left"]


def test_the_rate_of_a_bar_does_not_count_a_survey(monkeypatch):
    file, now = Terminal(), [100.0]
    monkeypatch.setattr(module, "stream", lambda: file)
    for place in ("time.time", "tqdm.std.time"):
        monkeypatch.setattr(place, lambda: now[0])
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with Meter("surveying", 160) as meter:
        meter.start()
        now[0] += 60
        meter.begin("evolving", 100)
        now[0] += 10
        meter.move(100)
        meter.begin("re-testing", None)
    said = file.getvalue().split("\r")
    assert "0/160" in said[1]
    assert any("evolving" in text and "0/100" in text for text in said)
    assert "re-testing" in said[-1]
    assert "100/100" in said[-1]
    assert "10.0" in said[-1]


class Told:
    """A meter that keeps what it is told."""

    def __init__(self, word, total):
        self.told = [(word, total)]

    def start(self, completed=0):
        self.told.append(completed)

    def move(self, completed, facts=""):
        self.told.append(completed)

    def begin(self, word, total, completed=0, facts=""):
        self.told.append((word, total, completed))

    def stop(self):
        pass


def test_what_a_session_says_is_under_way_while_it_is():
    made = []

    def meter(word, total):
        made.append(Told(word, total))
        return made[-1]

    references = natural_references(8).images[:4]
    thread = Thread(Pixels(4), RandomSearch(Pixels(4).space, seed=1, population=8), Unit(0), "a")
    kept = {"images": 16, "references": references, "retest_repeats": 2, "progress": False}
    Session(mean_luminance(), [thread], observers=[SessionMeter(meter)], **kept).run()
    assert made[0].told == [("surveying references", 4), 0, ("evolving", 16, 0), 8, 16, ("re-testing", None, 0)]


def test_a_script_shows_what_it_does_and_is_silent_where_it_is_told(log, tmp_path):
    space = Pixels(4).space
    run = {"images": 40, "references": natural_references(8).images[:4], "retest_repeats": 2}
    evolve(mean_luminance(), Pixels(4), RandomSearch(space, seed=1, population=8), **run)
    lines = log()
    assert lines[:2] == ["surveying references: 0 of 4", "evolving: 0 of 40"]
    assert lines[-2].startswith("evolving: 40 of 40")
    assert lines[-1].startswith("re-testing: best 0.")
    assert "mean 0." in lines[-1]
    evolve(mean_luminance(), Pixels(4), RandomSearch(space, seed=1, population=8), progress=False, **run)
    present(mean_luminance(), IMAGES, progress=False)
    assert log() == lines


def test_every_protocol_shows_it(log, tmp_path):
    present(mean_luminance(), IMAGES, save=tmp_path / "shown")
    assert log()[0] == "recording: 0 of 130"
    assert log()[-1].startswith("recording: 130 of 130")
    count = len(log())
    ascend(GaborSubject(resolution=16), method="mei", steps=4)
    assert any(line.startswith("evolving: 4 of 4") for line in log()[count:])
    count = len(log())
    compare(GaborSubject(resolution=16), 0, ["raw"], budgets=[60], naturals=natural_references(16).images[:8])
    assert [line.split("  ")[0] for line in log()[count:]] == ["comparing: 0 of 1", "raw, 60, seed 0: 1 of 1"]
    count = len(log())
    resume(tmp_path / "shown")
    assert len(log()) == count


def test_a_function_is_told_instead(log):
    told = []
    present(mean_luminance(), IMAGES, progress=lambda done, total: told.append((done, total)))
    assert told == [(64, 130), (128, 130), (130, 130)]
    assert log() == []


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    file = Terminal()
    monkeypatch.setattr(module, "stream", lambda: file)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with Meter("evolving", 100) as meter:
        meter.start()
        for done in range(1, 101):
            meter.move(done, facts=f"best {done}")
    assert "100/100" in file.getvalue()
    assert "best 100" in file.getvalue()
    assert file.getvalue().count("\r") < 10  # not one for each move


def test_in_the_kernel_of_a_notebook_there_is_a_bar_and_no_warning():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    source = """
from closedloop.loop.progress import Meter
with Meter("evolving", 20) as meter:
    for done in range(21):
        meter.move(done, facts="best 3")
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    outputs = notebook.cells[0].outputs
    assert {o.get("name") for o in outputs} <= {None, "stdout"}  # standard error is shown in red
    shown = "".join(o.get("text", "") or o["data"]["text/plain"] for o in outputs)
    assert "20/20" in shown
    assert "best 3" in shown
    assert "Warning" not in shown


def test_a_log_that_cannot_be_written_ends_no_experiment(monkeypatch):
    file = io.StringIO()
    file.close()

    class Closed:
        isatty = staticmethod(lambda: False)
        write = file.write
        flush = file.flush

    monkeypatch.setattr(module, "stream", Closed)
    present(mean_luminance(), IMAGES)


@pytest.mark.parametrize("wrong", ["no", 3, {}])
def test_what_is_no_progress(wrong):
    with pytest.raises(InvalidArgumentError, match="progress: expected True"):
        as_progress(wrong, "recording")
    with pytest.raises(InvalidArgumentError, match="progress: expected True"):
        evolve(mean_luminance(), Pixels(4), RandomSearch(Pixels(4).space), progress=wrong)
    end_progress(as_progress(None, "recording"))
