"""The model: a self-describing bundle, and the seam to the runtimes that compute it.

`model.onnx` takes chips `(N, H, W, 3) uint8` and gives, with normalisation and calibration inside,
`probabilities` (that a class is the main class of a tile) and `shares` (the expected part of its
ground), each `(N, K) float32`, and `distance`, how unlike the training tiles it is; `model.json`
says the rest. It does not know how a model was
trained, nor where tiles come from.
"""

from __future__ import annotations

from quadrat.model.bundle import (
    CLASS_OUTPUTS,
    DISTANCE,
    OUTPUTS,
    Model,
    ModelInfo,
    open_model,
    save_model,
)
from quadrat.model.machine import device, has_bf16, has_cuda, has_int8
from quadrat.model.network import Network, Prediction
from quadrat.model.quantise import CALIBRATION_TILES, can_quantise, quantise, quantiser
from quadrat.model.runtime import (
    PRECISIONS,
    choose,
    compile_network,
    resolve_precision,
    runner,
    shared_network,
)
from quadrat.model.runtimes import RUNTIMES

__all__ = [
    "CALIBRATION_TILES",
    "CLASS_OUTPUTS",
    "DISTANCE",
    "OUTPUTS",
    "PRECISIONS",
    "RUNTIMES",
    "Model",
    "ModelInfo",
    "Network",
    "Prediction",
    "can_quantise",
    "choose",
    "compile_network",
    "device",
    "has_bf16",
    "has_cuda",
    "has_int8",
    "open_model",
    "quantise",
    "quantiser",
    "resolve_precision",
    "runner",
    "save_model",
    "shared_network",
]
