"""What is to be fetched, said before anything is: images, sizes, and what is missing.

Plain values and their words. It sends no request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quadrat.errors import InputError
from quadrat.fetching.places import Place
from quadrat.fetching.stac import Item
from quadrat.skipped import Skipped


@dataclass(frozen=True)
class Image:
    """One image of a plan.

    Attributes:
        uri: where it lies, or will.
        size: bytes; None where nobody says.
        present: whether it is there already, whole.
    """

    item: Item
    uri: str
    size: int | None
    present: bool


@dataclass(frozen=True)
class YearPlan:
    """One year of a plan.

    Attributes:
        found: images that the catalogue has over the place.
        smallest: whether no smaller set of images covers as much.
        missing_km2: ground of the place that no image of the year covers.
        skipped: items that cannot be used, and why.
    """

    year: int
    images: tuple[Image, ...]
    found: int
    smallest: bool
    missing_km2: float
    skipped: tuple[Skipped, ...]

    @property
    def dates(self) -> tuple[str, str]:
        """First and last acquisition date."""
        days = [i.item.date for i in self.images]
        return min(days), max(days)

    @property
    def projections(self) -> dict[str, int]:
        """Images in each projection."""
        return dict(sorted(Counter(i.item.crs or "unknown" for i in self.images).items()))


@dataclass(frozen=True)
class Plan:
    """The images to fetch, of all years."""

    place: Place
    years: tuple[YearPlan, ...]
    source: str
    licence: str
    link: bool

    @property
    def images(self) -> tuple[Image, ...]:
        """The images of all years."""
        return tuple(i for y in self.years for i in y.images)

    @property
    def todo(self) -> tuple[Image, ...]:
        """The images that are not there yet."""
        return tuple(i for i in self.images if not i.present)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "place": self.place.name,
            "area_km2": round(self.place.area_km2, 3),
            "source": self.source,
            "licence": self.licence,
            "link": self.link,
            "years": {str(y.year): year_dict(y, self.place.area_km2) for y in self.years},
            "files": len(self.images),
            "bytes": sum(i.size or 0 for i in self.images),
            "files_to_fetch": len(self.todo),
            "bytes_to_fetch": 0 if self.link else sum(i.size or 0 for i in self.todo),
        }

    def text(self) -> str:
        """The plan in words, a line a year and one for the whole."""
        lines = [f"{self.place.name}: {self.place.area_km2:,.1f} km², from {self.source}"]
        for y in self.years:
            first, last = y.dates
            days = first if first == last else f"{first} to {last}"
            size = sum(i.size or 0 for i in y.images)
            parts = [
                f"  {y.year}: {len(y.images)} of {y.found} images",
                *([size_text(size)] if size else []),
                f"flown {days}",
                *(f"{n} in {crs}" for crs, n in y.projections.items()),
            ]
            lines.append(", ".join(parts))
            if not y.smallest:
                lines.append("    a smaller set may exist: the search for it was cut short")
            if y.missing_km2:
                share = 100 * y.missing_km2 / self.place.area_km2
                lines.append(f"    MISSING {y.missing_km2:,.2f} km² ({share:.2g}%): no image there")
            lines += [f"    left out {s}" for s in y.skipped]
        todo = self.todo
        if not todo:
            lines.append(f"  all {len(self.images)} files are there")
        elif self.link:
            lines.append(f"  {len(todo)} links to write")
        else:
            unknown = sum(1 for i in todo if i.size is None)
            lines.append(
                f"  to fetch: {len(todo)} files, {size_text(sum(i.size or 0 for i in todo))}"
                + (f" and {unknown} of unknown size" if unknown else "")
            )
        return "\n".join(lines)


def checked_years(years: Sequence[int], product: str, first: int) -> list[int]:
    """The years, each once and in order; InputError for none and for those before `first`."""
    if not years:
        raise InputError("no year given; give --years 2016, or several")
    for year in years:
        if not first <= year <= 2100:
            raise InputError(f"{year} is no year of {product}, which starts in {first}")
    return sorted(set(years))


def year_dict(y: YearPlan, area_km2: float) -> dict[str, Any]:
    """A year of a plan as plain values."""
    return {
        "images": len(y.images),
        "found": y.found,
        "smallest": y.smallest,
        "missing_km2": round(y.missing_km2, 4),
        "covered_share": round(1 - y.missing_km2 / area_km2, 6),
        "skipped": [list(s) for s in y.skipped],
        "dates": list(y.dates),
        "projections": y.projections,
    }


def size_text(count: int) -> str:
    """Bytes in words: "412 MB", "1.63 GB"."""
    if count < 1_000_000:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
