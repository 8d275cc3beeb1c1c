"""Whole jobs with everything on object storage: cut, score, stop, go on; on both engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import services
import small_tiles
from quadrat import storage, tiles
from quadrat.engines import get_engine
from quadrat.scores import open_scores
from quadrat.scoring import score
from test_storage_remote import KINDS, SECRETS, forget_sessions

PARTS = 6


class Stopping:
    """The local engine, which is stopped after some parts as by Ctrl-C."""

    name, slots = "local", 1

    def __init__(self, after: int) -> None:
        self.after = after

    def run(self, task: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
        for n, part in enumerate(parts):
            if n == self.after:
                raise KeyboardInterrupt
            yield task(part)


@pytest.fixture(scope="module", params=list(KINDS))
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    library, start = KINDS[request.param]
    filesystem = pytest.importorskip(library, reason=f"{request.param}:// needs {library}")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "bucket").mkdir()
    with start(folder) as environ, pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        forget_sessions()
        if request.param == "az":
            filesystem.AzureBlobFileSystem().mkdir("bucket")
        yield f"{request.param}://bucket/job"
        forget_sessions()


@pytest.fixture(scope="module")
def work(root: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tile set and a model there, and the scores that this machine's disk gives."""
    folder = tmp_path_factory.mktemp("local")
    raster = small_tiles.write_raster(folder / "r.tif", 16 * 3, 16 * 2)
    options: dict[str, Any] = {"tile_m": 8.0, "split": None}
    here = tiles.tile([raster], str(folder / "tiles"), **options)
    there = tiles.tile([raster], f"{root}/tiles", **options)
    assert len(there.parts()) == PARTS
    assert there.digest == here.digest
    model = small_tiles.save_model(f"{root}/model")
    score(small_tiles.save_model(str(folder / "model")), here.uri, str(folder / "scores"))
    return {"tiles": there.uri, "model": model, "expected": table(str(folder / "scores"))}


def table(uri: str) -> Any:
    return open_scores(uri).table().sort_by([("row", "ascending"), ("col", "ascending")])


def test_a_stopped_job_goes_on_where_it_was(root: str, work: dict[str, Any]) -> None:
    out = f"{root}/scores"
    with pytest.raises(KeyboardInterrupt):
        score(work["model"], work["tiles"], out, engine=Stopping(2))
    folder = storage.join(out, "parts")
    done = storage.list_names(folder)
    assert len(done) == 2
    stamps = {n: storage.fingerprint(storage.join(folder, n)) for n in done}
    summary = score(work["model"], work["tiles"], out, engine=get_engine("local", workers=2))
    assert summary.tiles == len(work["expected"])
    assert table(out).equals(work["expected"])
    assert {n: storage.fingerprint(storage.join(folder, n)) for n in done} == stamps


@pytest.mark.long
def test_spark_scores_from_and_to_object_storage(
    root: str, work: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")
    # a process of its own: Spark's Java, and so its workers, keep the variables of their start
    out = f"{root}/scores of Spark"
    job = {"model": work["model"], "source": work["tiles"], "out": out, "attempts": str(tmp_path)}
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("cluster_job.py")),
            json.dumps({**job, "master": "local[2]"}),
        ],
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["tiles"] == PARTS * 256
    assert table(out).equals(work["expected"])
    assert not any(secret in done.stderr for secret in SECRETS)


def test_no_credential_is_written_anywhere(root: str, work: dict[str, Any], tmp_path: Path) -> None:
    out = f"{root}/looked at"
    score(work["model"], work["tiles"], out)
    found = b""
    for place in (out, work["tiles"], work["model"]):
        for name in storage.list_names(place):
            if name.endswith((".json", ".lock")):
                found += storage.read_bytes(storage.join(place, name))
        for name in storage.list_names(storage.join(place, "parts")):
            found += storage.read_bytes(storage.join(place, "parts", name))
    assert len(found) > 10_000
    for secret in (*SECRETS, services.S3_ID, os.environ.get("AWS_ENDPOINT_URL", "no endpoint")):
        assert secret.encode() not in found
