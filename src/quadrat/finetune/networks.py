"""Networks by name, with their pretrained weights, and how deep to retrain them.

A network here is a torch module from `(N, 3, P, P)` normalised pictures to logits, whose last
linear layer is new. It does not know tiles, training or files of models.
"""

from __future__ import annotations

import copy
import http.client
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quadrat import storage
from quadrat.backbones import BACKBONES, load_weights
from quadrat.backbones.download import torch_cache
from quadrat.backbones.weights import read_weights
from quadrat.errors import BackboneError, TrainError
from quadrat.finetune.depthwise import in_float
from quadrat.finetune.settings import FROM, RANDOM

# State dict, SHA-256 of the file, and what it is.
Fetched = tuple[Mapping[str, Tensor], str, str]

TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet"
# Networks with side branches: their training forward gives several outputs.
BRANCHED = ("googlenet", "inception_v3")
# Containers whose children are the network's stages: `from:features.4`, `from:blocks.10`.
CONTAINERS = ("features", "blocks", "stages", "layers", "encoder")


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
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fetch: Callable[[], Fetched]
    licence: str
    rename: Callable[[str], str] = str


@dataclass(frozen=True)
class Network:
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
) -> Network:
    """A pretrained network with a new last layer.

    Args:
        name: see `Settings.backbone`.
        classes: outputs of the new last layer.
        weights: a file, "random", or None for the published ones.
        pixels: side of the pictures that it will see; its own when None.
        seed: of the new layer (and of all layers with random weights).

    Raises:
        BackboneError: an unknown network, weights that cannot be had or that belong to another.
    """
    recipe = find(name)
    torch.manual_seed(seed)
    module = in_float(recipe.make())
    head = _head_name(recipe.name, module)
    if weights == RANDOM:
        digest, described, licence = "", RANDOM, ""
    elif weights is None:
        state, digest, described = recipe.fetch()
        _load(recipe, module, head, state, described)
        licence = recipe.licence
    else:
        arrays, digest = read_weights(weights)
        described, licence = storage.basename(weights), "unknown: a file of the user's"
        tensors = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
        _load(recipe, module, head, tensors, described)
    # Seeded again: how many random numbers the discarded initial weights took does not matter.
    torch.manual_seed(seed)
    old = linear(module, head)
    module.set_submodule(head, nn.Linear(old.in_features, classes))
    nn.init.zeros_(linear(module, head).bias)
    side = pixels or recipe.pixels
    _try(recipe.name, module, classes, side)
    return Network(
        recipe.name, module.float(), head, head.split(".")[0], side, recipe.mean, recipe.std,
        described, digest, licence,
    )  # fmt: skip


