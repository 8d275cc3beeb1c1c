"""The networks: arrays by name -> an ONNX graph from chips to features.

Each function has the signature `build(net, mean, std, size_px) -> (output, dim, side)`: it adds its
layers to `net`, and returns the output's name, the number of features, and H = W if the graph is
good for that size only (None: any size). It does not know where weights come from.

Sources: Tan and Le 2019 and the TensorFlow "lite" variants (no squeeze-and-excitation, ReLU6,
unscaled stem and head); He et al. 2015 with the stride on the 3 x 3 convolution of a bottleneck, as
in torchvision; Krizhevsky 2014 ("one weird trick"), as in torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from quadrat.backbones.layers import SAME, Net

Pixels = Sequence[float]


class Built(NamedTuple):
    """What the function of a network returns."""

    output: str
    dim: int
    side: int | None


Build = Callable[[Net, Pixels, Pixels, int], Built]

Stages = tuple[tuple[int, int, int, int, int], ...]

# repeats, kernel, first stride, expansion, output channels
LITE0_STAGES: Stages = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# depth 1.1
LITE1_STAGES: Stages = (
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 40),
    (4, 3, 2, 6, 80),
    (4, 5, 1, 6, 112),
    (5, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# depth 1.2, width 1.1
LITE2_STAGES: Stages = (
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)

# place in torchvision's list, output and input channels, kernel, stride, padding
ALEXNET_LAYERS = (
    (0, 64, 3, 11, 4, 2),
    (3, 192, 64, 5, 1, 2),
    (6, 384, 192, 3, 1, 1),
    (8, 256, 384, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)


def efficientnet_lite(
    net: Net, mean: Pixels, std: Pixels, size_px: int, *, stages: Stages
) -> Built:
    """An EfficientNet-Lite in the layout of the default weights; 1280 features, any size."""
    conv = partial(net.conv, pad=SAME, eps=1e-3)
    x = net.pixels(mean)
    x = net.relu6(conv(x, "_conv_stem", (32, 3, 3, 3), norm="_bn0", stride=2, std=std))
    width, block = 32, 0
    for repeats, side, first_stride, expansion, out in stages:
        for repeat in range(repeats):
            key, entry, wide = f"_blocks.{block}", x, width * expansion
            stride = first_stride if repeat == 0 else 1
            if expansion > 1:
                shape = (wide, width, 1, 1)
                x = net.relu6(conv(x, f"{key}._expand_conv", shape, norm=f"{key}._bn0"))
            x = net.relu6(
                conv(
                    x,
                    f"{key}._depthwise_conv",
                    (wide, 1, side, side),
                    norm=f"{key}._bn1",
                    stride=stride,
                    groups=wide,
                )
            )
            x = conv(x, f"{key}._project_conv", (out, wide, 1, 1), norm=f"{key}._bn2")
            if repeat > 0:
                x = net.add("Add", [x, entry], f"{key}/sum")
            width, block = out, block + 1
    x = net.relu6(conv(x, "_conv_head", (1280, width, 1, 1), norm="_bn1"))
    return Built(net.mean(x), 1280, None)


def resnet(
    net: Net,
    mean: Pixels,
    std: Pixels,
    size_px: int,
    *,
    blocks: Sequence[int],
    bottleneck: bool = False,
) -> Built:
    """A ResNet in torchvision's layout; any size."""
    x = net.pixels(mean)
    x = net.relu(net.conv(x, "conv1", (64, 3, 7, 7), norm="bn1", stride=2, pad=3, std=std))
    x = net.max_pool(x, "maxpool", side=3, stride=2, pad=1)
    width, grow = 64, 4 if bottleneck else 1
    for stage, count in enumerate(blocks):
        inner = 64 << stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            key = f"layer{stage + 1}.{block}"
            x = _residual(net, x, key, width=width, inner=inner, out=inner * grow, stride=stride)
            width = inner * grow
    return Built(net.mean(x), width, None)


def _residual(net: Net, x: str, key: str, *, width: int, inner: int, out: int, stride: int) -> str:
    """One block: a sum of its input and of two or three convolutions of it."""
    entry = x
    if stride != 1 or width != out:
        shape = (out, width, 1, 1)
        norm = f"{key}.downsample.1"
        entry = net.conv(x, f"{key}.downsample.0", shape, norm=norm, stride=stride)
    sides: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    if out == inner:
        sides, widths, strides = (3, 3), (width, inner, out), (stride, 1)
    else:
        sides, widths, strides = (1, 3, 1), (width, inner, inner, out), (1, stride, 1)
    for i, side in enumerate(sides):
        x = net.conv(
            x,
            f"{key}.conv{i + 1}",
            (widths[i + 1], widths[i], side, side),
            norm=f"{key}.bn{i + 1}",
            stride=strides[i],
            pad=side // 2,
        )
        if i + 1 < len(sides):
            x = net.relu(x)
    return net.relu(net.add("Add", [x, entry], f"{key}/sum"))


def alexnet(net: Net, mean: Pixels, std: Pixels, size_px: int) -> Built:
    """AlexNet in torchvision's layout; the 4096 features before the last layer; one size."""
    x, side = net.pixels(mean), size_px
    for at, out, width, kernel, stride, pad in ALEXNET_LAYERS:
        x = net.conv(
            x,
            f"features.{at}",
            (out, width, kernel, kernel),
            stride=stride,
            pad=pad,
            std=std if at == 0 else None,
        )
        x = net.relu(x)
        side = (side + 2 * pad - kernel) // stride + 1
        if at in (0, 3, 10):
            x = net.max_pool(x, f"features.{at}/pool", side=3, stride=2)
            side = (side - 3) // 2 + 1
    x = net.adaptive_mean(x, "avgpool", side, 6)
    x = net.add("Flatten", [x], "avgpool/flat")
    x = net.relu(net.dense(x, "classifier.1", (4096, 9216)))
    x = net.relu(net.dense(x, "classifier.4", (4096, 4096)))
    return Built(x, 4096, size_px)


def mean_colour(net: Net, mean: Pixels, std: Pixels, size_px: int) -> Built:
    """Twelve plain numbers a tile, no weights: for tests, and as the least a network must beat.

    Of each channel in 0..1: its mean, its standard deviation, and the mean absolute step to the
    neighbour east and to the neighbour south (which tells rows from columns).
    """
    x = net.pixels(mean)
    scale = np.asarray(std, np.float32).reshape(1, 3, 1, 1)
    x = net.add("Div", [x, net.constant("colour/range", scale)], "colour")
    average = net.add("GlobalAveragePool", [x], "colour/mean")
    away = net.add("Sub", [x, average], "colour/away")
    square = net.add("Mul", [away, away], "colour/square")
    variance = net.add("GlobalAveragePool", [square], "colour/variance")
    parts = [average, net.add("Sqrt", [variance], "colour/deviation")]
    for name, shape in (("east", (3, 1, 1, 2)), ("south", (3, 1, 2, 1))):
        step = np.tile(np.asarray([-1, 1], np.float32).reshape(shape[1:]), (3, 1, 1, 1))
        kernel = net.constant(f"{name}/kernel", step)
        y = net.add("Conv", [x, kernel], name, kernel_shape=list(shape[2:]), group=3)
        y = net.add("Abs", [y], f"{name}/size")
        parts.append(net.add("GlobalAveragePool", [y], f"{name}/mean"))
    x = net.add("Concat", parts, "colour/all", axis=1)
    return Built(net.add("Flatten", [x], "colour/flat"), 12, None)
