"""Networks of other libraries by name: how each is made, its weights, what it was trained on.

    torchvision  torchvision:NAME, torchvision:NAME.WEIGHTS
    timm         timm:NAME, and hf-hub:ORG/NAME for timm's networks on the hub
    torchgeo     torchgeo:Enum.MEMBER

A further library is a module with a function `find(name) -> Recipe` and a row of `ZOOS`. Its
networks are torch modules; what becomes of them is not known here. No code of a hub is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quadrat import choices
from quadrat.errors import BackboneError, MissingExtraError

Channels = tuple[float, float, float]
# State dict, SHA-256 of the file, and what it is.
Fetched = tuple[Mapping[str, Any], str, str]

# prefix of a name -> the function that finds it
ZOOS: dict[str, str] = {
    "torchvision": "quadrat.backbones.zoos.torchvision:find",
    "timm": "quadrat.backbones.zoos.timm:find",
    "hf-hub": "quadrat.backbones.zoos.timm:find_on_hub",
    "torchgeo": "quadrat.backbones.zoos.torchgeo:find",
}
BARE = ("torchvision", "timm")  # where a name without a prefix is looked for
GRAMMAR = (
    "torchvision:NAME, timm:NAME, hf-hub:ORG/NAME, torchgeo:Enum.MEMBER, or a feature network as "
    "an .onnx file"
)


@dataclass(frozen=True)
class Recipe:
    """How a named network is made, before any weights.

    Attributes:
        make: builds it with its published number of classes, weights not loaded.
        pixels: side of the pictures it was trained on.
        mean, std: of its normalisation, in units of 0 to 255, per channel; None where its own
            metadata do not say it, and the user must.
        fetch: its published weights: state dict, SHA-256 of the file, description.
        licence: of the published weights.
        rename: the parameter's name in the module, from its name in a file of weights.
        pooling: how it makes one row of a tile, in its library's word; "" where there is none.
        pixel_m: metres a pixel of the imagery it was trained on; None where nothing says it.
    """

    name: str
    make: Callable[[], Any]
    pixels: int
    mean: Channels | None
    std: Channels | None
    fetch: Callable[[], Fetched]
    licence: str
    rename: Callable[[str], str] = str
    pooling: str = ""
    pixel_m: float | None = None


def find(name: str) -> Recipe:
    """The recipe of a network's name.

    Raises:
        BackboneError: no library has it, or it is unfit for tiles.
        MissingExtraError: its library is not installed.
    """
    prefix, colon, rest = name.partition(":")
    if colon:
        if prefix not in ZOOS or not rest:
            raise BackboneError(f"there is no backbone {name}; write {GRAMMAR}")
        recipe: Recipe | None = choices.load(ZOOS[prefix])(rest)
        if recipe is None:
            raise BackboneError(f"{prefix} has no network {rest!r}; look up its list of names")
        return recipe
    missing: MissingExtraError | None = None
    for zoo in BARE:
        try:
            recipe = choices.load(ZOOS[zoo])(name)
        except MissingExtraError as error:
            missing = error
            continue
        if recipe is not None:
            return recipe
    from quadrat.backbones.table import BACKBONES

    hint = f" ({missing})" if missing is not None else ""
    raise BackboneError(
        f"there is no backbone {name}; there are {', '.join(BACKBONES)}, {GRAMMAR}{hint}"
    )
