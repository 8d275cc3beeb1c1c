"""Requests, signatures and downloads against servers that fail in every way that servers do."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fetch_server import Fault, FetchServer, serving
from quadrat.errors import FetchError, RasterError, StorageError
from quadrat.fetching import http
from quadrat.fetching.download import Wanted, download, download_one
from quadrat.fetching.http import Policy, retry_after
from quadrat.fetching.signing import Signer

QUICK = Policy(attempts=4, base_s=0.01, longest_s=0.05, connect_s=2, read_s=5)
SIZE = 3_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FetchServer]:
    """Servers with one file of noise, signed and unsigned."""
    path = tmp_path / "served.bin"
    path.write_bytes(np.random.default_rng(1).bytes(SIZE))
    with serving() as made:
        made.files["/naip/a.tif"] = made.files["/cog/a.tif"] = path
        yield made


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(waits: list[float]) -> Iterator[http.Client]:
    with http.Client(QUICK, sleep=waits.append) as made:
        yield made


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_too_many_requests_are_waited_for_as_long_as_asked(
    server: FetchServer, client: http.Client, waits: list[float]
) -> None:
    server.faults["/cog/a.tif"] = [Fault(429, {"Retry-After": "7"}), Fault(503)]
    assert client.head(server.url + "/cog/a.tif").length == SIZE
    assert waits[0] == 7.0 and 0 < waits[1] <= 0.05
    assert [r.status for r in server.requests] == [429, 503, 200]


def test_a_wait_may_be_asked_for_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert retry_after(email.utils.formatdate(1_000_090, usegmt=True)) == 90.0
    assert retry_after(email.utils.formatdate(999_000, usegmt=True)) == 0.0
    assert retry_after("soon") is None and retry_after(None) is None


def test_the_back_off_doubles_up_to_its_longest() -> None:
    with http.Client(Policy(base_s=1, longest_s=10)) as client:
        for attempt, longest in enumerate([1, 2, 4, 8, 10, 10], 1):
            waits = [client.wait(attempt) for _ in range(200)]
            assert longest / 2 <= min(waits) and max(waits) <= longest
            assert max(waits) - min(waits) > longest / 4, "spread at random"


def test_a_server_that_asks_for_an_hour_is_not_waited_for(
    server: FetchServer, client: http.Client, waits: list[float]
) -> None:
    server.faults["/cog/a.tif"] = [Fault(429, {"Retry-After": "3600"})]
    with pytest.raises(FetchError, match="asks to wait 60 minutes"):
        client.head(server.url + "/cog/a.tif")
    assert waits == []


def test_failures_are_given_up_in_the_end(server: FetchServer, client: http.Client) -> None:
    server.faults["/cog/a.tif"] = [Fault(500)] * 9
    with pytest.raises(FetchError, match=r"answered 500 .*4 times.*run the same command again"):
        client.head(server.url + "/cog/a.tif")
    assert len(server.requests) == 4


def test_what_is_final_is_not_tried_again(server: FetchServer, client: http.Client) -> None:
    with pytest.raises(FetchError, match="answered 404"):
        client.head(server.url + "/cog/none.tif")
    assert len(server.requests) == 1
    with pytest.raises(FetchError, match="no http:// or https:// address"):
        client.head("ftp://127.0.0.1/a.tif")


def test_a_server_that_is_not_there_or_hangs_up(server: FetchServer, client: http.Client) -> None:
    server.faults["/cog/a.tif"] = [Fault(close_at_once=True)] * 2
    assert client.head(server.url + "/cog/a.tif").length == SIZE
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(FetchError, match="cannot be reached, 4 times; check the network"):
        client.head(f"http://127.0.0.1:{port}/a.tif")


def test_a_download_that_is_cut_goes_on_where_it_was(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    cuts = (1_000_000, 400_000, 900_000)
    server.faults["/cog/a.tif"] = [Fault(cut=n) for n in cuts]
    out = tmp_path / "out" / "a.bin"
    download_one(client, Wanted(server.url + "/cog/a.tif", out))
    assert sha(out) == sha(server.files["/cog/a.tif"])
    assert sum(r.sent for r in server.requests) == SIZE, "no byte came twice"
    assert [r.range for r in server.requests] == [
        None, "bytes=1000000-", "bytes=1400000-", "bytes=2300000-"
    ]  # fmt: skip
    assert [p.name for p in out.parent.iterdir()] == ["a.bin"]


def test_a_file_that_changed_meanwhile_is_begun_anew(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    out = tmp_path / "a.bin"
    wanted = Wanted(server.url + "/cog/a.tif", out)
    server.faults["/cog/a.tif"] = [Fault(cut=1_000_000), Fault(404)]
    with pytest.raises(FetchError):
        download_one(client, wanted)
    assert wanted.part.stat().st_size == 1_000_000 and not out.exists()
    new = np.random.default_rng(2).bytes(SIZE - 5)
    server.files["/cog/a.tif"].write_bytes(new)
    download_one(client, wanted)
    assert out.read_bytes() == new
    assert server.requests[-1].headers["if-range"] and server.requests[-1].status == 200


def test_a_server_without_strong_tags_is_never_patched_together(
    server: FetchServer, client: http.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "etag", lambda path: 'W/"1"')
    server.faults["/cog/a.tif"] = [Fault(cut=1_000_000)]
    out = tmp_path / "a.bin"
    download_one(client, Wanted(server.url + "/cog/a.tif", out))
    assert sha(out) == sha(server.files["/cog/a.tif"])
    assert [r.range for r in server.requests] == [None, None]


def test_a_whole_part_is_not_asked_for_again(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    out = tmp_path / "a.bin"
    wanted = Wanted(server.url + "/cog/a.tif", out)

    def stop(_: int) -> None:
        raise KeyboardInterrupt  # between the last byte and the name

    with pytest.raises(KeyboardInterrupt):
        download_one(client, Wanted(wanted.href, out, before=stop))
    assert not out.exists()
    server.clear()
    download_one(client, wanted)
    assert server.requests == [] and sha(out) == sha(server.files["/cog/a.tif"])


def test_damaged_bytes_are_thrown_away(
    server: FetchServer, client: http.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    right, sums = server.md5("/cog/a.tif"), iter([wrong])
    monkeypatch.setattr(server, "md5", lambda path: next(sums, right))
    out = tmp_path / "a.bin"
    download_one(client, Wanted(server.url + "/cog/a.tif", out))
    assert sha(out) == sha(server.files["/cog/a.tif"]) and len(server.requests) == 2
    out.unlink()
    monkeypatch.setattr(server, "md5", lambda path: wrong)
    with pytest.raises(FetchError, match=r"damaged twice .*sum"):
        download_one(client, Wanted(server.url + "/cog/a.tif", out))
    assert not list(tmp_path.glob("a.bin*"))


def test_a_file_is_read_before_it_has_its_name(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    def refuse(path: Path) -> None:
        raise RasterError(f"{path.name} is damaged")

    out = tmp_path / "a.bin"
    with pytest.raises(FetchError, match="came damaged twice"):
        download_one(client, Wanted(server.url + "/cog/a.tif", out, check=refuse))
    assert not out.exists()


def test_a_file_of_another_length_than_announced_is_refused(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    with pytest.raises(FetchError, match="3,000,000 bytes where 2,999,999 were announced"):
        download_one(client, Wanted(server.url + "/cog/a.tif", tmp_path / "a.bin", SIZE - 1))


def test_one_file_that_fails_does_not_stop_the_others(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    wanted = [
        Wanted(server.url + "/cog/a.tif", tmp_path / "a.bin", SIZE),
        Wanted(server.url + "/cog/none.tif", tmp_path / "none.bin", 10),
    ]
    failures = download(client, wanted, on_progress=lambda d, t: seen.append((d, t)))
    assert [f.wanted.path.name for f in failures] == ["none.bin"]
    assert sha(tmp_path / "a.bin") == sha(server.files["/cog/a.tif"])
    assert seen[0] == (0, SIZE + 10) and max(seen)[0] == SIZE


def test_a_disk_without_room_is_said_before_anything_comes(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"2000000\.00 GB are to be fetched .* use --link"):
        download(client, [Wanted(server.url + "/cog/a.tif", tmp_path / "a.bin", 2 * 10**15)])
    assert server.requests == []


def test_an_unwritable_folder_is_said_in_one_line(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        download_one(client, Wanted(server.url + "/cog/a.tif", tmp_path / "file" / "a.bin"))


def test_a_signature_is_asked_for_once_and_used_for_all(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    signer = Signer(client, server.sas, "naip")
    wanted = [Wanted(server.url + "/naip/a.tif", tmp_path / f"{n}.bin") for n in range(5)]
    assert download(client, wanted, signer=signer) == []
    assert len(server.seen("/api/sas")) == 1 and server.refused_tokens == 0


def test_a_signature_near_its_end_is_renewed_before_it_is_used(
    server: FetchServer, client: http.Client
) -> None:
    server.token_s = 30.0  # less than the margin of a minute
    signer = Signer(client, server.sas, "naip")
    assert signer.sign(server.url + "/naip/a.tif") != signer.sign(server.url + "/naip/a.tif")
    assert len(server.seen("/api/sas")) == 2


def test_a_signature_that_expires_in_mid_run_is_renewed(
    server: FetchServer, client: http.Client, tmp_path: Path
) -> None:
    signer = Signer(client, server.sas, "naip")
    server.faults["/naip/a.tif"] = [Fault(cut=1_000_000)]
    signer.sign(server.url + "/naip/a.tif")
    for sig in server.tokens:
        server.tokens[sig] = time.time() + 0.05  # holds for the first request only
    server.bytes_per_s = 10_000_000
    out = tmp_path / "a.bin"
    download_one(client, Wanted(server.url + "/naip/a.tif", out), signer)
    assert sha(out) == sha(server.files["/naip/a.tif"])
    assert server.refused_tokens == 1 and len(server.tokens) == 2
    assert sum(r.sent for r in server.seen("/naip/") if r.status in (200, 206)) == SIZE


def test_a_refusal_that_renewing_does_not_cure_is_final(
    server: FetchServer, client: http.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "valid", lambda query: False)
    signer = Signer(client, server.sas, "naip")
    with pytest.raises(FetchError, match=r"answered 403; access is refused") as error:
        download_one(client, Wanted(server.url + "/naip/a.tif", tmp_path / "a.bin"), signer)
    assert server.refused_tokens == 3 and "sig=" not in str(error.value)


def test_signatures_go_to_their_own_hosts_only(server: FetchServer, client: http.Client) -> None:
    signer = Signer(client, server.sas, "naip")
    assert not signer.covers("https://example.org/a.tif")
    assert not signer.covers("https://blob.core.windows.net.example.org/a.tif")
    assert signer.covers("https://naipeuwest.blob.core.windows.net/naip/v002/a.tif")
    assert signer.sign("https://example.org/a.tif") == "https://example.org/a.tif"
    assert server.requests == [] and not Signer(client, None, "naip").covers(server.url + "/a")


def test_the_users_key_goes_to_the_planetary_computer_only(
    server: FetchServer, client: http.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planetary_computer.settings import Settings

    monkeypatch.setattr(Settings.get(), "subscription_key", "my-secret-key")
    Signer(client, server.sas, "naip").sign(server.url + "/naip/a.tif")
    assert "ocp-apim-subscription-key" not in server.requests[-1].headers
    monkeypatch.setattr(Settings.get(), "sas_url", server.sas)
    Signer(client, server.sas, "naip").sign(server.url + "/naip/a.tif")
    assert server.requests[-1].headers["ocp-apim-subscription-key"] == "my-secret-key"


def test_nothing_secret_is_in_logs_and_errors(
    server: FetchServer, client: http.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signer = Signer(client, server.sas, "naip")
    server.faults["/naip/a.tif"] = [Fault(500), Fault(cut=100_000), Fault(404)]
    with caplog.at_level(logging.DEBUG), pytest.raises(FetchError) as error:
        download_one(client, Wanted(server.url + "/naip/a.tif", tmp_path / "a.bin"), signer)
    secrets = list(server.tokens)
    assert secrets and "GET /naip/a.tif" in caplog.text
    notes = [p.read_text(errors="replace") for p in tmp_path.glob("a.bin*.json")]
    for text in (caplog.text, str(error.value), *notes):
        assert not any(s in text for s in secrets) and "se=2" not in text


def test_stopping_the_run_stops_every_download(server: FetchServer, tmp_path: Path) -> None:
    server.bytes_per_s = 300_000  # the whole would take ten seconds
    wanted = [Wanted(server.url + "/cog/a.tif", tmp_path / f"{n}.bin", SIZE) for n in range(3)]
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if threading.current_thread() is not threading.main_thread() and calls > 5:
            raise StorageError("the disk is full")

    start = time.monotonic()
    with http.Client(QUICK) as client, pytest.raises(StorageError, match="the disk is full"):
        download(client, wanted, on_progress=stop)
    assert time.monotonic() - start < 5
