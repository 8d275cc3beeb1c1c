"""Kill -9 at random moments of six verbs; the same command again gives what it gives undisturbed.

    python benchmarks/kills.py --kills 200 --seed 0

Each verb runs in a process of its own, forked from this one, so that the imports cost nothing and
most kills meet the work itself. After one or two kills the same command runs to its end. Then every
file must be there byte for byte as in the undisturbed run (of a model, all but the time and the run
that made it), no tile may be lost or doubled, and no temporary file may be left in the output, in
the cache or in the system's folder for them.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

LIBRARIES = ("quadrat", "rasterio", "pyproj", "shapely", "pyarrow", "scipy", "sklearn", "mlflow",
             "onnx", "onnxruntime", "openvino", "PIL", "matplotlib", "sqlalchemy", "alembic",
             "boto3", "botocore", "pandas", "xml", "html", "sqlite3")  # fmt: skip
VERBS = ("tile", "score", "train", "pack", "unpack", "change")
SIDE = 64  # tiles along the raster: sixteen parts
PICTURES = 90  # of each class


@dataclass
class Tally:
    """What the kills of one verb led to."""

    kills: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    temporary: int = 0
    failed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """How much went wrong."""
        return self.lost + self.doubled + self.different + self.temporary + self.failed


def make_inputs(root: Path) -> None:
    """Two rasters, a tile set, a model and a folder of pictures."""
    import small_tiles
    from quadrat import codec, tiles

    for date in (1, 2):
        small_tiles.write_raster(root / f"r{date}.tif", SIDE, SIDE)
    small_tiles.save_model(str(root / "model"))
    tiles.tile([str(root / "r1.tif")], str(root / "given"), tile_m=8.0, split=None)
    rng, encode = np.random.default_rng(1), codec.get_encoding("png").encode
    for low, name in enumerate(("Dark", "Grey", "Bright")):
        (root / "pictures" / name).mkdir(parents=True)
        for i in range(PICTURES):
            pixels = rng.integers(low * 80, low * 80 + 90, (8, 8, 3), np.uint8)
            (root / "pictures" / name / f"{i}.png").write_bytes(encode(pixels))
    tiles.pack(str(root / "pictures"), str(root / "packed"), size_px=8)


def command(verb: str, root: Path) -> list[str]:
    """The command line of a verb, whose output is `root/out`."""
    out, model, r = (
        str(root / "out"),
        str(root / "model"),
        [str(root / f"r{d}.tif") for d in (1, 2)],
    )
    return {
        "tile": ["tile", r[0], "--out", out, "--tile-m", "8"],
        "score": ["score", model, str(root / "given"), "--out", out],
        "train": ["train", str(root / "packed"), "--out", out, "--backbone", "mean_colour"],
        "pack": ["pack", str(root / "pictures"), "--out", out, "--size-px", "8"],
        "unpack": ["unpack", str(root / "packed"), "--out", out],
        "change": ["change", *r, "--model", model, "--out", out, "--show", "8"],
    }[verb]


def start(argv: list[str], root: Path) -> int:
    """Run a command in a forked process that leads a group of its own; its id."""
    pid = os.fork()
    if pid:
        with suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(root)
        log = os.open(root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from quadrat.cli import run

        code = run(argv)
        (root / "modules.txt").write_text("\n".join(sys.modules))
    finally:
        os._exit(code)


def finish(argv: list[str], root: Path) -> tuple[int, float]:
    """Run a command to its end; exit status and seconds."""
    begun = time.perf_counter()
    _, status = os.waitpid(start(argv, root), 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - begun


def kill_at(argv: list[str], root: Path, seconds: float) -> bool:
    """Start a command and kill it and its children after a time; whether it still ran."""
    pid = start(argv, root)
    time.sleep(seconds)
    os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def clear(root: Path) -> None:
    """Take away what a verb made; the run history stays, which takes long to be made anew."""
    for name in ("out", "cache/features"):
        shutil.rmtree(root / name, ignore_errors=True)


def files(root: Path) -> Iterator[Path]:
    """Every file that a verb left."""
    for name in ("out", "cache", "quadrat-work", "tmp"):
        yield from sorted(p for p in (root / name).rglob("*") if p.is_file())


def temporary(root: Path) -> set[str]:
    """Files that were to be moved or removed."""
    inside = [p for p in files(root) if p.name.startswith(".part-") or ".tmp" in p.name]
    left = [p for p in (root / "tmp").iterdir() if p not in inside]
    return {str(p.relative_to(root)) for p in (*inside, *left)}


def contents(root: Path) -> dict[str, str]:
    """Path below the output -> digest; of a model's description what does not tell of a run."""
    found = {}
    for path in sorted((root / "out").rglob("*")):
        if not path.is_file() or path.name == ".lock":
            continue
        data = path.read_bytes()
        if path.name == "model.json":
            told = json.loads(data)
            data = json.dumps({k: v for k, v in told.items() if k not in ("created", "run_id")})
            data = data.encode()
        found[path.relative_to(root / "out").as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def rows(root: Path) -> Counter[Any]:
    """How often each tile stands in the parts of an output, its folders of scores too."""
    import pyarrow.parquet as pq

    found: Counter[Any] = Counter()
    for path in (root / "out").rglob("parts/part-*.parquet"):
        folder = path.parents[1].relative_to(root).as_posix()
        table = pq.read_table(path, columns=["row", "col", "path"]).to_pylist()
        found.update((folder, r["row"], r["col"], r["path"]) for r in table)
    return found


@dataclass(frozen=True)
class Left:
    """What a run left: contents by path, tiles, and temporary files."""

    contents: dict[str, str]
    tiles: Counter[Any]
    temporary: set[str]

    @classmethod
    def of(cls, root: Path) -> Left:
        """What lies there now."""
        return cls(contents(root), rows(root), temporary(root))


def judge(root: Path, whole: Left, tally: Tally) -> None:
    """Compare what is there with the undisturbed run."""
    known, tiles = whole.contents, whole.tiles
    now, here = contents(root), rows(root)
    tally.lost += sum((tiles - here).values())
    tally.doubled += sum((here - tiles).values())
    changed = sorted(n for n in now.keys() | known.keys() if now.get(n) != known.get(n))
    tally.different += len(changed)
    left = sorted(temporary(root) - whole.temporary)
    tally.temporary += len(left)
    for name in left:  # counted once
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).unlink(missing_ok=True)
    for what, names in (("other than undisturbed", changed), ("left", left)):
        if names:
            tally.notes.append(f"{what}: {', '.join(names[:3])}")


