"""The two images: built from this tree, and named by what is in them."""

from __future__ import annotations

import hashlib
import re
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "deploy/Containerfile")
FOLDERS = ("src", "deploy/image")
TARGETS = {"base": "", "finetune": "-finetune"}  # of the Containerfile -> end of the tag


def version() -> str:
    """The package's."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def tag(base: str) -> str:
    """Version and a digest of all that goes in: the same sources have the same name."""
    total = hashlib.sha256(base.encode())
    found = [ROOT / name for name in FILES]
    for folder in FOLDERS:
        found += [p for p in (ROOT / folder).rglob("*") if "__pycache__" not in p.parts]
    for path in sorted(p for p in found if p.is_file()):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return f"{version()}-{total.hexdigest()[:12]}"


def is_pinned(base: str) -> bool:
    """Whether an image is named by its digest."""
    return re.search(r"@sha256:[0-9a-f]{64}$", base) is not None


def builder() -> str:
    """Podman where it is, else Docker."""
    return "docker" if shutil.which("podman") is None and shutil.which("docker") else "podman"


def build(base: str, target: str) -> list[str]:
    """Arguments of a build, without the program and the name."""
    return [
        "--file", str(ROOT / "deploy" / "Containerfile"), "--target", target,
        "--build-arg", f"BASE={base}", "--build-arg", f"VERSION={version()}",
    ]  # fmt: skip
