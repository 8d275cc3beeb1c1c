"""torchvision's classification networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from quadrat.backbones.zoos import Channels, Fetched, Recipe
from quadrat.errors import BackboneError, MissingExtraError

LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet"
# Networks with side branches: their training forward gives several outputs.
BRANCHED = ("googlenet", "inception_v3")


def find(name: str) -> Recipe | None:
    """The recipe of `NAME` or `NAME.WEIGHTS`; None where torchvision has no such network."""
    try:
        import torchvision
    except ImportError:
        raise MissingExtraError(f"the backbone {name}", "finetune") from None
    plain, _, chosen = name.partition(".")
    if plain not in torchvision.models.list_models(module=torchvision.models):
        return None
    if plain in BRANCHED:
        raise BackboneError(
            f"{plain} has side branches and cannot be retrained; choose another, such as resnet50"
        )
    weights = torchvision.models.get_model_weights(plain)
    if chosen and chosen not in weights.__members__:
        raise BackboneError(
            f"torchvision has no weights {chosen} of {plain}; it has "
            f"{', '.join(weights.__members__)}"
        )
    published = weights[chosen] if chosen else weights.DEFAULT
    shown = published.transforms()
    terms = published.meta.get("license")
    return Recipe(
        name=f"torchvision:{name}",
        make=partial(torchvision.models.get_model, plain, weights=None),
        pixels=shown.crop_size[0],
        mean=pixels_of(shown.mean),
        std=pixels_of(shown.std),
        fetch=lambda: fetched(name, published),
        licence=f"CC-BY-NC-4.0 ({terms})" if terms else LICENCE,
    )


def fetched(name: str, published: Any) -> Fetched:
    """The weights that a member of a `WeightsEnum` publishes, read without running code."""
    import torch

    from quadrat.backbones import download
    from quadrat.backbones.weights import read_weights

    arrays, digest = read_weights(str(download.fetched(name, published)))
    state = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
    return state, digest, f"torchvision, {published.name}"


def pixels_of(values: Sequence[float]) -> Channels:
    """Values of 0 to 1 in units of 0 to 255."""
    red, green, blue = (255.0 * float(v) for v in values)
    return red, green, blue
