"""Images of recordings, each once, with what was answered."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.objectives import Unit
from closedloop.optimizers import RandomSearch
from closedloop.protocols import evolve, present
from closedloop.subjects import FunctionSubject
from closedloop.twins import fit_twin
from closedloop.twins.gathering import gather
from tests import small_twins


def evolved(units=None, **options):
    subject = FunctionSubject(lambda x: x.mean((2, 3)), units=["red", "green", "blue"], name="colours")
    sizes = {"images": 40, "retest_candidates": 1, "retest_repeats": 2, "references": small_twins.shown(12)}
    generator = Fourier(16, 3)
    optimizer = "random" if units else RandomSearch(generator.space, 0, population=8)
    own = {"units": units} if units else {"objective": Unit(0)}
    return evolve(subject, generator, optimizer, progress=False, **own, **sizes, **options)


def test_evolved_images_are_made_again_with_their_responses(tmp_path):
    recording = evolved(save=tmp_path / "run")
    found = gather([recording], small_twins.Means(), None)
    np.testing.assert_allclose(found.features[:, :3], found.mean, atol=1e-5)
    assert found.count.sum() == recording.sizes["presentation"] * 3
    assert (found.squares < 1e-10).all()
    assert len(set(found.group)) > 2


def test_of_a_lean_recording_each_unit_has_its_own_images_and_the_references(tmp_path):
    recording = evolved("all", save=tmp_path / "run")
    assert "response_own" in recording
    found = gather([recording], small_twins.Means(), None)
    known = found.count > 0
    assert known[:, 0].sum() < len(known)
    np.testing.assert_allclose(found.features[:, :3][known], found.mean[known], atol=1e-5)
    assert np.isnan(found.mean[~known]).all()
    table = fit_twin(recording, small_twins.Means()).table
    assert table["images"].values.tolist() == known.sum(0).tolist()
    assert (table["r"] > 0.95).all()


def test_lost_presentations_are_left_out():
    shown, calls = small_twins.shown(20), []

    def answer(images):
        calls.append(len(images))
        found = images.mean((2, 3))[:, :1].copy()
        found[::4] = np.nan
        return found

    recording = present(FunctionSubject(answer, name="leaky"), shown, repeats=3, retries=0, progress=False)
    found = gather([recording], small_twins.Means(), None, references=shown)
    assert found.count.sum() == (~np.isnan(recording["responses"].values)).sum() < 60


def test_recordings_of_other_units_do_not_go_together():
    one = present(small_twins.lab(), small_twins.shown(12), progress=False)
    other = present(FunctionSubject(lambda x: x.mean((2, 3)), units=3), small_twins.shown(12), progress=False)
    with pytest.raises(InvalidArgumentError, match="expected the same units in all recordings"):
        fit_twin([one, other], small_twins.Means())
    grey = FunctionSubject(lambda x: x.mean((1, 2, 3))[:, None], channels=1, name="grey")
    with pytest.raises(InvalidArgumentError, match="colour stills"):
        fit_twin(present(grey, small_twins.shown(12), progress=False), small_twins.Means())
