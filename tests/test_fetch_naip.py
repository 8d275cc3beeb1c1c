"""NAIP of a place from local servers: what is chosen, fetched, recorded, and what goes wrong."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_geom
from shapely.geometry import box, mapping, shape

from fetch_server import Fault
from fetch_world import DAYS, World, small_world
from quadrat.errors import FetchError, InputError, LockedError
from quadrat.fetching import Fetched, Place, fetch_naip, http, read_record
from quadrat.fetching.http import Policy
from quadrat.fetching.stac import read_item

QUICK = Policy(attempts=4, base_s=0.01, longest_s=0.05, connect_s=2, read_s=5)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two rows and three columns of images for each of two years, the eastern in another zone."""
    with small_world(tmp_path_factory.mktemp("world"), two_zones=True) as made:
        yield made


@pytest.fixture
def world(served: World) -> Iterator[World]:
    """The served world, put back as it was afterwards."""
    server = served.server
    items, files = copy.deepcopy(server.items), dict(server.files)
    server.clear()
    yield served
    server.items, server.files = items, files
    server.token_s, server.conforms, server.bytes_per_s = 3600.0, True, None


def county(world: World) -> Place:
    return Place("Middlesex County, Virginia", shape(world.outline), "test")


def get(world: World, out: Path | str, years: tuple[int, ...] = (2011,), **options: Any) -> Fetched:
    with http.Client(QUICK) as client:
        return fetch_naip(
            options.pop("place", county(world)), years, str(out), stac=world.server.stac,
            sas=world.server.sas, client=client, **options,
        )  # fmt: skip


def check_whole(world: World, result: Fetched) -> None:
    """Every file is the one that is served, byte for byte."""
    for uri in result.files:
        item = read_record(uri)["item"]
        assert Path(uri).read_bytes() == world.images[item].read_bytes()


def test_a_county_is_fetched_whole_with_its_records(world: World, tmp_path: Path) -> None:
    plans: list[str] = []
    result = get(world, tmp_path, (2011, 2014), on_plan=lambda p: plans.append(p.text()))
    assert result.written == len(result.files) == 12
    check_whole(world, result)
    posts = world.server.seen("/api/stac/v1/search", "POST")
    assert len(posts) >= 4, "six items a year come in pages of three"
    found = read_record(result.files[0])
    assert found["date"] == "2011-07-14" and found["year"] == 2011 and found["gsd"] == 1.0
    assert found["licence"].startswith("Public Domain (https://www.fsa.usda.gov")
    assert found["crs"] == "EPSG:26917" and "?" not in found["href"]
    summary = json.loads((tmp_path / "fetch.json").read_text())
    assert set(summary["naip"]["years"]) == {"2011", "2014"}
    assert summary["naip"]["years"]["2011"]["covered_share"] == 1.0
    assert len(summary["files"]) == 12 and summary["place"]["name"] == county(world).name
    assert "2 in EPSG:26918" in plans[0] and "to fetch: 12 files" in plans[0]
    outline = json.loads((tmp_path / "outline.geojson").read_text())
    assert shape(outline["features"][0]["geometry"]).equals_exact(shape(world.outline), 1e-6)


def test_a_second_call_fetches_only_what_is_missing(world: World, tmp_path: Path) -> None:
    first = get(world, tmp_path)
    world.server.clear()
    assert get(world, tmp_path).written == 0
    assert world.server.seen("/naip/") == [] and world.server.seen("/api/sas") == []
    Path(first.files[2]).unlink()
    with Path(first.files[4]).open("rb+") as file:
        file.truncate(1000)  # somebody else's half copy
    again = get(world, tmp_path)
    assert again.written == 2
    check_whole(world, again)
    fetched = {r.path.rsplit("/", 1)[-1] for r in world.server.seen("/naip/", "GET")}
    assert {f"va_{n}" for n in fetched} == {Path(first.files[n]).name for n in (2, 4)}


def test_a_dry_run_writes_nothing(world: World, tmp_path: Path) -> None:
    result = get(world, tmp_path / "out", dry_run=True)
    assert result.plan.to_dict()["bytes"] == sum(
        f.stat().st_size for n, f in world.images.items() if "_2011" in n
    )
    assert not (tmp_path / "out").exists() and world.server.seen("/naip/", "GET") == []


