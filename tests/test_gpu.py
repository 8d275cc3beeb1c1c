"""The GPU runtime, on ONNX Runtime's CPU provider in the place of CUDA's: no GPU is needed.

What is shown is that blocks, bindings, fp16 and its acceptance are right. Speed is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import quadrat
from quadrat import model
from quadrat.backbones import feature_graph
from quadrat.errors import ModelError
from quadrat.heads import forms
from quadrat.model import compile_network, gpu, machine

RNG = np.random.default_rng(2)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's CPU provider is called the GPU's."""
    monkeypatch.setattr(machine, "GPU_PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(gpu, "OPTIONS", {})
    monkeypatch.setattr(gpu, "BATCH", 8)


@pytest.fixture(scope="module")
def lite0() -> bytes:
    return feature_graph("efficientnet_lite0", size_px=64).onnx


def chips(n: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, 64, 64, 3), np.uint8)


def test_batches_through_bindings_give_the_cpus_features(stand_in: None, lite0: bytes) -> None:
    network = compile_network(lite0, size_px=64)
    assert (network.runtime, network.batch) == ("cuda", 8)
    truth = compile_network(lite0, size_px=64, runtime="onnxruntime")
    for n in (0, 1, 8, 19):  # none, a part of a block, one, two and a part
        some = chips(n)
        np.testing.assert_allclose(network(some), truth(some), atol=1e-4)


def test_fp16_computes_in_half_precision_with_floats_at_its_ends(
    stand_in: None, lite0: bytes
) -> None:
    import onnx

    kinds = {w.data_type for w in onnx.load_from_string(gpu.half(lite0)).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    some = chips(5)
    truth = compile_network(lite0, size_px=64, runtime="onnxruntime")(some)
    found = compile_network(lite0, size_px=64, precision="fp16")(some)
    off = np.abs(found - truth).max() / np.sqrt(np.mean(truth**2))
    assert found.dtype == np.float32 and 0 < off < 0.1


def test_precisions_of_the_other_device_are_refused(stand_in: None, lite0: bytes) -> None:
    with pytest.raises(ModelError, match="in fp32 or fp16, not bf16"):
        compile_network(lite0, size_px=64, precision="bf16", runtime="cuda")


def test_a_card_whose_libraries_do_not_load_is_said(
    monkeypatch: pytest.MonkeyPatch, lite0: bytes
) -> None:
    import onnxruntime

    monkeypatch.setattr(machine, "has_cuda", lambda: True)
    real = onnxruntime.InferenceSession

    def without(
        data: bytes, options: Any, providers: Any
    ) -> Any:  # what ONNX Runtime falls back to
        return real(data, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without)
    with pytest.raises(ModelError, match="CUDA or cuDNN did not load"):
        compile_network(lite0, size_px=64, runtime="cuda")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two classes of stripes, 20 synthetic pictures of 64 px each."""
    root = tmp_path_factory.mktemp("pictures")
    for name, step in (("fine", 4), ("coarse", 24)):
        (root / name).mkdir()
        for i in range(20):
            lines = (np.arange(64) + RNG.integers(step)) // (step // 2) % 2 * 150
            picture = lines[:, None, None] + RNG.integers(0, 40, (64, 64, 3))
            Image.fromarray(picture.astype(np.uint8)).save(root / name / f"{i}.png")
    return str(root)


@pytest.mark.long
def test_a_model_is_trained_and_scored_in_fp16_where_validation_accepts_it(
    stand_in: None, pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = quadrat.train(pictures, str(tmp_path / "model"), views=1)
    assert (trained.precision, trained.device) == ("fp16", "GPU (CUDA)")
    assert set(trained.forms) == {"fp32", "fp16"}
    scored = quadrat.score(str(tmp_path / "model"), pictures, str(tmp_path / "gpu"))
    assert (scored.precision, scored.device) == ("fp16", "GPU (CUDA)")
    # the same bundle on a machine without a card
    monkeypatch.setattr(machine, "GPU_PROVIDER", "CUDAExecutionProvider")
    scored = quadrat.score(str(tmp_path / "model"), pictures, str(tmp_path / "cpu"))
    assert (scored.precision, scored.device) == ("fp32", "CPU")
    both = [quadrat.open_scores(str(tmp_path / n)).to_pandas() for n in ("gpu", "cpu")]
    assert (both[0]["label"] == both[1]["label"]).mean() > 0.9


def test_fp16_that_overflows_is_not_accepted(
    stand_in: None, pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = forms.learn

    def learn(job: Any, on_progress: Any = None) -> Any:
        if job.precision == "fp16":
            raise ModelError("the network gives NaN or infinite numbers for 3 of 4 tiles")
        return real(job, on_progress)

    monkeypatch.setattr(forms, "learn", learn)
    trained = quadrat.train(pictures, str(tmp_path / "model"), views=1)
    assert trained.precision == "fp32"
    assert any(
        w.startswith("fp16 was not accepted: the network gives NaN") for w in trained.warnings
    )


def test_the_device_is_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_cuda", lambda: True)
    assert [model.device(p) for p in ("fp32", "fp16", "int8")] == ["GPU (CUDA)"] * 2 + ["CPU"]
