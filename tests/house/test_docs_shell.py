"""Every command in README and the documents runs, in the order of its page, with small budgets; so does every YAML.

They run in this process, in a folder in which stands what a page takes as known, with the options of the page. The
network is seen at 64 pixels. What needs weights of others, a cluster, a rig's hardware or a program or file of the
reader's is named in `ELSEWHERE` and `NOT_HERE`, and is parsed only.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import runpy
import shlex
import shutil
import sys
import threading
from pathlib import Path

import pytest
import yaml
from PIL import Image

from closedloop import natural_references
from closedloop.cli import main
from closedloop.rigs.server import RigServer
from closedloop.viewer import serving
from tests.formats.importers.test_xdream import network_run
from tests.generators.test_onnx_generator import write
from tests.house.test_docs import PAGES, ROOT, SHELL, blocks, fenced, name_of, shell_lines
from tests.house.test_docs_run import photographs_in, run_at_a_rig, small_run
from tests.rigs.test_serving import EXPERIMENT, client, free_port, play

#: Pages of which no command runs here, and why.
ELSEWHERE = {
    "CONTRIBUTING.md": "a new environment",
    "docs/evening.md": "hours; tests/house/test_scripts.py",
    "docs/howto/examples.md": "minutes; tests/house/test_scripts.py",
    "docs/howto/network.md": "weights of others",
}
#: Commands that do not run, by their first words or a word in them, and why.
NOT_HERE = {
    "pip install": "a new environment",
    "pytest": "a new environment",
    "closedloop train-generator": "weights of lite1; tests/cli/test_train_generator.py",
    "CLOSEDLOOP_DATA": "data of others",
    "dask ": "a cluster",
    "--scheduler": "a cluster",
    "timm:": "weights of others",
    "deepsim:": "weights of others",
}
#: Pages that take more than some ten seconds.
LONG = {
    "docs/comparison.md",
    "docs/development.md",
    "docs/fooling.md",
    "docs/gallery.md",
    "docs/gradients.md",
    "docs/howto/commands.md",
    "docs/howto/generator.md",
    "docs/howto/objective.md",
    "docs/howto/rehearse.md",
    "docs/howto/rig.md",
    "docs/lca.md",
    "docs/lca_digits.md",
    "docs/models_apart.md",
    "docs/natural_search.md",
    "docs/objectives.md",
    "docs/report.md",
    "docs/rig.md",
    "docs/rig_screen.md",
    "docs/scale.md",
    "docs/sessions.md",
    "docs/start/first.md",
    "docs/treatments.md",
    "docs/tutorials/gradients.md",
    "docs/twins.md",
    "docs/twins_in_session.md",
    "docs/twins_readouts.md",
    "docs/viewer.md",
    "docs/viewer_pages.md",
}
#: What stands for hours, weights that the tests' extra does not install and rigs far away, and what is enough here.
SMALLER = (
    (r"--images \d+", "--images 40"),
    (r"--children \d+", "--children 20"),
    (r"--budgets \S+", "--budgets 60"),
    (r"--budget \d+", "--budget 6"),
    (r"--steps \d+", "--steps 4"),
    (r"--seeds \d+", "--seeds 2"),
    (r"--at \d\S*", "--at 0,2,4"),
    (r"--units all --each", "--units 0-2 --each"),
    (r"292,97[01]", "292"),
    (r"random:64", "random:2"),
    (r"lite0 --noise poisson", "'{name: lite0, units: 971}' --noise poisson"),  # small, some classes never answer
    (r"\blite1\b", "lite0"),
    (r"--listen \S+", "--listen folder:rig"),
    (r"rig:(zmq://[\d.]+:\d+|folder:/\S+)", "rig:folder:rig"),
)
#: Options that a command gets beside those of the page, where it has not got them.
BESIDES = {
    "evolve": "--images 40",
    "ascend": "--steps 4",
    "compare": "--budgets 60",
    "elites": "--images 40 --children 20",
    "lca": "--steps 4",
    "develop": "--steps 4 --looks 2 --images 40 --units 0 --starts 1 --examples 40",
    "treat": "--steps 10 --more 10 --every 10 --suspects 1 --preferred 40",
    "judge": "--steps 10 --more 10 --every 10 --suspects 1 --preferred 40 --seeds 2",
    "atlas": "--budget 60 --units 0 --top 2 --repeats 2",
    "diagnose": "--most 2 --controls 2 --suspects 1 --preferred 40",
    "landscape": "--steps 3",
    "invariance": "--steps 1 --rotations 2",
    "selectivity": "--repeats 1",
    "verify": "--steps 4 --repeats 2",
    "controversial": "--steps 4 --copies 1 --naturals 4 --repeats 2",
    "stretch-and-squeeze": "--images 80 --population 20 --retest-candidates 2 --retest-repeats 2",
    "pareto": "--images 80 --population 20 --retest-candidates 2 --retest-repeats 2",
    "search-natural": "--start 4 --batch 2",
    "plan": "--generations 5,10",
    "sweep": "--workers 0",
    "rig-sim": "--listen folder:rig --pace 0",
}
#: Numbers in files of YAML, likewise.
SMALLER_FILES = (
    (r"images: \d+", "images: 40"),
    (r"units: random:\d+", "units: random:1"),
    (r"seeds: \S+", "seeds: 0"),
)


def photograph(path):
    """Makes one photograph."""
    photographs_in("one", natural_references(64).images[:1])
    Image.open("one/0.png").save(path)


def labelled(path):
    """Makes a folder of photographs in folders by class."""
    for i, name in enumerate(("n01443537_goldfish", "n01440764_tench")):
        photographs_in(f"{path}/{name}", natural_references(64).images[3 * i :][:3])


def xdream(path):
    """Makes a folder as XDream leaves it."""
    Path(path).mkdir()
    network_run(Path(path))


def plan(path):
    """Writes the plan that docs/scale.md shows."""
    (text,) = blocks((ROOT / "docs" / "scale.md").read_text(), "yaml")
    Path(path).write_text(smaller_file(text))


#: What pages take as known, and how it is made before it is first named: a command, or a function of its path.
KNOWN = {
    "photo.jpg": photograph,
    "photos": lambda path: photographs_in(path, natural_references(64).images[:4]),
    "plan.yaml": plan,
    "experiment.yaml": lambda path: Path(path).write_text(EXPERIMENT),
    "results": xdream,
    "runs/noise": "closedloop sweep plan.yaml --list --out runs/noise",
    "runs/tuesday": run_at_a_rig,
    "runs/pilot": lambda path: small_run({}, path, noisy=True),
    "runs/cat": "closedloop evolve --unit 292 --noise gain:0.5 --out runs/cat",
    "runs/b4-30": "closedloop evolve --layer blocks.4 --unit 30 --out runs/b4-30",
    "runs/a-twin": "closedloop fit-twin runs/a --out runs/a-twin",
    "runs/b-twin": "closedloop fit-twin runs/b --features random --out runs/b-twin",
    "RUN": "closedloop lca --network resnet --out RUN",
    "atlas": "closedloop atlas --layers blocks.1 --methods lucid --naturals photographs --out atlas",
    "runs": lambda path: small_run({}, "runs/first"),
    **dict.fromkeys(
        ("runs/a", "runs/b", "runs/theirs", "runs/u7", "runs/u8", "runs/u9"), lambda path: small_run({}, path)
    ),
    **dict.fromkeys(("photographs", "stimuli", "validation", "FOLDER", "PHOTOGRAPHS"), labelled),
}
#: What a file that is shown in part holds besides.
OTHER_ENTRIES = {"subject": {"name": "energy", "resolution": 224}, "generator": "native"}
#: What a single page takes as known besides.
BEFORE = {
    "docs/generators.md": [lambda: write("faces.onnx", code=("n", 12_288), shape=(-1, 3, 64, 64))],
    "docs/howto/generator.md": [lambda: shutil.copy(ROOT / "generators" / "native.safetensors", "mine.safetensors")],
}


def shrunk(words):
    """The words of a command with small numbers."""
    text = shlex.join(words)
    for pattern, small in SMALLER:
        text = re.sub(pattern, small, text)
    words = shlex.split(text)
    if words[0] != "closedloop":
        return words
    more = shlex.split(BESIDES.get(words[1], ""))
    return words + [w for o, n in zip(more[::2], more[1::2], strict=True) if o not in words for w in (o, n)]


def smaller_file(text):
    """The text of a file of YAML with small numbers."""
    for pattern, small in SMALLER_FILES:
        text = re.sub(pattern, small, text)
    return text


class Shell:
    """Does what a page says is typed, in this process.

    Attributes:
        set: Sets a variable of the environment to a text.
        ended: Told when rigs are to stop.
        listening: Told by a rig when it can be asked.
    """

    def __init__(self, set_variable):
        self.set = set_variable
        self.ended, self.listening = threading.Event(), threading.Event()
        self.rigs = []

    def page(self, text):
        """Runs what stands in the blocks of a page, in their order."""
        for kind, body in fenced(text):
            if kind in SHELL:
                for words in shell_lines(body):
                    self.line(words)
            elif kind == "yaml" and not is_not_here(body):
                self.file(body)

    def line(self, words):
        """Runs a command unless it cannot run here."""
        if is_not_here(shlex.join(words)):
            return
        while variable := re.fullmatch(r"(\w+)=(.*)", words[0]):
            self.set(*variable.groups())
            words = words[1:]
        words = [newest_run() if word == "runs/…" else os.path.expandvars(word) for word in shrunk(words)]
        if words[0] == "python":
            parsed_by_script(words[1:])
            return
        assert words[0] == "closedloop", f"{words}: expected closedloop, python or what NOT_HERE names"
        self.stand(words)
        if words[1] == "rig-sim":
            self.rig(words[1:])
        elif words[1] == "serve":
            self.served(words[1:])
        else:
            run(words[1:])

    def file(self, text):
        """Evolves with a file that is shown, or keeps it under the name in its first line."""
        named = re.match(r"# (\S+\.yaml)\n", text)
        path = Path(named[1] if named else "shown.yaml")
        path.write_text(smaller_file(text) if named else yaml.safe_dump(OTHER_ENTRIES | yaml.safe_load(text)))
        if not named:
            self.line(["closedloop", "evolve", "--config", str(path)])

    def stand(self, words):
        """Makes what a command takes as known and is not there."""
        for before, word in itertools.pairwise(words[1:]):
            path = re.sub(r"^(twin|replay):|/(experiment\.yaml)?$", "", word)
            made = None if before == "--out" or Path(path).exists() else KNOWN.get(path)
            if isinstance(made, str):
                self.line(shlex.split(made))
            elif made is not None:
                made(path)
        if "rig:folder:rig" in words and not self.rigs:
            self.line(["closedloop", "rig-sim", "--subject", "gabor"])

    def rig(self, words):
        """Begins a rig, which stays until the page is at its end."""
        self.listening.clear()
        self.rigs.append(threading.Thread(target=run, args=(words,), daemon=True))
        self.rigs[-1].start()
        assert self.listening.wait(60)

    def served(self, words):
        """Holds a session for a rig that asks."""
        port = free_port()
        rig = threading.Thread(target=lambda: play(client.Client(port=port)), daemon=True)
        rig.start()
        run([*words, "--listen", f"127.0.0.1:{port}"])
        rig.join(10)


def run(words):
    """Runs the program; the output of a test that fails says what was wrong."""
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            pytest.fail(shlex.join(["closedloop", *words]))


class ParsedError(Exception):
    """A script's options could be read."""


