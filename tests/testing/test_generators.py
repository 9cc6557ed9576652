"""The generator contract: a sound implementation passes, and each defect fails the test that names it."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.testing import GeneratorContract

FAILURES = (AssertionError, pytest.fail.Exception)


class Stripes:
    """A sound generator written without closedloop's own."""

    name = "stripes"
    space = Space(12, scale=0.5)
    resolution = 4

    def __call__(self, codes):
        codes = self.space.check(codes)
        rows = 1 / (1 + np.exp(-codes.reshape(len(codes), 3, 4, 1)))
        return np.repeat(rows, 4, axis=3).astype(np.float32)


class TestStripes(GeneratorContract):
    def make(self):
        return Stripes()

    def red_code(self):
        return np.repeat([1.0, -1.0, -1.0], 4)


class TestStripesInTorch(GeneratorContract):
    def make(self):
        return TorchStripes()


class TorchStripes(Stripes):
    fingerprint = "0" * 64

    def forward(self, codes):
        return codes.sigmoid().reshape(-1, 3, 4, 1).expand(-1, 3, 4, 4)


class Bgr(Stripes):
    def __call__(self, codes):
        return super().__call__(codes)[:, ::-1]


class Double(Stripes):
    def __call__(self, codes):
        return super().__call__(codes).astype(np.float64)


class Bright(Stripes):
    def __call__(self, codes):
        return super().__call__(codes) * np.float32(3)


class BatchNormalized(Stripes):
    def __call__(self, codes):
        images = super().__call__(codes)
        return images / max(images.max(initial=0), 1) if len(images) < 2 else images - images.min()


class Moody(Stripes):
    calls = 0

    def __call__(self, codes):
        self.calls += 1
        return np.clip(super().__call__(codes) + np.float32(0.01 * self.calls), 0, 1)


class Careless(Stripes):
    def __call__(self, codes):
        return super().__call__(np.clip(np.nan_to_num(codes), -1e3, 1e3))


class Clipping(Stripes):
    def __call__(self, codes):
        images = super().__call__(codes)
        codes[:] = np.clip(codes, -0.1, 0.1)
        return images


class Buffered(Stripes):
    buffer = np.empty((8, 3, 4, 4), np.float32)

    def __call__(self, codes):
        images = super().__call__(codes)
        self.buffer[: len(images)] = images
        return self.buffer[: len(images)]


class Constant(Stripes):
    def __call__(self, codes):
        return super().__call__(codes) * 0 + np.float32(0.5)


class DrawsGlobally(Stripes):
    def __call__(self, codes):
        np.random.rand()  # noqa: NPY002 - the defect
        return super().__call__(codes)


class OtherForward(TorchStripes):
    def forward(self, codes):
        return super().forward(codes) ** 2


class Detached(TorchStripes):
    def forward(self, codes):
        images = super().forward(codes)
        return images.detach() + 0 * images


class Forgetful(Stripes):
    recipe = {"name": "pixels", "resolution": 2}  # noqa: RUF012


class Unwritable(Stripes):
    recipe = {"name": "pixels", "resolution": np.float32(4)}  # noqa: RUF012


class Unhashed(Stripes):
    fingerprint = "version 2"


@pytest.mark.parametrize(
    ("broken", "test", "arguments"),
    [
        (Bgr, "test_colors_are_in_the_order_rgb", ()),
        (Double, "test_images_are_of_its_form_and_in_0_1", ()),
        (Bright, "test_images_are_of_its_form_and_in_0_1", ()),
        (BatchNormalized, "test_an_image_does_not_depend_on_the_batch", ()),
        (Moody, "test_same_codes_same_images", ()),
        (Careless, "test_refuses_what_is_not_a_code", ("NaN",)),
        (Careless, "test_refuses_what_is_not_a_code", ("infinity",)),
        (Clipping, "test_codes_are_not_changed", ()),
        (Buffered, "test_images_are_not_changed_later", ()),
        (Constant, "test_different_codes_give_different_images", ()),
        (DrawsGlobally, "test_global_random_state_is_left_alone", ()),
        (OtherForward, "test_forward_agrees_with_the_call", ()),
        (Detached, "test_gradient_is_right", ()),
        (Forgetful, "test_recipe_makes_it_again", ()),
        (Unwritable, "test_recipe_makes_it_again", ()),
        (Unhashed, "test_fingerprint_is_a_sha256", ()),
    ],
)
def test_a_defect_is_found(broken, test, arguments):
    class Contract(TestStripes):
        def make(self):
            return broken()

    with pytest.raises((*FAILURES, RuntimeError, TypeError), match=r"\S"):
        getattr(Contract(), test)(*arguments)


def test_other_errors_can_be_named():
    class Own(Stripes):
        def __call__(self, codes):
            try:
                return super().__call__(codes)
            except InvalidArgumentError as error:
                raise KeyError(str(error)) from None

    class Contract(TestStripes):
        refusal = KeyError

        def make(self):
            return Own()

    Contract().test_refuses_what_is_not_a_code("NaN")
    with pytest.raises(KeyError, match="codes: expected"):
        TestStripes.test_refuses_what_is_not_a_code(type("C", (Contract,), {"refusal": ValueError})(), "NaN")


def test_one_is_kept_where_that_is_asked_for():
    class Kept(TestStripes):
        keep = True

    assert Kept().one() is Kept().one() is not Kept().make()
    assert TestStripes().one() is not TestStripes().one()


def test_make_must_be_defined():
    with pytest.raises(NotImplementedError, match=r"define make\(self\)"):
        GeneratorContract().make()