def test_only_the_images_that_the_place_needs(world: World, tmp_path: Path) -> None:
    left, _, right, top = world.bounds
    middle = (left + right) / 2
    corner = box(left + 50, top - 350, left + 350, top - 50)  # inside the north-western image
    across = box(middle - 30, top - 300, middle + 30, top - 100)  # where two images overlap
    for ground, count in ((corner, 1), (across, 1)):
        outline = shape(transform_geom("EPSG:26917", "EPSG:4326", mapping(ground), precision=9))
        plan = get(world, tmp_path, place=Place("part", outline, "test"), dry_run=True).plan
        assert len(plan.images) == count and plan.years[0].missing_km2 == 0


def test_a_second_delivery_of_the_same_ground_is_not_fetched(world: World, tmp_path: Path) -> None:
    twin = copy.deepcopy(world.server.items[0])
    twin["id"] = twin["id"].replace("va_", "nc_")
    twin["properties"]["naip:state"] = "nc"
    world.server.items.append(twin)
    result = get(world, tmp_path, dry_run=True)
    assert result.plan.years[0].found == 7
    assert sorted(i.item.state for i in result.plan.images) == ["va"] * 6


def test_what_is_missing_is_said_before_anything_is_fetched(world: World, tmp_path: Path) -> None:
    gone, no_image = world.server.items[0], world.server.items[4]
    world.server.items = [i for i in world.server.items if i is not gone]
    del no_image["assets"]["image"]
    said: list[tuple[str, int]] = []
    result = get(
        world, tmp_path,
        on_plan=lambda p: said.append((p.text(), len(world.server.seen("/naip/", "GET")))),
    )  # fmt: skip
    text, fetched_before = said[0]
    assert fetched_before == 0 and "MISSING" in text
    assert f"left out {no_image['id']}: it has no asset 'image'" in text
    # what is missing, worked out in the imagery's own projection
    a = county(world)
    ground = shape(transform_geom("EPSG:4326", "EPSG:26917", mapping(a.outline)))
    others = [i for i in world.server.items if i is not no_image and "_2011" in i["id"]]
    for i in others:
        ground -= shape(transform_geom("EPSG:4326", "EPSG:26917", i["geometry"]))
    assert result.plan.years[0].missing_km2 == pytest.approx(ground.area / 1e6, rel=1e-3)
    assert len(result.files) == 4
    summary = json.loads((tmp_path / "fetch.json").read_text())["naip"]["years"]["2011"]
    assert summary["skipped"] == [[no_image["id"], "it has no asset 'image'"]]
    assert 0.4 < summary["covered_share"] < 0.9


def test_every_fault_at_once(world: World, tmp_path: Path) -> None:
    server = world.server
    paths = sorted(p for p in server.files if p.startswith("/naip/") and "/2011/" in p)
    server.faults["/api/stac/v1/search"] = [Fault(503)]
    server.faults["/api/sas/v1/token/naip"] = [Fault(429, {"Retry-After": "0"})]
    # the first answer of each path is to HEAD, the others to GET
    server.faults[paths[0]] = [Fault(), Fault(429, {"Retry-After": "0"})]
    server.faults[paths[1]] = [Fault(500), Fault(), Fault(500), Fault(502)]
    server.faults[paths[2]] = [Fault(), Fault(cut=70_000), Fault(cut=100_000), Fault(cut=0)]
    server.faults[paths[3]] = [Fault(), Fault(close_at_once=True)]
    result = get(world, tmp_path)
    check_whole(world, result)
    got = {p: sum(r.sent for r in server.seen(p, "GET") if r.status < 400) for p in paths}
    assert got == {p: server.files[p].stat().st_size for p in paths}, "no byte came twice"
    assert not any(server.faults.values()), "every fault happened"


def test_signatures_that_expire_in_mid_run_are_renewed(world: World, tmp_path: Path) -> None:
    server = world.server
    server.bytes_per_s = 1_500_000
    whole = server.token

    def short() -> dict[str, str]:
        token = whole()
        for sig in server.tokens:  # all that were given out hold half a second more
            server.tokens[sig] = min(server.tokens[sig], time.time() + 0.5)
        return token

    server.token = short  # type: ignore[method-assign]
    try:
        result = get(world, tmp_path, workers=2)
    finally:
        server.token = whole  # type: ignore[method-assign]
    check_whole(world, result)
    assert len(server.seen("/api/sas")) > 1 and server.refused_tokens > 0


