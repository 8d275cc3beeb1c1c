"""Places by name, rectangle and file; the smallest set of images that covers one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from shapely.geometry import Polygon, box, shape

from fetch_world import World, small_world
from quadrat.errors import FetchError, InputError
from quadrat.fetching import find_place, places, read_outline
from quadrat.fetching.cover import cover, solve
from quadrat.fetching.names import Row, choose_county, key, split_name, state_code


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world"), rows=1, cols=1) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))


ROWS = [
    Row(0, "25017", "25", "Middlesex", "Middlesex County"),
    Row(1, "34023", "34", "Middlesex", "Middlesex County"),
    Row(2, "24005", "24", "Baltimore", "Baltimore County"),
    Row(3, "24510", "24", "Baltimore", "Baltimore city"),
    Row(4, "35013", "35", "Doña Ana", "Doña Ana County"),
    Row(5, "29510", "29", "St. Louis", "St. Louis city"),
    Row(6, "22079", "22", "Rapides", "Rapides Parish"),
    Row(7, "09130", "09", "Lower Connecticut River Valley", "Lower ... Planning Region"),
]


@pytest.mark.parametrize(
    ("text", "geoid"),
    [
        ("Middlesex, MA", "25017"),
        ("middlesex county, new jersey", "34023"),
        ("25017", "25017"),
        ("Baltimore city, MD", "24510"),
        ("Baltimore County, Maryland", "24005"),
        ("Dona Ana, NM", "35013"),
        ("Saint Louis, MO", "29510"),
        ("Rapides", "22079"),
    ],
)
def test_a_county_is_found_as_people_write_it(text: str, geoid: str) -> None:
    assert choose_county(split_name(text), ROWS, 2023).geoid == geoid


def test_an_ambiguous_name_is_listed_with_its_states() -> None:
    with pytest.raises(InputError) as error:
        choose_county(split_name("Middlesex"), ROWS, 2023)
    assert "Middlesex County, MA; Middlesex County, NJ" in str(error.value)
    with pytest.raises(InputError, match="Baltimore County, MD; Baltimore city, MD"):
        choose_county(split_name("Baltimore, MD"), ROWS, 2023)


def test_a_wrong_name_is_answered_with_near_ones() -> None:
    with pytest.raises(InputError, match="did you mean Middlesex, MA"):
        choose_county(split_name("Midlesex, MA"), ROWS, 2023)
    with pytest.raises(InputError, match=r"planning regions.*--boundary-year 2021"):
        choose_county(split_name("Middlesex, CT"), ROWS, 2023)
    with pytest.raises(InputError, match="did you mean Massachusetts"):
        state_code("Massachusets")
    with pytest.raises(InputError, match='write "Middlesex, MA"'):
        split_name("Middlesex,")


def test_states_by_name_abbreviation_and_code() -> None:
    assert {state_code(t) for t in ("ma", "MASSACHUSETTS", "25")} == {"25"}
    assert key("O'Brien") == "obrien" and key("Ste. Genevieve") == key("Sainte Genevieve")


def test_a_countys_outline_is_fetched_once(world: World) -> None:
    world.server.clear()
    for _ in range(2):
        place = find_place(county="Middlesex, VA", boundaries=world.server.boundaries)
    assert len(world.server.seen("/geo/tiger/", "GET")) == 1
    assert place.name == "Middlesex County, Virginia" and "51119" in place.source
    true = shape(world.outline)
    assert place.outline.symmetric_difference(true).area < 1e-9 * true.area
    # the outline is a rectangle of the imagery's projection, 60 m inside the county
    a, b, c, d = world.bounds
    assert place.area_km2 == pytest.approx((c - a - 120) * (d - b - 120) / 1e6, rel=2e-3)


def test_a_state_and_a_name_that_several_counties_have(world: World) -> None:
    assert find_place(state="Virginia", boundaries=world.server.boundaries).name == "Virginia"
    with pytest.raises(InputError, match=r"3 counties: .*MA; .*NJ; .*VA"):
        find_place(county="Middlesex", boundaries=world.server.boundaries)
    with pytest.raises(InputError, match="no Massachusetts"):
        find_place(state="MA", boundaries=world.server.boundaries)


def test_damaged_boundaries_are_not_kept(world: World, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 not a whole archive")
    world.server.files["/geo/tiger/broken_county.zip"] = broken
    with pytest.raises(FetchError, match="damaged"):
        find_place(
            county="Middlesex, VA", boundaries=world.server.url + "/geo/tiger/broken_{kind}.zip"
        )
    assert list((tmp_path / "cache").rglob("*.zip*")) == []


def test_exactly_one_place_is_named() -> None:
    with pytest.raises(InputError, match="no place given"):
        find_place()
    with pytest.raises(InputError, match="--state and --bbox given"):
        find_place(state="MA", bbox=(-72, 42, -71, 43))


@pytest.mark.parametrize("bbox", [(-71, 42, -72, 43), (-72, 43, -71, 42), (-72, 42, -71)])
def test_a_rectangle_that_is_none(bbox: Any) -> None:
    with pytest.raises(InputError, match="west south east north"):
        find_place(bbox=bbox)


def test_the_area_of_a_degree_cell() -> None:
    # published area of the one-degree cell at the equator, WGS 84: 12,308.8 km²
    assert find_place(bbox=(10, 0, 11, 1)).area_km2 == pytest.approx(12308.8, rel=1e-3)


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet", "shp"])
def test_a_polygon_file_in_another_projection(tmp_path: Path, suffix: str) -> None:
    shapes = [box(560000, 4100000, 561000, 4102000), box(563000, 4100000, 564000, 4101000)]
    frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=shapes, crs="EPSG:26917")
    path = tmp_path / f"area.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "geojson":
        frame.to_crs(4326).to_file(path)
    else:
        frame.to_file(path)
    place = find_place(polygon=str(path))
    assert place.name == "area"
    assert place.area_km2 == pytest.approx(3.0, rel=2e-3)
    west = frame.to_crs(4326).total_bounds
    assert np.allclose(place.outline.bounds, west, atol=1e-7)


def test_polygon_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_outline(str(tmp_path / "none.gpkg"))
    (tmp_path / "text.gpkg").write_text("no table")
    with pytest.raises(InputError, match="cannot be read"):
        read_outline(str(tmp_path / "text.gpkg"))
    line = geopandas.GeoSeries.from_wkt(["LINESTRING (0 0, 1 1)"], crs=4326)
    line.to_file(tmp_path / "line.gpkg")
    with pytest.raises(InputError, match="no polygons"):
        read_outline(str(tmp_path / "line.gpkg"))
    with pytest.warns(UserWarning, match="crs"):
        geopandas.GeoSeries([box(0, 0, 1, 1)]).to_file(tmp_path / "bare.shp")
    with pytest.raises(InputError, match="no CRS"):
        read_outline(str(tmp_path / "bare.shp"))


def test_an_outline_is_kept_as_geojson_that_others_read(tmp_path: Path) -> None:
    place = find_place(bbox=(-72, 42, -71.5, 42.25))
    path = tmp_path / "outline.geojson"
    places.write_outline(str(path), place)
    frame = geopandas.read_file(path)
    assert frame.crs.to_epsg() == 4326 and frame["name"][0] == place.name
    assert frame.geometry[0].equals(place.outline)
    assert json.loads(path.read_text())["features"][0]["properties"]["area_km2"] > 1000


def smallest(masks: dict[int, int], universe: int) -> int:
    """The size of the smallest cover, by trying all."""
    for size in range(len(masks) + 1):
        for some in itertools.combinations(masks.values(), size):
            total = 0
            for mask in some:
                total |= mask
            if total & universe == universe:
                return size
    raise AssertionError("no cover")


def greedy(masks: dict[int, int], universe: int) -> int:
    """The size of the cover that always takes the set which adds most."""
    size = 0
    while universe:
        universe &= ~max(masks.values(), key=lambda mask: (mask & universe).bit_count())
        size += 1
    return size


def test_the_choice_is_the_smallest_that_there_is() -> None:
    rng = np.random.default_rng(7)
    worse = 0
    for _ in range(150):
        cells, sets = int(rng.integers(4, 14)), int(rng.integers(3, 11))
        masks = {i: int(m) for i, m in enumerate(rng.integers(1, 1 << cells, sets))}
        universe = 0
        for mask in masks.values():
            universe |= mask
        pairs = [(c, i) for i, m in masks.items() for c in range(cells) if m >> c & 1]
        chosen, proved = solve(*np.array(pairs).T)
        total = 0
        for i in chosen:
            total |= masks[i]
        assert total == universe and proved
        assert len(chosen) == smallest(masks, universe)
        worse += greedy(masks, universe) > len(chosen)
    assert worse > 0, "cases on which the greedy choice is not the smallest are among these"


def quads(rows: int, cols: int, size: float = 6000.0, lap: float = 300.0) -> list[Polygon]:
    """Footprints that overlap as quarter-quads do."""
    return [
        box(c * size - lap, r * size - lap, (c + 1) * size + lap, (r + 1) * size + lap)
        for r in range(rows)
        for c in range(cols)
    ]


def test_images_that_only_overlap_the_place_by_their_margin_are_left_out() -> None:
    place = box(6000, 6000, 18000, 12000)  # two quads of a 4 x 4 block, to the metre
    found = cover(place, quads(4, 4))
    assert len(found.chosen) == 2 and found.smallest and found.missing.area == 0
    assert found.chosen == (5, 6)


def test_of_two_deliveries_of_one_ground_the_better_is_chosen_once() -> None:
    place = Polygon([(500, 400), (17000, 900), (16000, 11000), (3000, 10000)])
    first = quads(2, 3)
    found = cover(place, [*first, *first])
    assert found.chosen == (0, 1, 2, 3, 4, 5)


def test_what_no_image_covers_is_missing() -> None:
    place = box(0, 0, 12000, 6000)
    found = cover(place, [box(0, 0, 7000, 6000)])
    assert found.chosen == (0,)
    assert found.missing.area == pytest.approx(5000 * 6000)
    assert cover(place, []).missing.area == place.area


def test_a_state_of_quads_is_covered_quickly() -> None:
    import time

    blocks = quads(40, 40)
    place = Polygon([(1000, 1000), (230000, 12000), (200000, 236000), (20000, 180000)])
    start = time.perf_counter()
    found = cover(place, [*blocks, *blocks[::3]])
    assert time.perf_counter() - start < 8
    assert found.smallest and found.missing.area == 0
    # every quad whose own ground, without its margins, meets the place is needed
    core = [b for b in blocks if b.buffer(-600).intersection(place).area > 1e5]
    assert len(core) <= len(found.chosen) <= len(core) + 40