def _try(name: str, module: nn.Module, classes: int, pixels: int) -> None:
    """Look whether the network takes pictures of this size, before any work is done."""
    try:
        with torch.inference_mode():
            shape = tuple(module.eval()(torch.zeros(1, 3, pixels, pixels)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BackboneError(
            f"{name} cannot see pictures of {pixels} px ({reason}); use other --pixels"
        ) from None
    if shape != (1, classes):
        raise BackboneError(
            f"{name} gives {shape}, not one row of {classes} logits a tile; choose another network"
        )


def find(name: str) -> Recipe:
    """The recipe of a network's name; BackboneError when no library has it."""
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"))
    if name == "efficientnet_lite0":
        return _lite0()
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name in BRANCHED:
        raise BackboneError(
            f"{name} has side branches and cannot be retrained; choose another, such as resnet50"
        )
    if name in known:
        return _torchvision(name)
    return _timm(name)


def depths(network: Network) -> tuple[str, ...]:
    """The depths to which a network can be retrained, shallowest first."""
    full = ("fully_connected",) if len(_connected(network)) > 1 else ()
    return ("last_only", *full, *(FROM + stage for stage in reversed(stages(network))), "all")


def stages(network: Network) -> tuple[str, ...]:
    """Names of the parts with weights, from the picture to the classes, for `from:LAYER`."""
    names: list[str] = []
    for child, module in network.module.named_children():
        inner = [f"{child}.{n}" for n, m in module.named_children() if _count(m)]
        names += inner if child in CONTAINERS else [child] * bool(_count(module))
    return tuple(names)


def retrain(network: Network, depth: str, batch_norm: str = "batch") -> tuple[str, ...]:
    """Mark what is retrained: its parameters get `requires_grad`, all others lose it.

    Args:
        depth: see `Settings.depth`.
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


def without_head(network: Network) -> nn.Module:
    """A copy that gives `(N, dim)` features: the inputs of the last linear layer, in eval mode."""
    module = copy.deepcopy(network.module)
    module.set_submodule(network.head, nn.Identity())
    return module.eval()


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
    through them, but for stochastic depth) when all that is in it does; what has no weights (dropout)
    when it comes after the first retrained layer or its neighbours are all retrained.
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


def _connected(network: Network) -> list[str]:
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


def _head_name(name: str, module: nn.Module) -> str:
    found = [n for n, m in module.named_modules() if isinstance(m, nn.Linear)]
    params = [n for n, _ in module.named_parameters()]
    if not found or params[-1] not in (f"{found[-1]}.weight", f"{found[-1]}.bias"):
        raise BackboneError(
            f"{name} does not end in a linear layer, so it cannot be given new classes; "
            "choose another, such as resnet50"
        )
    return found[-1]


def _load(
    recipe: Recipe, module: nn.Module, head: str, state: Mapping[str, Tensor], what: str
) -> None:
    """Fill a network; all of it but the last layer must be there and fit."""
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
        problem = (
            f"{wrong[0]} has shape {tuple(given[wrong[0]].shape)}, not {tuple(wanted[wrong[0]].shape)}"
            if wrong
            else f"no {missing[0]}" + (f" ({len(missing)} missing)" if len(missing) > 1 else "")
            if missing
            else f"an unknown {unknown[0]}"
        )
        raise BackboneError(
            f"{what} does not fit {recipe.name}: {problem}; name the network that it belongs to"
        )
    kept = {k: v for k, v in given.items() if k in wanted and k not in skip}
    module.load_state_dict({**wanted, **kept})


def _torchvision(name: str) -> Recipe:
    import torchvision

    published = torchvision.models.get_model_weights(name).DEFAULT
    shown = published.transforms()
    mean, std = (tuple(255.0 * v for v in each) for each in (shown.mean, shown.std))

    def make() -> nn.Module:
        made: nn.Module = torchvision.models.get_model(name, weights=None)
        return made

    row = BACKBONES.get(name)
    fetch = (lambda: _in_table(name)) if row else (lambda: _published(name, published))
    return Recipe(name, make, shown.crop_size[0], mean, std, fetch, TORCHVISION_LICENCE)


def _in_table(name: str) -> Fetched:
    """The weights that `train` has for the same backbone, so that the two compare."""
    state, digest = load_weights(name)
    return {k: torch.from_numpy(v) for k, v in state.items()}, digest, BACKBONES[name].weights


def _published(name: str, published: Any) -> Fetched:
    """torchvision's weights; a broken download leaves nothing behind.

    Raises:
        BackboneError: they cannot be fetched, or arrived damaged.
    """
    try:
        # fetches to a temporary file, checks its digest, renames; read again by the strict reader
        published.get_state_dict(
            model_dir=str(torch_cache()), progress=False, check_hash=True, weights_only=True
        )
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BackboneError(
            f"the weights of {name} cannot be had from {published.url} ({reason}); "
            "try again, or fetch that file elsewhere and give it with --weights FILE"
        ) from None
    arrays, digest = read_weights(str(torch_cache() / storage.basename(published.url)))
    state = {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}
    return state, digest, f"torchvision, {published.name}"


def _lite0() -> Recipe:
    from quadrat.finetune import lite0

    row = BACKBONES["efficientnet_lite0"]
    return Recipe(
        row.name, lite0.Lite0, row.size_px, row.mean, row.std, lambda: _in_table(row.name),
        row.licence, lite0.own_name,
    )  # fmt: skip


def _timm(name: str) -> Recipe:
    try:
        import timm
    except ImportError:
        raise BackboneError(
            f"no network {name!r} in torchvision (alexnet, resnet18, resnet50, ...); "
            "for timm's networks: pip install timm"
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
        except Exception as error:
            # timm's hub clients each raise errors of their own kind
            reason = " ".join(str(error).split())[:160]
            raise BackboneError(
                f"timm's weights of {name} could not be downloaded ({reason}); "
                "try again, or give the file with --weights FILE"
            ) from None
        state = made.state_dict()
        tensors = [v.contiguous().numpy().tobytes() for v in state.values()]
        return state, storage.digest_bytes(b"".join(tensors)), f"timm's {name}"

    mean, std = (tuple(255.0 * float(v) for v in each) for each in (config.mean, config.std))
    return Recipe(
        f"timm:{name}", lambda: timm.create_model(name, pretrained=False),
        int(config.input_size[-1]), mean, std, fetch, str(config.license or "see timm"),
    )  # fmt: skip
