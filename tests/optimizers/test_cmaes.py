from closedloop.optimizers.cmaes import CMAES, diagonal_cmaes
from closedloop.testing import OptimizerContract


class TestFull(OptimizerContract):
    def make(self, space, seed):
        return CMAES(space, seed)


class TestDiagonal(OptimizerContract):
    def make(self, space, seed):
        return diagonal_cmaes(space, seed)
