"""``closedloop plan``: how many images it will take, in a terminal."""

from __future__ import annotations

import re

import pytest
import xarray as xr

from closedloop import CMAES
from closedloop.cli import main
from closedloop.errors import InvalidArgumentError
from closedloop.figures import plot_plan
from closedloop.generators import Fourier
from closedloop.protocols import evolve
from closedloop.subjects import GaborSubject, Poisson


def test_stated(capsys, tmp_path):
    figure = tmp_path / "plan.png"
    main(["plan", "--spikes", "30", "--figure", str(figure)])
    text = capsys.readouterr().out
    assert "Cheapest design that reaches 0.8: " in text
    assert figure.stat().st_size > 10_000
    assert max(map(len, text.splitlines()[1:9])) <= 80


def test_what_there_is_time_for(capsys):
    def said(*words):
        main(["plan", *words])
        return capsys.readouterr().out.replace("\n", " ")

    text = said("--generations", "40,80", "--interleave", "3")
    assert (
        "1,516 presentations, 5 min. To do it: closedloop evolve --images 800 --retest-repeats 20 --interleave 3."
        in text
    )
    text = said("--presentations", "1000", "--references", "40", "--generations", "40,80")
    assert "No design of at most 1,000 presentations reaches 0.8; the best one reaches 0.28: 40 generations" in text
    assert "evolve --images 400 --retest-repeats 20 --references FOLDER. FOLDER holds 40 photographs." in text
    text = said("--generations", "20", "--per-generation", "40", "--references", "0")
    assert "--optimizer '{name: auto, population: 40}' --references none." in text
    text = said("--presentations", "500")
    assert "No design of at most 500 presentations is among them; the shortest takes 547. Consider fewer" in text


def test_a_pilot(capsys, tmp_path):
    generator = Fourier(16, 2)
    subject = Poisson(GaborSubject(resolution=16), best=1.0, seed=1)
    evolve(subject, generator, CMAES(generator.space, population=10), images=80, save=tmp_path / "run", progress=False)
    main(["plan", str(tmp_path / "run"), "--resamples", "20", "--generations", "16,32", "--repeats", "1,2", "--sure"])
    text = capsys.readouterr().out
    assert "Measured in" in text
    assert len(re.findall(r"\d\.\d\d \d\.\d\d–\d\.\d\d", text)) == 12
    assert "of 20 bootstrap resamples" in text.replace("\n", " ")
    assert "The pilot evolved 80 images: what lies far beyond is its fitted curve" in text.replace("\n", " ")
    main(["plan", str(tmp_path / "run"), "--resamples", "2", "--generations", "8,16"])
    assert "The pilot evolved" not in capsys.readouterr().out


def test_refuses(capsys):
    for words, match in [
        (["--generations", "5,x"], "generations: expected whole numbers"),
        (["--generations", "9" * 20], "generations: expected whole numbers"),
        (["--thread", "a"], "thread: expected the folder of a pilot"),
        (["--sure"], "sure: expected the folder of a pilot"),
        (["--resamples", "-1"], "resamples: expected a whole number of at least 0"),
        (["--figure", "/proc/x.png"], "figure: cannot write /proc/x.png"),
        (["--figure", "plan.doc"], "figure: expected a name"),
        (["--success", "wins"], "success"),
        (["--presentations", "0"], "presentations: expected a whole number of at least 1"),
        (["--references", "-1"], "references: expected a whole number of at least 0"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            main(["plan", *words])
        assert match in capsys.readouterr().err
    with pytest.raises(InvalidArgumentError, match="planned: expected a result of plan"):
        plot_plan(xr.Dataset())
