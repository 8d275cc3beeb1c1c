"""What several test files share: real imagery where it is, a small synthetic county, a scene."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two-thread BLAS on a busy machine is far slower

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real imagery; the test is skipped where it is absent."""
    folder = Path(os.environ.get("QUADRAT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real imagery is not at {folder}; set QUADRAT_TEST_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def run_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One cache for the whole run, also for what a module sets up: it keeps the choice of runtime,
    which is measured, and runtimes differ in the last bits."""
    place = str(tmp_path_factory.getbasetemp() / "quadrat-test-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUADRAT_CACHE", place)
        yield place


@pytest.fixture(autouse=True)
def _own_cache(run_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests keep to themselves: the run's cache, none of the user's settings."""
    monkeypatch.setenv("QUADRAT_CACHE", run_cache)
    for name in ("QUADRAT_CONFIG", "QUADRAT_TRACKING_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


Writer = Callable[..., str]


@pytest.fixture
def write_raster(tmp_path: Path) -> Writer:
    """Write an array (B, H, W) with rasterio itself; gives the path."""

    def write(
        name: str,
        array: np.ndarray,
        *,
        crs: str | None = "EPSG:26917",
        left: float = 560000.0,
        top: float = 4105024.0,
        pixel: float = 1.0,
        transform: Affine | None = None,
        **options: Any,
    ) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path, "w", driver="GTiff", count=array.shape[0], height=array.shape[1],
            width=array.shape[2], dtype=array.dtype, crs=crs,
            transform=transform or Affine(pixel, 0, left, 0, -pixel, top), **options,
        ) as data:  # fmt: skip
            data.write(array)
        return str(path)

    return write


def scene(height: int, width: int, row: int = 0, col: int = 0) -> np.ndarray:
    """An asymmetric RGB scene (3, H, W): red counts rows, green columns, blue both unequally."""
    r, c = np.mgrid[row : row + height, col : col + width]
    return np.stack([r % 251, c % 241, (3 * r + 7 * c) % 239]).astype(np.uint8)


@pytest.fixture(scope="session")
def county(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A synthetic county of two dates, a few hundred tiles."""
    from quadrat.county import make_county

    yield make_county(str(tmp_path_factory.mktemp("county")), tiles=320, seed=3, workers=1)


@pytest.fixture(scope="session")
def county_tiles(county: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Its first date as a labelled tile set, split by block."""
    from quadrat.tiles import tile

    out = str(tmp_path_factory.mktemp("sets") / "tiles")
    return tile([county.imagery[0]], out, labels=county.labels[0], block=3, validation=0.3)


@pytest.fixture(scope="session")
def county_model(county_tiles: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A logistic head on the weightless backbone `mean_colour`, trained on it; gives the URI."""
    from quadrat.heads import train

    folder = tmp_path_factory.mktemp("model")
    out = str(folder / "model")
    train(county_tiles.uri, out, backbone="mean_colour", cache=str(folder / "cache"))
    return out
