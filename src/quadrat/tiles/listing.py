"""What lies in a folder of pictures: the pictures, and everything else by kind.

It opens no file. Links are followed, each folder once; only regular files are pictures.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from quadrat import codec

NAMED = 5  # entries of a kind that are named; the others are counted
CONVERT = "convert them to PNG, JPEG or TIFF"
OTHER_FORMATS = frozenset(
    {
        ".arw", ".avif", ".bmp", ".cr2", ".dng", ".ecw", ".exr", ".gif", ".heic", ".heif",
        ".j2k", ".jfif", ".jp2", ".jpe", ".jpx", ".jxl", ".nef", ".pbm", ".pcx", ".pgm",
        ".pnm", ".ppm", ".psd", ".sid", ".svg", ".tga", ".webp",
    }
)  # fmt: skip
# what file servers, desktops and archivers leave beside pictures, in lower case
SYSTEM = frozenset(
    {
        "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle",
        "@sharebin", "@tmp", "__macosx", "__pycache__", "desktop.ini", "ehthumbs.db", "lost+found",
        "recycler", "system volume information", "thumbs.db",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Unused:
    """Entries of one kind that are not used.

    Attributes:
        what: the kind, in the plural.
        examples: at most `NAMED` paths below the root.
        cure: what to do about them; "" where nothing need be done.
        is_picture: whether they were meant as pictures, so that `--strict` fails.
    """

    what: str
    count: int
    examples: tuple[str, ...]
    cure: str = ""
    is_picture: bool = False

    def __str__(self) -> str:
        more = self.count - len(self.examples)
        named = ", ".join(self.examples) + (f" and {more:,} more" if more > 0 else "")
        cure = f"; {self.cure}" if self.cure else ""
        return f"{self.what} skipped: {self.count:,} ({named}){cure}"

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {"what": self.what, "count": self.count, "examples": list(self.examples)}


@dataclass(frozen=True)
class Listing:
    """A folder's pictures, and what else lies in it.

    Attributes:
        pictures: path below the root, bytes and modification time (ns), in path order.
        unused: the rest, by kind.
    """

    pictures: tuple[tuple[str, int, int], ...]
    unused: tuple[Unused, ...]


@dataclass(frozen=True)
class _Kind:
    what: str
    cure: str = ""
    is_picture: bool = False


_DEAD = _Kind("dead links", "their targets are missing", is_picture=True)
_VANISHED = _Kind("files that cannot be looked at", "check their mode", is_picture=True)
_CLOSED = _Kind("folders that cannot be listed", "check their mode", is_picture=True)
_AGAIN = _Kind("links to folders that are read already, or that lie above")
_SPECIAL = _Kind("pipes, devices and sockets")
_SYSTEM = _Kind("system and hidden entries")
_NAMELESS = _Kind("entries whose names are not UTF-8", "rename them", is_picture=True)
_HUGE = _Kind(f"files over {codec.MAX_BYTES >> 20} MB", "cut them with quadrat tile", True)
_EMPTY = _Kind("folders without a picture that is read")
_OTHER = _Kind("files that are no pictures")


class _FolderWalk:
    """A folder that is being listed."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, int, int]] = []
        self.folders: list[str] = []
        self.unused: dict[_Kind, list[str]] = {}

    def skip(self, kind: _Kind, path: str) -> None:
        """Note an entry that is not used."""
        self.unused.setdefault(kind, []).append(path)

    def run(self, root: str) -> None:
        """List the folder and all below it, links to folders last: real folders come first."""
        above = Path(root).resolve().parents
        seen = {(f.st_dev, f.st_ino) for f in map(os.stat, above)}
        real, links = deque([("", root)]), deque[tuple[str, str]]()
        while real or links:
            inside, folder = real.popleft() if real else links.popleft()
            try:
                facts = os.stat(folder)  # noqa: PTH116
                if (facts.st_dev, facts.st_ino) in seen:
                    self.skip(_AGAIN, inside)
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                with os.scandir(folder) as entries:
                    ordered = sorted(entries, key=lambda e: e.name)
            except OSError:
                self.skip(_CLOSED, inside or ".")
                continue
            self.folders.append(inside)
            for path, entry in self._folders(inside, ordered):
                (links if entry.is_symlink() else real).append((path, entry.path))

    def _folders(
        self, inside: str, entries: list[os.DirEntry[str]]
    ) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Take in the files of a folder; the folders in it that are to be listed."""
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            kind = self._kind(path, entry)
            if isinstance(kind, _Kind):
                self.skip(kind, path.encode(errors="replace").decode())
            elif stat.S_ISDIR(kind.st_mode):
                yield path, entry
            else:
                self.pictures.append((path, kind.st_size, kind.st_mtime_ns))

    def _kind(self, path: str, entry: os.DirEntry[str]) -> _Kind | os.stat_result:
        """The `stat` of a folder or picture that is to be read, else the reason why it is not."""
        name = entry.name.lower()
        if name in SYSTEM or name.startswith("."):
            return _SYSTEM
        if not _is_text(path):
            return _NAMELESS
        try:
            facts = entry.stat()
        except OSError:
            return _DEAD if entry.is_symlink() else _VANISHED
        if stat.S_ISDIR(facts.st_mode):
            return facts
        if not stat.S_ISREG(facts.st_mode):
            return _SPECIAL
        suffix = PurePosixPath(name).suffix
        if suffix in OTHER_FORMATS:
            return _Kind(f"{suffix} files", CONVERT, is_picture=True)
        if suffix not in codec.SUFFIXES:
            return _OTHER
        return _HUGE if facts.st_size > codec.MAX_BYTES else facts

    def empty(self) -> list[str]:
        """The topmost folders that hold no picture, at any depth."""
        full = {""}
        for path, _, _ in self.pictures:
            full.update(str(p) for p in PurePosixPath(path).parents)
        bare = (f for f in self.folders if f not in full)
        return [f for f in bare if f.rpartition("/")[0] in full]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def list_pictures(root: str | Path) -> Listing:
    """List a local folder of pictures.

    A link to a folder that is read already, directly or by another link, or that lies above the
    root, is not followed: loops end, and no picture is counted twice.
    """
    walk = _FolderWalk()
    walk.run(str(root))
    for path in walk.empty():
        walk.skip(_EMPTY, path)
    unused = tuple(
        Unused(k.what, len(paths), tuple(sorted(paths)[:NAMED]), k.cure, k.is_picture)
        for k, paths in sorted(walk.unused.items(), key=lambda item: item[0].what)
    )
    return Listing(tuple(sorted(walk.pictures)), unused)
