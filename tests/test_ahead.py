"""Reading ahead changes when tiles are read, not which, nor in what order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from conftest import Writer, scene
from quadrat import tiles
from quadrat.errors import RasterError
from quadrat.tiles import ahead, read_ahead


@pytest.fixture
def source(write_raster: Writer) -> tiles.RasterSource:
    pixels = scene(7 * 224, 19 * 224)
    return tiles.open_rasters([write_raster("a.tif", pixels, tiled=True)])


def alike(a: list[tiles.Batch], b: list[tiles.Batch]) -> bool:
    return len(a) == len(b) and all(
        x.index.equals(y.index) and np.array_equal(x.chips, y.chips)
        and (x.skipped, x.dropped) == (y.skipped, y.dropped)
        for x, y in zip(a, b, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 4, 32, 1000])
def test_batches_are_those_of_reading_in_place(source: tiles.RasterSource, size: int) -> None:
    for part in source.parts():
        here = list(tiles.read_part(part, size))
        assert [len(b.chips) for b in here[:-1]] == [size] * (len(here) - 1)
        assert alike(list(read_ahead(part, size)), here)


def test_many_parts_at_once_keep_apart(source: tiles.RasterSource) -> None:
    parts = source.parts()
    want = {p.name: list(tiles.read_part(p, 8)) for p in parts}
    wrong: list[str] = []

    def work(n: int) -> None:
        part = parts[n % len(parts)]
        if not alike(list(read_ahead(part, 8)), want[part.name]):
            wrong.append(part.name)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


class Counted:
    """A part whose reading is watched."""

    name, count = "part-00000", 50


def reading(monkeypatch: pytest.MonkeyPatch, fails_at: int = 10**6) -> list[int]:
    seen: list[int] = []

    def read(part: Counted, size: int) -> Iterator[int]:
        for i in range(part.count):
            if i == fails_at:
                raise RasterError("a.tif cannot be read; fetch it again")
            seen.append(i)
            yield i

    monkeypatch.setattr(ahead, "read_part", read)
    return seen


def test_it_reads_a_little_ahead_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = reading(monkeypatch)
    batches = read_ahead(Counted(), 1, 2)  # type: ignore[arg-type]
    next(batches)
    limit = time.monotonic() + 5
    while len(seen) < 4 and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(seen) == 4  # one taken, two that wait, one that waits to wait
    batches.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    assert len(seen) == 4


def test_an_error_comes_where_the_batch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reading(monkeypatch, fails_at=3)
    batches = read_ahead(Counted(), 1)  # type: ignore[arg-type]
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RasterError, match=r"^a\.tif cannot be read; fetch it again$"):
        next(batches)


def test_threads_and_their_open_files_are_used_again(source: tiles.RasterSource) -> None:
    for _ in range(6):
        for part in source.parts():
            list(read_ahead(part, 32))
    readers = [t for t in threading.enumerate() if t.name.startswith("quadrat-read")]
    assert len(readers) <= 8 + 1  # as many as were ever at work at once in this process


def test_batches_are_of_about_the_same_bytes() -> None:
    assert tiles.batch_tiles(224) == 32
    for size in (1, 8, 32, 100, 224, 256, 512, 4096):
        assert tiles.batch_tiles(size) % 4 == 0
        assert 4 <= tiles.batch_tiles(size) <= 1024