def try_verb(verb: str, root: Path, kills: int, rng: random.Random) -> Tally:
    """Kill a verb so many times."""
    argv, tally = command(verb, root), Tally()
    clear(root)
    finish(argv, root)
    for name in (root / "modules.txt").read_text().splitlines():
        if name.split(".")[0] in LIBRARIES:
            with suppress(ImportError):
                importlib.import_module(name)  # here, so that the next ones need not
    clear(root)
    status, seconds = finish(argv, root)
    if status:
        raise SystemExit(f"{verb} fails undisturbed: {(root / 'log.txt').read_text()}")
    whole = Left.of(root)
    while tally.kills < kills:
        clear(root)
        for _ in range(rng.choice((1, 1, 2))):
            tally.kills += kill_at(argv, root, rng.uniform(0, seconds))
        status, _ = finish(argv, root)
        if status:
            tally.failed += 1
            tally.notes.append((root / "log.txt").read_text().strip()[-300:])
            continue
        judge(root, whole, tally)
    return tally


def preload() -> None:
    """Import what the verbs need, in this process, which runs none of it."""
    import mlflow
    import onnxruntime
    import openvino
    import sklearn.linear_model

    import quadrat.changes
    import quadrat.heads
    import quadrat.runs
    import quadrat.scoring
    import quadrat.tiles

    _: tuple[Any, ...] = (mlflow, onnxruntime, openvino, sklearn, quadrat)


def isolated(root: Path, call: Callable[[Path], None]) -> None:
    """Call in a forked process, so that this one starts no threads before it forks."""
    pid = os.fork()
    if not pid:
        try:
            call(root)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit("the inputs could not be made")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="in all, shared by the verbs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=VERBS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quadrat-kills-") as folder:
        root = Path(folder).resolve()
        for name in ("tmp", "cache"):
            (root / name).mkdir()
        os.environ |= {
            "QUADRAT_CACHE": str(root / "cache"), "TMPDIR": str(root / "tmp"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }  # fmt: skip
        tempfile.tempdir = None
        preload()
        isolated(root, make_inputs)
        rng, worst = random.Random(chosen.seed), 0
        print("verb      kills  lost  doubled  other  temporary  failed", flush=True)
        for n, verb in enumerate(chosen.verbs):
            share = len(range(n, chosen.kills, len(chosen.verbs)))
            t = try_verb(verb, root, share, rng)
            print(f"{verb:8}  {t.kills:5}  {t.lost:4}  {t.doubled:7}  {t.different:5}  "
                  f"{t.temporary:9}  {t.failed:6}", flush=True)  # fmt: skip
            for note in t.notes[:5]:
                print(f"  {note}")
            worst += t.bad
    raise SystemExit(worst > 0)


if __name__ == "__main__":
    main()
