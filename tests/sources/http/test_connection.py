"""What comes over TLS is what was asked for; what goes wrong is mended or explained, within the deadline."""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auditor.errors import ReadError
from auditor.sources import Source, open_source
from auditor.sources.http import transport
from auditor.sources.http.answer import Answer
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.sources.http.transport import Transport
from tests.servers.tls import Listener, first_flight, head_of, server_side, until_gone

Serve = Callable[[socket.socket], None]

DATA = os.urandom(1 << 20)
RANGE = re.compile(rb"\r\nRange: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)
NAMES = [f"model-{number:05}.safetensors" for number in range(8)]


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's side of a certificate that is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return server_side(certificate)


def answer_to(head: bytes) -> bytes:
    """A range of DATA, as a server answers with it."""
    found = RANGE.search(head)
    assert found is not None
    begin, end = int(found[1]), int(found[2]) + 1
    body = DATA[begin:end]
    lines = (
        "HTTP/1.1 206 Partial Content",
        f"Content-Range: bytes {begin}-{begin + len(body) - 1}/{len(DATA)}",
        f"Content-Length: {len(body)}",
        'ETag: "a"',
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


def serving(context: ssl.SSLContext) -> Serve:
    """Answers every request of a connection."""

    def serve(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as connection:
            while head := head_of(connection):
                connection.sendall(answer_to(head))

    return serve


def fetched(reader: Transport, url: str, spans: list[tuple[int, int]]) -> list[Answer]:
    """Ranges that are asked for all at once, in their order."""
    with ThreadPoolExecutor(len(spans)) as pool:
        return list(pool.map(lambda span: reader.fetch("x", lambda _: Located(f"{url}/x", {}), *span), spans))


@pytest.fixture
def reader() -> Iterator[Transport]:
    found = Transport(Guard())
    yield found
    found.close()


def test_ranges_come_whole_over_tls_and_connections_are_used_again(trusted, reader):
    """Ranges within a TLS record, of many, and longer than what is received at once."""
    spans = [(0, 1), (5, 20_000), (100, 400_000), (7, len(DATA)), (len(DATA) - 3, len(DATA))] * 4
    with Listener(serving(trusted)) as server:
        for _ in range(3):
            answers = fetched(reader, server.url, spans)
            assert [each.data for each in answers] == [DATA[begin:end] for begin, end in spans]
            assert {(each.size, each.etag) for each in answers} == {(len(DATA), '"a"')}
        assert server.accepted <= len(spans)


def test_connection_that_was_closed_while_it_idled_costs_no_pause(trusted, reader, monkeypatch):
    monkeypatch.setattr(transport, "_BACKOFF_S", 60.0)

    def once(plain: socket.socket) -> None:
        with trusted.wrap_socket(plain, server_side=True) as connection:
            connection.sendall(answer_to(head_of(connection)))

    begun = time.monotonic()
    with Listener(once) as server:
        for _ in range(3):
            assert fetched(reader, server.url, [(0, 1000)])[0].data == DATA[:1000]
            time.sleep(0.1)
        assert server.accepted == 3
    assert time.monotonic() - begun < 4  # half of the longest pause


def test_connections_are_opened_before_they_are_needed_once_and_used(trusted):
    with Listener(serving(trusted)) as server:
        source = open_source(server.url, cache=False)
        for _ in range(2):
            source.warm(4)
        until = time.monotonic() + 10
        while server.accepted < 4 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)
        source.ahead(NAMES, lambda *_: 0)
        assert sorted(source.arriving(None)) == NAMES
        assert server.accepted == 4
        source.close()


def ahead(url: str) -> Source:
    """A source whose files have been asked for at once, with whatever came of it."""
    source = open_source(url, cache=False)
    source.ahead(NAMES, lambda *_: 0)
    assert sorted(source.arriving(None)) == NAMES
    return source


@pytest.mark.parametrize(
    ("host", "trust", "reason"),
    [
        ("127.0.0.1", False, "self-signed certificate"),
        ("127.0.0.2", True, "IP address mismatch, certificate is not valid for '127.0.0.2'."),
    ],
    ids=["signed by nobody known", "another host's"],
)
def test_certificate_that_is_not_trusted_is_told_with_its_host(host, trust, reason, certificate, monkeypatch):
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if trust:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    requests = []

    def serve(plain: socket.socket) -> None:
        with server_side(certificate).wrap_socket(plain, server_side=True) as connection:
            requests.append(head_of(connection))

    with Listener(serve, host) as server:
        source = ahead(server.url)
        for name in NAMES:
            with pytest.raises(ReadError) as told:
                source.open(name)
            assert str(told.value) == f"{name}: {host}: the server's certificate is not trusted: {reason}"
        assert server.accepted == len(NAMES)
        assert not any(requests)
        source.close()


def _with_a_word(connection: ssl.SSLSocket) -> None:
    connection.settimeout(5)
    connection.unwrap()


def _without_a_word(connection: ssl.SSLSocket) -> None:
    socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _reset(connection: ssl.SSLSocket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


ENDINGS = {"with a word": _with_a_word, "without a word": _without_a_word, "reset": _reset}


def cutting(context: ssl.SSLContext, end: Callable[[ssl.SSLSocket], None], times: int) -> Serve:
    """Ends so many connections in the middle of a body, and answers on all others."""
    left = iter(range(times))

    def serve(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as connection:
            while head := head_of(connection):
                answer = answer_to(head)
                if next(left, None) is not None:
                    connection.sendall(answer[: len(answer) // 2])
                    end(connection)
                    return
                connection.sendall(answer)

    return serve


@pytest.mark.parametrize("ending", ENDINGS)
def test_connection_that_ends_in_the_middle_of_a_body_is_mended(ending, trusted):
    with Listener(cutting(trusted, ENDINGS[ending], len(NAMES))) as server:
        source = ahead(server.url)
        for name in NAMES:
            assert source.open(name).read(0, 80 << 10) == DATA[: 80 << 10]
        source.close()


@pytest.mark.parametrize("ending", ENDINGS)
def test_connections_that_always_end_in_the_middle_of_a_body_are_given_up(ending, trusted, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 0.5)
    with Listener(cutting(trusted, ENDINGS[ending], 1_000_000)) as server:
        source = ahead(server.url)
        words = "the answer ended early|the connection failed: Connection reset by peer"
        with pytest.raises(ReadError, match=rf"^{NAMES[0]}: .*({words}).*; given up, the deadline is 0\.5 s$"):
            source.open(NAMES[0])
        source.close()


def _silent(plain: socket.socket, _: ssl.SSLContext) -> None:
    until_gone(plain)


def _half(plain: socket.socket, context: ssl.SSLContext) -> None:
    flight = first_flight(plain, context)
    plain.sendall(flight[: len(flight) // 2])
    until_gone(plain)


def _trickling(plain: socket.socket, context: ssl.SSLContext) -> None:
    for byte in first_flight(plain, context):
        plain.sendall(bytes([byte]))
        time.sleep(0.05)


STALLS = {"silent": _silent, "silent half way": _half, "a byte at a time": _trickling}


@pytest.mark.parametrize("stall", STALLS)
def test_handshake_that_stalls_is_ended_by_the_deadline(stall, trusted, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 0.5)
    with Listener(lambda plain: STALLS[stall](plain, trusted)) as server:
        begun = time.monotonic()
        source = ahead(server.url)
        for name in NAMES:
            with pytest.raises(ReadError, match=rf"^{name}: no answer in time; given up, the deadline is 0\.5 s$"):
                source.open(name)
        assert time.monotonic() - begun < 5
        assert server.accepted == len(NAMES)  # nobody begins anew when time is up
        source.close()


@pytest.mark.parametrize("stall", STALLS)
def test_handshake_that_stalls_for_one_reader_is_ended_by_the_deadline(stall, trusted):
    with Listener(lambda plain: STALLS[stall](plain, trusted)) as server:
        begun = time.monotonic()
        with pytest.raises(ReadError, match=r"^x: no answer in time; given up, the deadline is 0\.5 s$"):
            Transport(Guard(), deadline=0.5).fetch("x", lambda _: Located(f"{server.url}/x", {}), 0, 1)
        assert time.monotonic() - begun < 5


def test_server_that_never_answers_is_ended_by_the_deadline_without_tls_too(monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 0.5)
    with Listener(until_gone) as server:
        begun = time.monotonic()
        source = ahead(server.url.replace("https", "http"))
        with pytest.raises(ReadError, match=rf"^{NAMES[0]}: no answer in time; given up, the deadline is 0\.5 s$"):
            source.open(NAMES[0])
        assert time.monotonic() - begun < 5
        source.close()


def test_answer_that_trickles_ends_with_the_deadline(trusted, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)

    def slow(plain: socket.socket) -> None:
        with trusted.wrap_socket(plain, server_side=True) as connection:
            answer = answer_to(head_of(connection))
            for at in range(0, len(answer), 1 << 10):
                connection.sendall(answer[at : at + (1 << 10)])
                time.sleep(0.1)

    begun = time.monotonic()
    with Listener(slow) as server:
        source = ahead(server.url)
        with pytest.raises(ReadError, match="no answer in time; given up, the deadline is 1 s"):
            source.open(NAMES[0])
        source.close()
    assert time.monotonic() - begun < 3.5  # and a second to say why


def test_closing_ends_connections_that_are_being_made(trusted):
    """The socket changes hands when TLS begins, and the server may never say a word."""
    begun, ended = threading.Barrier(2), threading.Event()
    del trusted

    def mute(plain: socket.socket) -> None:
        begun.wait(20)
        ended.wait(20)
        plain.close()

    with Listener(mute) as server:
        source = open_source(server.url, cache=False)
        source.ahead(NAMES[:1], lambda *_: 0)
        begun.wait(20)
        since = time.monotonic()
        source.close()
        with pytest.raises(ReadError, match=rf"^{NAMES[0]}: was not read: the audit has ended$"):
            source.open(NAMES[0])
        assert time.monotonic() - since < 10  # not the 30 s of a silent server
        ended.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_closing_ends_reads_that_are_under_way(scheme, trusted):
    """Also those that wait to ask again."""
    asked = []

    def serve(plain: socket.socket) -> None:
        connection = trusted.wrap_socket(plain, server_side=True) if scheme == "https" else plain
        asked.append(head_of(connection))
        if len(asked) == 1:
            connection.sendall(b"HTTP/1.1 500 No\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n")
        until_gone(connection)

    with Listener(serve) as server:
        source = open_source(server.url.replace("https", scheme), cache=False)
        source.ahead(NAMES, lambda *_: 0)
        until = time.monotonic() + 20
        while len(asked) < len(NAMES) - 1 and time.monotonic() < until:  # one may go on where another was refused
            time.sleep(0.01)
        source.close()
        for name in NAMES:
            with pytest.raises(ReadError, match=rf"^{name}: was not read: the audit has ended$"):
                source.open(name)
        assert time.monotonic() < until
        while any(each.name == "auditor-ahead" for each in threading.enumerate()):
            assert time.monotonic() < until
            time.sleep(0.01)
