"""Torch networks of the zoos: weights put in, the last layer found and taken off.

A network here is a torch module from `(N, 3, P, P)` normalised pictures to rows. It does not know
tiles, training or files of graphs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from quadrat import border, storage
from quadrat.backbones.weights import read_weights
from quadrat.backbones.zoos import Recipe
from quadrat.errors import BackboneError

HEAD = "head"  # of `PooledTokens`
RANDOM = "random"  # for weights: as the network is made


class PooledTokens(nn.Module):
    """A network whose tokens `(N, T, D)` are made one row, and a last layer on it.

    Attributes:
        pooling: see `Given.pooling`.
        prefix: tokens that stand for no place, in front of the others.
    """

    def __init__(self, network: nn.Module, pooling: str) -> None:
        super().__init__()
        self.network, self.pooling = network, pooling
        self.prefix = int(getattr(network, "num_prefix_tokens", 0))
        width = int(getattr(network, "num_features", 0))
        self.head = nn.Linear(width * (2 if pooling == "both" else 1), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pictures to what the last layer gives."""
        transformer: Any = self.network
        tokens = transformer.forward_features(x)
        token, mean = tokens[:, 0], tokens[:, self.prefix :].mean(1)
        rows = {"token": token, "mean": mean}.get(self.pooling)
        out: Tensor = self.head(torch.cat([token, mean], 1) if rows is None else rows)
        return out


def pooled(name: str, module: nn.Module, pooling: str) -> nn.Module:
    """A transformer of timm's with another pooling than its own."""
    if not hasattr(module, "num_prefix_tokens") or not hasattr(module, "forward_features"):
        raise BackboneError(f"{name} gives no tokens that could be pooled; leave --pooling out")
    if pooling != "mean" and not module.num_prefix_tokens:
        raise BackboneError(f"{name} has no token of the whole picture; use --pooling mean")
    transformer: Any = module
    transformer.reset_classifier(0)
    return PooledTokens(module, pooling)


def head_name(name: str, module: nn.Module) -> str:
    """Dotted name of the last linear layer, which must be the network's last."""
    layers = [n for n, m in module.named_modules() if isinstance(m, nn.Linear)]
    params = [n for n, _ in module.named_parameters()]
    if not layers or params[-1] not in (f"{layers[-1]}.weight", f"{layers[-1]}.bias"):
        raise BackboneError(
            f"{name} does not end in a linear layer, so it cannot be given new classes; "
            "choose another, such as resnet50"
        )
    return str(layers[-1])


def load(
    recipe: Recipe, module: nn.Module, head: str, state: Mapping[str, Tensor], what: str
) -> None:
    """Load weights into a network; all but those of the last layer must be there and fit."""
    given = {recipe.rename(k): v for k, v in state.items()}
    wanted = module.state_dict()
    skip = {f"{head}.weight", f"{head}.bias"}
    missing = [
        k for k in wanted if k not in given and k not in skip and "num_batches_tracked" not in k
    ]
    unknown = [k for k in given if k not in wanted and k not in skip]
    wrong = [
        k for k in wanted if k in given and k not in skip and given[k].shape != wanted[k].shape
    ]
    if missing or unknown or wrong:
        if wrong:
            had, has = (tuple(each[wrong[0]].shape) for each in (given, wanted))
            problem = f"{wrong[0]} has shape {had}, not {has}"
        elif missing:
            problem = f"no {missing[0]} ({len(missing)} missing)"
        else:
            problem = f"an unknown {unknown[0]}"
        raise BackboneError(
            f"{what} does not fit {recipe.name}: {problem}; name the network that it belongs to"
        )
    kept = {k: v for k, v in given.items() if k in wanted and k not in skip}
    module.load_state_dict({**wanted, **kept})


def without(module: nn.Module, head: str) -> nn.Module:
    """A copy that gives `(N, dim)` features: the inputs of the last linear layer, in eval mode."""
    body = copy.deepcopy(module)
    body.set_submodule(head, nn.Identity())
    return body.eval()


def shape_of_row(name: str, module: nn.Module, pixels: int, cure: str) -> tuple[int, ...]:
    """What the network gives for one picture of this side; BackboneError where it takes none."""
    try:
        with torch.inference_mode():
            row: Any = module.eval()(torch.zeros(1, 3, pixels, pixels))
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise BackboneError(
            f"{name} cannot see pictures of {pixels} px ({border.short(error)}); {cure}"
        ) from None
    if not isinstance(row, Tensor):
        raise BackboneError(f"{name} gives no rows of numbers; choose another network")
    return tuple(row.shape)


class Ready(NamedTuple):
    """A network with its weights: the module, its last layer's name, its body, the weights."""

    module: nn.Module
    head: str
    body: nn.Module
    described: str
    weights_sha256: str


def ready(recipe: Recipe, weights: str | None, pooling: str | None) -> Ready:
    """A network with its published weights, those of a file, or random ones.

    Raises:
        BackboneError: weights that cannot be had or do not fit; a pooling that it lacks.
    """
    module = recipe.make()
    head = head_name(recipe.name, module)
    digest, described = "", RANDOM
    if weights is None:
        state, digest, described = recipe.fetch()
        load(recipe, module, head, state, described)
    elif weights != RANDOM:
        arrays, digest = read_weights(weights)
        described = storage.basename(weights)
        state = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
        load(recipe, module, head, state, described)
    if pooling is not None:
        module, head = pooled(recipe.name, module, pooling), HEAD
    return Ready(module, head, without(module, head), described, digest)
