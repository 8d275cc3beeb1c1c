"""A user's own feature network: wrapped rightly, or refused with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quadrat import storage
from quadrat.backbones import FeatureGraph, Given, feature_graph, foreign
from quadrat.backbones.table import IMAGENET_MEAN, IMAGENET_STD
from quadrat.errors import BackboneError, StorageError

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(0, 0.2, (5, 3, 3, 3)).astype(np.float32)
CHIPS = RNG.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
FLOAT, HALF, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
Shape = Sequence[int | str | None]


def network(
    shape: Shape = ("batch", 3, 8, 8),
    kind: int = FLOAT,
    *,
    flat: bool = True,
    out: Shape | None = None,
    opset: int = 17,
) -> Any:
    """A convolution and a rectifier, named as awkwardly as can be."""
    made = [
        helper.make_node("Conv", ["planes", "kernel"], ["chips"], "chips"),
        helper.make_node("Relu", ["chips"], ["features"], "features"),
    ]
    if flat:
        made.append(helper.make_node("GlobalAveragePool", ["features"], ["pooled"]))
        made.append(helper.make_node("Flatten", ["pooled"], ["out"]))
    else:
        made.append(helper.make_node("Identity", ["features"], ["out"]))
    typed = KERNEL.astype(np.float16 if kind == HALF else np.float32)
    graph = helper.make_graph(
        made,
        "mine",
        [helper.make_tensor_value_info("planes", kind, shape)],
        [
            helper.make_tensor_value_info(
                "out", kind, out or (["batch", 5] if flat else ["batch", 5, None, None])
            )
        ],
        [numpy_helper.from_array(typed, "kernel")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def with_input(model: Any, shape: Shape, kind: int, *nodes: Any) -> Any:
    """The same network behind other nodes, which read `raw`."""
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("raw", kind, shape))
    behind = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *behind])
    return model


def last_axis(model: Any, kind: int = FLOAT) -> Any:
    turn = helper.make_node("Transpose", ["raw"], ["planes"], perm=[0, 3, 1, 2])
    return with_input(model, ("batch", 8, 8, 3), kind, turn)


def truth(chips: np.ndarray, mean: Any = IMAGENET_MEAN, std: Any = IMAGENET_STD) -> np.ndarray:
    """The same network in numpy."""
    x = ((chips - np.asarray(mean)) / np.asarray(std)).transpose(0, 3, 1, 2)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("nchwij,ocij->nohw", windows, KERNEL), 0).mean((2, 3))


GIVEN = Given(mean=IMAGENET_MEAN, std=IMAGENET_STD, range=(0, 255))


def opened(path: str, **options: Any) -> FeatureGraph:
    return feature_graph(path, given=options.pop("given", GIVEN), **options)


def run(graph: FeatureGraph, chips: np.ndarray = CHIPS) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["features"], {"chips": chips})[0])


@pytest.fixture
def save(tmp_path: Path) -> Any:
    def write(model: Any, name: str = "mine.onnx") -> str:
        path = tmp_path / name
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return str(path)

    return write


def test_float_planes(save: Any) -> None:
    path = save(network())
    graph = opened(path)
    assert (graph.name, graph.size_px, graph.dim, graph.any_size) == ("mine", 8, 5, False)
    assert (graph.mean, graph.std, graph.licence) == (IMAGENET_MEAN, IMAGENET_STD, "")
    assert graph.weights_sha256 == storage.digest_file(path)
    np.testing.assert_allclose(run(graph), truth(CHIPS), atol=1e-5)
    np.testing.assert_allclose(run(graph, CHIPS[:1]), truth(CHIPS[:1]), atol=1e-5)


def test_float_with_channels_last(save: Any) -> None:
    graph = opened(save(last_axis(network())))
    np.testing.assert_allclose(run(graph), truth(CHIPS), atol=1e-5)


def test_mean_and_deviation_as_given(save: Any) -> None:
    mean, std = (10.0, 20.0, 30.0), (255.0, 128.0, 64.0)
    graph = opened(save(network()), given=Given(mean, std, (0, 255)))
    assert (graph.mean, graph.std) == (mean, std)
    np.testing.assert_allclose(run(graph), truth(CHIPS, mean, std), atol=1e-5)
    # in the units of the network: 0 to 1, one number for all channels; then -1 to 1
    graph = opened(save(network()), given=Given((0.5,), (0.25,), (0, 1)))
    np.testing.assert_allclose(run(graph), truth(CHIPS / 255, 0.5, 0.25), atol=1e-4)
    graph = opened(save(network()), given=Given((0.0,), (1.0,), (-1, 1)))
    np.testing.assert_allclose(run(graph), truth(CHIPS / 127.5 - 1, 0, 1), atol=1e-4)


def with_notes(model: Any, **notes: str) -> Any:
    helper.set_model_props(model, notes)
    return model


def test_a_files_own_metadata_are_used(save: Any) -> None:
    notes = {"mean": "0.1,0.2,0.3", "std": "[0.5, 0.6, 0.7]", "range": "0,1", "licence": "MIT"}
    graph = feature_graph(save(with_notes(network(), **notes, pixel_m="0.6")))
    assert (graph.licence, graph.pixel_m) == ("MIT", 0.6)
    assert graph.mean == pytest.approx((25.5, 51, 76.5))
    assert graph.std == pytest.approx((127.5, 153, 178.5))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    np.testing.assert_allclose(run(graph), truth(CHIPS / 255, mean, std), atol=1e-4)
    said = opened(save(with_notes(network(), **notes)))
    np.testing.assert_allclose(run(said), truth(CHIPS), atol=1e-5)
    with pytest.raises(
        BackboneError, match=r"the mean in mine\.onnx's metadata is no numbers: red"
    ):
        feature_graph(save(with_notes(network(), **notes | {"mean": "red"})))


def test_a_normalisation_that_nothing_says_is_asked_for(save: Any) -> None:
    message = "does not say how bytes become these; say it with --mean, --std and --range"
    for model in (network(), with_notes(network(), mean="0", std="1")):
        with pytest.raises(BackboneError, match=message):
            feature_graph(save(model))
    with pytest.raises(BackboneError, match="--mean, --std and --range LOW,HIGH together"):
        opened(save(network()), given=Given(mean=(0.0,), std=(1.0,)))


def test_a_licence_that_forbids_commerce_has_to_be_accepted(save: Any) -> None:
    path = save(with_notes(network(), mean="0", std="1", range="0,1", license="cc-by-nc-4.0"))
    with pytest.raises(BackboneError, match=r"cc-by-nc-4\.0, which forbids .*--accept-licence"):
        feature_graph(path)
    assert feature_graph(path, given=Given(accept_licence=True)).licence == "cc-by-nc-4.0"


def tokens(prefix: int = 1) -> Any:
    """Six channels' maps as 64 tokens of 5 numbers, which do without the normalisation."""
    model = network(flat=False)
    graph = model.graph
    graph.node.append(helper.make_node("Flatten", ["features"], ["flat"], axis=2))
    graph.node[-1].op_type = "Reshape"
    del graph.node[-1].attribute[:]
    graph.node[-1].input.append("shape")
    graph.initializer.append(numpy_helper.from_array(np.array([0, 5, -1], np.int64), "shape"))
    graph.node.append(helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("tokens", FLOAT, ("n", None, 5)))
    return with_notes(model, prefix_tokens=str(prefix))


