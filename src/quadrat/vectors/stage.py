"""A vector file, or an archive of some, under names of our own in a scratch folder.

GDAL is never given the user's own path: what it writes beside a file it writes in the scratch
folder, and neither a file's name nor its ending chooses how it is read. Files are linked, not
copied, but for remote ones, members of archives, and databases that are open elsewhere.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from quadrat import border, storage
from quadrat.errors import StorageError, VectorError
from quadrat.vectors.formats import ENDINGS, FORMATS, HEAD, READ, Format, sniff

# Bytes of an archive's members: so many, or so many times the archive's own
UNPACKED, MOST_RATIO = 256 << 20, 100
MOST_IN_ARCHIVE = 100  # data sets
# What zipfile raises; RuntimeError where a member is encrypted
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
WAL = 2  # in bytes 18 and 19 of a SQLite database that keeps a write-ahead log


@dataclass(frozen=True)
class Staged:
    """One data set that is ready to be opened.

    Attributes:
        stem: the user's name for it, without its ending.
        path: where it lies. size: its bytes, without siblings.
    """

    stem: str
    path: Path
    format: Format
    size: int


@contextmanager
def staged(uri: str) -> Iterator[list[Staged]]:
    """The data sets of a file, which is one, or of an archive; gone when the block ends.

    Raises:
        VectorError: missing, no regular file, in no format that is read, an archive without any.
        StorageError: it cannot be fetched, or the scratch folder cannot be written.
    """
    name = storage.redact(uri)
    with storage.scratch("vectors") as scratch:
        try:
            source = _fetched(uri, scratch / "source")
            yield _staged(source, name, scratch / "data", PurePosixPath(storage.basename(uri)).stem)
        except OSError as error:
            raise StorageError(f"{name} cannot be read: {error.strerror or error}") from None


def members(uri: str) -> list[str]:
    """The local file or folder and its siblings as far as they are there; a remote URI alone."""
    if not storage.is_local(uri):
        return [uri]
    path = storage.local_path(uri)
    if path.is_dir():
        return [str(p) for p in sorted(path.iterdir()) if p.is_file() and p.suffix != ".lock"]
    own = FORMATS["shp"].siblings if path.suffix.lower() == ".shp" else ("-wal",)
    beside = [s for ending in own if (s := _sibling(path, ending)) is not None]
    return [str(path), *map(str, beside)]


def _fetched(uri: str, folder: Path) -> Path:
    if storage.is_local(uri):
        path = storage.local_path(uri)
        if not path.exists():
            raise VectorError(f"{uri} does not exist; check the path")
        return path
    folder.mkdir()
    suffix = PurePosixPath(storage.basename(uri)).suffix
    target = folder / f"data{suffix}"
    target.write_bytes(storage.read_bytes(uri))
    for ending in FORMATS["shp"].siblings if suffix.lower() == ".shp" else ():
        beside = re.sub(re.escape(suffix) + r"(?=$|\?)", ending, uri)
        if storage.exists(beside):
            target.with_suffix(ending).write_bytes(storage.read_bytes(beside))
    return target


def _staged(path: Path, name: str, folder: Path, stem: str, nested: bool = False) -> list[Staged]:
    form = _format(path, name)
    if form is FORMATS["zip"] and not nested:
        return _unpacked(path, name, folder)
    if form is FORMATS["zip"]:
        raise VectorError(f"{name} is an archive in an archive; unpack it and name its file")
    folder.mkdir()
    target = folder / f"data{form.suffix}"
    if form is FORMATS["gpkg"]:
        _link_database(path, target)
    else:
        target.symlink_to(path.absolute())
    for ending in form.siblings:
        beside = _sibling(path, ending)
        if beside is not None:
            target.with_suffix(ending).symlink_to(beside.absolute())
    if form is FORMATS["shp"] and not target.with_suffix(".shx").exists():
        raise VectorError(f"{name} lacks its .shx file; copy all files of the shapefile")
    size = sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
    return [Staged(stem, target, form, size)]


def _format(path: Path, name: str) -> Format:
    if path.is_dir():
        if any(p.suffix == ".gdbtable" for p in path.iterdir()):
            return FORMATS["gdb"]
        raise VectorError(f"{name} is a folder and no file geodatabase; name a file in it")
    if not path.is_file():
        raise VectorError(f"{name} is no regular file; name a file")
    with path.open("rb") as file:
        head = file.read(HEAD)
    form = sniff(head)
    if form is FORMATS["shp"] and 2 * int.from_bytes(head[24:28], "big") > path.stat().st_size:
        raise VectorError(f"{name} is cut short; fetch or copy it again")  # GDAL gives empty shapes
    if form is None:
        raise VectorError(f"{name} cannot be read as a vector file; {READ} are read")
    lines = form is FORMATS["geojson"] and path.suffix.lower() in (".geojsonl", ".geojsons")
    return FORMATS["geojsonl"] if lines else form


def _sibling(path: Path, ending: str) -> Path | None:
    """The file of the same stem with another ending, in small or capital letters."""
    if ending.startswith("-"):
        beside = path.with_name(path.name + ending)
        return beside if beside.is_file() else None
    names = (path.with_suffix(e) for e in (ending, ending.upper(), ending.capitalize()))
    return next((p for p in names if p.is_file()), None)


def _link_database(path: Path, target: Path) -> None:
    """SQLite follows links and writes beside the file itself, where it keeps a write-ahead log."""
    with path.open("rb") as file:
        versions = file.read(20)[18:20]
    if WAL not in versions:
        target.symlink_to(path.absolute())
        return
    shutil.copyfile(path, target)
    log = _sibling(path, "-wal")
    if log is not None:
        shutil.copyfile(log, target.with_name(target.name + "-wal"))


def _unpacked(path: Path, name: str, folder: Path) -> list[Staged]:
    """The data sets of an archive, each in a folder of its own."""
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = _data_sets([i for i in archive.infolist() if not i.is_dir()])
            if not wanted:
                raise VectorError(f"{name} holds no vector file; {READ} are read")
            if len(wanted) > MOST_IN_ARCHIVE:
                raise VectorError(f"{name} holds {len(wanted)} files; unpack it and name one")
            size = sum(i.file_size for infos in wanted.values() for i in infos)
            most = max(UNPACKED, MOST_RATIO * path.stat().st_size)
            if size > min(most, shutil.disk_usage(folder.parent).free):
                raise VectorError(f"{name} unpacks to {size:,} bytes; unpack it and name its file")
            folder.mkdir()
            result: list[Staged] = []
            for number, (main, infos) in enumerate(wanted.items()):
                inside = folder / str(number)
                _extract(archive, main, infos, inside)
                source = inside / "source.gdb" if main.suffix == ".gdb" else inside / _plain(main)
                result += _staged(source, f"{name}/{main}", inside / "data", main.stem, True)
            return result
    except BROKEN as error:
        raise VectorError(
            f"{name} cannot be unpacked ({border.short(error)}); make the archive again"
        ) from None


def _plain(name: PurePosixPath) -> str:
    return f"source{name.suffix.lower()}"


def _data_sets(infos: list[zipfile.ZipInfo]) -> dict[PurePosixPath, list[zipfile.ZipInfo]]:
    """Main file (or geodatabase folder) of each data set -> its members."""
    sets: dict[PurePosixPath, list[zipfile.ZipInfo]] = {}
    places = [(PurePosixPath(i.filename), i) for i in infos]
    places = [(p, i) for p, i in places if "__MACOSX" not in p.parts and p.name[:1] != "."]
    endings = set(ENDINGS) - {".zip", ".kmz", ".gdb", ".json"}
    for place, info in places:
        folder = next((p for p in place.parents if p.suffix.lower() == ".gdb"), None)
        if folder is not None:
            sets.setdefault(folder, []).append(info)
        elif place.suffix.lower() in endings:
            sets[place] = [info]
            siblings = FORMATS["shp"].siblings if place.suffix.lower() == ".shp" else ()
            sets[place] += [
                i for p, i in places
                if p.with_suffix("") == place.with_suffix("") and p.suffix.lower() in siblings
            ]  # fmt: skip
    return sets


def _extract(
    archive: zipfile.ZipFile, main: PurePosixPath, infos: list[zipfile.ZipInfo], folder: Path
) -> None:
    """Unpack a data set's members under plain names: what an archive says of paths is not used."""
    is_geodatabase = main.suffix.lower() == ".gdb"
    target = folder / "source.gdb" if is_geodatabase else folder
    target.mkdir(parents=True)
    for info in infos:
        place = PurePosixPath(info.filename)
        with (
            archive.open(info) as source,
            (target / (place.name if is_geodatabase else _plain(place))).open("xb") as out,
        ):
            shutil.copyfileobj(source, out, 1 << 20)
