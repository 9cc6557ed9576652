"""Auto: the contract."""

from __future__ import annotations

from closedloop.optimizers import Auto
from closedloop.testing import OptimizerContract


class TestAutoContract(OptimizerContract):
    def make(self, space, seed):
        return Auto(space, seed, images=self.budget, population=20)
