"""Requests are bounded before anybody reads them: in the length of their heads, and in time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn

from auditor.service.web import protocol

HOST = b"Host: 127.0.0.1\r\n"


async def echo(scope, receive, send) -> None:
    """Answer with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    answer = str(length).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where a server of the protocol listens."""
    config = uvicorn.Config(echo, host="127.0.0.1", port=0, http=protocol.Bounded, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def answer(port: int, *pieces: bytes) -> bytes:
    """What comes back until the connection is closed, or half a second passes without a word."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
        got = b""
        with suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)
        with suppress(OSError):
            while data := connection.recv(1 << 16):
                got += data
        return got


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\n" + HOST + b"X: ",
        b"GET /",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;x=",
    ],
)
def test_what_is_no_body_is_not_taken_without_end(port: int, endless: bytes) -> None:
    got = answer(port, endless, *[b"a" * (1 << 15)] * 40)
    assert not got.startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, suppress(ConnectionError):
        connection.sendall(endless)
        sent = 0
        while sent < 64 << 20:
            connection.sendall(b"a" * (1 << 16))
            sent += 1 << 16
    assert sent < 16 << 20  # what a network holds on its way


def test_requests_that_are_as_long_as_they_may_be_are_answered(port: int) -> None:
    head = b"X: " + b"a" * (32 << 10) + b"\r\n"
    body = b"a" * (1 << 20)
    whole = b"POST / HTTP/1.1\r\n" + HOST + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunked = (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n"
    )
    got = answer(port, whole, chunked, whole)
    assert got.count(b"HTTP/1.1 200") == 3
    assert got.count(b"1048576") == 2


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\na"])
def test_a_request_that_does_not_come_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(protocol, "SECONDS", 0.3)
    before = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(begun)
        with suppress(ConnectionError):
            while connection.recv(1 << 16):
                pass
    assert 0.2 < time.monotonic() - before < 5


def test_a_connection_that_is_kept_is_given_a_time_for_each_request(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SECONDS", 0.4)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(4):
            connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            time.sleep(0.2)
