"""The reader of weights: what torch and safetensors write is read as they read it."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quadrat.backbones.weights import parse_weights, read_weights
from quadrat.errors import BackboneError, StorageError


def sample_state() -> Any:
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return OrderedDict(
        a=base,
        turned=base.permute(2, 0, 1),
        window=base[:, 1:, ::2],
        half=torch.linspace(-3, 3, 7).half(),
        brain=torch.linspace(-3, 3, 7).bfloat16(),
        double=torch.linspace(0, 1, 5).double(),
        count=torch.tensor(12345678901),
        yes=torch.tensor([True, False, True]),
        small=torch.tensor([-3, 4], dtype=torch.int8),
        nothing=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2, 2) / 3),
    )


def expect(state: Any, found: dict[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    assert list(found) == list(state)
    for key, value in state.items():
        value = value.detach()
        truth = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        assert found[key].dtype == truth.dtype
        np.testing.assert_array_equal(found[key], truth)


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_saves(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    state, path = sample_state(), tmp_path / "weights.anything"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found, sha256 = read_weights(str(path))
    expect(state, found)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not any(value.flags.writeable for value in found.values())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_finds_the_state_dict_in_a_checkpoint(wrapper: str, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    state = sample_state()
    optimiser = {"state": {0: {"exp_avg": torch.ones(5)}}, "param_groups": [{"lr": 0.1}]}
    checkpoint = {
        "epoch": 3,
        "optimizer": optimiser,
        wrapper: {f"module.{key}": value for key, value in state.items()},
    }
    file = io.BytesIO()
    torch.save(checkpoint, file, _use_new_zipfile_serialization=zipped)
    expect(state, parse_weights(file.getvalue(), "checkpoint"))


def test_reads_the_state_dict_of_a_module_with_its_metadata() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(module.state_dict(), file, _use_new_zipfile_serialization=zipped)
        expect(module.state_dict(), parse_weights(file.getvalue(), "module"))


def test_reads_safetensors(tmp_path: Path) -> None:
    numpy_writer = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    state = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b": rng.normal(size=5).astype(np.float16),
        "c": np.arange(6, dtype=np.int64).reshape(1, 2, 3),
        "empty": np.zeros((0, 2), np.float32),
    }
    path = tmp_path / "w.safetensors"
    numpy_writer.save_file(state, path, metadata={"made": "by a test"})
    found, _ = read_weights(str(path))
    assert set(found) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(found[key], value)


def test_reads_bfloat16_of_safetensors() -> None:
    torch = pytest.importorskip("torch")
    torch_writer = pytest.importorskip("safetensors.torch")
    state = {"w": torch.linspace(-2, 2, 9).bfloat16()}
    expect(state, parse_weights(torch_writer.save(state), "w"))


def test_reads_the_default_weights_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    from quadrat.backbones import BACKBONES, _packaged_file

    file = _packaged_file(BACKBONES["efficientnet_lite0"])
    found, _ = read_weights(str(file))
    expect(torch.load(file, weights_only=True), found)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    for content in (b"", b"\x89PNG\r\n", b"<html>not found</html>", pickle.dumps({"a": 1})):
        path = tmp_path / "some.pth"
        path.write_bytes(content)
        with pytest.raises(BackboneError, match=r"some\.pth is no file of weights"):
            read_weights(str(path))
    with pytest.raises(StorageError, match="does not exist"):
        read_weights(str(tmp_path / "absent.pth"))
