"""What holds for every test, and how often a check that has no natural end is made."""

import collections
import gc
import importlib.util
import io
import json
import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # how fast a computer is decides no test
hypothesis.settings.load_profile("untimed")

# Nor does the number of its cores: one thread here and in the processes that tests start, of which several run at once.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

NETWORKS = importlib.util.find_spec("torch") is not None


gc.disable()  # while tests are collected, of which there are many thousands


def pytest_collection_finish():
    """What was collected stays, and is not looked through again while tests run."""
    gc.freeze()
    gc.enable()


def pytest_addoption(parser):
    parser.addoption(
        "--counts",
        choices=("quick", "reduced", "full"),
        default="quick",
        help="how often kills, fuzzing and the like are repeated; scripts/long takes full",
    )
    parser.addoption("--torch-seed", type=int, default=6_180_339, help="of networks that a test makes without its own")
    parser.addoption("--tally", metavar="FILE", help="write how many cases of each kind were tried, as JSON")


@pytest.fixture(scope="session")
def counted(request):
    """Chooses a number of repetitions: `counted(quick=5, reduced=30, full=300)`."""
    counts = request.config.getoption("--counts")
    return lambda **numbers: numbers[counts]


@pytest.fixture
def tally(record_property):
    """Notes how many cases of a kind a test tried, for the table of docs/reliability.md: `tally("exports", 12)`."""
    found = collections.Counter()

    def note(kind, cases=1):
        found[kind] += cases

    yield note
    for kind, cases in found.items():
        record_property("tally", [kind, cases])


_tallied = {}  # test -> [[kind, cases] …], of this process or of those that test side by side
_failed = set()


def pytest_runtest_logreport(report):
    """Keeps what tests noted; a test that failed handled all its cases but one."""
    if report.failed:
        _failed.add(report.nodeid)
    if report.when == "teardown":
        _tallied[report.nodeid] = [value for name, value in report.user_properties if name == "tally"]


def pytest_sessionfinish(session):
    """Writes the number of cases of each kind, and of those that were handled, to the file of `--tally`."""
    path = session.config.getoption("--tally")
    if path is None or hasattr(session.config, "workerinput"):
        return
    sums = collections.defaultdict(lambda: [0, 0])
    for test, notes in _tallied.items():
        for kind, cases in notes:
            sums[kind][0] += cases
            sums[kind][1] += cases - (test in _failed)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(dict(sorted(sums.items())), file, indent=1, ensure_ascii=False)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks what asks for `counted` or `tally`, and as `long` the cases of `sampled` tests but for a few."""
    cases = collections.defaultdict(list)
    for item in items:
        for name in {"counted", "tally"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(getattr(pytest.mark, name))
        if item.get_closest_marker("sampled") and not item.get_closest_marker("long"):
            cases[item.nodeid.partition("[")[0]].append(item)
    for several in cases.values():
        (most,) = several[0].get_closest_marker("sampled").args
        kept = {round(i * (len(several) - 1) / max(most - 1, 1)) for i in range(min(most, len(several)))}
        for i, item in enumerate(several):
            if i not in kept:
                item.add_marker(pytest.mark.long)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """On a computer without the extra `networks` tests that import torch are skipped, and said to be."""
    report = yield
    if not NETWORKS and report.failed and _needs_torch(str(report.longrepr)):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "Skipped: needs the extra networks")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Does the same with tests that meet torch while they run, such as commands on a network."""
    report = yield
    if not NETWORKS and report.failed and _needs_torch(f"{report.longrepr}{report.capstdout}{report.capstderr}"):
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, "Skipped: needs the extra networks")
    return report


def _needs_torch(text):
    text = " ".join(text.split())
    return any(words in text for words in ("No module named 'torch", "closedloop[networks]", "needs torch"))


def pytest_runtest_setup(item):
    """Networks that a test makes without a seed of their own do not depend on which tests ran before."""
    if NETWORKS:
        import torch

        torch.manual_seed(item.config.getoption("--torch-seed"))


@pytest.fixture(autouse=True, scope="session")
def quiet_progress():
    """Progress is made as for a person, and written where nobody looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("closedloop.loop.progress.stream", io.StringIO)
        yield


@pytest.fixture(autouse=True, scope="session")
def nothing_forced():
    """Files are not forced onto the disk, which takes milliseconds for each: no computer loses its power here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in {"fsync", "fdatasync"} & set(dir(os)):
            patch.setattr(os, name, lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What was found before is not the user's, and is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOSEDLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def warm_parts():
    """Keeps the subjects and generators that a module's commands ask for loaded, as a sweep's worker does."""
    from closedloop.recipes import KeptParts, keeping

    with keeping(KeptParts(most=8)):
        yield


_rendered = set()  # kinds of figures, by the tests' module


@pytest.fixture
def few_figures(request, monkeypatch):
    """Has commands draw their figures, and render the first of each kind among a module's tests; others are a dot."""
    from matplotlib.figure import Figure
    from PIL import Image

    save = Figure.savefig

    def savefig(figure, file, **options):
        ending = Path(file).suffix if isinstance(file, Path) else None  # a report is written to memory
        kind = (request.module.__name__, ending, tuple(figure.get_size_inches().round()), len(figure.axes))
        if ending and kind in _rendered:
            Image.new("L", (1, 1)).save(file, "PNG")
        else:
            save(figure, file, **options)
            _rendered.add(kind)

    monkeypatch.setattr(Figure, "savefig", savefig)
