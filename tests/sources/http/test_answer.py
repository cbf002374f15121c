"""Answers are read strictly: whatever a server sends is the range that was asked for, or one line that says why not."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ReadError
from auditor.sources.http.answer import AbsentError, Answer, UnchangedError
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.sources.http.transport import Transport
from tests.servers.tls import Listener, head_of

RANGE = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\n"


def answering(*sent: bytes) -> Callable[[socket.socket], None]:
    """Answers the requests of a connection with these, and then ends it."""

    def serve(connection: socket.socket) -> None:
        for each in sent:
            if not head_of(connection):
                return
            connection.sendall(each)

    return serve


def fetched(serve: Callable[[socket.socket], None], *, times: int = 1, deadline: float = 0.2) -> tuple[Answer, int]:
    """The last of so many reads of three bytes, and the connections that they took."""
    with Listener(serve) as server:
        reader = Transport(Guard(), deadline=deadline)
        where = Located(f"{server.url.replace('https', 'http')}/x", {})
        try:
            for _ in range(times):
                answer = reader.fetch("x", lambda _: where, 0, 3)
            return answer, server.accepted
        finally:
            reader.close()


@pytest.mark.parametrize(
    "sent",
    [
        RANGE + b'Content-Length: 3\r\nETag: "a"\r\n\r\nabc',
        RANGE + b'ETag: "a"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n',
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + RANGE
        + b'Content-Length: 3\r\nETag: "a"\r\n\r\nabc',
    ],
    ids=["with its length", "in chunks", "after interim answers"],
)
def test_answer_is_read_to_its_end_and_the_connection_goes_on(sent):
    answer, connections = fetched(answering(sent, sent, sent), times=3)
    assert (bytes(answer.data), answer.size, answer.etag, connections) == (b"abc", 9, '"a"', 1)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", UnchangedError),
        (b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n", ReadError),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", AbsentError),
    ],
)
def test_connection_goes_on_after_an_answer_without_a_body(sent, error):
    with Listener(answering(sent, sent, sent)) as server:
        reader, where = Transport(Guard()), Located(f"{server.url.replace('https', 'http')}/x", {})
        for _ in range(3):
            with pytest.raises(error):
                reader.fetch("x", lambda _: where, 0, 3, unless='"a"')
        assert server.accepted == 1
        reader.close()


@pytest.mark.parametrize(
    "rest",
    [b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"\r\nabc"],
    ids=["told to close", "without a length"],
)
def test_connection_is_not_used_again_where_it_cannot_be(rest):
    answer, connections = fetched(answering(RANGE + rest), times=2)
    assert (bytes(answer.data), connections) == (b"abc", 2)


def test_bytes_after_an_answer_are_no_part_of_the_next():
    answer, _ = fetched(answering(*repeat(RANGE + b"Content-Length: 3\r\n\r\nabcXYZ", 4)), times=4, deadline=5)
    assert bytes(answer.data) == b"abc"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the connection was closed"),
        (b"HTTP/1.1 206", "the connection was closed"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Le", "the connection was closed"),
        (b"HTTP/1.1 416 No\r\nContent-Range: bytes */0\r\n", "the connection was closed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP/1.1 answer"),
        (b"HTTP/2 200\r\n\r\n", "no HTTP/1.1 answer"),
        (RANGE + b"Content-Length: 3\r\n\r\nab", "ended early"),
        (RANGE + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "contradict"),
        (RANGE + b"Content-Range: bytes 1-3/9\r\n\r\nabcd", "contradict"),
        (RANGE + b"Transfer-Encoding: gzip\r\n\r\nabc", "unknown transfer encoding"),
        (RANGE + b"Transfer-Encoding: chunked\r\n\r\nx\r\nabc", "the connection was closed|ended early"),
        (RANGE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "ended early"),
        (RANGE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", "the connection was closed"),
        (b"HTTP/1.1 206 OK\r\nno colon\r\nContent-Range: bytes 0-2/9\r\n\r\nabc", "without saying which"),
        (b"HTTP/1.1 206 OK\r\nX: " + b"a" * (1 << 17), "a line without end"),
        (b"HTTP/1.1 206 OK\r\n" + b"X: a\r\n" * 1000, "its head has no end"),
    ],
)
def test_what_is_no_answer_is_said(sent, words):
    with pytest.raises(ReadError, match=f"^x: .*({words})"):
        fetched(answering(sent))


FLOODS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trailers": (RANGE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"X: a\r\n"),
    "chunks of a refusal": (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "a chunk of less than nothing": (RANGE + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"a" * 1000),
}


@pytest.mark.parametrize("what", FLOODS)
def test_what_goes_on_without_end_takes_no_longer_than_it_may(what):
    begin, part = FLOODS[what]

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(begin)
        while True:
            connection.sendall(part * 100)

    begun = time.monotonic()
    try:
        fetched(serve)
    except ReadError:
        pass
    assert time.monotonic() - begun < 8


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_an_answer_or_say_why_not(sent):
    try:
        answer, _ = fetched(answering(b"HTTP/1.1 206 OK\r\n" + sent), deadline=0.01)
    except ReadError as error:
        assert str(error).startswith("x: ")  # noqa: PT017  # either may be
    else:
        assert len(answer.data) <= 3


@given(st.lists(st.binary(min_size=1, max_size=2), max_size=4))
def test_chunked_bodies_come_back_whole_however_they_were_cut(parts):
    body = b"".join(parts)[:3]
    cut, left = [], body
    for part in parts:
        cut, left = [*cut, left[: len(part)]], left[len(part) :]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in cut if each)
    head = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-%d/%d\r\n" % (len(body) - 1, len(body))
    if body:
        answer, _ = fetched(answering(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"), deadline=5)
        assert bytes(answer.data) == body
