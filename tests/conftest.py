"""What holds for every test, and how often a check that has no natural end is made."""

import importlib.util
import os

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # how fast a computer is decides no test
hypothesis.settings.load_profile("untimed")

# Nor does the number of its cores: one thread here and in the processes that tests start, of which several run at once.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

NETWORKS = importlib.util.find_spec("torch") is not None


def pytest_addoption(parser):
    parser.addoption(
        "--counts",
        choices=("quick", "reduced", "full"),
        default="quick",
        help="how often kills, fuzzing and the like are repeated; scripts/long takes full",
    )


@pytest.fixture(scope="session")
def counted(request):
    """Chooses a number of repetitions: `counted(quick=5, reduced=30, full=300)`."""
    counts = request.config.getoption("--counts")
    return lambda **numbers: numbers[counts]


def pytest_collection_modifyitems(items):
    """A test that asks for `counted` is found again by the marker of that name."""
    for item in items:
        if "counted" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.counted)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """On a computer without the extra `networks` tests that import torch are skipped, and said to be."""
    report = yield
    if not NETWORKS and report.failed and _needs_torch(str(report.longrepr)):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "Skipped: needs the extra networks")
    return report


def _needs_torch(text):
    return "No module named 'torch" in text or "closedloop[networks]" in text


def pytest_runtest_setup():
    """Networks that a test makes without a seed of their own do not depend on which tests ran before."""
    if NETWORKS:
        import torch

        torch.manual_seed(6_180_339)  # none that a test hands on


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What was found before is not the user's, and is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOSEDLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
