"""One seed, many streams."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.seeds import (
    check_seed,
    legacy_random_state,
    named_generator,
    named_seed,
    noted_stream,
    numbered_generator,
    part_generator,
    plain_generator,
    streams,
    torch_seed,
)
from closedloop.testing.common import untouched_randomness


def test_seeds_differ_by_number_and_name():
    seeds = {named_seed(seed, name) for seed in range(20) for name in ("order", "optimizer", "noise", "")}
    assert len(seeds) == 80
    assert all(0 <= s < 2**63 for s in seeds)


def test_the_same_in_another_process():
    code = "from closedloop.seeds import named_seed; import sys; sys.stdout.write(str(named_seed(5, 'order')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == named_seed(5, "order")


def test_streams():
    one, again = named_generator(3, "order"), named_generator(3, "order")
    np.testing.assert_array_equal(one.random(5), again.random(5))
    draws = [named_generator(s, n).standard_normal(2000) for s, n in [(3, "order"), (3, "noise"), (4, "order")]]
    assert np.abs(np.corrcoef(draws)[np.triu_indices(3, 1)]).max() < 0.1


def test_global_random_state_is_left_alone():
    with untouched_randomness():
        named_generator(0, "x").random()


def test_seeds_of_any_size_seed_torch():
    torch = pytest.importorskip("torch")
    assert [torch_seed(seed) for seed in (0, 7, 2**63 - 1)] == [0, 7, 2**63 - 1]
    first, second = (torch.rand(1, generator=torch.Generator().manual_seed(torch_seed(10**s))) for s in (20, 21))
    assert first != second


def test_large_and_numpy_seeds():
    assert named_seed(2**100, "a") != named_seed(2**100 + 1, "a")
    assert named_seed(np.int64(7), "a") == named_seed(7, "a")
    assert check_seed(np.uint8(3)) == 3


@pytest.mark.parametrize("seed", [-1, 1.5, None, "1", True])
def test_bad_seeds(seed):
    with pytest.raises(InvalidArgumentError, match="seed: expected a whole number of at least 0, got"):
        named_seed(seed, "order")


def test_a_part_shares_no_stream_with_another_or_with_a_user():
    names = ("optimizer Auto", "optimizer CMAES", "conv3d", "subspace", "cppn", "analytic")
    for seed in range(11):
        draws = [part_generator(seed, name).standard_normal(507) for name in names]
        draws.append(np.random.default_rng(seed).standard_normal(507))
        assert np.abs(np.corrcoef(draws)[np.triu_indices(len(draws), 1)]).max() < 0.25


def test_parts_of_older_runs_draw_as_they_did():
    expected = np.random.default_rng(3).standard_normal(9)
    np.testing.assert_array_equal(part_generator(3, "conv3d", 1).standard_normal(9), expected)
    assert not np.array_equal(part_generator(3, "conv3d", 2).standard_normal(9), expected)
    with streams(1):
        np.testing.assert_array_equal(part_generator(3, "conv3d").standard_normal(9), expected)
    assert not np.array_equal(part_generator(3, "conv3d").standard_normal(9), expected)
    assert noted_stream(1) == {}
    assert noted_stream(2) == {"stream": 2}


@pytest.mark.parametrize("stream", [0, 3, "2", None])
def test_there_are_two_streams(stream):
    with pytest.raises(InvalidArgumentError, match="stream: expected"), streams(stream):
        pass


def test_units_by_name_stay_what_they_were():
    np.testing.assert_array_equal(plain_generator(3).random(9), np.random.default_rng(3).random(9))


def test_old_random_states_of_any_seed():
    for seed in (0, 3, 2**32, 2**70):
        first, again = (legacy_random_state(seed, "x", 2).standard_normal(9) for _ in range(2))
        np.testing.assert_array_equal(first, again)
    old = legacy_random_state(3, "x", 1).standard_normal(9)
    np.testing.assert_array_equal(old, np.random.RandomState(3).standard_normal(9))


def test_numbered_streams_are_those_of_trainings_under_way():
    sequence = np.random.SeedSequence([4, 2, 7])
    np.testing.assert_array_equal(numbered_generator(4, 2, 7).random(5), np.random.default_rng(sequence).random(5))
