"""Quadrat against what is usually done, on the same tiles in one run.

    python benchmarks/peers.py --backbone efficientnet_lite0
    python benchmarks/peers.py --backbone resnet18 --weights resnet18.pth [--spark]

Peers, each from its own package:

    torch, stock      DataLoader (as many workers as cores), Pillow, ToTensor and Normalize, eager
                      network, NCHW float32, batches of 64, torch's own number of threads
    torch, tuned      the same with channels_last, batches of 32, uint8 tiles normalised by the
                      network's side, and the best of three ways to share the cores
    ONNX Runtime      default settings, Pillow, one loop, batches of 32; the same float graph
    rasterio loop     for each tile: open the GeoTIFF, read the window, run ONNX Runtime on it
    Spark's recipe    binaryFile and a row-by-row Python UDF (with --spark; see spark.py)

The eager network has random weights where speed does not depend on them. "Network alone" is the
ceiling of each precision: the same compiled model on tiles in memory. Quadrat's time is that of
`score` from start to end, files written; the peers' that of their loop alone, nothing written.
"""

import argparse
import shutil
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

import measure
import scoring
from quadrat import model as models
from quadrat.engines import get_engine
from quadrat.scoring import score
from quadrat.tiles import read_part

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--tiles", type=int, default=4000, help="of the county, for Quadrat")
    parser.add_argument("--png", type=int, default=2000, help="PNG files, for Quadrat")
    parser.add_argument("--peer-tiles", type=int, default=400, help="of these PNG files, for peers")
    parser.add_argument("--precisions", default="int8,bf16,fp32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--spark", action="store_true")
    measure.start(run, parser)


def run(args: argparse.Namespace, folder: Path) -> None:
    slots = get_engine().slots
    imagery, tiles = scoring.county(folder, args.tiles)
    model = scoring.trained(folder, tiles.uri, args.backbone, args.weights, "int8")
    png = scoring.pictures(tiles, folder / f"png-{args.png}", args.png, slots)
    bundle = models.open_model(model)
    chips = next(read_part(tiles.parts()[0], 64)).chips
    files = sorted(str(p) for p in Path(png).iterdir())[: args.peer_tiles]
    out = str(folder / "scores")
    ways: dict[str, object] = {}
    for p in [p for p in args.precisions.split(",") if able(p, bundle)]:
        network = models.runner(bundle, p, workers=slots)
        ways[f"network alone, {p}"] = lambda n=network: measure.ceiling(n, chips, slots)
        for name, source in (("PNG", png), ("tile set", tiles.uri), ("GeoTIFF", [imagery])):
            ways[f"Quadrat {p}, {name}"] = lambda s=source, p=p: scored(model, s, out, p)
    ways["torch, stock, PNG"] = torch_loop(args.backbone, files, slots, tuned=False)
    ways["torch, tuned, PNG"] = torch_loop(args.backbone, files, slots, tuned=True)
    graph = bundle.onnx("fp32")
    ways["ONNX Runtime, default, PNG"] = lambda: onnx_loop(graph, files)
    ways["rasterio loop, ONNX Runtime"] = lambda: rasterio_loop(graph, imagery, len(files))
    if args.spark:
        ways["Spark's recipe, PNG"] = lambda: spark_recipe(model, files, folder, slots)
    rates = measure.rounds(ways, args.runs)
    print(measure.in_words(measure.machine()))
    print(f"{args.backbone}; {len(files)} tiles for peers, {args.png} PNG, {tiles.tiles} county")
    stock, tuned = rates["torch, stock, PNG"], rates["torch, tuned, PNG"]
    rows = []
    for name, values in rates.items():
        top = rates.get("network alone, " + name.split(",")[0].removeprefix("Quadrat "))
        rows.append((
            name, f"{median(values):,.0f}", f"{measure.share(values, top):.1%}" if top else "",
            f"{measure.share(values, stock):.1f}", f"{measure.share(values, tuned):.1f}",
        ))  # fmt: skip
    head = ("way", "tiles/s", "of its network", "x torch stock", "x torch tuned")
    print(measure.table(head, rows))
    measure.write(args.json, {"backbone": args.backbone, "rates": rates})


