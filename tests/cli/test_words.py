"""Command lines of all kinds: each runs, or ends with status 2, one message and nothing left behind."""

import contextlib
import io
import random
import warnings

import pytest
import yaml

from closedloop.cli import main
from closedloop.cli.app import COMMANDS, find_command

#: What a person, a script or a stranger may type for a value.
VALUES = (
    *("", " ", "-1", "0", "1", "3", "0.5", "-0.0", "nan", "inf", "1e400", "1e-3", "1:30", "010", "9" * 20, "9" * 5000),
    *("x", "none", "null", "true", "no", "[1, 2]", "{a: 1}", "{name: gabor}", "{name: fourier, cutoff: x}", "[", "'"),
    *("all", "random:2", "random:-1", "0-9", "9-0", "(0,1)", "unit(0)", "unit(99)", "unti(0)", "1/0", "mean()"),
    *("gabor", "energy", "poisson:20", "poisson:x", "gain:0.2:3:4", "lossy:nan", "drift:speed=1", "cma", "nes", "auto"),
    *("pixels", "fourier", "deepsim:fc6", "biggan", "onnx:nowhere.onnx", "torchvision:nothing", "timm:nothing"),
    *("[/red]", "[bold]", "a" * 300, "../up", "nowhere", "file.txt", "folder", "photos", "broken", "two\nlines", "ü"),
    *("\udcff", "$HOME", "~nobody/x", "-", "--", "--help", "con", "a/b/c", "/proc/x", "/dev/null", "run", "run.yaml"),
)
#: What makes a run that is begun end soon.
SHORT = {
    "evolve": ["--subject", "gabor", "--generator", "pixels", "--images", "80", "--references", "none"],
    "ascend": ["--subject", "gabor", "--generator", "pixels", "--steps", "2"],
    "compare": ["--subject", "gabor", "--images", "20"],
    "landscape": ["--subject", "gabor"],
    "map-field": ["--subject", "gabor"],
    "gratings": ["--subject", "gabor"],
    "selectivity": ["--subject", "gabor", "--images", "photos"],
    "invariance": ["--subject", "gabor", "--image", "photos/0.png"],
    "cross-units": ["run"],
    "elites": ["--subject", "gabor", "--images", "20"],
    "record": ["--subject", "gabor", "--images", "photos"],
    "units": ["--subject", "gabor"],
    "attribute": ["--subject", "gabor"],
    "view": ["--subject", "gabor", "--no-browser"],
    "train-generator": ["--images", "photos", "--steps", "1", "--batch", "1"],
}
#: Commands that take minutes; what is valid there is tried elsewhere.
_LONG = ("train-generator", "compare", "elites")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with files of all kinds, and a finished run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("closedloop.viewer.serving.serve", lambda *_: None)  # else a server waits for visitors
    monkeypatch.setattr("closedloop.rigs.server.RigServer.run", lambda *_: None)  # and a rig for experiments
    from PIL import Image

    for name in ("photos", "broken", "folder"):
        (tmp_path / name).mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), (60 * i, 90, 120)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "broken" / "x.png").write_bytes(b"no picture")
    (tmp_path / "file.txt").write_text("text")
    spoken(["evolve", *SHORT["evolve"], "--out", "run"])
    (tmp_path / "run.yaml").write_text((tmp_path / "run" / "experiment.yaml").read_text())
    return tmp_path


def spoken(words):
    """Runs a command line in this process; returns its status and what it printed as an error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            main(words)
        except SystemExit as end:
            return end.code, err.getvalue()
    return 0, err.getvalue()


def options_of(name):
    """The flags of a command's options."""
    return [f"--{field.replace('_', '-')}" for field in find_command(name).fields()]


def line(draw):
    """Draws a command with some options and values, right and wrong."""
    name = draw.choice([c for c in COMMANDS if c != "import"])
    words = [name]
    if draw.random() < 0.95:
        words += SHORT.get(name, ["run"])
    flags = options_of(name) or ["--out", "--what", "--to"]
    for _ in range(draw.randint(1, 3)):
        flag, value = draw.choice(flags), draw.choice(VALUES)
        if draw.random() < 0.1:
            flag = draw.choice(("--nothing", "-x", flag[:-1], flag + "s"))
        words += [flag, value] if draw.random() < 0.9 else [flag]
    return words


def too_long(words):
    """Whether a line may be right, and its run long: large budgets, or networks that are loaded."""
    return words[0] in _LONG and "0" not in words


def listed(folder):
    """The names of all that lies in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_every_line_runs_or_is_refused(work, counted, tally):
    before = listed(work)
    for seed in range(counted(quick=40, reduced=400, full=8_000)):
        words = line(random.Random(seed))
        if too_long(words):
            continue
        status, err = spoken(words)
        assert status in (0, 2), (seed, words, err)
        assert "That should not happen" not in err, (seed, words, err)
        assert "Traceback" not in err, (seed, words, err)
        made = set(listed(work)) - set(before)
        assert not set(before) - set(listed(work)), (seed, words, err)
        # A subject may fail on the way, such as one that is given a millisecond: what was shown is kept, and said.
        assert status == 0 or not made or "closedloop resume runs/" in err, (seed, words, err)
        for path in made:
            remove(work / path)
        tally("command lines")


def remove(path):
    """Removes what a line that ran has made."""
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def entries(draw):
    """Draws the entries of an experiment's file, some of them wrong."""
    whole = {
        "subject": "gabor",
        "generator": {"name": "pixels", "resolution": 32},
        "optimizer": {"name": "isotropic", "population": 10},
        "objective": "unit(0)",
        "images": 40,
        "references": None,
        "seed": 0,
    }
    strange = [
        yaml.safe_load("2020-01-01"),
        [],
        {},
        None,
        "",
        "x",
        -1,
        0,
        1e400,
        float("nan"),
        True,
        [1],
        {"a": {}},
        "\u2028",
    ]
    for _ in range(draw.randint(1, 2)):
        key = draw.choice([*whole, "threads", "stop", "noise", "repeats", "interleave", "drift", "keep", "nothing", ""])
        value = draw.choice([*strange, {"name": draw.choice(VALUES)}, draw.choice(VALUES)])
        if isinstance(whole.get(key), dict) and draw.random() < 0.5:
            whole[key] = {**whole[key], draw.choice(("name", "resolution", "seed", "x")): value}
        else:
            whole[key] = value
    return whole


def test_every_file_runs_or_is_refused(work, counted, tally):
    before = listed(work)
    for seed in range(counted(quick=40, reduced=400, full=8_000)):
        draw = random.Random(seed)
        text = yaml.safe_dump(entries(draw), allow_unicode=True)
        if draw.random() < 0.2:
            at = draw.randrange(len(text))
            text = (
                text[:at]
                + draw.choice(("[", "\t", "\x00", ": ", "'", "&a ", "*b", ""))
                + text[at + draw.randint(0, 3) :]
            )
        (work / "run.yaml").write_text(text, encoding="utf-8")
        status, err = spoken(["evolve", "--config", "run.yaml", "--out", "new"])
        assert status in (0, 2), (seed, text, err)
        assert "That should not happen" not in err, (seed, text, err)
        if status == 2:
            assert listed(work) == before, (seed, text, err)
        remove(work / "new")
        tally("files of experiments")
