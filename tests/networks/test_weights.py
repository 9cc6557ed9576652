import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from closedloop.errors import WeightsError
from closedloop.networks.weights import load_weights, read_weights


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


@pytest.mark.parametrize("kind", ["pt", "old pt", "safetensors", "state_dict", "model", "module.", "no counters"])
def test_weights_from_a_file(tmp_path, kind):
    state = small().state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "old pt":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind in ("state_dict", "model"):
        torch.save({"epoch": 3, kind: state}, path)
    else:
        renamed = {(kind if kind == "module." else "") + key: value for key, value in state.items()}
        torch.save({k: v for k, v in renamed.items() if kind != "no counters" or "batches" not in k}, path)
    model = small()
    load_weights(model, path)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "0.bias"}, r"which has 7 tensors: 1 missing \(0\.bias\)\."),
        (lambda s: s | {"extra": torch.zeros(1)}, r"1 surplus \(extra\)\."),
        (lambda s: s | {"0.bias": torch.zeros(3)}, r"1 of another shape \(0\.bias\)\."),
        (
            lambda s: {f"net.{k}": v for k, v in s.items()},
            r"6 missing \(0\.bias, .*, …\); 7 surplus \(net\.0\.bias, .*, …\)",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path, change, message):
    torch.save(change(small().state_dict()), tmp_path / "w.pt")
    model = small()
    before = model.state_dict()["0.weight"].clone()
    with pytest.raises(WeightsError, match=message):
        load_weights(model, tmp_path / "w.pt")
    assert torch.equal(before, model.state_dict()["0.weight"])


class Harmful:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("write", ["torch", "pickle", "model"])
def test_a_file_that_holds_code_is_refused_and_not_run(tmp_path, write):
    path, mark = tmp_path / "w.pt", tmp_path / "mark"
    if write == "pickle":
        path.write_bytes(pickle.dumps({"a": Harmful(str(mark))}))
    else:
        torch.save(small() if write == "model" else {"a": Harmful(str(mark))}, path)
    with pytest.raises(WeightsError, match="Python objects, which could run code, and is refused"):
        read_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.bin"])
@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_a_file_that_cannot_be_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights: .* as weights|weights: .* is refused"):
        read_weights(tmp_path / name)


def test_a_file_that_was_cut_off(tmp_path):
    torch.save(small().state_dict(), tmp_path / "whole.pt")
    (tmp_path / "w.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:700])
    with pytest.raises(WeightsError, match=r"cannot read .*w.pt as weights"):
        read_weights(tmp_path / "w.pt")


def test_a_torchscript_archive(tmp_path):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(nn.ReLU(), torch.zeros(1)), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"cannot read .* as weights .*TorchScript"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("held", [[torch.zeros(1)], {}, {"a": 1}, torch.zeros(2), {"state_dict": {"a": "b"}}])
def test_a_file_that_holds_something_else(tmp_path, held):
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"weights: expected a dictionary of tensors in .*w.pt, got"):
        read_weights(tmp_path / "w.pt")