def able(precision: str, bundle: models.Model) -> bool:
    if precision == "int8" and "int8" not in bundle.info.forms:
        print("int8 was not accepted for this network on these tiles")
        return False
    return {"int8": models.has_int8(), "bf16": models.has_bf16()}.get(precision, True)


def scored(model: str, source: object, out: str, precision: str) -> float:
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    done = score(model, source, out, precision=precision)
    return done.tiles / (time.perf_counter() - start)


class Pictures:
    """A torch data set of PNG files: float tensors, or uint8 as they are."""

    def __init__(self, files: list[str], raw: bool) -> None:
        self.files, self.raw = files, raw

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> object:
        import torch
        from torchvision.transforms import v2

        picture = Image.open(self.files[i]).convert("RGB")
        if self.raw:
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        return v2.Compose(steps)(picture)


def eager(backbone: str) -> object:
    """The network as its own package makes it: torchvision's, or timm's for Lite0."""
    if backbone == "efficientnet_lite0":
        import timm

        return timm.create_model("efficientnet_lite0", pretrained=False).eval()
    import torchvision

    return getattr(torchvision.models, backbone)(weights=None).eval()


def torch_loop(backbone: str, files: list[str], cores: int, *, tuned: bool) -> object:
    """A way that runs the DataLoader; tuned: the best split of cores, tried now."""
    import torch

    network = eager(backbone)
    if tuned:
        network = network.to(memory_format=torch.channels_last)
    # (threads of torch, workers of the DataLoader)
    splits = [(cores, cores), (cores, 1), (max(1, cores - 1), 1)] if tuned else [(cores, cores)]
    if len(splits) > 1:
        few = files[: max(64, len(files) // 4)]
        splits.sort(key=lambda s: -torch_once(network, few, *s, tuned))
    return lambda: torch_once(network, files, *splits[0], tuned)


def torch_once(network: object, files: list[str], threads: int, workers: int, tuned: bool) -> float:
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(threads)
    data = DataLoader(Pictures(files, tuned), batch_size=32 if tuned else 64, num_workers=workers)
    mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    start, n = time.perf_counter(), 0
    with torch.inference_mode():
        for x in data:
            if tuned:
                x = x.to(torch.float32, memory_format=torch.channels_last).sub_(mean).div_(std)
            n += len(network(x).argmax(1))
    return n / (time.perf_counter() - start)


def onnx_loop(graph: bytes, files: list[str]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    name, start = session.get_inputs()[0].name, time.perf_counter()
    for i in range(0, len(files), 32):
        batch = [np.asarray(Image.open(f).convert("RGB")) for f in files[i : i + 32]]
        session.run(None, {name: np.stack(batch)})
    return len(files) / (time.perf_counter() - start)


def rasterio_loop(graph: bytes, imagery: str, count: int) -> float:
    import onnxruntime
    import rasterio
    from rasterio.windows import Window

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    name, size = session.get_inputs()[0].name, 224
    with rasterio.open(imagery) as data:
        across, down = data.width // size, data.height // size
    start = time.perf_counter()
    for k in range(min(count, across * down)):
        with rasterio.open(imagery) as data:
            window = Window(k % across * size, k // across * size, size, size)
            pixels = data.read((1, 2, 3), window=window)
        session.run(None, {name: np.ascontiguousarray(pixels.transpose(1, 2, 0))[None]})
    return min(count, across * down) / (time.perf_counter() - start)


def spark_recipe(model: str, files: list[str], folder: Path, cores: int) -> float:
    import spark

    few = folder / f"png-few-{len(files)}"
    if not few.exists():
        few.mkdir()
        for file in files:
            shutil.copy(file, few)
    asked = argparse.Namespace(model=model, source=str(few), cores=cores, repeats=1)
    return spark.recipe(asked)["recipe_tiles_per_s"]


if __name__ == "__main__":
    main()
