import numpy as np
import pytest
import torch
from torch import nn

from closedloop.errors import InvalidArgumentError
from closedloop.networks.carried import restore_part, save_part
from closedloop.recording.states import pack_state, unpack_state


def through_a_file(part, saved):
    return unpack_state(pack_state({"saved": save_part("part", part)}))["saved"] if saved else None


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_goes_on_exactly(make):
    def trained(steps, saved=None):
        torch.manual_seed(0)
        model = nn.Linear(3, 2).to(torch.bfloat16 if make is torch.optim.SGD else torch.float32)
        optimizer = make(model.parameters(), lr=0.1, **({"momentum": 0.9} if make is torch.optim.SGD else {}))
        if saved is not None:
            restore_part(optimizer, saved[0])
            model.load_state_dict(saved[1])
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(4, 3, dtype=model.weight.dtype)).square().mean().backward()
            optimizer.step()
        return model, optimizer

    with torch.random.fork_rng():
        whole, _ = trained(5)
        half, optimizer = trained(2)
        rest, _ = trained(3, (through_a_file(optimizer, True), half.state_dict()))
    assert torch.equal(whole.weight, rest.weight)


def test_random_generators_go_on_exactly():
    ours, theirs = np.random.default_rng(3), torch.Generator().manual_seed(3)
    ours.random(5)
    torch.rand(5, generator=theirs)
    kept = through_a_file(ours, True), through_a_file(theirs, True)
    expected = ours.random(), torch.rand((), generator=theirs)
    restore_part(ours, kept[0])
    restore_part(theirs, kept[1])
    assert (ours.random(), torch.rand((), generator=theirs)) == expected


def test_what_has_no_state_is_named():
    with pytest.raises(InvalidArgumentError, match="schedule: expected something with state_dict"):
        save_part("schedule", 3)
    half = nn.Module()
    half.state_dict = lambda: {"a": object()}
    half.load_state_dict = lambda state: None
    with pytest.raises(InvalidArgumentError, match="half: expected a state of tensors, numbers and texts"):
        save_part("half", half)
