"""Many tiles of 8 x 8 pixels and a model for them, for tests of jobs rather than of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from quadrat import backbones, graphs, legend, model
from quadrat.grid import Grid
from quadrat.heads import export_logistic

SIZE = 8
GRID = Grid("EPSG:26917", tile_m=float(SIZE), pixel_m=1.0)
NAMES = ("reddish", "greenish", "bluish")


def write_raster(path: Path, across: int, down: int) -> str:
    """An RGB GeoTIFF of `down` x `across` tiles, whose colours drift and are noisy."""
    rng = np.random.default_rng(5)
    left, top = 560000 // SIDE * SIDE, 4105000 // SIDE * SIDE
    with rasterio.open(
        path, "w", driver="GTiff", count=3, dtype="uint8", width=across * SIZE, height=down * SIZE,
        crs=GRID.crs, transform=Affine(1, 0, left, 0, -1, top), tiled=True, compress="deflate",
        blockxsize=256, blockysize=256,
    ) as out:  # fmt: skip
        x = np.arange(across * SIZE)
        for start in range(0, down * SIZE, 256):
            height = min(256, down * SIZE - start)
            y = np.arange(start, start + height)[:, None]
            tiles = rng.integers(0, 120, (3, -(-height // SIZE), across))
            noise = tiles.repeat(SIZE, 1)[:, :height].repeat(SIZE, 2)
            ramp = np.stack([x / 9 + y * 0, y / 7 + x * 0, (x + y) / 17]) % 130
            window = rasterio.windows.Window(0, start, across * SIZE, height)
            out.write((ramp + noise).astype(np.uint8), window=window)
    return str(path)


SIDE = SIZE * 32  # metres along a part: a raster that starts on one makes whole parts


def save_model(uri: str) -> str:
    """A bundle that calls a tile by its strongest colour."""
    graph = backbones.feature_graph("mean_colour", size_px=SIZE)
    weights = np.zeros((3, graph.dim))
    weights[range(3), range(3)] = 9.0
    head = export_logistic(weights, np.zeros(3), np.zeros(graph.dim), np.ones(graph.dim))
    info = model.ModelInfo(legend.from_names(NAMES), SIZE, grid=GRID)
    return model.save_model(uri, graphs.join_graphs(graph.onnx, head, size_px=SIZE), info).uri
