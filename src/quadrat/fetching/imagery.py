"""NAIP imagery of a place and years: plan, then fetch or link. The `quadrat fetch naip` verb.

It does not know how requests, signatures or the choice of images work: `http`, `signing`, `cover`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from quadrat import choices, products, raster, storage
from quadrat.errors import FetchError, QuadratError
from quadrat.fetching import folder, http, record
from quadrat.fetching.cover import cover
from quadrat.fetching.download import WORKERS, Failure, Wanted, download
from quadrat.fetching.link import vrt
from quadrat.fetching.places import Place
from quadrat.fetching.plan import Image, Plan, YearPlan, checked_years, year_dict
from quadrat.fetching.record import FileRecord
from quadrat.fetching.signing import Signer, planetary_service
from quadrat.fetching.stac import Catalogue, Item
from quadrat.raster.whole import verify
from quadrat.records import Record
from quadrat.shown import shown

FIRST_YEAR = 2003  # of the programme's yearly imagery


@shown
@dataclass(frozen=True)
class Fetched(Record):
    """What a fetch did.

    Attributes:
        files: the rasters (or links) of the plan that are now there.
        written: how many of them this run wrote; the others were there.
        bytes: of the files that this run wrote.
    """

    computed = ("outline",)

    out: str
    plan: Plan
    files: tuple[str, ...]
    written: int
    bytes: int
    dry_run: bool

    @property
    def outline(self) -> str | None:
        """The GeoJSON file with the place's outline; None when nothing was to be written."""
        return None if self.dry_run else storage.join(self.out, record.OUTLINE)


