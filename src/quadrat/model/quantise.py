"""A float graph as an int8 graph, by ONNX Runtime's quantiser: static, one scale a channel.

The result is plain ONNX with QuantizeLinear and DequantizeLinear around what runs in int8, and both
runtimes turn these into their int8 kernels. Weights are symmetric with a scale for each output
channel; activations are uint8 between the least and the greatest value that calibration tiles gave.
ReLU and ReLU6 become the ends of that range. What is not listed in `OPERATORS` (pooling over all
places, a head) stays float.

It does not know what the network is for, and does not judge the result: who trains a head on int8
features measures whether they serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border, graphs, storage
from quadrat.errors import ModelError

Chips = NDArray[np.uint8]

CALIBRATION_TILES = 128
BATCH = 4
HEAVY = ("Conv", "Gemm", "MatMul")  # without one of these int8 has nothing to speed up
OPERATORS = (*HEAVY, "Add", "Clip", "MaxPool", "Relu")
_PREPARED = "onnx.quant.pre_process"


def quantiser() -> list[Any]:
    """What decides the int8 form of a graph besides the tiles: for keys of caches."""
    from importlib import metadata

    return [1, metadata.version("onnxruntime"), list(OPERATORS)]


def can_quantise(data: bytes) -> bool:
    """Whether a graph has layers that int8 makes faster."""
    proto = graphs.parse(data, "the network")
    return any(node.op_type in HEAVY for node in proto.graph.node)


def quantise(data: bytes, chips: Chips, *, size_px: int | None = None) -> bytes:
    """The int8 form of a network.

    Args:
        data: a float graph, chips `(N, H, W, 3) uint8` -> rows `(N, D) float32`.
        chips: calibration tiles, `(N, H, W, 3) uint8`: about `CALIBRATION_TILES` of those that
            train, of all kinds.
        size_px: the side of the tiles, for a graph that takes any.

    Raises:
        ModelError: the graph is none, is quantised already, has nothing to quantise, or no tiles
            were given.
    """
    proto = graphs.parse(data, "the network")
    info = graphs.describe(proto, "the network")
    kinds = {node.op_type for node in proto.graph.node}
    if "QuantizeLinear" in kinds:
        raise ModelError("the network is quantised already; give its float graph")
    if not kinds & set(HEAVY):
        raise ModelError("the network has no layer that int8 makes faster; leave it in float")
    if not len(chips):
        raise ModelError("no tiles to calibrate int8 with; give about a hundred that train")
    if size_px is not None:
        graphs.fix_size(proto, info, size_px)
    made = _quantised(proto, _Tiles(chips, info.input, info.batch or BATCH))
    graphs.describe(made, "the int8 network")
    return graphs.serialise(made)


class _Tiles:
    """Calibration tiles as ONNX Runtime's quantiser reads them."""

    def __init__(self, chips: Chips, name: str, batch: int) -> None:
        self._blocks = self._read(chips, name, batch)

    @staticmethod
    def _read(chips: Chips, name: str, batch: int) -> Iterator[dict[str, Chips]]:
        # a graph of a fixed batch takes whole ones; the last tiles are seen twice then
        for start in range(0, len(chips), batch):
            yield {name: np.take(chips, range(start, start + batch), axis=0, mode="wrap")}

    def get_next(self) -> dict[str, Chips] | None:
        """The next block, or None."""
        return next(self._blocks, None)


def _quantised(proto: Any, tiles: _Tiles) -> Any:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return tiles.get_next()

    # the quantiser asks for its own preparation (shapes, constants folded) in a warning; graphs
    # here are put together so, and it is told
    facts = list(proto.metadata_props)
    note = proto.metadata_props.add()
    note.key, note.value = _PREPARED, "onnxruntime.quant"
    with storage.scratch("int8") as folder:
        out = folder / "int8.onnx"
        try:
            quantization.quantize_static(
                proto,
                out,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                activation_type=quantization.QuantType.QUInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                op_types_to_quantize=list(OPERATORS),
            )
        except Exception as error:
            raise ModelError(f"the network cannot be quantised: {border.short(error)}") from error
        made = graphs.parse(out.read_bytes(), "the int8 network")
    del made.metadata_props[:]
    made.metadata_props.extend(facts)
    return made