def test_tokens_are_pooled_as_the_user_or_the_file_says(save: Any) -> None:
    path = save(tokens())
    with pytest.raises(BackboneError, match=r"gives 36 tokens a tile; say with --pooling token"):
        opened(path)
    x = ((CHIPS - np.asarray(IMAGENET_MEAN)) / np.asarray(IMAGENET_STD)).transpose(0, 3, 1, 2)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    rows = np.maximum(np.einsum("nchwij,ocij->nohw", windows, KERNEL), 0).reshape(len(x), 5, -1)
    first, mean = rows[..., 0], rows[..., 1:].mean(-1)
    for pooling, truth in (
        ("token", first), ("mean", mean), ("both", np.concatenate([first, mean], 1)),
    ):  # fmt: skip
        graph = opened(path, given=dataclasses.replace(GIVEN, pooling=pooling))
        assert (graph.pooling, graph.dim) == (pooling, truth.shape[1])
        np.testing.assert_allclose(run(graph), truth, atol=1e-5)
    noted = tokens()
    noted.metadata_props.add(key="pooling", value="mean")
    np.testing.assert_allclose(run(opened(save(noted))), mean, atol=1e-5)
    with pytest.raises(BackboneError, match="one row a tile; leave --pooling out"):
        opened(save(network()), given=dataclasses.replace(GIVEN, pooling="mean"))


