"""Every run's experiment.yaml is accepted by its command's --config, and --exists goes on with what is there."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from closedloop import open_recording
from closedloop.cli import main
from closedloop.protocols import read_ascent, read_comparison

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

GABOR = "{name: gabor, count: 3, resolution: 16, seed: 1}"
FOURIER = "{name: fourier, resolution: 16, cutoff: 2}"
EVOLVE = ["evolve", "--subject", GABOR, "--generator", FOURIER, "--images", "60", "--optimizer", "nes",
          "--references", "none", "--retest-repeats", "2"]  # fmt: skip


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def fails(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    return " ".join(capsys.readouterr().err.split())


def experiment(run):
    return yaml.safe_load((run / "experiment.yaml").read_text())


def repeats(command, work):
    """Whether the file of the run in ``run`` repeats it."""
    main([command, "--config", "run/experiment.yaml", "--out", "again"])
    one, two = experiment(work / "run"), experiment(work / "again")
    assert one == two
    return open_recording("run").load().equals(open_recording("again").load())


def evolve_words(*more):
    return [*EVOLVE, "--objective", "unit(0)", *more]


def test_an_evolution_of_threads_with_noise(work):
    threads = ["--thread", "a: optimizer=isotropic", "--thread", "b: objective=unit(1) - 0.5*unit(2)"]
    main(evolve_words("--noise", "poisson:20:best=1", "--noise", "lossy:0.1", "--seed", "3", *threads, "--out", "run"))
    content = experiment(work / "run")
    assert [t["name"] for t in content["threads"]] == ["a", "b"]
    assert content["threads"][0]["optimizer"]["name"] == "isotropic"
    assert content["threads"][1]["optimizer"]["name"] == "nes"
    assert content["threads"][1]["objective"] == "unit(1) - 0.5*unit(2)"
    assert content["threads"][0]["optimizer"]["seed"] != content["threads"][1]["optimizer"]["seed"]
    assert (content["subject"]["name"], content["subject"]["seed"]) == ("lossy", 3)
    assert content["subject"]["subject"]["spikes"] == 20
    assert np.isnan(open_recording("run")["responses"]).any()
    assert repeats("evolve", work)


def test_a_thread_of_a_file_is_changed_by_its_name(work, capsys):
    main(evolve_words("--thread", "a:", "--thread", "b: optimizer=random", "--out", "run"))
    assert "say which one you mean" in fails(
        ["evolve", "--config", "run/experiment.yaml", "--optimizer", "cma", "--out", "x"], capsys
    )
    main(["evolve", "--config", "run/experiment.yaml", "--thread", "b: optimizer=isotropic", "--seed", "5", "--out",
          "other"])  # fmt: skip
    assert [t["optimizer"]["name"] for t in experiment(work / "other")["threads"]] == ["nes", "isotropic"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer=cma", "thread: expected a name with parts such as"),
        ("a: cma", "thread: expected a name with parts such as"),
        ("a: optimiser=cma", "thread: 'a' has no part 'optimiser'. Did you mean 'optimizer'"),
        ("a: optimizer=", "thread: expected a name with parts such as"),
    ],
)
def test_threads_that_cannot_be_read(work, capsys, word, message):
    assert message in fails(evolve_words("--thread", word), capsys)
    assert not list(work.iterdir())


def test_recorded_images_with_what_is_known_of_them(work):
    (work / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16), (80 * i, 90, 30)).save(work / "photos" / f"{i}.png")
    (work / "known.csv").write_text("stimulus_id,angle,what\n2,20,c\n1,10,b\n0,0,a\n")
    main(["record", "--subject", GABOR, "--images", "photos", "--parameters", "known.csv", "--out", "run"])
    found = open_recording("run")
    assert dict(zip(found["stimulus_id"].values, found["angle"].values, strict=True)) == {"0": 0, "1": 10, "2": 20}
    assert repeats("record", work)


def test_a_landscape_around_an_evolution(work, capsys):
    main([*evolve_words(), "--out", "evolved"])
    main(["landscape", "evolved", "--planes", "pc1-pc2,random-random", "--steps", "3", "--seed", "2", "--out", "run"])
    assert "Figure: run/landscape" in capsys.readouterr().out
    content = experiment(work / "run")
    assert (content["planes"], content["steps"], content["seed"]) == (["pc1-pc2", "random-random"], 3, 2)
    assert repeats("landscape", work)
    words = ["landscape", "--config", "run/experiment.yaml"]
    assert "planes: expected none beside --config" in fails([*words, "--planes", "pc1-pc2"], capsys)
    assert "run: expected the folder of an evolution's run, or --config FILE" in fails([*words, "evolved"], capsys)
    assert "run: expected the folder of an evolution's run, or --config FILE" in fails(["landscape"], capsys)
    assert "no thread 'c'" in fails(["landscape", "evolved", "--thread", "c"], capsys)


def test_elites(work):
    main(["elites", "--subject", GABOR, "--generator", "{name: pixels, resolution: 16}", "--images", "40", "--children",
          "20", "--units", "0,2", "--out", "run"])  # fmt: skip
    content = experiment(work / "run")
    assert (content["classes"], content["breeding"]) == ("0 2", {"children": 20})
    assert repeats("elites", work)


def test_an_ascent(work):
    main(["ascend", "--subject", "energy", "--method", "tv", "--steps", "4", "--set", "rate=0.1", "--out", "run"])
    assert repeats("ascend", work)
    assert read_ascent("run").equals(read_ascent("again"))


def test_a_comparison(work):
    main(["compare", "--subject", "energy", "--methods", "tv", "--budgets", "60", "--out", "run"])
    assert repeats("compare", work)
    assert read_comparison("run").equals(read_comparison("again"))


def test_the_same_call_goes_on(work, capsys):
    words = [*evolve_words(), "--out", "run"]
    main(words)
    assert "expected a new or empty folder" in fails(words, capsys)
    before = open_recording("run").load()
    main([*words, "--exists", "resume"])
    assert open_recording("run").load().equals(before)
    assert "run holds another experiment" in fails([*words, "--seed", "9", "--exists", "resume"], capsys)
    assert "exists: 'resume' goes on with the run in a folder; say which one with --out" in fails(
        [*evolve_words(), "--exists", "resume"], capsys
    )
    assert "exists: expected 'fail' or 'resume', got 'go'" in fails([*words, "--exists", "go"], capsys)


def test_what_a_file_cannot_name_is_said(work, capsys):
    (work / "file.yaml").write_text(
        yaml.safe_dump({"protocol": "present", "subject": {"name": "python-object", "description": "Rig rig"}})
    )
    assert "config: the subject of file.yaml was handed over as a Python object (Rig rig)" in fails(
        ["record", "--config", "file.yaml"], capsys
    )
    assert "config: expected the experiment.yaml of a run of elites, got file.yaml: it is of 'present'" in fails(
        ["elites", "--config", "file.yaml"], capsys
    )


def test_without_a_terminal_a_line_for_every_tenth(work, capsys):
    main([*evolve_words(), "--out", "run"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("evolving: ")]
    assert 0 < len(lines) <= 11
    assert max(map(len, lines)) < 80


def drawn(draw, numbers, **choices):
    """Words for some of a command's options, each drawn."""
    found = {name: draw.randrange(*bounds) for name, bounds in numbers.items()}
    found |= {name: draw.choice(values) for name, values in choices.items()}
    return [word for name, value in found.items() if draw.random() < 0.6 for word in (f"--{name}", str(value))]


