"""Storage on real servers: Azure Blob (Azurite) through adlfs, S3 (rclone) through s3fs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

import services
from quadrat import geoparquet, servers, storage
from quadrat.errors import StorageError

KINDS = {"az": ("adlfs", services.azurite), "s3": ("s3fs", services.s3)}
SECRETS = (services.AZURE_KEY, services.S3_SECRET)


@pytest.fixture(scope="module", params=list(KINDS))
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A URI on a server with nothing below it."""
    library, start = KINDS[request.param]
    filesystem = pytest.importorskip(library, reason=f"{request.param}:// needs {library}")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "bucket").mkdir()
    with start(folder) as environ, pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        forget_sessions()
        if request.param == "az":
            filesystem.AzureBlobFileSystem().mkdir("bucket")
        yield f"{request.param}://bucket/data"
        forget_sessions()


def forget_sessions() -> None:
    """Drop connections that fsspec keeps: they belong to other variables."""
    import fsspec

    for scheme in KINDS:
        fsspec.get_filesystem_class(scheme).clear_instance_cache()


def test_bytes_come_back_and_are_replaced_whole(root: str) -> None:
    uri = storage.join(root, "a", "b.bin")
    assert not storage.exists(uri)
    first = os.urandom(3_000_000)
    storage.write_bytes(uri, first)
    assert storage.exists(uri)
    assert storage.size(uri) == len(first)
    assert storage.read_bytes(uri) == first
    stamp = storage.fingerprint(uri)
    storage.write_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"second"
    assert storage.fingerprint(uri) != stamp
    assert storage.digest_file(uri) == storage.digest_bytes(b"second")


def test_names_are_listed_sorted_and_fresh(root: str) -> None:
    folder = storage.join(root, "list")
    assert storage.list_names(folder) == []
    for name in ("b.parquet", "a.parquet", "c.json"):
        storage.write_bytes(storage.join(folder, name), b"x")
    assert storage.list_names(folder, ".parquet") == ["a.parquet", "b.parquet"]
    storage.remove(storage.join(folder, "a.parquet"))
    storage.remove(storage.join(folder, "a.parquet"))  # it is gone: nothing happens
    assert storage.list_names(folder, ".parquet") == ["b.parquet"]


def test_files_can_be_read_in_pieces(root: str) -> None:
    uri = storage.join(root, "pieces.bin")
    data = os.urandom(500_000)
    storage.write_bytes(uri, data)
    with storage.open_read(uri) as file:
        file.seek(123_456)
        assert file.read(1000) == data[123_456:124_456]
        file.seek(-10, 2)
        assert file.read() == data[-10:]


def test_a_table_goes_there_and_back(root: str) -> None:
    uri = storage.join(root, "table", "part-00000.parquet")
    table = pa.table({"row": pa.array(np.arange(5000), pa.int32()), "label": ["Forest"] * 5000})
    geoparquet.write_part(uri, table, None)
    assert geoparquet.count(uri) == 5000
    back = geoparquet.read_part(uri, ["row"])
    assert back["row"].to_pylist() == list(range(5000))


def test_a_failed_write_leaves_nothing(root: str) -> None:
    folder = storage.join(root, "failed")
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        storage.atomic_path(storage.join(folder, "x.bin")) as path,
    ):
        path.write_bytes(b"half")
        raise RuntimeError("in the middle")
    assert storage.list_names(folder) == []


def test_what_is_missing_is_named(root: str) -> None:
    uri = storage.join(root, "missing.bin")
    with pytest.raises(StorageError, match=r"missing\.bin does not exist"):
        storage.read_bytes(uri)
    with pytest.raises(StorageError, match=r"missing\.bin"):
        storage.open_read(uri).read()


def test_wrong_credentials_are_an_error_without_them(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "d3JvbmctYW5kLXNlY3JldA=="
    if root.startswith("az"):
        text = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING", text.replace(services.AZURE_KEY, wrong)
        )
    else:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    forget_sessions()
    try:
        for act in (storage.read_bytes, storage.exists, lambda u: storage.write_bytes(u, b"x")):
            with pytest.raises(StorageError) as caught:
                act(storage.join(root, "a", "b.bin"))
            text = str(caught.value)
            assert root in text
            assert "\n" not in text
            assert wrong not in text
            assert not any(secret in text for secret in SECRETS)
    finally:
        monkeypatch.undo()
        forget_sessions()


def test_two_writers_leave_one_whole_file(root: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    uri = storage.join(root, "raced.bin")
    contents = [bytes([i]) * 200_000 for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda data: storage.write_bytes(uri, data), contents))
    assert storage.read_bytes(uri) in contents


def test_a_read_that_fails_later_is_named_too(root: str) -> None:
    uri = storage.join(root, "soon-gone.bin")
    storage.write_bytes(uri, b"x" * 1000)
    with storage.open_read(uri) as file:
        storage.remove(uri)
        with pytest.raises(StorageError, match=r"soon-gone\.bin"):
            file.read()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "silent"])
def test_a_store_that_is_dead_is_named_within_seconds(
    kind: str, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(KINDS[kind][0], reason=f"{kind}:// needs {KINDS[kind][0]}")
    monkeypatch.setattr(servers, "PATIENCE_S", 0.4)
    with socket.socket() as place:  # bound: connections are refused until it listens
        place.bind(("127.0.0.1", 0))
        if silent:
            place.listen()
        address = f"http://127.0.0.1:{place.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", services.S3_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", services.S3_SECRET)
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"DefaultEndpointsProtocol=http;AccountName={services.AZURE_ACCOUNT};"
            f"AccountKey={services.AZURE_KEY};BlobEndpoint={address}/{services.AZURE_ACCOUNT};",
        )
        forget_sessions()
        for asked in (storage.exists, storage.read_bytes, storage.list_names):
            with pytest.raises(StorageError, match=f"the store {address}.* does not answer"):
                asked(f"{kind}://bucket/a/b.json")
    forget_sessions()
