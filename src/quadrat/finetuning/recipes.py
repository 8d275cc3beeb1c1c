"""Networks by name: how each is made, and its published weights.

What `backbones.BACKBONES` lists has its normalisation and weights there, for `train` as for here;
its torch module is torchvision's, or stands in `MODULES`. Others are torchvision's and timm's own.
It does not know classes, depths or training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quadrat import border, storage
from quadrat.backbones import BACKBONES, load_weights
from quadrat.backbones.download import fetched
from quadrat.backbones.networks import LITE0_STAGES, LITE1_STAGES, LITE2_STAGES, Stages
from quadrat.backbones.weights import read_weights
from quadrat.errors import BackboneError

Channels = tuple[float, float, float]
# State dict, SHA-256 of the file, and what it is.
Fetched = tuple[Mapping[str, Tensor], str, str]

TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet"
# Networks with side branches: their training forward gives several outputs.
BRANCHED = ("googlenet", "inception_v3")


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


@dataclass(frozen=True)
class Recipe:
    """How a named network is made, before any weights.

    Attributes:
        make: builds it with its published number of classes, weights not loaded.
        pixels: side of the pictures it was trained on.
        mean, std: of its normalisation, in units of 0 to 255, per channel.
        fetch: its published weights: state dict, SHA-256 of the file, description.
        licence: of the published weights.
        rename: the parameter's name in the module, from its name in a file of weights.
    """

    name: str
    make: Callable[[], nn.Module]
    pixels: int
    mean: Channels
    std: Channels
    fetch: Callable[[], Fetched]
    licence: str
    rename: Callable[[str], str] = str


def find(name: str) -> Recipe:
    """The recipe of a network's name; BackboneError when no library has it."""
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"))
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name in BACKBONES:
        return _in_table(name, name in known)
    if name in BRANCHED:
        raise BackboneError(
            f"{name} has side branches and cannot be retrained; choose another, such as resnet50"
        )
    if name in known:
        return _torchvision(name)
    return _timm(name)


def _torchvision(name: str) -> Recipe:
    import torchvision

    published = torchvision.models.get_model_weights(name).DEFAULT
    shown = published.transforms()
    mean, std = _pixels(shown.mean), _pixels(shown.std)
    return Recipe(
        name, partial(torchvision.models.get_model, name, weights=None), shown.crop_size[0], mean,
        std, lambda: _published(name, published), TORCHVISION_LICENCE,
    )  # fmt: skip


def _in_table(name: str, in_torchvision: bool) -> Recipe:
    """A backbone of `train`: the same normalisation and weights, so that results compare."""
    import torchvision

    if name not in MODULES and not in_torchvision:
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


def _published(name: str, published: Any) -> Fetched:
    """The weights that torchvision publishes."""
    arrays, digest = read_weights(str(fetched(name, published)))
    state = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
    return state, digest, f"torchvision, {published.name}"


def _timm(name: str) -> Recipe:
    try:
        import timm
    except ImportError:
        raise BackboneError(
            f"no network {name!r} in torchvision (alexnet, resnet18, resnet50, ...); "
            "for timm's networks: pip install 'quadrat[timm]'"
        ) from None
    if not timm.is_model(name.split(".")[0]):
        raise BackboneError(
            f"no network {name!r} in torchvision or timm; see timm.list_models() for names"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config: Any = timm.get_pretrained_cfg(name)
    if config is None:
        raise BackboneError(
            f"timm has no published weights of {name!r}; choose another of its tags"
        )

    def fetch() -> Fetched:
        try:
            made = timm.create_model(name, pretrained=True)
        except Exception as error:  # noqa: BLE001 - each of timm's hubs has errors of its own
            raise BackboneError(
                f"timm's weights of {name} could not be downloaded ({border.short(error)}); "
                "try again, or give the file with --weights FILE"
            ) from None
        state = made.state_dict()
        tensors = [v.contiguous().numpy().tobytes() for v in state.values()]
        return state, storage.digest_bytes(b"".join(tensors)), f"timm's {name}"

    mean, std = _pixels(config.mean), _pixels(config.std)
    return Recipe(
        f"timm:{name}", lambda: timm.create_model(name, pretrained=False),
        int(config.input_size[-1]), mean, std, fetch, str(config.license or "see timm"),
    )  # fmt: skip


def _pixels(values: Sequence[float]) -> Channels:
    """Values of 0 to 1 in units of 0 to 255."""
    red, green, blue = (255.0 * float(v) for v in values)
    return red, green, blue
