"""Fine-tuning from tiles to model: `finetune` as a user calls it, whole, killed and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_tiles import write_tiles

torch = pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")
import torchvision  # noqa: E402

from quadrat import model, tiles  # noqa: E402
from quadrat.errors import BackboneError, LockedError, TrainError  # noqa: E402
from quadrat.finetuning import FinetuneSettings, Machine, export, finetune, stopped_run  # noqa: E402

NETWORK = "shufflenet_v2_x0_5"  # the smallest of torchvision's
ONE = Machine(device="cpu", threads=1)
JOB = Path(__file__).with_name("finetune_job.py")


def settings(**options: Any) -> FinetuneSettings:
    defaults = {"backbone": NETWORK, "weights": "random", "pixels": 32, "epochs": 3, "batch": 16}
    return FinetuneSettings(**{**defaults, "precision": "fp32", "lr": 0.005, **options})


def pretrained(**options: Any) -> FinetuneSettings:
    """The default network with its published weights: it learns these tiles at once."""
    defaults = {"backbone": "efficientnet_lite0", "weights": None, "lr": 1e-4}
    return settings(**{**defaults, "epochs": 2, **options})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """60 training, 30 validation and 12 test tiles of 32 px."""
    return write_tiles(tmp_path_factory.mktemp("set"), {"train": 60, "validation": 30, "test": 12})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of weights of the small network; not trained, but not the ones that `random` gives."""
    torch.manual_seed(99)
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(torchvision.models.get_model(NETWORK).state_dict(), path)
    return str(path)


def by_split(source: Any, split: str) -> tuple[np.ndarray, list[str]]:
    chips, labels = [], []
    for part in source.parts():
        for batch in tiles.read_part(part):
            keep = np.array([s == split for s in batch.index["split"].to_pylist()])
            chips.append(batch.chips[keep])
            words = batch.index["label"].to_pylist()
            labels += [w for w, k in zip(words, keep, strict=True) if k]
    return np.concatenate(chips), labels


def test_a_bundle_is_written_that_scores_as_the_training_said(small: Any, tmp_path: Path) -> None:
    events: list[tuple[str, Any]] = []
    done: list[tuple[int, int]] = []
    result = finetune(
        small.uri, str(tmp_path / "model"), pretrained(epochs=3), ONE, run_id="abc",
        on_event=lambda e, v: events.append((e, dict(v))),
        on_progress=lambda d, t: done.append((d, t)),
    )  # fmt: skip
    loaded = model.open_model(result.uri)
    assert loaded.digest == result.digest and loaded.info.run_id == "abc"
    assert loaded.size_px == 32 and loaded.legend.names == ("brick", "grass", "water")
    for split, figures in (("validation", result.metrics), ("test", result.test)):
        chips, labels = by_split(small, split)
        p = model.runner(loaded, "fp32", workers=1)(chips)
        assert p.sum(1) == pytest.approx(1, abs=1e-5)
        right = [loaded.legend.names[i] == w for i, w in zip(p.argmax(1), labels, strict=True)]
        assert np.mean(right) == pytest.approx(figures["overall"]["value"])
    assert result.accuracy > 0.8
    assert [e for e, _ in events] == [
        "params", "data", *["epoch"] * 3, "metrics", "metrics", "parity", "model"
    ]  # fmt: skip
    epochs = [v for e, v in events if e == "epoch"]
    assert [v["epoch"] for v in epochs] == [1, 2, 3]
    assert set(epochs[0]) >= {"loss", "error_percent", "seconds", "samples_per_s", "lr"}
    assert done[-1] == (3 * 60, 3 * 60)
    assert result.parity["same_labels"] == 1 and result.parity["tiles"] == 30
    assert result.tiles["train"] == {"brick": 20, "grass": 20, "water": 20}
    assert not (tmp_path / "model" / "checkpoints").exists()
    again = json.loads(json.dumps(result.to_dict()))
    assert again["epochs"] == 3 and len(again["history"]) == 3


