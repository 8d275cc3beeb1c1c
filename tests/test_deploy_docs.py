"""Every command that docs/cluster.md prints is run: the program against stand-ins of the clouds'
programs, verbs of quadrat up to the check of their options."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from deploy_tools import StandIns
from test_deploy_cluster import ANSWERS, BASE, NAMES

PROGRAMS = (
    "az", "aws", "kubectl", "helm", "podman", "quadrat", "pip", "python", "spark-submit", "make",
)  # fmt: skip
COMPLETE = json.dumps({"status": {"conditions": [{"type": "Complete", "status": "True"}]}})


def commands(page: str) -> list[str]:
    """Commands of a page's blocks and text, without comments; lines that go on are joined."""
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    found = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    found += re.findall(r"`((?:kubectl|helm|az) [^`]+)`", text)
    words = ("deploy/cluster", *PROGRAMS)
    return [re.sub(r"\s+# .*", "", x) for x in found if x.split()[:1] and x.split()[0] in words]


def check_verb(arguments: list[str]) -> None:
    """Raises when quadrat has no such verb, or the verb no such option."""
    from quadrat.cli import cli

    with cli.make_context("quadrat", list(arguments[:1]), resilient_parsing=True) as top:
        verb = cli.get_command(top, arguments[0])
        assert verb is not None, arguments[0]
        verb.make_context(arguments[0], list(arguments[1:]), parent=top).close()


def test_every_command_of_the_page_on_clusters_runs(tmp_path: Path) -> None:
    programs = [*NAMES, *(p for p in PROGRAMS if p not in NAMES and p != "make")]
    looks = {"kubectl --kubeconfig": COMPLETE, "kubectl --context": COMPLETE}
    stand_ins = StandIns(tmp_path / "stand-ins", programs, {**ANSWERS, **looks})
    (tmp_path / "values").write_text(BASE)
    environ = {
        "PATH": f"{stand_ins.path}:/usr/bin:/bin", "HOME": str(tmp_path), "BASE": BASE,
        "ACCOUNT": "quadratdata", "BUCKET": "the-bucket", "CLUSTER_PAUSE_S": "0",
    }  # fmt: skip
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'deploy' / 'cluster'))}"
    place, ran = "azure", 0
    verbs: list[list[str]] = []
    for command in commands("cluster.md"):
        if chosen := re.match(r"deploy/cluster create (\w+)", command):
            place = chosen[1]
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        line = re.sub(r"^deploy/cluster", program, command)
        if line.startswith("make "):
            line = line.replace("make ", f"make --dry-run -C {shlex.quote(str(ROOT))} ", 1)
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environ, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        ran += 1
        if re.match(r"deploy/cluster (submit|finetune)", command):
            newest = max(
                folder.glob("quadrat-cluster/job-*.json"), key=lambda p: p.stat().st_mtime_ns
            )
            ((kind, job),) = json.loads(newest.read_text()).items()
            verbs.append([*(["finetune"] if kind == "finetune" else []), *job["args"]])
    assert ran > 25
    assert len(verbs) >= 6
    verbs += [call[1:] for call in stand_ins.calls() if call[0] == "quadrat"]
    for verb in verbs:
        check_verb(verb)
    for call in stand_ins.calls():
        if call[0] == "python" and call[1] != "-c":
            assert (ROOT / call[1]).exists(), call


def test_the_check_of_verbs_refuses_an_option_that_is_not_there() -> None:
    import click

    with pytest.raises(click.UsageError):
        check_verb(["score", "model", "tiles", "--out", "x", "--no-such-option"])


def test_the_rehearsals_containers_are_unprivileged_and_offered_to_nobody() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    assert set(compose["services"]) == {"s3", "mlflow", "master", "worker", "driver"}
    own = {n: s for n, s in compose["services"].items() if n != "s3"}
    for service in own.values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    for service in compose["services"].values():
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", ()))
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("KEY", "SECRET")) and "$" not in value:
                assert value.startswith("/run/secrets/"), f"{name} holds a key"
    assert compose["services"]["worker"]["stop_signal"] == "SIGPWR"
    given = compose["services"]["worker"]["environment"]
    from quadrat import config

    config.load("/", {k: str(v) for k, v in given.items()})


REHEARSAL_ANSWERS = {
    "podman compose --file {compose} run --rm -T driver ls": "imagery_2010.tif\nlabels_2010.tif\n",
    "podman compose --file {compose} exec -T s3 ls": "part-00000.parquet\n",
    "podman compose --file {compose} ps --quiet worker": "aaa\nbbb\n",
    "podman compose --file {compose} run --rm -T driver cat": "a picture",
}


def rehearsal(stand_ins: StandIns, tmp_path: Path, *options: str) -> Any:
    """The rehearsal against a stand-in of Podman; nothing listens for MLflow but this test."""
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=lambda: server.accept()[0].close(), daemon=True)
        answering.start()
        text = (ROOT / "deploy" / "rehearse").read_text()
        text = text.replace("wait_for(5000)", f"wait_for({server.getsockname()[1]})")
        text = text.replace(
            "HERE = Path(__file__).resolve().parent", f"HERE = Path({str(ROOT / 'deploy')!r})"
        )
        copy = tmp_path / "rehearse"
        copy.write_text(text)
        return subprocess.run(
            [sys.executable, str(copy), *options], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PATH": str(stand_ins.path)}, timeout=60, check=False,
        )  # fmt: skip


def test_the_rehearsal_kills_a_worker_compares_and_cleans_up(tmp_path: Path) -> None:
    compose = str(ROOT / "deploy" / "compose.yaml")
    answers = {k.format(compose=compose): v for k, v in REHEARSAL_ANSWERS.items()}
    stand_ins = StandIns(tmp_path / "stand-ins", ["podman"], answers)
    program = stand_ins.path / "podman"
    slow = program.read_text().replace(
        'case "', 'case "$*" in *" score "*spark*) sleep 2;; esac\ncase "', 1
    )
    program.write_text(slow)
    done = rehearsal(stand_ins, tmp_path, "--base-image", BASE)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.replace(f"podman compose --file {compose} ", "") for line in stand_ins.lines()]
    wanted = [
        "podman build", "up --detach --scale worker=2", "run --rm -T driver quadrat demo",
        "run --rm -T driver quadrat tile /scratch/demo/county/imagery_2010.tif --labels",
        "run --rm -T driver driver train s3://quadrat/tiles", "podman kill aaa",
        "run --rm -T driver quadrat score", "run --rm -T driver python -c",
        "run --rm -T driver quadrat map s3://quadrat/scores", "--profile job down --volumes",
    ]  # fmt: skip
    places = [next(i for i, x in enumerate(lines) if x.startswith(want)) for want in wanted]
    assert places == sorted(places)
    assert (tmp_path / "cluster-demo" / "map.png").read_text() == "a picture"
    for line in lines:
        words = line.split()
        for role in ("quadrat", "driver"):
            start = f"run --rm -T driver {role} "
            if line.startswith(start) and role == words[4]:
                check_verb(words[5:])


def test_a_rehearsal_that_fails_leaves_no_containers(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "stand-ins", ["podman"], {})
    stand_ins.fail_at(0)
    done = rehearsal(stand_ins, tmp_path, "--image", "localhost/quadrat:1")
    assert done.returncode == 1 and "podman ended with 3" in done.stderr
    assert " down --volumes" in stand_ins.lines()[-1]
    assert not shutil.which("quadrat-rehearsal")
