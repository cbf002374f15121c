"""First attempts at many ranges at once, in one thread: most need no other.

163 threads cost more than 163 small answers do. A lane asks for each range once, on sockets that never block, and
whatever is not a plain answer goes back to the transport's own way, which retries, redirects and explains.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from auditor.errors import ReadError, SourceError
from auditor.sources.http.answer import Answer, TransientError
from auditor.sources.http.hosts import SILENCE_S
from auditor.sources.http.request import Asked, Located
from auditor.sources.http.wire import Wire

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from auditor.sources.http.transport import Transport

_RECEIVE = 256 << 10
_HEAD_BYTES = 64 << 10
_BODY_BYTES = 64 << 10  # of an answer that refuses
_PEEK_BYTES = 4096
_CHECKED_S = 0.5
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


class Call:
    """A range that is asked for once. `done` is told what became of it: an answer, what the answer means as an
    exception (or that none came in time), or None where there was no answer that could be used. `peek` gets the first
    bytes before the rest comes.
    """

    def __init__(
        self,
        asked: Asked,
        done: Callable[[Call, Answer | Exception | None], None],
        peek: Callable[[bytes], object] | None = None,
    ) -> None:
        self.asked = asked
        self._peek = peek
        self.heard = time.monotonic()
        self._done = done
        self._socket: socket.socket | None = None
        self._parts: SplitResult | None = None
        self._step: Callable[[Lane], None] = self._connect
        self._request = b""
        self._head = b""
        self._body: memoryview | None = None  # as long as it will be, of which `_have` bytes are there
        self._have = 0

    # --- steps, each at most as far as the socket goes without waiting ---

    def begin(self, lane: Lane) -> None:
        """Take a connection or begin to open one."""
        try:
            self._parts, self._request = lane.transport.request(self.asked)
            idle = lane.transport.idle(self._parts)
            self._socket = idle or lane.transport.begun(self._parts)
        except (ReadError, SourceError, OSError):
            self.end(lane, None)  # met again where it is explained
            return
        self._step = self._send if idle is not None else self._connect
        lane.watch(self, self._socket, writing=True)

    def go(self, lane: Lane) -> None:
        """The socket is ready."""
        self.heard = time.monotonic()
        try:
            self._step(lane)
        except BlockingIOError:
            pass
        except SourceError:
            self.end(lane, None)  # as above
        except OSError as error:
            if not _wants(error, lane, self):
                self.end(lane, None)

    def _connect(self, lane: Lane) -> None:
        assert self._socket is not None
        assert self._parts is not None
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.end(lane, None)
            return
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._parts.scheme == "https":
            lane.forget(self._socket)
            self._socket = lane.transport.encrypted(self._socket, self._parts)
            self._step = self._shake
            lane.watch(self, self._socket, writing=True)
        else:
            self._step = self._send
        self._step(lane)

    def _shake(self, lane: Lane) -> None:
        self._socket.do_handshake()  # type: ignore[union-attr]  # an SSLSocket here
        self._step = self._send
        self._send(lane)

    def _send(self, lane: Lane) -> None:
        assert self._socket is not None
        sent = self._socket.send(self._request)
        self._request = self._request[sent:]
        if not self._request:
            self._step = self._receive
            lane.change(self._socket, writing=False)

    def _receive(self, lane: Lane) -> None:
        assert self._socket is not None
        while True:  # an encrypted socket may hold more than the system tells of
            view = lane.buffer if self._body is None else self._body[self._have :]
            count = self._socket.recv_into(view)
            if not count:
                self.end(lane, None)
                return
            if self._body is None and not self._begun(view[:count]):
                self.end(lane, None)
                return
            if self._body is not None:
                self._have += count if view is not lane.buffer else 0
                if self._have == len(self._body):
                    self._answered(lane)
                    return
                if self._peek is not None and self._have >= _PEEK_BYTES and self._head[9:12] == b"206":
                    peek, self._peek = self._peek, None
                    peek(bytes(self._body[:_PEEK_BYTES]))
            if count < len(view) and self._parts is not None and self._parts.scheme != "https":
                return

    def _begun(self, received: memoryview) -> bool:
        """Take the answer's head, when all of it has come, and what there is of its body; false where it cannot be."""
        self._head += received
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            return len(self._head) <= _HEAD_BYTES
        head, rest = self._head[:end], self._head[end:]
        length = _LENGTH.findall(head)
        most = max(self.asked.end - self.asked.begin, _BODY_BYTES)
        if head[9:12] in (b"204", b"304"):
            size = 0
        elif len(length) == 1 and int(length[0]) <= most and not _CHUNKED.search(head):
            size = int(length[0])
        else:
            return False
        if len(rest) > size:
            return False
        self._head, self._body, self._have = head, memoryview(bytearray(size)), len(rest)
        self._body[: len(rest)] = rest
        return True

    def _answered(self, lane: Lane) -> None:
        assert self._socket is not None
        assert self._parts is not None
        connection, self._socket = self._socket, None
        lane.forget(connection)
        connection.settimeout(SILENCE_S)
        wire = Wire(connection, self._head, self._body)
        outcome: Answer | Exception | None
        try:
            outcome = lane.transport.judged(self.asked, self._parts, wire)
        except Exception as error:  # whatever the answer means, to whoever waits for it
            outcome = error
        self.end(lane, outcome)

    def give_up(self, lane: Lane) -> None:
        """Nothing has come for too long, or time is up: for one that has begun to answer, only here."""
        self.end(lane, TransientError("no answer in time") if self._body is None else None)

    def end(self, lane: Lane, outcome: Answer | Exception | None) -> None:
        """Tell what became of it; its socket goes unless the transport keeps it."""
        if self._socket is not None:
            lane.forget(self._socket)
            self._socket.close()
            self._socket = None
        lane.ended(self)
        self._done(self, outcome)


