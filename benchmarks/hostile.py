"""Malformed inputs of every reader: each command ends in words, in time, and touches nothing else.

    python benchmarks/hostile.py [--cases 2000] [--seed 0] [--only raster] [--first 17]

Good inputs are made once. Each case copies them, spoils one (hostile_inputs.py, hostile_files.py)
and runs the command that reads it in a forked process. What is counted, and must be 0:

    defects    a traceback, "this is a defect", or the name of a Python error in what is printed
    hangs      more than 60 s
    crashes    ended by a signal, or with a code other than 0, 1 and 2
    memory     more than 2 GB resident
    outside    a file made anywhere but in the output, the cache and the working folder's records
    changed    an input that is not as it was
    unsound    accepted, and the result is not what such a result is (pixels, shares, counts)
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import hostile_files
import hostile_inputs
from hostile_inputs import Spoiler

SECONDS, BYTES = 60, 2 << 30
HARD_BYTES = 16 << 30  # of addresses: keeps a case from taking the machine down
COUNTS = ("defects", "hangs", "crashes", "memory", "outside", "changed", "unsound")
BAD = re.compile(
    r"Traceback|this is a defect|terminate called|\b(?:Key|Type|Value|Index|Attribute|Assertion|"
    r"Runtime|ZeroDivision|Recursion|Overflow|Memory|NotImplemented|Unicode\w*|Lookup)Error\b"
)


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        found: which of COUNTS it adds to; () is well.
        code: of the process; said: the end of what it printed.
    """

    case: int
    kind: str
    command: tuple[str, ...]
    code: int
    found: tuple[str, ...]
    said: str
    seconds: float
    mb: float


def make_good(folder: Path) -> Path:
    """The good inputs, made in a process of their own: a fork must not have threads."""
    good = folder / "good"
    good.mkdir()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=hostile_inputs.make_good, args=(good,))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the good inputs could not be made")
    return good