@pytest.mark.parametrize("depth", ["last_only", "all"])
def test_the_model_says_how_unlike_its_training_tiles_a_tile_is(tmp_path: Path, depth: str) -> None:
    """Held-out tiles tell the unit: the network has learned from the others."""
    made = write_tiles(tmp_path, {"train": 60, "validation": 60})
    result = finetune(made.uri, str(tmp_path / "model"), settings(epochs=1, depth=depth), ONE)
    loaded = model.open_model(result.uri)
    assert loaded.info.outputs == ("probabilities", "shares", "distance")
    assert loaded.info.distance["held_out"] == 60
    run = model.runner(loaded, "fp32", workers=1)
    held = run.predict(by_split(made, "validation")[0]).distance
    near = run.predict(by_split(made, "train")[0]).distance
    assert held is not None and held.max() == pytest.approx(1, abs=1e-3)
    assert near is not None and np.median(near) < np.median(held)  # they are what is known


def test_a_fine_tuned_model_scores_without_torch(small: Any, tmp_path: Path) -> None:
    result = finetune(small.uri, str(tmp_path / "model"), settings(epochs=1), ONE)
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'sklearn'): sys.modules[name] = None\n"
        "from quadrat.scoring import score\n"
        f"print(score({result.uri!r}, {small.uri!r}, {str(tmp_path / 'scores')!r}).tiles)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "102"


def test_only_the_chosen_depth_changes(small: Any, tmp_path: Path, weights: str) -> None:
    """Layers that are not retrained keep weights and batch statistics, bit for bit."""
    finetune(
        small.uri, str(tmp_path / "model"),
        settings(depth="from:conv5", weights=weights, batch_norm="batch"), ONE,
        keep_checkpoints=True,
    )  # fmt: skip
    last = torch.load(tmp_path / "model" / "checkpoints" / "last.pt", weights_only=True)["module"]
    began = torch.load(weights, weights_only=True)
    changed = {k for k in began if not k.startswith("fc.") and not torch.equal(began[k], last[k])}
    assert changed == {k for k in began if k.startswith("conv5.")}


def test_frozen_batch_normalisation_keeps_its_statistics(
    small: Any, tmp_path: Path, weights: str
) -> None:
    finetune(small.uri, str(tmp_path / "m"), settings(weights=weights), ONE, keep_checkpoints=True)
    last = torch.load(tmp_path / "m" / "checkpoints" / "last.pt", weights_only=True)["module"]
    began = torch.load(weights, weights_only=True)
    kept = {k for k in began if torch.equal(began[k], last.get(k, torch.empty(0)))}
    assert kept == {k for k in began if "running" in k or "tracked" in k}


