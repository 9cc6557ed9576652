import numpy as np
import pytest
import torch

from closedloop.images.resizing import resize_matrix
from closedloop.networks.resampling import BLOCK, resampled


@pytest.mark.parametrize(("height", "width"), [(7, 5), (BLOCK, 2 * BLOCK + 3), (200, 150)])
@pytest.mark.parametrize("new", [(4, 9), (BLOCK + 1, 3 * BLOCK)])
def test_is_the_product_with_both_matrices_and_so_is_its_gradient(height, width, new):
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, height, width, dtype=torch.float64, generator=rng, requires_grad=True)
    rows, columns = resize_matrix(height, new[0]), resize_matrix(width, new[1])
    given = resampled(x, rows, columns)
    expected = torch.from_numpy(rows).double() @ x @ torch.from_numpy(columns.T).double()
    torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)
    weights = torch.rand(expected.shape, dtype=torch.float64, generator=rng)
    slopes = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (given, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


def test_rows_without_weights_are_zero():
    matrix = np.zeros((BLOCK + 5, 6))
    matrix[-1, 2] = 2.0
    x = torch.ones(1, 6, 6)
    given = resampled(x, matrix, np.eye(6))
    assert given[:, :-1].abs().max() == 0
    assert (given[:, -1] == 2).all()
    assert given.dtype == x.dtype
