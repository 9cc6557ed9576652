"""Every block of Python in README and the documents runs, in the order of its page, with small budgets.

What a block uses of closedloop its page imports. What stands in a page as known (`subject`, `ds`, a folder
``runs/first`` …) is set out before it. What needs weights of others, a cluster, a rig's hardware or a program of the
reader's is named in `ELSEWHERE`, and is parsed only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import closedloop
from closedloop import load_optimizer, natural_references
from closedloop.generators import Fourier, load_generator
from closedloop.optimizers import CMAES
from closedloop.protocols import evolve
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.spiking import Firing
from closedloop.subjects import EnergySubject, GaborSubject, Poisson, RigSubject
from tests.house.test_docs import PAGES, blocks, name_of
from tests.running_rigs import Running

#: Pages of which no block runs here, and why.
ELSEWHERE = {
    "CONTRIBUTING.md": "patterns for tests of one's own",
    "docs/clusters.md": "a cluster",
    "docs/howto/protocol.md": "a protocol of the reader's; tests/protocols registers one",
    "docs/howto/rig.md": "a rig's program",
    "docs/howto/weights.md": "weights of others",
    "docs/rig_protocol.md": "hardware",
    "docs/rig_spikes.md": "hardware",
    "docs/lca.md": "a training of the reader's; examples/lca_loop.py runs in tests/protocols",
    "docs/viewer.md": "a notebook's frame",
    "docs/viewer_errors.md": "a network trained before; tests/protocols/test_diagnose.py",
    "docs/models_apart.md": "twins of two runs; tests/protocols/test_controversial.py",
    "docs/natural_search.md": "a large folder of photographs; tests/protocols/test_search_natural.py",
    "docs/twins.md": "lite1's features for a whole run; docs/tutorials/twin.md fits one",
    "docs/twins_in_session.md": "as docs/twins.md",
    "docs/twins_readouts.md": "as docs/twins.md",
}
#: Blocks that do not run, by a word in them, and why.
NOT_HERE = {
    "load_clip(": "weights of others",
    "load_open_clip": "weights of others",
    "faces.onnx": "a module of the reader's; tests/generators/test_onnx_generator.py saves one",
    "MyNet()": "a network of the reader's",
}
#: Numbers that stand for hours, and what is enough to see that a block runs.
SMALLER = (
    (r"\bimages=(\d[\d_]*)", "images=80"),
    (r"objective=objective\)", "objective=objective, images=80)"),
    (r"units=\[3, 7, 12\]\)", "units=[3, 7, 12], images=80)"),
    (r'units="random:64"\)', 'units="random:3", images=80)'),
    (r"\bbudgets=\([^)]*\)", "budgets=(60,)"),
    (r'"3000"', '"60"'),
    (r"\bchildren=\d+", "children=20"),
    (r"\bsteps=21\b", "steps=3"),
    (r"\bruns=2000\b", "runs=20"),
    (r"\[292, 971\], \(.*evolved", '[292], ("lucid", "evolved'),
    (r'method="lucid"', 'method="lucid", steps=3'),
    (r", steps=60", ""),
    (r"main-g0012-003", "main-g0002-003"),
    (r'load_subject\("lite1"', 'load_subject("lite0"'),  # the tests' extra installs no weights of lite1
    (r"039_macaw", "041_chameleon"),  # one of the few references that are left
    (r"CPPN\(224\)", "CPPN(32)"),
    (r"invert\(native, photographs\)", "invert(native, photographs[:1], steps=5)"),
)


#: What a single page takes as known besides.
BEFORE = {
    "docs/fooling.md": "from closedloop.subjects import FunctionSubject\n"
    "subject = FunctionSubject(lambda images: images.mean((2, 3)), units=3)",
    "docs/howto/network.md": "from tests.small_networks import made, subject as small\n"
    "subject = small(made(), layer='twice', units=[0, 1, 2])",
    "docs/objectives.md": "from closedloop.subjects import GaborSubject\n"
    "subject = GaborSubject(resolution=32, count=2)",
    "docs/scale.md": "from closedloop.subjects import GaborSubject\nsubject = GaborSubject(resolution=32, count=16)",
    "docs/views.md": "import torch\nfrom closedloop import Unit\nimages, objective = torch.rand(2, 3, 32, 32), Unit(0)",
}


def shrunk(block):
    for pattern, small in SMALLER:
        block = re.sub(pattern, small, block)
    return block


class Known(dict):
    """What pages take as known, made when it is first asked for."""

    def __missing__(self, name):
        if name not in MADE:
            raise KeyError(name)
        self[name] = MADE[name](self)
        return self[name]


def small_run(known: Any, folder: str, seed: int = 0, noisy: bool = False) -> Any:
    inner = EnergySubject(resolution=32)
    subject = Poisson(inner, spikes=20, best=1.0, seed=1) if noisy else inner
    generator = Fourier(32, cutoff=4)
    optimizer = load_optimizer("auto", generator.space, seed=seed, images=60)
    options = {"images": 60, "seed": seed, "references": "bundled", "progress": False}
    return evolve(subject, generator, optimizer, save=folder, exists="resume", **options)


def run_at_a_rig(folder: str) -> None:
    firing = Firing(1, (0.05, 0.2), np.array([20.0]))
    rig = Running(SimulatedRig(GaborSubject(resolution=16), firing), "folder:exchange")
    subject, generator = RigSubject(rig.address, resolution=16, on_s=0.1, off_s=0.1), Fourier(16, cutoff=3)
    optimizer = load_optimizer("auto", generator.space, seed=0, images=40)
    evolve(subject, generator, optimizer, images=40, save=folder, progress=False)
    rig.stop()


MADE = {
    "rng": lambda known: np.random.default_rng(0),
    "subject": lambda known: EnergySubject(resolution=32),
    "neuron": lambda known: EnergySubject(resolution=32),
    "generator": lambda known: Fourier(32, cutoff=4),
    "pixels": lambda known: load_generator("pixels", resolution=32),
    "optimizer": lambda known: load_optimizer("auto", known["generator"].space, seed=0, images=80),
    "images": lambda known: natural_references(32).images[:3],
    "photographs": lambda known: natural_references(32).images[:4],
    "layer_responses": lambda known: known["rng"].random((3, 8)),
    "layer_responses_to_photographs": lambda known: known["rng"].random((4, 8)),
    "ds": lambda known: small_run(known, "runs/first"),
    "MyOptimizer": lambda known: CMAES,
}
#: Folders that pages open, made before them.
RUNS = {
    "runs/first": {},
    "runs/theirs": {"noisy": True},
    "runs/second": {"seed": 1},
    "runs/b4-30": {},
    "runs/pilot": {"noisy": True},
}


def photographs_in(folder: str, images: Any) -> None:
    """Makes a folder of photographs."""
    Path(folder).mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)).save(f"{folder}/{i}.png")


def standing(page: Any, known: Any) -> None:
    """Makes the runs and files that a page opens."""
    text = page.read_text()
    for folder, options in RUNS.items():
        if f'open_recording("{folder}' in text:
            small_run(known, folder, **options)
    if '"first.nc"' in text:
        closedloop.export(known["ds"], "netcdf", "first.nc")
    for folder in ("runs/tuesday", "runs/rehearsal"):
        if f'open_recording("{folder}' in text:
            run_at_a_rig(folder)
    if '"photos/"' in text:
        photographs_in("photos", known["photographs"])


def pages_with_code() -> Iterator[Any]:
    for page in PAGES:
        own = "{code-cell}" not in page.read_text()  # a tutorial runs when the site is built
        if own and blocks(page.read_text(), "python") and name_of(page) not in ELSEWHERE:
            yield page


def test_what_runs_elsewhere_is_a_page_with_code():
    names = {name_of(page) for page in PAGES if blocks(page.read_text(), "python")}
    assert set(ELSEWHERE) <= names


@pytest.mark.usefixtures("figures_closed", "few_references", "small_network", "warm_parts")
@pytest.mark.parametrize("page", list(pages_with_code()), ids=name_of)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = Known(__name__="page", __builtins__=__builtins__)
    exec(BEFORE.get(name_of(page), ""), known)  # noqa: S102 - the repository's own words
    standing(page, known)
    for block in blocks(page.read_text(), "python"):
        if not any(word in block for word in NOT_HERE):
            exec(compile(shrunk(block), name_of(page), "exec"), known)  # noqa: S102
