"""VRT files that users give: plain mosaics of local files, read with a mask of what is there.

GDAL fills with zeros what no source of a VRT covers, and often what a missing source should cover.
So the text is checked and written anew: every source is a regular file that opens as a raster of
itself, named by its full path, and where nothing else tells missing pixels a mask band does. It
does not know links (see `quadrat.raster.links`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from quadrat import storage
from quadrat.errors import RasterError
from quadrat.raster import view

Opener = Callable[[str], AbstractContextManager[Any]]

MOST_BYTES = 64 << 20
SOURCES = ("SimpleSource", "ComplexSource", "AveragedSource", "KernelFilteredSource")
CURE = "make one file of it: gdal_translate"
# Elements that say how a mosaic lies and what its values mean; any other could name a file.
OF_DATASET = ("SRS", "GeoTransform", "Metadata", "VRTRasterBand", "MaskBand")
OF_BAND = ("Description", "NoDataValue", "ColorInterp", "ColorTable", "UnitType", *SOURCES)
IGNORED = ("BlockXSize", "BlockYSize", "OverviewList", "GCPList", "CategoryNames", "Histograms",
           "HideNoDataValue", "Offset", "Scale", "Metadata", "RasterAttributeTable",
           "GDALRasterAttributeTable")  # fmt: skip


@dataclass(frozen=True)
class Mosaic:
    """A VRT that was checked.

    Attributes:
        text: what GDAL is to open.
        sources: the files that it reads.
    """

    text: str
    sources: tuple[str, ...]


def is_vrt(uri: str) -> bool:
    """Whether a file is named as a VRT."""
    return storage.redact(uri).lower().endswith(".vrt")


def read_text(uri: str) -> str:
    """The text of a VRT; RasterError when it is no VRT, or a very large one."""
    name = storage.redact(uri)
    try:
        text = storage.read_bytes(uri, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RasterError(f"{name} is no VRT; write it anew with gdalbuildvrt") from None
    if not text.lstrip().startswith(("<VRTDataset", "<?xml")) or "<!" in text.replace("<!--", ""):
        raise RasterError(f"{name} is no VRT; write it anew with gdalbuildvrt")
    return text


def prepare(uri: str, text: str, open_source: Opener) -> Mosaic:
    """Check the text of a VRT and write it anew.

    Args:
        open_source: opens a file as a raster of itself, or raises RasterError.

    Raises:
        RasterError: naming the VRT, the source that cannot be used, and the cure.
    """
    name = storage.redact(uri)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise RasterError(f"{name} is damaged ({error}); write it anew with gdalbuildvrt") from None
    _check(root, name)
    used: dict[str, tuple[int, int]] = {}
    mask: list[str] = []
    bands = root.findall("VRTRasterBand")
    told = root.find("MaskBand") is not None or all(
        b.find("NoDataValue") is not None for b in bands
    )
    for band in [*bands, *root.findall("MaskBand/VRTRasterBand")]:
        for element in _sources(band):
            path = _path(uri, element, name)
            wanted = not told and band is bands[0]
            if path not in used or wanted:
                with _opened(path, name, open_source) as data:
                    used[path] = (data.width, data.height)
                    if wanted:
                        size = (0.0, 0.0, float(data.width), float(data.height))
                        src, dst = _rect(element, "SrcRect", name), _rect(element, "DstRect", name)
                        mask += view.mask_sources(data, src or size, dst or src or size)
            _point_to(element, view.gdal_path(path), used[path])
    if not told:
        root.append(ElementTree.fromstring(view.mask_band(mask)))
    return Mosaic(ElementTree.tostring(root, encoding="unicode"), tuple(used))


def _opened(path: str, name: str, open_source: Opener) -> AbstractContextManager[Any]:
    try:
        return open_source(path)
    except RasterError as error:
        raise RasterError(f"{name} is a mosaic of files, one of which fails: {error}") from None


def _check(root: ElementTree.Element, name: str) -> None:
    """Refuse all but plain mosaics: other kinds of VRT read files that no list names."""
    bands = root.findall("VRTRasterBand")
    parts = [root, *bands, *root.findall("MaskBand"), *root.findall("MaskBand/VRTRasterBand")]
    kinds = {e.get("subClass") for e in parts} - {None, "VRTSourcedRasterBand"}
    allowed = {"VRTDataset": OF_DATASET, "VRTRasterBand": OF_BAND, "MaskBand": ("VRTRasterBand",)}
    if root.tag != "VRTDataset" or not bands:
        raise RasterError(f"{name} is no VRT of bands; {CURE} {name} mosaic.tif")
    for part in parts:
        for child in list(part):
            if child.tag in IGNORED and (child.tag != "Metadata" or child.get("domain")):
                part.remove(child)
            elif child.tag not in (*allowed[part.tag], "Metadata"):
                kinds.add(str(child.tag))
    for part in parts:
        for element in _sources(part):
            kinds |= {str(e.tag) for e in element if e.tag in ("OpenOptions", "SourceBand2")}
    if kinds:
        raise RasterError(
            f"{name} is more than a mosaic ({', '.join(sorted(map(str, kinds)))}); "
            f"{CURE} {name} mosaic.tif"
        )


def _sources(band: ElementTree.Element) -> Iterator[ElementTree.Element]:
    return (e for e in band if e.tag in SOURCES)


def _path(uri: str, element: ElementTree.Element, name: str) -> str:
    """The full name of a source; only files, and for a VRT in a store only those beside it."""
    child = element.find("SourceFilename")
    text = (child.text or "").strip() if child is not None else ""
    if child is None or not text:
        raise RasterError(f"{name} has a source without a file name; write it anew")
    relative = child.get("relativeToVRT", child.get("relativetoVRT", "0")) == "1"
    outside = re.match(r"/vsi|<|[A-Za-z][A-Za-z0-9+.-]+:", text) or "\0" in text
    if outside or (not storage.is_local(uri) and (not relative or ".." in text.split("/"))):
        raise RasterError(
            f"{name} refers to {storage.redact(text)[:100]!r}, which is no file on this machine; "
            "fetch the files and build the mosaic of them, or name them one by one"
        )
    if relative:
        return storage.join(storage.parent(storage.normalise(uri)), text)
    return storage.normalise(text)


def _rect(element: ElementTree.Element, tag: str, name: str) -> view.Rect | None:
    rect = element.find(tag)
    if rect is None:
        return None
    try:
        x, y, width, height = (float(rect.get(k, "")) for k in ("xOff", "yOff", "xSize", "ySize"))
    except ValueError:
        raise RasterError(f"{name} has a damaged {tag}; write it anew with gdalbuildvrt") from None
    if not (width > 0 and height > 0):
        raise RasterError(f"{name} has an empty {tag}; write it anew with gdalbuildvrt")
    return x, y, width, height


def _point_to(element: ElementTree.Element, path: str, size: tuple[int, int]) -> None:
    """Name a source by its full path, with its true size: GDAL opens it when pixels are wanted."""
    for child in element.findall("SourceFilename"):
        child.text = path
        child.attrib = {"relativeToVRT": "0"}
    for stated in element.findall("SourceProperties"):
        if (stated.get("RasterXSize"), stated.get("RasterYSize")) != tuple(map(str, size)):
            element.remove(stated)