def test_a_file_that_is_damaged_at_its_source(world: World, tmp_path: Path) -> None:
    server = world.server
    path = next(p for p in server.files if p.startswith("/naip/") and "/2011/" in p)
    broken = bytearray(server.files[path].read_bytes())
    broken[len(broken) // 2 :] = bytes(
        len(broken) - len(broken) // 2
    )  # all there, half of it blank
    bad = tmp_path / "bad.tif"
    bad.write_bytes(bytes(broken))
    server.files[path] = bad
    with pytest.raises(FetchError, match=r"1 of 6 files .*damaged twice.*the others are whole"):
        get(world, tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out" / "2011").iterdir())
    assert len([n for n in names if n.endswith(".tif")]) == 5
    assert not any(n.endswith(".part") for n in names)
    assert len(json.loads((tmp_path / "out" / "fetch.json").read_text())["files"]) == 5


def test_an_image_that_is_not_where_the_catalogue_says(world: World, tmp_path: Path) -> None:
    path = next(p for p in world.server.files if p.startswith("/naip/") and "/2011/" in p)
    del world.server.files[path]
    with pytest.raises(FetchError, match="the catalogue is out of date"):
        get(world, tmp_path)


def test_a_year_without_imagery_names_those_with_some(world: World, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"no imagery of 2016 .*: 2011, 2014"):
        get(world, tmp_path, (2011, 2016))
    assert world.server.seen("/naip/") == []
    for years in ((), (1998,)):
        with pytest.raises(InputError):
            get(world, tmp_path, years)


def test_late_flights_belong_to_the_programmes_year(world: World, tmp_path: Path) -> None:
    late = world.server.items[0]
    late["properties"]["datetime"] = "2012-01-20T16:00:00Z"  # naip:year stays 2011
    result = get(world, tmp_path, dry_run=True)
    assert len(result.plan.images) == 6
    assert result.plan.years[0].dates == ("2011-07-14", "2012-01-20")


def test_a_folder_holds_one_place(world: World, tmp_path: Path) -> None:
    get(world, tmp_path)
    with pytest.raises(InputError, match="holds rasters of Middlesex County, Virginia, not of"):
        get(world, tmp_path, place=Place("elsewhere", box(-78, 37, -77.9, 37.1), "test"))
    added = get(world, tmp_path, (2014,))
    assert added.written == 6
    assert set(json.loads((tmp_path / "fetch.json").read_text())["naip"]["years"]) == {
        "2011", "2014"
    }  # fmt: skip


def test_one_fetch_at_a_time_into_a_folder(world: World, tmp_path: Path) -> None:
    from quadrat import storage

    with storage.lock(str(tmp_path)), pytest.raises(LockedError):
        get(world, tmp_path)


def test_fetching_to_object_storage(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    from quadrat import storage

    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    out = "memory://bucket/naip"
    result = get(world, out)
    for uri in result.files:
        item = storage.read_json(uri + ".quadrat.json")["item"]
        assert storage.read_bytes(uri) == world.images[item].read_bytes()
    assert read_record(result.files[0])["item"] in result.files[0]
    world.server.clear()
    assert get(world, out).written == 0 and world.server.seen("/naip/") == []
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_nothing_secret_is_in_any_file(world: World, tmp_path: Path) -> None:
    world.server.faults[next(p for p in world.server.files if "/2011/" in p)] = [
        Fault(),
        Fault(500),
    ]
    result = get(world, tmp_path)
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".tif"]
    assert len(written) >= 8 and world.server.tokens
    texts = [p.read_text() for p in written] + [json.dumps(result.to_dict())]
    for text in texts:
        assert "sig=" not in text and not any(sig in text for sig in world.server.tokens)


def test_a_service_that_is_no_stac_api(world: World, tmp_path: Path) -> None:
    with http.Client(QUICK) as client:
        for stac, words in (
            (world.server.url + "/nothing", "answered 404|does not exist"),
            (world.server.boundaries.format(year=2023, kind="county"), "not JSON"),
            (world.server.sas + "/naip", "does not answer as a STAC API"),
        ):
            with pytest.raises(FetchError, match=words):
                fetch_naip(county(world), [2011], str(tmp_path), stac=stac, client=client)
        with pytest.raises(FetchError, match=r"'landsat' .*does not exist; check --stac"):
            fetch_naip(
                county(world), [2011], str(tmp_path), stac=world.server.stac,
                collection="landsat", client=client,
            )  # fmt: skip
        world.server.conforms = False
        with pytest.raises(FetchError, match="STAC API"):
            fetch_naip(county(world), [2011], str(tmp_path), stac=world.server.stac, client=client)


def test_an_open_catalogue_needs_no_signatures(world: World, tmp_path: Path) -> None:
    for i in world.server.items:
        href = i["assets"]["image"]["href"]
        path = href.removeprefix(world.server.url)
        world.server.files["/cog" + path] = world.server.files[path]
        i["assets"]["image"]["href"] = f"{world.server.url}/cog{path}"
    with http.Client(QUICK) as client:
        result = fetch_naip(
            county(world), [2011], str(tmp_path), stac=world.server.stac, client=client
        )  # fmt: skip
    check_whole(world, result)
    assert world.server.seen("/api/sas") == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda i: i["assets"].clear(), "no asset 'image'"),
        (lambda i: i["assets"]["image"].update(href="s3://naip/a.tif"), "s3://, which is not http"),
        (lambda i: i["properties"].pop("datetime"), "no date"),
        (lambda i: i.update(geometry=None), "no footprint"),
        (lambda i: i.update(geometry={"type": "Point", "coordinates": [0, 0]}), "no footprint"),
    ],
)
def test_items_that_cannot_be_used(world: World, change: Any, reason: str) -> None:
    item = copy.deepcopy(world.server.items[0])
    change(item)
    with pytest.raises(ValueError, match=reason):
        read_item(item)


