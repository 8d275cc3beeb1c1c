"""Whole jobs on both engines: the same results, in files that Spark users can open."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quadrat import storage, tiles
from quadrat.engines import get_engine
from quadrat.engines.spark import SparkEngine
from quadrat.errors import ModelError
from quadrat.scores import open_scores
from quadrat.scoring import score

pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")


@pytest.fixture(scope="module")
def engine() -> Iterator[SparkEngine]:
    made = SparkEngine("local[2]", conf={"spark.driver.memory": "512m"})
    yield made
    made.close()


@pytest.fixture(scope="module")
def pictures(county_tiles: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The county as a folder of PNG files, a subfolder a class."""
    out = str(tmp_path_factory.mktemp("pictures") / "pictures")
    tiles.unpack(county_tiles.uri, out)
    return out


def sorted_table(uri: str) -> Any:
    table = open_scores(uri).table()
    return table.sort_by([("row", "ascending"), ("col", "ascending"), ("path", "ascending")])


@pytest.mark.parametrize("kind", ["tile set", "pictures", "rasters"])
def test_scores_are_the_same_on_both_engines(
    kind: str,
    engine: SparkEngine,
    county: Any,
    county_tiles: Any,
    pictures: str,
    county_model: str,
    tmp_path: Path,
) -> None:
    source = {"tile set": county_tiles.uri, "pictures": pictures, "rasters": [county.imagery[1]]}
    results = {}
    for name, chosen in (("local", get_engine("local", workers=2)), ("spark", engine)):
        out = str(tmp_path / name)
        results[name] = score(county_model, source[kind], out, engine=chosen)
    assert results["spark"].tiles == results["local"].tiles > 200
    assert results["spark"].counts == results["local"].counts
    local, spark = sorted_table(str(tmp_path / "local")), sorted_table(str(tmp_path / "spark"))
    assert spark.equals(local)


def test_cutting_gives_the_same_tile_set_on_both_engines(
    engine: SparkEngine, county: Any, tmp_path: Path
) -> None:
    made = {
        name: tiles.tile(
            [county.imagery[0]], str(tmp_path / name), labels=county.labels[0], engine=chosen
        )
        for name, chosen in (("local", get_engine("local", workers=1)), ("spark", engine))
    }
    assert made["spark"].digest == made["local"].digest
    assert made["spark"].info["counts"] == made["local"].info["counts"]


def test_features_are_the_same_on_both_engines(
    engine: SparkEngine, county_tiles: Any, tmp_path: Path
) -> None:
    from quadrat import backbones
    from quadrat.features import featurize_parts

    graph = backbones.feature_graph("mean_colour", size_px=county_tiles.size_px)
    digests = {}
    for name, chosen in (("local", get_engine("local", workers=1)), ("spark", engine)):
        made = featurize_parts(county_tiles, graph, engine=chosen, cache=str(tmp_path / name))
        digests[name] = [storage.digest_file(storage.join(made.uri, n)) for n in made.names]
    assert digests["spark"] == digests["local"]


def test_scores_open_in_spark_as_they_are(
    engine: SparkEngine, county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "scores")
    summary = score(county_model, county_tiles.uri, out, engine=engine)
    frame = engine.spark.read.parquet(f"{out}/parts")
    frame.createOrReplaceTempView("scores")
    rows = engine.spark.sql("select label, count(*) n, avg(p_Forest) p from scores group by label")
    counts = {r.label: r.n for r in rows.collect()}
    assert counts == {k: v for k, v in summary.counts.items() if v}


def test_a_udf_gives_what_scoring_gives(
    engine: SparkEngine, county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    from quadrat.spark import predict_udf

    out = str(tmp_path / "scores")
    score(county_model, county_tiles.uri, out)
    expected = {(r["row"], r["col"]): r for r in open_scores(out).table().to_pylist()}
    label = predict_udf(county_model, encoding=county_tiles.encoding)
    rows = [
        predict_udf(county_model, kind, encoding=county_tiles.encoding)("image").alias(kind)
        for kind in ("probabilities", "shares")
    ]
    frame = engine.spark.read.parquet(storage.join(county_tiles.uri, "parts"))
    found = frame.select("row", "col", label("image").alias("a"), *rows).collect()
    assert len(found) == len(expected)
    names = open_scores(out).legend.names
    for row in found:
        truth = expected[row["row"], row["col"]]
        assert row.a == truth["label"]
        for values, kind in ((row.probabilities, "p"), (row.shares, "share")):
            assert np.allclose(values, [truth[f"{kind}_{n}"] for n in names], atol=1e-6)


def test_a_udf_works_on_picture_files_and_in_sql(
    engine: SparkEngine, pictures: str, county_model: str, tmp_path: Path
) -> None:
    from quadrat.spark import predict_udf

    out = str(tmp_path / "scores")
    score(county_model, pictures, out)
    expected = {r["path"]: r["label"] for r in open_scores(out).table().to_pylist()}
    engine.spark.udf.register("land_use", predict_udf(county_model))
    frame = engine.spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    frame.load(pictures).createOrReplaceTempView("pictures")
    found = engine.spark.sql("select path, land_use(content) as label from pictures").collect()
    got = {"/".join(r.path.split("/")[-2:]): r.label for r in found}
    assert got == expected


def test_a_udf_gives_null_for_what_is_no_picture(
    engine: SparkEngine, county_model: str, tmp_path: Path
) -> None:
    from quadrat.spark import predict_udf

    Image.new("RGB", (40, 30), (20, 120, 30)).save(tmp_path / "a.png")
    data = [(0, (tmp_path / "a.png").read_bytes()), (1, b"no picture"), (2, None)]
    frame = engine.spark.createDataFrame(data, "id int, content binary")
    found = frame.select("id", predict_udf(county_model)("content").alias("label")).collect()
    by_id = {r.id: r.label for r in found}
    assert by_id[0] is not None
    assert by_id[1] is None
    assert by_id[2] is None


def test_a_udf_says_at_once_what_is_wrong(engine: SparkEngine, county_model: str) -> None:
    from quadrat.spark import predict_udf

    with pytest.raises(ModelError, match="no result 'colour'"):
        predict_udf(county_model, "colour")
    with pytest.raises(ModelError, match="nowhere"):
        predict_udf("/nowhere/model")


def test_the_package_that_went_to_workers_is_removed_at_the_end() -> None:
    code = (
        "from pathlib import Path\n"
        "from quadrat.engines.spark_ship import package_zip\n"
        "made = Path(package_zip())\n"
        "assert made.stat().st_size > 100_000\n"
        "print(made.parent)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).exists()
