"""What the local servers serve: the synthetic county as quarter-quads, its labels, county outlines.

The county is generated (`quadrat demo`) and shows no real place. Its imagery is cut into images
that overlap as NAIP's quarter-quads do, named and described as NAIP's are; one of them can be in
the next UTM zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rasterio
from rasterio.shutil import copy as copy_raster
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject, transform_bounds, transform_geom
from shapely.geometry import box, mapping

from fetch_server import FetchServer, serving

OVERLAP = 100  # pixels that neighbouring images share, on each side
DAYS = {2011: "2011-07-14", 2014: "2014-10-02"}


@dataclass
class World:
    """What is served.

    Attributes:
        outline: the county's outline, longitude and latitude (GeoJSON geometry).
        bounds: of the county in the imagery's CRS.
    """

    server: FetchServer
    county: Any
    folder: Path
    outline: dict[str, Any]
    bounds: tuple[float, float, float, float]

    @property
    def images(self) -> dict[str, Path]:
        """Item -> the file that is served."""
        return {
            i["id"]: self.server.files[i["assets"]["image"]["href"].removeprefix(self.server.url)]
            for i in self.server.items
        }

    @property
    def addresses(self) -> list[str]:
        """The options that point `quadrat fetch naip` at the local servers."""
        return [
            "--stac", self.server.stac, "--sas", self.server.sas,
            "--boundaries", self.server.boundaries,
        ]  # fmt: skip

    @property
    def label_addresses(self) -> list[str]:
        """The options that point `quadrat fetch nlcd` at the local servers."""
        return [
            "--service", self.server.wcs, "--coverage", "mrlc:Land-Cover",
            "--boundaries", self.server.boundaries,
        ]  # fmt: skip


@contextmanager
def small_world(folder: Path, **options: Any) -> Iterator[World]:
    """A small world of noise, served; closed afterwards."""
    with serving() as server:
        yield make_world(server, scene(folder), folder / "served", **options)


def scene(folder: Path, rows: int = 6, cols: int = 7) -> Any:
    """A plain stand-in for the synthetic county: noise on a slope, codes at random."""
    from quadrat.grid import Grid, TileRange

    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid("EPSG:26917")
    area = TileRange(-18326, -18326 + rows, 2503, 2503 + cols)
    left, bottom, right, top = grid.range_bounds(area)
    width, height = round(right - left), round(top - bottom)
    y, x = np.mgrid[0:height, 0:width]
    imagery, labels = [], []
    for year in DAYS:
        rng = np.random.default_rng(year)
        slope = np.stack([x // 16, y // 16, (x + y) // 24]) % 160
        pixels = (slope + rng.integers(0, 60, (3, height, width))).astype(np.uint8)
        imagery.append(str(folder / f"imagery_{year}.tif"))
        with rasterio.open(
            imagery[-1], "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8",
            crs=grid.crs, transform=from_origin(left, top, 1, 1), tiled=True,
        ) as out:  # fmt: skip
            out.write(pixels)
        w, s, e, n = transform_bounds(grid.crs, "EPSG:5070", left, bottom, right, top)
        # NLCD's own lattice starts 15 m off the multiples of 30 m
        west, north = w // 30 * 30 - 1515, n // 30 * 30 + 1515
        codes = np.array([11, 21, 22, 31, 41, 42, 52, 71, 81, 82, 90, 95], np.uint8)
        shape = int((north - s) // 30) + 40, int((e - west) // 30) + 40
        labels.append(str(folder / f"labels_{year}.tif"))
        with rasterio.open(
            labels[-1], "w", driver="GTiff", width=shape[1], height=shape[0], count=1,
            dtype="uint8", crs="EPSG:5070", transform=from_origin(west, north, 30, 30), nodata=250,
        ) as out:  # fmt: skip
            out.write(codes[rng.integers(0, len(codes), shape)], 1)
    return SimpleNamespace(
        grid=grid, area=area, years=tuple(DAYS), imagery=tuple(imagery), labels=tuple(labels)
    )


def make_world(
    server: FetchServer, county: Any, folder: Path, *, rows: int = 2, cols: int = 3,
    two_zones: bool = False, block: int = 256,
) -> World:  # fmt: skip
    """Cut a synthetic county into images and serve it.

    Args:
        rows, cols: images down and across, for each date.
        two_zones: the eastern column is in the next UTM zone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    g, a = county.grid, county.area
    bounds = tuple(g.range_bounds(a))
    for year, path in zip(county.years, county.imagery, strict=True):
        for r in range(rows):
            for c in range(cols):
                other = two_zones and c == cols - 1
                _quad(server, folder, path, year, (r, c), (rows, cols), other, block)
    for year, path in zip(county.years, county.labels, strict=True):
        server.coverages[year] = Path(path)
        cog = folder / f"Annual_NLCD_LndCov_{year}.tif"
        copy_raster(path, cog, driver="COG", blocksize=256, compress="DEFLATE")
        server.files[f"/cog/{cog.name}"] = cog
    world = World(server, county, folder, {}, bounds)
    inner = box(*bounds).buffer(-60, join_style="mitre")
    world.outline = transform_geom(g.crs, "EPSG:4326", mapping(inner), precision=9)
    _boundaries(world)
    return world


