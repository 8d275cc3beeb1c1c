"""Networks of other libraries by name: statistics, parity with torch, a whole round, bad input.

The networks have random weights: what is shown is that Quadrat computes what torch computes.
"""

from __future__ import annotations

import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs pip install 'quadrat[finetune]'")
timm = pytest.importorskip("timm", reason="needs pip install 'quadrat[timm]'")
import torchvision  # noqa: E402
from PIL import Image  # noqa: E402

from quadrat import backbones, model  # noqa: E402
from quadrat.backbones import Given, feature_graph, zoos  # noqa: E402
from quadrat.backbones.exporting import MAX_DIFFERENCE, prepared  # noqa: E402
from quadrat.errors import BackboneError, MissingExtraError  # noqa: E402
from quadrat.finetuning import FinetuneSettings, networks  # noqa: E402
from quadrat.finetuning.optimise import make_optimizer  # noqa: E402

# name -> side of its tiles; timm's test networks are small ones of these families
NETWORKS = {
    "timm:test_vit": 160,
    "timm:test_convnext": 96,
    "timm:test_resnet": 96,
    "torchvision:shufflenet_v2_x0_5": 64,
    "torchvision:resnet18": 64,
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for the whole file: a network is exported once."""
    folder = tmp_path_factory.getbasetemp() / "zoo-cache"
    monkeypatch.setenv("QUADRAT_CACHE", str(folder))
    return folder


def chips(n: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    ramp = np.linspace(0, 180, side)[:, None, None] * np.array([1.0, 0.5, 0.2])
    return (ramp + rng.uniform(0, 70, (n, side, side, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A file of random weights of a network; the same every time."""
    folder = tmp_path_factory.mktemp("weights")

    def write(name: str) -> str:
        path = folder / f"{name.replace(':', '-')}.pth"
        if not path.exists():
            torch.manual_seed(1)
            torch.save(zoos.find(name).make().state_dict(), path)
        return str(path)

    return write


def in_torch(name: str, file: str, batch: np.ndarray) -> np.ndarray:
    """The features by the library's own pooling, without Quadrat's code but for the statistics."""
    plain = name.partition(":")[2]
    state = torch.load(file, weights_only=True)
    if name.startswith("timm"):
        network = timm.create_model(plain, pretrained=False)
        network.load_state_dict(state)
        network.reset_classifier(0)
        config = timm.get_pretrained_cfg(plain)
        mean, std = config.mean, config.std
    else:
        network = torchvision.models.get_model(plain)
        network.load_state_dict(state)
        network.fc = torch.nn.Identity()
        shown = torchvision.models.get_model_weights(plain).DEFAULT.transforms()
        mean, std = shown.mean, shown.std
    x = torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
    with torch.inference_mode():
        rows: np.ndarray = network.eval()((x - shift) / scale).numpy()
    return rows


def compute(graph: backbones.FeatureGraph, batch: np.ndarray, runtime: str) -> np.ndarray:
    return model.compile_network(graph.onnx, runtime=runtime, workers=1)(batch)


def close(found: np.ndarray, truth: np.ndarray) -> None:
    """Within 1e-3 of the features' root mean square."""
    scale = np.sqrt(np.mean(truth**2))
    assert found.shape == truth.shape and scale > 0
    assert np.abs(found - truth).max() <= 1e-3 * scale


@pytest.mark.parametrize(("name", "side"), NETWORKS.items())
def test_features_are_those_of_the_library(name: str, side: int, weights: Any) -> None:
    file, batch = weights(name), chips(3, side)
    graph = feature_graph(name, file, size_px=side, chips=lambda: batch)
    truth = in_torch(name, file, batch)
    assert graph.parity is not None and graph.parity["real"] and graph.parity["tiles"] == 3
    assert graph.parity["max_difference"] <= MAX_DIFFERENCE == 1e-3
    for runtime in ("onnxruntime", "openvino"):
        close(compute(graph, batch, runtime), truth)


@pytest.mark.slow
def test_swins_features_are_those_of_the_library(weights: Any) -> None:
    test_features_are_those_of_the_library("timm:swin_tiny_patch4_window7_224", 224, weights)


def test_statistics_are_the_networks_own(weights: Any) -> None:
    for name in ("test_vit", "test_resnet", "vit_large_patch16_dinov3.sat493m"):
        recipe, config = zoos.find(f"timm:{name}"), timm.get_pretrained_cfg(name)
        assert recipe.mean == pytest.approx([255 * v for v in config.mean])
        assert recipe.std == pytest.approx([255 * v for v in config.std])
        assert (recipe.pixels, recipe.licence) == (config.input_size[-1], config.license)
    shown = torchvision.models.get_model_weights("resnet18").DEFAULT.transforms()
    graph = feature_graph("torchvision:resnet18", weights("torchvision:resnet18"), size_px=64)
    assert graph.mean == pytest.approx([255 * v for v in shown.mean])
    assert graph.std == pytest.approx([255 * v for v in shown.std])


def test_what_the_user_says_goes_before_it(weights: Any) -> None:
    """Satlas, for one: a network of torchvision whose weights want 0 to 1."""
    name, batch = "torchvision:shufflenet_v2_x0_5", chips(2, 64)
    given = Given(mean=(0.0,), std=(1.0,), range=(0, 1))
    graph = feature_graph(name, weights(name), size_px=64, given=given)
    assert (graph.mean, graph.std) == ((0, 0, 0), (255, 255, 255))
    network = torchvision.models.shufflenet_v2_x0_5()
    network.load_state_dict(torch.load(weights(name), weights_only=True))
    network.fc = torch.nn.Identity()
    with torch.inference_mode():
        truth = network.eval()(torch.from_numpy(batch).permute(0, 3, 1, 2) / 255).numpy()
    close(compute(graph, batch, "onnxruntime"), truth)


def test_torch_is_needed_once(weights: Any, cache: Path) -> None:
    name, file = "timm:test_resnet", weights("timm:test_resnet")
    first = feature_graph(name, file, size_px=95)
    code = (
        "import sys\n"
        "sys.modules.update({'torch': None, 'timm': None, 'torchvision': None})\n"
        "from quadrat.backbones import feature_graph\n"
        f"print(feature_graph({name!r}, {file!r}, size_px=95).digest)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == first.digest
    for kept in cache.glob("graphs/timm-test_resnet-*.onnx"):
        kept.write_bytes(kept.read_bytes()[:-1])  # damaged: made again
    assert feature_graph(name, file, size_px=95) == first


def test_tokens_are_pooled_as_asked(weights: Any) -> None:
    name, batch = "timm:test_vit", chips(2, 160)
    file = weights(name)
    network = timm.create_model("test_vit")
    network.load_state_dict(torch.load(file, weights_only=True))
    x = prepared(torch.from_numpy(batch).permute(0, 3, 1, 2), 160, (127.5,) * 3, (127.5,) * 3)
    with torch.inference_mode():
        rows = network.eval().forward_features(x).numpy()
    token, mean = rows[:, 0], rows[:, 1:].mean(1)
    for pooling, truth in (
        ("token", token), ("mean", mean), ("both", np.concatenate([token, mean], 1)),
    ):  # fmt: skip
        graph = feature_graph(name, file, size_px=160, given=Given(pooling=pooling))
        assert graph.pooling == pooling
        close(compute(graph, batch, "onnxruntime"), truth)
    with pytest.raises(BackboneError, match="gives no tokens that could be pooled"):
        file = weights("timm:test_resnet")
        feature_graph("timm:test_resnet", file, size_px=96, given=Given(pooling="mean"))


def test_a_network_without_a_last_layer_is_given_one() -> None:
    recipe = zoos.find("timm:vit_small_patch16_dinov3")
    assert recipe.make().num_classes == 1 and recipe.licence == "dinov3-license"


# ---- torchgeo --------------------------------------------------------------------------------


def torchgeo_stand_in(monkeypatch: pytest.MonkeyPatch, **members: Any) -> None:
    """The functions of `torchgeo.models` that are used, with an enum of these weights."""
    from torchvision.transforms import v2 as transforms

    made = {}
    for name, (bands, *norms) in members.items():
        steps = [transforms.CenterCrop((224, 224)), *(transforms.Normalize(*n) for n in norms)]
        meta = {"in_chans": len(bands), "bands": bands, "repo": "https://example.org/net"}
        made[name] = torchvision.models.Weights("http://localhost/x", torch.nn.Sequential(*steps),
                                                meta)  # fmt: skip
    kind = torchvision.models.WeightsEnum("ResNet50_Weights", made)

    def get_weight(name: str) -> Any:
        enum, _, member = name.partition(".")
        if enum != "ResNet50_Weights" or member not in kind.__members__:
            raise ValueError(f"{name} is not a valid WeightsEnum")
        return kind[member]

    fake = types.SimpleNamespace(
        get_weight=get_weight, list_models=lambda: ["resnet50"],
        get_model_weights=lambda name: kind,
        get_model=lambda name: timm.create_model("test_resnet"),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torchgeo", types.SimpleNamespace(models=fake))
    monkeypatch.setitem(sys.modules, "torchgeo.models", fake)


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_torchgeos_weights_by_their_member(monkeypatch: pytest.MonkeyPatch, weights: Any) -> None:
    torchgeo_stand_in(
        monkeypatch, RGB=(("R", "G", "B"), ([0.0], [255.0]), IMAGENET),
        SATLAS=(("R", "G", "B"), ([0.0], [255.0])),
        REFLECTANCE=(("B4", "B3", "B2"), ([0.0], [10000.0])),
        ALL=(tuple(f"B{i}" for i in range(13)), ([0.0], [10000.0])),
        TURNED=(("B2", "B3", "B4"), ([0.0], [255.0])),
    )  # fmt: skip
    recipe = zoos.find("torchgeo:ResNet50_Weights.RGB")
    assert recipe.mean == pytest.approx([255 * v for v in IMAGENET[0]])
    assert recipe.std == pytest.approx([255 * v for v in IMAGENET[1]])
    satlas = zoos.find("torchgeo:ResNet50_Weights.SATLAS")
    assert (satlas.mean, satlas.std, satlas.pixels) == ((0, 0, 0), (255, 255, 255), 224)
    file = weights("timm:test_resnet")
    graph = feature_graph("torchgeo:ResNet50_Weights.SATLAS", file, size_px=64)
    assert (graph.mean, graph.dim) == ((0, 0, 0), 96)
    for member, message in (
        ("ALL", r"ALL takes 13 bands \(B0, .* and tiles have red, green and blue"),
        ("TURNED", "TURNED takes 3 bands"),
        ("NONE", "torchgeo has no weights ResNet50_Weights.NONE"),
        ("REFLECTANCE", "does not say how bytes become its input; say it with --mean"),
    ):
        with pytest.raises(BackboneError, match=message):
            feature_graph(f"torchgeo:ResNet50_Weights.{member}", file, size_px=64)
    given = Given((0.0,), (10000.0,), (0, 3000))
    graph = feature_graph("torchgeo:ResNet50_Weights.REFLECTANCE", file, size_px=64, given=given)
    assert graph.std == pytest.approx([10000 / 3000 * 255] * 3)


@pytest.mark.slow
def test_the_real_torchgeos_resnet50_by_name(tmp_path: Path) -> None:
    models = pytest.importorskip("torchgeo.models", reason="torchgeo is not installed")
    torch.manual_seed(0)
    network = models.resnet50()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    batch = chips(2, 64)
    graph = feature_graph(
        "torchgeo:ResNet50_Weights.FMOW_RGB_GASSL", str(tmp_path / "net.pth"), size_px=64,
        chips=lambda: batch,
    )  # fmt: skip
    assert graph.mean == pytest.approx([255 * v for v in IMAGENET[0]])
    network.reset_classifier(0)
    x = torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
    with torch.inference_mode():
        close(compute(graph, batch, "onnxruntime"), network.eval()((x - shift) / scale).numpy())
    with pytest.raises(BackboneError, match="SENTINEL2_ALL_MOCO takes 13 bands"):
        zoos.find("torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO")


# ---- what does not fit, and what cannot be had -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", r"no backbone resnet19; there are .*lite0.*torchvision:NAME.*\.onnx file"),
        ("resnet:18", "no backbone resnet:18; write torchvision:NAME, timm:NAME, hf-hub:ORG/NAME"),
        ("timm:", "no backbone timm:; write"),
        ("timm:resnet19", "timm has no network 'resnet19'"),
        ("torchvision:resnet19", "torchvision has no network 'resnet19'"),
        ("torchvision:resnet18.V9", "has no weights V9 of resnet18; it has IMAGENET1K_V1"),
        ("googlenet", "googlenet has side branches"),
        ("timm:resnet18.nosuchtag", "timm has no weights resnet18.nosuchtag; choose another"),
        ("torchvision:vit_h_14", "CC-BY-NC-4.0 .* forbids commercial use; give --accept-licence"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message) as caught:
        feature_graph(name, size_px=64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "is gated: accept its terms on its page and log in"),
        ("RepositoryNotFoundError", "there is no hf-hub:org/net on the hub, or it is private"),
        ("EntryNotFoundError", "holds no network of timm's"),
        ("ConnectionError", r"could not be downloaded \(.*\); try again"),
        ("IncompleteRead", r"could not be downloaded \(.*\); try again, or give the file"),
    ],
)
def test_what_a_hub_refuses(kind: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise type(kind, (Exception,), {})("401 Client Error.\n\nmore lines")

    monkeypatch.setattr(timm.models, "load_model_config_from_hf", fail)
    with pytest.raises(BackboneError, match=message) as caught:
        feature_graph("hf-hub:org/net", size_px=64)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(BackboneError, match=message.replace("hf-hub:org/net", "timm:test_vit")):
        zoos.find("timm:test_vit").fetch()


def test_a_hubs_network_is_built_by_timm_alone(
    monkeypatch: pytest.MonkeyPatch, weights: Any
) -> None:
    config = {"mean": (0.43, 0.411, 0.296), "std": (0.213, 0.156, 0.143), "input_size": (3, 96, 96)}
    found = {"net": (config, "test_resnet", {}), "foreign": ({}, "their_own_code", {}),
             "bands": ({**config, "input_size": (12, 96, 96)}, "test_resnet", {})}  # fmt: skip
    monkeypatch.setattr(timm.models, "load_model_config_from_hf", lambda n: found[n.split("/")[1]])
    monkeypatch.setattr(zoos.timm, "_hub_licence", lambda name: "cc-by-nc-sa-4.0")
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **k: real("test_resnet", **k))
    with pytest.raises(BackboneError, match="code of a hub is not run; export it to ONNX"):
        feature_graph("hf-hub:org/foreign", size_px=96)
    with pytest.raises(BackboneError, match="hf-hub:org/bands takes 12 bands"):
        feature_graph("hf-hub:org/bands", size_px=96)
    with pytest.raises(BackboneError, match=r"cc-by-nc-sa-4\.0, which forbids"):
        feature_graph("hf-hub:org/net", size_px=96)
    file = weights("timm:test_resnet")
    graph = feature_graph("hf-hub:org/net", file, size_px=96)
    assert graph.mean == pytest.approx([255 * v for v in config["mean"]])


def test_libraries_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, name in (("timm", "timm:test_vit"), ("torchgeo", "torchgeo:A.B"),
                          ("torchvision", "torchvision:resnet18")):  # fmt: skip
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(MissingExtraError, match="pip install 'quadrat"):
            feature_graph(name, size_px=61)


def test_weights_and_sizes_that_do_not_fit(weights: Any, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="does not fit timm:test_vit: no "):
        feature_graph("timm:test_vit", weights("timm:test_resnet"), size_px=160)
    with pytest.raises(BackboneError, match=r"(exported|pictures of 97 px) .*; give --pixels 160"):
        feature_graph("timm:test_vit", weights("timm:test_vit"), size_px=97)
    graph = feature_graph(
        "timm:test_vit", weights("timm:test_vit"), size_px=96, given=Given(pixels=160)
    )
    assert compute(graph, chips(1, 96), "onnxruntime").shape == (1, 64)
    (tmp_path / "half.pth").write_bytes(Path(weights("timm:test_vit")).read_bytes()[:1000])
    with pytest.raises(BackboneError, match=r"half\.pth"):
        feature_graph("timm:test_vit", str(tmp_path / "half.pth"), size_px=160)
    state = torch.load(weights("timm:test_resnet"), weights_only=True)
    state["bn1.bias"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(BackboneError, match="gives NaN or infinite features"):
        feature_graph("timm:test_resnet", str(tmp_path / "nan.pth"), size_px=64)


# ---- a whole round ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two classes of 96 px that stripes tell apart, 24 pictures each. Synthetic."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, step in (("fine", 4), ("coarse", 24)):
        (root / name).mkdir()
        for i in range(24):
            lines = (np.arange(96) + rng.integers(step)) // (step // 2) % 2
            noise = rng.integers(0, 40, (96, 96, 3))
            Image.fromarray((lines[:, None, None] * 150 + noise).astype(np.uint8)).save(
                root / name / f"{i}.png"
            )
    return str(root)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("timm:test_vit", {"pixels": 160}),
        ("timm:test_convnext", {}),
        ("timm:test_resnet", {}),
        ("torchvision:shufflenet_v2_x0_5", {}),
    ],
)
def test_train_and_score(
    name: str, options: dict[str, Any], pictures: str, weights: Any, tmp_path: Path
) -> None:
    import quadrat

    result = quadrat.train(
        pictures, str(tmp_path / "model"), backbone=name, weights=weights(name), views=1, **options
    )
    assert result.accuracy is not None and result.accuracy > 0.8
    assert result.network["parity"]["real"] and result.network["name"] == name
    assert result.network["parity"]["max_difference"] <= 1e-3
    scores = quadrat.score(str(tmp_path / "model"), pictures, str(tmp_path / "scores"))
    assert scores.tiles == 48


