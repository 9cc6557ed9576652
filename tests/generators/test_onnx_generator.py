"""ONNX files as generators: what they say, what is given, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from closedloop.errors import InvalidArgumentError, WeightsError
from closedloop.generators import OnnxGenerator, load_generator
from closedloop.generators.onnx_generator import BATCH, METADATA
from closedloop.testing import GeneratorContract


def write(path, code=("n", 12), shape=(-1, 3, 2, 2), operation="Tanh", kind=TensorProto.FLOAT, metadata=None):
    """A graph that reshapes codes to images after an operation."""
    entry = helper.make_tensor_value_info("codes", kind, list(code))
    out = helper.make_tensor_value_info("images", kind, None)
    size = helper.make_tensor("size", TensorProto.INT64, [len(shape)], shape)
    nodes = [helper.make_node(operation, ["codes"], ["x"]), helper.make_node("Reshape", ["x", "size"], ["images"])]
    graph = helper.make_graph(nodes, "generator", [entry], [out], [size])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {METADATA: metadata})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("onnx") / "plain.onnx")


@pytest.fixture
def contract(file, request):
    request.cls.path = file


@pytest.mark.usefixtures("contract")
class TestOnnxContract(GeneratorContract):
    def make(self):
        return OnnxGenerator(self.path, scale=0.5, resolution=3)

    def red_code(self):
        return np.repeat([1.0, -1.0, -1.0], 4)


@pytest.mark.parametrize("name", ["onnx", "torch"])  # the second is of older recipes
def test_values_of_tanh_become_0_to_1(file, name):
    codes = np.random.default_rng(0).standard_normal((BATCH + 3, 12))
    pictures = load_generator(f"{name}:{file}")(codes)
    np.testing.assert_allclose(pictures, (np.tanh(codes).reshape(-1, 3, 2, 2) + 1) / 2, atol=1e-6)


def test_options_of_the_space(file):
    bounded = OnnxGenerator(file, low=-3.0, high=3.0, scale=3**0.5, output_range=(-2, 2))
    assert (bounded.space.dim, bounded.space.low, bounded.space.high) == (12, -3, 3)
    np.testing.assert_allclose(bounded(np.zeros((1, 12))), 0.5)
    np.testing.assert_allclose(bounded(np.full((1, 12), 3.0)), (np.tanh(3) + 2) / 4, atol=1e-6)


@pytest.mark.parametrize("code", [(1, 12, 1), (4, 12, 1)])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_fixed_batches_and_other_shapes_and_types(tmp_path, code, kind):
    path = write(tmp_path / "g.onnx", code=code, kind=kind)
    codes = np.random.default_rng(0).standard_normal((6, 12))
    np.testing.assert_allclose(OnnxGenerator(path)(codes), (np.tanh(codes).reshape(-1, 3, 2, 2) + 1) / 2, atol=1e-6)


def test_grey_images(tmp_path):
    path = write(tmp_path / "g.onnx", shape=(-1, 1, 2, 2), code=("n", 4))
    pictures = OnnxGenerator(path)(np.array([[0.0, 1.0, 2.0, -1.0]]))
    assert pictures.shape == (1, 3, 2, 2)
    assert (pictures == pictures[:, :1]).all()


def test_a_graph_without_a_length_takes_the_given_one(tmp_path):
    path = write(tmp_path / "g.onnx", code=("n", "d"))
    assert OnnxGenerator(path, dim=12).space.dim == 12
    with pytest.raises(InvalidArgumentError, match=r"dim: expected the length of the codes of .*got None"):
        OnnxGenerator(path)
    with pytest.raises(InvalidArgumentError, match=r"cannot be run on codes of length 7 \("):
        OnnxGenerator(path, dim=7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": ("n", 7), "shape": (-1, 7)}, r"expected images of shape .*, got \(3, 7\)"),
        ({"operation": "Exp"}, r"output_range: expected values from -1 \(black\) to 1 \(white\), got"),
        ({"code": (12,)}, r"expected one floating-point input of codes \(n, …\) in .*, got codes \[12\]"),
    ],
)
def test_graphs_that_are_no_generator(tmp_path, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        OnnxGenerator(write(tmp_path / "g.onnx", **options))


def test_a_length_that_does_not_fit(file):
    with pytest.raises(InvalidArgumentError, match=r"dim: expected the length of the codes of .* \['n', 12\].*got 11"):
        OnnxGenerator(file, dim=11)


@pytest.mark.parametrize("name", ["g.pt2", "g.pt", "g.pth"])
def test_archives_of_torch_are_refused_unread(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(WeightsError, match=r"can hold code that runs when it is read, and is refused.*save\(FILE\)"):
        load_generator(f"onnx:{tmp_path / name}")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(100)])
def test_files_that_cannot_be_read(tmp_path, content):
    (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"onnx: cannot read .*g\.onnx as an ONNX model"):
        OnnxGenerator(tmp_path / "g.onnx")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(WeightsError, match=r"expected a file, got .*nowhere\.onnx, which does not exist"):
        OnnxGenerator(tmp_path / "nowhere.onnx")
    with pytest.raises(WeightsError, match="which is a folder"):
        OnnxGenerator(tmp_path)


@pytest.mark.parametrize("metadata", ["{", '{"name": "x"}', "[1]", '{"name": "x", "space": 3}'])
def test_metadata_that_cannot_be_read(tmp_path, metadata):
    with pytest.raises(WeightsError, match="names its codes in a way that cannot be read"):
        OnnxGenerator(write(tmp_path / "g.onnx", metadata=metadata))
