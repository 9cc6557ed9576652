"""Tokens of a transformer as a grid of patches: the one rule by which a place among them is told."""

from __future__ import annotations

from math import isqrt

#: Tokens that stand before those of patches: none, a class token, with a second one for distillation, with 4 registers.
EXTRA_TOKENS = (0, 1, 2, 5)


def token_grid(tokens: int) -> tuple[int, int, int]:
    """Returns rows and columns of a sequence of tokens as a grid of patches, and how many stand before it.

    A sequence that is no square of patches is one row.
    """
    side = isqrt(tokens)
    extra = tokens - side**2
    return (side, side, extra) if extra in EXTRA_TOKENS and side > 1 else (1, tokens, 0)


def central_token(tokens: int) -> tuple[int, str]:
    """Returns the token of the patch amid a square grid, and "central"; the middle one of another sequence.

    Of 14 × 14 patches it is token 7 · 14 + 7 = 105; with a class token before them 106.
    """
    side = isqrt(tokens)
    extra = tokens - side**2
    if extra not in EXTRA_TOKENS:
        return tokens // 2, "middle"
    return extra + (side // 2) * side + side // 2, "central"
