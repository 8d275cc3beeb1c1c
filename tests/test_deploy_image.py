"""What the image is made from, and what its containers do when they start and stop."""

from __future__ import annotations

import http.server
import importlib.machinery
import importlib.util
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import services
from conftest import ROOT
from deploy_tools import StandIns

PROGRAM = ROOT / "deploy" / "image" / "quadrat-node"
SECRET = "a-secret-of-the-tests-9f27c1d05be8436a"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The program, in an environment such as the chart gives it."""
    loader = importlib.machinery.SourceFileLoader("quadrat_node", str(PROGRAM))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_loader("quadrat_node", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "given").write_text("spark.executor.memory 1g\n")
    for name, value in {
        "HOME": str(tmp_path), "SPARK_HOME": "/spark", "SPARK_CONF_DIR": str(tmp_path / "conf"),
        "NODE_SPARK_CONF": str(tmp_path / "given"), "NODE_HOST": "10.1.2.3",
        "NODE_SPARK_SECRET": str(tmp_path / "secret"), "NODE_CORES": "4",
        "NODE_HEAP": "1g", "QUADRAT_MASTER": "spark://127.0.0.1:1", "NODE_WAIT_S": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return module


def test_the_secret_is_in_a_private_file_and_in_no_argument(
    node: ModuleType, tmp_path: Path
) -> None:
    for command in (node.master([]), node.worker([])):
        assert SECRET not in " ".join(command)
        assert command[0] == "/spark/bin/spark-class" and "10.1.2.3" in command
    assert command[-1] == "spark://127.0.0.1:1"
    file = tmp_path / "conf" / "spark-defaults.conf"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = file.read_text().splitlines()
    assert {"spark.authenticate true", "spark.executor.memory 1g", "spark.driver.host 10.1.2.3",
            f"spark.authenticate.secret {SECRET}"} <= set(lines)  # fmt: skip


def test_without_a_secret_nothing_starts(node: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(node.os.environ["NODE_SPARK_SECRET"]).write_text("short")
    with pytest.raises(SystemExit, match="fewer than 32 characters"):
        node.master([])
    monkeypatch.delenv("NODE_SPARK_SECRET")
    with pytest.raises(SystemExit, match="NODE_SPARK_SECRET must name"):
        node.driver(["score"])


def test_a_driver_starts_when_the_master_answers(
    node: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"Spark's master at 127\.0\.0\.1 does not answer"):
        node.driver(["score", "m", "t"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("QUADRAT_MASTER", f"spark://127.0.0.1:{server.getsockname()[1]}")
        assert node.driver(["score", "m", "t"]) == ["quadrat", "score", "m", "t"]


def test_a_node_of_a_training_knows_its_number(
    node: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    command = node.finetune(["2", "4", "localhost", "tiles", "--out", "model"])
    text = " ".join(command)
    assert "--nnodes 2 --nproc-per-node 4 --node-rank 1 --master-addr localhost" in text
    assert text.endswith("-m quadrat.cli finetune tiles --out model")


class Page(http.server.BaseHTTPRequestHandler):
    """A worker's page, with an executor that ends after three looks."""

    looks = 0

    def do_GET(self) -> None:
        Page.looks += 1
        data = json.dumps({"executors": [{}] if Page.looks < 3 else []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.skipif(not hasattr(signal, "SIGPWR"), reason="this system has no SIGPWR")
def test_a_worker_is_told_to_drain_and_waited_for(
    node: ModuleType, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(node.os, "kill", lambda pid, number: told.append((pid, number)))
    monkeypatch.setattr(node.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NODE_WORKER_PAGE", str(page))
    assert node.drain() == 0
    assert told == [(1, signal.SIGPWR)] and Page.looks == 3
    monkeypatch.setenv("NODE_WORKER_PAGE", str(services.free_port()))
    assert node.drain() == 0  # the worker has ended by itself


def test_other_commands_run_as_they_stand() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), sys.executable, "-c", "print('as it stands')"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "as it stands\n"


def test_the_image_is_built_from_what_it_needs_and_runs_unprivileged() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.M)
    assert stages == [("${BASE}", "build"), ("${BASE}", "base"), ("base", "finetune")]
    assert re.search(r"^ARG BASE$", text, re.M)  # without a default: it is to be given
    for stage in ("base", "finetune"):
        own = text.split(f"AS {stage}\n")[1].split("\nFROM ")[0]
        assert re.findall(r"^USER (\S+)$", own, re.M)[-1] == "10001:10001"
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", "quadrat-node"]' in text
    assert 'licenses="Apache-2.0"' in text and 'image.version="${VERSION}"' in text
    kept = {x[1:] for x in (ROOT / ".dockerignore").read_text().split() if x[0] == "!"}
    for sources in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert any(source == k or source.startswith(k + "/") for k in kept), source


def test_the_image_has_what_jobs_need_and_no_keys() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (chosen,) = re.findall(r"'\.\[(.+)\]'", text)
    # storage of both clouds, and `cluster submit NAME fetch`
    assert set(chosen.split(",")) == {"spark", "s3", "azure", "fetch", "runs-ui"}
    assert set(chosen.split(",")) <= there["optional-dependencies"].keys()
    names = re.findall(r"^ARG (\w+)", text, re.M) + re.findall(r"^(?:ENV|    ) ?(\w+)=", text, re.M)
    assert len(names) > 10
    assert not [n for n in names if re.search("KEY|SECRET|TOKEN|PASSWORD|ACCOUNT", n)]
    assert f"ARG VERSION={there['version']}" in text


DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_a_base_from_debians_packages_is_named_by_its_digest(tmp_path: Path) -> None:
    stand_ins = StandIns(
        tmp_path / "stand-ins", ["mmdebstrap", "buildah"],
        {"buildah from": "container", "buildah images": DIGEST},
    )  # fmt: skip
    done = subprocess.run(
        [str(ROOT / "deploy" / "debian-base")], capture_output=True, text=True, check=True,
        env={"PATH": f"{stand_ins.path}:/usr/bin:/bin", "SUITE": "trixie"},
    )  # fmt: skip
    assert done.stdout == f"localhost/debian-python@{DIGEST}\n"
    first, *calls = stand_ins.lines()
    assert first.startswith("mmdebstrap ") and "debian-security trixie-security main" in first
    assert [c.split()[1] for c in calls] == ["from", "add", "config", "commit", "images"]
    stand_ins.forget()
    stand_ins.fail_at(2)  # what was not finished has no name
    done = subprocess.run(done.args, capture_output=True, text=True, check=False,
                          env={"PATH": f"{stand_ins.path}:/usr/bin:/bin"})  # fmt: skip
    assert done.returncode and done.stdout == ""


def test_make_builds_either_image_from_a_pinned_base(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "stand-ins", ["buildah"], {})
    environ = {"PATH": f"{stand_ins.path}:/usr/bin:/bin"}

    def make(*settings: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-C", str(ROOT), "image", "BUILDER=buildah", *settings]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    refused = make("BASE=docker.io/library/python:3.12-slim")
    assert refused.returncode and "say BASE=NAME@sha256:..." in refused.stderr
    assert not stand_ins.lines()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for target, tag in (("base", version), ("finetune", f"{version}-finetune")):
        stand_ins.forget()
        done = make(f"BASE=x@{DIGEST}", f"TARGET={target}", "BUILD_OPTIONS=--layers")
        assert done.returncode == 0, done.stderr
        assert stand_ins.lines() == [
            f"buildah build --file deploy/Containerfile --target {target} "
            f"--build-arg BASE=x@{DIGEST} --layers --tag localhost/quadrat:{tag} ."
        ]
