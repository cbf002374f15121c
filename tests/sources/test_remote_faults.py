"""What networks and servers do to a read: it is mended or said in one line, and never becomes half a verdict."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from auditor import cli
from auditor.errors import ReadError
from auditor.forge import forge
from auditor.sources.http import transport
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from tests.places import KINDS, Place, audited, place
from tests.servers.endless import Endless, drip
from tests.servers.proxy import Fault
from tests.servers.serving import Reply, Request, Server, ranged

SHARDS = r"\.safetensors(\?|$)"
SHARD_NAME = re.compile(r"model-\d+-of-\d+\.safetensors")
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"

# Each fault on all reads of shards: what has to be said of it. gs reads through obstore, which words some for itself.
LASTING = {
    "reset": (Fault("reset", when=SHARDS), "the connection (failed|was closed)"),
    "truncated answers": (Fault("truncate", when=SHARDS), "the answer ended|the connection was closed"),
    "429 without end": (Fault("status", "429", when=SHARDS), "HTTP 429"),
    "429 asking for a long pause": (Fault("status", "429 3600", when=SHARDS), "HTTP 429.*; given up"),
    "500 without end": (Fault("status", "500", when=SHARDS), "HTTP 500"),
    "503 without end": (Fault("status", "503", when=SHARDS), "HTTP 503"),
    "401": (Fault("status", "401", when=SHARDS), "(credentials are needed|not accepted|access is denied).*HTTP 401"),
    "403": (Fault("status", "403", when=SHARDS), "access is denied.*HTTP 403"),
    "404 of a listed file": (Fault("status", "404", when=SHARDS), "was listed and is not there any more"),
    "expired signature": (Fault("status", "403", when=SHARDS, body=EXPIRED), "(has expired|access is denied)"),
    "ignored ranges": (Fault("ignore_range", when=SHARDS), "ignores ranges and sends the whole file"),
    "wrong length": (Fault("wrong_length", when=SHARDS), "where .* were asked|its range|cannot be used|ended after"),
    "another object than listed": (Fault("etag", when=SHARDS), "changed while it was read"),
}
# The code of each; the one of gs, where obstore reads, may be another.
CODES = {
    "429 without end": "throttled",
    "429 asking for a long pause": "throttled",
    "401": "unauthorized",
    "403": "forbidden",
    "404 of a listed file": "changed",
    "expired signature": "forbidden",
    "ignored ranges": "unusable",
    "wrong length": "unusable",
    "another object than listed": "changed",
}
# gs: obstore follows redirects itself; elsewhere they are judged here.
THROUGH_OBSTORE = {"reset": "cannot be reached", "truncated answers": "cannot be (used|reached)"}
# Kinds that cannot show a fault: without a listing nothing was listed, and the hub's names are no ETags of its storage.
CANNOT = {("404 of a listed file", "web"), ("another object than listed", "web"), ("another object than listed", "hub")}
MENDED = {
    "latency": Fault("latency", "0.2", when=SHARDS),
    "a reset": Fault("reset", times=2),
    "a truncated answer": Fault("truncate", times=2, when=SHARDS),
    "429 with Retry-After": Fault("status", "429 1", times=2),
    "a 500": Fault("status", "500", times=2),
    "a 503": Fault("status", "503", times=2),
}


@pytest.fixture(scope="module", params=KINDS)
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    work = tmp_path_factory.mktemp(request.param)
    forge(work / "checkpoint", like="tiny", sparse=True)
    # Ranges must be shorter than the files, or a whole answer would be what was asked for.
    for shard in (work / "checkpoint").glob("*.safetensors"):
        assert shard.stat().st_size > 80 << 10
    with place(request.param, work / "place") as found:
        found.put(work / "checkpoint")
        yield found


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DEADLINE_S", 0.5)


@pytest.mark.parametrize("fault", LASTING)
def test_lasting_fault_is_incomplete_in_one_line_that_names_the_file(fault, there, monkeypatch, capfd):
    if (fault, there.kind) in CANNOT:
        pytest.skip(f"{there.kind} cannot show it")
    there.hear(monkeypatch)
    what, words = LASTING[fault]
    there.faults.append(Fault(what.kind, what.value, what.times, what.when, what.body))
    code, text, report = audited(there, capfd, "--no-cache")
    assert code == 3, text
    assert report is not None
    assert report["verdict"] == "incomplete"
    wanted = words if there.kind != "gs" else f"{words}|{THROUGH_OBSTORE.get(fault, 'HTTP|another host|given up')}"
    shards = [line for line in report["incomplete"] if line.startswith("model-")]
    codes = {
        code for line, code in zip(report["incomplete"], report["incomplete_codes"], strict=True) if line in shards
    }
    assert codes == {CODES.get(fault, "unreachable")} or there.kind == "gs", codes
    assert len(shards) == report["inventory"]["shards"] > 0
    for line in shards:
        assert re.match(rf"model-\d+-of-\d+\.safetensors: .*({wanted})", line), line
        assert "\n" not in line


@pytest.mark.parametrize("fault", MENDED)
def test_passing_fault_is_mended(fault, there, monkeypatch, capfd):
    there.hear(monkeypatch)
    monkeypatch.setattr(transport, "DEADLINE_S", 20.0)
    what = MENDED[fault]
    there.faults.append(Fault(what.kind, what.value, what.times, what.when, what.body))
    code, text, _ = audited(there, capfd, "--no-cache")
    assert code == 0, text


@pytest.mark.parametrize("status", ["401", "403", "500", "404"])
def test_refused_listing_is_one_line_and_exit_3(status, there, monkeypatch, capfd):
    if not there.lists:
        pytest.skip("nothing is listed")
    there.hear(monkeypatch)
    there.faults.append(Fault("status", status, when=r"list|/api/models/|prefix="))
    code, text, report = audited(there, capfd, "--no-cache")
    assert (code, report) == (3, None)
    assert text.count("\n") == 1
    assert text.startswith(f"auditor: {there.uri.partition('?')[0]}: ")


def test_redirect_to_another_host_is_not_followed(there, monkeypatch, capfd):
    if there.kind in ("hub", "gs"):
        pytest.skip("the hub's storage is elsewhere; a token that obstore keeps is obstore's to send")
    there.hear(monkeypatch)
    with Server(lambda _: Reply(200, b"taken")) as elsewhere:
        there.faults.append(Fault("redirect", f"{elsewhere.url}/stolen", when=SHARDS))
        code, text, _ = audited(there, capfd, "--no-cache")
        assert code == 3
        assert "redirected to another host" in text
        assert elsewhere.requests == []


def test_storage_of_the_hub_gets_no_credentials(monkeypatch, capfd, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    with place("hub", tmp_path / "hub") as there, Server(lambda _: Reply(404)) as elsewhere:
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        there.faults.append(Fault("redirect", f"{elsewhere.url}/stored?X-Amz-Signature=a", when=SHARDS))
        assert audited(there, capfd, "--no-cache")[0] == 3
        assert len(elsewhere.requests) > 0
        for request in elsewhere.requests:
            assert {"authorization", "cookie", "referer"} & set(request.headers) == set()


def test_gated_repository_is_said_to_be_gated(monkeypatch, capfd, tmp_path):
    from tests.servers.hub import Hub

    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    hub = Hub("org/model", tmp_path / "checkpoint", gated=True)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    code, text, _ = audited(Place("hub", "hf://org/model", {}, [], lambda _: None, list), capfd, "--no-cache")
    assert code == 3
    assert "config.json: access to this gated repository has not been granted" in text
    hub.close()


def test_wrong_token_is_said_in_one_line(monkeypatch, capfd, tmp_path):
    from tests.servers.hub import Hub

    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    hub = Hub("org/model", tmp_path / "checkpoint", token="hf_right")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_SECRETMARK")
    code, text, report = audited(Place("hub", "hf://org/model", {}, [], lambda _: None, list), capfd, "--no-cache")
    assert (code, report) == (3, None)
    assert text == (
        "auditor: hf://org/model: no such repository, "
        "or it is private and the token in use does not open it (HTTP 401)\n"
    )
    hub.close()


def test_signature_of_the_storage_that_expired_is_renewed(monkeypatch, capfd, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    with place("hub", tmp_path / "hub") as there:
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        there.faults.append(Fault("status", "403", 1, r"Signature=", EXPIRED))
        # The hub is asked again and sends to storage once more: a new address is as good as the first was.
        code, text, _ = audited(there, capfd, "--no-cache")
        assert code == 0, text
        resolved = [target for target in there.targets() if "/resolve/" in target and SHARD_NAME.search(target)]
        assert len(resolved) == 6  # five shards, one of them again


def test_server_that_is_not_there_is_said_quickly(capfd):
    from tests.servers.parts import free_port

    place = Place("", f"http://127.0.0.1:{free_port()}/model", {}, [], lambda _: None, list)
    code, text, _ = audited(place, capfd, "--no-cache")
    assert code == 3
    assert "Connection refused" in text


# --- what a plain web server may do ---


@pytest.fixture
def tiny(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny")
    return tmp_path / "checkpoint"


def web(url: str) -> Place:
    return Place("web", url, {}, [], lambda _: None, list, lists=False)


def unnamed(reply: Reply) -> Reply:
    """Without what names a version."""
    for name in ("ETag", "Last-Modified"):
        reply.headers.pop(name, None)
    return reply


@pytest.mark.parametrize("begin", ["<!DOCTYPE html><html>", "\ufeff\n<html lang=en>", "<!-- sign in -->\n<html>"])
def test_a_sign_in_page_for_every_file_is_no_checkpoint(begin, capfd):
    body = f"{begin}<form action=/login>".encode()
    headers = {"Content-Type": "text/html; charset=utf-8", "ETag": '"a"'}
    with Server(lambda _: Reply(200, body, headers)) as server:
        code, text, report = audited(web(server.url), capfd, "--no-cache")
        assert code == 3, text
        assert report is not None
        assert "config.json: the server answers with a page (text/html), not with the file" in report["incomplete"]
        assert {each["slug"] for each in report["findings"]} == {"unread-file"}, text


def test_an_answer_that_was_not_asked_for_is_said_with_the_file(tiny, capfd):
    def answer(request: Request) -> Reply:
        path = tiny / request.target.path.lstrip("/")
        return Reply(304) if path.suffix == ".safetensors" else ranged(path, request)

    with Server(answer) as server:
        code, text, report = audited(web(server.url), capfd, "--no-cache")
        assert code == 3
        assert report is not None
        told = [each for each in report["incomplete"] if SHARD_NAME.match(each)]
        assert len(told) == 5
        assert all(each.endswith(": the server answers HTTP 304") for each in told), text


def test_a_body_that_drips_ends_with_the_deadline(capfd, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    head = b"HTTP/1.1 206 OK\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/1000\r\n\r\n"
    with Endless(drip(b" " * 1000), head) as server:
        begun = time.monotonic()
        code, text, _ = audited(web(server.url), capfd, "--no-cache")
        assert code == 3
        assert "config.json: no answer in time; given up, the deadline is 1 s" in text
        assert time.monotonic() - begun < 6


def test_a_large_answer_earns_its_time_and_one_that_drips_does_not(monkeypatch):
    """However much was asked for: what has come counts, not what was to come."""
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    head = b"HTTP/1.1 206 OK\r\nContent-Length: 16777216\r\nContent-Range: bytes 0-16777215/16777216\r\n\r\n"
    with Endless(drip(b"x" * 1000), head) as server:
        reader = transport.Transport(Guard())
        begun = time.monotonic()
        with pytest.raises(ReadError, match="x: no answer in time"):
            reader.fetch("x", lambda _: Located(f"{server.url}/x", {}), 0, 16 << 20)
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("named", [True, False], ids=["with Last-Modified", "without a version"])
def test_a_file_swapped_for_one_of_equal_size_is_noticed_though_no_etag_tells(named, tiny, capfd, tmp_path):
    """While its content is read: another header at least, or another Last-Modified."""
    victim = sorted(tiny.glob("*.safetensors"))[2]
    raw = victim.read_bytes()
    other = raw.replace(b'"dtype"', b'"dtypf"', 1) if not named else raw[:-1] + bytes([raw[-1] ^ 1])
    asked: list[str] = []

    def answer(request: Request) -> Reply:
        path = tiny / request.target.path.lstrip("/")
        late = False
        if path == victim:
            asked.append(request.headers.get("range", ""))
            late = len(asked) > 2  # its header twice, and then its content
        if late:
            victim.write_bytes(other)
        reply = ranged(path, request)
        reply.headers.pop("ETag", None)
        if not named:
            return unnamed(reply)
        reply.headers["Last-Modified"] = f"Tue, 24 Nov 2026 06:00:0{int(late)} GMT"
        return reply

    with Server(answer) as server:
        code, text, report = audited(web(server.url), capfd, "--no-cache", "--depth", "full", "--jobs", "1")
    assert code == 3, text
    assert report is not None
    assert [each for each in report["incomplete"] if each.startswith(victim.name) and "changed" in each], text
    assert report["source"]["versioned"] is named


def test_a_source_that_names_no_version_is_said_to_name_none(tiny, capfd):
    with Server(lambda request: unnamed(ranged(tiny / request.target.path.lstrip("/"), request))) as server:
        assert cli.main(["audit", server.url, "--no-cache"]) == 0
        assert "names no version of its files" in capfd.readouterr().out
        code, _, report = audited(web(server.url), capfd, "--no-cache", "--depth", "full")
        assert code == 0
        assert report is not None
        assert (report["source"]["versioned"], report["incomplete"]) == (False, [])
    with Server(lambda request: ranged(tiny / request.target.path.lstrip("/"), request)) as server:
        report = audited(web(server.url), capfd, "--no-cache")[2]
        assert report is not None
        assert report["source"]["versioned"] is True
