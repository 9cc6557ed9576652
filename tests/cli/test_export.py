"""``closedloop export`` and ``import``, from the words to the files."""

import numpy as np
import pytest

import closedloop
from closedloop.cli import main
from closedloop.formats import FORMATS
from closedloop.generators import Fourier
from closedloop.protocols import evolve
from closedloop.subjects import load_subject


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run on a model neuron; its folder."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    generator = Fourier(16, 3)
    optimizer = closedloop.IsotropicES(generator.space, 0, population=8)
    subject = load_subject("gabor", resolution=16)
    evolve(subject, generator, optimizer, images=16, references=None, retest_repeats=2, save=folder)
    return folder


def fails(arguments, capsys):
    """The one message of a command that ends with status 2."""
    with pytest.raises(SystemExit, match="2"):
        main([str(a) for a in arguments])
    message = capsys.readouterr().err
    assert message.count("Error: ") == 1
    return " ".join(message.split())


@pytest.mark.parametrize("to", sorted(FORMATS))
def test_export(run, tmp_path, capsys, to):
    out = tmp_path / f"out{FORMATS[to].suffix}"
    main(["export", str(run), "--to", to, "--out", str(out)])
    assert f"Wrote {out}" in capsys.readouterr().out.replace("\n", "")
    assert out.is_file() if FORMATS[to].suffix else any(out.iterdir())
    if to in ("netcdf", "nwb"):
        assert closedloop.open_recording(out).equals(closedloop.open_recording(run))


def test_named_after_the_run_with_options(run, capsys):
    main(["export", str(run), "--to", "png", "--which", "all"])
    files = list((run.parent / "run-png").iterdir())
    assert len(files) == len(np.unique(closedloop.open_recording(run)["stimulus_id"].values.astype(str)))
    main(["export", str(run), "--to", "netcdf"])
    main(["export", str(run.parent / "run.nc"), "--to", "nwb", "--no-images", "--institution", "A lab"])
    assert (run.parent / "run.nwb").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "nbw"], "to: no format named 'nbw'. Did you mean 'nwb'"),
        (["--to", "csv", "--which", "all"], "which: the format csv has no such option"),
        (["--to", "netcdf", "--out", "x.csv"], "out: expected a name ending in .nc for netcdf"),
    ],
)
def test_bad_words(run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(["export", run, *arguments], capsys)
    assert list(tmp_path.iterdir()) == []


def test_import(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    ids = [f"gen000_{i:06d}" for i in range(4)]
    np.savez(tmp_path / "results" / "scores_step000.npz", image_ids=ids, scores=np.arange(4.0))
    main(["import", str(tmp_path / "results"), "--from", "xdream", "--out", str(tmp_path / "run")])
    assert "Imported 4 presentations × 1 units" in capsys.readouterr().out
    assert closedloop.open_recording(tmp_path / "run")["score"].values.tolist() == [0, 1, 2, 3]
    assert "Did you mean 'xdream'" in fails(["import", tmp_path, "--from", "xdraem", "--out", tmp_path / "y"], capsys)
    assert "expected files scores_stepNNN.npz" in fails(
        ["import", tmp_path, "--from", "xdream", "--out", tmp_path / "y"], capsys
    )
    assert not (tmp_path / "y").exists()
