"""Ranged reads over HTTP: pooled connections, retries within a deadline, and no host that nobody named.

Everything that listings and a remote file's bytes come through. obstore and huggingface_hub authenticate; their own
requests follow redirects to any host (and tell it the address they came from, signature included), bound no answer and
do not honour Retry-After, so the asking is done here.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from auditor.errors import ReadError, SourceError
from auditor.sources.http.answer import Answer, ExpiredError, TransientError, judge
from auditor.sources.http.connection import LEAST_S, Connection, Reply, verifying_context
from auditor.sources.http.hosts import Guard, is_loopback
from auditor.sources.http.request import Located, Request, headers_for, origin, target
from auditor.text import shown

if TYPE_CHECKING:
    import ssl

    from auditor_schemas.codes import Code

CONNECTIONS = 192  # at once, to all hosts of one source
DEADLINE_S = 60.0  # for one read, its retries included
_HOPS = 5
_BACKOFF_S, _BACKOFF_MOST_S = 0.2, 8.0
_UNREACHED = 3  # attempts at a host that does not answer at all
_ODD = {
    http.client.BadStatusLine: "no HTTP/1.1 answer",
    http.client.UnknownProtocol: "no HTTP/1.1 answer",
    http.client.LineTooLong: "a line without end",
}
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
        self._idle: dict[tuple[str, str, int], list[Connection]] = {}
        self._budget = threading.BoundedSemaphore(CONNECTIONS)
        self._not_before, self._why_not_before = 0.0, ""
        self._tls: ssl.SSLContext | None = None
        self._busy: set[Connection] = set()
        self._ended = threading.Event()

    def close(self) -> None:
        """Close what is idle and end what is under way."""
        with self._lock:
            self._ended.set()
            idle, busy = [each for group in self._idle.values() for each in group], list(self._busy)
            self._idle.clear()
        for connection in idle:
            connection.close()
        for connection in busy:
            connection.interrupt()

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
        peek: Callable[[bytes], object] | None = None,
        deadline: float | None = None,
        whole: bool = False,
    ) -> Answer:
        """The bytes of [begin, end), fewer where the file ends earlier; into a buffer where one is given.

        `locate(renew)` says where the file is, anew where a signature has expired. `etag`: the file must still
        be that one. `unless`: raises UnchangedError if it still is. `peek` gets the first bytes before the rest
        comes. `whole`: a listing, as Request says.
        Raises AbsentError for a file that is not there and ReadError, its text beginning with `path`, for all else.
        """
        deadline = self.deadline() if deadline is None else deadline
        request = Request(path, locate(False), begin, end, deadline, etag, unless, whole, into, peek)
        attempt, renewed = 0, False
        while True:
            pause = self._not_before - time.monotonic()
            if pause > 0:  # spread out: all who wait would come back at once
                self._wait(request, pause + _jitter(0.0, 0.5), self._why_not_before, "throttled")
            try:
                return self._attempt(request)
            except ExpiredError as error:
                if renewed:
                    raise ReadError(f"{path}: {error}", code="forbidden") from None
                renewed, again = True, locate(True)
                if again == request.where and not self._abroad:  # the hub's own address stays, where it sends to is new
                    raise ReadError(f"{path}: {error}", code="forbidden") from None
                request = request._replace(where=again)
            except TransientError as error:
                if error.stale and time.monotonic() < deadline:
                    continue  # each takes one idle connection away, and a new one is never stale
                pause = _jitter(0.5, 1.0) * min(_BACKOFF_S * 2**attempt, _BACKOFF_MOST_S)
                attempt += 1
                if attempt >= error.attempts:
                    raise ReadError(f"{path}: {error}, {attempt} times", code=error.code) from None
                if error.after is not None:
                    pause = max(pause, error.after)
                    if error.everyone:
                        self._not_before = max(self._not_before, time.monotonic() + error.after)
                        self._why_not_before = f"{error} and asks for a pause"
                why = f"{error}, {attempt} times" if attempt > 1 else str(error)
                self._wait(request, pause, why, error.code)

    def open(self, url: str) -> None:
        """Open a connection for what is to come; what is wrong with it, who asks for something hears."""
        try:
            at = origin(self._guard.admit(url))
            with self._budget:
                with self._lock:
                    connection = self._new(at)
                connection.open(self.deadline())
                self._keep(connection, at)
        except (SourceError, OSError):
            pass

    def deadline(self) -> float:
        """When a read that begins now has to end, its retries included."""
        return time.monotonic() + self._deadline

    # --- attempts ---

    def _wait(self, request: Request, pause: float, why: str, code: Code) -> None:
        if pause <= 0:
            return
        if time.monotonic() + pause > request.until:
            given_up = f"{why}; given up, the deadline is {self._deadline:g} s"
            raise ReadError(f"{request.path}: {given_up}", code=code)
        self._ended.wait(pause)

    def _attempt(self, request: Request) -> Answer:
        url, headers = request.where.url, headers_for(request)
        try:
            for _ in range(_HOPS):
                moved = self._ask(request, url, headers)
                if isinstance(moved, Answer):
                    return moved
                headers = self._onward(request, url, moved, headers)
                url = moved
        except SourceError as error:
            raise ReadError(f"{request.path}: {error}", code=error.code) from None
        raise ReadError(f"{request.path}: redirected more than {_HOPS} times", code="unusable")

    def _onward(self, request: Request, url: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """What may be sent along to where a redirect leads; raises ReadError where it must not be followed."""
        path = request.path
        try:
            old, new = self._guard.admit(url), self._guard.admit(target)
        except SourceError as error:
            raise ReadError(f"{path}: redirected to {error}", code=error.code) from None
        if origin(old) == origin(new) or (old.hostname == new.hostname and new.scheme == "https" != old.scheme):
            return headers
        if not self._abroad or request.whole:
            told = f"redirected to another host, {shown(new.hostname or '')}, which is not followed"
            raise ReadError(f"{path}: {told}", code="not_allowed")
        if is_loopback(new.hostname or "") and not is_loopback(old.hostname or ""):
            raise ReadError(f"{path}: redirected to this machine itself, which is not followed", code="not_allowed")
        return {name: value for name, value in headers.items() if name.lower() not in _PRIVATE_HEADERS}

    def _ask(self, request: Request, url: str, headers: dict[str, str]) -> Answer | str:
        """One request: its answer, or where it is redirected to."""
        parts = self._guard.admit(url)
        named, at = target(request.path, parts, headers), origin(parts)
        earning = 0 if request.whole else request.end - request.begin  # what comes of a file earns its time
        with self._budget:
            if self._ended.is_set():
                raise ReadError(f"{request.path}: was not read: the audit has ended", code="cancelled")
            connection, reply = self._connection(at), None
            until = max(request.until, time.monotonic() + LEAST_S)
            try:
                reply = connection.ask(named, headers, until=until, earning=earning)
                return judge(reply, request, url)
            except (http.client.HTTPException, OSError) as error:
                if connection.idled and reply is None and isinstance(error, ConnectionError):
                    raise TransientError("the connection was closed", stale=True) from None
                attempts = float("inf") if connection.reached else _UNREACHED
                raise _meant(error, request.path, shown(at[1]), attempts=attempts) from None
            finally:
                self._release(connection, at, reply)

    def _connection(self, at: tuple[str, str, int]) -> Connection:
        """An idle connection or a new one, which is not connected yet."""
        with self._lock:
            idle = self._idle.get(at)
            found = idle.pop() if idle else self._new(at)
            self._busy.add(found)
            return found

    def _new(self, at: tuple[str, str, int]) -> Connection:
        if self._tls is None and at[0] == "https":
            self._tls = verifying_context()
        return Connection(self._guard, at, self._tls if at[0] == "https" else None)

    def _release(self, connection: Connection, at: tuple[str, str, int], reply: Reply | None) -> None:
        with self._lock:
            self._busy.discard(connection)
        if reply is not None and reply.reusable:
            self._keep(connection, at)
            return
        if reply is not None:
            reply.close()  # it has the socket, where the other side said that it would close
        connection.close()

    def _keep(self, connection: Connection, at: tuple[str, str, int]) -> None:
        connection.idled = True
        with self._lock:
            if not self._ended.is_set():
                self._idle.setdefault(at, []).append(connection)
                return
        connection.close()


def _meant(error: Exception, path: str, host: str, *, attempts: float) -> Exception:
    """What a failed exchange is to whoever asked: worth another attempt, or not."""
    if isinstance(error, TimeoutError):
        return TransientError("no answer in time", attempts=attempts)
    if isinstance(error, http.client.IncompleteRead):
        return TransientError("the answer ended early")
    if isinstance(error, http.client.RemoteDisconnected):
        return TransientError("the connection was closed")
    if isinstance(error, http.client.HTTPException):
        return TransientError(f"the server's answer cannot be used: {_ODD.get(type(error), 'its head has no end')}")
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return TransientError("the host's name cannot be resolved now", attempts=_UNREACHED)
        return ReadError(f"{path}: {host}: no such host", code="unreachable")
    if (reason := getattr(error, "verify_message", None)) is not None:
        return ReadError(f"{path}: {host}: the server's certificate is not trusted: {reason}", code="unreachable")
    told = getattr(error, "strerror", None) or type(error).__name__
    return TransientError(f"the connection failed: {told}", attempts=attempts)


def _jitter(least: float, most: float) -> float:
    return random.uniform(least, most)  # noqa: S311  # spreads requests, and keeps no secret
