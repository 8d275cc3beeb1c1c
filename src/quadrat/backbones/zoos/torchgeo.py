"""torchgeo's weights by the name of their enum's member: `ResNet50_Weights.FMOW_RGB_GASSL`.

A member says how its input was normalised and which bands it has; the network of its enum is made
without weights. Only networks of red, green and blue are taken: tiles have no other bands.
"""

from __future__ import annotations

from typing import Any

from quadrat.backbones.zoos import Channels, Fetched, Recipe
from quadrat.errors import BackboneError, MissingExtraError

RGB = (("R", "G", "B"), ("RED", "GREEN", "BLUE"), ("B4", "B3", "B2"), ("B04", "B03", "B02"))
BYTE = 255.0


def find(name: str) -> Recipe:
    """The recipe of `Enum.MEMBER`.

    Raises:
        BackboneError: no such member, other bands than red, green and blue.
    """
    try:
        from torchgeo import models
    except ImportError:
        raise MissingExtraError(f"the backbone torchgeo:{name}", "torchgeo") from None
    full = f"torchgeo:{name}"
    try:
        member = models.get_weight(name)
    except ValueError:
        raise BackboneError(
            f"torchgeo has no weights {name}; write Enum.MEMBER, such as "
            "torchgeo:ResNet50_Weights.FMOW_RGB_GASSL"
        ) from None
    _check_bands(full, member.meta)
    builder = _builder(models, member)
    if builder is None:
        raise BackboneError(f"torchgeo builds no network for {name}; choose other weights")
    mean, std, side = _transforms(member.transforms)

    def make() -> Any:
        module = models.get_model(builder)
        if getattr(module, "num_classes", 1) == 0:
            module.reset_classifier(1)
        return module

    def fetch() -> Fetched:
        from quadrat.backbones.zoos import torchvision

        state, digest, _ = torchvision.fetched(full, member)
        return state, digest, f"torchgeo's {name}"

    return Recipe(
        full, make, side, mean, std, fetch,
        f"unknown: see {member.meta.get('repo', 'the page of torchgeo')}",
    )  # fmt: skip


def _check_bands(name: str, meta: dict[str, Any]) -> None:
    bands = tuple(str(band).upper() for band in meta.get("bands", ()))
    count = meta.get("in_chans", len(bands))
    if count == 3 and (not bands or bands in RGB):
        return
    listed = f" ({', '.join(bands)})" if bands else ""
    raise BackboneError(
        f"{name} takes {count or 'other'} bands{listed} and tiles have red, green and blue, in "
        "this order; choose weights for RGB"
    )


def _builder(models: Any, member: Any) -> str | None:
    """The name of the function that makes the network of a member's enum."""
    for name in models.list_models():
        try:
            if models.get_model_weights(name) is type(member):
                return str(name)
        except KeyError:  # a network without weights
            continue
    return None


def _transforms(steps: Any) -> tuple[Channels | None, Channels | None, int]:
    """Mean and deviation in 0..255 (None where it is not of bytes) and the side of a picture."""
    mean, std, side, found = [0.0] * 3, [1.0] * 3, 224, False
    for step in steps:
        size = getattr(step, "size", None)
        if size is not None:
            side = int(size[-1])
        if not hasattr(step, "mean"):
            continue
        m, s = (list(map(float, v)) * (3 if len(v) == 1 else 1) for v in (step.mean, step.std))
        if not found and max(s) > BYTE:  # reflectances: what a byte is in them is not said
            return None, None, side
        mean = [a + b * c for a, b, c in zip(mean, std, m, strict=True)]
        std = [b * c for b, c in zip(std, s, strict=True)]
        found = True
    if not found:
        return None, None, side
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), side
