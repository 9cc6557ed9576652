import pytest
import torch

import closedloop.generators.learning as module
from closedloop.generators import TrainingSettings
from closedloop.generators.spatial_training import SpatialTrainer
from closedloop.generators.training import cut_crops


def settings(**other):
    return TrainingSettings(**{"steps": 4, "batch": 4, "resolution": 64, "crops": 3, "draws_start": 1, **other})


def test_global_randomness_and_network_are_left_alone(photographs, taps):
    before = torch.get_rng_state(), taps.network.a.weight.clone()
    trainer = SpatialTrainer(cut_crops(photographs, settings()), taps, settings())
    trainer.run_step()
    trainer.run_step()
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], taps.network.a.weight)


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, "bfloat16"), (0.9, "single"), (15.0, "single")])
def test_the_quicker_precision_is_measured(monkeypatch, ratio, chosen):
    """A processor without bfloat16 emulates it; a clock stands for it here."""
    clock = [0.0]
    autocast = torch.autocast

    def slow(kind, dtype, enabled):
        clock[0] += ratio if enabled else 1.0
        return autocast(kind, dtype, enabled=enabled)

    monkeypatch.setattr(module.torch, "autocast", slow)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    assert module.quicker_precision(torch.device("cpu")) == chosen
