"""Finds imagery in a STAC API. The only home of pystac-client.

The search itself is pystac-client's (paging, conformance); what it sends goes through `http`. Items
are read as the NAIP collection of the Planetary Computer has them: `datetime`, `gsd`, `naip:year`,
`naip:state`, the projection extension, one COG as an asset ("image"). It signs nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from quadrat import border, choices, dates
from quadrat import skipped as skips
from quadrat.errors import FetchError, MissingExtraError, QuadratError
from quadrat.fetching import http
from quadrat.redaction import redact
from quadrat.skipped import Skipped

PAGE = 250
LATE_FLIGHTS = "06-30"  # a year's last flights may be flown early in the next


@dataclass(frozen=True)
class Item:
    """One image of a catalogue.

    Attributes:
        year: the programme's year (`naip:year`), which late flights keep into the next.
        date: acquisition date, YYYY-MM-DD.
        footprint: shapely polygon, longitude and latitude.
        href: address of the image, unsigned.
        size: bytes, where the catalogue says.
    """

    id: str
    year: int
    date: str
    gsd: float | None
    crs: str
    state: str
    footprint: Any
    href: str
    size: int | None


@dataclass(frozen=True)
class SearchResult:
    """What a search gave: usable items, and why others are not (id, reason)."""

    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...]


class Catalogue:
    """One collection of a STAC API."""

    def __init__(
        self, client: http.Client, url: str = choices.STAC, collection: str = "naip",
        asset: str = "image",
    ) -> None:  # fmt: skip
        self.url, self.collection, self.asset = url.rstrip("/"), collection, asset
        self._api = _open(client, self.url)
        with self._translated():
            # asked for first: a search for a collection that is not there just finds nothing
            self._facts = self._api.get_collection(collection).to_dict()

    def search(self, area: Any, year: int) -> SearchResult:
        """The items of one year that meet an area.

        Args:
            area: shapely polygon, longitude and latitude.
        """
        # a county's outline has thousands of points; the service needs a rough one
        rough = area.simplify(0.002).buffer(0.002) if _points(area) > 200 else area
        items: dict[str, Item] = {}
        skipped: dict[str, str] = {}
        with self._translated():
            search = self._api.search(
                collections=[self.collection],
                intersects=rough.__geo_interface__,
                datetime=f"{year}-01-01/{year + 1}-{LATE_FLIGHTS}",
                limit=PAGE,
            )
            for feature in search.items_as_dicts():
                try:
                    item = read_item(feature, self.asset)
                except ValueError as error:
                    if _year(feature.get("properties", {})) in (year, None):
                        skipped[str(feature.get("id", "?"))] = str(error)
                    continue
                if item.year == year and item.footprint.intersects(area):
                    items[item.id] = item
        return SearchResult(
            tuple(items[k] for k in sorted(items)), skips.from_lists(sorted(skipped.items()))
        )

    def years(self, area: Any) -> list[int]:
        """Years with imagery at the middle of an area, ascending."""
        point = area.representative_point()
        with self._translated():
            search = self._api.search(
                collections=[self.collection], intersects=point.__geo_interface__, limit=PAGE
            )
            years = {_year(f.get("properties", {})) for f in search.items_as_dicts()}
        return sorted(y for y in years if y is not None)

    def licence(self) -> str:
        """The collection's terms in words: the title and address of its licence link, or its id."""
        facts = self._facts
        link = next((k for k in facts.get("links", []) if k.get("rel") == "license"), None)
        if link and link.get("href"):
            return f"{link.get('title') or facts.get('license', 'licence')} ({link['href']})"
        return str(facts.get("license") or "not stated")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with _translated(self.url, self.collection):
            yield


@contextmanager
def _translated(url: str, collection: str | None = None) -> Iterator[None]:
    """Turn what pystac and pystac-client raise into one line."""
    from pystac.errors import STACError
    from pystac_client.errors import ClientTypeError
    from pystac_client.exceptions import APIError
    from pystac_client.warnings import PystacClientWarning

    about = f"the collection {collection!r} of {redact(url)}" if collection else redact(url)
    try:
        with warnings.catch_warnings():
            # what a service does not conform to shows in what it answers
            warnings.simplefilter("ignore", PystacClientWarning)
            yield
    except QuadratError as error:
        if isinstance(error, http.AnswerError) and error.status == 404:
            raise FetchError(f"{about} does not exist; check --stac and --collection") from None
        raise
    except (
        APIError, ClientTypeError, STACError, KeyError, TypeError, ValueError, AttributeError,
        NotImplementedError,
    ) as error:  # fmt: skip
        raise FetchError(
            f"{about} does not answer as a STAC API ({border.short(error)}); check --stac"
        ) from None


def _open(client: http.Client, url: str) -> Any:
    try:
        import pystac_client
        from pystac_client.stac_api_io import StacApiIO
    except ImportError:
        raise MissingExtraError("searching a STAC API", "fetch") from None

    class Seam(StacApiIO):  # type: ignore[misc,unused-ignore]
        """pystac-client's reader, whose every request is sent by `http`."""

        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,
            parameters: dict[str, Any] | None = None,
        ) -> str:
            import json

            posts = (method or "GET").upper() == "POST"
            values = client.values(
                href,
                method="POST" if posts else "GET",
                headers=headers,
                params=None if posts else parameters,
                body=parameters if posts else None,
            )
            return json.dumps(values)

    with _translated(url):
        return pystac_client.Client.open(url, stac_io=Seam(max_retries=None))


def read_item(feature: Mapping[str, Any], asset: str = "image") -> Item:
    """A STAC item as an Item; ValueError says in words why it cannot be used."""
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    facts = feature.get("properties") or {}
    image = (feature.get("assets") or {}).get(asset)
    if not isinstance(image, dict) or not image.get("href"):
        raise ValueError(f"it has no asset {asset!r}")
    href = str(image["href"]).split("?", 1)[0]
    if not re.match(r"https?://", href):
        raise ValueError(f"its image is at {href.split('://')[0]}://, which is not http(s)")
    year = _year(facts)
    date = dates.find(str(facts.get("datetime") or facts.get("start_datetime") or ""))
    if year is None or date is None:
        raise ValueError("it has no date")
    try:
        footprint = shape(feature.get("geometry"))
    except (ShapelyError, TypeError, KeyError, AttributeError, ValueError):
        raise ValueError("it has no footprint") from None
    if footprint.is_empty or footprint.geom_type not in ("Polygon", "MultiPolygon"):
        raise ValueError("it has no footprint")
    if not footprint.is_valid:
        footprint = footprint.buffer(0)
    size, gsd = image.get("file:size"), facts.get("gsd")
    return Item(
        id=str(feature["id"]),
        year=year,
        date=date,
        gsd=float(gsd) if isinstance(gsd, int | float) else None,
        crs=_crs(facts, image),
        state=str(facts.get("naip:state") or ""),
        footprint=footprint,
        href=href,
        size=size if isinstance(size, int) else None,
    )


def _year(facts: Mapping[str, Any]) -> int | None:
    text = str(facts.get("naip:year") or str(facts.get("datetime") or "")[:4])
    return int(text) if re.fullmatch(r"\d{4}", text) else None


def _crs(facts: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    for place in (image, facts):
        if place.get("proj:code"):  # projection extension 2
            return str(place["proj:code"])
        if place.get("proj:epsg"):  # projection extension 1
            return f"EPSG:{place['proj:epsg']}"
    return ""


def _points(area: Any) -> int:
    import shapely

    return int(shapely.get_num_coordinates(area))
