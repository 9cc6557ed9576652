import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from closedloop.errors import (
    CompanyWarning,
    InvalidArgumentError,
    SubjectError,
    SubjectWarning,
    UnknownNameError,
    WeightsError,
)
from closedloop.interfaces import Described, Fingerprinted
from closedloop.subjects import OnnxSubject, TorchSubject, load_subject, onnx_file
from closedloop.testing import SubjectContract

SIZE = 12
COLORS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def seeded() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval()


def export(model: nn.Module, path: Path, batch: int | None = None) -> Path:
    """Writes a network for a fixed batch, or for any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(batch or 2, 3, SIZE, SIZE),), path, dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes=None if batch else {"x": {0: "n"}, "y": {0: "n"}}, opset_version=17,
        )  # fmt: skip
    return path


def write(path: Path, nodes, shape, *, element=TensorProto.FLOAT, more=(), constants=()) -> Path:
    """Writes a graph with the input x."""
    entries = [helper.make_tensor_value_info("x", element, shape)]
    entries += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in more]
    outputs = [helper.make_tensor_value_info("y", element, None)]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    graph = helper.make_graph([helper.make_node(*node) for node in nodes], "net", entries, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory) -> Path:
    return export(seeded(), tmp_path_factory.mktemp("onnx") / "dynamic.onnx")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> Path:
    return export(seeded(), tmp_path_factory.mktemp("onnx") / "fixed.onnx", batch=3)


def images(n: int = 5, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).random((n, 3, size, size), dtype=np.float32)


def inner(path: Path, kind: str) -> str:
    """The name of the output of the first node of a kind."""
    return next(node.output[0] for node in onnx.load(path).graph.node if node.op_type == kind)


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class TestContract(SubjectContract):
    @pytest.fixture(autouse=True)
    def file(self, dynamic):
        self.path = dynamic

    def make(self) -> OnnxSubject:
        return OnnxSubject(self.path, **COLORS)


class TestContractFixedBatch(TestContract):
    @pytest.fixture(autouse=True)
    def file(self, fixed):
        self.path = fixed

    def make(self) -> OnnxSubject:
        return OnnxSubject(self.path, layer=inner(self.path, "Relu"), units="full")


@pytest.mark.parametrize("which", ["dynamic", "fixed"])
@pytest.mark.parametrize("size", [SIZE, 20])
@pytest.mark.parametrize("n", [1, 3, 7])
def test_it_agrees_with_the_network_it_came_from(request, which, size, n):
    path = request.getfixturevalue(which)
    subject = OnnxSubject(path, **COLORS)
    expected = TorchSubject(seeded(), resolution=SIZE, engine="eager", **COLORS).record(images(n, size))
    assert subject.record(images(n, size)).dtype == np.float32
    close(subject.record(images(n, size)), expected)


@pytest.mark.parametrize("which", ["dynamic", "fixed"])
def test_inner_tensors(request, which):
    path = request.getfixturevalue(which)
    subject = OnnxSubject(path, layer=inner(path, "Relu"), units=[1, (2, 3, 4)], **COLORS)
    eager = TorchSubject(seeded(), layer="relu", units=[1, (2, 3, 4)], resolution=SIZE, engine="eager", **COLORS)
    close(subject.record(images()), eager.record(images()))


def test_many_images_are_shown_in_batches(dynamic, monkeypatch):
    subject = OnnxSubject(dynamic)
    whole = subject.record(images(7))
    sizes, run = [], subject._run
    monkeypatch.setattr(subject, "_run", lambda batch: (sizes.append(len(batch)), run(batch))[1])
    monkeypatch.setattr(onnx_file, "BATCH", 3)
    close(subject.record(images(7)), whole)
    assert sizes == [3, 3, 1]


def test_units_and_names(dynamic):
    layer = inner(dynamic, "Relu")
    subject = OnnxSubject(dynamic, layer=layer, units=[1, (2, 3, 4)])
    assert subject.units.neuroid_id == (f"dynamic.{layer}.1@5,5", f"dynamic.{layer}.2@3,4")
    assert subject.units.coords == {
        "layer": (layer, layer), "channel": (1, 2), "y": (5, 3), "x": (5, 4), "position": ("central", "given"),
    }  # fmt: skip
    assert OnnxSubject(dynamic, name="mine").units.neuroid_id[0] == "mine.output.0"
    assert subject.engine == "onnx"
    assert subject.resolution == SIZE


def test_its_recipe_makes_it_again(dynamic):
    subject = OnnxSubject(dynamic, layer=inner(dynamic, "Relu"), units=(2, 3, 4), seed=3, **COLORS)
    assert isinstance(subject, Described)
    assert subject.recipe["units"] == "(2,3,4)"
    again = load_subject(**subject.recipe)
    assert again.units == subject.units
    assert np.array_equal(again.record(images()), subject.record(images()))
    assert again.recipe == subject.recipe


def test_a_graph_that_does_not_say_its_size(tmp_path):
    path = write(tmp_path / "net.onnx", [("GlobalAveragePool", ["x"], ["y"])], ["n", "c", "h", "w"])
    assert OnnxSubject(path).resolution == 224
    subject = OnnxSubject(path, resolution=10)
    assert subject.resolution == 10
    close(subject.record(images(2, 10)), images(2, 10).mean((2, 3)))


@pytest.mark.parametrize(
    ("element", "tolerance"), [(TensorProto.DOUBLE, 1e-6), (TensorProto.FLOAT16, 2e-3), (TensorProto.FLOAT, 1e-6)]
)
def test_other_floating_point_types(tmp_path, element, tolerance):
    path = write(tmp_path / "net.onnx", [("Identity", ["x"], ["y"])], ["n", 3, 8, 8], element=element)
    recorded = OnnxSubject(path, units=(1, 2, 3)).record(images(2, 8))
    assert recorded.dtype == np.float32
    np.testing.assert_allclose(recorded[:, 0], images(2, 8)[:, 1, 2, 3], atol=tolerance)


def test_threads_are_those_of_torch(dynamic, monkeypatch):
    import onnxruntime

    seen = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a: (seen.append(a[1].intra_op_num_threads), real(*a))[1]
    )
    OnnxSubject(dynamic)
    assert seen == [torch.get_num_threads()]


# Axes, types and company ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [["n", 8, 8, 3], ["n", "h", "w", 3], [None, None, None, 3], ["n", "h", "w", "c"], [2, 8, 8, 3], [1, 8, 8, 3]],
)
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.UINT8])
def test_colours_may_be_the_last_axis(tmp_path, shape, element):
    path = write(tmp_path / "net.onnx", [("Identity", ["x"], ["y"])], shape, element=element)
    subject = OnnxSubject(path, units=[2, (1, 4, 5)], resolution=8)
    recorded = subject.record(images(5, 8))
    tolerance = 0.51 if element == TensorProto.UINT8 else 1e-6
    scale = 255 if element == TensorProto.UINT8 else 1
    np.testing.assert_allclose(recorded[:, 0], scale * images(5, 8)[:, 2, 4, 4], atol=tolerance)
    np.testing.assert_allclose(recorded[:, 1], scale * images(5, 8)[:, 1, 4, 5], atol=tolerance)


def test_the_order_of_axes_that_a_graph_does_not_say_is_tried(tmp_path):
    path = write(tmp_path / "net.onnx", [("MatMul", ["x", "w"], ["y"])], ["n", "a", "b", "d"],
                 constants={"w": np.eye(3, 2, dtype=np.float32)})  # fmt: skip
    subject = OnnxSubject(path, units=[(1, 4, 5)], resolution=8)
    close(subject.record(images(3, 8))[:, 0], images(3, 8)[:, 1, 4, 5])


def test_bytes_are_not_normalized(tmp_path):
    path = write(tmp_path / "net.onnx", [("Identity", ["x"], ["y"])], ["n", 3, 8, 8], element=TensorProto.UINT8)
    with pytest.raises(
        InvalidArgumentError, match=r"mean, std: .*net.onnx takes images as bytes, 0 to 255; leave both"
    ):
        OnnxSubject(path, **COLORS)


COMPANY = {
    "a reshape to one row": [("Reshape", ["p", "row"], ["y"])],
    "a mean over the batch": [("ReduceMean", ["p"], ["m"]), ("Sub", ["p", "m"], ["d"]), ("Add", ["d", "p"], ["y"])],
    "the first for all": [
        ("Gather", ["p", "zero"], ["f"]),
        ("Mul", ["p", "nothing"], ["e"]),
        ("Add", ["f", "e"], ["y"]),
    ],
}


@pytest.mark.parametrize("batch", ["n", 3])
@pytest.mark.parametrize("kind", COMPANY)
def test_a_graph_that_mixes_images_is_shown_one_at_a_time(tmp_path, kind, batch):
    if (kind, batch) == ("a reshape to one row", 3):
        pytest.skip("is refused")
    constants = {"row": np.array([1, -1]), "zero": np.array([0]), "nothing": np.zeros((1, 3, 1, 1), np.float32)}
    path = write(tmp_path / "net.onnx", [("GlobalAveragePool", ["x"], ["p"]), *COMPANY[kind]], [batch, 3, 8, 8],
                 constants=constants)  # fmt: skip
    with pytest.warns(CompanyWarning, match="to one of the images depends on those beside it") as caught:
        subject = OnnxSubject(path, units="all")
    assert caught[0].filename == __file__
    recorded = subject.record(images(5, 8))
    close(np.concatenate([subject.record(image[None]) for image in images(5, 8)]), recorded)


def test_a_batch_that_is_written_into_a_graph_of_several(tmp_path):
    path = write(tmp_path / "net.onnx", [("GlobalAveragePool", ["x"], ["p"]), *COMPANY["a reshape to one row"]],
                 [3, 3, 8, 8], constants={"row": np.array([1, -1])})  # fmt: skip
    with pytest.raises(InvalidArgumentError, match=r"layer: 'output' is not .*: its shape is \(1, 9\) for 3 images"):
        OnnxSubject(path)


def test_a_network_exported_with_its_batch(tmp_path):
    class Baked(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).mean((2, 3)).reshape(1, -1)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Baked().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, 3, SIZE, SIZE),), tmp_path / "net.onnx", dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}}, opset_version=17,
        )  # fmt: skip
    with pytest.warns(CompanyWarning, match="it returns 1 row for 2"):
        subject = OnnxSubject(tmp_path / "net.onnx")
    with torch.no_grad():
        close(subject.record(images(3)), model.conv(torch.from_numpy(images(3))).mean((2, 3)).numpy())


def test_rows_are_counted_whenever_it_records(dynamic, monkeypatch):
    subject = OnnxSubject(dynamic)
    monkeypatch.setattr(subject, "_run", lambda shown: np.zeros((1, 5), np.float32))
    with pytest.raises(SubjectError, match="expected a row for each of 4 images, got 1; the graph mixes the images"):
        subject.record(images(4))


def test_silent_and_random_graphs_are_no_company(tmp_path):
    OnnxSubject(
        write(
            tmp_path / "net.onnx",
            [("Mul", ["x", "nothing"], ["y"])],
            ["n", 3, 8, 8],
            constants={"nothing": np.float32(0)},
        )
    )
    path = write(tmp_path / "random.onnx", [("RandomNormalLike", ["x"], ["y"])], ["n", 3, 8, 8])
    with pytest.warns(SubjectWarning, match="answers the same image in another way when it is asked again"):
        OnnxSubject(path)


def test_a_tensor_that_is_called_output_and_is_not_the_first(tmp_path):
    nodes = [("Relu", ["x"], ["output"]), ("Neg", ["output"], ["y"])]
    path = write(tmp_path / "net.onnx", nodes, ["n", 3, 8, 8])
    with pytest.raises(
        InvalidArgumentError, match=r"'output' stands for the first output of .*, 'y', and another tensor"
    ):
        OnnxSubject(path)
    assert OnnxSubject(path, layer="y", units=[1]).record(images(2, 8)).shape == (2, 1)


def test_the_fingerprint_tells_weights_wherever_they_are(tmp_path, dynamic):
    known = OnnxSubject(dynamic)
    assert isinstance(known, Fingerprinted)
    assert known.fingerprint == OnnxSubject(dynamic, name="other").fingerprint
    assert known.fingerprint != OnnxSubject(dynamic, units=[1]).fingerprint
    model = onnx.load(dynamic)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    outside = OnnxSubject(tmp_path / "net.onnx")
    close(outside.record(images()), known.record(images()))
    before, data = outside.fingerprint, bytearray((tmp_path / "net.data").read_bytes())
    data[3] ^= 1
    (tmp_path / "net.data").write_bytes(data)
    assert OnnxSubject(tmp_path / "net.onnx").fingerprint != before


# Errors ---------------------------------------------------------------------------------------------------------------


def test_a_wrong_tensor_gets_a_suggestion(dynamic):
    layer = inner(dynamic, "Relu")
    with pytest.raises(
        UnknownNameError, match=rf"layer: no tensor '{layer}x' in .*dynamic.onnx\. Did you mean '{layer}'"
    ):
        OnnxSubject(dynamic, layer=f"{layer}x")
    with pytest.raises(UnknownNameError, match="layer: no tensor ''"):
        OnnxSubject(dynamic, layer="")


@pytest.mark.parametrize("content", [b"", b"hello world", bytes(100)])
def test_what_is_not_an_onnx_file(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"onnx: cannot read .*net.onnx as an ONNX model"):
        OnnxSubject(tmp_path / "net.onnx")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match=r"onnx: expected a file, got .*net.onnx, which does not exist\."):
        OnnxSubject(tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match=r"got .*, which is a folder\."):
        OnnxSubject(tmp_path)


def test_a_graph_that_onnx_runtime_cannot_run(tmp_path):
    nodes = [("Identity", ["x"], ["z"]), ("MatMul", ["z", "w"], ["y"])]
    path = write(tmp_path / "net.onnx", nodes, ["n", 3, 8, 8], constants={"w": np.ones((8, 2), np.int64)})
    with pytest.raises(WeightsError, match=r"onnx: ONNX Runtime cannot run .*net.onnx"):
        OnnxSubject(path)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (["n", 12], {}, "expected one input of images"),
        ([3, 8, 8], {}, "expected one input of images"),
        (["n", 2, 3, 8, 8], {}, "expected one input of images"),
        (["n", 3, 8, 8], {"element": TensorProto.INT32}, r"expected one input of images .*tensor\(int32\)"),
        (["n", 3, 8, 8], {"more": ["other"]}, "expected one input of images .* got x .*, other"),
        (["n", 1, 8, 8], {}, "expected square RGB images"),
        (["n", 4, 8, 8], {}, "expected square RGB images"),
        (["n", 8, 8, 1], {}, r"expected square RGB images .* got x \['n', 8, 8, 1\]"),
        (["n", 8, 3, 8], {}, "expected square RGB images"),
        (["n", 8, 9, 3], {}, "expected square RGB images"),
        (["n", 3, 8, 9], {}, "expected square RGB images"),
    ],
)
def test_graphs_for_something_else_than_images(tmp_path, shape, options, message):
    path = write(tmp_path / "net.onnx", [("Identity", ["x"], ["y"])], shape, **options)
    with pytest.raises(InvalidArgumentError, match=f"onnx: {message}"):
        OnnxSubject(path)


def test_a_tensor_without_a_batch_axis(tmp_path):
    nodes = [("Identity", ["x"], ["y"]), ("Shape", ["x"], ["size"])]
    path = write(tmp_path / "net.onnx", nodes, ["n", 3, 8, 8])
    with pytest.raises(InvalidArgumentError, match="layer: 'size' is not a tensor with a batch axis"):
        OnnxSubject(path, layer="size")


def test_a_resolution_that_the_graph_does_not_take(tmp_path, dynamic):
    with pytest.raises(InvalidArgumentError, match=r"resolution: .*dynamic.onnx takes images of 12 pixels, got 224"):
        OnnxSubject(dynamic, resolution=224)
    nodes = [("Flatten", ["x"], ["z"]), ("MatMul", ["z", "w"], ["y"])]
    weights = {"w": np.ones((3 * 8 * 8, 2), np.float32)}
    path = write(tmp_path / "net.onnx", nodes, ["n", 3, "h", "w"], constants=weights)
    with pytest.raises(
        InvalidArgumentError, match=r"cannot be run on an RGB image of 224 x 224 .* the resolution it was made"
    ):
        OnnxSubject(path)
    assert OnnxSubject(path, resolution=8).record(images(2, 8)).shape == (2, 2)


def test_wrong_arguments(dynamic):
    with pytest.raises(InvalidArgumentError, match="units: 5 is out of range"):
        OnnxSubject(dynamic, units=5)
    with pytest.raises(InvalidArgumentError, match="std: expected numbers above 0"):
        OnnxSubject(dynamic, std=(0, 1, 1))
    with pytest.raises(InvalidArgumentError, match="mean: expected three numbers"):
        OnnxSubject(dynamic, mean=(0, 1))
    with pytest.raises(InvalidArgumentError, match="resolution: expected a whole number of pixels"):
        OnnxSubject(dynamic, resolution=(12, 12))


def test_a_file_exported_in_training_is_refused(tmp_path):
    """Its batch normalization takes mean and variance from the images that are shown together."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("BatchNormalization", ["x", *"smbv"], ["y", "mm", "vv"], training_mode=1),
        helper.make_node("Flatten", ["y"], ["flat"]),
    ]
    weights = [helper.make_tensor(name, kind, [3], [1.0, 1.0, 1.0]) for name in "smbv"]
    entry = helper.make_tensor_value_info("x", kind, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("flat", kind, ["n", 192])
    graph = helper.make_graph(nodes, "net", [entry], [out], weights)
    path = tmp_path / "training.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(InvalidArgumentError, match=r"exported while it was trained.*model\.eval"):
        OnnxSubject(path)
