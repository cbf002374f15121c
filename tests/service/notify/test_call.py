"""Calls: to allowed hosts and addresses alone, no redirect, an end in time whatever the other side does."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditor.service.notify.call import Answer, Call, Caller, UntoldError
from tests.servers.endless import Endless, drip, flood
from tests.servers.serving import Reply, Server
from tests.servers.tls import Listener, head_of, server_side, until_gone


def caller(*hosts: str, private: bool = True, stopped: threading.Event | None = None) -> Caller:
    return Caller(frozenset(hosts or ("127.0.0.1",)), private=private, stopped=stopped or threading.Event())


def post(url: str) -> Callable[[Call], Answer]:
    return lambda call: call.ask("POST", url, {"X-Secret": "s3cret"}, b"{}")


def whole(connection: socket.socket) -> None:
    """Read the request with its body, so that closing afterwards is no reset."""
    head = head_of(connection)
    while head and not head.endswith(b"{}"):
        head += connection.recv(1 << 10)


def untold(asked: Caller, url: str, seconds: float = 15.0) -> tuple[str, float]:
    """Why it could not be told, and how long that took."""
    began = time.monotonic()
    with pytest.raises(UntoldError) as error:
        asked.tell(post(url), seconds=seconds)
    return str(error.value), time.monotonic() - began


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    with Server(lambda _: Reply(200)) as elsewhere:
        with Server(lambda _: Reply(status, b"", {"Location": f"{elsewhere.url}/"})) as server:
            answer = caller().tell(post(server.url))
        assert elsewhere.requests == []
    assert answer is not None
    assert (answer.status, answer.good) == (status, False)


def test_a_host_that_is_not_on_the_list_is_not_asked() -> None:
    with Server(lambda _: Reply(200)) as server:
        said, _ = untold(caller("example.com"), server.url)
        assert server.requests == []
    assert said == "127.0.0.1: not on the list of allowed hosts"


def test_plain_http_is_for_loopback_alone() -> None:
    said, _ = untold(caller("example.com"), "http://example.com/")
    assert "not https" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_private_addresses_are_refused_unless_allowed(host: str) -> None:
    said, _ = untold(caller(host.strip("[]"), private=False), f"http://{host}:9/")
    assert "private address" in said


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1"])
def test_a_name_that_turns_private_is_not_connected_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name's second answer is a private address: what was judged once is what is connected to, or it is refused."""
    answers = iter(("203.0.113.7", address))
    connected: list[str] = []

    def resolve(host: str | bytes, port: int, *_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(_: socket.socket, at: tuple[str, int]) -> None:
        connected.append(at[0])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    asked = caller("hooks.example.com", private=False)
    assert "private address" in untold(asked, "https://hooks.example.com/")[0] or connected == []
    said, _ = untold(asked, "https://hooks.example.com/")
    assert "private address" in said
    assert address not in connected


def test_a_target_that_never_answers_is_given_up_in_time() -> None:
    with Listener(lambda connection: until_gone(connection)) as server:
        said, took = untold(caller(), server.url.replace("https", "http"), seconds=1.5)
    assert "no answer" in said
    assert took < 3


@pytest.mark.parametrize("body", [drip(b"x" * 1000, 0.2), flood(b"x", b"x" * 1000)], ids=["drip", "flood"])
def test_an_answer_without_end_is_given_up_in_time(body: Callable[[], Iterator[bytes]]) -> None:
    began = time.monotonic()
    with Endless(body) as server:
        try:
            answer = caller().tell(post(server.url), seconds=2)
        except UntoldError:
            answer = None
        assert server.sent < 8 << 20
    assert time.monotonic() - began < 4
    assert answer is None or len(answer.data) <= 64 << 10


def test_a_head_that_comes_a_byte_a_time_is_given_up_in_time() -> None:
    def serve(connection: socket.socket) -> None:
        head_of(connection)
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
            connection.sendall(bytes([byte]))
            time.sleep(0.2)

    with Listener(serve) as server:
        said, took = untold(caller(), server.url.replace("https", "http"), seconds=1.5)
    assert "no answer" in said
    assert took < 3


def test_a_name_that_resolves_slowly_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def resolve(*_: object, **__: object) -> list[object]:
        release.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    said, took = untold(caller("slow.example.com"), "https://slow.example.com/", seconds=1)
    release.set()
    assert said == "no answer within 1 s"
    assert took < 2


def test_a_certificate_that_nobody_trusts_is_said_to_be_one(certificate: Path) -> None:
    context = server_side(certificate)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            head_of(encrypted)

    with Listener(serve) as server:
        said, _ = untold(caller(), server.url)
    assert said.startswith("the certificate is not trusted: ")


def test_a_trusted_certificate_is_talked_to(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = server_side(certificate)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            whole(encrypted)
            encrypted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Listener(serve) as server:
        answer = caller().tell(post(server.url))
    assert answer is not None
    assert (answer.status, answer.data) == (200, b"ok")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "the connection was closed before an answer came"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is no HTTP/1.1 answer"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(sent: bytes, said: str) -> None:
    def serve(connection: socket.socket) -> None:
        whole(connection)
        connection.sendall(sent)

    with Listener(serve) as server:
        assert untold(caller(), server.url.replace("https", "http"))[0] == said


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert untold(caller(), f"http://127.0.0.1:{port}/")[0] == "the connection failed: Connection refused"


def test_a_header_with_a_line_of_its_own_is_not_sent() -> None:
    with Server(lambda _: Reply(200)) as server:
        with pytest.raises(UntoldError, match="cannot be sent"):
            caller().tell(lambda call: call.ask("POST", server.url, {"X": "a\r\nY: b"}, b""))
        assert server.requests == []


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120.0), ("Fri, 31 Dec", 0.0), ("-5", 0.0), ("٣", 0.0), ("9" * 30, 999_999.0)]
)
def test_a_pause_that_is_asked_for_is_a_number(value: str, seconds: float) -> None:
    assert Answer(503, {"retry-after": value}, b"").after_s == seconds