# ---- retraining them -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("timm:test_vit", "blocks.3"),
        ("timm:test_convnext", "stages.2.blocks.0"),
        ("torchvision:vit_b_16", "encoder.layers.encoder_layer_9"),
    ],
)
def test_depths_are_blocks(name: str, block: str) -> None:
    network = networks.build(name, 3, "random")
    assert block in networks.stages(network)
    networks.retrain(network, f"from:{block}")
    names = [n for n, _ in network.module.named_parameters()]
    trained = [n for n, p in network.module.named_parameters() if p.requires_grad]
    first = next(i for i, n in enumerate(names) if n.startswith(f"{block}."))
    assert trained == names[first:] and f"{network.head}.weight" in trained


def test_a_decay_by_layer_slows_what_is_far_from_the_head() -> None:
    network = networks.build("timm:test_vit", 3, "random")
    networks.retrain(network, "all")
    steps = networks.steps_to_head(network)
    assert steps["head.weight"] == 0 and steps["patch_embed.proj.weight"] == max(steps.values())
    assert steps["pos_embed"] == max(steps.values())
    assert steps["blocks.1.mlp.fc1.weight"] - steps["blocks.2.attn.qkv.weight"] == 1
    settings = FinetuneSettings(layer_decay=0.5, lr=1e-2, weight_decay=0.1)
    made = make_optimizer(network.module, settings, steps)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in made.param_groups for p in g["params"]}
    parameters = dict(network.module.named_parameters())
    assert len(rates) == len(parameters)
    for name, parameter in parameters.items():
        rate, decay = rates[id(parameter)]
        assert rate == pytest.approx(1e-2 * 0.5 ** steps[name])
        assert decay == (0.1 if parameter.ndim > 1 else 0.0)
    even = make_optimizer(network.module, FinetuneSettings(lr=1e-2), steps)
    assert {g["lr"] for g in even.param_groups} == {1e-2}


