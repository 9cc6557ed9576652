import torch

from closedloop.generators.judges import fine_detail, second_moments


def test_features_stop_at_the_deepest_layer(taps):
    first, second = taps(torch.zeros(2, 3, 16, 16))
    assert first.shape == (2, 4, 8, 8)
    assert second.shape == (2, 6, 4, 4)
    assert taps.network.calls == 0


def test_moments_hold_means_and_products_of_channels():
    maps = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    moments = second_moments(maps)
    flat = maps.permute(1, 0, 2, 3).reshape(2, -1)
    assert moments[0, 0] == 1
    torch.testing.assert_close(moments[0, 1:], flat.mean(1))
    torch.testing.assert_close(moments[1:, 1:], (flat[:, None] * flat[None]).mean(-1))


def test_fine_detail_is_what_a_blur_leaves():
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(fine_detail(flat), torch.zeros(1, 48, 2, 2))
    board = flat.clone()
    board[..., ::4, ::4] += 0.9
    detail = fine_detail(board)
    assert detail.shape == (1, 48, 2, 2)
    torch.testing.assert_close(detail[0, ::16, 1, 1], torch.full((3,), 0.8))
    assert (detail[0, 1:16, 1, 1] < 1e-6).all()
