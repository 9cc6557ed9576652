"""One seed, many streams."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.seeds import check_seed, named_generator, named_seed
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


def test_large_and_numpy_seeds():
    assert named_seed(2**100, "a") != named_seed(2**100 + 1, "a")
    assert named_seed(np.int64(7), "a") == named_seed(7, "a")
    assert check_seed(np.uint8(3)) == 3


@pytest.mark.parametrize("seed", [-1, 1.5, None, "1", True])
def test_bad_seeds(seed):
    with pytest.raises(InvalidArgumentError, match="seed: expected a whole number of at least 0, got"):
        named_seed(seed, "order")