def test_a_network_is_retrained_on_tokens_pooled_as_asked() -> None:
    network = networks.build("timm:test_vit", 3, "random", given=Given(pooling="both"))
    assert network.dim == 128 and "network.blocks.2" in networks.stages(network)
    with pytest.raises(BackboneError, match="finished graph, which cannot be retrained"):
        networks.build("mine.onnx", 3)
    with pytest.raises(BackboneError, match="--accept-licence"):
        networks.build("torchvision:vit_h_14", 3)


@pytest.mark.parametrize(
    "name", ["timm:test_vit", pytest.param("timm:test_convnext", marks=pytest.mark.slow)]
)
def test_finetune_and_score(name: str, pictures: str, weights: Any, tmp_path: Path) -> None:
    import quadrat

    settings = FinetuneSettings(
        backbone=name, weights=weights(name), epochs=1, batch=16, layer_decay=0.75, pixels=160,
        depth="from:head", head_first=False,
    )  # fmt: skip
    result = quadrat.finetune(pictures, str(tmp_path / "model"), settings)
    assert result.parity["max_difference"] <= 1e-3
    config = timm.get_pretrained_cfg(name.removeprefix("timm:"))
    assert result.network["mean"] == pytest.approx([255 * v for v in config.mean])
    scores = quadrat.score(str(tmp_path / "model"), pictures, str(tmp_path / "scores"))
    assert scores.tiles == 48


