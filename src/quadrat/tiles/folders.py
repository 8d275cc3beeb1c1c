"""Folders of pictures, one subfolder a class: `Forest/a.png`, or `train/Forest/a.png`.

It does not know places: such tiles have a path instead of a TileId.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from quadrat import codec, storage, text
from quadrat import legend as legends
from quadrat.errors import ImageError, StorageError, TileSetError
from quadrat.grid import MAX_SIZE_PX, Grid
from quadrat.legend import Legend
from quadrat.shown import shown
from quadrat.skipped import Skipped
from quadrat.tiles.listing import Unused, list_pictures
from quadrat.tiles.types import Batch, Columns, empty_chips, make_index

# names of folders, in any case -> splits
SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
PART_TILES = 128  # about a third of a second of scoring: workers end together
UNLABELLED = "unlabelled"  # the folder that `unpack` writes tiles without a label to
DEFAULT_PX = 224
_JOINERS = ("Cf", "Pc", "Pd", "Zs")  # marks without width, underscores, dashes, spaces


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


@shown
@dataclass(frozen=True)
class FolderSource:
    """A folder of pictures as a source of tiles.

    Attributes:
        resize: pictures of another size are resized to `size_px`; otherwise they are skipped and
            listed.
        unused: what else lies in the folder, by kind.
        warnings: `unused` in words, and classes that may be one.
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
    unused: tuple[Unused, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def tiles(self) -> int:
        """How many pictures."""
        return len(self.pictures)

    def to_dict(self) -> dict[str, Any]:
        """What a script wants to know."""
        return {
            "uri": self.uri,
            "tiles": self.tiles,
            "size_px": self.size_px,
            "legend": self.legend.name if self.legend else None,
            "digest": self.digest,
            "warnings": list(self.warnings),
        }

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
        legend: each folder must be called like a class or one of its members; by default the
            folders make a legend.

    Raises:
        TileSetError: missing, no pictures, a folder that is no class of the legend.
    """
    if not 1 <= size_px <= MAX_SIZE_PX:
        raise TileSetError(f"tiles of {size_px} pixels are not made; choose 1 to {MAX_SIZE_PX}")
    uri = storage.normalise(uri)
    if not storage.is_local(uri):
        raise TileSetError(
            f"{storage.redact(uri)}: folders of pictures are read from a local disk; "
            "pack it once with quadrat pack, and use the tile set anywhere"
        )
    if not storage.is_dir(uri):
        raise TileSetError(f"{uri} is not a folder; check the path")
    listing = list_pictures(uri)
    if not listing.pictures:
        why = "".join(f"; {u}" for u in listing.unused)
        raise TileSetError(
            f"{uri} holds no pictures ({', '.join(codec.SUFFIXES)}); check the path{why}"
        )
    pictures = _read_paths(uri, [path for path, _, _ in listing.pictures])
    names = sorted({p.label for p in pictures if p.label is not None})
    if legend is not None:
        pictures = _folded(uri, pictures, legend)
    elif names:
        legend = legends.from_names(names)
    digest = storage.digest_json(
        [size_px, resize, listing.pictures, legend.to_dict() if legend else None, PART_TILES]
    )
    return FolderSource(
        uri, legend, size_px, pictures, resize, digest,
        provenance={"pictures": uri, "count": len(pictures)},
        unused=listing.unused, warnings=_warnings(pictures, listing.unused),
    )  # fmt: skip


def _folded(uri: str, pictures: Sequence[Picture], legend: Legend) -> tuple[Picture, ...]:
    """The pictures with the classes that their folders fold into."""
    places = {name: legend.place(name) for name in sorted({p.label for p in pictures if p.label})}
    for name, place in places.items():
        if place is None:
            raise TileSetError(
                f"{uri}: the folder {name!r} is no class of legend {legend.name} and no member of "
                "one; rename it, or add it to `members` of a legend of your own (--legend); "
                f"{text.near(name, legend.names)}"
            )
    words = {name: legend.names[place] for name, place in places.items() if place is not None}
    return tuple(replace(p, label=words[p.label] if p.label else None) for p in pictures)


def _split_of(folder: str) -> str | None:
    """The split that a folder's name means (`Train`, `val`, `valid`), or None."""
    return SPLIT_FOLDERS.get(_plain(folder))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _plain(name: str) -> str:
    """A name normalised for comparison: case, spaces, dashes, Unicode form."""
    kept = (c for c in text.same(name) if unicodedata.category(c) not in _JOINERS)
    return unicodedata.normalize("NFKC", "".join(kept))


def _read_paths(uri: str, paths: Sequence[str]) -> tuple[Picture, ...]:
    """Class and split of each path, as the folders say them.

    Where all folders at the top are called like splits, they are splits and the classes lie below.

    Raises:
        TileSetError: some of them are called like splits and some are not.
    """
    tops = sorted({p.split("/")[0] for p in paths if "/" in p})
    splits = [t for t in tops if _split_of(t)]
    classes = [t for t in tops if not _split_of(t)]
    if classes and len({_split_of(t) for t in splits}) > 1:
        raise TileSetError(
            f"{uri} holds the splits {', '.join(splits)} and beside them {classes[0]!r}; move it "
            "into a split, or rename the splits where they are classes"
        )
    return tuple(_picture(p, bool(splits) and not classes) for p in paths)


def _picture(path: str, in_splits: bool) -> Picture:
    top, *inside = path.split("/")[:-1] or [""]
    classes = inside if in_splits and top else [top, *inside]
    label = classes[0] if classes and classes[0] not in ("", UNLABELLED) else None
    return Picture(path, label, _split_of(top) if in_splits else None)


def _warnings(pictures: Sequence[Picture], unused: Sequence[Unused]) -> tuple[str, ...]:
    """What a reader of the folder must know: what is not used, and classes that may be one."""
    texts = [str(u) for u in unused]
    twins: dict[str, list[str]] = {}
    for name in sorted({p.label for p in pictures if p.label is not None}):
        twins.setdefault(_plain(name), []).append(name)
    texts += [
        f"the classes {', '.join(map(repr, names))} differ only by case, spaces or Unicode form; "
        "if they are one class, give their folders one name"
        for names in twins.values()
        if len(names) > 1
    ]
    classes = {p.label for p in pictures}
    folders = {_parent(p.path) for p in pictures if p.label and not p.split}
    if len(classes) == 1 and len(folders) > 1:
        texts.append(
            f"all pictures are of one class, {pictures[0].label!r}, though they lie in several "
            "folders; if the classes are the folders in it, name that folder"
        )
    if pictures and all(p.split and not p.label for p in pictures):
        texts.append("the folders are called like splits and hold no folders of classes: no labels")
    return tuple(texts)


def index_of(pictures: Sequence[Picture], root: str) -> pa.Table:
    """One row a picture, the columns of `INDEX`."""
    columns = Columns(
        path=[p.path for p in pictures], source=[root] * len(pictures),
        label=[p.label for p in pictures], split=[p.split for p in pictures],
    )  # fmt: skip
    return make_index(len(pictures), columns)


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
                skipped.append(Skipped(picture.path, str(error)))
        index = index_of(good, part.root)
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
