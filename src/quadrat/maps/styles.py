"""How maps look in QGIS, and what GDAL and ArcGIS call their classes: documents as text.

    QML        a style of QGIS: beside a raster of the same name, or in a GeoPackage
    PAM        `.aux.xml`: GDAL's names of the classes, and their table (RAT), which ArcGIS reads

It does not know files or pixels. Formats: the style files of QGIS 3.22, and GDAL's PAM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from quadrat.legend import LandClass

# viridis of matplotlib at 0, 1/4, 1/2, 3/4, 1: even steps to the eye, also to colour-blind ones
RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
OUTLINE = "#d01c8b"  # of candidates: in no legend that ships
# name, type and usage of the columns of a RAT, as GDAL numbers them
RAT = (
    ("Value", 0, 5), ("Count", 0, 1), ("Class", 2, 2),
    ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8),
)  # fmt: skip


def palette(classes: Mapping[int, LandClass]) -> bytes:
    """The style of a raster of classes: value -> class, those that are there."""
    root, renderer = _raster("paletted", 1)
    entries = ET.SubElement(renderer, "colorPalette")
    for value, c in classes.items():
        ET.SubElement(
            entries, "paletteEntry", value=str(value), color=c.color, alpha="255", label=c.name
        )
    return _text(root)


def ramp(band: int, low: float, high: float, unit: str = "") -> bytes:
    """The style of one band of a raster of numbers, from `low` (dark) to `high` (bright)."""
    root, renderer = _raster("singlebandpseudocolor", band)
    renderer.set("classificationMin", f"{low:g}")
    renderer.set("classificationMax", f"{high:g}")
    shader = ET.SubElement(
        ET.SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED",
        classificationMode="1", clip="0", minimumValue=f"{low:g}", maximumValue=f"{high:g}",
    )  # fmt: skip
    for value, color in _stops(low, high):
        label = f"{value:.0%}" if unit == "%" else f"{value:.3g} {unit}".strip()
        ET.SubElement(
            shader, "item", value=f"{value:g}", color=color, alpha="255", label=label
        )  # fmt: skip
    return _text(root)


def pam(classes: Mapping[int, LandClass], counts: Mapping[int, int], names: Sequence[str]) -> bytes:
    """Names of all classes by value, and a table of those that are there with their pixels."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    categories = ET.SubElement(band, "CategoryNames")
    for name in names:
        ET.SubElement(categories, "Category").text = name
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for i, (name, kind, usage) in enumerate(RAT):
        field = ET.SubElement(table, "FieldDefn", index=str(i))
        for tag, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ET.SubElement(field, tag).text = text
    for i, (value, c) in enumerate(classes.items()):
        row = ET.SubElement(table, "Row", index=str(i))
        for cell in (value, counts[value], c.name, *c.rgb):
            ET.SubElement(row, "F").text = str(cell)
    return _text(root, doctype=False)


def categories(column: str, classes: Sequence[LandClass]) -> bytes:
    """The style of polygons by the class that a column names."""
    root, renderer, symbols = _polygons("categorizedSymbol", column)
    listed = ET.SubElement(renderer, "categories")
    for i, c in enumerate(classes):
        ET.SubElement(listed, "category", symbol=str(i), value=c.name, label=c.name, render="true")
        _fill(symbols, str(i), c.color)
    renderer.append(symbols)
    return _text(root)


def steps(column: str, low: float = 0.0, high: float = 1.0) -> bytes:
    """The style of polygons by a column of shares or probabilities, in five steps."""
    root, renderer, symbols = _polygons("graduatedSymbol", column)
    renderer.set("graduatedMethod", "GraduatedColor")
    listed, n = ET.SubElement(renderer, "ranges"), len(RAMP)
    for i, color in enumerate(RAMP):
        a, b = (low + (high - low) * k / n for k in (i, i + 1))
        ET.SubElement(
            listed, "range", symbol=str(i), lower=f"{a:g}", upper=f"{b:g}",
            label=f"{a:.0%} to {b:.0%}", render="true",
        )  # fmt: skip
        _fill(symbols, str(i), color)
    renderer.append(symbols)
    return _text(root)


def checklist(column: str, answers: Sequence[str], tip: str) -> bytes:
    """The style of outlines that people sign off: a list of answers for a column, and a map tip."""
    root, renderer, symbols = _polygons("singleSymbol", None)
    _fill(symbols, "0", None)
    renderer.append(symbols)
    fields = ET.SubElement(root, "fieldConfiguration")
    widget = ET.SubElement(
        ET.SubElement(fields, "field", name=column), "editWidget", type="ValueMap"
    )
    options = ET.SubElement(ET.SubElement(widget, "config"), "Option", type="Map")
    listed = ET.SubElement(options, "Option", name="map", type="List")
    for answer in answers:
        one = ET.SubElement(listed, "Option", type="Map")
        ET.SubElement(one, "Option", name=answer, value=answer, type="QString")
    ET.SubElement(root, "mapTip").text = tip
    return _text(root, every=True)


def _stops(low: float, high: float) -> list[tuple[float, str]]:
    return [(low + (high - low) * i / (len(RAMP) - 1), c) for i, c in enumerate(RAMP)]


def _raster(kind: str, band: int) -> tuple[ET.Element, ET.Element]:
    root = ET.Element("qgis", version="3.22.0", styleCategories="AllStyleCategories")
    renderer = ET.SubElement(
        ET.SubElement(root, "pipe"), "rasterrenderer", type=kind, band=str(band), opacity="1",
        alphaBand="-1", nodataColor="",
    )  # fmt: skip
    return root, renderer


def _polygons(kind: str, column: str | None) -> tuple[ET.Element, ET.Element, ET.Element]:
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology")
    renderer = ET.SubElement(root, "renderer-v2", type=kind, symbollevels="0", enableorderby="0")
    if column is not None:
        renderer.set("attr", column)
    return root, renderer, ET.Element("symbols")


def _fill(symbols: ET.Element, name: str, color: str | None) -> None:
    """A fill without an outline; without a colour, an outline without a fill."""
    symbol = ET.SubElement(symbols, "symbol", name=name, type="fill", alpha="1")
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0"})
    looks = (
        {"color": _rgba(color), "style": "solid", "outline_style": "no"}
        if color
        else {"style": "no", "outline_color": _rgba(OUTLINE), "outline_style": "solid",
              "outline_width": "0.6", "outline_width_unit": "MM"}
    )  # fmt: skip
    for key, value in looks.items():
        ET.SubElement(layer, "prop", k=key, v=value)


def _rgba(color: str) -> str:
    return ",".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5)) + ",255"


def _text(root: ET.Element, *, doctype: bool = True, every: bool = False) -> bytes:
    if every:
        root.set("styleCategories", "AllStyleCategories")
    ET.indent(root, " ")
    head = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" if doctype else ""
    return f"{head}{ET.tostring(root, encoding='unicode')}\n".encode()
