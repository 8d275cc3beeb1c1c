"""Products -> a static STAC catalogue: JSON files that say what each is, where and when.

    items     an item a product: its ground, dates, classes and files
    fields    values as STAC and its extensions want them

The catalogue (STAC 1.1) is one collection in a folder, with relative links, and can be put on any
web server or disk beside the products as it is. Extensions: projection 2.0, classification 2.0,
file 2.1, version 1.2, scientific 1.0; for models MLM 1.4. It does not know how products are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from quadrat import dates, products, storage
from quadrat.catalogues import fields
from quadrat.catalogues.items import Told, item
from quadrat.errors import InputError
from quadrat.records import Record
from quadrat.shown import shown

__all__ = ["StacResult", "stac"]

MANIFEST = products.PRODUCTS["catalogue"].manifest
ITEMS = "items"


@shown
@dataclass(frozen=True)
class StacResult(Record):
    """What was written.

    Attributes:
        uri: the collection, `collection.json`.
        items: its items' files, one a product.
    """

    uri: str
    items: tuple[str, ...]


def stac(
    sources: Sequence[str],
    out: str,
    *,
    title: str | None = None,
    description: str | None = None,
    licence: str = "other",
    doi: str | None = None,
    citation: str | None = None,
    date: str | None = None,
    overwrite: bool = False,
) -> StacResult:
    """Write a static STAC catalogue of products.

    Args:
        sources: folders of tile sets, scores, changes and models, and GeoTIFFs that `map` wrote.
        out: a folder for the catalogue, any URI.
        title, description: of the collection.
        licence: of the products, an SPDX identifier (`CC-BY-4.0`); `other` where it is none.
        doi, citation: how the products are to be cited.
        date: of products that do not know theirs, `YYYY-MM-DD` or `YYYY`.
        overwrite: replace a catalogue that is there.

    Raises:
        InputError: no products, one twice, one that is none, or one without a date.
        ScoresError, TileSetError, ModelError, RasterError: a product that is damaged.
    """
    if not sources:
        raise InputError("no product to list; name a tile set, scores, a map, a change or a model")
    when = None if date is None else dates.parse(date)
    told = Told(licence, doi, citation, when)
    out = storage.normalise(out)
    places = [storage.normalise(s) for s in sources]
    if len(set(places)) < len(places):
        raise InputError("a product is named twice; name each once")
    names = _names(places)
    with products.hold("catalogue", out):
        products.claim("catalogue", out, "", overwrite)
        made = {
            storage.join(out, ITEMS, f"{name}.json"): item(name, place, out, told)
            for name, place in zip(names, places, strict=True)
        }
        for old in storage.list_names(storage.join(out, ITEMS), ".json"):
            storage.remove(storage.join(out, ITEMS, old))
        for uri, value in made.items():
            storage.write_json(uri, value)
        collection = _collection(names, list(made.values()), told, title, description)
        uri = storage.join(out, MANIFEST)
        storage.write_json(uri, collection)
    return StacResult(uri, tuple(made))


def _names(places: Sequence[str]) -> list[str]:
    """A name for each product: that of its folder or file, numbered where it is taken."""
    names: list[str] = []
    for place in places:
        name = base = fields.slug(PurePath(storage.basename(place)).stem)
        n = 1
        while name in names:
            n += 1
            name = f"{base}-{n}"
        names.append(name)
    return names


def _collection(
    names: Sequence[str],
    items: Sequence[dict[str, Any]],
    told: Told,
    title: str | None,
    description: str | None,
) -> dict[str, Any]:
    boxes = [i["bbox"] for i in items if "bbox" in i] or [[-180.0, -90.0, 180.0, 90.0]]
    whole = [f(b[k] for b in boxes) for k, f in enumerate((min, min, max, max))]
    spans = [fields.ends(i["properties"]) for i in items]
    citing = fields.citing(told.doi, told.citation)
    links = [
        {"rel": "root", "href": "./collection.json", "type": "application/json"},
        *({"rel": "item", "href": f"./{ITEMS}/{n}.json", "type": "application/geo+json"}
          for n in names),
        *fields.doi_link(told.doi),
    ]  # fmt: skip
    return {
        "type": "Collection",
        "stac_version": fields.VERSION,
        "stac_extensions": [fields.SCIENTIFIC] if citing else [],
        "id": "quadrat",
        "title": title or "Land use from aerial imagery",
        "description": description or "Products of Quadrat: " + ", ".join(names) + ".",
        "license": told.licence,
        "extent": {
            "spatial": {"bbox": [whole]},
            "temporal": {"interval": [[min(a for a, _ in spans), max(b for _, b in spans)]]},
        },
        **citing,
        "links": links,
    }
