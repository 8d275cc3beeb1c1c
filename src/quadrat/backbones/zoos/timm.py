"""timm's networks, by their names and from the Hugging Face hub. Nothing of a hub is run.

timm builds the network from its own code; a hub gives its name, its numbers and its weights.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

from quadrat import border, storage
from quadrat.backbones.zoos import Fetched, Recipe
from quadrat.backbones.zoos.torchvision import pixels_of
from quadrat.errors import BackboneError, MissingExtraError, QuadratError


def find(name: str) -> Recipe | None:
    """The recipe of one of timm's names, with or without a tag; None where timm has none."""
    timm = _timm(name)
    if not timm.is_model(name.split(".")[0]):
        return None
    config: Any = None
    with warnings.catch_warnings(), suppress(RuntimeError):  # a tag that it does not know
        warnings.simplefilter("ignore")
        config = timm.get_pretrained_cfg(name)
    if config is None:
        raise BackboneError(f"timm has no weights {name}; choose another of its tags")
    licence = str(config.license or "unknown: see timm")
    return _recipe(f"timm:{name}", name, config.to_dict(), licence)


def find_on_hub(name: str) -> Recipe:
    """The recipe of `ORG/NAME`, a network of timm's on the hub.

    Raises:
        BackboneError: no such repository, a gated one, one that holds no network of timm's, no
            network.
    """
    timm = _timm(name)
    from timm.models import load_model_config_from_hf

    full = f"hf-hub:{name}"
    try:
        config, architecture, _ = load_model_config_from_hf(name)
    except Exception as error:  # noqa: BLE001 - the hub's client has errors of its own
        raise hub_error(full, error) from None
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise BackboneError(
            f"{full} is no network of timm's, and code of a hub is not run; export it to ONNX and "
            "give the .onnx file"
        )
    return _recipe(full, full, dict(config), _hub_licence(name))


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError:
        raise MissingExtraError(f"the backbone {name}", "timm") from None
    return timm


def _recipe(shown: str, name: str, config: dict[str, Any], licence: str) -> Recipe:
    """Args: name: as timm takes it. config: its pretrained configuration."""
    channels, *_, side = config["input_size"]
    if channels != 3:
        raise BackboneError(
            f"{shown} takes {channels} bands and tiles have red, green and blue; choose a network "
            "for three bands"
        )
    mean, std = config.get("mean"), config.get("std")

    def make() -> Any:
        module = _timm(name).create_model(name, pretrained=False)
        if not getattr(module, "num_classes", 1):  # made without a last layer: give it one
            module.reset_classifier(1)
        return module

    def fetch() -> Fetched:
        try:
            made = _timm(name).create_model(name, pretrained=True)
        except Exception as error:  # noqa: BLE001 - each of timm's hubs has errors of its own
            raise hub_error(shown, error) from None
        state = made.state_dict()
        tensors = [v.contiguous().numpy().tobytes() for v in state.values()]
        return state, storage.digest_bytes(b"".join(tensors)), f"timm's {name}"

    return Recipe(
        shown, make, int(side), pixels_of(mean) if mean else None, pixels_of(std) if std else None,
        fetch, licence,
    )  # fmt: skip


def hub_error(name: str, error: Exception) -> QuadratError:
    """What the hub's client raised, with the cure."""
    kind = type(error).__name__
    cure = "or give the file with --weights FILE"
    if kind == "GatedRepoError":
        return BackboneError(
            f"{name} is gated: accept its terms on its page and log in with `hf auth login`, {cure}"
        )
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return BackboneError(f"there is no {name} on the hub, or it is private; check the name")
    if kind in ("EntryNotFoundError", "RemoteEntryNotFoundError", "KeyError"):
        return BackboneError(
            f"{name} holds no network of timm's (no config.json of the kind); export it to ONNX "
            "and give the .onnx file"
        )
    return BackboneError(
        f"timm's weights of {name} could not be downloaded ({border.short(error)}); try again, "
        f"{cure}"
    )


def _hub_licence(name: str) -> str:
    """The licence on the repository's card."""
    from huggingface_hub import model_info

    try:
        card = model_info(name.split("@")[0], timeout=10).card_data
    except Exception as error:  # noqa: BLE001 - the hub's client has errors of its own
        raise hub_error(f"hf-hub:{name}", error) from None
    return str(getattr(card, "license", None) or "unknown: see its page on the hub")
