"""Size and speed of lossless encodings on tiles of real or synthetic imagery.

    python benchmarks/tile_encodings.py FILE...

FILEs are imagery of one place with at least three 8-bit bands. Times are CPU time of one thread;
sizes are shares of the raw bytes. Quadrat's own encodings come first; others are measured where
their package is installed (imagecodecs).
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from quadrat import codec
from quadrat.tiles import open_rasters, read_part

Pair = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--tiles", type=int, default=64)
    args = parser.parse_args()
    chips = load(args.files, args.tiles)
    size = chips.shape[1]
    ways: dict[str, Pair] = {
        name: (e.encode, lambda data, name=name: codec.decode(data, name, size))
        for name, e in codec.ENCODINGS.items()
    }
    ways |= others()
    print(f"{len(chips)} tiles of {size} px\n{'':22s}  size   encode/s   decode/s")
    for name, (encode, decode) in ways.items():
        data = [encode(c) for c in chips]
        share = sum(map(len, data)) / chips.nbytes
        print(f"{name:22s} {share:5.3f} {rate(encode, chips):10,.0f} {rate(decode, data):10,.0f}")


def load(files: list[str], most: int) -> np.ndarray:
    chips: list[np.ndarray] = []
    for part in open_rasters(files, max_nodata=0.1).parts():
        for batch in read_part(part):
            chips += list(batch.chips)
    if not chips:
        raise SystemExit("no whole tile lies in these files")
    return np.stack(chips[:most])


def others() -> dict[str, Pair]:
    try:
        import imagecodecs as ic
    except ImportError:
        return {}
    return {
        "qoi (imagecodecs)": (ic.qoi_encode, ic.qoi_decode),
        "jpeg xl, effort 1": (
            lambda c: ic.jpegxl_encode(c, lossless=True, effort=1), ic.jpegxl_decode,
        ),
        "webp, level 0": (lambda c: ic.webp_encode(c, lossless=True, level=0), ic.webp_decode),
    }  # fmt: skip


def rate(work: Callable, things: object) -> float:
    rates = []
    for _ in range(5):
        start = time.process_time()
        n = sum(1 for thing in things if work(thing) is not None)
        rates.append(n / (time.process_time() - start))
    return median(rates)


if __name__ == "__main__":
    main()