def parsed_by_script(words):
    """Has a script read its options, and no more."""

    def parse(parser, *_):
        read(parser)
        raise ParsedError("the options could be read")

    with pytest.MonkeyPatch.context() as patch:
        read = argparse.ArgumentParser.parse_args
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(sys, "argv", words)
        with pytest.raises(ParsedError, match="could be read"):
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def newest_run():
    """The run that was begun last."""
    return str(max(Path("runs").iterdir(), key=lambda path: path.stat().st_mtime))


def is_not_here(text):
    """Whether a command or a file cannot run here."""
    return any(word in text for word in NOT_HERE)


def pages_with_commands():
    for page in PAGES:
        if blocks(page.read_text(), *SHELL, "yaml") and name_of(page) not in ELSEWHERE:
            yield pytest.param(page, id=name_of(page), marks=[pytest.mark.long] * (name_of(page) in LONG))


@pytest.fixture
def shell(tmp_path, monkeypatch, small_network, warm_parts):
    """A shell in an empty folder; what it has begun is stopped after the page."""
    made, serve = Shell(monkeypatch.setenv), RigServer.run

    def until_the_page_ends(server, ended=made.ended.is_set):
        made.listening.set()
        serve(server, ended)

    monkeypatch.setattr(RigServer, "run", until_the_page_ends)
    monkeypatch.setattr(serving, "serve", lambda app, listening, opened: None)
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    (tmp_path / "page").mkdir()
    monkeypatch.chdir(tmp_path / "page")
    yield made
    made.ended.set()
    for rig in made.rigs:
        rig.join(10)


