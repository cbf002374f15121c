"""Ranged reads over HTTP: pooled connections, retries within a deadline, and no host that nobody named.

Everything that listings and a remote file's bytes come through. obstore and huggingface_hub authenticate; their own
requests follow redirects to any host (and tell it the address they came from, signature included), bound no answer and
do not honour Retry-After, so the asking is done here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from auditor.errors import ReadError, SourceError
from auditor.sources.http.answer import Answer, ExpiredError, TransientError, judge
from auditor.sources.http.hosts import SILENCE_S, Guard, connected, is_loopback, proxy_for, tunnelled, verified
from auditor.sources.http.request import Asked, Located, asking, head, origin
from auditor.sources.http.wire import Wire, WireError
from auditor.text import shown

if TYPE_CHECKING:
    import ssl
    from urllib.parse import SplitResult

CONNECTIONS = 192  # at once, to all hosts of one source
DEADLINE_S = 60.0  # for one read, its retries included
_SLOWEST = 32 << 10  # bytes a second, below which a large answer is given up
_HOPS = 5
_BACKOFF_S, _BACKOFF_MOST_S = 0.2, 8.0
_UNREACHED = 3  # attempts at a host that does not answer at all
_EXPLAINED_S = 1.0  # however late an attempt is begun
_PRIVATE_HEADERS = ("authorization", "cookie")


class Transport:
    """Reads ranges from the hosts of one source. Safe in many threads at once.

    `abroad`: redirects to other hosts are followed, without credentials (the hub's to its storage); otherwise
    they are refused.
    """

    def __init__(self, guard: Guard, *, abroad: bool = False, deadline: float | None = None) -> None:
        self._guard = guard
        self._abroad = abroad
        self._deadline = DEADLINE_S if deadline is None else deadline
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str, int], list[Wire]] = {}
        self._budget = threading.BoundedSemaphore(CONNECTIONS)
        self._not_before, self._asked = 0.0, ""
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    def close(self) -> None:
        """Close what is idle; a read under way closes its own."""
        with self._lock:
            self._closed = True
            idle = [each for group in self._idle.values() for each in group]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def fetch(
        self,
        path: str,
        locate: Callable[[bool], Located],
        begin: int,
        end: int,
        *,
        etag: str | None = None,
        unless: str | None = None,
        into: memoryview | None = None,
        first: Answer | Exception | None = None,
        deadline: float | None = None,
        whole: bool = False,
    ) -> Answer:
        """The bytes of [begin, end), fewer where the file ends earlier; into a buffer where one is given.

        `locate(renew)` says where the file is, anew where a signature has expired. `etag`: the file must still
        be that one. `unless`: raises UnchangedError if it still is.
        `first`: what became of a first attempt. `whole`: a listing, as Asked says.
        Raises AbsentError for a file that is not there and ReadError, its text beginning with `path`, for all else.
        """
        deadline = self.deadline() if deadline is None else deadline
        attempt, renewed, asked = 0, False, Asked(path, locate(False), begin, end, deadline, etag, unless, whole)
        while True:
            pause = self._not_before - time.monotonic() if first is None else 0.0
            if pause > 0:  # spread out: all who wait would come back at once
                self._wait(asked, pause + _jitter(0.0, 0.5), self._asked)
            try:
                if first is not None:
                    outcome, first = first, None
                    if isinstance(outcome, Answer):
                        return outcome
                    raise outcome
                return self._attempt(asked, into)
            except ExpiredError as error:
                if renewed:
                    raise ReadError(f"{path}: {error}") from None
                renewed, again = True, locate(True)
                if again == asked.where and not self._abroad:  # the hub's own address stays, where it sends to is new
                    raise ReadError(f"{path}: {error}") from None
                asked = asked._replace(where=again)
            except TransientError as error:
                if error.stale and time.monotonic() < deadline:
                    continue  # each takes one idle connection away, and a new one is never stale
                pause = _jitter(0.5, 1.0) * min(_BACKOFF_S * 2**attempt, _BACKOFF_MOST_S)
                attempt += 1
                if attempt >= error.attempts:
                    raise ReadError(f"{path}: {error}, {attempt} times") from None
                if error.after is not None:
                    pause = max(pause, error.after)
                    if error.everyone:
                        self._not_before = max(self._not_before, time.monotonic() + error.after)
                        self._asked = f"{error} and asks for a pause"
                self._wait(asked, pause, f"{error}, {attempt} times" if attempt > 1 else str(error))

    def deadline(self) -> float:
        """When a read that begins now has to end, its retries included."""
        return time.monotonic() + self._deadline

    # --- for a lane, whose first attempts are made on sockets that do not block ---

    def request(self, asked: Asked) -> tuple[SplitResult, bytes]:
        """Where to send what. Raises SourceError and ReadError as `fetch` does."""
        parts = self._guard.admit(asked.where.url)
        if time.monotonic() < self._not_before:
            raise ReadError(f"{asked.path}: {self._asked}")
        return parts, head(parts, asking(asked))

    def place(self, url: str) -> SplitResult:
        """The URL in parts; raises SourceError for one that must not be asked."""
        return self._guard.admit(url)

    def idle(self, parts: SplitResult) -> socket.socket | None:
        """A connection that is open and has nothing to do; it does not block."""
        with self._lock:
            idle = self._idle.get(origin(parts))
            wire = idle.pop() if idle else None
        if wire is None:
            return None
        connection = wire.released()
        connection.setblocking(False)
        return connection

    def keep(self, connection: socket.socket, parts: SplitResult) -> None:
        """Take an open connection that has nothing to do."""
        connection.settimeout(SILENCE_S)
        wire = Wire(connection)
        wire.idled = True
        self._keep(wire, parts)

    def begun(self, parts: SplitResult) -> socket.socket:
        """A connection that does not block and is being opened. Raises OSError and SourceError."""
        scheme, host, port = origin(parts)
        if scheme == "https" and self._guard.private and proxy_for(host) is not None:
            raise OSError("through a proxy")
        family, kind, protocol, _, address = self._guard.addresses(host, port)[0]
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            connection.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            connection.close()
            raise
        return connection

    def encrypted(self, connection: socket.socket, parts: SplitResult) -> ssl.SSLSocket:
        """The connection with TLS on it, its handshake still to be made."""
        return self._context().wrap_socket(connection, server_hostname=parts.hostname, do_handshake_on_connect=False)

    def judged(self, asked: Asked, parts: SplitResult, wire: Wire) -> Answer:
        """What an answer that has come whole means; raises as an attempt does, and TransientError for a redirect."""
        try:
            wire.hear()
            found = judge(wire, asked, url=asked.where.url, into=None)
        except WireError as error:
            raise TransientError(f"the server's answer cannot be used: {error}") from None
        finally:
            self._release(wire, parts)
        if isinstance(found, Answer):
            return found
        raise TransientError("redirected", stale=True)

    # --- attempts ---

    def _wait(self, asked: Asked, pause: float, why: str) -> None:
        if pause <= 0:
            return
        if time.monotonic() + pause > asked.until:
            raise ReadError(f"{asked.path}: {why}; given up, the deadline is {self._deadline:g} s")
        time.sleep(pause)

    def _attempt(self, asked: Asked, into: memoryview | None) -> Answer:
        url, headers = asked.where.url, asking(asked)
        for _ in range(_HOPS):
            moved = self._ask(asked, url=url, headers=headers, into=into)
            if isinstance(moved, Answer):
                return moved
            headers = self._onward(asked, url, moved, headers)
            url = moved
        raise ReadError(f"{asked.path}: redirected more than {_HOPS} times")

    def _onward(self, asked: Asked, url: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """What may be sent along to where a redirect leads; raises ReadError where it must not be followed."""
        path = asked.path
        try:
            old, new = self._guard.admit(url), self._guard.admit(target)
        except SourceError as error:
            raise ReadError(f"{path}: redirected to {error}") from None
        if origin(old) == origin(new) or (old.hostname == new.hostname and new.scheme == "https" != old.scheme):
            return headers
        if not self._abroad or asked.whole:
            raise ReadError(f"{path}: redirected to another host, {shown(new.hostname or '')}, which is not followed")
        if is_loopback(new.hostname or "") and not is_loopback(old.hostname or ""):
            raise ReadError(f"{path}: redirected to this machine itself, which is not followed")
        return {name: value for name, value in headers.items() if name.lower() not in _PRIVATE_HEADERS}

    def _ask(self, asked: Asked, *, url: str, headers: dict[str, str], into: memoryview | None) -> Answer | str:
        """One request: its answer, or where it is redirected to."""
        path = asked.path
        try:
            parts = self._guard.admit(url)
        except SourceError as error:
            raise ReadError(f"{path}: {error}") from None
        request = head(parts, headers)
        with self._budget:
            wire: Wire | None = None
            used = False
            try:
                wire = self._connection(parts, asked.until)
                used = wire.idled
                # An attempt after the deadline is there to explain, which takes a moment.
                wire.until = max(asked.until, time.monotonic() + _EXPLAINED_S)
                wire.pace = float("inf") if asked.whole else _SLOWEST  # what comes earns its time
                wire.ask(request)
                return judge(wire, asked, url=url, into=into)
            except WireError as error:
                if used and error.silent:  # it was closed while it idled
                    raise TransientError("the connection was closed", stale=True) from None
                raise TransientError(f"the server's answer cannot be used: {error}") from None
            except SourceError as error:
                raise ReadError(f"{path}: {error}") from None
            except TimeoutError:
                raise TransientError("no answer in time", attempts=1000 if wire else _UNREACHED) from None
            except socket.gaierror as error:
                if error.errno == socket.EAI_AGAIN:
                    raise TransientError("the host's name cannot be resolved now", attempts=_UNREACHED) from None
                raise ReadError(f"{path}: {shown(parts.hostname or '')}: no such host") from None
            except ConnectionError as error:
                if used:  # as above
                    raise TransientError("the connection was closed", stale=True) from None
                raise TransientError(_failed(error), attempts=1000 if wire else _UNREACHED) from None
            except OSError as error:
                if (reason := getattr(error, "verify_message", None)) is not None:
                    host = shown(parts.hostname or "")
                    raise ReadError(f"{path}: {host}: the server's certificate is not trusted: {reason}") from None
                raise TransientError(_failed(error), attempts=1000 if wire else _UNREACHED) from None
            finally:
                if wire is not None:
                    self._release(wire, parts)

    def _connection(self, parts: SplitResult, until: float) -> Wire:
        """An idle connection or a new one, whose handshake ends by then (monotonic) if it was not begun late."""
        scheme, host, port = at = origin(parts)
        with self._lock:
            idle = self._idle.get(at)
            if idle:
                return idle.pop()
        proxy = proxy_for(host) if scheme == "https" and self._guard.private else None
        plain = connected(self._guard, host, port) if proxy is None else tunnelled(proxy, host, port)
        if scheme != "https":
            return Wire(plain)
        try:
            plain.settimeout(min(SILENCE_S, max(_EXPLAINED_S, until - time.monotonic())))
            encrypted = self._context().wrap_socket(plain, server_hostname=host)
            encrypted.settimeout(SILENCE_S)
            return Wire(encrypted)
        except BaseException:
            plain.close()
            raise

    def _release(self, wire: Wire, parts: SplitResult) -> None:
        wire.idled = True
        if wire.reusable:
            self._keep(wire, parts)
        else:
            wire.close()

    def _keep(self, wire: Wire, parts: SplitResult) -> None:
        with self._lock:
            if not self._closed:
                self._idle.setdefault(origin(parts), []).append(wire)
                return
        wire.close()

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = verified()
            return self._tls


def _jitter(least: float, most: float) -> float:
    from random import uniform  # where something has failed, and not before the first request

    return uniform(least, most)  # noqa: S311  # spreads requests, and keeps no secret


def _failed(error: OSError) -> str:
    return f"the connection failed: {error.strerror or type(error).__name__}"
