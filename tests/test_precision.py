"""int8 and bf16: the quantised graph, and which precision a model is scored in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from quadrat import heads, model, tiles
from quadrat.errors import ModelError, TrainError
from quadrat.heads import forms as forms_module
from quadrat.model import compile_network, machine, open_model, quantise, runner

SIZE = 32
CLASSES = ("plain", "rows", "spots")

needs_int8 = pytest.mark.skipif(not model.has_int8(), reason="this CPU has no exact int8 (VNNI)")
needs_bf16 = pytest.mark.skipif(not model.has_bf16(), reason="this CPU has no bf16")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def network(batch: int | str = "N", size: int | str = SIZE, seed: int = 0) -> bytes:
    """A small net with what the shipped ones have: convolutions (one depthwise), ReLU, ReLU6, a
    residual, a mean over all places; random weights."""
    rng = np.random.default_rng(seed)
    c = 24

    def weight(name: str, *shape: int, scale: float) -> Any:
        return numpy_helper.from_array((rng.normal(size=shape) * scale).astype(np.float32), name)

    constants = [
        numpy_helper.from_array(np.full((1, 3, 1, 1), 127, np.float32), "mean"),
        weight("w0", c, 3, 3, 3, scale=0.004),
        weight("w1", c, 1, 3, 3, scale=0.5),
        weight("w2", c, c, 1, 1, scale=0.3),
        weight("b", c, scale=0.1),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(6), "high"),
    ]
    node, pads = helper.make_node, {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        node("Transpose", ["chips"], ["t"], perm=[0, 3, 1, 2]),
        node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
        node("Sub", ["f", "mean"], ["x0"]),
        node("Conv", ["x0", "w0", "b"], ["x1"], strides=[2, 2], **pads),
        node("Relu", ["x1"], ["x2"]),
        node("Conv", ["x2", "w1", "b"], ["x3"], group=c, **pads),
        node("Clip", ["x3", "low", "high"], ["x4"]),
        node("Conv", ["x4", "w2", "b"], ["x5"], kernel_shape=[1, 1]),
        node("Add", ["x5", "x2"], ["x6"]),
        node("Relu", ["x6"], ["x7"]),
        node("GlobalAveragePool", ["x7"], ["p"]),
        node("Flatten", ["p"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("chips", TensorProto.UINT8, [batch, size, size, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, c])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def paint(rng: np.random.Generator, name: str) -> np.ndarray:
    chip = rng.normal(rng.uniform(80, 170), 12, (SIZE, SIZE, 3))
    if name == "rows":
        chip[:: rng.integers(3, 6)] += 45
    if name == "spots":
        at = rng.integers(0, SIZE, (2, 40))
        chip[at[0], at[1]] += 60
    return chip.clip(0, 255).astype(np.uint8)


def some_chips(n: int = 48, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([paint(rng, CLASSES[i % 3]) for i in range(n)])


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    rng = np.random.default_rng(3)
    for split, n in (("train", 60), ("validation", 40)):
        for name in CLASSES:
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.fromarray(paint(rng, name)).save(folder / f"{i:03}.png")
    return str(tmp_path / "pictures")


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    path = tmp_path / "small.onnx"
    path.write_bytes(network())
    return str(path)


def do(pictures: str, backbone: str, out: Path, **options: Any) -> heads.TrainResult:
    source = tiles.open_tiles(pictures, size_px=SIZE)
    return heads.train(source, str(out), backbone=backbone, **options)


def chips_of(pictures: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    paths = sorted(Path(pictures, split).rglob("*.png"))
    chips = np.stack([np.asarray(Image.open(p)) for p in paths])
    return chips, np.array([CLASSES.index(p.parent.name) for p in paths])


# --- the quantised graph


@needs_int8
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("batch", ["N", 3])
def test_int8_is_near_float_in_both_runtimes(name: str, batch: int | str) -> None:
    float_graph = network(batch)
    int8_graph = quantise(float_graph, some_chips())
    chips = some_chips(20, seed=1)
    exact = compile_network(float_graph, runtime=name)(chips)
    near = compile_network(int8_graph, precision="int8", runtime=name)(chips)
    error = np.linalg.norm(near - exact) / np.linalg.norm(exact - exact.mean(0))
    assert 0 < error < 0.1


def test_every_convolution_is_int8_with_a_scale_for_each_channel() -> None:
    proto = onnx.load_model_from_string(quantise(network(), some_chips()))
    weights = {w.name: numpy_helper.to_array(w) for w in proto.graph.initializer}
    made = {output: node for node in proto.graph.node for output in node.output}
    convolutions = [n for n in proto.graph.node if n.op_type == "Conv"]
    assert len(convolutions) == 3
    for conv in convolutions:
        x, w = (made[name] for name in conv.input[:2])
        assert x.op_type == w.op_type == "DequantizeLinear"
        assert weights[w.input[0]].dtype == np.int8
        assert weights[w.input[1]].shape == (24,)
        assert (weights[w.input[2]] == 0).all()
    assert {n.domain for n in proto.graph.node} == {""}
    assert {o.domain for o in proto.opset_import} == {""}
    assert proto.graph.output[0].name == "features"


def test_quantising_is_quiet_and_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        data = quantise(network(), some_chips())
    assert not caplog.records and not "".join(capfd.readouterr())
    assert list(tmp_path.iterdir()) == []
    assert not onnx.load_model_from_string(data).metadata_props


def test_a_graph_of_any_size_is_made_one_of_its_tiles() -> None:
    data = quantise(network(size="S"), some_chips(), size_px=SIZE)
    shape = onnx.load_model_from_string(data).graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim][1:] == [SIZE, SIZE, 3]


def no_layers() -> bytes:
    proto = onnx.load_model_from_string(network())
    kept = [n for n in proto.graph.node if n.op_type != "Conv" and n.output[0] not in ("x2", "x4")]
    for node in kept:
        if node.op_type == "Add":
            node.input[:] = ["x0", "x0"]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return bytes(proto.SerializeToString())


def test_what_cannot_be_quantised_says_why() -> None:
    with pytest.raises(ModelError, match="quantised already"):
        quantise(quantise(network(), some_chips()), some_chips())
    with pytest.raises(ModelError, match="no layer that int8 makes faster"):
        quantise(no_layers(), some_chips())
    with pytest.raises(ModelError, match="no tiles to calibrate"):
        quantise(network(), some_chips()[:0])
    with pytest.raises(ModelError, match="not an ONNX network"):
        quantise(b"", some_chips())


# --- the machine


@pytest.mark.parametrize(
    ("flags", "cpu", "able"),
    [
        ("fpu sse2 avx avx2 fma", "x86_64", False),
        ("avx2 avx512f avx512bw avx512_bf16", "x86_64", False),
        ("avx2 avx_vnni", "x86_64", True),
        ("avx512f avx512_vnni", "x86_64", True),
        ("amx_tile amx_int8 amx_bf16", "x86_64", True),
        ("fp asimd", "aarch64", False),
        ("fp asimd asimddp", "aarch64", True),
        ("", "x86_64", False),
    ],
)
def test_exact_int8_is_known_by_the_cpus_instructions(
    flags: str, cpu: str, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(machine.platform, "machine", lambda: cpu)
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    assert machine.has_int8() is able


@pytest.mark.parametrize("faster", ["openvino", "onnxruntime"])
def test_an_old_cpu_scores_in_float_by_the_runtime_that_is_faster_there(
    faster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quadrat.model import choice

    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(("avx", "avx2", "fma")))
    monkeypatch.setattr(machine, "_capabilities", lambda: frozenset(("FP32", "INT8")))
    assert not machine.has_int8() and not machine.has_bf16()
    asked: list[str] = []

    def measured(data: bytes, info: Any, precision: str) -> dict[str, float]:
        asked.append(precision)
        return {"openvino": 1.0, "onnxruntime": 2.0 if faster == "openvino" else 0.5}

    monkeypatch.setattr(choice, "measure", measured)
    made = compile_network(network())
    assert (made.runtime, made.precision) == (faster, "fp32")
    assert compile_network(network()).runtime == faster and asked == ["fp32"]
    with pytest.raises(ModelError, match="does not compute in bf16"):
        compile_network(network(), precision="bf16")


def test_a_cpu_without_exact_int8_scores_in_float(
    pictures: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not model.has_int8():
        pytest.skip("this CPU has no exact int8 (VNNI)")
    result = do(pictures, backbone, tmp_path / "model")
    assert result.precision == "int8"
    loaded = open_model(result.uri)
    monkeypatch.setattr(machine, "has_int8", lambda: False)
    assert model.resolve_precision(loaded) == "fp32"
    assert runner(loaded).precision == "fp32"
    with pytest.raises(ModelError, match="no exact int8 arithmetic"):
        compile_network(loaded.onnx("int8"), precision="int8")


def test_a_cpu_without_exact_int8_trains_in_float_and_says_so(
    pictures: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "has_int8", lambda: False)
    monkeypatch.setattr(model, "has_bf16", lambda: False)
    result = do(pictures, backbone, tmp_path / "model")
    assert result.precision == "fp32" and list(result.forms) == ["fp32"]
    assert any("no int8 form was made" in w for w in result.warnings)
    with pytest.raises(TrainError, match="int8 cannot be made here"):
        do(pictures, backbone, tmp_path / "other", precision="int8")


# --- the choice


@needs_int8
def test_the_head_that_scores_was_trained_and_measured_in_int8(
    pictures: str, backbone: str, tmp_path: Path
) -> None:
    result = do(pictures, backbone, tmp_path / "model")
    assert result.precision == "int8" and list(result.forms) == ["fp32", "int8"]
    chips, y = chips_of(pictures, "validation")
    loaded = open_model(result.uri)
    assert loaded.info.precision == "int8"
    for precision in ("int8", "fp32"):
        right = runner(loaded, precision)(chips).argmax(1) == y
        assert right.mean() == pytest.approx(result.forms[precision]["accuracy"], abs=0.009)
    assert runner(loaded).precision == "int8"
    assert result.accuracy == result.forms["int8"]["accuracy"]
    assert result.forms["int8"]["accuracy"] >= result.forms["fp32"]["accuracy"] - 0.005
    assert result.forms["int8"]["accuracy"] > 0.8
    # the two heads are their own: the float head is not the int8 one
    joined = {p: onnx.load_model_from_string(loaded.onnx(p)) for p in ("fp32", "int8")}
    coef = {
        p: next(numpy_helper.to_array(w) for w in m.graph.initializer if w.name == "head/coef")
        for p, m in joined.items()
    }
    assert not np.array_equal(coef["fp32"], coef["int8"])


@needs_int8
def test_what_loses_accuracy_is_not_kept_and_that_is_said(
    pictures: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms_module, "MAX_FALL", -1.0)
    result = do(pictures, backbone, tmp_path / "model", precision="int8")
    assert result.precision == "fp32" and list(result.forms) == ["fp32"]
    assert any(w.startswith("int8 was not accepted: validation accuracy") for w in result.warnings)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"model.json", "model.onnx"}


@needs_int8
@needs_bf16
def test_bf16_serves_where_int8_does_not(
    pictures: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # weights that int8 cannot hold: noise instead of the quantised network
    def poor(data: bytes, chips: np.ndarray, *, size_px: int | None = None) -> bytes:
        return quantise(network(seed=99), chips * 0, size_px=size_px)

    monkeypatch.setattr(model, "quantise", poor)
    result = do(pictures, backbone, tmp_path / "model")
    assert result.precision == "bf16" and list(result.forms) == ["fp32", "bf16"]
    assert any(w.startswith("int8 was not accepted") for w in result.warnings)
    loaded = open_model(result.uri)
    assert runner(loaded).precision == "bf16"
    chips, y = chips_of(pictures, "validation")
    right = (runner(loaded)(chips).argmax(1) == y).mean()
    assert right == pytest.approx(result.forms["bf16"]["accuracy"], abs=0.009)


@needs_int8
def test_the_range_of_int8_comes_from_training_tiles_alone(
    pictures: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def spy(data: bytes, chips: np.ndarray, *, size_px: int | None = None) -> bytes:
        seen.append(chips)
        return quantise(data, chips, size_px=size_px)

    monkeypatch.setattr(model, "quantise", spy)
    do(pictures, backbone, tmp_path / "model")
    [chips] = seen
    training = {chip.tobytes() for chip in chips_of(pictures, "train")[0]}
    assert len(chips) >= 100
    assert all(chip.tobytes() in training for chip in chips)
    do(pictures, backbone, tmp_path / "again", head="forest")
    assert len(seen) == 1, "the quantised network is kept"


@needs_int8
def test_a_second_head_computes_nothing_anew(pictures: str, backbone: str, tmp_path: Path) -> None:
    first = do(pictures, backbone, tmp_path / "one")
    second = do(pictures, backbone, tmp_path / "two", head="forest")
    assert first.seconds["features"] > 0 and second.seconds["features"] == 0


@needs_int8
def test_many_tiles_are_compared_on_some_and_trained_on_all(
    pictures: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms_module, "CHECK_TILES", 150)
    monkeypatch.setattr(forms_module, "RARE", 10)
    result = do(pictures, backbone, tmp_path / "model")
    assert result.precision == "int8"
    assert result.forms["int8"]["train"] == 180 and result.forms["int8"]["validation"] == 120
    assert 60 < result.forms["fp32"]["train"] < 120
    assert 40 < result.forms["fp32"]["validation"] < 80
    refused = pytest.MonkeyPatch()
    refused.setattr(forms_module, "MAX_FALL", -1.0)
    try:
        full = do(pictures, backbone, tmp_path / "float")
    finally:
        refused.undo()
    assert full.precision == "fp32" and full.forms["fp32"]["train"] == 180


def test_a_comparison_keeps_rare_classes() -> None:
    import pyarrow as pa

    from quadrat.features import Selection

    labels = ["common"] * 30_000 + ["rare"] * 60 + [None] * 100
    n = len(labels)
    index = pa.table(
        {
            "path": pa.array([f"{i}.png" for i in range(n)]),
            "row": pa.nulls(n, pa.int32()),
            "col": pa.nulls(n, pa.int32()),
            "label": pa.array(labels),
            "split": pa.nulls(n, pa.string()),
        }
    )

    class Job:
        select = Selection(labelled=True)

    shares = forms_module._shares(index, Job())  # type: ignore[arg-type]
    assert shares is not None
    kept = Selection(labelled=True, shares=shares).mask(index)
    assert kept[:30_000].sum() == pytest.approx(12_000, rel=0.03)
    assert kept[30_000:30_060].sum() >= 40 and not kept[30_060:].any()


def test_progress_is_one_count_over_all_passes(
    pictures: str, backbone: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    do(pictures, backbone, tmp_path / "m", on_progress=lambda d, t: seen.append((d, t)))
    done = [d for d, _ in seen]
    assert done == sorted(done) and seen[-1][0] == seen[-1][1]


def test_unknown_precisions_are_errors(pictures: str, backbone: str, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no precision 'int4'; choose one of auto, int8"):
        do(pictures, backbone, tmp_path / "m", precision="int4")


# --- real networks on real tiles


@pytest.fixture
def ucmerced() -> Iterator[str]:
    import os

    root = Path(os.environ.get("QUADRAT_TEST_DATA", Path(__file__).parents[2] / "shared/data"))
    if not (root / "ucmerced").is_dir():
        pytest.skip("UC Merced is not here; set QUADRAT_TEST_DATA to the folder that holds it")
    yield str(root / "ucmerced")


@needs_int8
@pytest.mark.slow
def test_the_default_backbone_loses_no_more_than_half_a_point(
    ucmerced: str, tmp_path: Path
) -> None:
    result = heads.train(ucmerced, str(tmp_path / "model"))
    assert result.precision == "int8"
    assert result.accuracy is not None and result.accuracy > 0.93