def test_last_only_featurizes_once_a_view(
    small: Any, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many epochs: the network sees each training tile once a view, others once."""
    seen = []
    forward = torchvision.models.ShuffleNetV2.forward

    def counted(self: Any, x: Any) -> Any:
        if tuple(x.shape[1:]) == (3, 32, 32) and self.stage4.training is False:
            seen.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(torchvision.models.ShuffleNetV2, "forward", counted)
    monkeypatch.setattr(export.Scorer, "forward", lambda self, chips: torch.zeros(1))
    monkeypatch.setattr(export, "check", lambda *_: export.Parity(1, 0.0, 1.0))

    def run(epochs: int, views: int) -> int:
        seen.clear()
        chosen = settings(weights=weights, depth="last_only", epochs=epochs, views=views)
        from contextlib import suppress

        with suppress(Exception):  # the graph of the monkeypatched network is no model
            finetune(small.uri, str(tmp_path / f"m{epochs}{views}"), chosen, ONE)
        return sum(seen)

    whole = run(2, 1)
    assert run(9, 1) == whole
    assert run(9, 3) == whole + 2 * 60


def test_last_only_trains_the_layer_that_is_exported(
    small: Any, tmp_path: Path, weights: str
) -> None:
    chosen = settings(weights=weights, depth="last_only", epochs=30, views=2, batch=60)
    result = finetune(small.uri, str(tmp_path / "model"), chosen, ONE)
    held = result.history[result.best_epoch - 1]
    assert result.accuracy == pytest.approx(held["validation_accuracy"])
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.seconds["features"] > 0


def test_the_head_is_fitted_first(small: Any, tmp_path: Path) -> None:
    """With a learning rate of nearly 0 the model is the frozen network with its logistic head."""
    from sklearn.linear_model import LogisticRegression

    result = finetune(small.uri, str(tmp_path / "model"), pretrained(epochs=1, lr=1e-12), ONE)
    from quadrat.finetuning import augment, networks

    network = networks.build("efficientnet_lite0", 3, None, 32)
    body = networks.without_head(network)

    def features(split: str) -> tuple[np.ndarray, list[str]]:
        chips, labels = by_split(small, split)
        with torch.inference_mode():
            x = augment.plain(chips, pixels=32, mean=network.mean, std=network.std)
            return body(x).numpy(), labels

    (x, y), (held, truth) = features("train"), features("validation")
    mean, scale = x.mean(0), np.where(x.std(0) > 1e-6, x.std(0), 1)
    reference = LogisticRegression(C=1 / (0.01 * len(x)), max_iter=1000)
    reference.fit((x - mean) / scale, y)
    expected = reference.score((held - mean) / scale, truth)
    assert result.accuracy == pytest.approx(expected, abs=1 / 30)


@pytest.mark.long
def test_killed_in_the_second_epoch_and_resumed_it_gives_the_same_model(
    small: Any, tmp_path: Path
) -> None:
    chosen = settings(epochs=4, batch_norm="batch", patience=4)
    text = json.dumps({"source": small.uri, "out": str(tmp_path / "killed"), "run_id": "run1",
                       "settings": chosen.to_dict(), "kill_at": 60 + 40})  # fmt: skip
    killed = subprocess.run([sys.executable, str(JOB), text], capture_output=True, check=False)
    assert killed.returncode == -9
    state = torch.load(tmp_path / "killed" / "checkpoints" / "last.pt", weights_only=True)
    assert state["epoch"] == 1
    assert stopped_run(str(tmp_path / "killed")) == "run1"
    with pytest.raises(TrainError, match="--resume goes on with it"):
        finetune(small.uri, str(tmp_path / "killed"), chosen, ONE)
    a, b = (
        finetune(
            small.uri, str(tmp_path / out), chosen, ONE, resume=out == "killed", run_id="run1",
            keep_checkpoints=True,
        ).to_dict()
        for out in ("whole", "killed")
    )  # fmt: skip
    assert b["resumed_after"] == 1
    assert a["digest"] == b["digest"]
    for name in ("last.pt", f"best-{a['best_epoch']:04d}.pt"):
        one, two = (
            torch.load(tmp_path / out / "checkpoints" / name, weights_only=True)["module"]
            for out in ("whole", "killed")
        )
        assert all(torch.equal(one[k], two[k]) for k in one)
    timed = ("seconds", "samples_per_s")
    for x, y in zip(a["history"], b["history"], strict=True):
        assert {k: v for k, v in x.items() if k not in timed} == {
            k: v for k, v in y.items() if k not in timed
        }


def test_resuming_what_was_never_started_starts_and_says_so(small: Any, tmp_path: Path) -> None:
    result = finetune(small.uri, str(tmp_path / "m"), settings(epochs=1), ONE, resume=True)
    assert any("starts from the beginning" in w for w in result.warnings)


def test_a_checkpoint_of_other_tiles_or_settings_is_refused(small: Any, tmp_path: Path) -> None:
    out = str(tmp_path / "model")
    finetune(small.uri, out, settings(epochs=1), ONE, keep_checkpoints=True)
    for other, says in (
        (settings(epochs=1, backbone="resnet18"), f"backbone is .*{NETWORK}, not resnet18"),
        (settings(epochs=1, lr=0.1), "lr is 0.005, not 0.1"),
    ):
        with pytest.raises(TrainError, match=f"another training: its {says}"):
            finetune(small.uri, out, other, ONE, resume=True)
    pictures = write_tiles(tmp_path / "other", {"train": 30, "validation": 9})
    with pytest.raises(TrainError, match="its tiles is"):
        finetune(pictures.uri, out, settings(epochs=1), ONE, resume=True)


def test_a_graph_that_differs_from_the_network_is_refused(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(scorer: Any, size_px: int) -> bytes:
        changed = export.Scorer.__new__(export.Scorer)
        torch.nn.Module.__init__(changed)
        changed.network, changed.pixels = scorer.network, scorer.pixels
        changed.mean, changed.std = scorer.std, scorer.mean  # as if exchanged in the export
        changed.scalings, changed.classes = scorer.scalings, scorer.classes
        return honest(changed.eval(), size_px)

    honest = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", other)
    with pytest.raises(TrainError, match=r"differs from the trained network.*no model"):
        finetune(small.uri, str(tmp_path / "model"), pretrained(epochs=1), ONE)
    assert not (tmp_path / "model" / "model.json").exists()
    assert (tmp_path / "model" / "checkpoints" / "last.pt").exists()


@pytest.mark.parametrize(
    "name", ["alexnet", "resnet18", "efficientnet_lite0", "mobilenet_v3_small"]
)
def test_exported_graphs_agree_with_torch(name: str) -> None:
    import dataclasses

    from quadrat.finetuning import augment, networks
    from quadrat.heads.calibrate import Scaling, Scalings

    side = 64 if name == "alexnet" else 48
    network = dataclasses.replace(networks.build(name, 5, "random", side), name=name)
    scorer = export.Scorer(network, Scalings(Scaling(0.6), Scaling(1.7)), 4)
    chips = np.random.default_rng(0).integers(0, 256, (9, 100, 100, 3), np.uint8)
    graph = export.to_onnx(scorer, 100)
    parity = export.check(scorer, graph, chips)
    assert parity.max_difference < 1e-4 and parity.same_labels == 1
    for runtime in ("onnxruntime", "openvino"):
        run = model.compile_network(graph, runtime=runtime, workers=1, classes=4, open_rows=True)
        with torch.inference_mode():
            seen = torch.from_numpy(chips).permute(0, 3, 1, 2)
            seen = augment.prepared(seen, network.pixels, network.mean, network.std)
            logits = scorer.network(seen)
        found = run.predict(chips)
        for rows, temperature in ((found.probabilities, 0.6), (found.shares, 1.7)):
            expected = torch.softmax(logits / temperature, 1)[:, :4]
            np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_calibration_lowers_the_loss_of_held_out_tiles(small: Any, tmp_path: Path) -> None:
    result = finetune(small.uri, str(tmp_path / "model"), pretrained(), ONE)
    loaded = model.open_model(result.uri)
    chips, labels = by_split(small, "validation")
    p = model.runner(loaded, "fp32", workers=1)(chips).astype(float)
    truth = [loaded.legend.id(w) for w in labels]

    def loss(power: float) -> float:
        q = p**power
        return float(-np.log((q / q.sum(1, keepdims=True))[range(len(q)), truth]).mean())

    assert result.temperature != 1
    assert loss(1.0) <= min(loss(0.8), loss(1.25)) + 1e-6


def test_what_cannot_be_done_here_is_refused_in_one_line(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "model")
    if not torch.cuda.is_available():
        with pytest.raises(TrainError, match="there is no GPU that torch can use"):
            finetune(small.uri, out, settings(), Machine(device="cuda"))
    with pytest.raises(TrainError, match=f"{NETWORK} has one fully connected layer"):
        finetune(small.uri, out, settings(depth="fully_connected"), ONE)
    with pytest.raises(BackboneError, match="no backbone nonet; there are"):
        finetune(small.uri, out, settings(backbone="nonet"), ONE)
    with pytest.raises(TrainError, match="give tile sets by their URI"):
        finetune(tiles.open_tiles(small.uri), out, settings(), Machine(nproc=2))
    from quadrat import storage

    with storage.lock(out), pytest.raises(LockedError, match="another process"):
        finetune(small.uri, out, settings(), ONE)
    monkeypatch.setitem(sys.modules, "torch", None)
    from quadrat.errors import MissingExtraError

    with pytest.raises(MissingExtraError, match=r"quadrat\[finetune\]"):
        finetune(small.uri, out, settings(), ONE)


@pytest.mark.long
def test_bf16_trains_and_the_model_is_measured_in_float(small: Any, tmp_path: Path) -> None:
    result = finetune(small.uri, str(tmp_path / "m"), pretrained(precision="bf16"), ONE)
    assert result.machine["precision"] == "bf16"
    chips, labels = by_split(small, "validation")
    loaded = model.open_model(result.uri)
    names = loaded.legend.names
    p = model.runner(loaded, "fp32", workers=1)(chips)
    right = np.mean([names[i] == w for i, w in zip(p.argmax(1), labels, strict=True)])
    assert right == pytest.approx(result.accuracy)
