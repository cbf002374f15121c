"""Answers are read strictly: whatever a server sends, it is an answer, a WireError, or the end of the connection."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.sources.http.wire import Wire, WireError


def answered(sent: bytes, most: int = 1 << 16) -> tuple[Wire, bytes]:
    """What is made of the bytes of an answer, after which the server closes."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)

    def serve() -> None:
        try:
            theirs.recv(1 << 16)
            theirs.sendall(sent)
        except OSError:
            pass
        finally:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    wire = Wire(ours)
    try:
        wire.ask(b"GET / HTTP/1.1\r\n\r\n")
        return wire, wire.read(most)
    finally:
        wire.close()
        thread.join()


def test_body_ends_where_its_length_says():
    wire, body = answered(b'HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nETag: "a"\r\n\r\nabc')
    assert (wire.status, body, wire.headers["etag"], wire.reusable) == (206, b"abc", '"a"', True)


def test_chunks_are_joined_and_the_connection_goes_on():
    wire, body = answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n")
    assert (body, wire.reusable) == (b"abc", True)


def test_without_a_length_the_body_ends_with_the_connection():
    wire, body = answered(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert (body, wire.length, wire.reusable) == (b"abc", None, False)


def test_interim_answers_are_passed_over():
    wire, body = answered(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    assert (wire.status, body) == (200, b"a")


@pytest.mark.parametrize(
    "rest",
    [b"Connection: close\r\nContent-Length: 1\r\n\r\na", b"Content-Length: 1\r\n\r\nab", b"Content-Length: 0\r\n\r\nb"],
    ids=["told to close", "bytes after the body", "bytes after an empty body"],
)
def test_connection_is_not_used_again_where_it_cannot_be(rest):
    wire, _ = answered(b"HTTP/1.1 200 OK\r\n" + rest)
    assert not wire.reusable


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the connection was closed"),
        (b"HTTP/1.1 200", "the connection was closed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP/1.1 answer"),
        (b"HTTP/2 200\r\n\r\n", "no HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "ended early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", "no number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "contradicting content-length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", "unknown transfer encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc", "a chunk without its length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", "a chunk longer"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a header that is none"),
        (b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "a header that is none"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "only interim answers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 17), "a head without end"),
    ],
)
def test_what_is_no_answer_is_said(sent, words):
    with pytest.raises(WireError, match=words):
        answered(sent)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_do_anything_else(sent):
    try:
        answered(b"HTTP/1.1 200 OK\r\n" + sent, 100)
    except WireError:
        pass


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.integers(1, 400))
def test_chunked_bodies_come_back_whole_however_they_were_cut(parts, most):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    _, body = answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", most)
    assert body == b"".join(parts)[:most]
