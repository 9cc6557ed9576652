"""Tokens as a grid of patches, with what stands before them."""

import pytest

from closedloop.networks.tokens import central_token, token_grid


@pytest.mark.parametrize(
    ("tokens", "grid", "central"),
    [
        (196, (14, 14, 0), (105, "central")),
        (197, (14, 14, 1), (106, "central")),
        (201, (14, 14, 5), (110, "central")),
        (7, (1, 7, 0), (3, "middle")),
        (1, (1, 1, 0), (0, "central")),
    ],
)
def test_a_square_of_patches_behind_a_class_token(tokens, grid, central):
    assert token_grid(tokens) == grid
    assert central_token(tokens) == central