def test_items_of_the_newer_projection_extension(world: World) -> None:
    item = copy.deepcopy(world.server.items[0])
    item["properties"]["proj:code"] = f"EPSG:{item['properties'].pop('proj:epsg')}"
    item["assets"]["image"]["file:size"] = 123
    item["assets"]["image"]["href"] += "?st=2020&sig=abc"  # a catalogue that signs itself
    found = read_item(item)
    assert (found.crs, found.size) == ("EPSG:26917", 123) and "?" not in found.href


def test_dates_and_licence_reach_the_tile_set(world: World, tmp_path: Path) -> None:
    from quadrat.tiles import index, open_tiles, tile

    get(world, tmp_path / "naip", (2014,))
    tiles = tile(
        [str(tmp_path / "naip" / "2014")], str(tmp_path / "tiles"), split=None,
        within=str(tmp_path / "naip" / "outline.geojson"),
    )  # fmt: skip
    table = index(open_tiles(tiles.uri))
    assert set(table["date"].to_pylist()) == {DAYS[2014]}
    records = [i["fetched"] for i in tiles.info["provenance"]["imagery"]]
    assert len(records) == 6
    assert {r["licence"].split(" (")[0] for r in records} == {"Public Domain"}
    assert all(r["item"].startswith("va_m_") for r in records)
    # the outline limits the tiles: those whose centre is outside the county are not cut
    grid = tiles.grid
    ground = shape(transform_geom("EPSG:4326", grid.crs, world.outline))
    x, y = grid.centres(np.array(table["row"]), np.array(table["col"]))
    inside = [ground.contains(box(a - 1, b - 1, a + 1, b + 1)) for a, b in zip(x, y, strict=True)]
    assert inside and all(inside)


def test_the_command_line(world: World, tmp_path: Path, capsys: Any) -> None:
    from quadrat.cli import run

    line = ["fetch", "naip", "--county", "Middlesex, VA", "--years", "2011", "2014",
            "--out", str(tmp_path / "naip"), *world.addresses]  # fmt: skip
    assert run([*line, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "to fetch: 12 files" in shown.err and "nothing written" in shown.out
    assert run([*line, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["written"] == 12 and result["plan"]["years"]["2014"]["images"] == 6
    assert run(["fetch", "naip", "--county", "Middlesex", "--year", "2011", "--out", "x",
                *world.addresses]) == 1  # fmt: skip
    assert "Middlesex County, MA; Middlesex County, NJ" in capsys.readouterr().err
    assert run(["fetch", "naip", "--county", "Middlesex, VA", "--out", "x"]) == 2


def test_the_bytes_are_read_before_a_file_has_its_name(world: World, tmp_path: Path) -> None:
    """A file of the right length and sum that no raster library reads is refused."""
    server = world.server
    path = next(p for p in server.files if p.startswith("/naip/") and "/2011/" in p)
    junk = tmp_path / "junk.tif"
    junk.write_bytes(hashlib.sha256(b"x").digest() * 40_000)
    server.files[path] = junk
    with pytest.raises(FetchError, match="damaged twice"):
        get(world, tmp_path / "out")
    for uri in (tmp_path / "out" / "2011").glob("*.tif"):
        with rasterio.open(uri) as data:
            assert data.count == 4