def fetch_naip(
    place: Place,
    years: Sequence[int],
    out: str,
    *,
    stac: str = choices.STAC,
    sas: str | None = None,
    collection: str = "naip",
    asset: str = "image",
    link: bool = False,
    dry_run: bool = False,
    workers: int = WORKERS,
    client: http.Client | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Fetched:
    """Fetch the smallest set of NAIP images that covers a place, for each year.

    Writes `<out>/<year>/<item>.tif` (or `.vrt`, with `link`), a record beside each,
    `<out>/outline.geojson` and `<out>/fetch.json`. What is there already is not fetched again, and
    a file that was fetched in part is gone on with.

    Args:
        stac, collection, asset: where to look.
        sas: token service that signs the images' addresses; the Planetary Computer's for its own
            catalogue when None, and none for another.
        link: write links that read the remote images window by window.
        dry_run: plan only; writes nothing.
        workers: files fetched at once.
        on_plan: called with the plan before anything is fetched.
        on_progress: called with bytes there and bytes in all (links: files).

    Raises:
        InputError: years that are none, or a folder of another place.
        FetchError: no imagery of a year, a service that fails, files that could not be fetched.
        StorageError: not enough space; the folder cannot be written, or is in use.
    """
    chosen = checked_years(years, "NAIP", FIRST_YEAR)
    own = client or http.Client()
    try:
        with nullcontext() if dry_run else products.hold("imagery", out):
            folder.check_place(out, place)
            catalogue = Catalogue(own, stac, collection, asset)
            signer = Signer(own, _service(catalogue.url, sas), collection)
            plan = make_plan(catalogue, signer, place, chosen, out, link=link, workers=workers)
            if on_plan is not None:
                on_plan(plan)
            if dry_run:
                return Fetched(out, plan, (), 0, 0, True)
            folder.sweep(out)
            job = _Job(
                own,
                signer,
                plan=plan,
                out=out,
                catalogue=catalogue,
                workers=workers,
                on_progress=on_progress,
            )
            return job.run_links() if link else job.run_downloads()
    finally:
        if client is None:
            own.close()


def _service(stac: str, sas: str | None) -> str | None:
    if sas is not None:
        return sas
    return planetary_service() if stac == choices.STAC else None


def make_plan(
    catalogue: Catalogue,
    signer: Signer,
    place: Place,
    years: Sequence[int],
    out: str,
    *,
    link: bool,
    workers: int,
) -> Plan:
    """Choose the images of each year and ask for their sizes.

    Raises:
        FetchError: a year without any image over the place.
    """
    plans = []
    for year in years:
        result = catalogue.search(place.outline, year)
        if not result.items:
            there = ", ".join(map(str, catalogue.years(place.outline))) or "none"
            left = f" ({len(result.skipped)} items cannot be used)" if result.skipped else ""
            raise FetchError(
                f"no imagery of {year} over {place.name}{left}; years with imagery there: {there}"
            )
        items, missing, smallest = _choose(place, result.items)
        images = [_image(out, i, link) for i in items]
        plans.append(
            YearPlan(year, tuple(images), len(result.items), smallest, missing, result.skipped)
        )
    with ThreadPoolExecutor(max(1, workers)) as pool:
        sizes = list(
            pool.map(lambda i: _size(i, signer, catalogue), (i for y in plans for i in y.images))
        )
    weighed = iter(sizes)
    plans = [
        replace(y, images=tuple(replace(i, size=next(weighed)) for i in y.images)) for y in plans
    ]
    return Plan(place, tuple(plans), catalogue.url, catalogue.licence(), link)


def _choose(place: Place, items: Sequence[Item]) -> tuple[list[Item], float, bool]:
    """The fewest items that cover the place; of equals, those of its main state, finer, later."""
    outline = place.metric(place.outline)
    ground = {i.id: place.metric(i.footprint) for i in items}
    share: dict[str, float] = {}
    for i in items:
        share[i.state] = share.get(i.state, 0.0) + ground[i.id].intersection(outline).area
    ranked = sorted(
        sorted(items, key=lambda i: i.date, reverse=True),
        key=lambda i: (-share[i.state], i.gsd or 99.0),
    )
    best = cover(outline, [ground[i.id] for i in ranked])
    chosen = sorted((ranked[n] for n in best.chosen), key=lambda i: i.id)
    missing = float(best.missing.area)
    return chosen, 0.0 if missing < 1000.0 else missing / 1e6, best.smallest


def _image(out: str, item: Item, link: bool) -> Image:
    """The local file of an item, and whether it is complete."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", item.id).lstrip(".") or "item"
    copy = storage.join(out, str(item.year), f"{name}.tif")
    if storage.exists(copy) and storage.exists(record.sidecar(copy)):
        size = storage.size(copy)
        known = storage.read_json(record.sidecar(copy))
        if known.get("item") == item.id and known.get("size") == size:
            return Image(item, copy, size, True)
    if not link:
        return Image(item, copy, None, False)
    uri = storage.join(out, str(item.year), f"{name}.vrt")
    return Image(item, uri, None, raster.is_link(uri))


def _size(image: Image, signer: Signer, catalogue: Catalogue) -> int | None:
    if image.present or image.item.size is not None:
        return image.size or image.item.size
    url = signer.sign(image.item.href)
    try:
        return signer.client.head(url).length
    except http.AnswerError as error:
        if error.status in (401, 403) and signer.renew(url):
            return signer.client.head(signer.sign(image.item.href)).length
        if error.status == 404:
            raise FetchError(
                f"the image of {image.item.id} is not where {catalogue.url} says; the catalogue is "
                "out of date: try later, or another --stac"
            ) from None
        raise


class _Job:
    """One run: the plan, and what it writes."""

    def __init__(
        self,
        client: http.Client,
        signer: Signer,
        *,
        plan: Plan,
        out: str,
        catalogue: Catalogue,
        workers: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.client, self.signer, self.plan, self.out = client, signer, plan, out
        self.catalogue, self.workers, self.on_progress = catalogue, workers, on_progress
        self.uploading = threading.Lock()

    def run_downloads(self) -> Fetched:
        """Fetch what is not there."""
        todo = self.plan.todo
        for image in todo:
            storage.remove(image.uri)  # there, but not whole
        wanted = [self._wanted(i) for i in todo]
        failures = download(
            self.client, wanted, signer=self.signer, workers=self.workers,
            already=sum(i.size or 0 for i in self.plan.images if i.present),
            on_progress=self.on_progress,
        )  # fmt: skip
        failed = {f.wanted.href for f in failures}
        there = [i for i in self.plan.images if i.item.href not in failed]
        for image in there:
            link = re.sub(r"\.tif$", ".vrt", image.uri)
            storage.remove(link)
            storage.remove(record.sidecar(link))
        if not storage.is_local(self.out):
            for w in wanted:
                w.path.unlink(missing_ok=True)
        return self._finish(there, [i for i in todo if i in there], failures, len(todo))

    def _wanted(self, image: Image) -> Wanted:
        local = storage.is_local(image.uri)
        path = storage.local_path(image.uri) if local else self._staged(image)

        def name_it(size: int) -> None:
            if not local:
                with self.uploading:  # one file in memory at a time
                    storage.write_bytes(image.uri, Wanted(image.item.href, path).part.read_bytes())
            record.write_record(image.uri, self._record(image, size))

        return Wanted(
            image.item.href, path, image.size, check=lambda p: verify(str(p)), before=name_it
        )

    def _staged(self, image: Image) -> Path:
        own = storage.digest_bytes(image.uri.encode())[:24]
        return storage.cache_dir() / "fetch" / f"{own}.tif"

    def run_links(self) -> Fetched:
        """Write the links that are not there."""
        todo = self.plan.todo
        done = 0
        lock = threading.Lock()
        if self.on_progress is not None:
            self.on_progress(0, len(todo))

        def one(image: Image) -> Failure | None:
            nonlocal done
            try:
                self._link(image)
            except QuadratError as error:
                return Failure(Wanted(image.item.href, Path(image.uri)), error)
            with lock:
                done += 1
                if self.on_progress is not None:
                    self.on_progress(done, len(todo))
            return None

        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            results = list(pool.map(one, todo))
        failures = [f for f in results if f is not None]
        failed = {f.wanted.href for f in failures}
        there = [i for i in self.plan.images if i.item.href not in failed]
        return self._finish(there, [i for i in todo if i in there], failures, len(todo))

    def _link(self, image: Image) -> None:
        href = image.item.href
        facts = raster.info(self.signer.sign(href))
        signed = self.signer.collection if self.signer.covers(href) else None
        text = vrt(facts, http.gdal_name(href, signed))
        content = text.encode()
        digest = storage.digest_bytes(content)
        record.write_record(image.uri, self._record(image, None, digest))
        storage.write_bytes(image.uri, content)

    def _record(self, image: Image, size: int | None, link: str = "") -> FileRecord:
        item = image.item
        return FileRecord(
            kind="naip",
            item=item.id,
            year=item.year,
            date=item.date,
            gsd=item.gsd,
            crs=item.crs,
            source=self.plan.source,
            href=item.href,
            licence=self.plan.licence,
            size=size,
            place=self.plan.place.name,
            link=link,
        )

    def _finish(
        self, there: list[Image], written: list[Image], failures: list[Failure], todo: int
    ) -> Fetched:
        area = self.plan.place.area_km2
        files = {
            i.uri.removeprefix(self.out).lstrip("/"): storage.read_json(record.sidecar(i.uri))
            for i in there
        }
        facts = {
            "source": self.plan.source,
            "collection": self.catalogue.collection,
            "licence": self.plan.licence,
            "years": {str(y.year): year_dict(y, area) for y in self.plan.years},
            "files": files,
        }
        folder.write_summary(self.out, self.plan.place, "naip", facts)
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise FetchError(
                f"{len(failures)} of {todo} files could not be fetched: {failures[0].error}{more}; "
                "the others are whole: run the same command again for these"
            )
        size = 0 if self.plan.link else sum(storage.size(i.uri) for i in written)
        return Fetched(self.out, self.plan, tuple(i.uri for i in there), len(written), size, False)
