"""Remote bytes are asked for where the source says and nowhere else, verified, and held to what they were."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.errors import ReadError, SourceError
from auditor.forge import forge
from auditor.sources import open_source
from auditor.sources.entry import Entry
from auditor.sources.http import connection, hosts, transport
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.sources.http.transport import Transport
from tests.servers import parts
from tests.servers.serving import Reply, Request, Server, folder_server, ranged
from tests.servers.tls import Listener, head_of


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(30 << 20)


@pytest.fixture
def folder(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "data.bin").write_bytes(content)
    return tmp_path / "files"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with folder_server(folder) as found:
        yield found


def test_read_gives_exactly_the_bytes_asked_for_and_asks_for_no_others(server, content):
    source = open_source(server.url, cache=False)
    file = source.open("data.bin")
    assert file.size == len(content)
    assert file.read(5_000_000, 5_000_100) == content[5_000_000:5_000_100]
    assert file.read(81_900, 82_000) == content[81_900:82_000]  # across the end of the first read
    asked = [request.headers["range"] for request in server.requests]
    assert asked == ["bytes=0-81919", "bytes=5000000-5000099", "bytes=81920-81999"]
    file.close()
    source.close()


def test_read_into_fills_the_buffer_in_order_and_reads_ahead(server, content):
    source = open_source(server.url, cache=False)
    file = source.open("data.bin")
    buffer, got = bytearray(3_000_000), b""
    for begin in range(0, len(content) - len(buffer), len(buffer)):
        file.read_into(begin, memoryview(buffer))
        got += buffer
    assert got == content[: len(got)]
    # Every byte is fetched once, but for the start that came with opening.
    spans = sorted(_span(request) for request in server.requests[1:])
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    file.read_into(7, memoryview(buffer)[:10])
    assert bytes(buffer[:10]) == content[7:17]
    with pytest.raises(ReadError, match=r"data\.bin: ends at byte"):
        file.read_into(len(content) - 5, memoryview(buffer))
    file.close()
    source.close()


def _span(request: Request) -> tuple[int, int]:
    begin, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(begin), int(last) + 1


def test_one_short_read_into_reads_nothing_ahead(server, content):
    source = open_source(server.url, cache=False)
    file = source.open("data.bin")
    buffer = bytearray(1000)
    file.read_into(10_000_000, memoryview(buffer))
    assert bytes(buffer) == content[10_000_000:10_001_000]
    time.sleep(0.1)
    assert [_span(request) for request in server.requests[1:]] == [(10_000_000, 10_001_000)]
    source.close()


def test_connections_that_the_server_closed_while_they_idled_cost_no_pause(folder, content):
    """However many of them there are, and however little time."""
    closed = []

    def answer(request: Request) -> Reply:
        return ranged(folder / "data.bin", request)

    with Server(answer) as server:
        fetcher = Transport(Guard(None, private=True), deadline=0.05)
        where = Located(f"{server.url}/data.bin", {})
        together = threading.Barrier(8)

        def one() -> None:
            together.wait()
            fetcher.fetch("data.bin", lambda _: where, 0, 1 << 20)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for idle in fetcher._idle.values():
            for each in idle:
                each.sock.shutdown(socket.SHUT_RDWR)
                closed.append(each)
        assert len(closed) > 3
        assert fetcher.fetch("data.bin", lambda _: where, 5, 10).data == content[5:10]
        fetcher.close()


def test_object_that_changes_between_two_reads_is_noticed(server, folder):
    source = open_source(server.url, cache=False)
    file = source.open("data.bin")
    assert file.read(1_000_000, 1_000_010)
    (folder / "data.bin").write_bytes(b"x" * file.size)
    with pytest.raises(ReadError, match=r"^data\.bin: changed while it was read$"):
        file.read(1_000_000, 1_000_010)
    assert server.requests[-1].headers["if-match"]
    source.close()


def test_change_is_noticed_where_the_server_ignores_if_match(folder):
    def answer(request: Request) -> Reply:
        request.headers.pop("if-match", None)
        return ranged(folder / "data.bin", request)

    with Server(answer) as server:
        source = open_source(server.url, cache=False)
        file = source.open("data.bin")
        (folder / "data.bin").write_bytes(b"x" * file.size)
        with pytest.raises(ReadError, match="changed while it was read"):
            file.read(1_000_000, 1_000_010)
        source.close()


def test_server_without_ranges_is_not_swallowed(folder):
    def answer(request: Request) -> Reply:
        del request.headers["range"]
        return ranged(folder / "data.bin", request)

    with Server(answer) as server:
        source = open_source(server.url, cache=False)
        begun = time.monotonic()
        with pytest.raises(ReadError, match=r"data\.bin: the server ignores ranges and sends the whole file of 31,4"):
            source.open("data.bin")
        assert time.monotonic() - begun < 5
        source.close()


def test_small_whole_file_is_as_good_as_a_range(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with Server(lambda _: Reply(200, b"{}")) as server:
        source = open_source(server.url, cache=False)
        assert source.open("config.json").read(0, 2) == b"{}"
        source.close()


def test_empty_file_is_a_file():
    with Server(lambda _: Reply(416, b"", {"Content-Range": "bytes */0"})) as server:
        source = open_source(server.url, cache=False)
        assert source.entry("x") == Entry("file", 0)
        source.close()


def test_redirect_within_the_host_is_followed_with_credentials(folder):
    def answer(request: Request) -> Reply:
        if request.target.path.startswith("/old"):
            return Reply(301, b"moved", {"Location": "/new/data.bin?key=1"})
        return ranged(folder / "data.bin", request)

    with Server(answer) as server:
        source = open_source(f"http://me:pw@127.0.0.1:{server.port}/old/", cache=False)
        assert len(source.open("data.bin").read(0, 10)) == 10
        assert [r.headers["authorization"] for r in server.requests] == ["Basic bWU6cHc="] * 2
        source.close()


def test_redirects_that_never_end_are_given_up():
    with Server(lambda _: Reply(302, b"", {"Location": "/again"})) as server:
        source = open_source(server.url, cache=False)
        with pytest.raises(ReadError, match="x: redirected more than 5 times"):
            source.open("x")
        source.close()


@pytest.mark.parametrize("target", ["http://192.0.2.7/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "//127.0.0.3/x"])
def test_redirect_that_leads_elsewhere_is_refused(target):
    with Server(lambda _: Reply(302, b"", {"Location": target})) as server:
        source = open_source(server.url, cache=False)
        with pytest.raises(ReadError, match="x: redirected to "):
            source.open("x")
        source.close()


def test_retry_after_is_honoured(monkeypatch, folder):
    answers = [Reply(429, b"", {"Retry-After": "1"}), Reply(503, b"", {"Retry-After": _http_date(1.5)})]
    times: list[float] = []

    def answer(request: Request) -> Reply:
        times.append(time.monotonic())
        return answers.pop(0) if answers else ranged(folder / "data.bin", request)

    with Server(answer) as server:
        source = open_source(server.url, cache=False)
        assert source.open("data.bin").size
        assert times[1] - times[0] >= 1.0
        source.close()


def _http_date(seconds: float) -> str:
    from email.utils import formatdate

    return formatdate(time.time() + seconds, usegmt=True)


def test_all_readers_pause_where_the_server_asks_for_it(folder):
    lock, refused = threading.Lock(), []
    times: list[float] = []

    def answer(request: Request) -> Reply:
        with lock:
            times.append(time.monotonic())
            if not refused:
                refused.append(time.monotonic())
                return Reply(429, b"", {"Retry-After": "1"})
        return ranged(folder / "data.bin", request)

    with Server(answer) as server:
        source = open_source(server.url, cache=False)
        first = threading.Thread(target=source.open, args=("first",))
        first.start()
        while not refused:
            time.sleep(0.01)
        time.sleep(0.1)
        source.open("second")
        first.join()
        early = [each for each in times if 0.05 < each - refused[0] < 0.95]
        assert early == []
        assert len(times) == 3
        source.close()


def test_hosts_that_are_not_allowed_are_not_asked(server):
    with pytest.raises(SourceError, match=r"127\.0\.0\.1: not on the list of allowed hosts"):
        open_source(server.url, cache=False, hosts=frozenset({"huggingface.co"}))
    assert open_source(server.url, cache=False, hosts=frozenset({"127.0.0.1"})).entry("data.bin").kind == "file"


def test_private_addresses_can_be_refused(server):
    source = open_source(server.url, cache=False, private=False)
    with pytest.raises(ReadError, match="leads to a private address"):
        source.open("data.bin")
    assert server.requests == []
    source.close()


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "::1", "fd00::1", "0.0.0.0", "::",
        "100.64.0.1", "100.127.255.254", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "198.18.0.1",
        "fe80::1", "fe80::1%lo", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1", "::10.0.0.1",
        "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "2002:a00:1::1", "2001:0:4136:e378::f5ff:fffe",
        "2130706433", "0x7f.1", "017700000001", "127.1", "localhost",
    ],
)  # fmt: skip
def test_guard_knows_private_addresses(address):
    with pytest.raises(SourceError, match="private address"):
        Guard(private=False).addresses(address, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_guard_knows_public_addresses(address):
    assert Guard(private=False).addresses(address, 443)


def test_one_private_address_of_a_name_refuses_them_all(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in ("8.8.8.8", "10.0.0.1", "9.9.9.9")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(SourceError, match=r"mixed\.example: leads to a private address"):
        Guard(private=False).addresses("mixed.example", 443)


def test_where_a_redirect_leads_is_judged_by_its_address_too(monkeypatch, server):
    monkeypatch.setattr(hosts, "is_public", lambda address: address == "127.0.0.2")  # for want of a public one here
    headers = {"Location": f"{server.url}/data.bin"}
    with Server(lambda _: Reply(302, b"", headers), "127.0.0.2") as public:
        reader = Transport(Guard(private=False), abroad=True)
        with pytest.raises(ReadError, match=r"127\.0\.0\.1: leads to a private address") as raised:
            reader.fetch("x", lambda _: Located(f"{public.url}/x", {}), 0, 1)
        assert raised.value.code == "not_allowed"
        assert (len(public.requests), server.requests) == (1, [])
        with pytest.raises(ReadError, match=r"redirected to 127\.0\.0\.1: not on the list of allowed hosts"):
            Transport(Guard(frozenset({"127.0.0.2"})), abroad=True).fetch(
                "x", lambda _: Located(f"{public.url}/x", {}), 0, 1
            )
        reader.close()
        assert server.requests == []


def test_a_proxy_of_the_environment_is_no_way_around_the_guard(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    proxy, asked = _proxy_to(1)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
    with pytest.raises(ReadError, match=r"10\.0\.0\.1: leads to a private address"):
        Transport(Guard(private=False)).fetch("x", lambda _: Located("https://10.0.0.1/x", {}), 0, 1)
    assert asked == []


def test_hosts_are_known_in_any_case(server):
    guard = Guard(frozenset({"Example.COM"}))
    assert guard.admit("https://EXAMPLE.com/x").hostname == "example.com"


def test_an_audit_hands_the_guards_on(server, tmp_path):
    with pytest.raises(SourceError, match=r"127\.0\.0\.1: not on the list of allowed hosts") as raised:
        audit(server.url, cache=False, hosts=["huggingface.co"])
    assert raised.value.code == "not_allowed"
    report = audit(server.url, cache=False, hosts=["127.0.0.1"], private=False)
    assert set(report.incomplete_codes) == {"not_allowed"}
    assert server.requests == []


def test_guard_judges_the_address_that_is_connected_to(monkeypatch):
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers[0])  # a name server of the attacker's
    reader = Transport(Guard(private=False))
    with pytest.raises(ReadError, match=r"rebound\.example: leads to a private address"):
        reader.fetch("x", lambda _: Located("https://rebound.example/x", {}), 0, 1)


def test_https_is_verified(certificate, monkeypatch, capfd, tmp_path):
    forge(tmp_path / "root" / "model", like="tiny", sparse=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with parts.nginx(tmp_path / "root", tmp_path / "nginx", certificate=certificate) as port:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        assert cli.main(["audit", f"https://localhost:{port}/model", "--quiet"]) == 3
        text = "".join(capfd.readouterr())
        assert "the server's certificate is not trusted: self-signed certificate" in text
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert cli.main(["audit", f"https://localhost:{port}/model", "--quiet"]) == 0
        assert cli.main(["audit", f"https://127.0.0.1:{port}/model", "--quiet"]) == 0
        # Signed by a trusted one, but for another name.
        assert cli.main(["audit", f"https://127.0.0.2:{port}/model", "--quiet"]) == 3


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("there", [False, True], ids=["absent", "no certificate"])
@pytest.mark.parametrize("more", [[], ["--depth", "full"]], ids=["headers", "full"])
def test_authorities_that_cannot_be_read_are_told_with_their_variable(
    variable, there, more, folder, monkeypatch, capfd, tmp_path
):
    named = tmp_path / "authorities.pem"
    if there:
        named.write_text("no certificate\n")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(named))
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:  # it takes connections, and that is all
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/model"
        assert cli.main(["audit", url, "--quiet", *more]) == 3
    out, err = capfd.readouterr()
    assert f"{variable}={named}: no certificates can be read: " in out
    assert err == ""


def _proxy_to(port: int) -> tuple[int, list[bytes]]:
    """A proxy that connects wherever it is told to one port of this machine; its port and what it was asked."""
    listener, asked = socket.create_server(("127.0.0.1", 0)), []

    def pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.close()

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1 << 16)
            asked.append(head)
            upstream = socket.create_connection(("127.0.0.1", port))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], asked


def test_proxy_of_the_environment_is_gone_through(certificate, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with parts.nginx(folder, tmp_path / "nginx", certificate=certificate) as port:
        proxy, asked = _proxy_to(port)
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pw@127.0.0.1:{proxy}")
        source = open_source("https://models.test:8443/", cache=False)
        assert len(source.open("data.bin").read(0, 10)) == 10
        assert asked[0].startswith(b"CONNECT models.test:8443 HTTP/1.")
        assert b"Proxy-Authorization: Basic bWU6cHc=\r\n" in asked[0]
        monkeypatch.setenv("NO_PROXY", "models.test")
        with pytest.raises(ReadError, match=r"models\.test: no such host|cannot be resolved"):
            open_source("https://models.test:8443/", cache=False).open("data.bin")
        assert len(asked) == 1
        source.close()


def test_proxy_that_refuses_is_said_to(monkeypatch):
    def refuse(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with Listener(refuse) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url.replace("https", "http"))
        source = open_source("https://models.test/", cache=False)
        with pytest.raises(ReadError, match=r"^x: the proxy that the environment names answers HTTP 407$"):
            source.open("x")
        source.close()


def test_netrc_opens_its_host_alone(folder, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with folder_server(folder) as server, Server(lambda r: ranged(folder / "data.bin", r), "127.0.0.2") as other:
        for each in (server, other):
            open_source(each.url, cache=False).entry("data.bin")
        assert server.requests[0].headers["authorization"] == "Basic bWU6cHc="
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize("path", ["a b", "ä", "a%2Fb", "a?b", "a#b"])
def test_names_are_quoted_in_addresses(path, tmp_path):
    (tmp_path / path).write_bytes(b"x")
    from urllib.parse import unquote

    with Server(lambda r: ranged(tmp_path / unquote(r.target.path).lstrip("/"), r)) as server:
        assert open_source(server.url, cache=False).entry(path) == Entry("file", 1, etag=_etag(tmp_path / path))


def _etag(path: Path) -> str:
    from tests.servers.serving import etag_of

    return etag_of(path)


def test_address_cannot_add_a_header(monkeypatch):
    with Server(lambda _: Reply(404)) as server:
        reader = Transport(Guard())
        with pytest.raises(ReadError, match="cannot be sent"):
            reader.fetch("x", lambda _: Located(f"{server.url}/x y", {}), 0, 1)
        with pytest.raises(ReadError, match="cannot be sent"):
            reader.fetch("x", lambda _: Located(f"{server.url}/x", {"A": "b\r\nC: d"}), 0, 1)
        assert server.requests == []


def test_answer_that_trickles_is_given_up(monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    monkeypatch.setattr(connection, "_SLOWEST", 1 << 20)
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        while True:
            client, _ = listener.accept()
            try:
                client.sendall(b"HTTP/1.1 206 OK\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/1000\r\n\r\n")
                while True:
                    client.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                pass

    threading.Thread(target=trickle, daemon=True).start()
    source = open_source(f"http://127.0.0.1:{listener.getsockname()[1]}/", cache=False)
    begun = time.monotonic()
    with pytest.raises(ReadError, match="x: no answer in time"):
        source.open("x")
    assert time.monotonic() - begun < 10
    source.close()


def test_deadline_is_the_end_of_every_retry(monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    with Server(lambda _: Reply(500)) as server:
        source = open_source(server.url, cache=False)
        begun = time.monotonic()
        with pytest.raises(
            ReadError, match=r"x: the server answers HTTP 500, \d+ times; given up, the deadline is 1 s"
        ):
            source.open("x")
        assert time.monotonic() - begun < 3
        assert len(server.requests) > 2
        source.close()


def test_a_server_that_does_not_answer_is_not_a_checkpoint_without_shards(capfd):
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        assert cli.main(["audit", f"http://127.0.0.1:{taken.getsockname()[1]}/m", "--no-cache"]) == 3
    out, _ = capfd.readouterr()
    assert "not audited: model.safetensors.index.json: the connection failed" in out
    assert "no-shards" not in out
