"""Accuracy on UC Merced: a network retrained whole against a logistic head on the same network.

    python benchmarks/finetune.py FOLDER --work WORK --pixels 224 --keep last
    python benchmarks/finetune.py FOLDER --work WORK --pixels 128 --backbone resnet18 --weights FILE

FOLDER has one subfolder of pictures per class; half of every class is only ever tested on, the same
half that `ucmerced.py` tests on with the same seed. A tenth of the other half (5 of 50 a class)
picks the epoch (with --keep last it is only watched), and the network is retrained on the rest. The
logistic head is trained twice on the same pixels: on the tiles that retrain the network, and on all
of its half.

Stopped, it goes on where it was when it is started again with the same arguments. Runs and their
learning curves go to a run history in WORK (`quadrat runs compare --tracking-uri ...`).
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quadrat import heads, runs, tiles
from quadrat.finetuning import FinetuneSettings, Machine, finetune, stopped_run
from quadrat.tiles import pack

VALIDATION = 0.05  # of all pictures: a tenth of the half that trains


def packed(folder: str, out: Path, pixels: int, seed: int, validation: float) -> str:
    """The pictures as a tile set: half of each class is `test` (or, with 0.5, `validation`)."""
    test = 0.0 if validation == 0.5 else 0.5
    uri = str(out / f"tiles-{pixels}-{seed}-{validation:g}")
    pack(
        folder, uri, size_px=pixels, validation=validation, test=test, seed=seed,
        keep_duplicates=True,
    )  # fmt: skip
    return uri


def held_out(uri: str, split: str) -> set[str]:
    """Paths of a split's pictures."""
    index = tiles.index(tiles.open_tiles(uri))
    rows = zip(index["path"].to_pylist(), index["split"].to_pylist(), strict=True)
    return {path for path, word in rows if word == split}


def frozen(arguments: argparse.Namespace, few: str, half: str, work: Path) -> dict[str, float]:
    """Test accuracy of the logistic head on the frozen network."""
    if held_out(few, "test") != held_out(half, "validation"):
        raise SystemExit("the two splits hold out different pictures")
    found = {}
    options = {
        "backbone": arguments.backbone, "weights": arguments.weights, "seed": arguments.seed,
        "precision": "fp32", "cache": str(work / "cache"),
    }  # fmt: skip
    name = f"{arguments.backbone}-{arguments.pixels}-{arguments.seed}"
    whole = heads.train(half, str(work / f"head-half-{name}"), **options)
    found["half"] = float(whole.accuracy or 0)
    few_head = heads.train(few, str(work / f"head-few-{name}"), **options)
    found["few"] = tested(few_head.uri, few)
    return found


def tested(model: str, uri: str) -> float:
    """Share of a tile set's test tiles that a bundle gives their own label."""
    from quadrat.model import compile_network, open_model

    bundle = open_model(model)
    run = compile_network(Path(model, "model.onnx").read_bytes(), runtime="onnxruntime", workers=1)
    source, right, count = tiles.open_tiles(uri), 0, 0
    for part in source.parts():
        for batch in tiles.read_part(part, batch_size=64):
            test = [i for i, s in enumerate(batch.index["split"].to_pylist()) if s == "test"]
            if not test:
                continue
            chosen = run(batch.chips[test]).argmax(1)
            truth = batch.index["label"].to_pylist()
            names = bundle.legend.names
            right += sum(names[c] == truth[i] for c, i in zip(chosen, test, strict=True))
            count += len(test)
    return right / count


def retrained(
    arguments: argparse.Namespace, settings: FinetuneSettings, few: str, work: Path
) -> dict[str, Any]:
    """Retrain the network, its learning curve in the run history; what came out."""
    name = arguments.name or f"{settings.backbone}-{settings.depth}-{settings.pixels}"
    out = str(work / f"model-{name}-{settings.seed}")
    done = Path(out, "result.json")
    if done.exists():
        return dict(json.loads(done.read_text()))
    stopped = stopped_run(out)
    with runs.start(
        "finetune", name=name, tracking_uri=arguments.tracking_uri, resume=stopped
    ) as run:

        def heard(event: str, values: Mapping[str, Any]) -> None:
            run.record(event, values)
            if event in ("epoch", "warning"):
                print(time.strftime("%H:%M:%S"), event, shown(values), flush=True)

        result = finetune(
            few, out, settings, Machine("cpu", threads=arguments.threads), on_event=heard,
            resume=stopped is not None, run_id=run.id,
        )  # fmt: skip
    done.write_text(json.dumps(result.to_dict()))
    return result.to_dict()


def shown(values: Mapping[str, Any]) -> str:
    """Figures on one line."""
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--work", required=True)
    parser.add_argument("--tracking-uri")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--depth", default="all")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--keep", default="best", choices=("best", "last"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--name")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    work = Path(arguments.work)
    work.mkdir(parents=True, exist_ok=True)
    arguments.tracking_uri = arguments.tracking_uri or f"sqlite:///{work.absolute()}/runs.db"
    few = packed(arguments.folder, work, arguments.pixels, arguments.seed, VALIDATION)
    half = packed(arguments.folder, work, arguments.pixels, arguments.seed, 0.5)
    head = frozen(arguments, few, half, work)
    settings = FinetuneSettings(
        backbone=arguments.backbone, depth=arguments.depth, weights=arguments.weights,
        pixels=arguments.pixels, epochs=arguments.epochs, lr=arguments.lr, seed=arguments.seed,
        keep=arguments.keep,
    )  # fmt: skip
    result = retrained(arguments, settings, few, work)
    report(arguments, head, result)


def report(
    arguments: argparse.Namespace, head: Mapping[str, float], result: Mapping[str, Any]
) -> None:
    """Print the table; write it with --json."""
    test = result["test"]["overall"]
    got, train = float(test["value"]), sum(result["tiles"]["train"].values())
    count = sum(result["tiles"]["test"].values())
    rows = [
        (f"logistic head, {train} tiles", head["few"]),
        ("logistic head, the whole half", head["half"]),
        (f"retrained {arguments.depth}, {train} tiles", got),
    ]
    line: Callable[[str, float], str] = lambda what, value: f"| {what} | {100 * value:.2f}% |"  # noqa: E731
    print(
        f"{arguments.backbone} at {arguments.pixels} px, seed {arguments.seed}, epoch "
        f"{result['best_epoch']} of {result['epochs']}, {count} test tiles, "
        f"{result['samples_per_s']:.0f} tiles/s, {result['seconds']['total']:.0f} s"
    )
    print("\n".join(line(*row) for row in rows))
    print(f"95%: {100 * test['low']:.2f} to {100 * test['high']:.2f}")
    if arguments.json:
        values = {"head": dict(head), "retrained": got, "best_epoch": result["best_epoch"]}
        Path(arguments.json).write_text(json.dumps(values))


if __name__ == "__main__":
    main()
