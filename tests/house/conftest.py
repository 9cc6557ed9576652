"""What the pages' code and commands have in common when they run."""

import matplotlib.pyplot as plt
import pytest

from closedloop.images import sets
from closedloop.subjects import named


@pytest.fixture
def figures_closed():
    """Closes what a page's code has drawn with pyplot, which keeps it for every test of this process."""
    yield
    plt.close("all")


@pytest.fixture
def few_references(monkeypatch):
    """Leaves some twenty of the bundled photographs, which a page's code surveys again and again."""
    every = sets.folder_images

    def some(folder):
        names, paths = every(folder)
        apart = max(1, len(names) // 20)
        return names[::apart], paths[::apart]

    monkeypatch.setattr(sets, "folder_images", some)


@pytest.fixture
def small_network(monkeypatch):
    """Has lite0 see 64 pixels, which is enough to see that code and commands run."""
    monkeypatch.setitem(named.LITE_RESOLUTION, 0, 64)
