import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.objectives.naming_units import units_text
from closedloop.subjects.units import LayerShape, parse_units

MAP = LayerShape("conv", (16, 5, 7))
TOKENS = LayerShape("block", (9, 16))
FLAT = LayerShape("fc", (16,))


def named(spec, shape=MAP, seed=0):
    return [unit.name for unit in parse_units(spec, shape, seed)]


@pytest.mark.parametrize(
    ("spec", "channels"),
    [
        (7, [7]),
        (np.int64(7), [7]),
        ("7", [7]),
        ([0, 3, 12], [0, 3, 12]),
        (np.array([3, 0]), [3, 0]),
        ((4, 2), [4, 2]),
        (range(2, 5), [2, 3, 4]),
        ("2-4", [2, 3, 4]),
        ("2-4, 9,0", [2, 3, 4, 9, 0]),
        (["2-3", 9, [0, 1]], [2, 3, 9, 0, 1]),
        ("all", list(range(16))),
        ("full", list(range(16))),
    ],
)
def test_units_of_a_layer_without_positions(spec, channels):
    units = parse_units(spec, FLAT)
    assert [u.channel for u in units] == channels
    assert [u.flat for u in units] == channels
    assert {(u.y, u.x, u.position) for u in units} == {(-1, -1, "none")}
    assert [u.name for u in units] == [str(c) for c in channels]


def test_a_channel_alone_means_its_central_position():
    (unit,) = parse_units(3, MAP)
    assert (unit.channel, unit.y, unit.x, unit.position) == (3, 2, 3, "central")
    assert unit.flat == np.ravel_multi_index((3, 2, 3), MAP.shape)
    assert {u.position for u in parse_units("all", MAP)} == {"central"}
    assert {u.position for u in parse_units("random:4", MAP)} == {"central"}


@pytest.mark.parametrize("spec", [(12, 3, 4), "(12,3,4)", "( 12, 3, 4 )", [(12, 3, 4)], (np.int64(12), 3, 4)])
def test_a_channel_at_a_position(spec):
    (unit,) = parse_units(spec, MAP)
    assert (unit.channel, unit.y, unit.x, unit.position) == (12, 3, 4, "given")
    assert unit.flat == np.ravel_multi_index((12, 3, 4), MAP.shape)
    assert unit.name == "12@3,4"


def test_three_numbers_in_a_list_are_three_channels():
    assert named([12, 3, 4]) == ["12@2,3", "3@2,3", "4@2,3"]


def test_full_is_every_channel_at_every_position():
    units = parse_units("full", MAP)
    assert [u.flat for u in units] == list(range(16 * 5 * 7))
    assert {u.position for u in units} == {"given"}


def test_tokens_come_before_channels():
    (central,) = parse_units(11, TOKENS)
    assert (central.channel, central.y, central.x) == (11, 0, 4)
    assert central.flat == np.ravel_multi_index((4, 11), TOKENS.shape)
    (given_one,) = parse_units((11, 0, 8), TOKENS)
    assert given_one.flat == np.ravel_multi_index((8, 11), TOKENS.shape)
    assert sorted(u.flat for u in parse_units("full", TOKENS)) == list(range(9 * 16))


@pytest.mark.parametrize(
    ("tokens", "place", "word"),
    [
        (196, 105, "central"),  # 14 x 14
        (197, 106, "central"),  # a class token before them
        (198, 107, "central"),  # and one for distillation
        (201, 110, "central"),  # and four registers
        (49, 24, "central"),
        (50, 25, "central"),
        (261, 5 + 8 * 16 + 8, "central"),
        (1, 0, "central"),
        (77, 38, "middle"),  # words
        (200, 100, "middle"),
    ],
)
@pytest.mark.parametrize("spec", [7, "all", "random:3", [7], "7"])
def test_a_channel_of_tokens_is_at_the_centre_of_the_patches(tokens, place, word, spec):
    units = parse_units(spec, LayerShape("block", (tokens, 8)))
    assert {(u.y, u.x, u.position) for u in units} == {(0, place, word)}
    assert [u.flat for u in units] == [place * 8 + u.channel for u in units]
    (class_token,) = parse_units((7, 0, 0), LayerShape("block", (tokens, 8)))
    assert (class_token.flat, class_token.position) == (7, "given")


