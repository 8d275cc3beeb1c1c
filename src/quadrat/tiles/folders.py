"""Folders of pictures, one subfolder a class: `Forest/a.png`, or `train/Forest/a.png`.

It does not know places: such tiles have a path instead of a TileId.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quadrat import codec, storage
from quadrat import legend as legends
from quadrat.errors import ImageError, StorageError, TileSetError
from quadrat.grid import Grid
from quadrat.legend import Legend
from quadrat.tiles.types import Batch, Columns, empty_chips, make_index

SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
PART_TILES = 128  # about a third of a second of scoring: workers end together
UNLABELLED = "unlabelled"  # the folder that `unpack` writes tiles without a label to
DEFAULT_PX = 224


@dataclass(frozen=True)
class Picture:
    """One file: its path below the root, its class and split where the folders say them."""

    path: str
    label: str | None
    split: str | None


@dataclass(frozen=True)
class FolderPart:
    """Some pictures of a folder."""

    name: str
    root: str
    pictures: tuple[Picture, ...]
    size_px: int
    resize: bool

    @property
    def count(self) -> int:
        """How many pictures."""
        return len(self.pictures)


@dataclass(frozen=True)
class FolderSource:
    """A folder of pictures as a source of tiles.

    Attributes:
        resize: pictures of another size are resized to `size_px`; otherwise they are skipped and
            listed.
    """

    uri: str
    legend: Legend | None
    size_px: int
    pictures: tuple[Picture, ...]
    resize: bool = True
    digest: str = ""
    kind: str = "folder"
    grid: Grid | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def parts(self) -> Sequence[FolderPart]:
        """Pictures in path order, `PART_TILES` a part."""
        return [
            FolderPart(
                f"part-{n:05d}",
                self.uri,
                self.pictures[i : i + PART_TILES],
                self.size_px,
                self.resize,
            )
            for n, i in enumerate(range(0, len(self.pictures), PART_TILES))
        ]


def open_folder(
    uri: str,
    *,
    size_px: int = DEFAULT_PX,
    legend: Legend | None = None,
    resize: bool = True,
) -> FolderSource:
    """List the pictures of a local folder.

    Args:
        legend: its class names must be the folders' names; by default the folders make a legend.

    Raises:
        TileSetError: missing, no pictures, a folder that is no class of the legend.
    """
    uri = storage.normalise(uri)
    if not storage.is_local(uri):
        raise TileSetError(
            f"{storage.redact(uri)}: folders of pictures are read from a local disk; "
            "pack it once with quadrat pack, and use the tile set anywhere"
        )
    if not storage.is_dir(uri):
        raise TileSetError(f"{uri} is not a folder; check the path")
    found, stamps = _walk(uri)
    if not found:
        raise TileSetError(f"{uri} holds no pictures ({', '.join(codec.SUFFIXES)}); check the path")
    names = sorted({p.label for p in found if p.label is not None})
    if legend is None and names:
        legend = legends.from_names(names)
    strange = [n for n in names if legend is not None and n not in legend.names]
    if strange and legend is not None:
        raise TileSetError(
            f"{uri}: the folder {strange[0]!r} is no class of legend {legend.name} "
            f"({', '.join(legend.names)}); rename it or give its own legend with --legend"
        )
    digest = storage.digest_json(
        [size_px, resize, stamps, legend.to_dict() if legend else None, PART_TILES]
    )
    return FolderSource(
        uri, legend, size_px, tuple(found), resize, digest,
        provenance={"pictures": uri, "count": len(found)},
    )  # fmt: skip


def _walk(root: str) -> tuple[list[Picture], list[tuple[str, int, int]]]:
    """Pictures in path order, and what changes when one changes (path, size, time)."""
    entries: list[tuple[str, int, int]] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        inside = os.path.relpath(folder, root)
        for name in names:
            if name.lower().endswith(codec.SUFFIXES) and not name.startswith("."):
                path = name if inside == "." else f"{inside.replace(os.sep, '/')}/{name}"
                stat = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118
                entries.append((path, stat.st_size, stat.st_mtime_ns))
    entries.sort()
    tops = {e[0].split("/")[0] for e in entries if e[0].count("/") >= 2}
    split_tree = bool(tops) and tops <= set(SPLIT_FOLDERS)
    return [_picture(e[0], split_tree) for e in entries], entries


def _picture(path: str, split_tree: bool) -> Picture:
    steps = path.split("/")
    split = SPLIT_FOLDERS[steps[0]] if split_tree and steps[0] in SPLIT_FOLDERS else None
    classes = steps[1:-1] if split else steps[:-1]
    label = classes[0] if classes and classes[0] != UNLABELLED else None
    return Picture(path, label, split)


def read(part: FolderPart, batch_size: int) -> Iterator[Batch]:
    """The pictures of a part as tiles; those that cannot be read are skipped and listed."""
    size = part.size_px
    for i in range(0, len(part.pictures), batch_size):
        some = part.pictures[i : i + batch_size]
        chips = np.empty((len(some), size, size, 3), np.uint8)
        good: list[Picture] = []
        skipped = []
        for picture in some:
            try:
                chips[len(good)] = _load(storage.join(part.root, picture.path), part)
                good.append(picture)
            except (ImageError, StorageError) as error:
                skipped.append((picture.path, str(error)))
        index = make_index(
            len(good),
            Columns(
                path=[p.path for p in good],
                source=[part.root] * len(good),
                label=[p.label for p in good],
                split=[p.split for p in good],
            ),
        )
        yield Batch(index, chips[: len(good)] if good else empty_chips(size), tuple(skipped))


def _load(uri: str, part: FolderPart) -> codec.Chip:
    chip = codec.read_image(uri)
    if chip.shape[:2] == (part.size_px, part.size_px):
        return chip
    if not part.resize:
        raise ImageError(
            f"{uri} is {chip.shape[1]} x {chip.shape[0]} pixels, not {part.size_px}; "
            "use pictures of the model's size, or resize them with --resize"
        )
    return codec.resize(chip, part.size_px)
