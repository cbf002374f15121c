"""All that one delivery may ask of its target: allowed hosts and addresses, no redirect, and an end in time."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.errors import ReadError, SourceError
from auditor.service.notify.beside import beside
from auditor.sources.http.connection import Connection, verifying_context
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import origin, target
from auditor.text import shown
from auditor.version import __version__

if TYPE_CHECKING:
    import ssl

SECONDS = 15.0
_MOST = 64 << 10
_KEPT = 500


class UntoldError(Exception):
    """A target that could not be told; the text says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a target answered, the beginning of it."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def good(self) -> bool:
        """Whether the target has it."""
        return 200 <= self.status < 300

    @property
    def kept(self) -> str:
        """The first characters, control characters as escapes."""
        return shown(self.data[: 4 * _KEPT].decode("utf-8", "replace")[:_KEPT])[:_KEPT]

    @property
    def after_s(self) -> float:
        """For how many seconds the target asks to be left alone."""
        asked = self.headers.get("retry-after", "").strip()
        return float(asked[:6]) if asked.isascii() and asked.isdecimal() else 0.0

    def json(self) -> Any:
        """What it says as JSON. Raises UntoldError."""
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError):
            raise UntoldError(f"HTTP {self.status}, and what it says is not JSON") from None


class Call:
    """The exchanges of one delivery, all of them within `seconds`. Each name is resolved once, and judged then."""

    def __init__(self, guard: Guard, tls: Callable[[], ssl.SSLContext], seconds: float = SECONDS) -> None:
        self._guard = guard
        self._tls = tls
        self._until = time.monotonic() + seconds
        self._connection: Connection | None = None

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None = None, *, most: int = _MOST
    ) -> Answer:
        """One exchange, of whose answer at most so many bytes are read. Raises UntoldError."""
        try:
            parts = self._guard.admit(url)
            sent = {"User-Agent": f"checkpoint-auditor/{__version__}", "Accept": "application/json", **headers}
            named = target("the target", parts, sent)
            at = origin(parts)
            self._connection = Connection(self._guard, at, self._tls() if at[0] == "https" else None)
            return self._exchange(self._connection, method, named, sent, data, most)
        except (SourceError, ReadError) as error:
            raise UntoldError(str(error)) from None
        except (http.client.HTTPException, OSError) as error:
            raise UntoldError(_meant(error)) from None

    def interrupt(self) -> None:
        """End what is under way."""
        if self._connection is not None:
            self._connection.interrupt()

    def _exchange(
        self, connection: Connection, method: str, named: str, headers: Mapping[str, str], data: bytes | None, most: int
    ) -> Answer:
        try:
            connection.open(self._until)
            connection.sock.allow(self._until, 0)
            connection.request(method, named, data, dict(headers))
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, found, reply.read(most))
        finally:
            connection.close()


class Caller:
    """Makes calls, each in a thread of its own, so that nothing a target does holds up whoever waits for it."""

    def __init__(self, hosts: frozenset[str], *, private: bool, stopped: threading.Event) -> None:
        self._hosts = hosts
        self._private = private
        self._stopped = stopped
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def tell(self, act: Callable[[Call], Answer], *, seconds: float = SECONDS) -> Answer | None:
        """What `act` gives; None where this process is stopped before. Raises UntoldError."""
        call = Call(Guard(self._hosts, private=self._private), self._verified, seconds)
        try:
            return beside(lambda: act(call), seconds=seconds, stopped=self._stopped, interrupt=call.interrupt)
        except UntoldError:
            raise
        except TimeoutError:
            raise UntoldError(f"no answer within {seconds:g} s") from None
        except Exception as error:  # an edge: whatever a target's answer did to its reader
            raise UntoldError(f"{type(error).__name__}: {shown(str(error))}") from None

    def _verified(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = verifying_context()
            return self._context


def _meant(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed before an answer came"
    if isinstance(error, http.client.HTTPException):
        return "the answer is no HTTP/1.1 answer"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if (reason := getattr(error, "verify_message", None)) is not None:
        return f"the certificate is not trusted: {reason}"
    return f"the connection failed: {getattr(error, 'strerror', None) or type(error).__name__}"
