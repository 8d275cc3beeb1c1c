"""ONNX graphs put together node by node from arrays, with the normalisations folded in.

Knows layers, not networks (`networks`) and not files (`weights`).

Batch normalisation is folded into the convolution before it, in float64. Of the normalisation of
the pixels, the division by the deviation is folded into the first convolution, which is exact; the
mean stays a subtraction of its own, because the first convolution pads with zeros and those stand
for the mean: folded into the bias it would be wrong along the tile's edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import graphs
from quadrat.errors import BackboneError

Array = NDArray[Any]

OPSET = 17  # both runtimes take it in every version that Quadrat supports
SAME = "same"  # TensorFlow's padding: depends on the input's size, the odd pixel at the end


class Net:
    """Builds a graph from the arrays of a state dict and refuses arrays that do not fit.

    Args:
        name: the network's name, for the graph and for messages.
        state: arrays by name.
    """

    def __init__(self, name: str, state: Mapping[str, Array]) -> None:
        self.name = name
        self.state = state
        self.used: set[str] = set()
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def take(self, key: str, shape: Sequence[int]) -> Array:
        """An array of the state dict; BackboneError when it is not of this shape."""
        array = self.state.get(key)
        if array is None:
            raise BackboneError(
                f"these weights do not fit {self.name}: {key} is missing; give the weights of "
                "this network, in its own layout"
            )
        if array.shape != tuple(shape):
            raise BackboneError(
                f"these weights do not fit {self.name}: {key} has shape {list(array.shape)} "
                f"instead of {list(shape)}; give the weights of this network"
            )
        if array.dtype.kind != "f":
            raise BackboneError(
                f"these weights do not fit {self.name}: {key} holds {array.dtype} instead of "
                "floating-point numbers; give weights that are not quantised to integers"
            )
        self.used.add(key)
        return array

    def constant(self, name: str, values: Array) -> str:
        """Keep an array in the graph; the same name twice is the same array."""
        if name not in self.constants:
            if not np.isfinite(values).all():
                raise BackboneError(
                    f"these weights do not fit {self.name}: {name} is not finite; give a file "
                    "from a training that did not diverge"
                )
            self.constants[name] = graphs.constant(name, values)
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append a node; its output has the node's name."""
        self.nodes.append(graphs.node(op, inputs, name, **attributes))
        return name

    def pixels(self, mean: Sequence[float]) -> str:
        """The input: (N, H, W, 3) uint8 -> (N, 3, H, W) float32 less the mean."""
        x = self.add("Transpose", ["chips"], "pixels/planes", perm=[0, 3, 1, 2])
        x = self.add("Cast", [x], "pixels/float", to=graphs.KINDS["float32"])
        if not any(mean):
            return x
        values = np.asarray(mean, np.float32).reshape(1, 3, 1, 1)
        return self.add("Sub", [x, self.constant("pixels/mean", values)], "pixels/centred")

    def conv(
        self,
        x: str,
        key: str,
        shape: Sequence[int],
        *,
        norm: str | None = None,
        stride: int = 1,
        pad: int | str = 0,
        groups: int = 1,
        std: Sequence[float] | None = None,
        eps: float = 1e-5,
    ) -> str:
        """A convolution, with the batch normalisation `norm` or its own bias.

        Args:
            shape: of the weight: (out, in / groups, kernel, kernel).
            pad: pixels on every side, or SAME.
            std: deviations to divide the input's channels by.
        """
        weight = self.take(f"{key}.weight", shape).astype(np.float64)
        if norm is None:
            bias = self.take(f"{key}.bias", shape[:1])
        else:
            gain, shift, mean, variance = (
                self.take(f"{norm}.{part}", shape[:1]).astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            if (variance < 0).any():
                raise BackboneError(
                    f"these weights do not fit {self.name}: {norm}.running_var is negative; give "
                    "a file from a training that did not diverge"
                )
            scale = gain / np.sqrt(variance + eps)
            weight, bias = weight * scale[:, None, None, None], shift - mean * scale
        if std is not None:
            weight = weight / np.asarray(std, np.float64)[None, :, None, None]
        inputs = [
            x,
            self.constant(f"{key}.weight", weight.astype(np.float32)),
            self.constant(f"{key}.bias", bias.astype(np.float32)),
        ]
        side = int(shape[-1])
        padding: dict[str, Any] = (
            {"auto_pad": "SAME_UPPER"} if pad == SAME else {"pads": [int(pad)] * 4}
        )
        return self.add(
            "Conv",
            inputs,
            key,
            kernel_shape=[side, side],
            strides=[stride, stride],
            group=groups,
            **padding,
        )

    def dense(self, x: str, key: str, shape: Sequence[int]) -> str:
        """A fully connected layer; the weight's shape is (out, in)."""
        weight = self.take(f"{key}.weight", shape).astype(np.float32, copy=False)
        bias = self.take(f"{key}.bias", shape[:1]).astype(np.float32, copy=False)
        inputs = [
            x,
            self.constant(f"{key}.weight", weight),
            self.constant(f"{key}.bias", bias),
        ]
        return self.add("Gemm", inputs, key, transB=1)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.add("Relu", [x], f"{x}/relu")

    def relu6(self, x: str) -> str:
        """min(max(x, 0), 6)."""
        low = self.constant("relu6/low", np.asarray(0, np.float32))
        high = self.constant("relu6/high", np.asarray(6, np.float32))
        return self.add("Clip", [x, low, high], f"{x}/relu6")

    def max_pool(self, x: str, name: str, *, side: int, stride: int, pad: int = 0) -> str:
        """The largest value of each window."""
        return self.add(
            "MaxPool",
            [x],
            name,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[pad] * 4,
        )

    def adaptive_mean(self, x: str, name: str, side: int, to: int) -> str:
        """Average pooling of (N, C, side, side) to (N, C, to, to), for any side, exactly.

        Window i covers `[floor(i * side / to), ceil((i + 1) * side / to))`, as in torch; a mean
        over a rectangle is a mean over rows of means over columns, so two products do it.
        """
        if side == to:
            return x
        pool = averaging(side, to)
        x = self.add("MatMul", [self.constant(f"{name}/rows", pool), x], f"{name}/row_means")
        return self.add("MatMul", [x, self.constant(f"{name}/columns", pool.T)], name)

    def mean(self, x: str) -> str:
        """(N, C, H, W) -> (N, C): the mean over all places."""
        x = self.add("GlobalAveragePool", [x], "pool")
        return self.add("Flatten", [x], "pool/flat")

    def check_spare(self, ignore: str) -> None:
        """BackboneError when arrays are left over: the state dict is of another network.

        Args:
            ignore: the prefix of what it may hold besides; empty for nothing.
        """
        for key in self.state:
            allowed = key.endswith("num_batches_tracked") or (ignore and key.startswith(ignore))
            if key not in self.used and not allowed:
                raise BackboneError(
                    f"these weights do not fit {self.name}: it has no "
                    f"{graphs.printable(key)}; give the weights of this network"
                )

    def finish(self, output: str, dim: int, side: int | None) -> bytes:
        """Close the graph: the output becomes `features` (N, dim).

        Args:
            side: H and W if only these will do; None for any.
        """
        last = self.nodes[-1]
        if last.output[0] != output:
            raise ValueError("the output is not the last node's")
        last.output[0] = "features"
        sides: list[str | int] = ["H", "W"] if side is None else [side, side]
        chips = graphs.tensor("chips", "uint8", ["N", *sides, 3])
        features = graphs.tensor("features", "float32", ["N", dim])
        constants = list(self.constants.values())
        return graphs.assemble(self.name, self.nodes, (chips, features), constants, OPSET)


def averaging(side: int, to: int) -> NDArray[np.float32]:
    """The (to, side) matrix that averages `side` values into `to` windows."""
    at = np.arange(to)
    first, last = at * side // to, -(-(at + 1) * side // to)
    places = np.arange(side)
    inside = (places >= first[:, None]) & (places < last[:, None])
    return (inside / (last - first)[:, None]).astype(np.float32)
