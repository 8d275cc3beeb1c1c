"""torchvision's ImageNet weights: from torch's cache, or by torchvision's own download.

The only place that imports torchvision for its weights; what was fetched is read by `weights`.
"""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from typing import Any

from quadrat import border
from quadrat.backbones.table import Backbone
from quadrat.errors import BackboneError, MissingExtraError


def torch_cache() -> Path:
    """Where torch keeps downloaded weights: `TORCH_HOME`, or the user's cache folder."""
    home = os.environ.get("TORCH_HOME")
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(home) if home else (Path(base) if base else Path.home() / ".cache") / "torch"
    return folder.expanduser() / "hub" / "checkpoints"


def torchvision_file(backbone: Backbone) -> Path:
    """The file of torchvision's weights for a backbone, fetched if it is not there yet.

    Raises:
        MissingExtraError: it must be fetched, and torchvision is not installed.
        BackboneError: it cannot be fetched.
    """
    path = torch_cache() / backbone.file
    if path.exists():
        return path
    try:
        from torchvision.models import get_model_weights
    except ImportError:
        raise MissingExtraError(f"the backbone {backbone.name}", "finetune") from None
    return fetched(backbone.name, get_model_weights(backbone.name)["IMAGENET1K_V1"])


def fetched(name: str, published: Any) -> Path:
    """The file of weights that torchvision publishes; a broken download leaves nothing behind.

    Args:
        name: the network's, for messages.
        published: a member of torchvision's `WeightsEnum`.

    Raises:
        BackboneError: it cannot be fetched, or arrived damaged.
    """
    try:
        # fetches to a temporary file, checks its digest, renames; what it returns is not used
        published.get_state_dict(
            model_dir=str(torch_cache()), progress=False, check_hash=True, weights_only=True
        )
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise BackboneError(
            f"the weights of {name} cannot be had from {published.url} ({border.short(error)}); "
            "try again, or fetch that file on another machine and give it with --weights FILE"
        ) from None
    return torch_cache() / str(published.url).rsplit("/", 1)[-1]


def check_digest(path: Path, sha256: str) -> None:
    """BackboneError when the SHA-256 of a file does not begin as its name says."""
    promised = path.stem.rsplit("-", 1)[-1]
    if not sha256.startswith(promised):
        raise BackboneError(
            f"{path} is not what its name says: its SHA-256 starts with {sha256[:8]}; remove it, "
            "or give the right file with --weights FILE"
        )