def _quad(
    server: FetchServer, folder: Path, path: str, year: int, at: tuple[int, int],
    of: tuple[int, int], other_zone: bool, block: int,
) -> None:  # fmt: skip
    (r, c), (rows, cols) = at, of
    with rasterio.open(path) as data:
        r0 = max(0, data.height * r // rows - OVERLAP)
        r1 = min(data.height, data.height * (r + 1) // rows + OVERLAP)
        c0 = max(0, data.width * c // cols - OVERLAP)
        c1 = min(data.width, data.width * (c + 1) // cols + OVERLAP)
        pixels = data.read(window=((r0, r1), (c0, c1)))
        near_infrared = 255 - pixels[:1]
        pixels = np.concatenate([pixels[:3], near_infrared])
        transform = data.window_transform(((r0, r1), (c0, c1)))
        crs = data.crs
    zone = crs.to_epsg() - 26900
    if other_zone:
        pixels, transform, crs = _moved(pixels, transform, crs, 26900 + zone + 1)
        zone += 1
    day = DAYS[year].replace("-", "")
    stem = f"m_37077{10 * r + c:02d}_{'nw' if c % 2 == 0 else 'ne'}_{zone}_1_{day}"
    plain, cog = folder / f"plain_{stem}.tif", folder / f"{stem}.tif"
    with rasterio.open(
        plain, "w", driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=4,
        dtype="uint8", crs=crs, transform=transform,
    ) as out:  # fmt: skip
        out.write(pixels)
    copy_raster(plain, cog, driver="COG", blocksize=block, compress="DEFLATE")
    plain.unlink()
    url = f"/naip/v002/va/{year}/va_100cm_{year}/37077/{cog.name}"
    server.files[url] = cog
    server.items.append(item(server, f"va_{stem}", cog, url, year))


def _moved(pixels: np.ndarray, transform: Any, crs: Any, epsg: int) -> tuple[np.ndarray, Any, Any]:
    """An image in another projection, without its blank corners."""
    from rasterio.crs import CRS
    from rasterio.warp import calculate_default_transform

    h, w = pixels.shape[1:]
    left, top = transform.c, transform.f
    right, bottom = left + w * transform.a, top + h * transform.e
    new = CRS.from_epsg(epsg)
    t, nw, nh = calculate_default_transform(crs, new, w, h, left, bottom, right, top, resolution=1)
    out = np.zeros((4, nh, nw), np.uint8)
    reproject(pixels, out, src_transform=transform, src_crs=crs, dst_transform=t, dst_crs=new,
              resampling=Resampling.nearest)  # fmt: skip
    return out, t, new


def item(server: FetchServer, name: str, file: Path, url: str, year: int) -> dict[str, Any]:
    """A STAC item, with the properties that the Planetary Computer's NAIP items have."""
    with rasterio.open(file) as data:
        epsg, t = data.crs.to_epsg(), data.transform
        footprint = transform_geom(data.crs, "EPSG:4326", mapping(box(*data.bounds)), precision=9)
        bbox = transform_bounds(data.crs, "EPSG:4326", *data.bounds)
        proj = [*data.bounds], list(data.shape)
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "naip",
        "bbox": list(bbox), "geometry": footprint,
        "properties": {
            "gsd": 1.0, "datetime": f"{DAYS[year]}T16:00:00Z", "naip:year": str(year),
            "naip:state": "va", "proj:epsg": epsg, "proj:bbox": proj[0], "proj:shape": proj[1],
            "proj:transform": [t.a, t.b, t.c, t.d, t.e, t.f, 0, 0, 1],
        },
        "assets": {
            "image": {
                "href": server.url + url, "roles": ["data"], "title": "RGBIR COG tile",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            },
            "metadata": {"href": f"{server.url}{url[:-4]}.txt", "type": "text/plain"},
        },
        "links": [{"rel": "collection", "href": f"{server.stac}/collections/naip"}],
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.0.0/schema.json"],
    }  # fmt: skip


def _boundaries(world: World) -> None:
    """Boundary files with the Census Bureau's fields; the Virginian county is the world's."""
    from shapely.geometry import shape

    real = shape(world.outline)
    away = [box(-70 - i, 40 + i, -69.9 - i, 40.1 + i) for i in range(8)]
    counties = [
        ("51", "119", "Middlesex", "Middlesex County", real),
        ("25", "017", "Middlesex", "Middlesex County", away[0]),
        ("34", "023", "Middlesex", "Middlesex County", away[1]),
        ("24", "005", "Baltimore", "Baltimore County", away[2]),
        ("24", "510", "Baltimore", "Baltimore city", away[3]),
        ("35", "013", "Doña Ana", "Doña Ana County", away[4]),
        ("09", "130", "Lower Connecticut River Valley",
         "Lower Connecticut River Valley Planning Region", away[5]),
        ("29", "189", "St. Louis", "St. Louis County", away[6]),
    ]  # fmt: skip
    states = [("51", "Virginia", real), ("24", "Maryland", away[2].union(away[3]))]
    folder = world.folder
    zip_table(folder / "cb_2023_us_county_500k.zip", {
        "STATEFP": [c[0] for c in counties], "COUNTYFP": [c[1] for c in counties],
        "GEOID": [c[0] + c[1] for c in counties], "NAME": [c[2] for c in counties],
        "NAMELSAD": [c[3] for c in counties],
    }, [c[4] for c in counties])  # fmt: skip
    zip_table(folder / "cb_2023_us_state_500k.zip", {
        "STATEFP": [s[0] for s in states], "GEOID": [s[0] for s in states],
        "NAME": [s[1] for s in states],
    }, [s[2] for s in states])  # fmt: skip
    for kind in ("county", "state"):
        name = f"cb_2023_us_{kind}_500k.zip"
        world.server.files[f"/geo/tiger/{name}"] = folder / name


def zip_table(path: Path, fields: dict[str, list[str]], shapes: list[Any]) -> None:
    """A zipped shapefile in NAD83."""
    import zipfile

    from pyogrio.raw import write
    from shapely import to_wkb

    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    write(
        str(folder / f"{path.stem}.shp"), np.array([to_wkb(s) for s in shapes], object),
        [np.array(v, object) for v in fields.values()], list(fields), geometry_type="Polygon",
        crs="EPSG:4269", encoding="UTF-8",
    )  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, file.name)
