"""Which code made a run: its version, a digest, and the commit where it lies in its checkout."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path

import quadrat

PACKAGE = Path(quadrat.__file__).parent


@functools.cache
def code() -> dict[str, str]:
    """`version`, `source` (SHA-256 of the package's files) and, in a checkout, `commit`."""
    facts = {"version": quadrat.__version__, "source": source_digest(PACKAGE)}
    commit = checkout_commit(PACKAGE)
    if commit:
        facts["commit"] = commit
    return facts


def source_digest(folder: Path) -> str:
    """SHA-256 over names and contents of a package's Python and TOML files."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".toml")):
        content = path.read_bytes()
        total.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def checkout_commit(package: Path) -> str | None:
    """The commit of the checkout that the package is the source of; None when it is installed.

    An installed package may lie in somebody else's repository (a virtual environment in a project):
    that project's commit says nothing about this code.
    """
    if package.parent.name != "src" or not (package.parents[1] / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(package.parents[1]), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