# ---- from the command line -------------------------------------------------------------------


@pytest.mark.long
def test_a_file_without_metadata_from_the_command_line(
    pictures: str, weights: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from quadrat import cli

    network = timm.create_model("test_resnet")
    network.load_state_dict(torch.load(weights("timm:test_resnet"), weights_only=True))
    network.reset_classifier(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (torch.zeros(2, 3, 224, 224),), str(tmp_path / "net.onnx"),
            dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )  # fmt: skip
    capsys.readouterr()
    words = ["train", pictures, "--out", str(tmp_path / "model"), "--views", "1", "--backbone",
             str(tmp_path / "net.onnx"), "--tracking-uri", str(tmp_path / "runs.db")]  # fmt: skip
    assert cli.run(words) != 0
    assert "say it with --mean, --std and --range" in capsys.readouterr().err
    said = ["--mean", "0.5", "--std", "0.25,0.25,0.5", "--range", "0,1", "--json"]
    assert cli.run([*words, *said]) == 0
    found = json.loads(capsys.readouterr().out)["network"]
    assert found["mean"] == [127.5] * 3 and found["std"] == [63.75, 63.75, 127.5]


def test_pixels_of_another_size_are_warned_of() -> None:
    from quadrat.heads.training import _pixel_size

    def warned(trained: float | None, here: float | None) -> tuple[str, ...]:
        grid = None if here is None else types.SimpleNamespace(pixel_m=here)
        graph = types.SimpleNamespace(name="net", pixel_m=trained)
        return _pixel_size(graph, types.SimpleNamespace(grid=grid))  # type: ignore[arg-type]

    assert warned(10.0, 1.0) == (
        "net was trained on imagery of 10 m a pixel, and these tiles have 1 m",
    )
    assert warned(1.0, 0.6) and not warned(1.0, 0.7) and not warned(0.8, 1.0)
    assert not warned(None, 1.0) and not warned(1.0, None)
