"""What was made in a working folder, and taking it away again: `quadrat clean`.

The command line notes every output in `quadrat-work/made.jsonl`. Nothing that is not noted there is
listed, and of what is noted only files that Quadrat writes, by name, are deleted: a folder with
other files in it stays, with these files. The note holds a digest of what was made; what is not
that any more is somebody else's, and stays. It does not know how anything is made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quadrat import border, choices, config, products, storage
from quadrat.errors import InputError, LockedError, StorageError
from quadrat.products import PRODUCTS
from quadrat.progress import counted
from quadrat.records import Record
from quadrat.shown import shown

FOLDER = "quadrat-work"
LEDGER = f"{FOLDER}/made.jsonl"

_LOCK = r"\.lock"
# Folders of the cache -> patterns of the files that Quadrat keeps there.
CACHES = {
    "decoded": (r"(\d+-[0-9a-f]{16}|[0-9a-f]{24}-\d+)\.(u8|parquet)",),
    "features": (
        rf"[0-9a-f]{{32}}/(values\.npy|(index|parts/part-\d{{5,9}})\.parquet|features\.json"
        rf"|network\.onnx|{_LOCK})",
    ),
    "fetch": (r"[0-9a-f]{24}\.tif(\.part(\.json)?|\.quadrat\.json)?",),
    "graphs": (r"[\w.\-]+-[0-9a-f]{16}(\.onnx)?",),
    "runtimes": (r"[0-9a-f]{32}\.json",),
    "boundaries": (r"[0-9a-f]{8}-[\w.\-]+", _LOCK),
}


@dataclass(frozen=True)
class WorkspaceItem(Record):
    """One thing that was made and is still there.

    Attributes:
        kind: one of `choices.MADE`.
        uri: its folder or file; for a run the history's address.
        files: what would be deleted.
        foreign: what lies in its folder and is not ours (some names), and stays.
        run: the run's id.
    """

    kind: str
    uri: str
    bytes: int
    files: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    run: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; how many files, not which."""
        known = {"uri": storage.redact(self.uri), "files": len(self.files)}
        return super().to_dict() | known


@shown
@dataclass(frozen=True)
class Cleaned(Record):
    """What `clean` did, or would do.

    Attributes:
        items: what was there. deleted: whether it is gone.
        kept: uri and reason of what could not be deleted.
    """

    computed = ("bytes",)

    items: tuple[WorkspaceItem, ...]
    deleted: bool
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all items."""
        return sum(item.bytes for item in self.items)


def note(kind: str, uri: str, *, run: str | None = None, workspace: str = ".") -> None:
    """Record in the ledger that `uri` was made here.

    Args:
        kind: a folder's kind, "files" for one file, or "runs" for a run of the history at `uri`.
        run: the run's id.
    """
    # a history's password stays out of the file: see `_run_item`
    where = storage.redact(uri) if kind == "runs" else storage.normalise(uri)
    entry: dict[str, Any] = {"kind": kind, "uri": where}
    if kind != "runs":
        entry |= {"sha256": _proof(kind, where), "place": _place(where)}
    if run is not None:
        entry["run"] = run
    place = Path(workspace, LEDGER)
    storage.make_dirs(str(place.parent))
    # one write of one line, appended: processes that note at once do not mix
    with border.translated(str(place), "writing"), place.open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(entry) + "\n")


def histories(workspace: str = ".") -> tuple[str, ...]:
    """Run histories on this machine that commands in a folder wrote to, the newest first."""
    noted = (e["uri"] for e in reversed(_entries(workspace)) if e["kind"] == "runs")
    files = (u for u in dict.fromkeys(noted) if u.startswith("sqlite:///"))
    return tuple(u for u in files if storage.exists(u.removeprefix("sqlite:///")))


def inventory(workspace: str = ".", *, only: Sequence[str] = ()) -> tuple[WorkspaceItem, ...]:
    """What was made in a working folder and is still there.

    Args:
        only: these of `choices.MADE`; all when empty.
    """
    for kind in only:
        choices.check("kind", kind, choices.MADE, InputError)
    entries = _entries(workspace)
    chosen = [e for e in entries if not only or e["kind"] in only]
    items = [item for e in chosen if (item := _item(e)) is not None]
    if entries and (not only or "cache" in only):
        items += list(_caches())
    return tuple(items)


def clean(
    workspace: str = ".",
    *,
    only: Sequence[str] = (),
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Cleaned:
    """Delete what was made in a working folder.

    Args:
        workspace: the folder.
        only: these of `choices.MADE`; all when empty.
        dry_run: list it and delete nothing.
        on_progress: called with files deleted, and files to delete.

    Raises:
        InputError: a kind that is none.
    """
    items = inventory(workspace, only=only)
    if dry_run:
        return Cleaned(items, deleted=False)
    kept, total = [], sum(len(i.files) for i in items)
    for item in counted(items, total, on_progress, lambda item: len(item.files)):
        try:
            _delete(item)
            _remove_parents(item, workspace)
        except (StorageError, LockedError) as error:
            kept.append((storage.redact(item.uri), str(error)))
    _forget(workspace)
    return Cleaned(items, deleted=True, kept=tuple(kept))


def _entries(workspace: str) -> list[dict[str, Any]]:
    """The ledger's lines, each thing once, in the order of the last time it was made."""
    place = Path(workspace, LEDGER)
    if not place.exists():
        return []
    entries: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in storage.read_bytes(str(place)).decode("utf-8", "replace").splitlines():
        with suppress(ValueError, RecursionError):  # a line that a killed process left half-written
            entry = json.loads(line)
            if not isinstance(entry, dict) or entry.get("kind") not in choices.MADE:
                continue
            key = (entry["kind"], entry.get("uri"), entry.get("run", ""))
            if entry.get("uri") and all(isinstance(k, str) for k in key):
                entries.pop(key, None)
                entries[key] = entry
    return list(entries.values())


