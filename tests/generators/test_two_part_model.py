import numpy as np
import pytest
import torch

from closedloop.errors import WeightsError
from closedloop.generators.native import FIRST, Native, embedded, read_native, write_native
from closedloop.generators.two_part_model import Flow, SteeredDecoder, TwoPartModel, TwoPartPrior
from closedloop.networks.modules import born


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def flow():
    """A flow of 7 numbers given 3 that does something."""
    flow = born(lambda: Flow(7, 3), 0)
    for coupling in flow.couplings:
        coupling.f[-1].weight.data = 0.05 * normal(*coupling.f[-1].weight.shape)
    return flow


@pytest.fixture
def model():
    """A model of 64 pixels that says 5 numbers of what is seen and 12 of the layout."""
    model = born(lambda: TwoPartModel(5, 12, 4), 0).eval().requires_grad_(False)
    model.prior.spatial_axes = torch.linalg.qr(normal(128, 12))[0].T.contiguous()
    return model


def test_a_flow_turns_back(flow):
    noise, given = normal(4, 7), normal(4, 3, seed=1)
    codes = flow(noise, given)
    assert (codes - noise).abs().mean() > 0.1
    torch.testing.assert_close(flow.invert(codes, given)[0], noise, atol=1e-5, rtol=0)
    assert (flow(noise, given + 1) - codes).abs().mean() > 0.01


def test_the_surprise_holds_the_stretch_of_volume(flow):
    flow, given = flow.double(), normal(1, 3, seed=1).double()
    code = normal(1, 7, seed=2).double()
    noise, volume = flow.invert(code, given)
    jacobian = torch.autograd.functional.jacobian(lambda c: flow.invert(c, given)[0][0], code)[:, 0]
    torch.testing.assert_close(volume[0], jacobian.det().abs().log())
    torch.testing.assert_close(flow.surprise(code, given)[0], (noise.square().sum() / 2 - volume[0]) / 7)


def test_an_untrained_flow_leaves_draws_as_they_are():
    noise = normal(50, 6)
    codes = born(lambda: Flow(6), 0)(noise)
    torch.testing.assert_close(codes.square().sum(1), noise.square().sum(1))


def test_the_prior_reads_its_own_spatial_codes(model):
    prior: TwoPartPrior = model.prior
    codes = normal(3, 17)
    what, spatial = prior(codes)
    assert spatial.shape == (3, 8, 4, 4)
    torch.testing.assert_close(prior.invert(what, spatial), codes, atol=1e-4, rtol=0)
    torch.testing.assert_close(prior.cut(spatial), spatial, atol=1e-4, rtol=0)


def test_each_part_has_its_shell(model):
    moved = model.prior.on_shells(3 * normal(2, 17))
    torch.testing.assert_close(moved[:, :5].norm(dim=1), torch.full((2,), 5**0.5))
    torch.testing.assert_close(moved[:, 5:].norm(dim=1), torch.full((2,), 12**0.5))


def test_the_decoder_begins_where_the_first_one_ended():
    first = read_native(embedded(FIRST))[0].decoder
    decoder = born(lambda: SteeredDecoder(5, 4), 0)
    decoder.begin_at(first.state_dict())
    spatial = normal(2, 8, 4, 4)
    with torch.no_grad():
        same, other = decoder(normal(2, 5), spatial), decoder(normal(2, 5, seed=1), spatial)
        torch.testing.assert_close(same, first(spatial), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(same, other)
    # All that is new can learn: what is seen moves the picture after one step.
    loss = (decoder(normal(2, 5), spatial) - 1).square().mean()
    loss.backward()
    assert decoder.shape.weight.grad.abs().max() > 0
    assert decoder.excite[0].weight.grad.abs().max() > 0


def test_what_is_seen_steers_the_picture(model):
    decoder = model.decoder
    decoder.shape.weight.data = 0.1 * normal(*decoder.shape.weight.shape)
    spatial = normal(1, 8, 4, 4)
    one, two = (decoder(normal(1, 5, seed=seed), spatial) for seed in (1, 2))
    assert (one - two).abs().mean() > 0.01


def test_a_file_holds_the_second_model_and_native_draws_it(model, tmp_path):
    path = tmp_path / "second.safetensors"
    write_native(path, model, {"settings": {}})
    read, _ = read_native(path)
    assert isinstance(read, TwoPartModel)
    assert torch.equal(read.prior.what_flow.shuffles, model.prior.what_flow.shuffles)
    native = Native(path, engine="eager")
    assert native.space.dim == 17
    assert native.resolution == 64
    codes = native.space.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(native(codes), read.network(True)(torch.from_numpy(codes).float()), atol=1e-5)
    assert native.encode(np.full((3, 3, 50, 50), 0.5)).shape == (3, 17)


def test_onnx_draws_the_same(model, tmp_path):
    path = tmp_path / "second.safetensors"
    write_native(path, model, {})
    codes = np.random.default_rng(0).standard_normal((3, 17))
    np.testing.assert_allclose(Native(path, engine="onnx")(codes), Native(path, engine="eager")(codes), atol=1e-4)


def test_a_file_of_which_a_part_is_missing_is_refused(model, tmp_path):
    del model.decoder.steer
    write_native(tmp_path / "x.safetensors", model, {})
    with pytest.raises(WeightsError, match=r"4 missing \(decoder.steer"):
        read_native(tmp_path / "x.safetensors")
