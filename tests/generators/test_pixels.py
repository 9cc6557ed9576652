from closedloop.generators import Pixels, Fourier
from closedloop.testing import GeneratorContract


class TestPixels(GeneratorContract):
    def make(self):
        return Pixels(8)
class TestFourier(GeneratorContract):
    def make(self):
        return Fourier(16,3)