def preload() -> None:
    """Load once what every case needs, so that a fork starts at once."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import pyogrio.raw  # noqa: F401
    import rasterio.warp  # noqa: F401
    import shapely  # noqa: F401
    from PIL import Image  # noqa: F401

    from quadrat import areas, changes, maps, scoring, tiles  # noqa: F401
    from quadrat.cli import cli

    for verb in cli.list_commands(None):
        cli.get_command(None, verb)


def run_case(case: int, seed: int, good: Path, folder: Path, only: str | None = None) -> Outcome:
    """Spoil, run, judge."""
    kinds = [only] if only else list(hostile_files.SPOILERS)
    kind = kinds[case % len(kinds)]
    place = folder / f"case-{case}"
    inside = place / "in"
    shutil.copytree(good, inside)
    rng = np.random.default_rng([seed, case])
    spoiled = place / "command"
    _forked(lambda: _spoil(hostile_files.SPOILERS[kind], inside, rng, spoiled), place)
    if not spoiled.exists():
        raise SystemExit(f"case {case} of {kind}: {(place / 'said').read_text('utf-8', 'replace')}")
    command = json.loads(spoiled.read_text())
    out = "out.tif" if command[0] == "map" else "out.csv" if command[0] == "area" else "out"
    args = [*command, "--out", str(place / "out" / out)]
    (place / "out").mkdir()
    before = listing(place)
    status, usage, seconds = _forked(lambda: _quadrat(args, inside, place), place)
    said = (place / "said").read_text("utf-8", "replace")
    mb = usage.ru_maxrss / 1024
    found = judge(status, said, seconds, mb, before, listing(place))
    if status == 0 and not found:
        status_, _, _ = _forked(lambda: check(command[0], place / "out" / out), place)
        found = ("unsound",) if status_ else ()
        said += (place / "said").read_text("utf-8", "replace") if status_ else ""
    end = " | ".join(said.strip().splitlines()[-3:])[-400:]
    result = Outcome(case, kind, tuple(command), status, found, end, seconds, mb)
    if not found:
        shutil.rmtree(place)
    return result


def _spoil(spoiler: Spoiler, inside: Path, rng: np.random.Generator, note: Path) -> None:
    note.write_text(json.dumps(spoiler(inside, rng)))


def listing(place: Path) -> dict[str, str]:
    """Every file of a case with its digest, but for those that a command may write."""
    own = ("out", "cache", "said", "command", "tmp", str(Path("in", "quadrat-work")))
    files = (p for p in sorted(place.rglob("*")) if p.is_file())
    names = ((str(p.relative_to(place)), p) for p in files)
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names
        if not any(name == o or name.startswith(f"{o}{os.sep}") for o in own)
    }


def judge(
    status: int, said: str, seconds: float, mb: float,
    before: dict[str, str], after: dict[str, str],
) -> tuple[str, ...]:  # fmt: skip
    """The names of COUNTS that hold."""
    held = {
        "defects": bool(BAD.search(said)),
        "hangs": seconds > SECONDS,
        "crashes": status not in (0, 1, 2) and seconds <= SECONDS,
        "memory": mb * 2**20 > BYTES,
        "outside": bool(set(after) - set(before)),
        "changed": any(after.get(name) != digest for name, digest in before.items()),
    }
    return tuple(name for name, is_so in held.items() if is_so)


def _forked(work, place: Path) -> tuple[int, resource.struct_rusage, float]:  # type: ignore[no-untyped-def]
    """Run in a fork with limits; its code (negative: a signal), what it used, seconds."""
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (HARD_BYTES, HARD_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            log = os.open(place / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = work()
        except BaseException:  # noqa: BLE001 - told by the code, and in the log
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) and 0 <= code < 100 else 0)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > SECONDS:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            break
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(status), usage, time.monotonic() - start


def _quadrat(args: Sequence[str], inside: Path, place: Path) -> int:
    from quadrat import cli

    os.environ["QUADRAT_CACHE"] = str(place / "cache")
    os.environ["TMPDIR"] = str(place / "tmp")
    (place / "tmp").mkdir()
    tempfile.tempdir = None
    os.chdir(inside)
    return cli.run([*args])


def check(verb: str, out: Path) -> int:
    """Raise where an accepted result is not sound."""
    from quadrat import tiles
    from quadrat.scores import open_scores

    if verb in ("tile", "pack"):
        made = tiles.open_tileset(str(out))
        n = 0
        for part in made.parts():
            for batch in tiles.read_part(part):
                n += len(batch.chips)
                assert batch.chips.shape[1:] == (made.size_px, made.size_px, 3)
                labels = set(batch.index["label"].to_pylist()) - {None}
                assert labels <= set(made.legend.names if made.legend else ()), labels
        assert n == made.tiles > 0
    elif verb == "score":
        scores = open_scores(str(out))
        p = scores.probabilities(scores.table())
        assert np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-3)
    elif verb == "map":
        import rasterio

        with rasterio.open(out) as data:
            assert data.width * data.height < 10**8 and data.crs is not None
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(hostile_files.SPOILERS))
    parser.add_argument("--keep", help="an empty folder in which cases that failed stay")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.keep or temporary).absolute()
        good = make_good(folder)
        preload()
        outcomes = []
        for case in range(args.first, args.first + args.cases):
            outcomes.append(run_case(case, args.seed, good, folder, args.only))
            last = outcomes[-1]
            if last.found:
                print(last.case, last.kind, *last.found, *last.command, "::", last.said, flush=True)
    counts = Counter(name for o in outcomes for name in o.found)
    codes = Counter(o.code for o in outcomes)
    print(f"{len(outcomes):,} inputs: {codes[0]:,} accepted, {codes[1] + codes[2]:,} refused")
    print("  ".join(f"{name} {counts[name]}" for name in COUNTS))
    slow, most = max(o.seconds for o in outcomes), max(o.mb for o in outcomes)
    print(f"slowest {slow:.1f} s, most {most:.0f} MB")
    if args.json:
        told = {"inputs": len(outcomes), **{name: counts[name] for name in COUNTS}}
        Path(args.json).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
