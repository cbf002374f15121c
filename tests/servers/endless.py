"""Servers that never come to an end: a body without one, or one that comes a byte at a time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
MOST = 256 << 20  # what a client that reads on and on is sent before the server has enough


class Endless:
    """Answers every request with a head and then with what `body` yields, for as long as the client takes it."""

    def __init__(self, body: Callable[[], Iterator[bytes]], head: bytes = _HEAD) -> None:
        self.sent = 0
        self._head = head
        self._body = body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Endless:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(1 << 16)
            client.sendall(self._head)
            for part in self._body():
                client.sendall(part)
                self.sent += len(part)
                if self.sent > MOST:
                    return


def flood(begin: bytes, part: bytes) -> Callable[[], Iterator[bytes]]:
    """A body that begins as it should and goes on without end."""

    def body() -> Iterator[bytes]:
        yield begin
        many = part * (1 + (1 << 20) // len(part))
        while True:
            yield many

    return body


def drip(text: bytes, pause: float = 0.1) -> Callable[[], Iterator[bytes]]:
    """A body that comes a byte at a time."""

    def body() -> Iterator[bytes]:
        for byte in text:
            yield bytes([byte])
            time.sleep(pause)

    return body
