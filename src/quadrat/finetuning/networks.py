"""Networks with a new last layer and pretrained weights, and how deep to retrain them.

A network here is a torch module from `(N, 3, P, P)` normalised pictures to logits, whose last
linear layer is new. It does not know tiles, training or files of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from quadrat.backbones import modules
from quadrat.backbones.given import CURE, Given, check_licence
from quadrat.errors import BackboneError, TrainError
from quadrat.finetuning.depthwise import in_float
from quadrat.finetuning.recipes import find
from quadrat.finetuning.settings import FROM, RANDOM

# Containers whose children are the network's stages: `from:features.4`, `from:blocks.10`.
CONTAINERS = ("features", "blocks", "stages", "layers", "encoder", "network")


@dataclass(frozen=True)
class TorchNetwork:
    """A network ready to train.

    Attributes:
        module: the torch module, `(N, 3, pixels, pixels) float32` -> `(N, classes)` logits.
        head: dotted name of its last linear layer, which is new.
        classifier: the top-level part that holds the head.
        weights_sha256: of the file of pretrained weights; "" for random ones.
    """

    name: str
    module: nn.Module
    head: str
    classifier: str
    pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    weights_sha256: str
    licence: str

    @property
    def dim(self) -> int:
        """Features that the last layer sees."""
        return int(linear(self.module, self.head).in_features)


def build(
    name: str,
    classes: int,
    weights: str | None = None,
    pixels: int | None = None,
    seed: int = 0,
    *,
    given: Given | None = None,
) -> TorchNetwork:
    """A pretrained network with a new last layer.

    Args:
        name: see `FinetuneSettings.backbone`.
        classes: outputs of the new last layer.
        weights: a file, "random", or None for the published ones.
        pixels: side of the pictures that it will see; its own when None.
        seed: of the new layer (and of all layers with random weights).
        given: what the user says of it where its own metadata do not.

    Raises:
        BackboneError: an unknown network, weights that cannot be had or that belong to another, a
            licence that was not accepted, a normalisation that nothing says.
    """
    recipe, asked = find(name), given or Given()
    mean, std = asked.statistics or (recipe.mean, recipe.std)
    if mean is None or std is None:
        raise BackboneError(
            f"{recipe.name} does not say how bytes become its input; say it with {CURE}"
        )
    if weights is None:
        check_licence(recipe.name, recipe.licence, asked.accept_licence)
    torch.manual_seed(seed)
    ready = modules.ready(recipe, weights, asked.pooling)
    module, head = in_float(ready.module), ready.head
    # Seeded again: how many random numbers the discarded initial weights took does not matter.
    torch.manual_seed(seed)
    old = linear(module, head)
    module.set_submodule(head, nn.Linear(old.in_features, classes))
    nn.init.zeros_(linear(module, head).bias)
    side = pixels or recipe.pixels
    shape = modules.shape_of_row(recipe.name, module, side, "use other --pixels")
    if shape != (1, classes):
        raise BackboneError(
            f"{recipe.name} gives {shape}, not one row of {classes} logits a tile: tokens or a "
            "map; say with --pooling token, mean or both what its features are"
        )
    licences = {None: recipe.licence, RANDOM: ""}
    return TorchNetwork(
        name=recipe.name,
        module=module.float(),
        head=head,
        classifier=head.split(".")[0],
        pixels=side,
        mean=mean,
        std=std,
        weights=ready.described,
        weights_sha256=ready.weights_sha256,
        licence=licences.get(weights, "unknown: a file of the user's"),
    )


def depths(network: TorchNetwork) -> tuple[str, ...]:
    """The depths to which a network can be retrained, shallowest first."""
    full = ("fully_connected",) if len(_connected(network)) > 1 else ()
    return ("last_only", *full, *(FROM + stage for stage in reversed(stages(network))), "all")


def stages(network: TorchNetwork) -> tuple[str, ...]:
    """Names of the parts with weights, from the picture to the classes, for `from:LAYER`.

    Containers are opened as far down as they hold others: a transformer's parts are its blocks.
    """
    return tuple(_opened(network.module, ""))


def _opened(module: nn.Module, above: str) -> Iterator[str]:
    for child, part in module.named_children():
        if not _count(part):
            continue
        name = _dotted(above, child)
        inner = {n for n, _ in part.named_children()}
        if child in CONTAINERS or inner & {"blocks", "layers"}:
            yield from _opened(part, name)
        else:
            yield name


def steps_to_head(network: TorchNetwork) -> dict[str, int]:
    """Parameter -> how many stages lie between it and the last one, for a decay by layer.

    What stands beside the stages (a token, the places' vectors) goes with those before it.
    """
    names, at, steps = stages(network), 0, {}
    for parameter, _ in network.module.named_parameters():
        inside = [i for i, name in enumerate(names) if parameter.startswith(f"{name}.")]
        at = inside[-1] if inside else at
        steps[parameter] = len(names) - 1 - at
    return steps


def retrain(network: TorchNetwork, depth: str, batch_norm: str = "batch") -> tuple[str, ...]:
    """Set `requires_grad` of the parameters that are retrained, and only of these.

    Args:
        depth: see `FinetuneSettings.depth`.
        batch_norm: "frozen" keeps the statistics of retrained batch normalisation too.

    Returns:
        Names of the modules to put in training mode; every other stays in eval mode, so that the
        statistics and dropout of frozen layers stay put.

    Raises:
        TrainError: the network has no such depth; the message names those it has.
    """
    params = [name for name, _ in network.module.named_parameters()]
    if depth == "all":
        first = 0
    elif depth == "last_only":
        first = params.index(f"{network.head}.weight")
    elif depth == "fully_connected":
        layers = _connected(network)
        if len(layers) < 2:
            raise TrainError(
                f"{network.name} has one fully connected layer, which is its last; "
                f"its depths are {_listed(depths(network))}"
            )
        first = params.index(f"{layers[0]}.weight")
    else:
        layer = depth.removeprefix(FROM)
        inside = [i for i, name in enumerate(params) if name.startswith(f"{layer}.")]
        if not inside:
            raise TrainError(
                f"{network.name} has no layer {layer!r} with weights; "
                f"its depths are {_listed(depths(network))}"
            )
        first = min(inside)
    chosen = set(params[first:])
    for name, parameter in network.module.named_parameters():
        parameter.requires_grad_(name in chosen)
    return _training_modules(network.module, chosen, first == 0, batch_norm)


def set_training(module: nn.Module, names: tuple[str, ...]) -> None:
    """Put the named modules, and only those, in training mode."""
    module.eval()
    for name in names:
        module.get_submodule(name).training = True


def without_head(network: TorchNetwork) -> nn.Module:
    """A copy that gives `(N, dim)` features: the inputs of the last linear layer, in eval mode."""
    return modules.without(network.module, network.head)


def linear(module: nn.Module, name: str) -> nn.Linear:
    """The linear layer of that name."""
    layer = module.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise BackboneError(f"{name} is no linear layer; choose another network")
    return layer


def _training_modules(
    root: nn.Module, chosen: set[str], whole: bool, batch_norm: str
) -> tuple[str, ...]:
    """Names of the modules that train.

    A layer with weights trains when they are retrained; a part that holds others (it acts only
    through them, but for stochastic depth) when all that is in it does; what has no weights
    (dropout) when it comes after the first retrained layer or its neighbours are all retrained.
    """
    names: list[str] = []
    reached = whole
    for name, module in root.named_modules():
        own = [_dotted(name, p) for p, _ in module.named_parameters(recurse=False)]
        inside = [_dotted(name, p) for p, _ in module.named_parameters()]
        reached = reached or any(p in chosen for p in own)
        if inside:
            trains = all(p in chosen for p in inside)
        else:
            above = name.rpartition(".")[0]
            near = [_dotted(above, p) for p, _ in root.get_submodule(above).named_parameters()]
            trains = reached or (bool(near) and all(p in chosen for p in near))
        still = batch_norm == "frozen" and isinstance(module, nn.modules.batchnorm._BatchNorm)
        if trains and not still:
            names.append(name)
    return tuple(names)


def _dotted(above: str, name: str) -> str:
    return f"{above}.{name}" if above else name


def _connected(network: TorchNetwork) -> list[str]:
    """Linear layers of the part that holds the head: the classifier's fully connected layers."""
    part = network.module.get_submodule(network.classifier)
    if isinstance(part, nn.Linear):
        return [network.classifier]
    return [
        f"{network.classifier}.{n}" for n, m in part.named_modules() if isinstance(m, nn.Linear)
    ]


def _listed(names: tuple[str, ...]) -> str:
    if len(names) > 14:
        names = (*names[:8], "...", *names[-4:])
    return ", ".join(names)


def _count(module: nn.Module) -> int:
    return sum(1 for _ in module.parameters())
