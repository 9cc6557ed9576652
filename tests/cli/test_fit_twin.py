"""``closedloop fit-twin``: a table that says what is predicted, and a folder that is a subject."""

import numpy as np

from closedloop.cli import main
from closedloop.protocols import present
from closedloop.subjects import load_subject
from tests import small_twins


def test_a_twin_of_a_run(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "twin"
    present(small_twins.lab(), small_twins.shown(), repeats=2, progress=False, save=run)
    features = "{name: lite0, resolution: 32, weights: random, engine: eager}"
    main(["fit-twin", str(run), "--features", features, "--layers", "blocks.0,blocks.2", "--out", str(out)])
    said = capsys.readouterr().out
    assert "held-out r" in said
    assert "none: unpredictable" in said
    twin = load_subject(f"twin:{out}")
    assert twin.units.neuroid_id == ("twin.red", "twin.none")
    assert np.isfinite(twin.record(small_twins.shown(2).images)).all()
    assert (out / "twin.png").stat().st_size > 1000
