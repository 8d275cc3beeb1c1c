"""The static STAC catalogue: valid by pystac's validators and its own schemas, true of the files.

Schemas of STAC 1.1 come with pystac. Those of extensions do not; what they require is asserted
here, and pystac's classes for the extensions read it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pystac
import pytest
import rasterio
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.scientific import ScientificExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.warp import transform_bounds

import quadrat as qd
from made_scores import GRID
from quadrat import storage
from quadrat.catalogues import fields
from quadrat.errors import InputError
from quadrat.legend import load_legend
from test_maps_programs import write_change

NLCD8 = load_legend("nlcd8")


@pytest.fixture(scope="module")
def products(
    county_model: str, county_tiles: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("products")
    scored = qd.score(county_model, county_tiles.uri, str(folder / "scores"))
    drawn = qd.map(scored.uri, str(folder / "map.tif"), shares=str(folder / "shares.tif"))
    table = qd.open_scores(scored.uri).table(["row", "col"])
    rows, cols = (table[c].to_numpy() for c in ("row", "col"))
    (folder / "change").mkdir()
    change = write_change(folder / "change", rows, cols, rows * 0 + 3)
    told = json.loads((folder / "change" / "change.json").read_text())
    told |= {"tiles": len(rows), "candidates": 1, "grid": GRID.to_dict()}
    (folder / "change" / "change.json").write_text(json.dumps(told))
    return {
        "tiles": county_tiles.uri, "scores": scored.uri, "map": drawn.uri,
        "shares": str(drawn.shares), "change": change, "model": county_model,
    }  # fmt: skip


@pytest.fixture(scope="module")
def catalogue(products: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("stac") / "stac")
    done = qd.stac(
        [*products.values()], out, licence="CC-BY-4.0", doi="10.5281/zenodo.1", citation="A county."
    )
    return done.uri


def test_it_is_valid_stac_of_relative_links(catalogue: str, products: dict[str, str]) -> None:
    validator = JsonSchemaSTACValidator()
    folder = Path(catalogue).parent
    kinds = pystac.STACObjectType.COLLECTION, pystac.STACObjectType.ITEM
    for path in folder.rglob("*.json"):
        value = json.loads(path.read_text())
        kind = kinds[0] if path.name == "collection.json" else kinds[1]
        validator.validate_core(value, kind, "1.1.0")
        for link in value["links"]:
            if link["rel"] != "cite-as":
                assert (path.parent / link["href"]).resolve().is_file(), link
    collection = pystac.Collection.from_file(catalogue)
    items = {i.id: i for i in collection.get_items()}
    assert set(items) == set(products)
    assert collection.license == "CC-BY-4.0" and len(list(folder.glob("items/*"))) == 6


def test_assets_are_the_files_and_their_checksums_hold(catalogue: str) -> None:
    checked = 0
    for item in pystac.Collection.from_file(catalogue).get_items():
        for asset in item.assets.values():
            assert not asset.href.startswith("/")
            path = Path(str(asset.get_absolute_href()))
            assert path.is_file()
            said = FileExtension.ext(asset).checksum
            if said is not None:
                assert said == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
                checked += 1
    assert checked >= 5


def test_items_lie_on_their_ground_and_date(catalogue: str, products: dict[str, str]) -> None:
    items = {i.id: i for i in pystac.Collection.from_file(catalogue).get_items()}
    with rasterio.open(products["map"]) as data:
        west, south, east, north = transform_bounds(data.crs, "EPSG:4326", *data.bounds)
        bounds, shape = list(data.bounds), list(data.shape)
        affine = list(data.transform)
    item = items["map"]
    assert item.bbox == pytest.approx([west, south, east, north], abs=1e-6)
    assert ProjectionExtension.ext(item).epsg == 26917
    assert ProjectionExtension.ext(item).bbox == bounds
    asset = ProjectionExtension.ext(item.assets["map"])
    assert asset.shape == shape and asset.transform == affine
    assert items["scores"].bbox == pytest.approx(item.bbox)
    assert {str(items[n].datetime)[:10] for n in ("tiles", "scores", "map")} == {"2011-07-15"}
    assert items["change"].datetime is None
    assert items["change"].properties["start_datetime"].startswith("2011-01-01")
    assert "synthetic" in items["map"].properties["description"]
    assert ScientificExtension.ext(item).doi == "10.5281/zenodo.1"


def test_a_map_names_its_classes(catalogue: str) -> None:
    items = {i.id: i for i in pystac.Collection.from_file(catalogue).get_items()}
    asset = items["map"].assets["map"]
    listed = ClassificationExtension.ext(asset).classes
    assert [c.value for c in listed] == list(range(8))
    assert [c.description for c in listed] == list(NLCD8.names)
    assert [c.color_hint for c in listed] == [c.color[1:].upper() for c in NLCD8.classes]
    assert {b["name"] for b in items["shares"].assets["map"].extra_fields["bands"]} == set(
        NLCD8.names
    )
    assert items["map"].assets["style"].href.endswith("map.qml")


def test_a_model_says_what_goes_in_and_out(catalogue: str) -> None:
    items = {i.id: i for i in pystac.Collection.from_file(catalogue).get_items()}
    about = items["model"].properties
    assert items["model"].geometry is None
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", about["mlm:name"])
    assert about["mlm:framework"] == "ONNX" and about["mlm:tasks"] == ["scene-classification"]
    (chips,) = about["mlm:input"]
    assert chips["input"] == {
        "shape": [-1, 224, 224, 3], "dim_order": ["batch", "height", "width", "bands"],
        "data_type": "uint8",
    }  # fmt: skip
    assert [b["name"] for b in about["bands"]] == chips["bands"] == ["red", "green", "blue"]
    shapes = {o["name"]: o["result"]["shape"] for o in about["mlm:output"]}
    assert shapes == {"probabilities": [-1, 8], "shares": [-1, 8], "distance": [-1, 1]}
    models = [a for a in items["model"].assets.values() if "mlm:model" in (a.roles or ())]
    assert models and all(a.extra_fields["mlm:artifact_type"] == "onnx" for a in models)


def test_names_of_classes_are_identifiers_as_the_extension_wants() -> None:
    listed = fields.classes(dict(enumerate(load_legend("nlcd6").classes)))
    for c in listed:
        assert re.fullmatch(r"[0-9A-Za-z_-]+", c["name"])
        assert re.fullmatch(r"[0-9A-F]{6}", c["color_hint"])


def test_what_cannot_be_listed_is_said(products: dict[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "stac")
    with pytest.raises(InputError, match="is no product that a catalogue lists"):
        qd.stac([str(tmp_path)], out)
    with pytest.raises(InputError, match="named twice"):
        qd.stac([products["map"], products["map"]], out)
    with pytest.raises(InputError, match="no product to list"):
        qd.stac([], out)
    shutil.copytree(products["scores"], tmp_path / "undated")
    manifest = tmp_path / "undated" / "scores.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**told, "dates": []}))
    undated = str(tmp_path / "undated")
    with pytest.raises(InputError, match="does not know its date; give --date"):
        qd.stac([undated], out)
    assert qd.stac([undated], out, date="2011").items
    with pytest.raises(InputError, match="--overwrite"):
        qd.stac([undated], out, date="2012")
    assert qd.stac([undated], out, date="2012", overwrite=True).items


def test_addresses_are_whole_where_there_is_no_way_from_one_to_the_other(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert fields.href(storage.join(here, "a", "b.tif"), storage.join(here, "stac")) == "../a/b.tif"
    assert fields.href("s3://bucket/a/b.tif", here) == "s3://bucket/a/b.tif"