def words_of(command, draw):
    """A small run of a protocol with drawn settings."""
    timing = {"seed": (0, 2**31), "soa-s": (1, 4), "retries": (0, 3), "timeout-s": (10, 90), "lost-blocks": (3, 9)}
    if command == "evolve":
        return [
            *["evolve", "--subject", GABOR, "--generator", FOURIER, "--images", "120", "--optimizer", "isotropic"],
            *["--objective", draw.choice(("unit(0)", "unit(1) - 0.25*unit(0)", "0.5*unit(2) - 1"))],
            *drawn(draw, {**timing, "repeats": (1, 3), "interleave": (0, 3), "retest-repeats": (1, 4)},
                   references=["none"], keep=["best", "all", "none"], drift=["none"]),
        ]  # fmt: skip
    if command == "record":
        return ["record", "--subject", GABOR, "--images", "photos", *drawn(draw, {**timing, "repeats": (1, 3)})]
    if command == "elites":
        return ["elites", "--subject", GABOR, "--generator", "{name: pixels, resolution: 16}", "--images", "24",
                "--children", "12", *drawn(draw, {**timing}, units=["0,2", "all"])]  # fmt: skip
    if command == "landscape":
        return ["landscape", "evolved", "--steps", "3", *drawn(draw, {**timing, "repeats": (1, 3)},
                planes=["random-random", "pc1-pc2,random-random"], radius=[0.5, 2.25])]  # fmt: skip
    if command == "ascend":
        return ["ascend", "--subject", "energy", "--method", "tv", "--steps", "3",
                *drawn(draw, {"seed": (0, 2**31), "every": (1, 3)})]  # fmt: skip
    return [
        *["compare", "--subject", "energy", "--methods", "tv", "--budgets", draw.choice(("60", "50,60"))],
        *drawn(draw, {"seed": (0, 2**31)}),
    ]


@pytest.mark.parametrize(
    "command",
    [
        "evolve",
        "record",
        *(pytest.param(c, marks=pytest.mark.long) for c in ("elites", "landscape", "ascend", "compare")),
    ],
)
def test_the_file_of_every_protocol_reads_back_whole(work, command, counted, tally):
    """Over drawn settings: what `--config` reads is the same experiment, and gives the same recording."""
    (work / "photos").mkdir()
    for i in range(2):
        Image.new("RGB", (16, 16), (90 * i, 90, 30)).save(work / "photos" / f"{i}.png")
    if command == "landscape":
        main([*evolve_words(), "--out", "evolved"])
    slow = command in ("ascend", "compare")
    for seed in range(counted(quick=1, reduced=2, full=8) if slow else counted(quick=2, reduced=8, full=60)):
        words = words_of(command, random.Random(seed))
        main([*words, "--out", "run"])
        assert repeats(command, work), words
        given = {w[2:].replace("-", "_") for w in words if w.startswith("--")} - {"subject", "generator", "optimizer"}
        assert {"retries", "repeats", "soa_s"} & given <= experiment(work / "run").keys()
        tally("files of experiments read back")
        shutil.rmtree(work / "run")
        shutil.rmtree(work / "again")


@pytest.mark.parametrize("command", ["compare", "elites", "evolve", "record"])
def test_what_exists_may_be_is_checked_before_a_subject_is_loaded(command, work, capsys, monkeypatch):
    monkeypatch.setattr("closedloop.loop.experiment.load_recorded_subject", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("closedloop.loop.experiment.build_subject", lambda *_: pytest.fail("loaded"))
    assert "exists: expected 'fail' or 'resume', got 'go'" in fails([command, "--exists", "go", "--out", "run"], capsys)