def _wants(error: OSError, lane: Lane, call: Call) -> bool:
    """Whether an encrypted socket only waits for the other side, and for which."""
    name = type(error).__name__
    if name not in ("SSLWantReadError", "SSLWantWriteError") or call._socket is None:
        return False
    lane.change(call._socket, writing=name == "SSLWantWriteError")
    return True


class Opening(Call):
    """A connection that is opened before it is known what for."""

    def __init__(self, url: str) -> None:
        super().__init__(Asked("", Located(url, {}), 0, 1, time.monotonic() + SILENCE_S), lambda *_: None)

    def begin(self, lane: Lane) -> None:
        """Begin to open it; what is wrong with it, who asks for something hears."""
        try:
            self._parts = lane.transport.place(self.asked.where.url)
            self._socket = lane.transport.begun(self._parts)
        except (SourceError, OSError):
            self.end(lane, None)
            return
        lane.watch(self, self._socket, writing=True)

    def _send(self, lane: Lane) -> None:
        assert self._socket is not None
        assert self._parts is not None
        connection, self._socket = self._socket, None
        lane.forget(connection)
        lane.transport.keep(connection, self._parts)
        self.end(lane, None)


class Lane:
    """Calls under way. One thread at a time may use it: whoever has nothing better to do than to wait."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._calls: set[Call] = set()
        self._by_socket: dict[int, Call] = {}
        self._poll = select.poll()
        self._checked = 0.0
        self.buffer = memoryview(bytearray(_RECEIVE))
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        self._poll.register(self._ear.fileno(), select.POLLIN)

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """Begin a call; it may end at once."""
        self._calls.add(call)
        call.begin(self)

    def open(self, url: str) -> None:
        """Begin to open a connection for a call to come."""
        opening = Opening(url)
        self._calls.add(opening)
        opening.begin(self)

    def pump(self, timeout: float) -> None:
        """Go on with every call as far as it goes; wait so long for the first, seconds."""
        for descriptor, _ in self._poll.poll(timeout * 1000):
            call = self._by_socket.get(descriptor)
            if call is not None:
                call.go(self)
            elif descriptor == self._ear.fileno():
                self._ear.recv(4096)
        now = time.monotonic()
        if now - self._checked > _CHECKED_S:
            self._checked = now
            for call in [each for each in self._calls if now - each.heard > SILENCE_S or now > each.asked.until]:
                call.give_up(self)

    def wake(self) -> None:
        """End the wait of the thread that pumps, from any other."""
        try:
            self._bell.send(b".")
        except OSError:  # so many are unheard that one more says nothing, or it is closed
            pass

    def close(self) -> None:
        """Give up what is under way."""
        for call in list(self._calls):
            call.end(self, None)
        self._bell.close()
        self._ear.close()

    # --- for the calls ---

    def watch(self, call: Call, connection: socket.socket, *, writing: bool) -> None:
        """Go on with a call when its socket is ready."""
        self._by_socket[connection.fileno()] = call
        self._poll.register(connection.fileno(), select.POLLOUT if writing else select.POLLIN)

    def change(self, connection: socket.socket, *, writing: bool) -> None:
        """Wait for the other direction."""
        self._poll.modify(connection.fileno(), select.POLLOUT if writing else select.POLLIN)

    def forget(self, connection: socket.socket) -> None:
        """A socket that is somebody else's from now on."""
        if self._by_socket.pop(connection.fileno(), None) is not None:
            self._poll.unregister(connection.fileno())

    def ended(self, call: Call) -> None:
        """One call less."""
        self._calls.discard(call)
