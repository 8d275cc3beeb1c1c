"""Folders of pictures: what is read, what is not, and that nothing is lost without a word."""

from __future__ import annotations

import contextlib
import os
import socket
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quadrat as qd
from quadrat import tiles
from quadrat.errors import TileSetError
from quadrat.legend import from_dict, load_legend
from quadrat.tiles.folders import FolderSource
from quadrat.tiles.listing import list_pictures
from quadrat.tiles.types import row_group

SIZE = 16


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def tree(root: Path, *paths: str) -> Path:
    """Pictures of these names, each with pixels of its own."""
    for seed, path in enumerate(paths):
        draw(root / path, seed)
    return root


def opened(root: Path) -> FolderSource:
    return tiles.open_folder(str(root), size_px=SIZE)


def paths(root: Path) -> list[str]:
    return [p.path for p in opened(root).pictures]


def skipped(root: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {u.what: (u.count, u.examples) for u in list_pictures(root).unused}


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    tree(tmp_path, "in/A/1.png", "store/B/2.png", "store/3.png")
    (tmp_path / "in" / "B").symlink_to("../store/B")
    (tmp_path / "in" / "A" / "3.png").symlink_to("../../store/3.png")
    assert paths(tmp_path / "in") == ["A/1.png", "A/3.png", "B/2.png"]
    assert opened(tmp_path / "in").warnings == ()


def test_loops_of_links_end_and_no_picture_is_read_twice(tmp_path: Path) -> None:
    root = tree(tmp_path / "data" / "in", "A/1.png", "B/2.png")
    tree(tmp_path, "data/other/3.png")
    (root / "A" / "self").symlink_to(".")
    (root / "A" / "up").symlink_to("../..")  # the folder that holds the root
    (root / "C").symlink_to("A")
    (root / "D").symlink_to("/")
    (root / "x").symlink_to("y")
    (root / "y").symlink_to("x")
    assert paths(root) == ["A/1.png", "B/2.png"]
    assert skipped(root) == {
        "links to folders that are read already, or that lie above": (
            4, ("A/self", "A/up", "C", "D"),
        ),
        "dead links": (2, ("x", "y")),
    }  # fmt: skip


def test_links_that_branch_end_soon(tmp_path: Path) -> None:
    for i in range(25):  # 2 ** 25 ways to the last folder
        draw(tmp_path / f"f{i}" / "p.png", i)
        (tmp_path / f"f{i}" / "a").symlink_to(f"../f{i + 1}")
        (tmp_path / f"f{i}" / "b").symlink_to(f"../f{i + 1}")
    (tmp_path / "f25").mkdir()
    assert len(paths(tmp_path)) == 25


def test_every_entry_that_is_not_used_is_counted_by_kind(tmp_path: Path) -> None:
    root = tree(tmp_path, "A/1.png", "A/.hidden.png", "@eaDir/A/1.png", "A/@eaDir/1.png/T.jpg")
    tree(root, "__MACOSX/A/1.png", "B/1.webp", "B/2.webp", "C/1.bmp", "A/2.BMP")
    (root / "A" / "dead.png").symlink_to("nowhere.png")
    (root / "README.txt").write_text("hello")
    (root / "A" / "Thumbs.db").write_text("hello")
    (root / "empty" / "below").mkdir(parents=True)
    os.mkfifo(root / "A" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(root):
        made.bind("s.png")  # a socket's name must be short
    assert paths(root) == ["A/1.png"]
    assert skipped(root) == {
        ".bmp files": (2, ("A/2.BMP", "C/1.bmp")),
        ".webp files": (2, ("B/1.webp", "B/2.webp")),
        "dead links": (1, ("A/dead.png",)),
        "files that are no pictures": (1, ("README.txt",)),
        "folders without a picture that is read": (3, ("B", "C", "empty")),
        "pipes, devices and sockets": (2, ("A/pipe.png", "s.png")),
        "system and hidden entries": (
            5, ("@eaDir", "A/.hidden.png", "A/@eaDir", "A/Thumbs.db", "__MACOSX"),
        ),
    }  # fmt: skip


def test_many_entries_of_a_kind_are_counted_and_some_named(tmp_path: Path) -> None:
    tree(tmp_path, "A/1.png")
    for i in range(1234):
        (tmp_path / "A" / f"{i:04}.webp").touch()
    assert opened(tmp_path).warnings == (
        ".webp files skipped: 1,234 (A/0000.webp, A/0001.webp, A/0002.webp, A/0003.webp, "
        "A/0004.webp and 1,229 more); convert them to PNG, JPEG or TIFF",
    )


def test_a_folder_of_another_format_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "1.webp").touch()
    with pytest.raises(TileSetError, match=r"holds no pictures .*\.webp files skipped: 1"):
        opened(tmp_path)


def test_names_that_are_not_utf8_are_skipped(tmp_path: Path) -> None:
    tree(tmp_path, "A/1.png", "A/2.png")
    (tmp_path / "A" / "2.png").rename(os.fsdecode(os.fsencode(tmp_path / "A") + b"/\xff.png"))
    assert paths(tmp_path) == ["A/1.png"]
    assert skipped(tmp_path) == {"entries whose names are not UTF-8": (1, ("A/?.png",))}


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "A/1.png", "B/2.png")
    scandir = os.scandir

    def refusing(path: str):  # root may list what others may not
        if str(path).endswith("B"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert skipped(tmp_path)["folders that cannot be listed"] == (1, ("B",))


def test_strict_fails_for_unread_pictures_and_not_for_a_readme(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "A/1.png", "B/2.png", "@eaDir/1.png")
    (root / "README.md").write_text("hello")
    made = tiles.pack(str(root), str(tmp_path / "a"), size_px=SIZE, split=None, strict=True)
    assert made.tiles == 2
    assert {u["what"] for u in made.info["unused"]} == {
        "files that are no pictures", "system and hidden entries",
    }  # fmt: skip
    (root / "A" / "dead.png").symlink_to("nowhere.png")
    with pytest.raises(TileSetError, match=r"dead links skipped: 1 \(A/dead\.png\).*--strict"):
        tiles.pack(str(root), str(tmp_path / "b"), size_px=SIZE, split=None, strict=True)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("val", "validation"),
        ("valid", "validation"), ("Validation ", "validation"), ("test", "test"),
        ("Testing", "test"),
    ],
)  # fmt: skip
def test_folders_that_are_called_like_splits_are_splits(
    tmp_path: Path, folder: str, split: str
) -> None:
    found = opened(tree(tmp_path, f"{folder}/Forest/1.png", f"{folder}/Water/deep/2.png"))
    assert [(p.label, p.split) for p in found.pictures] == [("Forest", split), ("Water", split)]


