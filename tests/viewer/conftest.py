"""Small subjects, and clients of viewers that show them."""

import pytest

from closedloop.subjects import GaborSubject
from tests.viewer.clients import client_of


@pytest.fixture(scope="session")
def gabor():
    """Twelve model neurons, which are looked at as a box but can be differentiated."""
    return GaborSubject(count=12, seed=1, resolution=32)


@pytest.fixture(scope="session")
def looked(gabor):
    """A client of a viewer of these."""
    return client_of(gabor)


@pytest.fixture(scope="session")
def network():
    """A small convolutional classifier of three named classes as a subject."""
    torch = pytest.importorskip("torch")
    from closedloop.subjects import TorchSubject

    nn = torch.nn
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.Conv2d(5, 7, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 64, 3)
        )
    return TorchSubject(model, resolution=32, engine="eager", name="small", labels=("cat", "dog", "boat"))


@pytest.fixture(scope="session")
def inside(network):
    """A client of a viewer of the network."""
    return client_of(network)
