import importlib

import pytest
import torch

from closedloop.networks import torchvision as torchvision_ops
from closedloop.networks.torchvision import import_torchvision


def test_models_are_there():
    assert import_torchvision() is import_torchvision()
    assert import_torchvision().models.resnet18


@pytest.fixture
def importing(monkeypatch):
    """Makes the import of torchvision fail with the given errors, then succeed; the operator has another name."""

    def fail(*errors: Exception) -> list[str]:
        left, tried = list(errors), []

        def import_module(name: str) -> str:
            tried.append(name)
            if left:
                raise left.pop(0)
            return "torchvision"

        monkeypatch.setattr(importlib, "import_module", import_module)
        return tried

    monkeypatch.setattr(torchvision_ops, "_libraries", [])
    monkeypatch.setattr(torchvision_ops, "_SCHEMAS", ("closedloop_test(Tensor boxes) -> Tensor",))
    return fail


def declared() -> bool:
    return hasattr(torch.ops.torchvision, "closedloop_test")


def test_nothing_is_declared_where_the_plain_import_works(importing):
    assert importing() == []
    assert import_torchvision() == "torchvision"
    assert not torchvision_ops._libraries
    assert not declared()


def test_missing_operators_are_declared_once(importing):
    tried = importing(RuntimeError("operator torchvision::nms does not exist"))
    assert import_torchvision() == "torchvision"
    assert declared()
    assert import_torchvision() == "torchvision"
    assert len(torchvision_ops._libraries) == 1
    assert tried == ["torchvision"] * 3
    torchvision_ops._libraries.clear()


@pytest.mark.parametrize("error", [RuntimeError("something else"), ImportError("No module named 'torchvision'")])
def test_other_errors_pass(importing, error):
    importing(error)
    with pytest.raises(type(error), match=str(error)):
        import_torchvision()
    assert not torchvision_ops._libraries
