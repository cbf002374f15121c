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
from auditor.sources.hosts import SILENCE_S
from auditor.sources.transport import Answer, Asked, Located, Transport
from auditor.sources.wire import Wire

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_RECEIVE = 256 << 10
_HEAD_BYTES = 64 << 10
_BODY_BYTES = 64 << 10  # of an answer that refuses
_PEEK_BYTES = 4096
_CHECKED_S = 0.5
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


class Call:
    """A range that is asked for once. `done` is told what became of it: an answer, what the answer means as an
    exception, or None where there was no answer that could be used. `peek` gets the first bytes before the rest comes.
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
        self._received = bytearray()
        self._body = 0  # where it begins
        self._length: int | None = None  # of head and body together

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
            count = self._socket.recv_into(lane.buffer)
            if not count:
                self.end(lane, None)
                return
            self._received += lane.buffer[:count]
            if self._length is None and not self._measured():
                self.end(lane, None)
                return
            if self._length is not None and len(self._received) >= self._length:
                self._answered(lane)
                return
            if self._peek is not None and len(self._received) >= self._body + _PEEK_BYTES:
                peek, self._peek = self._peek, None
                if self._received[9:12] == b"206":
                    peek(bytes(self._received[self._body : self._body + _PEEK_BYTES]))
            if count < _RECEIVE and self._parts is not None and self._parts.scheme != "https":
                return

    def _measured(self) -> bool:
        """Take the length of the answer from its head, when that has come; false where it cannot be known."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return len(self._received) <= _HEAD_BYTES
        head = bytes(self._received[: end + 2])
        self._body = end + 4
        length = _LENGTH.findall(head)
        most = max(self.asked.end - self.asked.begin, _BODY_BYTES)
        if head[9:12] in (b"204", b"304"):
            self._length = end + 4
        elif len(length) == 1 and int(length[0]) <= most and not _CHUNKED.search(head):
            self._length = end + 4 + int(length[0])
        return self._length is not None

    def _answered(self, lane: Lane) -> None:
        assert self._socket is not None
        assert self._parts is not None
        connection, self._socket = self._socket, None
        lane.forget(connection)
        connection.settimeout(SILENCE_S)
        wire = Wire(connection, bytes(self._received))
        outcome: Answer | Exception | None
        try:
            outcome = lane.transport.judged(self.asked, self._parts, wire)
        except Exception as error:  # whatever the answer means, to whoever waits for it
            outcome = error
        self.end(lane, outcome)

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
                call.end(self, None)

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
