"""Image–text models from local files: tiny ones with random weights, written to a folder; and any adapter."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, MissingExtraError, UnknownNameError, WeightsError
from closedloop.objectives import Unit, evaluate, parse_objective
from closedloop.objectives.captions.objective import CaptionObjective, load_clip, load_open_clip

torch = pytest.importorskip("torch")
from closedloop.networks.torchvision import import_torchvision  # noqa: E402
from closedloop.objectives.captions.clip import caption_features, similarity  # noqa: E402

IMAGES = np.random.default_rng(0).uniform(size=(3, 3, 20, 20)).astype(np.float32)
RESPONSES = np.zeros((3, 2))
ARCHITECTURE = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


class Colours:
    """Images and texts in the space of colours: features are the mean red, green and blue."""

    words = ("red", "green", "blue")

    def image_features(self, images):
        return images.mean((2, 3))

    def text_features(self, texts):
        return torch.tensor([[float(word in text) for word in self.words] for text in texts])


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    import_torchvision()
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "dog</w>", "cat</w>", *"adogct", "g</w>", "t</w>", "do", "ca"]
    config = transformers.CLIPConfig(
        text_config={
            **sizes, "vocab_size": len(words), "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1,
        },
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nd o\ndo g</w>\nc a\nca t</w>\n")
    colours = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "image_processor_type": "CLIPImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder


@pytest.fixture(scope="module")
def open_clip_file(tmp_path_factory):
    import_torchvision()
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny-for-tests.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(folder / "tiny-for-tests.json")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.save(open_clip.create_model("tiny-for-tests", load_weights=False).state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt"


def check_model(objective):
    """Numpy equals torch, in any batch; a gradient reaches the images and follows them; the text reads back."""
    scores = evaluate(objective, RESPONSES, IMAGES)
    assert scores.dtype == np.float64
    assert (np.abs(scores) <= 1).all()
    assert len(set(scores.round(6).tolist())) == 3
    images = torch.tensor(IMAGES, requires_grad=True)
    kept = evaluate(objective, torch.zeros(3, 2), images)
    np.testing.assert_allclose(kept.detach().numpy(), scores, atol=1e-5)
    (gradient,) = torch.autograd.grad(kept.sum(), images)
    step = 0.05 * gradient / gradient.norm()
    assert (evaluate(objective, torch.zeros(3, 2), images + step).sum() - kept.sum()).item() > 0
    again = parse_objective(objective.describe())
    np.testing.assert_array_equal(evaluate(again, RESPONSES, IMAGES), scores)


def test_an_adapter_of_the_users():
    images = np.zeros((2, 3, 4, 4), np.float32)
    images[0, 0], images[1, 2] = 0.7, 1
    objective = CaptionObjective("something red", model=Colours())
    assert objective.needs_images
    np.testing.assert_allclose(evaluate(objective, np.zeros((2, 1)), images), [1, 0], atol=1e-6)
    both = CaptionObjective("red and blue", model=Colours()) + 2 * Unit(0)
    np.testing.assert_allclose(evaluate(both, np.ones((2, 1)), images), 2 + np.sqrt([0.5, 0.5]))
    many = np.concatenate([images] * 20)
    np.testing.assert_allclose(similarity(Colours(), many, caption_features(Colours(), "red")), [1, 0] * 20, atol=1e-6)
    assert similarity(Colours(), images[:0], caption_features(Colours(), "red")).shape == (0,)


def test_lost_presentations_have_no_likeness():
    objective = CaptionObjective("something red", model=Colours())
    lost = np.array([[0.0], [np.nan], [0.0]])
    assert np.flatnonzero(np.isnan(evaluate(objective, lost, IMAGES))).tolist() == [1]


def test_gradients_of_an_adapter():
    images = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    objective = CaptionObjective("green", model=Colours())
    (gradient,) = torch.autograd.grad(evaluate(objective, torch.zeros(1, 1), images).sum(), images)
    assert (gradient[0].mean((1, 2)) > 0).tolist() == [False, True, False]


def test_a_model_without_a_name_cannot_be_read_back():
    text = CaptionObjective("a dog", model=Colours()).describe()
    assert text == 'caption("a dog", model="Colours")'
    with pytest.raises(InvalidArgumentError, match="'Colours' of a caption was a Python object, which no text can hol"):
        parse_objective(text)


@pytest.mark.parametrize("features", [torch.zeros(1), torch.zeros(2, 3), [[1.0]]])
def test_bad_features(features):
    class Bad(Colours):
        def text_features(self, texts):
            return features

    with pytest.raises(InvalidArgumentError, match=r"model.text_features: expected a tensor of shape \(1, d\), got"):
        evaluate(CaptionObjective("a", model=Bad()), RESPONSES, IMAGES)


def test_a_clip_folder(clip_folder):
    check_model(CaptionObjective("a dog", model=load_clip(clip_folder)))
    assert CaptionObjective("a", model=load_clip(clip_folder)).describe() == f'clip("a", "{clip_folder}")'


def test_a_clip_folder_is_the_model_of_the_library(clip_folder):
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel.from_pretrained(clip_folder)
    tokens = transformers.CLIPTokenizerFast.from_pretrained(clip_folder)(["a dog"], return_tensors="pt")
    pixels = torch.full((1, 3, 16, 16), 0.75)
    with torch.no_grad():
        both = model(pixel_values=(pixels - 0.5) / 0.25, **tokens)
    expected = nn_cosine(both.image_embeds, both.text_embeds)
    objective = CaptionObjective("a dog", model=load_clip(clip_folder))
    assert evaluate(objective, RESPONSES[:1], pixels.numpy())[0] == pytest.approx(expected, abs=1e-5)
    assert evaluate(objective, RESPONSES[:1], np.full((1, 3, 40, 40), 0.75, np.float32))[0] == pytest.approx(
        expected, abs=1e-4
    )


def nn_cosine(a, b):
    return torch.nn.functional.cosine_similarity(a, b).item()


def test_an_open_clip_file(open_clip_file):
    objective = CaptionObjective("a dog", model=load_open_clip("tiny-for-tests", open_clip_file))
    check_model(objective)
    assert objective.describe() == f'openclip("a dog", "tiny-for-tests", "{open_clip_file}")'


def test_bad_open_clip_models(open_clip_file, tmp_path):
    with pytest.raises(UnknownNameError, match=r"open_clip has no 'ViT-B-23'. Did you mean 'ViT-B-32"):
        load_open_clip("ViT-B-23", open_clip_file)
    with pytest.raises(InvalidArgumentError, match="'roberta-ViT-B-32' takes its texts from files of Hugging Face"):
        load_open_clip("roberta-ViT-B-32", open_clip_file)
    with pytest.raises(WeightsError, match="does not exist"):
        load_open_clip("tiny-for-tests", tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(print))
    with pytest.raises(WeightsError, match=r"weights: "):
        load_open_clip("tiny-for-tests", tmp_path / "bad.pt")


def test_bad_clip_folders(clip_folder, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"folder: expected one with config.json and model.safetensors, got"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(WeightsError, match="as a CLIP model"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("module", "load", "extra"),
    [("transformers", load_clip, "clip"), ("open_clip", lambda f: load_open_clip("ViT-B-32", f), "open-clip")],
)
def test_missing_extras_are_named(monkeypatch, tmp_path, module, load, extra):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingExtraError, match=rf"pip install 'closedloop\[{extra}\]'"):
        load(tmp_path)