@pytest.mark.filterwarnings("ignore::closedloop.errors.AllocationWarning")  # a few steps are the first, and large
@pytest.mark.usefixtures("figures_closed", "few_figures", "few_references")
@pytest.mark.parametrize("page", list(pages_with_commands()))
def test_commands_run(page, shell):
    for command in BEFORE.get(name_of(page), ()):
        command()
    shell.page(page.read_text())


def test_what_runs_elsewhere_or_is_long_is_a_page_with_commands():
    names = {name_of(page) for page in PAGES if blocks(page.read_text(), *SHELL, "yaml")}
    assert ELSEWHERE.keys() | LONG <= names
    assert not ELSEWHERE.keys() & LONG


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("closedloop evolve --unit 7 --colour red", "No such option"),
        ("closedloop paint", "No such command"),
        ("closedloop units --subject lite9  # no such network", "lite9"),
        ("closedloop --version && closedloop show runs/nowhere", "runs/nowhere: not a run"),
    ],
)
def test_what_cannot_be_typed_would_be_found(line, said, shell, capsys):
    with pytest.raises(pytest.fail.Exception, match="closedloop"):
        shell.page(f"```bash\n{line}\n```")
    assert said in " ".join(capsys.readouterr().err.split())


def test_an_option_that_a_script_has_not_got_would_be_found(shell, capsys):
    with pytest.raises(SystemExit, match="2"):
        shell.page("```bash\npython benchmarks/fooling.py \\\n  --colours 3\n```")
    assert "--colours" in capsys.readouterr().err


def test_variables_are_set_and_put_in(shell, capsys):
    shell.page("```bash\nWHAT=units  NAME=gabor closedloop $WHAT --subject $NAME  # a neuron's\n```")
    assert "gabor" in capsys.readouterr().out


def test_a_program_that_nobody_named_would_be_found(shell):
    with pytest.raises(AssertionError, match="expected closedloop, python or what NOT_HERE names"):
        shell.page("```bash\nCOLOUR=red paint now\n```")
