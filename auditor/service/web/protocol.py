"""HTTP/1.1 whose requests are bounded before anybody reads them: in the length of their heads, and in time.

uvicorn and its parser take a head as long as it goes on and wait for the rest of a request for ever, so that whoever
reaches the port could fill memory and take every connection, without a token.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = 64 << 10
SECONDS = 60.0
_TOO_LONG = b"431 Request Header Fields Too Large"
_TOO_LATE = b"408 Request Timeout"


class Bounded(HttpToolsProtocol):
    """Ends a connection of which more than `HEAD` bytes came that are no body, or no whole request in `SECONDS`."""

    _timer: asyncio.TimerHandle | None = None
    _open = False  # a request that has begun, and is not whole yet
    _others = 0  # bytes since the last one of a body, but for the piece in which the request began

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(SECONDS, self._end, _TOO_LATE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._others += len(data)
        super().data_received(data)
        if self._others > HEAD and self._open:
            self._end(_TOO_LONG)
        elif self._open and self._timer is None:
            self._timer = self.loop.call_later(SECONDS, self._end, _TOO_LATE)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._open, self._others = True, 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """A part of a body, whose length is bounded elsewhere."""
        self._others = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._open = False
        self._rest()
        super().on_message_complete()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, status: bytes) -> None:
        self._rest()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # what is being answered is not cut into
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
