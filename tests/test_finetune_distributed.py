"""Several processes that train as one: the same curve, each tile once, one writer, errors told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetune_tiles import write_tiles

torch = pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")

from quadrat import runs, storage  # noqa: E402
from quadrat.errors import BackboneError, TrainError  # noqa: E402
from quadrat.finetuning import FinetuneSettings, Machine, finetune  # noqa: E402
from quadrat.finetuning.launch import launch  # noqa: E402

TESTS = Path(__file__).parent
CHOSEN = FinetuneSettings(
    backbone="shufflenet_v2_x0_5", weights="random", pixels=32, epochs=3, batch=15, lr=0.02,
    precision="fp32", batch_norm="frozen",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """67 training tiles, which two processes cannot share evenly."""
    return write_tiles(tmp_path_factory.mktemp("set"), {"train": 67, "validation": 31})


def machine(nproc: int) -> Machine:
    return Machine(device="cpu", nproc=nproc, threads=1)


@pytest.mark.long
def test_two_processes_follow_the_curve_of_one(small: Any, tmp_path: Path) -> None:
    """The whole way, in single precision.

    Batch statistics are frozen, and the curves agree to seven digits. With statistics of fifteen
    tiles at 32 px this network multiplies any difference by ten million in an epoch (seen in double
    precision, from 1e-14 to 1e-6 in five steps): no two orders of summation agree, be they of two
    processes or of one. That shared statistics are right is shown below, where nothing is lost.
    """
    one = finetune(small.uri, str(tmp_path / "one"), CHOSEN, machine(1))
    events: list[str] = []
    done: list[tuple[int, int]] = []
    two = finetune(
        small.uri, str(tmp_path / "two"), CHOSEN, machine(2),
        on_event=lambda e, v: events.append(e), on_progress=lambda d, t: done.append((d, t)),
    )  # fmt: skip
    assert two.machine["processes"] == 2
    for a, b in zip(one.history, two.history, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["lr"] == a["lr"]
        assert b["error_percent"] == pytest.approx(a["error_percent"], abs=100 * 1.01 / 67)
        assert b["validation_loss"] == pytest.approx(a["validation_loss"], rel=1e-5)
        # each tile once: the figures are sums over the tiles of both
        assert b["seconds"] * b["samples_per_s"] == pytest.approx(67)
    # the first alone tells and writes
    assert events == ["params", "data", "epoch", "epoch", "epoch", "metrics", "parity", "model"]
    assert done[-1] == (3 * 67, 3 * 67)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [
        ".lock", "model.json", "model.onnx"
    ]  # fmt: skip
    assert not list((storage.cache_dir() / "decoded").iterdir())


@pytest.mark.long
def test_frozen_parts_and_cached_features_work_in_two_processes(small: Any, tmp_path: Path) -> None:
    chosen = FinetuneSettings(
        depth="last_only", views=2, pixels=32, epochs=8, batch=16, precision="fp32",
    )  # fmt: skip
    one = finetune(small.uri, str(tmp_path / "one"), chosen, machine(1))
    two = finetune(small.uri, str(tmp_path / "two"), chosen, machine(2))
    for a, b in zip(one.history, two.history, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)
    assert two.accuracy == pytest.approx(one.accuracy, abs=1.01 / 31)


@pytest.mark.long
def test_shared_batch_normalisation_is_that_of_the_whole_batch() -> None:
    """In double precision: outputs, gradients, statistics, and the curves of whole trainings."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
               "2", str(TESTS / "finetune_ranks.py")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("OK") == 2  # two processes may write on one line


@pytest.mark.long
def test_an_error_of_a_process_is_raised_as_its_own_kind(small: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(BackboneError, match="no backbone nonet; there are"):
        finetune(small.uri, str(tmp_path / "a"), replace(CHOSEN, backbone="nonet"), machine(2))


def test_a_process_that_just_dies_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"settings": {"depth": "all", "nonsense": 1}, "machine": {}}
    with pytest.raises(TrainError, match="a process ended with code 1"):
        launch(2, job, 1, None, None)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_processes_end_with_the_one_that_started_them(small: Any, tmp_path: Path) -> None:
    """A kill that cannot be caught leaves no process that trains on."""
    code = (
        "from quadrat.finetuning import *\n"
        f"finetune({small.uri!r}, {str(tmp_path / 'model')!r}, FinetuneSettings(backbone="
        "'shufflenet_v2_x0_5', weights='random', pixels=32, epochs=100000, batch=15),"
        " Machine('cpu', 2, 1), on_event=lambda e, v: print(e, flush=True))"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert any(line == "epoch\n" for line in started.stdout)
    assert workers(tmp_path)
    started.send_signal(signal.SIGKILL)
    started.wait()
    started.stdout.close()
    until = time.monotonic() + 30
    while workers(tmp_path) and time.monotonic() < until:
        time.sleep(0.2)
    assert not workers(tmp_path)


def workers(out: Path) -> list[int]:
    """Processes that hold the output's lock open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                links = [os.readlink(p) for p in (process / "fd").iterdir()]  # noqa: PTH115
            except OSError:
                continue
            found += [int(process.name)] * any(str(out) in link for link in links)
    return found


@pytest.mark.slow
def test_the_documented_command_for_two_machines(small: Any, tmp_path: Path) -> None:
    """Two torchruns that meet at an address, as on two machines; both are this one here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "quadrat.cli", "finetune",
        small.uri, "--out", str(tmp_path / "model"), "--backbone", "shufflenet_v2_x0_5",
        "--weights", "random", "--pixels", "32", "--epochs", "2", "--threads", "1", "--json",
    ]  # fmt: skip
    started = []
    for node in ("0", "1"):
        own = [*command[:3], "--node-rank", node, *command[3:]]
        started.append(
            subprocess.Popen(own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             cwd=tmp_path)
        )  # fmt: skip
    (first, said), (second, _) = (each.communicate(timeout=240) for each in started)
    assert [each.returncode for each in started] == [0, 0], said[-2000:]
    result = json.loads(first)
    assert result["machine"]["processes"] == 2 and result["epochs"] == 2
    assert second == ""  # the first process alone speaks
    (run,) = runs.list_runs(tracking_uri=str(tmp_path / "quadrat-work" / "runs.db"))
    assert (run.id, run.status) == (result["run"], "FINISHED")
