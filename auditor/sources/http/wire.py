"""One HTTP/1.1 exchange after the other on a socket: just what ranged reads need, read strictly.

A ranged read of 163 shards is 163 answers at once, and general clients cost more in parsing and imports than the
network takes (benchmarks/results/remote.md). Everything an answer says is bounded before it is believed.
"""

from __future__ import annotations

import re
import socket
import time

_HEAD_BYTES = 64 << 10
_INTERIM = 8  # answers of 1xx before the real one
_RECEIVE = 128 << 10
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: .*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;.*)?")


class WireError(Exception):
    """What came is no HTTP/1.1 answer, or ended early (`early`, with nothing at all: `silent`)."""

    def __init__(self, text: str, *, early: bool = False, silent: bool = False) -> None:
        super().__init__(text)
        self.early = early
        self.silent = silent


class Wire:
    """A connection. After `ask`, the answer's `status`, `headers` (names in lower case) and body, by `read`.

    `length` is the body's where it was announced. `until`: a TimeoutError after this time (monotonic), however slowly
    bytes trickle in; `pace`: so many bytes that come move it by a second. `reusable`: the body was read to its end and
    both sides go on.
    """

    def __init__(self, connection: socket.socket, head: bytes = b"", body: memoryview | None = None) -> None:
        self._socket = connection
        self._silence = connection.gettimeout()
        self._patience = float("inf") if self._silence is None else self._silence
        self._buffer = head  # of an answer whose request was sent before, and its body
        self._body = body
        self.idled = False  # so that the other side may have closed it meanwhile
        self.until = self.pace = float("inf")
        self._got = 0
        self._begin(b"", 0, {})

    def _begin(self, version: bytes, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.length: int | None = None
        self._left: int | None = None  # of the body or of the chunk; None: until the connection ends
        self._chunked = False
        self._done = False
        self._keeps = version == b"1" and "close" not in headers.get("connection", "").lower()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return self._done and self._keeps and not self._buffer

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def released(self) -> socket.socket:
        """The connection, for somebody else to go on with."""
        return self._socket

    def ask(self, request: bytes) -> None:
        """Send a request that has no body and read the head of its answer."""
        self._done = False  # nor is a connection that fails here one to use again
        self._body = None
        self._got = 0
        self._socket.sendall(request)
        self.hear()

    def hear(self) -> None:
        """Read the head of the answer to a request that was sent."""
        for _ in range(_INTERIM):
            version, status, headers = self._head()
            if status >= 200:
                break
        else:
            raise WireError("only interim answers")
        self._begin(version, status, headers)
        coding = headers.get("transfer-encoding")
        if status in (204, 304):
            self.length, self._left, self._done = 0, 0, True
        elif coding is not None:
            if coding.lower() != "chunked":
                raise WireError("an unknown transfer encoding")
            self._chunked, self._left = True, 0
        elif (value := headers.get("content-length")) is not None:
            if not re.fullmatch("[0-9]{1,18}", value):
                raise WireError("a Content-Length that is no number")
            self.length = self._left = int(value)
            self._done = self.length == 0
        else:
            self._keeps = False

    def read(self, most: int) -> bytes | memoryview:
        """At most so many bytes of the body; fewer only where it ends."""
        if self._body is not None:
            part, self._body = self._body[:most], self._body[most:]
            self._done = not self._body
            return part
        buffer = bytearray(most)
        count = self.read_into(memoryview(buffer))
        return bytes(buffer) if count == most else bytes(buffer[:count])

    def read_into(self, view: memoryview) -> int:
        """Fill the view from the body; fewer bytes only where it ends. Raises WireError where it ends early."""
        done = 0
        while done < len(view) and not self._done:
            if self._chunked and self._left == 0:
                self._next_chunk()
                continue
            wanted = len(view) - done if self._left is None else min(len(view) - done, self._left)
            done += self._take(view[done : done + wanted])
        return done

    def finish(self) -> None:
        """Read what follows the last byte of a body, where its encoding has something there."""
        if self._chunked and not self._done and self._left == 0:
            self._next_chunk()

    def _take(self, view: memoryview) -> int:
        """Some of the body, straight into the view."""
        if self._buffer:
            count = min(len(self._buffer), len(view))
            view[:count] = self._buffer[:count]
            self._buffer = self._buffer[count:]
        else:
            self._hurry()
            count = self._socket.recv_into(view)
            self._got += count
            if count == 0:
                if self._left is None:
                    self._done = True
                    return 0
                raise WireError("the answer ended early", early=True)
        if self._left is not None:
            self._left -= count
            if self._left == 0:
                if self._chunked:
                    if self._line():
                        raise WireError("a chunk longer than it says")
                else:
                    self._done = True
        return count

    def _hurry(self) -> None:
        """Wait no longer for what comes next than until the time is up."""
        left = self.until + self._got / self.pace - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(min(self._patience, left) if left < float("inf") else self._silence)

    def _next_chunk(self) -> None:
        found = _CHUNK.fullmatch(self._line())
        if found is None:
            raise WireError("a chunk without its length")
        self._left = int(found[1], 16)
        if self._left == 0:
            for _ in range(_INTERIM):  # trailers, which say nothing that is asked for
                if not self._line():
                    self._done = True
                    return
            raise WireError("too many trailers")

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _HEAD_BYTES:
                raise WireError("a line without end")
            self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _head(self) -> tuple[bytes, int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_BYTES:
                raise WireError("a head without end")
            self._more()
        first, *fields = self._buffer[:end].split(b"\r\n")
        self._buffer = self._buffer[end + 4 :]
        status = _STATUS.fullmatch(first)
        if status is None:
            raise WireError("no HTTP/1.1 answer")
        headers: dict[str, str] = {}
        for field in fields:
            found = _FIELD.fullmatch(field)
            if found is None:
                raise WireError("a header that is none")
            name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1")
            if name in ("content-length", "content-range", "transfer-encoding") and headers.get(name, value) != value:
                raise WireError(f"two contradicting {name} headers")
            headers[name] = value
        return status[1], int(status[2]), headers

    def _more(self) -> None:
        self._hurry()
        data = self._socket.recv(_RECEIVE)
        self._got += len(data)
        if not data:
            raise WireError("the connection was closed", early=True, silent=not self._buffer)
        self._buffer += data