def _proof(kind: str, uri: str) -> str | None:
    """SHA-256 of a file, or of a folder's manifest or plan: proof that it is still the same.

    None when it is not there.
    """
    if kind == "files":
        return storage.digest_file(uri) if storage.exists(uri) else None
    product = PRODUCTS[kind]
    for name in (product.manifest, products.PLAN):
        if storage.exists(storage.join(uri, name)):
            return storage.digest_file(storage.join(uri, name))
    begun = bool(product.begun) and storage.exists(storage.join(uri, product.begun))
    return product.begun if begun else None


def _place(uri: str) -> str:
    """The real path, with all links followed."""
    return os.path.realpath(storage.local_path(uri)) if storage.is_local(uri) else uri


def _item(entry: Mapping[str, Any]) -> WorkspaceItem | None:
    kind, uri = str(entry["kind"]), str(entry["uri"])
    if kind == "runs":
        return _run_item(uri, str(entry.get("run")))
    proof = _proof(kind, uri)
    if proof is None or proof != entry.get("sha256") or _place(uri) != entry.get("place"):
        return None  # gone, or another thing by now
    if kind == "files":
        return WorkspaceItem(kind, uri, storage.size(uri), (uri,))
    return _folder_item(kind, uri)


def _folder_item(kind: str, uri: str) -> WorkspaceItem:
    ours = products.own_files(kind)
    fetched = _fetched(uri) if kind == "imagery" else frozenset()
    files, foreign = [], []
    for name in _names(uri):
        if ours(name) or name in fetched:
            files.append(storage.join(uri, *name.split("/")))
        else:
            foreign.append(name)
    return WorkspaceItem(
        kind, uri, sum(map(storage.size, files)), tuple(files), tuple(foreign[:10])
    )


def _fetched(uri: str) -> frozenset[str]:
    """Names of the rasters that `fetch.json` lists, and of their records."""
    try:
        summary = storage.read_json(storage.join(uri, "fetch.json"))
        names = [str(n) for n in summary["files"]]
    except (StorageError, KeyError, TypeError):
        return frozenset()
    return frozenset(n + end for n in names for end in ("", ".quadrat.json"))


def _names(uri: str) -> Iterator[str]:
    """Paths of the files in a folder and in its folders, with `/` between names."""
    if storage.is_local(uri):
        root = storage.local_path(uri)
        for folder, _, names in os.walk(root):
            inside = Path(folder).relative_to(root)
            yield from sorted((inside / name).as_posix() for name in names)
        return
    for name in storage.list_names(uri):
        below = storage.join(uri, name)
        if storage.is_dir(below):
            yield from (f"{name}/{inner}" for inner in storage.list_names(below))
        else:
            yield name


def _run_item(tracking_uri: str, run: str) -> WorkspaceItem | None:
    """A run of the history that was noted, which the configured address may have a password for."""
    from quadrat import runs

    configured = config.load().tracking_uri
    if configured and storage.redact(configured) == tracking_uri:
        tracking_uri = configured
    files = runs.files_of(run, tracking_uri=tracking_uri)
    if files is None:
        return None
    size = sum(map(storage.size, files.own))
    return WorkspaceItem("runs", tracking_uri, size, files.own, files.foreign[:10], run)


def _caches() -> Iterator[WorkspaceItem]:
    """The files of the caches, which are made again when they are needed."""
    for name, patterns in CACHES.items():
        folder, ours = storage.cache_dir() / name, products.matching(patterns)
        if folder.is_dir():
            files = tuple(str(folder / inner) for inner in _names(str(folder)) if ours(inner))
            if files:
                yield WorkspaceItem("cache", str(folder), sum(map(storage.size, files)), files)


def _delete(item: WorkspaceItem) -> None:
    if item.kind == "runs":
        from quadrat import runs

        runs.delete_run(str(item.run), tracking_uri=item.uri)
        return
    if item.kind == "files":
        storage.remove(item.uri)
        return
    if item.kind == "cache":
        _delete_files(item.uri, item.files)
        return
    with storage.lock(item.uri):  # not from under a process that writes it
        _delete_files(item.uri, [f for f in item.files if not f.endswith("/.lock")])
        storage.remove(storage.join(item.uri, ".lock"))
    storage.remove_empty(item.uri)


def _delete_files(uri: str, files: Iterable[str]) -> None:
    for file in files:
        storage.remove(file)
    storage.remove_empty(uri)


def _remove_parents(item: WorkspaceItem, workspace: str) -> None:
    """Remove folders of the working folder that the item leaves empty (`deep/` of `deep/tiles`)."""
    uri = item.uri.removeprefix("sqlite:///")
    if not storage.is_local(uri):
        return
    root = Path(workspace).absolute()
    for folder in storage.local_path(uri).absolute().parents:
        if not folder.is_relative_to(root) or folder == root:
            return
        with suppress(OSError):
            folder.rmdir()


def _forget(workspace: str) -> None:
    """Remove from the ledger what is gone, and the ledger itself when nothing is left."""
    place = Path(workspace, LEDGER)
    left = [e for e in _entries(workspace) if _item(e) is not None]
    if left:
        text = "".join(json.dumps(e) + "\n" for e in left)
        storage.write_bytes(str(place), text.encode())
        return
    with suppress(OSError):
        place.unlink(missing_ok=True)
        place.parent.rmdir()
