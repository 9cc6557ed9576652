"""What holds for every test."""

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("untimed", deadline=None)  # how fast a computer is decides no test
hypothesis.settings.load_profile("untimed")


def pytest_runtest_setup():
    """Networks that a test makes without a seed of their own do not depend on which tests ran before."""
    torch.manual_seed(6_180_339)  # none that a test hands on


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What was found before is not the user's, and is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOSEDLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
