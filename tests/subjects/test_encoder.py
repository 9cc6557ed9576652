"""The encoder of a generator, as a subject."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.generators import load_generator
from closedloop.subjects import Encoder, load_subject
from closedloop.testing import SubjectContract
from tests.small_sights import Stripes

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def native():
    return load_generator("native", engine="eager")


class TestEncoderContract(SubjectContract):
    @pytest.fixture(autouse=True)
    def _generator(self, native):
        self.generator = native

    def make(self):
        return Encoder(self.generator)


def test_it_reads_what_the_generator_reads(native):
    codes = native.space.sample(2, np.random.default_rng(0))
    images = native(codes)
    np.testing.assert_allclose(Encoder(native).record(images), native.encode(images), atol=1e-4)
    small = images[:, :, ::2, ::2]
    np.testing.assert_allclose(Encoder(native).record(small), native.encode(small), atol=1e-3)


def test_its_recipe_makes_it_again(native):
    recipe = dict(Encoder(native).recipe)
    again = load_subject(recipe.pop("name"), **recipe)
    assert again.fingerprint == Encoder(native).fingerprint


def test_a_generator_without_an_encoder_is_refused():
    from closedloop.interfaces import Space

    with pytest.raises(InvalidArgumentError, match="generator: expected one with an encoder in torch"):
        Encoder(Stripes(Space(4)))
