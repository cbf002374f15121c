"""A listener on loopback that hands over connections as they are: TLS is made on them, cut short, or never answered."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path


class Listener:
    """Gives each connection to `serve`, in a thread of its own, and closes it afterwards; `accepted` counts them."""

    def __init__(self, serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> None:
        self.accepted = 0
        self._serve = serve
        self._listener = socket.create_server((host, 0), backlog=128)
        self.url = f"https://{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # a client that went away is no news
            self._serve(connection)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def server_side(certificate: Path) -> ssl.SSLContext:
    """What a server with a certificate (its key beside it) makes TLS with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def head_of(connection: socket.socket) -> bytes:
    """The head of the next request; empty where the client has ended."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(1 << 16)
        if not part:
            return b""
        head += part
    return head


def first_flight(connection: socket.socket, context: ssl.SSLContext) -> bytes:
    """What a server answers to a client's hello, which is read; nothing is sent."""
    received, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = context.wrap_bio(received, answer, server_side=True)
    while not answer.pending:
        received.write(connection.recv(1 << 16))
        with contextlib.suppress(ssl.SSLWantReadError):
            shaking.do_handshake()
    return answer.read()


def until_gone(connection: socket.socket) -> None:
    """Say nothing more, for as long as the client stays."""
    while connection.recv(1 << 16):
        pass
