"""A connection to a host that may be asked: to the address that was judged, verified, through a proxy where one is.

What an answer may take is bounded here, below everything that reads it: a socket waits no longer than its exchange has
left, however slowly bytes trickle in and whatever they are part of.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from auditor.errors import SourceError
from auditor.sources.http.hosts import Guard, proxy_for
from auditor.sources.http.status import code_of_status
from auditor.text import shown

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

SILENCE_S = 30.0  # without a byte
LEAST_S = 1.0  # for an attempt, however late it is begun: it may explain what is wrong
_CONNECT_S = 10.0
_SLOWEST = 32 << 10  # bytes a second, below which a large answer is given up
_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")


class Bounded:
    """A socket that is read until a time (monotonic), and longer by what has come, up to `earning` bytes of it."""

    _until, _earning, _got = float("inf"), 0, 0

    def allow(self, until: float, earning: int) -> None:
        """Begin an exchange."""
        self._until, self._earning, self._got = until, earning, 0

    def recv_into(self, *arguments: Any) -> int:
        """What comes next; raises TimeoutError where nothing does in time."""
        left = self._until + min(self._got, self._earning) / _SLOWEST - time.monotonic()
        if left <= 0:
            raise TimeoutError
        patience = min(SILENCE_S, left)
        if patience != self.gettimeout():  # type: ignore[attr-defined]  # of the socket that this is a part of
            self.settimeout(patience)  # type: ignore[attr-defined]  # as above
        count: int = super().recv_into(*arguments)  # type: ignore[misc]  # the socket's own
        self._got += count
        return count


class _Plain(Bounded, socket.socket):
    pass


class _Lines(io.BufferedReader):
    """A line that the end of the connection cuts is none: half a head would be taken for one without the rest."""

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size:
            raise http.client.RemoteDisconnected("")
        return line


class Reply(http.client.HTTPResponse):
    """An answer, interim ones (1xx) before it passed over."""

    def __init__(self, sock: Any, *more: Any, **named: Any) -> None:
        super().__init__(sock, *more, **named)
        self.fp = _Lines(self.fp.detach())

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        while self.status < 200:
            self.headers = None  # type: ignore[assignment]  # as before the first
            super().begin()

    def finish(self) -> None:
        """Read what follows the last byte of a body, where its encoding has something there."""
        self.read(0)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return self.isclosed() and not self.will_close


class Connection(http.client.HTTPConnection):
    """To one origin. `reached`: it was connected once. `idled`: it was kept, and may have been closed meanwhile."""

    response_class = Reply
    sock: Any  # Bounded, once it is connected

    def __init__(self, guard: Guard, origin: tuple[str, str, int], tls: ssl.SSLContext | None) -> None:
        scheme, self._named, port = origin
        self.default_port = 443 if scheme == "https" else 80
        self.reached = self.idled = self._interrupted = False
        self._guard = guard
        self._tls = tls
        self._proxy = proxy_for(self._named) if tls is not None and guard.private else None
        self._until = 0.0
        if self._proxy is None:
            super().__init__(self._named, port)
            return
        super().__init__(self._proxy.hostname or "", self._proxy.port or 80)
        headers = {}
        if self._proxy.username is not None:
            from base64 import b64encode

            user = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
            headers["Proxy-Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        self.set_tunnel(self._named, port, headers)

    def ask(self, target: str, headers: Mapping[str, str], *, until: float, earning: int) -> Reply:
        """The answer to a GET, its body still to be read; connects first where that has not been done."""
        self.open(until)
        self.sock.allow(until, earning)
        self.request("GET", target, headers=headers)
        found = self.getresponse()
        assert isinstance(found, Reply)
        return found

    def open(self, until: float) -> None:
        """Connect, where that has not been done."""
        self._until = until
        try:
            if self.sock is None:
                self.connect()
        except BaseException:
            self.close()
            raise

    def interrupt(self) -> None:
        """End the exchange that another thread has under way, also while it still connects."""
        self._interrupted = True
        if (connected := self.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # below TLS, whose reader goes on to see the end

    def connect(self) -> None:
        """Connect to the first address that answers; the address judged is the address connected to."""
        guard = self._guard if self._proxy is None else Guard()
        self.sock = open_socket(guard, self.host, self.port, max(LEAST_S, self._until - time.monotonic()))
        if self._proxy is not None:
            self.sock.allow(max(self._until, time.monotonic() + LEAST_S), 0)
            try:
                self._tunnel()  # type: ignore[attr-defined]  # as http.client's own connect does
            except OSError as error:
                if (found := _REFUSED.match(str(error))) is None:
                    raise
                told = f"the proxy that the environment names answers HTTP {found[1]}"
                raise SourceError(told, code=code_of_status(int(found[1]))) from None
        if self._tls is not None:
            self.sock.settimeout(min(SILENCE_S, max(LEAST_S, self._until - time.monotonic())))
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._named, do_handshake_on_connect=False)
        if self._interrupted:  # before there was a socket, or while it changed hands
            raise ConnectionAbortedError
        if self._tls is not None:
            self.sock.do_handshake()
        self.reached = True


def open_socket(guard: Guard, host: str, port: int, patience: float) -> Any:
    """A socket to the first address that answers."""
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in guard.addresses(host, port):
        connection = _Plain(family, kind, protocol)
        try:
            connection.settimeout(min(_CONNECT_S, patience))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    guard.forget(host, port)
    raise failure


def verifying_context() -> ssl.SSLContext:
    """Verifies certificates and names, against the system's authorities or those the environment names.

    Raises SourceError where the environment names a file that holds none.
    """
    import ssl

    class _Encrypted(Bounded, ssl.SSLSocket):
        pass

    named = next((name for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if os.environ.get(name)), "")
    authorities = os.environ.get(named)
    paths = ssl.get_default_verify_paths()
    if not named and paths.cafile is None and paths.capath is None:
        with suppress(ImportError):
            import certifi

            authorities = certifi.where()
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:  # absent, not to be read, or no certificates
        told = f"{named}={shown(authorities or '')}"
        raise SourceError(f"{told}: no certificates can be read: {error.strerror}", code="unreadable") from None
    context.sslsocket_class = _Encrypted
    return context
