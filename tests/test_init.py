"""The package's own names, and modules under the paths that documents of earlier versions name."""

import importlib
import subprocess
import sys

import pytest

import closedloop


@pytest.mark.parametrize("name", sorted(closedloop._MOVED))
def test_former_paths_lead_to_the_same_module(name):
    assert importlib.import_module(f"closedloop.{name}") is importlib.import_module(
        f"closedloop.{closedloop._MOVED[name]}"
    )


def test_former_paths_as_documents_wrote_them():
    code = """
from closedloop import naturalness
from closedloop.attribution import attribute
from closedloop.captions import CaptionObjective, load_clip, load_open_clip
from closedloop.cautions import cautions
from closedloop.evolution import GradientSettings, Thread
from closedloop.exports import export, to_rsatoolbox
from closedloop.images import natural_references, to_bytes
from closedloop.loop import Observer, Session
from closedloop.optimizers.regularizers import Blur
from closedloop.recording import open_recording
from closedloop.settings import Settings
import closedloop.stimuli
assert naturalness.band and closedloop.stimuli.render is closedloop.render
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_what_never_was():
    with pytest.raises(ModuleNotFoundError, match=r"closedloop\.nowhere"):
        importlib.import_module("closedloop.nowhere")


def test_everything_that_is_named_is_there():
    for name in closedloop.__all__:
        assert getattr(closedloop, name) is not None
