"""Networks of the zoos as graphs, exported once and kept: torch is not needed again.

A kept graph is found by what was asked for (name, file of weights, options, tile side) and by this
code; it names the digest of the weights that are in it, their licence and how far it was from
torch. What was published anew under an old name is fetched when the kept graph is removed. This
module loads without torch; it imports it for a network that is not kept yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.backbones.given import CURE, Given, Pixels, check_licence
from quadrat.errors import BackboneError, MissingExtraError, StorageError
from quadrat.records import Record

Chips = NDArray[np.uint8]
CODE = ("given.py", "modules.py", "exporting.py", "exported.py")
SYNTHETIC_TILES = 4


@dataclass(frozen=True)
class Exported(Record):
    """A kept graph and what is known of it.

    Attributes:
        parity: `tiles`, `max_difference` (of a feature, as a part of their root mean square) and
            whether the tiles were `real`.
    """

    name: str
    size_px: int
    dim: int
    weights: str
    weights_sha256: str
    licence: str
    mean: Pixels
    std: Pixels
    pixels: int
    pooling: str
    pixel_m: float | None
    parity: Mapping[str, Any]


def export(
    name: str,
    weights: str | None,
    size_px: int | None,
    given: Given,
    chips: Callable[[], Chips] | None = None,
) -> tuple[bytes, Exported]:
    """The graph of a network of the zoos, chips `(N, S, S, 3) uint8` -> features `(N, D) float32`.

    Args:
        weights: a file of weights in the network's own layout; its published ones when None.
        size_px: side of the tiles; the one it was trained on when None.
        chips: some real tiles of that side to compare the graph with torch on; synthetic ones when
            None. Asked for where the network is exported now.

    Raises:
        BackboneError: no such network, weights that cannot be had or do not fit, a licence that was
            not accepted, a normalisation that nothing says, a graph that differs from torch.
        MissingExtraError: the network is not kept, and its library is not installed.
    """
    own = None if weights is None else storage.digest_bytes(storage.read_bytes(weights))
    key = _key(name, own, size_px, given)
    place = storage.cache_dir() / "graphs" / f"{file_name(name)}-{key[:16]}"
    kept = _kept(str(place))
    if kept is None:
        kept = _exported(name, weights, size_px, given, chips)
        _keep(str(place), *kept)
    check_licence(name, kept[1].licence, given.accept_licence)
    return kept


def file_name(name: str) -> str:
    """A backbone's name as part of a file's."""
    return re.sub(r"[^\w.-]+", "-", name)


def _key(name: str, weights_sha256: str | None, size_px: int | None, given: Given) -> str:
    source = resources.files("quadrat.backbones")
    return storage.digest_json(
        {
            "name": name,
            "weights": weights_sha256,
            "size_px": size_px,
            "given": replace(given, accept_licence=False).to_dict(),
            "code": [storage.digest_bytes(source.joinpath(each).read_bytes()) for each in CODE],
        }
    )


def _kept(place: str) -> tuple[bytes, Exported] | None:
    with suppress(StorageError):
        facts, graph = storage.read_json(f"{place}.json"), storage.read_bytes(f"{place}.onnx")
        if facts.pop("sha256", None) == storage.digest_bytes(graph):
            facts["mean"], facts["std"] = tuple(facts["mean"]), tuple(facts["std"])
            with suppress(TypeError):
                return graph, Exported(**facts)
    return None


def _keep(place: str, graph: bytes, facts: Exported) -> None:
    # a cache that cannot be written costs time on the next call and nothing else
    with suppress(StorageError):
        storage.write_bytes(f"{place}.onnx", graph)
        digest = storage.digest_bytes(graph)
        storage.write_json(f"{place}.json", {**facts.to_dict(), "sha256": digest})


def _exported(
    name: str,
    weights: str | None,
    size_px: int | None,
    given: Given,
    chips: Callable[[], Chips] | None,
) -> tuple[bytes, Exported]:
    from quadrat.backbones import zoos

    recipe = zoos.find(name)
    licence = recipe.licence if weights is None else ""
    check_licence(name, licence, given.accept_licence)  # before anything is fetched
    mean, std = given.statistics or (recipe.mean, recipe.std)
    if mean is None or std is None:
        raise BackboneError(
            f"{recipe.name} does not say how bytes become its input; say it with {CURE}"
        )
    try:
        from quadrat.backbones import exporting, modules
    except ImportError:
        raise MissingExtraError(f"the backbone {name}", "finetune") from None
    made = modules.ready(recipe, weights, given.pooling)
    side = size_px or recipe.pixels
    pixels = given.pixels or side
    cure = f"give --pixels {recipe.pixels} to resize tiles to what it was trained on"
    shape = modules.shape_of_row(recipe.name, made.body, pixels, cure)
    if len(shape) != 2:
        raise BackboneError(
            f"{recipe.name} gives {list(shape)} a tile, not one row: it gives tokens or a map; "
            "say with --pooling token, mean or both what its features are"
        )
    module = exporting.Featurizer(made.body, pixels, mean, std)
    try:
        graph = exporting.to_onnx(module, side, ["features"])
    except BackboneError as error:
        if pixels == recipe.pixels:
            raise
        raise BackboneError(f"{error}; {cure}") from None
    some = _synthetic(side) if chips is None else chips()
    parity = exporting.check(recipe.name, module, graph, some, _run)
    return graph, Exported(
        name=recipe.name,
        size_px=side,
        dim=shape[1],
        weights=made.described,
        weights_sha256=made.weights_sha256,
        licence=licence,
        mean=mean,
        std=std,
        pixels=pixels,
        pooling=given.pooling or recipe.pooling,
        pixel_m=recipe.pixel_m,
        parity={**parity._asdict(), "real": chips is not None},
    )


def _run(onnx: bytes, chips: Chips) -> NDArray[np.float32]:
    from quadrat.model import compile_network

    return compile_network(onnx, runtime="onnxruntime", workers=1)(chips)


def _synthetic(side: int) -> Chips:
    """Noise on ramps, for a comparison without tiles."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, side)[:, None, None] * np.array([1.0, 0.6, 0.3])
    noise = rng.uniform(0, 55, (SYNTHETIC_TILES, side, side, 3))
    made: Chips = (ramp + noise).astype(np.uint8)
    return made