def test_half_precision(save: Any) -> None:
    graph = opened(save(network(kind=HALF)))
    found = run(graph)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth(CHIPS), atol=2e-2)


def test_uint8_is_taken_as_it_is(save: Any) -> None:
    cast = helper.make_node("Cast", ["turned"], ["planes"], to=FLOAT)
    turn = helper.make_node("Transpose", ["raw"], ["turned"], perm=[0, 3, 1, 2])
    graph = feature_graph(save(with_input(network(), ("batch", 8, 8, 3), UINT8, turn, cast)))
    assert graph.mean is None and graph.std is None
    np.testing.assert_allclose(run(graph), truth(CHIPS, 0, 1), rtol=1e-4)


def test_uint8_planes(save: Any) -> None:
    node = helper.make_node("Cast", ["raw"], ["planes"], to=FLOAT)
    graph = feature_graph(save(with_input(network(), ("batch", 3, 8, 8), UINT8, node)))
    np.testing.assert_allclose(run(graph), truth(CHIPS, 0, 1), rtol=1e-4)


def test_a_map_of_features_is_averaged(save: Any) -> None:
    graph = opened(save(network(flat=False)))
    assert graph.dim == 5
    np.testing.assert_allclose(run(graph), truth(CHIPS), atol=1e-5)


def test_an_open_size(save: Any) -> None:
    path = save(network(("batch", 3, "h", "w")))
    with pytest.raises(BackboneError, match="leaves its tile size open"):
        opened(path)
    graph = opened(path, size_px=16)
    assert graph.size_px == 16 and graph.any_size
    wide = RNG.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(run(graph, wide), truth(wide), atol=1e-5)
    np.testing.assert_allclose(run(graph), truth(CHIPS), atol=1e-5)


def test_the_other_runtime_takes_it(save: Any) -> None:
    openvino = pytest.importorskip("openvino")
    graph = opened(save(network()))
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(graph.onnx), "CPU", options)
    np.testing.assert_allclose(compiled([CHIPS])[0], truth(CHIPS), atol=1e-5)


def test_flipped_bytes_never_escape() -> None:
    data = network().SerializeToString()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        bad = bytearray(data)
        for place in rng.integers(0, len(bad), rng.integers(1, 4)):
            bad[place] = rng.integers(0, 256)
        try:
            foreign.wrap(bytes(bad), "x", size_px=8, given=GIVEN)
        except BackboneError:
            refused += 1
    assert 0 < refused < 1000


# ---- refused ---------------------------------------------------------------------------------


def two_inputs() -> Any:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("more", FLOAT, [1]))
    return model


def two_outputs() -> Any:
    model = network()
    model.graph.output.append(helper.make_tensor_value_info("pooled", FLOAT, ["batch", 5, 1, 1]))
    return model


def foreign_operator() -> Any:
    model = network()
    model.graph.node[1].domain = "evil.ops"
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))
    return model


def foreign_operator_in_a_branch() -> Any:
    hidden = helper.make_node("Spy", [], ["y"], domain="evil.ops")
    out = [helper.make_tensor_value_info("y", FLOAT, None)]
    branch = helper.make_graph([hidden], "branch", [], out)
    model = network()
    yes = numpy_helper.from_array(np.asarray(True), "yes")
    model.graph.initializer.append(yes)
    choose = helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch)
    model.graph.node.append(choose)
    return model


def own_function() -> Any:
    model = network()
    node = helper.make_node("Relu", ["x"], ["y"])
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("", "Mine", ["x"], ["y"], [node], imports))
    return model


def three_axes() -> Any:
    shape = numpy_helper.from_array(np.asarray([0, 5, -1]), "shape")
    model = network(flat=False, out=["batch", 5, None])
    model.graph.initializer.append(shape)
    model.graph.node[-1].CopyFrom(helper.make_node("Reshape", ["features", "shape"], ["out"]))
    return model


