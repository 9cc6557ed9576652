"""What holds for every test."""

import torch


def pytest_runtest_setup():
    """Networks that a test makes without a seed of their own do not depend on which tests ran before."""
    torch.manual_seed(0)
