"""A search among natural images finds the best ones by showing few, and says by how much it may be wrong."""

import warnings

import numpy as np
import pytest
from PIL import Image

from closedloop.analysis import natural_search, search_regret
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError
from closedloop.figures import plot_natural_search
from closedloop.protocols import present, resume, search_natural
from closedloop.recording.reader import open_recording
from closedloop.recording.render import render
from closedloop.subjects import FunctionSubject
from tests.small_runs import Cut, pictures
from tests.small_twins import Means

SIDE = 8
SMALL = {"budget": 60, "start": 12, "batch": 8, "retest_repeats": 4, "retest_candidates": 3, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """300 plain images."""
    place = tmp_path_factory.mktemp("images")
    for i, colour in enumerate(np.random.default_rng(0).integers(0, 256, (300, 3)).tolist()):
        Image.new("RGB", (SIDE, SIDE), tuple(colour)).save(place / f"{i:03d}.png")
    return place


def redness(images):
    means = images.mean((2, 3))
    return means[:, :1] - 0.5 * means[:, 1:2]


def lab(noise=0.1, seed=3):
    rng = np.random.default_rng(seed)
    return FunctionSubject(lambda x: redness(x) + noise * rng.normal(size=(len(x), 1)), units=["red"], name="lab")


class Features(Means):
    """Mean colours and their squares, by a name of their own."""

    fingerprint, resolution = "f" * 64, SIDE


def truth(folder):
    from closedloop.images.sets import read_image

    return {p.name: float(redness(read_image(p, SIDE)[None] / 255)[0, 0]) for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def searched(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "run"
    return search_natural(lab(), folder, features=Features(), resolution=SIDE, save=place, **SMALL)


def test_it_finds_one_of_the_best_by_showing_a_fifth(searched, folder):
    found = search_regret(searched, truth(folder))
    assert int(found["images"]) == 60
    assert int(found["pool"]) == 300
    assert int(found["rank"]) <= 5
    assert float(found["regret"]) < 0.5 * float(found["regret_random"])


def test_the_budget_holds_and_the_winner_is_confirmed_in_fresh_presentations(searched):
    phase = searched["phase"].values
    assert (phase == "search").sum() == 60
    assert (phase == "select").sum() == 12
    assert (phase == "confirm").sum() == 4
    shown = searched["stimulus_id"].values[phase == "search"]
    assert len(set(shown)) == 60
    found = natural_search(searched)
    assert float(found["confirmed"]) == pytest.approx(searched["score"].values[phase == "confirm"].mean())
    assert float(found["confirmed_low"]) < float(found["confirmed"]) < float(found["confirmed_high"])


def test_what_the_readout_expects_is_no_response_and_is_said(searched):
    found = natural_search(searched)
    assert -1 < float(found["r_all"]) < 1
    assert found["images"].values.tolist() == [12, 20, 28, 36, 44, 52, 60]
    assert np.isnan(found["predicted"].values[0])
    assert found["mean"].values[1:].min() > float(found["start_mean"])
    np.testing.assert_allclose(found["predicted"].values[2:], found["mean"].values[2:], atol=0.2)
    assert np.isnan(searched["predicted"].values[searched["phase"].values != "search"]).all()


def test_chance_misses_more_than_the_formula_says_only_by_chance(folder):
    """The expected best of k images drawn at random, against drawing them."""
    known = truth(folder)
    values = np.array(list(known.values()))
    rng = np.random.default_rng(0)
    drawn = [values[rng.permutation(300)[:20]].max() for _ in range(4000)]
    run = search_natural(lab(), folder, features=Features(), resolution=SIDE, **{**SMALL, "budget": 20, "start": 20})
    expected = float(search_regret(run, known)["regret_random"])
    assert expected == pytest.approx(values.max() - np.mean(drawn), abs=0.01)


def test_its_images_are_read_from_the_folder(searched, folder):
    image = render(searched, [0])[0]
    name = str(searched["stimulus_id"].values[0])
    np.testing.assert_allclose(image[:, 0, 0] * 255, np.asarray(Image.open(folder / name))[0, 0], atol=0.01)


def test_it_goes_on_as_if_it_had_not_been_interrupted(folder, tmp_path):
    options = {**SMALL, "features": Features(), "resolution": SIDE}

    def still(blocks=-1):
        return Cut(FunctionSubject(redness, units=["red"], name="lab"), blocks)

    whole = search_natural(still(), folder, save=tmp_path / "whole", **options)
    for blocks in (0, 3, 7, 8):
        with pytest.raises(SubjectError, match="cable"):
            search_natural(still(blocks), folder, save=tmp_path / f"cut{blocks}", **options)
        again = search_natural(still(), folder, save=tmp_path / f"cut{blocks}", exists="resume", **options)
        assert again.load().drop_attrs().identical(whole.load().drop_attrs())
    with pytest.raises(InvalidArgumentError, match="features: the network was handed over as a Python object"):
        resume_cut(folder, tmp_path / "again", still, options)


def resume_cut(folder, place, subject, options):
    with pytest.raises(SubjectError, match="cable"):
        search_natural(subject(2), folder, save=place, **options)
    resume(place, subject=subject())


def test_a_subject_that_loses_presentations(folder):
    rng = np.random.default_rng(0)

    def answer(x):
        return np.where(rng.random((len(x), 1)) < 0.5, np.nan, redness(x))

    lossy = FunctionSubject(answer, units=["red"], name="lossy")
    run = search_natural(lossy, folder, features=Features(), resolution=SIDE, **SMALL)
    assert (run["phase"].values == "search").sum() <= 60
    assert np.isfinite(float(natural_search(run)["confirmed"]))


def test_a_small_folder_is_shown_whole(tmp_path):
    for i in range(5):
        Image.new("RGB", (SIDE, SIDE), (50 * i, 0, 0)).save(tmp_path / f"{i}.png")
    run = search_natural(lab(0.0), tmp_path, features=Features(), resolution=SIDE, **SMALL)
    assert (run["phase"].values == "search").sum() == 5
    assert str(natural_search(run)["winner"].item()) == "4.png"


def test_responses_that_never_vary_are_searched_at_random(folder):
    silent = FunctionSubject(lambda x: np.zeros((len(x), 1)), units=["none"], name="silent")
    run = search_natural(silent, folder, features=Features(), resolution=SIDE, **SMALL)
    assert len(set(run["stimulus_id"].values[run["phase"].values == "search"])) == 60
    assert np.isnan(run["predicted"].values).all()


def test_what_a_person_sees(searched, tmp_path):
    from closedloop.report import write_report

    figure = plot_natural_search(searched)
    assert len(figure.axes) == 1 + 3
    run = searched.encoding["source"]
    write_report([run], tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert "Of 300 images 60 were shown." in text
    assert "in fresh presentations" in text


BAD = [
    ({"images": "none-such"}, "images: expected a folder"),
    ({"images": 3}, "images: expected"),
    ({"budget": 0}, "budget: expected a whole number of at least 1"),
    ({"budget": 2, "repeats": 3}, "budget: expected at least the 3 presentations"),
    ({"budget": 2.5}, "budget"),
    ({"start": 0}, "start"),
    ({"batch": -1}, "batch"),
    ({"retest_candidates": 0}, "retest_candidates"),
    ({"retest_repeats": "many"}, "retest_repeats"),
    ({"resolution": 4}, "resolution"),
    ({"seed": -1}, "seed"),
    ({"objective": "unit(5)"}, "unit"),
    ({"objective": 7}, "objective"),
    ({"objective": "unit(0"}, "objective"),
    ({"features": "no-network"}, "no subject named 'no-network'"),
    ({"features": FunctionSubject(redness, units=["red"])}, "features: expected a network"),
    ({"layers": ["a"]}, "layers"),
    ({"exists": "go"}, "exists"),
    ({"exists": "resume"}, "save: expected the folder"),
    ({"buget": 3}, "buget: no such setting. Did you mean 'budget'"),
    ({"progress": 3}, "progress"),
    ({"subject": "lite0"}, "subject"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD, ids=[next(iter(w)) + str(i) for i, (w, _) in enumerate(BAD)])
def test_bad_input_is_named_and_leaves_nothing(wrong, said, folder, tmp_path):
    from closedloop.errors import ClosedLoopError

    options = {**SMALL, "images": folder, "subject": lab(), "features": Features(), "save": tmp_path / "run", **wrong}
    options |= {"save": None} if wrong == {"exists": "resume"} else {}
    with warnings.catch_warnings(), pytest.raises(ClosedLoopError, match=said):
        search_natural(options.pop("subject"), options.pop("images"), **{"resolution": SIDE, **options})
    assert not (tmp_path / "run").exists()


def test_errors_of_the_analyses(searched, folder):
    with pytest.raises(RecordingError, match="search_natural returned"):
        natural_search(present(lab(), pictures(3), progress=False))
    with pytest.raises(InvalidArgumentError, match="truth: it lacks"):
        search_regret(searched, {"a.png": 1.0})
    with pytest.raises(InvalidArgumentError, match="truth: expected finite scores"):
        search_regret(searched, {**truth(folder), "000.png": np.nan})
    with pytest.raises(RecordingError, match="expected a finished search"):
        search_regret(searched.isel(presentation=slice(0, 30)), truth(folder))


def test_another_folder_is_noticed(searched, folder, tmp_path):
    with pytest.raises(SubjectError, match="cable"):
        search_natural(Cut(lab(), 2), folder, features=Features(), resolution=SIDE, save=tmp_path / "run", **SMALL)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(other / "a.png")
    with pytest.raises((InvalidArgumentError, RecordingError), match="images"):
        search_natural(
            Cut(lab(), -1), other, features=Features(), resolution=SIDE, save=tmp_path / "run", exists="resume", **SMALL
        )
    assert open_recording(tmp_path / "run").sizes["presentation"] == 20
