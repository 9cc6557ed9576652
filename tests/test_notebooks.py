"""What a notebook shows of figures, axes, recordings and errors."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from closedloop import figures, load_optimizer, open_recording
from closedloop.errors import ClosedLoopError, InvalidArgumentError
from closedloop.generators import Pixels
from closedloop.notebooks import in_notebooks
from closedloop.protocols import evolve
from closedloop.subjects import FunctionSubject
from tests.small_runs import run


@pytest.fixture
def known(monkeypatch):
    """What IPython is told: what shows each class."""
    found = {}

    def keep(module, name, show):
        found[getattr(importlib.import_module(module), name)] = show

    kind = SimpleNamespace(for_type_by_name=keep)
    shell = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": kind, "image/png": kind}))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        in_notebooks()
    return found


def test_the_kinds_bear_the_names_by_which_ipython_finds_them(known):
    assert set(known) == {xr.Dataset, Figure, Axes}
    for kind in known:
        assert getattr(sys.modules[kind.__module__], kind.__name__) is kind


def test_figures_and_axes_of_no_window_are_drawn_and_those_of_pyplot_by_pyplot(known):
    figure = Figure()
    assert known[Figure](figure).startswith(b"\x89PNG")
    assert known[Axes](figure.add_subplot()).startswith(b"\x89PNG")
    assert known[Axes](figure.subfigures().add_subplot()).startswith(b"\x89PNG")
    shown, ax = plt.subplots()
    assert known[Axes](ax) is None
    assert known[Figure](shown) is None
    ax.remove()
    assert known[Axes](ax) is None
    plt.close("all")


def test_a_recording_is_shown_with_its_figure(known, tmp_path):
    run("evolve", tmp_path / "run")
    recording = open_recording(tmp_path / "run")
    assert "data:image/png" in known[xr.Dataset](recording)
    assert known[Axes](figures.plot_threads(recording)).startswith(b"\x89PNG")


def test_outside_of_ipython_nothing_happens(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    in_notebooks()
    monkeypatch.delitem(sys.modules, "IPython")
    in_notebooks()


def test_in_a_shell_of_ipython_importing_closedloop_is_enough():
    pytest.importorskip("IPython")
    code = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import closedloop, sys
assert not {"matplotlib", "xarray"} & set(sys.modules)
from matplotlib.figure import Figure
shown, _ = shell.display_formatter.format(Figure().add_subplot())
assert shown["image/png"].startswith(b"\\x89PNG")
import xarray
shown, _ = shell.display_formatter.format(xarray.Dataset())
assert "xr-header" in shown["text/html"]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def rendered(work, message):
    with pytest.raises(ClosedLoopError, match=message) as caught:
        work()
    return "\n".join(caught.value._render_traceback_())


def test_bad_input_shows_the_users_line_and_the_message_alone():
    generator = Pixels(4)
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3)), name="mean")
    said = rendered(
        lambda: evolve(subject, generator, load_optimizer("cma", generator.space, seed=0), images=0), "images"
    )
    assert said.endswith("InvalidArgumentError: images: expected a whole number of at least 1, got 0.")
    assert "evolve(subject, generator" in said
    assert "in read_settings" not in said
    assert "in inner" not in said


def test_what_raised_in_the_users_own_code_is_shown_with_it():
    def broken(images):
        return images.nothing

    generator = Pixels(4)
    optimizer = load_optimizer("cma", generator.space, seed=0)
    said = rendered(lambda: evolve(FunctionSubject(broken, name="mine"), generator, optimizer, images=40), "mine")
    cause, _, error = said.partition("This led to:")
    assert "return images.nothing" in cause
    assert "AttributeError" in cause
    assert "subject 'mine'" in error
    assert "presenter" not in said


def test_an_error_that_is_its_own_cause_ends():
    first, second = InvalidArgumentError("first"), InvalidArgumentError("second")
    first.__cause__, second.__cause__ = second, first
    assert first._render_traceback_()[-1].endswith("first")
