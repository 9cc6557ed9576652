"""Several subjects that see the same images, as one."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Differentiable
from closedloop.subjects import EnergySubject, FunctionSubject, GaborSubject, Joined, load_subject
from closedloop.testing import SubjectContract

IMAGES = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)


def pair():
    return Joined([GaborSubject(count=3, seed=1), EnergySubject()], [[2, 0], 0])


class TestJoined(SubjectContract):
    def make(self):
        return pair()


def test_it_records_the_units_that_were_chosen():
    found = pair().record(IMAGES)
    gabor = GaborSubject(count=3, seed=1).record(IMAGES)
    np.testing.assert_allclose(found, np.column_stack([gabor[:, 2], gabor[:, 0], EnergySubject().record(IMAGES)[:, 0]]))
    assert pair().units.neuroid_id == ("0:gabor.2", "0:gabor.0", "1:energy.0")


def test_each_sees_images_at_its_own_resolution():
    joined = Joined([GaborSubject(resolution=16), GaborSubject(resolution=32)])
    assert joined.resolution == 32
    assert joined.record(IMAGES).shape == (3, 2)


def test_its_gradient_is_that_of_both():
    import torch

    x = torch.from_numpy(IMAGES.astype(float)).requires_grad_()
    joined = pair()
    np.testing.assert_allclose(joined.forward(x).detach().numpy(), joined.record(IMAGES), rtol=1e-4)
    (gradient,) = torch.autograd.grad(joined.forward(x)[:, 2].sum(), x)
    (own,) = torch.autograd.grad(EnergySubject().forward(x)[:, 0].sum(), x)
    torch.testing.assert_close(gradient, own)


def test_one_that_has_no_gradient_takes_it_from_all():
    plain = FunctionSubject(lambda x: x.mean((2, 3)), 3)
    assert not isinstance(Joined([plain, GaborSubject()]), Differentiable)
    assert isinstance(pair(), Differentiable)
    assert Joined([plain, GaborSubject()]).recipe is None


def test_it_is_made_again_from_its_recipe():
    again = load_subject(**pair().recipe)
    np.testing.assert_array_equal(again.record(IMAGES), pair().record(IMAGES))
    assert again.fingerprint == pair().fingerprint


@pytest.mark.parametrize(
    ("subjects", "units", "said"),
    [
        ([GaborSubject()], None, "subjects: expected two or more"),
        ("gabor", None, "subjects: expected two or more"),
        ([GaborSubject(), GaborSubject(channels=1)], None, r"subjects\[1\]: expected one of colour stills"),
        ([GaborSubject(), EnergySubject()], [0], "units: expected columns for each of 2 subjects"),
        ([GaborSubject(), EnergySubject()], [0, 5], "units: expected columns of 'energy' from 0 to 0"),
        ([GaborSubject(), EnergySubject()], [[], 0], "units"),
        ([GaborSubject(), EnergySubject()], [0, -1], "unit"),
        ([GaborSubject(), EnergySubject()], "00", "units"),
    ],
)
def test_errors_name_the_argument(subjects, units, said):
    with pytest.raises(InvalidArgumentError, match=said):
        Joined(subjects, units)