def test_splits_beside_another_folder_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, "train/A/1.png", "test/A/2.png", "extra/A/3.png")
    with pytest.raises(TileSetError, match=r"the splits test, train and beside them 'extra'"):
        opened(tmp_path)


def test_one_class_may_be_called_train(tmp_path: Path) -> None:
    found = opened(tree(tmp_path, "train/1.png", "car/2.png"))
    assert found.legend is not None and found.legend.names == ("car", "train")


def test_splits_without_classes_have_no_labels_and_this_is_said(tmp_path: Path) -> None:
    found = opened(tree(tmp_path, "train/1.png", "valid/2.png"))
    assert [(p.label, p.split) for p in found.pictures] == [(None, "train"), (None, "validation")]
    assert found.legend is None and "no labels" in found.warnings[0]


@pytest.mark.parametrize(
    "names",
    [
        ("Forest", "forest"), ("Forest", "Forest "), ("Bare Soil", "BareSoil"),
        ("Bare Soil", "bare_soil"), ("For\u00eat", "Fore\u0302t"), ("Water", "\uff37ater"),
    ],
)  # fmt: skip
def test_classes_that_differ_by_case_spaces_or_unicode_form_are_warned_of(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    found = opened(tree(tmp_path, *(f"{n}/1.png" for n in names), "Other/1.png"))
    assert found.legend is not None and len(found.legend) == 3  # what is one class, the user knows
    assert len(found.warnings) == 1
    assert all(repr(n) in found.warnings[0] for n in names)


def read_back(folder: Path) -> list[bytes]:
    """The pixels of all pictures, as one sorted list."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return sorted(np.asarray(Image.open(p).convert("RGB")).tobytes() for p in files)


def test_unpack_writes_every_tile_to_a_file_of_its_own(tmp_path: Path) -> None:
    stems = ("a", "A", "a-2", "e\u0301")
    names = [f"{s}/A/{n}.png" for s in ("train", "test", "val") for n in stems]
    root = tree(tmp_path / "in", *names, "train/A/a.tif", "train/A/\u00e9.tif", "train/B/a.png")
    made = tiles.pack(str(root), str(tmp_path / "set"), size_px=SIZE)
    out = tmp_path / "out"
    assert tiles.unpack(made.uri, str(out)) == made.tiles == 15
    assert read_back(out) == read_back(root)
    assert len({str(p).casefold() for p in out.rglob("*.png")}) == 15
    assert (out / "B" / "a.png").exists()


def test_unpack_goes_on_where_it_was_and_never_overwrites(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "A/a.png", "B/b.png")
    made = tiles.pack(str(root), str(tmp_path / "set"), size_px=SIZE, split=None)
    out = tmp_path / "out"
    tiles.unpack(made.uri, str(out))
    (out / "B" / "b.png").unlink()
    assert tiles.unpack(made.uri, str(out)) == 2
    assert read_back(out) == read_back(root)
    (out / "A" / "a.png").write_bytes(b"mine")
    with pytest.raises(TileSetError, match=r"a\.png is there and is another picture"):
        tiles.unpack(made.uri, str(out))
    assert (out / "A" / "a.png").read_bytes() == b"mine"


def test_a_picture_in_two_splits_is_kept_once_and_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "train/A/1.png", "train/B/2.png", "val/A/3.png")
    (root / "val" / "A" / "copy.png").write_bytes((root / "train" / "A" / "1.png").read_bytes())
    made = tiles.pack(str(root), str(tmp_path / "set"), size_px=SIZE)
    assert made.info["skipped"]["listed"] == [
        ["val/A/copy.png", "the same picture as train/A/1.png, which is of another split"]
    ]


def test_a_folder_without_a_readable_picture_says_why(tmp_path: Path) -> None:
    (tmp_path / "in" / "A").mkdir(parents=True)
    (tmp_path / "in" / "A" / "1.png").write_bytes(b"hello")
    with pytest.raises(TileSetError, match=r"no picture of .* is read; .*1\.png is something else"):
        tiles.pack(str(tmp_path / "in"), str(tmp_path / "out"), size_px=SIZE, split=None)


def test_the_size_of_tiles_is_bounded_and_large_ones_are_read_few_at_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "A/1.png")
    with pytest.raises(TileSetError, match="100000 pixels are not made; choose 1 to 4096"):
        tiles.pack(str(root), str(tmp_path / "out"), size_px=100_000, split=None)
    assert [row_group(n) for n in (1, 224, 1024, 4096)] == [64, 64, 64, 5]


def test_a_folder_above_the_classes_is_said_to_be_one_class(tmp_path: Path) -> None:
    found = opened(tree(tmp_path, "data/train/A/1.png", "data/test/B/2.png"))
    assert [p.label for p in found.pictures] == ["data", "data"]
    assert "one class, 'data'" in found.warnings[0]
    assert opened(tree(tmp_path / "one", "A/1.png", "A/2.png")).warnings == ()


def test_packing_again_says_what_has_come_since(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "A/1.png", "B/2.png")
    first = tiles.pack(str(root), str(tmp_path / "out"), size_px=SIZE, split=None)
    (root / "C").mkdir()
    (root / "C" / "3.webp").touch()
    again = tiles.pack(str(root), str(tmp_path / "out"), size_px=SIZE, split=None)
    assert first.info["warnings"] == [] and len(again.info["warnings"]) == 2
    assert again.digest == first.digest


LANDUSE = from_dict({
    "name": "landuse",
    "classes": [{"name": "Built", "members": ["buildings", "freeway"]}, {"name": "Forest"}],
})  # fmt: skip


def test_folders_fold_into_the_classes_that_name_them_as_members(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/buildings/1.png", "val/freeway/2.png", "train/Forest/3.png")
    found = tiles.open_folder(str(root), size_px=SIZE, legend=LANDUSE)
    assert {(p.path, p.label, p.split) for p in found.pictures} == {
        ("train/buildings/1.png", "Built", "train"), ("train/Forest/3.png", "Forest", "train"),
        ("val/freeway/2.png", "Built", "validation"),
    }  # fmt: skip
    assert found.legend == LANDUSE and found.digest != opened(root).digest


def test_pack_takes_a_legend_by_name_by_file_or_as_it_is(tmp_path: Path) -> None:
    root = tree(tmp_path, "Forest/1.png", "Water/2.png")
    own = tmp_path / "own.toml"
    own.write_text((resources.files("quadrat.data") / "nlcd8.toml").read_text("utf-8"))
    for n, given in enumerate(("nlcd8", str(own), load_legend("nlcd8"))):
        made = qd.pack(str(root), str(tmp_path / f"out{n}"), size_px=SIZE, legend=given)
        assert made.legend is not None and made.legend.names == load_legend("nlcd8").names
        assert sorted(tiles.index(made)["label"].to_pylist()) == ["Forest", "Water"]


def test_a_folder_without_a_place_in_the_legend_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "buildings/1.png", "river/2.png")
    with pytest.raises(TileSetError, match=r"the folder 'river' is no class .* `members`"):
        tiles.open_folder(str(root), size_px=SIZE, legend=LANDUSE)
