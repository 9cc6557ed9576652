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


def test_a_pilot(capsys, tmp_path):
    generator = Fourier(16, 2)
    subject = Poisson(GaborSubject(resolution=16), best=1.0, seed=1)
    evolve(subject, generator, CMAES(generator.space, population=10), images=80, save=tmp_path / "run", progress=False)
    main(["plan", str(tmp_path / "run"), "--resamples", "20", "--generations", "4,8", "--repeats", "1,2", "--sure"])
    text = capsys.readouterr().out
    assert "Measured in" in text
    assert len(re.findall(r"\d\.\d\d \d\.\d\d–\d\.\d\d", text)) == 12
    assert "of 20 bootstrap resamples" in text.replace("\n", " ")
    assert "The pilot evolved 80 images: what lies far beyond is its fitted curve" in text.replace("\n", " ")
    main(["plan", str(tmp_path / "run"), "--resamples", "2", "--generations", "2,4"])
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
    ]:
        with pytest.raises(SystemExit, match="2"):
            main(["plan", *words])
        assert match in capsys.readouterr().err
    with pytest.raises(InvalidArgumentError, match="planned: expected a result of plan"):
        plot_plan(xr.Dataset())
