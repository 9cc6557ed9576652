from closedloop.optimizers.isotropic import IsotropicES
from closedloop.testing import OptimizerContract


class TestContract(OptimizerContract):
    def make(self, space, seed):
        return IsotropicES(space, seed)
