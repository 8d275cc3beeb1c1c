"""Hosts on one machine: network namespaces on a switch, each with its own name, address and files.

Each process sees its host's files only: what it writes below the tests' folders lies in its own
memory and is seen by nobody else. What two hosts share goes over the network. Needs root and Linux.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import services

BUCKET = "quadrat"
S3_PORT = 9000


@dataclass
class Host:
    """One host.

    Attributes:
        hidden: folders that are empty on it.
        started: its processes, to be ended with it.
    """

    name: str
    namespace: str
    address: str
    hidden: Sequence[Path] = ()
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self,
        command: Sequence[str],
        log: Path,
        environ: Mapping[str, str] | None = None,
        hidden: Sequence[Path] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process on this host, at the head of a group of its own; its output goes to `log`."""
        empty = self.hidden if hidden is None else hidden
        mounts = [f"mount -t tmpfs hidden {shlex.quote(str(folder))}" for folder in empty]
        place = shlex.quote(str(empty[0] if empty else "/"))
        script = "; ".join(["set -e", f"hostname {self.name}", *mounts, f"cd {place}", 'exec "$@"'])
        inside = ["unshare", "--uts", "--mount", "sh", "-c", script, "sh", *command]
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *inside],
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **(environ or {})},
            )  # fmt: skip
        self.started.append(process)
        return process

    def answers(self, port: int) -> bool:
        """Whether something listens on a port of this host."""
        listening = subprocess.run(
            ["ip", "netns", "exec", self.namespace, "ss", "-Hltn", f"sport = :{port}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return bool(listening.stdout.strip())

    def wait_for(self, port: int, process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
        """Until a process of this host listens."""
        end = time.monotonic() + seconds
        while not self.answers(port):
            assert process.poll() is None, f"{self.name} ended with {process.returncode}"
            assert time.monotonic() < end, f"nothing listens on {self.name}:{port}"
            time.sleep(0.1)

    def unplug(self) -> None:
        """Cut its link."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def end(self) -> None:
        """End all that runs on it, as a power cut does."""
        pids = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True,
                              text=True, check=False).stdout.split()  # fmt: skip
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for process in self.started:
            process.wait()


@contextmanager
def hosts(*names: str, hidden: Sequence[Path]) -> Iterator[list[Host]]:
    """Hosts of these names on one switch, with no way out; the `hidden` folders are empty on them.

    Skips the test where there is no root, or no `ip`, or the system allows no namespaces.
    """
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    for program in ("ip", "ss", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"network namespaces need {program} (iproute2, util-linux)")
    mark = f"quadrat-{os.getpid()}"
    switch = f"{mark}-switch"
    if subprocess.run(["ip", "netns", "add", switch], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no network namespaces")
    with ExitStack() as undo:
        undo.callback(run, "ip", "netns", "delete", switch)
        run("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "switch", "up")
        made = [Host(n, f"{mark}-{n}", f"10.79.0.{i}", hidden) for i, n in enumerate(names, 1)]
        known = "".join(f"{h.address} {h.name}\n" for h in made)
        for host in made:
            undo.callback(_remove, host)
            _plug_in(host, switch)
            own = Path("/etc/netns", host.namespace)  # `ip netns exec` lays these over /etc
            own.mkdir(parents=True)
            (own / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
            (own / "resolv.conf").write_text("")
        yield made


def _plug_in(host: Host, switch: str) -> None:
    space, port = host.namespace, f"to-{host.address.rpartition('.')[2]}"
    run("ip", "netns", "add", space)
    run("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns",
        space)  # fmt: skip
    run("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
    run("ip", "-n", space, "address", "add", f"{host.address}/24", "dev", "eth0")
    for link in ("eth0", "lo"):
        run("ip", "-n", space, "link", "set", link, "up")


def _remove(host: Host) -> None:
    host.end()
    subprocess.run(["ip", "netns", "delete", host.namespace], capture_output=True, check=False)
    shutil.rmtree(Path("/etc/netns", host.namespace), ignore_errors=True)


def run(*command: str) -> None:
    """Run a command; its error is the test's."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def serve_s3(host: Host, folder: Path) -> dict[str, str]:
    """An S3 server on a host over a folder that it alone sees; the variables that others need."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    command = [services.rclone(), "serve", "s3", str(folder), "--addr", f":{S3_PORT}"]
    environ = {"RCLONE_CONFIG": os.devnull,
               "RCLONE_AUTH_KEY": f'"{services.S3_ID},{services.S3_SECRET}"'}  # fmt: skip
    log = folder.parent / "s3.log"
    process = host.start([*command, "--vfs-cache-mode", "off"], log, environ, hidden=())
    host.wait_for(S3_PORT, process)
    return services.s3_settings(f"http://{host.name}:{S3_PORT}")