@pytest.mark.parametrize(
    ("shape", "channels", "positions"),
    [((7, 7, 16), 16, (7, 7)), ((16, 7, 7), 16, (7, 7)), ((7, 7, 7), 7, (7, 7)), ((1, 1, 9), 9, (1, 1))],
)
def test_the_two_equal_axes_of_a_map_are_rows_and_columns(shape, channels, positions):
    layer = LayerShape("stage", shape)
    assert (layer.channels, layer.positions) == (channels, positions)
    (unit,) = parse_units((3, 0, 0), layer)
    assert unit.flat == np.arange(np.prod(shape)).reshape(shape)[(0, 0, 3) if shape[2] == channels != 7 else (3, 0, 0)]
    assert sorted(u.flat for u in parse_units("full", layer)) == list(range(np.prod(shape)))


def test_random_units_are_different_and_follow_the_seed():
    drawn = [u.channel for u in parse_units("random:10", MAP, seed=1)]
    assert len(set(drawn)) == 10
    assert drawn == sorted(drawn)
    assert drawn == [u.channel for u in parse_units("random:10", MAP, seed=1)]
    assert drawn != [u.channel for u in parse_units("random:10", MAP, seed=2)]


def test_random_units_leave_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    parse_units("random:10", MAP)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (16, r"units: 16 is out of range; layer 'conv' has channels 0 to 15\."),
        (-1, "units: -1 is out of range"),
        ("-1", "units: -1 is out of range"),
        ("10-16", "units: 16 is out of range"),
        ("9-2", r"expected the smaller number first, got '9-2'"),
        ((3, 5, 0), r"position \(5, 0\) is out of range; layer 'conv' has rows 0 to 4 and columns 0 to 6"),
        ((3, 0, 7), r"position \(0, 7\) is out of range"),
        ((16, 0, 0), "units: 16 is out of range"),
        ("random:17", "asks for 17 of the 16 channels"),
        ("random:0", "asks for 0 of the 16 channels"),
        ("random", "cannot read 'random'"),
        ("some", "cannot read 'some'; expected for instance '7'"),
        ("(1,2)", r"cannot read '\(1,2\)'"),
        (1.5, "expected a number, list, range"),
        (True, "expected a number, list, range"),
        (None, "expected a number, list, range"),
        ([], r"expected at least one unit of layer 'conv', got \[\]"),
        ("", "expected at least one unit"),
        ([3, 4, 3], r"unit 3@2,3 of layer 'conv' is named twice"),
        ([3, (3, 2, 3)], "unit 3@2,3 of layer 'conv' is named twice"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(spec, message):
    with pytest.raises(InvalidArgumentError, match=message):
        parse_units(spec, MAP)


def test_a_layer_without_positions_takes_none():
    with pytest.raises(
        InvalidArgumentError, match=r"\(3, 0, 0\) names a position, but layer 'fc' has none; give 3 alone"
    ):
        parse_units((3, 0, 0), FLAT)


@pytest.mark.parametrize(("shape", "shown"), [((), r"\(n\)"), ((2, 3, 4, 5), r"\(n, 2, 3, 4, 5\)")])
def test_layers_of_another_shape_are_refused(shape, shown):
    with pytest.raises(InvalidArgumentError, match=f"layer 'odd': expected an output of shape .* got {shown}"):
        LayerShape("odd", shape)


SPECS = st.recursive(
    st.one_of(
        st.integers(0, 15),
        st.tuples(st.integers(0, 15), st.integers(0, 4), st.integers(0, 6)),
        st.sampled_from(["random:3", "2-5", "all", "(1,2,3)", "7"]),
        st.builds(range, st.integers(0, 7), st.integers(8, 16)),
        st.builds(range, st.integers(0, 7), st.integers(8, 16), st.just(3)),
    ),
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=4,
)


@given(SPECS)
def test_a_specification_as_text_means_the_same(spec):
    text = units_text(spec)
    assert isinstance(text, str)
    try:
        expected = parse_units(spec, MAP)
    except InvalidArgumentError:
        with pytest.raises(InvalidArgumentError, match="named twice"):
            parse_units(text, MAP)
    else:
        assert parse_units(text, MAP) == expected


def test_a_mapping_as_text():
    assert units_text({"a": (1, 2, 3), "b": range(4), "c": np.array([1, 2])}) == {
        "a": "(1,2,3)",
        "b": "0-3",
        "c": "1,2",
    }
