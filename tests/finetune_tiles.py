"""Small labelled pictures for the tests of fine-tuning: three kinds of ground, told by colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = {"brick": (150, 90, 80), "grass": (90, 140, 80), "water": (70, 90, 150)}


def chips(n: int, side: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, side, side, 3) uint8 and their class ids: a colour, a slope of light, noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(CLASSES)
    colours = np.array(list(CLASSES.values()), float)[labels][:, None, None, :]
    slope = np.linspace(-20, 20, side)[None, :, None, None] * rng.normal(size=(n, 1, 1, 1))
    noise = rng.normal(0, 25, (n, side, side, 3))
    return np.clip(colours + slope + noise, 0, 255).astype(np.uint8), labels


def write_pictures(folder: Path, each: dict[str, int], side: int = 32, seed: int = 0) -> str:
    """`folder/SPLIT/CLASS/n.png`, `each` many a split; a split without a name has no folder."""
    for offset, (split, n) in enumerate(each.items()):
        pictures, labels = chips(n, side, seed + 1000 * offset)
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            place = (
                folder / split / list(CLASSES)[label] if split else folder / list(CLASSES)[label]
            )
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / f"{i:03d}.png")
    return str(folder)


def write_tiles(folder: Path, each: dict[str, int], side: int = 32, seed: int = 0) -> Any:
    """The same as a tile set."""
    from quadrat.tiles import pack

    pictures = write_pictures(folder / "pictures", each, side, seed)
    return pack(pictures, str(folder / "tiles"), size_px=side)
