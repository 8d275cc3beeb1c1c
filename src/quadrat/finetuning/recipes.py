"""The recipe of a network by name, for training: the zoos' networks, and those of the table.

What `backbones.BACKBONES` lists has its normalisation and weights there, for `train` as for here;
its torch module is torchvision's, or stands in `MODULES`. It does not know classes, depths or
training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from quadrat.backbones import BACKBONES, load_weights, zoos
from quadrat.backbones.networks import LITE0_STAGES, LITE1_STAGES, LITE2_STAGES, Stages
from quadrat.backbones.zoos import Fetched, Recipe
from quadrat.errors import BackboneError


def _lite(stages: Stages) -> nn.Module:
    from quadrat.finetuning.lite import Lite

    return Lite(stages)


def _lite_name(key: str) -> str:
    from quadrat.finetuning.lite import own_name

    return own_name(key)


# backbones whose torch modules torchvision lacks: how each is made, and its parameters' names
MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[[str], str]]] = {
    "efficientnet_lite0": (partial(_lite, LITE0_STAGES), _lite_name),
    "efficientnet_lite1": (partial(_lite, LITE1_STAGES), _lite_name),
    "efficientnet_lite2": (partial(_lite, LITE2_STAGES), _lite_name),
}


def find(name: str) -> Recipe:
    """The recipe of a network's name; BackboneError when no library has it."""
    if name.lower().endswith(".onnx"):
        raise BackboneError(
            f"{name} is a finished graph, which cannot be retrained; name the network that it was "
            "made from, with --weights FILE, or give it to quadrat train"
        )
    return _in_table(name) if name in BACKBONES else zoos.find(name)


def _in_table(name: str) -> Recipe:
    """A backbone of `train`: the same normalisation and weights, so that results compare."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in MODULES and name not in known:
        raise BackboneError(
            f"{name} has no torch module that could be retrained; choose another backbone, such "
            "as efficientnet_lite0"
        )
    plain = partial(torchvision.models.get_model, name, weights=None), str
    maker, rename = MODULES.get(name, plain)
    row = BACKBONES[name]

    def fetch() -> Fetched:
        state, digest = load_weights(name)
        return {k: torch.from_numpy(v) for k, v in state.items()}, digest, row.weights

    return Recipe(name, maker, row.size_px, row.mean, row.std, fetch, row.licence, rename)