def whole_numbers() -> Any:
    model = network()
    model.graph.node[-1].output[0] = "flat"
    model.graph.node.append(helper.make_node("Cast", ["flat"], ["out"], to=TensorProto.INT64))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def open_features() -> Any:
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    keep = helper.make_node("NonZero", ["flat"], ["places"])
    model.graph.node[-1].output[0] = "flat"
    model.graph.node.extend([keep, helper.make_node("Cast", ["places"], ["out"], to=FLOAT)])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", FLOAT, [2, None]))
    return model


def unknown_operator() -> Any:
    model = network()
    model.graph.node[1].op_type = "Relux"
    return model


def loose_end() -> Any:
    model = network()
    model.graph.node[1].input[0] = "nowhere"
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "is not an ONNX network"),
        (b"\x00not protobuf at all", "is not an ONNX network"),
        (network().SerializeToString()[:-40], "is not a"),
        (two_inputs(), "has 2 inputs"),
        (two_outputs(), "has 2 outputs"),
        (foreign_operator(), "needs operators of evil.ops"),
        (foreign_operator_in_a_branch(), "needs the operator If"),
        (own_function(), "defines functions of its own"),
        (three_axes(), "gives 5 tokens a tile; say with --pooling"),
        (whole_numbers(), "is not float32"),
        (open_features(), "needs the operator NonZero"),
        (unknown_operator(), "needs the operator Relux"),
        (loose_end(), "not a sound ONNX network"),
        (network((1, 3, 8, 8)), "exactly 1 tiles at once"),
        (network(("n", 3, 8, 16)), "not square"),
        (network(("n", None, 8, 8)), "no axis of 3 channels"),
        (network(("n", 3, 8, 3)), "no axis of 3 channels"),
        (network(opset=8), "has opset 8"),
        (network(kind=TensorProto.DOUBLE), "does not take images"),
    ],
)
def test_refused(save: Any, model: Any, message: str) -> None:
    with pytest.raises(BackboneError, match=message) as caught:
        opened(save(model))
    text = str(caught.value)
    assert "mine.onnx" in text and "\n" not in text and len(text) < 400


@pytest.mark.parametrize("where", ["initializer", "attribute", "branch"])
def test_data_of_other_files_is_not_read(save: Any, tmp_path: Path, where: str) -> None:
    secret = tmp_path.parent / "secret.bin"
    secret.write_bytes(KERNEL.tobytes())
    tensor = onnx.TensorProto(data_type=FLOAT, dims=KERNEL.shape, name="kernel")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    model = network()
    if where == "initializer":
        model.graph.initializer[0].CopyFrom(tensor)
    else:
        constant = helper.make_node("Constant", [], ["kernel"])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)
        if where == "attribute":
            del model.graph.initializer[:]
            model.graph.node.insert(0, constant)
        else:
            out = [helper.make_tensor_value_info("kernel", FLOAT, KERNEL.shape)]
            branch = helper.make_graph([constant], "b", [], out)
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
            model.graph.node.append(
                helper.make_node("If", ["yes"], ["other"], then_branch=branch, else_branch=branch)
            )
    says = "the operator If" if where == "branch" else "keeps weights in another file"
    with pytest.raises(BackboneError, match=says):
        opened(save(model))
    secret.unlink()


def test_options_without_use(save: Any) -> None:
    path = save(network())
    with pytest.raises(BackboneError, match="carries its weights"):
        feature_graph(path, "weights.pth")
    with pytest.raises(BackboneError, match="takes tiles of 8 px, not 9"):
        feature_graph(path, size_px=9)
    with pytest.raises(BackboneError, match="must be above 0"):
        opened(path, given=Given((0.0,), (1.0, 0.0, 1.0), (0, 1)))
    node = helper.make_node("Cast", ["raw"], ["planes"], to=FLOAT)
    bytes_in = save(with_input(network(), ("batch", 3, 8, 8), UINT8, node), "bytes.onnx")
    with pytest.raises(BackboneError, match="takes uint8 and so normalises by itself"):
        opened(bytes_in)
    with pytest.raises(StorageError, match="does not exist"):
        feature_graph("nowhere/absent.onnx")
