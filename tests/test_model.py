"""The bundle and the runtime seam, on a network small enough to compute by hand."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quadrat import legend as legends
from quadrat.errors import ModelError, QuadratError
from quadrat.graphs import describe, join_graphs
from quadrat.grid import Grid
from quadrat.model import (
    CLASS_OUTPUTS,
    RUNTIMES,
    ModelInfo,
    compile_network,
    machine,
    open_model,
    runner,
    save_model,
    views,
)
from quadrat.model import choice as choice_module
from quadrat.model import runtime as runtime_module

SIZE = 8
LEGEND = legends.from_names(["reddish", "greenish", "bluish"])
GRID = Grid("EPSG:26917", tile_m=float(SIZE), pixel_m=1.0)


def mean_colour(size: int = SIZE, batch: int | str = "N", opset: int = 13) -> bytes:
    """Chips -> mean of each channel / 255, (N, 3)."""
    nodes = [
        helper.make_node("Cast", ["chips"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["t"], ["p"]),
        helper.make_node("Flatten", ["p"], ["v"]),
        helper.make_node("Div", ["v", "c"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean colour",
        [helper.make_tensor_value_info("chips", TensorProto.UINT8, [batch, size, size, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(np.array([255.0], np.float32), "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def softmax_head(sharpness: float = 10.0, k: int = 3) -> bytes:
    """Features (N, 3) -> softmax(sharpness * features), as a head graph."""
    weights = np.zeros((3, k), np.float32)
    weights[range(min(3, k)), range(min(3, k))] = sharpness
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "v"], ["z"]),
            helper.make_node("Softmax", ["z"], ["y"], axis=-1),
        ],
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", k])],
        [numpy_helper.from_array(weights, "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def expected(chips: np.ndarray, sharpness: float = 10.0) -> np.ndarray:
    z = sharpness * chips.astype(np.float64).mean((1, 2)) / 255.0
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def random_chips(n: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def info(**changes: object) -> ModelInfo:
    values: dict[str, object] = {
        "legend": LEGEND,
        "size_px": SIZE,
        "grid": GRID,
        "backbone": {"name": "mean colour", "weights_sha256": "0" * 64, "licence": "none"},
        "head": {"name": "logistic", "reg": 0.01},
        "metrics": {"accuracy": 0.5, "worst": float("nan")},
        "temperature": 1.5,
    }
    return ModelInfo(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    save_model(str(tmp_path / "model"), join_graphs(mean_colour(), softmax_head()), info())
    return tmp_path / "model"


# --- the seam


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "auto"])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 9])
def test_every_tile_has_its_row(runtime: str, n: int) -> None:
    network = compile_network(
        join_graphs(mean_colour(), softmax_head()), workers=2, runtime=runtime
    )
    chips = random_chips(n)
    got = network(chips)
    assert got.shape == (n, 3) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected(chips), atol=1e-6)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_graph_of_fixed_batch_and_chips_that_are_not_contiguous(runtime: str) -> None:
    network = compile_network(mean_colour(batch=2), runtime=runtime)
    chips = random_chips(5)[:, :, ::-1]
    np.testing.assert_allclose(network(chips), chips.mean((1, 2)) / 255, atol=1e-6)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_many_threads_at_once_get_their_own_rows(runtime: str) -> None:
    network = compile_network(mean_colour(), workers=2, runtime=runtime)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(30):
            chips = random_chips(5, seed=1000 * seed + i)
            if not np.allclose(network(chips), chips.mean((1, 2)) / 255, atol=1e-6):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("chips", "says"),
    [
        (random_chips(1, size=16), "8 x 8 px and was given 16 x 16"),
        (random_chips(1)[:, :4], "given 8 x 4"),
        (random_chips(1).astype(np.float32), "must be uint8"),
        (random_chips(1)[0], "must be uint8 of shape"),
    ],
)
def test_wrong_tiles_are_refused_with_the_cure(chips: np.ndarray, says: str) -> None:
    network = compile_network(mean_colour(), runtime="onnxruntime")
    with pytest.raises(ModelError, match=says):
        network(chips)


def test_bf16_differs_from_float_only_by_its_rounding() -> None:
    network = compile_network(mean_colour(), precision="fp32")
    try:
        rounded = compile_network(mean_colour(), precision="bf16")
    except ModelError as error:
        pytest.skip(str(error))
    assert (rounded.runtime, rounded.precision) == ("openvino", "bf16")
    chips = random_chips(8)
    np.testing.assert_allclose(rounded(chips), network(chips), rtol=2**-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"precision": "fp16", "runtime": "onnxruntime"}, "fp16 is for GPUs"),
        ({"precision": "fp16", "runtime": "openvino"}, "fp16 is for GPUs"),
        ({"runtime": "tensorrt"}, "no runtime 'tensorrt'"),
        ({"workers": 0}, "1 or more"),
        ({"precision": "bf16", "runtime": "onnxruntime"}, "does not compute in bf16"),
    ],
)
def test_unknown_options_are_errors(options: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        compile_network(mean_colour(), **options)  # type: ignore[arg-type]


def test_cuda_without_a_gpu_says_so() -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("there is a GPU here")
    with pytest.raises(ModelError, match="no GPU for ONNX Runtime"):
        compile_network(mean_colour(), runtime="cuda")


def test_the_choice_of_runtime_is_measured_once_and_kept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def measured(*_: object) -> dict[str, float]:
        calls.append(1)
        return {"openvino": 2.0, "onnxruntime": 1.0}

    monkeypatch.setattr(choice_module, "measure", measured)
    assert compile_network(mean_colour()).runtime == "onnxruntime"
    assert compile_network(mean_colour()).runtime == "onnxruntime"
    assert len(calls) == 1
    # another shape of network is another question; other weights are not
    compile_network(mean_colour(size=16))
    assert len(calls) == 2
    kept = list((own_cache / "runtimes").glob("*.json"))
    assert len(kept) == 2
    kept[0].write_text("{")
    kept[1].write_text('{"runtime": "evil"}')
    compile_network(mean_colour())
    assert len(calls) == 3


def test_measuring_times_both_runtimes() -> None:
    proto = onnx.load_model_from_string(mean_colour())
    seconds = choice_module.measure(mean_colour(), describe(proto, "it"), "fp32")
    assert set(seconds) == {"openvino", "onnxruntime"}
    assert all(0 < s < 1 for s in seconds.values())


def test_a_runner_is_compiled_once_in_a_process(bundle: Path) -> None:
    model = open_model(str(bundle))
    assert runner(model, workers=1) is runner(open_model(str(bundle)), workers=1)
    assert runner(model, workers=1) is not runner(model, workers=2)
    np.testing.assert_allclose(runner(model)(random_chips(3)), expected(random_chips(3)), atol=1e-6)


def test_no_more_than_a_few_compiled_networks_are_held(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "KEPT", 2)
    model = open_model(str(bundle))
    first = runner(model, "fp32", workers=1, runtime="onnxruntime")
    for name in ("openvino", "onnxruntime"):
        runner(model, "fp32", workers=2, runtime=name)
    assert len(runtime_module._compiled) == 2
    assert runner(model, "fp32", workers=1, runtime="onnxruntime") is not first


# --- probabilities are probabilities


def last_layer(*nodes: tuple[object, ...], dim: int | str = 3, **constants: object) -> bytes:
    """Chips -> colours (N, 3) in 0..1 -> what `nodes` make of `colours`, as `probabilities`."""
    proto = onnx.load_model_from_string(mean_colour())
    proto.graph.node[-1].output[0] = "colours"
    for op, inputs, output, attributes in nodes:
        proto.graph.node.append(helper.make_node(op, inputs, [output], **attributes))
    for name, value in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", dim])
    )
    return proto.SerializeToString()


SOFT = ("Softmax", ["colours"], "soft", {"axis": -1})
NO_PROBABILITIES = {
    "not a number": (
        last_layer(("Sub", ["colours", "two"], "low", {}), ("Log", ["low"], "probabilities", {}),
                   two=np.float32(2)),
        "gives NaN or infinite numbers for 5 of 5 tiles",
    ),
    "infinite": (
        last_layer(("Div", ["colours", "none"], "probabilities", {}), none=np.float32(0)),
        "gives NaN or infinite",
    ),
    "logits": (
        last_layer(("Mul", ["colours", "ten"], "probabilities", {}), ten=np.float32(-10)),
        "gives what are no probabilities for 5 of 5 tiles",
    ),
    "twice as much": (
        last_layer(SOFT, ("Add", ["soft", "soft"], "probabilities", {})), "sum 2 instead of 1"),
    "sums of 1 with numbers below 0": (
        last_layer(SOFT, ("Mul", ["soft", "three"], "thrice", {}),
                   ("Sub", ["thrice", "part"], "probabilities", {}),
                   three=np.float32(30), part=np.float32(29 / 3)),
        "from -",
    ),
    "softmax over the tiles": (
        last_layer(("Softmax", ["colours"], "probabilities", {"axis": 0})), "no probabilities"),
    "one class too many": (
        last_layer(SOFT, ("Concat", ["soft", "soft"], "six", {"axis": 1}),
                   ("Div", ["six", "two"], "probabilities", {}), dim="K", two=np.float32(2)),
        "gives 6 probabilities and its legend has 3",
    ),
    "one row for all": (
        last_layer(SOFT, ("ReduceMean", ["soft"], "probabilities", {"axes": [0], "keepdims": 1})),
        "instead of one float32 row a tile",
    ),
}  # fmt: skip


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kind", NO_PROBABILITIES)
def test_what_a_model_returns_must_be_probabilities(
    tmp_path: Path, kind: str, runtime: str
) -> None:
    graph, says = NO_PROBABILITIES[kind]
    model = save_model(str(tmp_path / "model"), graph, info())
    with pytest.raises(ModelError, match=says) as caught:
        runner(model, "fp32", workers=1, runtime=runtime)(random_chips(5))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "model") in str(caught.value) or "the network gives" in str(caught.value)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_features_must_be_finite_and_may_be_any_number(runtime: str) -> None:
    fine = last_layer(("Sub", ["colours", "two"], "probabilities", {}), two=np.float32(2))
    assert compile_network(fine, runtime=runtime)(random_chips(5)).max() < 0
    with pytest.raises(ModelError, match="the network gives NaN"):
        compile_network(NO_PROBABILITIES["not a number"][0], runtime=runtime)(random_chips(5))


def test_a_model_that_gives_no_numbers_labels_no_tile(tmp_path: Path) -> None:
    from PIL import Image

    from quadrat.scoring import score

    (tmp_path / "pictures").mkdir()
    for i, chip in enumerate(random_chips(5)):
        Image.fromarray(chip).save(tmp_path / "pictures" / f"{i}.png")
    graph = NO_PROBABILITIES["not a number"][0]
    save_model(str(tmp_path / "model"), graph, info(grid=None))
    with pytest.raises(QuadratError, match="gives NaN or infinite numbers for 5 of 5 tiles"):
        score(str(tmp_path / "model"), str(tmp_path / "pictures"), str(tmp_path / "scores"))
    assert not (tmp_path / "scores/scores.json").exists()


# --- joining


def test_join_keeps_the_backbone_and_avoids_its_names() -> None:
    feature = onnx.load_model_from_string(mean_colour())
    feature.graph.node[1].output[0] = "head/z"
    feature.graph.node[2].input[0] = "head/z"
    feature.graph.initializer[0].name = "v2"
    feature.graph.node[4].input[1] = "v2"
    joined = join_graphs(feature.SerializeToString(), softmax_head())
    onnx.checker.check_model(onnx.load_model_from_string(joined), full_check=True)
    chips = random_chips(4)
    got = compile_network(joined, runtime="onnxruntime")(chips)
    np.testing.assert_allclose(got, expected(chips), atol=1e-6)


def test_join_works_from_opset_13_to_the_newest_and_refuses_older() -> None:
    for opset in (13, 17, 21):
        joined = join_graphs(mean_colour(opset=opset), softmax_head())
        got = compile_network(joined, runtime="onnxruntime")(random_chips(2))
        np.testing.assert_allclose(got, expected(random_chips(2)), atol=1e-6)
    with pytest.raises(ModelError, match="opset 11; export it at opset 13"):
        join_graphs(mean_colour(opset=11), softmax_head())


# --- the bundle


def test_a_bundle_comes_back_as_it_was_saved(bundle: Path) -> None:
    model = open_model(str(bundle))
    assert model.legend == LEGEND and model.grid == GRID and model.size_px == SIZE
    assert model.info.head == {"name": "logistic", "reg": 0.01}
    assert model.info.metrics == {"accuracy": 0.5, "worst": None}
    assert model.info.temperature == 1.5 and model.info.precision == "fp32"
    assert model.info.created.endswith("+00:00")
    assert sorted(p.name for p in bundle.iterdir()) == ["model.json", "model.onnx"]
    # valid JSON for everyone: no NaN
    json.loads((bundle / "model.json").read_text(), parse_constant=lambda c: pytest.fail(c))


def two_outputs(names: tuple[str, str] = CLASS_OUTPUTS, sharpness: float = 10.0) -> bytes:
    """A head whose second output is softer than its first, and sums to less than 1."""
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["z"]),
        helper.make_node("Softmax", ["z"], [names[0]], axis=-1),
        helper.make_node("Mul", ["z", "half"], ["w"]),
        helper.make_node("Softmax", ["w"], ["u"], axis=-1),
        helper.make_node("Mul", ["u", "most"], [names[1]]),
    ]
    weights = [("v", sharpness * np.eye(3)), ("half", np.array([0.5])), ("most", np.array([0.75]))]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in names],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_model_of_two_outputs_gives_probabilities_and_shares(
    tmp_path: Path, runtime: str
) -> None:
    uri, graph = str(tmp_path / "two"), join_graphs(mean_colour(), two_outputs())
    model = save_model(uri, graph, info(masks=True, conformal={"threshold": 0.2}))
    assert open_model(uri).info.outputs == model.info.outputs == CLASS_OUTPUTS
    assert open_model(uri).info.conformal == {"threshold": 0.2} and open_model(uri).info.masks
    chips, network = random_chips(7), runner(open_model(uri), "fp32", runtime=runtime)
    np.testing.assert_allclose(network(chips), expected(chips), atol=1e-6)
    got = network.predict(chips)
    np.testing.assert_allclose(got.probabilities, expected(chips), atol=1e-6)
    assert got.shares is not None
    np.testing.assert_allclose(got.shares, 0.75 * expected(chips, 5.0), atol=1e-6)


def test_rows_that_do_not_sum_to_1_are_refused_where_nothing_is_masked(tmp_path: Path) -> None:
    uri = str(tmp_path / "two")
    save_model(uri, join_graphs(mean_colour(), two_outputs()), info())
    with pytest.raises(ModelError, match=r"no probabilities .* sum 0.75"):
        runner(open_model(uri), "fp32").predict(random_chips(1))


def test_two_outputs_of_other_names_are_refused(tmp_path: Path) -> None:
    graph = join_graphs(mean_colour(), two_outputs(("probabilities", "logits")))
    with pytest.raises(ModelError, match="outputs probabilities, logits"):
        save_model(str(tmp_path / "m"), graph, info())


def test_a_model_of_one_output_has_no_shares_and_one_of_version_1_is_read(bundle: Path) -> None:
    place = bundle / "model.json"
    old = json.loads(place.read_text())
    for key in ("outputs", "masks", "conformal"):
        del old[key]
    place.write_text(json.dumps({**old, "version": 1}))
    model = open_model(str(bundle))
    assert model.info.outputs == ("probabilities",) and not model.info.masks
    got = runner(model).predict(random_chips(2))
    np.testing.assert_allclose(got.probabilities, expected(random_chips(2)), atol=1e-6)
    assert got.shares is None


def test_views_are_averaged(bundle: Path) -> None:
    """The mean colour is the same in every view; a network that reads one corner is not."""
    network = runner(open_model(str(bundle)))
    chips = random_chips(3)
    np.testing.assert_allclose(network.predict(chips, 8)[0], network(chips), atol=1e-6)
    seen = [network(views.seen(chips, v)) for v in range(4)]
    np.testing.assert_allclose(network.predict(chips, 4)[0], np.mean(seen, 0), atol=1e-6)


def test_the_digest_is_of_what_decides_the_scores(tmp_path: Path) -> None:
    def digest(graph: bytes, **changes: object) -> str:
        return save_model(str(tmp_path / "m"), graph, info(**changes)).digest

    graph = join_graphs(mean_colour(), softmax_head())
    assert digest(graph) == digest(graph, run_id="another", created="2020-01-01")
    assert digest(graph) != digest(join_graphs(mean_colour(), softmax_head(11.0)))
    assert digest(graph) != digest(graph, grid=None)


def test_any_uri_serves(tmp_path: Path) -> None:
    uri = "memory://bundles/one"
    save_model(uri, join_graphs(mean_colour(), softmax_head()), info())
    got = runner(open_model(uri))(random_chips(2))
    np.testing.assert_allclose(got, expected(random_chips(2)), atol=1e-6)


def test_further_forms_are_kept_chosen_and_removed_with_their_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_int8", lambda: True)  # the graph here has nothing in int8
    uri = str(tmp_path / "model")
    graph = join_graphs(mean_colour(), softmax_head())
    other = join_graphs(mean_colour(), softmax_head(5.0))
    save_model(uri, graph, info(precision="int8"), {"int8": other})
    model = open_model(uri)
    chips = random_chips(2)
    np.testing.assert_allclose(runner(model, "int8")(chips), expected(chips, 5.0), atol=1e-6)
    np.testing.assert_allclose(runner(model, "auto")(chips), expected(chips, 5.0), atol=1e-6)
    np.testing.assert_allclose(runner(model, "fp32")(chips), expected(chips), atol=1e-6)
    assert runner(model, "auto").precision == "int8"
    save_model(uri, graph, info())
    assert not (tmp_path / "model/model.int8.onnx").exists()
    with pytest.raises(ModelError, match="has no int8 form"):
        runner(open_model(uri), "int8")
    with pytest.raises(ModelError, match="no precision 'int4'"):
        runner(open_model(uri), "int4")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size_px": 16, "grid": None}, "takes tiles of 8 px, not 16"),
        ({"legend": legends.from_names(["a", "b"])}, "gives 3 probabilities and the legend has 2"),
        ({"precision": "int8"}, "has no graph"),
    ],
)
def test_a_bundle_that_contradicts_itself_is_not_saved(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        save_model(str(tmp_path / "m"), join_graphs(mean_colour(), softmax_head()), info(**change))
    assert not (tmp_path / "m").exists()


def test_missing_bundles(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.json"):
        open_model(str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"has no model\.json"):
        open_model("memory://bundles/nowhere")
    (bundle / "model.onnx").unlink()
    with pytest.raises(ModelError, match="is not whole"):
        open_model(str(bundle))


def test_a_flipped_bit_in_the_graph_is_found(bundle: Path) -> None:
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        open_model(str(bundle))


def test_a_save_that_was_killed_leaves_no_bundle_that_loads(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quadrat import storage

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_json", die)
    with pytest.raises(KeyboardInterrupt):
        save_model(str(bundle), join_graphs(mean_colour(), softmax_head(3.0)), info())
    with pytest.raises(ModelError, match=r"has no model\.json"):
        open_model(str(bundle))


JSON_ATTACKS = {
    "not json": (lambda d: "{", "not whole JSON"),
    "a list": (lambda d: [], "does not describe"),
    "foreign": (lambda d: {"name": "bert"}, "does not describe"),
    "newer": (lambda d: {**d, "version": 3}, "format version 3"),
    "outputs unknown": (lambda d: {**d, "outputs": ["shares"]}, "outputs are not"),
    "outputs it lacks": (
        lambda d: {**d, "outputs": ["probabilities", "shares"]},
        "has not the outputs",
    ),
    "masks a number": (lambda d: {**d, "masks": 1}, "masks is missing or of the wrong"),
    "threshold a text": (lambda d: {**d, "conformal": {"threshold": "x"}}, "is no number"),
    "absolute file": (
        lambda d: {**d, "forms": {"fp32": {**d["forms"]["fp32"], "file": "/etc/passwd"}}},
        "names a file other than",
    ),
    "parent file": (
        lambda d: {**d, "forms": {"fp32": {**d["forms"]["fp32"], "file": "../model.onnx"}}},
        "names a file other than",
    ),
    "path as a form": (
        lambda d: {**d, "forms": {**d["forms"], "../../x": d["forms"]["fp32"]}},
        "unknown or names a file",
    ),
    "form that is a list": (lambda d: {**d, "forms": {"fp32": [1]}}, "unknown or names a file"),
    "no forms": (lambda d: {**d, "forms": {}}, "lists no fp32 form"),
    "legend a string": (lambda d: {**d, "legend": "nlcd6"}, "legend is missing or of the wrong"),
    "legend without classes": (lambda d: {**d, "legend": {"name": "x"}}, "not a legend"),
    "class name with a slash": (
        lambda d: {**d, "legend": {"name": "x", "classes": [{"name": "../a"}] * 3}},
        "no class name",
    ),
    "grid a list": (lambda d: {**d, "grid": [1]}, "grid is missing or of the wrong type"),
    "grid without crs": (lambda d: {**d, "grid": {"tile_m": 8}}, "not a grid"),
    "size a string": (lambda d: {**d, "size_px": "8"}, "size_px is missing or of the wrong"),
    "size true": (lambda d: {**d, "size_px": True}, "size_px is missing or of the wrong"),
    "size huge": (lambda d: {**d, "grid": None, "size_px": 10**9}, "out of range"),
    "size of the grid": (lambda d: {**d, "size_px": 16}, "grid and size_px disagree"),
    "temperature zero": (lambda d: {**d, "temperature": 0}, "out of range"),
    "precision unknown": (lambda d: {**d, "precision": "int4"}, "has no form"),
    "another number of classes": (
        lambda d: {**d, "legend": legends.from_names(["a"]).to_dict()},
        "gives 3 probabilities",
    ),
}


@pytest.mark.parametrize("attack", JSON_ATTACKS)
def test_crafted_descriptions_are_refused(bundle: Path, attack: str) -> None:
    change, says = JSON_ATTACKS[attack]
    path = bundle / "model.json"
    changed = change(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(ModelError, match=says):
        open_model(str(bundle))


@pytest.mark.parametrize("seed", range(40))
def test_no_mangled_description_raises_anything_but_ours(bundle: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = json.loads((bundle / "model.json").read_text())
    for _ in range(3):
        place = data
        while isinstance(place, dict) and place:
            key = sorted(place)[rng.integers(len(place))]
            if not isinstance(place[key], dict) or rng.random() < 0.4:
                place[key] = [None, [], {}, -1, "x", 1e308, True][rng.integers(7)]
                break
            place = place[key]
    (bundle / "model.json").write_text(json.dumps(data))
    try:
        open_model(str(bundle))
    except QuadratError as error:
        assert "\n" not in str(error)


def crafted(change: str, target: Path) -> bytes:
    proto = onnx.load_model_from_string(join_graphs(mean_colour(), softmax_head()))
    graph = proto.graph
    if change == "external":
        weight = graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", str(target)
    elif change == "external in a constant":
        node = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(1)))
        tensor = node.attribute[0].t
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", str(target)
        graph.node.insert(0, node)
    elif change == "custom operator":
        graph.node.add().CopyFrom(helper.make_node("Shell", ["v"], ["w"], domain="evil"))
    elif change == "custom operator in a branch":
        inner = helper.make_graph(
            [helper.make_node("EPContext", [], ["b"], domain="com.microsoft")],
            "branch",
            [],
            [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])],
        )
        node = helper.make_node("If", ["c"], ["w"], then_branch=inner, else_branch=inner)
        graph.node.add().CopyFrom(node)
    elif change == "function":
        proto.functions.add().name = "f"
    elif change == "two outputs":
        graph.output.add().CopyFrom(graph.output[0])
    elif change == "float input":
        graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("external", "keeps weights in another file"),
        ("external in a constant", "keeps weights in another file"),
        ("custom operator", r"operators of evil \(Shell\), which is not standard"),
        ("custom operator in a branch", "the operator If"),
        ("function", "defines functions"),
        ("two outputs", "has the outputs probabilities, probabilities|has 1 inputs and 2 outputs"),
        ("float input", "does not take tiles"),
    ],
)
def test_crafted_graphs_are_refused(bundle: Path, tmp_path: Path, change: str, says: str) -> None:
    import hashlib

    data = crafted(change, tmp_path / "secret")
    (bundle / "model.onnx").write_bytes(data)
    text = json.loads((bundle / "model.json").read_text())
    text["forms"]["fp32"]["sha256"] = hashlib.sha256(data).hexdigest()
    (bundle / "model.json").write_text(json.dumps(text))
    with pytest.raises(ModelError, match=says):
        open_model(str(bundle))
    with pytest.raises(ModelError, match=says):
        compile_network(data)


@pytest.mark.parametrize("data", [b"", b"<xml/>", b"\x80\x04\x95", bytes(range(256)) * 4])
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX network"):
        compile_network(data)


def test_what_the_runtime_refuses_is_one_clear_line() -> None:
    proto = onnx.load_model_from_string(mean_colour())
    proto.graph.node[4].input[1] = "nothing"
    data, facts = proto.SerializeToString(), describe(proto, "it")
    with pytest.raises(ModelError, match="not a sound ONNX network"):
        compile_network(data, runtime="onnxruntime")
    for name, run in RUNTIMES.items():
        if name != "cuda":
            with pytest.raises(ModelError, match="cannot run the network") as caught:
                run(data, facts, "fp32", 1, 1)
            assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no runtime takes the network"):
        choice_module.measure(data, facts, "fp32")
