"""Pages of units from the recording of an atlas: numbers, tests, warnings."""

import numpy as np
import pytest
from scipy import stats

from closedloop.analysis import AtlasPages, atlas_table, benjamini_hochberg, holm
from closedloop.analysis.atlas import Response
from closedloop.errors import InvalidArgumentError, RecordingError
from tests import small_atlas, small_runs


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    place = tmp_path_factory.mktemp("atlas")
    return small_atlas.fill(place / "run", small_atlas.photographs(place / "naturals"))


@pytest.fixture(scope="module")
def pages(recording):
    return AtlasPages(recording)


def test_units_have_their_names(pages):
    assert {layer: list(units.items()) for layer, units in pages.keys.items()} == {
        "a/b.c": [("0", 0), ("1", 1), ("10@1,3", 2)],
        "odd#1?": [("0", 3), ("1", 4)],
    }
    assert pages.unit("a/b.c", "10@1,3").title == "channel 10 of a/b.c, at (1, 3)"
    assert pages.field(2) == (0, 8, 8, 16)
    assert (pages.natural_n, pages.units, pages.subject) == (30, 5, "layers")


def test_percentiles_and_ranks_are_those_of_the_photographs(recording, pages):
    kind, unit = recording["kind"].values, recording["unit"].values
    responses = recording["responses"].values
    first = recording.isel(presentation=kind == "reference").drop_duplicates("presentation")
    _, once = np.unique(first["number"].values, return_index=True)
    natural = first["responses"].values[once]
    for key, column in pages.keys["a/b.c"].items():
        page = pages.unit("a/b.c", key)
        for one in page.made:
            own = responses[(recording["stimulus_id"].values == one.stimulus_id) & (unit == column), column]
            assert one.response.mean == pytest.approx(own.mean())
            assert one.percentile == pytest.approx(100 * (natural[:, column] < own[0]).mean())
            assert one.p == pytest.approx((1 + (natural[:, column] >= own[0]).sum()) / 31)
            assert one.ratio == pytest.approx(own.mean() / natural[:, column].max())
        assert [m.response.mean for m in page.made] == sorted((m.response.mean for m in page.made), reverse=True)
        assert page.counts.sum() == 30
        assert page.noiseless


def test_tests_are_corrected_over_the_layer(pages):
    made = [one for column in pages.keys["a/b.c"].values() for one in pages.made(column)]
    np.testing.assert_allclose([m.p_adjusted for m in made], benjamini_hochberg([m.p for m in made]))
    tuned = [pages.tuning("a/b.c", key) for key in pages.keys["a/b.c"]]
    np.testing.assert_allclose([t.p_adjusted for t in tuned], holm([t.p for t in tuned]))


def test_tuning_is_kruskals(recording, pages):
    first = recording.isel(presentation=recording["kind"].values == "reference")
    _, once = np.unique(first["number"].values, return_index=True)
    values, classes = first["responses"].values[once, 0], first["category"].values[once]
    expected = stats.kruskal(*(values[classes == name] for name in ("cat", "dog", "red fox")))
    found = pages.tuning("a/b.c", "0")
    assert (found.h, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-4)
    assert [c.response.n for c in found.classes] == [10, 10, 10]


def test_a_dead_unit_is_told_of(pages):
    page = pages.unit("odd#1?", "1")
    assert page.warnings == ("Dead: it answers 0 to every one of 30 natural images.",)
    assert np.isnan(page.tuning.p)
    assert pages.unit("odd#1?", "0").warnings == ()


@pytest.mark.parametrize(
    ("values", "made", "said"),
    [
        ([0.0] * 199 + [3.0], [5.0], "Almost silent: it answers 0 to 199 of 200"),
        ([*np.linspace(0, 5, 195), *[6.0] * 5], [6.0], "Saturated: 5 of 200 natural images drive it to 6"),
        ([1.0] * 200, [2.0], "Dead: it answers 1 to every one of 200 natural images. Images that were made drive it"),
    ],
)
def test_warnings(values, made, said):
    from closedloop.analysis.atlas import _warnings

    assert _warnings(np.array(values), made)[0].startswith(said)
    assert _warnings(np.linspace(0, 1, 200), made) == []
    assert _warnings(np.linspace(0, 1, 200) + 1e6, [1e6 + 2]) == []  # an offset is no reason


def test_rounding_does_not_bring_a_unit_to_life():
    from closedloop.analysis.atlas import _warnings

    rounded = np.sort(3.3 + np.random.default_rng(0).uniform(-1e-6, 1e-6, 200)).astype(np.float32).astype(float)
    assert _warnings(rounded, [])[0].startswith("Dead: it answers 3.3")


def test_a_response_has_its_error():
    found = Response.of(np.array([1.0, 2.0, np.nan, 4.0]))
    assert (found.mean, found.n) == (pytest.approx(7 / 3), 3)
    assert found.sem == pytest.approx(stats.sem([1, 2, 4]))
    assert Response.of(np.array([2.0, 2.0])) == Response(2.0, 0.0, 2)
    assert np.isnan(Response.of(np.array([np.nan])).mean)


def test_the_table_holds_every_image(recording):
    table = atlas_table(recording)["a/b.c"]
    assert table["response"].dims == ("contender", "seed", "unit")
    assert table["contender"].values.tolist() == ["evolved", "coarse"]
    assert np.isfinite(table["response"]).all()
    assert table["natural_n"].item() == 30


def test_photographs_wait_until_all_were_shown_again(recording):
    """Of an atlas that is being filled no page shows the best of those that happened to be shown again."""
    rows = np.flatnonzero(recording["kind"].values == "reference")
    survey = recording.isel(presentation=rows)
    page = AtlasPages(survey).unit("a/b.c", "0")
    assert page.best == page.worst == page.made == ()
    assert page.natural.size == 30


def test_says_what_is_not_there(pages, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"layer: no layer 'a/b.d' in this atlas"):
        pages.unit("a/b.d", "0")
    with pytest.raises(InvalidArgumentError, match=r"unit: no unit '7' of a/b.c in this atlas, which has 3"):
        pages.unit("a/b.c", "7")
    with pytest.raises(RecordingError, match="expected that of an atlas"):
        AtlasPages(small_runs.run("present"))
