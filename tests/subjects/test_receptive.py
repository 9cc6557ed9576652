import logging
import random

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from closedloop.errors import InvalidArgumentError
from closedloop.subjects.receptive import ReceptiveField, computed_fields, measured_field, receptive_fields

EXAMPLE = torch.zeros(1, 3, 48, 64)
WHOLE = ((48, 64), (0, 0), (0, 0))


class Outputs(nn.Module):
    """The result of a network as a tuple."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.net(x),)


class Function(nn.Module):
    """A forward pass written in place, with some modules it may use."""

    def __init__(self, forward, **modules: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            self.add_module(name, module)
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.function(self, x)


def conv(before: int = 3, after: int = 3, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, **options)


def facts(field: ReceptiveField | None):
    return None if field is None else (field.size, field.stride, field.start)


def computed(module: nn.Module, example: Tensor = EXAMPLE):
    (field,) = computed_fields(module, example)
    assert field is None or field.method == "computed"
    return facts(field)


def square(size: int, stride: int, start: int):
    return (size, size), (stride, stride), (start, start)


# Known answers --------------------------------------------------------------------------------------------------------

STEM = (
    conv(3, 8, 7, stride=2, padding=3),
    nn.BatchNorm2d(8),
    nn.ReLU(inplace=True),
    nn.MaxPool2d(3, 2, 1),
)


@pytest.mark.parametrize(
    ("layers", "answer"),
    [
        ([nn.Identity()], square(1, 1, 0)),
        ([conv(), conv(), conv()], square(7, 1, 0)),
        ([conv(padding=1), nn.ReLU6(inplace=True), conv(padding=1)], square(5, 1, -2)),
        (STEM, square(11, 4, -5)),
        ([conv(dilation=3)], square(7, 1, 0)),
        ([conv(stride=2), conv(dilation=2)], square(11, 2, 0)),
        ([conv(kernel=4, padding="same")], square(4, 1, -1)),
        ([conv(kernel=4, padding="same", dilation=3)], square(10, 1, -4)),
        ([conv(padding="valid")], square(3, 1, 0)),
        ([nn.ZeroPad2d((0, 1, 0, 1)), conv(stride=2)], square(3, 2, 0)),
        ([conv(kernel=(3, 5), stride=(1, 2), padding=(1, 0))], ((3, 5), (1, 2), (-1, 0))),
        ([conv(3, 6, groups=3), nn.AvgPool2d(2)], square(4, 2, 0)),
        ([nn.AdaptiveAvgPool2d((12, 16)), conv()], square(12, 4, 0)),
        ([conv(), nn.GroupNorm(1, 3)], WHOLE),
        ([conv(), nn.AdaptiveAvgPool2d(1)], WHOLE),
        ([conv(padding=1), nn.Flatten(), nn.Linear(48 * 64 * 3, 5)], WHOLE),
        ([conv(stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten()], ((47, 63), (0, 0), (0, 0))),
        ([conv(stride=2, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 5)], WHOLE),
    ],
)
def test_known_answers(layers, answer) -> None:
    assert computed(Outputs(*layers)) == answer


def residual(m, x):
    return (m.a(m.b(x)) + x,)


def residual_in_place(m, x):
    x = m.b(x)
    y = m.a(x)
    y += m.a(m.b(x))
    return (y,)


def read_after_writing(m, x):
    x = m.b(x)
    part = x.view(x.shape)
    part += m.a(m.a(x))
    return (x,)


def squeeze_excite(m, x):
    x = m.a(x)
    return (x * torch.sigmoid(m.b(x.mean((2, 3), keepdim=True))),)


def two_branches(m, x):
    return (torch.cat([m.a(x), m.c(x)], 1),)


def channels_last(m, x):
    x = m.a(x).permute(0, 2, 3, 1)
    return (F.layer_norm(x, [3]).permute(0, 3, 1, 2),)


def every_second_row(m, x):
    return (m.a(x)[:, :, 1::2],)


def tokens(m, x):
    return m.a(x).flatten(2).transpose(1, 2)


def attention(m, x):
    x = tokens(m, x)
    x = torch.cat([m.a.bias[None, None], x], 1)
    query, key, value = torch.cat([x, x, x], -1).unflatten(-1, (3, 1, 3)).permute(2, 0, 3, 1, 4).unbind(0)
    x = x + F.scaled_dot_product_attention(query, key, value).squeeze(1)
    return (x[:, 0], x)


def attention_by_hand(m, x):
    x = tokens(m, x)
    return ((x @ x.transpose(-2, -1)).softmax(-1) @ x,)


@pytest.mark.parametrize(
    ("forward", "answer"),
    [
        (residual, square(5, 1, -2)),
        (residual_in_place, square(7, 1, -3)),
        (read_after_writing, square(7, 1, -3)),
        (squeeze_excite, WHOLE),
        (two_branches, square(5, 1, -2)),
        (channels_last, square(3, 1, -1)),
        (every_second_row, ((3, 3), (2, 1), (0, -1))),
        (attention_by_hand, WHOLE),
    ],
)
def test_branches_and_rearrangements(forward, answer) -> None:
    options = {"padding": 1}
    module = Function(forward, a=conv(**options), b=conv(**options), c=conv(kernel=5, padding=2))
    assert computed(module) == answer


def test_tokens_are_known_once_attention_has_mixed_them() -> None:
    module = Function(lambda m, x: (tokens(m, x), *attention(m, x)), a=conv(3, 3, 16, stride=16))
    assert [facts(field) for field in computed_fields(module, EXAMPLE)] == [None, WHOLE, WHOLE]


def test_a_token_right_after_the_patches_is_measured_as_one_patch() -> None:
    module = Function(lambda m, x: (tokens(m, x),), a=conv(3, 3, 16, stride=16))
    (field,) = receptive_fields(module, EXAMPLE)
    assert (facts(field), field.method) == (((16, 16), (0, 0), (16, 32)), "gradient")


def masked(m, x):
    x = tokens(m, x)
    count = x.shape[1]
    hidden = torch.full((count, count), -torch.inf).triu(1)
    return ((x @ x.transpose(-2, -1) + hidden).softmax(-1) @ x,)


def causal(m, x):
    x = tokens(m, x)
    return (F.scaled_dot_product_attention(x, x, x, is_causal=True),)


@pytest.mark.parametrize(
    "forward",
    [
        masked,
        causal,
        lambda m, x: (tokens(m, x)[:, 0],),
        lambda m, x: (F.interpolate(m.a(x), scale_factor=2),),
        lambda m, x: (m.a(F.pad(x, (1, 1, 1, 1), mode="reflect")),),
        lambda m, x: (m.a(x).cumsum(2),),
        lambda m, x: (torch.cat([m.a(x), m.a(x)], 2),),
        lambda m, x: (F.conv_transpose2d(x, m.a.weight),),
        lambda m, x: (m.a(x) + x[:, :, :3, :4],),
        lambda m, x: (torch.cat([m.a(x), F.max_pool2d(x, 18, 16, 1)], 1)[:, :3],),
        lambda m, x: (m.a(x) if m.a(x).sum() > 0 else x,),
        lambda m, x: (m.a(x).permute(0, 2, 3, 1),),
    ],
)
def test_what_is_not_known_is_not_guessed(forward) -> None:
    assert computed(Function(forward, a=conv(kernel=16, stride=16, padding=0))) is None


def test_the_unknown_is_measured_and_does_not_reach_backwards() -> None:
    module = Function(lambda m, x: (m.a(x), m.a(x).roll(0, 2), m.b(m.a(x).roll(0, 2))), a=conv(), b=conv())
    before, rolled, after = receptive_fields(module, EXAMPLE)
    assert (facts(before), before.method) == (square(3, 1, 0), "computed")
    assert (facts(rolled), rolled.method) == (square(3, 1, 0), "gradient")
    assert (facts(after), after.method) == (square(5, 1, 0), "gradient")


def test_decomposed_operations_are_known_too(monkeypatch: pytest.MonkeyPatch) -> None:
    export = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *args, **kw: export(*args, **kw).run_decompositions())
    assert computed(Outputs(*STEM, nn.ZeroPad2d((1, 0, 1, 0)), conv(8, 8))) == square(19, 4, -9)
    assert computed(Outputs(conv(padding=1), nn.GroupNorm(1, 3), nn.Flatten(), nn.Linear(9216, 2))) == WHOLE
    assert computed(Function(channels_last, a=conv(padding=1))) == square(3, 1, -1)
    assert computed(Outputs(nn.ConvTranspose2d(3, 3, 3))) is None


# Against what the outputs depend on -----------------------------------------------------------------------------------


@st.composite
def layers(draw) -> nn.Module:
    kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding = draw(st.integers(0, kernel // 2))
    return draw(
        st.sampled_from(
            [
                conv(kernel=kernel, stride=stride, padding=padding, dilation=dilation),
                conv(kernel=kernel, padding="same", dilation=dilation, groups=3),
                nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw(st.booleans())),
                nn.AvgPool2d(kernel, stride, padding),
                nn.ZeroPad2d(tuple(draw(st.integers(0, 2)) for _ in range(4))),
                Function(lambda m, x: m.a(x) + x, a=conv(padding=1)),
            ]
        )
    )


def dependence(module: nn.Module, resolution: tuple[int, int], y: int, x: int):
    """Rows and columns that reach unit (y, x), found by putting NaN into one after the other."""
    found = []
    for axis, length in enumerate(resolution):
        images = torch.zeros(length, 3, *resolution, dtype=torch.float64)
        for at in range(length):
            images[at].select(axis + 1, at)[:] = torch.nan
        reached = module(images)[0][:, :, y, x].isnan().any(1).nonzero().flatten().tolist()
        found.append((reached[0], reached[-1] + 1) if reached else (0, 0))
    return found


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(stack=st.lists(layers(), min_size=1, max_size=4), data=st.data())
@settings(max_examples=25)
def test_computed_boxes_are_what_units_depend_on(stack, data) -> None:
    resolution = (30, 41)
    module = Outputs(*stack).double()
    try:
        shape = module(torch.zeros(1, 3, *resolution, dtype=torch.float64))[0].shape
    except RuntimeError:
        assume(False)
    y, x = (data.draw(st.integers(0, count - 1)) for count in shape[2:])
    (field,) = computed_fields(module, torch.zeros(1, 3, *resolution, dtype=torch.float64))
    assert field is not None
    y0, x0, y1, x1 = field.box(y, x, resolution)
    reached = dependence(module, resolution, y, x)
    if (y1 - y0, x1 - x0) == field.size:
        assert reached == [(y0, y1), (x0, x1)]
    for (low, high), (first, last) in zip(reached, [(y0, y1), (x0, x1)], strict=True):
        assert low == high or first <= low < high <= last


@pytest.mark.parametrize(
    "layers",
    [
        STEM,
        (*STEM, conv(8, 8, padding=1), nn.ReLU(), conv(8, 8, padding=1, stride=2)),
        (*STEM, conv(8, 8, 5, padding=2), conv(8, 8, 5, padding=2)),
        (nn.ZeroPad2d((0, 1, 0, 1)), conv(3, 4, stride=2), nn.BatchNorm2d(4), nn.ReLU6(), conv(4, 4, dilation=2)),
        (nn.MaxPool2d(3, 1),),
        (conv(kernel=25, padding=12), conv(kernel=25, padding=12)),
        (conv(stride=4, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)),
    ],
)
def test_measured_agrees_with_computed(layers) -> None:
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    module = Outputs(*layers)
    field = measured_field(module, EXAMPLE, 0)
    assert field.method == "gradient"
    assert facts(field) == computed(module)


def test_measured_where_units_follow_no_common_step_is_the_middle_unit() -> None:
    def windows(m, x):
        return (x + F.interpolate(F.avg_pool2d(x, 16), scale_factor=16),)

    field = measured_field(Function(windows), EXAMPLE, 0)
    assert field.box(24, 32, (48, 64)) == (16, 32, 32, 48)
    assert field.stride == (1, 1)


def test_dead_channels_do_not_hide_the_field() -> None:
    layer = conv(3, 16, 5)
    torch.manual_seed(0)
    nn.init.normal_(layer.weight, std=0.1)
    nn.init.normal_(layer.bias, -0.5, 0.5)
    module = Outputs(layer, nn.ReLU())
    assert facts(measured_field(module, EXAMPLE, 0)) == square(5, 1, 0)


def test_channels_whose_sum_is_constant_are_measured() -> None:
    module = Function(lambda m, x: (torch.cat([m.a(x), -m.a(x)], 1),), a=conv())
    assert facts(measured_field(module, EXAMPLE, 0)) == square(3, 1, 0)


@pytest.mark.parametrize("seed", range(4, 8))
def test_edges_that_few_images_show_are_measured(seed: int) -> None:
    module = Function(lambda m, x: (m.a(F.relu(x - 0.95)),), a=conv())
    assert facts(measured_field(module, EXAMPLE, 0, seed=seed)) == square(3, 1, 0)


@pytest.mark.long
def test_corners_that_see_only_padding_are_left_out() -> None:
    module = Outputs(nn.ZeroPad2d(9), conv(kernel=31, padding=15))
    assert facts(measured_field(module, EXAMPLE, 0)) == square(31, 1, -24)
    module = Outputs(conv(kernel=45, padding=22), nn.ZeroPad2d(30))
    assert measured_field(module, EXAMPLE, 0).box(54, 62, (48, 64)) == (2, 10, 47, 55)


# The box --------------------------------------------------------------------------------------------------------------


def test_box_is_clipped_to_the_image() -> None:
    field = ReceptiveField((11, 7), (4, 2), (-5, -3), "computed")
    assert field.box(0, 0, (48, 64)) == (0, 0, 6, 4)
    assert field.box(3, 5, (48, 64)) == (7, 7, 18, 14)
    assert field.box(11, 31, (48, 64)) == (39, 59, 48, 64)
    assert field.box(99, 0, (48, 64)) == (48, 0, 48, 4)


def test_whole_fields_are_whole_at_every_position() -> None:
    (field,) = computed_fields(Function(squeeze_excite, a=conv(), b=conv(kernel=1)), EXAMPLE)
    assert field is not None
    assert field.box(20, 30, (48, 64)) == (0, 0, 48, 64)


# Hygiene --------------------------------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Training mode, dropout, a batch norm's statistics, a frozen parameter, a gradient, and an in-place beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(), nn.BatchNorm2d(3), nn.Dropout(), nn.ReLU(inplace=True))
        self.frozen = conv()
        self.frozen.eval().requires_grad_(False)
        self.body[0].weight.grad = torch.ones_like(self.body[0].weight)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x.sub_(0.5)
        return (self.frozen(self.body(x)),)


def snapshot(module: nn.Module, example: Tensor):
    tensors = [*module.state_dict().values(), example, torch.get_rng_state(), torch.tensor(random.getstate()[1])]
    return [
        [value.clone() for value in tensors],
        [(p.requires_grad, p.grad is not None, p.grad_fn) for p in module.parameters()],
        [m.training for m in module.modules()],
        [(id(value), value._version) for value in module.state_dict(keep_vars=True).values()],
        [m._forward_hooks for m in module.modules()],
        (example.requires_grad, torch.is_grad_enabled(), torch.backends.cudnn.enabled),
    ]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("run", [computed_fields, lambda module, example: measured_field(module, example, 0)])
def test_nothing_is_changed(run, grad: bool) -> None:
    module, example = Everything(), torch.rand(1, 3, 12, 12)
    weight, slope = module.body[0].weight, torch.ones_like(module.body[0].weight)
    with torch.set_grad_enabled(grad):
        before = snapshot(module, example)
        run(module, example)
        after = snapshot(module, example)
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]
    assert torch.equal(weight.grad, slope)


def test_batch_statistics_of_training_mode_see_the_whole_image() -> None:
    module = Everything()
    example = torch.rand(1, 3, 12, 12)
    assert facts(measured_field(module, example, 0)) == ((12, 12), (0, 0), (0, 0))
    assert computed(module, example) in (None, ((12, 12), (0, 0), (0, 0)))


def test_a_failing_trace_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    assert computed(Function(lambda m, x: (m.a(x) if x.sum() > 0 else x,), a=conv())) is None
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET


def test_measurement_repeats() -> None:
    module = Outputs(*STEM)
    assert measured_field(module, EXAMPLE, 0, images=3) == measured_field(module, EXAMPLE, 0, images=3)


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", [torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 8, 8).long()])
@pytest.mark.parametrize("run", [computed_fields, receptive_fields, lambda m, x: measured_field(m, x, 0)])
def test_wrong_examples(run, example: Tensor) -> None:
    with pytest.raises(InvalidArgumentError, match=r"example: expected one image \(1, 3, h, w\) of floats"):
        run(Outputs(conv()), example)


def test_wrong_arguments() -> None:
    with pytest.raises(InvalidArgumentError, match="output: expected 0 to 0, got 1"):
        measured_field(Outputs(conv()), EXAMPLE, 1)
    with pytest.raises(InvalidArgumentError, match="module: expected a tuple of tensors as its result, got Tensor"):
        measured_field(conv(), EXAMPLE, 0)
    with pytest.raises(InvalidArgumentError, match=r"y, x: expected a position in the map, 0 or more, got \(-1, 2\)"):
        ReceptiveField((1, 1), (1, 1), (0, 0), "computed").box(-1, 2, (8, 8))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: (m.a(x).detach(),), "output 0 has no gradient"),
        (lambda m, x: (m.a(x).argmax(1),), "output 0 has no gradient"),
        (lambda m, x: (F.relu(m.a(x) - 100),), "no gradient of output 0 reaches the image; its units may be dead"),
        (lambda m, x: (m.a(torch.ones_like(x)),), "no gradient of output 0 reaches the image"),
    ],
)
def test_what_cannot_be_measured(forward, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        measured_field(Function(forward, a=conv()), EXAMPLE, 0)
