"""Depthwise convolutions in single precision where the rest computes in bf16, on CPUs.

A CPU's bf16 kernels for the gradient of a depthwise convolution took three to four times as long as
those of float32, and half of a step of EfficientNet-Lite0. On GPUs nothing changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DepthwiseInFloat(nn.Conv2d):
    """A convolution that is computed in float32 where it is depthwise and on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution, in float32 where mixed precision is slower than it."""
        depthwise = self.groups == self.in_channels > 1
        if depthwise and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


def in_float(module: nn.Module) -> nn.Module:
    """The network with its depthwise convolutions replaced by `DepthwiseInFloat`."""
    for each in module.modules():
        if type(each) is nn.Conv2d and each.groups == each.in_channels > 1:
            each.__class__ = DepthwiseInFloat
    return module
