"""Ranged reads over HTTP: pooled connections, retries within a deadline, and no host that nobody named.

Everything that a remote file's bytes come through. obstore and huggingface_hub list and authenticate; their own
reading follows redirects to any host (and tells it the address it came from, signature included) and does not
honour Retry-After, so the reading is done here.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urljoin

from auditor.errors import ReadError, SourceError
from auditor.sources.hosts import SILENCE_S, Guard, connected, is_loopback, proxy_for, tunnelled, verified
from auditor.sources.wire import Wire, WireError
from auditor.text import shown
from auditor.version import __version__

if TYPE_CHECKING:
    import ssl

CONNECTIONS = 192  # at once, to all hosts of one source
DEADLINE_S = 60.0  # for one read, its retries included
_SLOWEST = 32 << 10  # bytes a second, below which a large answer is given up
_HOPS = 5
_BACKOFF_S, _BACKOFF_MOST_S = 0.2, 8.0
_UNREACHED = 3  # attempts at a host that does not answer at all
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_PRIVATE_HEADERS = ("authorization", "cookie")


class AbsentError(ReadError):
    """The server says that there is no such file."""


class UnchangedError(Exception):
    """The file still is the one whose ETag was sent along."""


class Located(NamedTuple):
    """Where a file is and what to send along; both may hold credentials and are never shown."""

    url: str
    headers: dict[str, str]


class Answer(NamedTuple):
    """Bytes from the start of the range; `size` of the whole file, `etag` as the server gave it.

    `url` is where they came from in the end; like any address, never shown.
    """

    data: bytes | memoryview
    size: int
    etag: str | None
    url: str = ""


class Asked(NamedTuple):
    """A range [begin, end) of a file, to be answered before `until` (monotonic).

    `etag`: the file must still be that one. `unless`: its bytes are not wanted if it still is that one.
    """

    path: str
    where: Located
    begin: int
    end: int
    until: float
    etag: str | None = None
    unless: str | None = None


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
    ) -> Answer:
        """The bytes of [begin, end), fewer where the file ends earlier; into a buffer where one is given.

        `locate(renew)` says where the file is, anew where a signature has expired. `etag`: the file must still
        be that one. `unless`: raises UnchangedError if it still is. `first`: what became of a first attempt.
        Raises AbsentError for a file that is not there and ReadError, its text beginning with `path`, for all else.
        """
        deadline = self.deadline() if deadline is None else deadline
        attempt, renewed, where = 0, False, locate(False)
        while True:
            asked = self._not_before - time.monotonic() if first is None else 0.0
            if asked > 0:  # spread out: all who wait would come back at once
                self._wait(path, asked + _jitter(0.0, 0.5), deadline, self._asked)
            try:
                if first is not None:
                    outcome, first = first, None
                    if isinstance(outcome, Answer):
                        return outcome
                    raise outcome
                return self._attempt(path, where, begin, end, etag, unless, into)
            except _ExpiredError as error:
                if renewed:
                    raise ReadError(f"{path}: {error}") from None
                renewed, again = True, locate(True)
                if again == where and not self._abroad:  # the hub's own address stays, where it sends to is new
                    raise ReadError(f"{path}: {error}") from None
                where = again
            except _TransientError as error:
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
                self._wait(path, pause, deadline, f"{error}, {attempt} times" if attempt > 1 else str(error))

    def deadline(self) -> float:
        """When a read that begins now has to end, its retries included."""
        return time.monotonic() + self._deadline

    # --- for a lane, whose first attempts are made on sockets that do not block ---

    def request(self, asked: Asked) -> tuple[SplitResult, bytes]:
        """Where to send what. Raises SourceError and ReadError as `fetch` does."""
        url, headers = asked.where.url, _asking(asked.where, asked.begin, asked.end, asked.etag, asked.unless)
        parts = self._guard.admit(url)
        if time.monotonic() < self._not_before:
            raise ReadError(f"{asked.path}: {self._asked}")
        return parts, _request(parts, headers)

    def place(self, url: str) -> SplitResult:
        """The URL in parts; raises SourceError for one that must not be asked."""
        return self._guard.admit(url)

    def idle(self, parts: SplitResult) -> socket.socket | None:
        """A connection that is open and has nothing to do; it does not block."""
        with self._lock:
            idle = self._idle.get(_origin(parts))
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
        origin = _origin(parts)
        scheme, host, port = origin
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
        """What an answer that has come whole means; raises as an attempt does, or ReadError for a redirect."""
        try:
            wire.hear()
            found = self._judge(asked.path, asked.where.url, wire, asked.begin, asked.end, asked.etag, None)
        except WireError as error:
            raise _TransientError(f"the server's answer cannot be used: {error}") from None
        finally:
            self._release(wire, parts)
        if isinstance(found, Answer):
            return found
        raise _TransientError("redirected", stale=True)

    # --- attempts ---

    def _wait(self, path: str, pause: float, deadline: float, why: str) -> None:
        if pause <= 0:
            return
        if time.monotonic() + pause > deadline:
            raise ReadError(f"{path}: {why}; given up, the deadline is {self._deadline:g} s")
        time.sleep(pause)

    def _attempt(
        self,
        path: str,
        where: Located,
        begin: int,
        end: int,
        etag: str | None,
        unless: str | None,
        into: memoryview | None,
    ) -> Answer:
        url, headers = where.url, _asking(where, begin, end, etag, unless)
        for _ in range(_HOPS):
            moved = self._ask(path, url, headers, begin, end, etag, into)
            if isinstance(moved, Answer):
                return moved
            headers = self._onward(path, url, moved, headers)
            url = moved
        raise ReadError(f"{path}: redirected more than {_HOPS} times")

    def _onward(self, path: str, url: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """What may be sent along to where a redirect leads; raises ReadError where it must not be followed."""
        try:
            old, new = self._guard.admit(url), self._guard.admit(target)
        except SourceError as error:
            raise ReadError(f"{path}: redirected to {error}") from None
        if _origin(old) == _origin(new) or (old.hostname == new.hostname and new.scheme == "https" != old.scheme):
            return headers
        if not self._abroad:
            raise ReadError(f"{path}: redirected to another host, {shown(new.hostname or '')}, which is not followed")
        if is_loopback(new.hostname or "") and not is_loopback(old.hostname or ""):
            raise ReadError(f"{path}: redirected to this machine itself, which is not followed")
        return {name: value for name, value in headers.items() if name.lower() not in _PRIVATE_HEADERS}

    def _ask(
        self,
        path: str,
        url: str,
        headers: dict[str, str],
        begin: int,
        end: int,
        etag: str | None,
        into: memoryview | None,
    ) -> Answer | str:
        """One request: its answer, or where it is redirected to."""
        try:
            parts = self._guard.admit(url)
        except SourceError as error:
            raise ReadError(f"{path}: {error}") from None
        request = _request(parts, headers)
        with self._budget:
            wire: Wire | None = None
            used = False
            try:
                wire = self._connection(parts)
                used = wire.idled
                wire.until = time.monotonic() + self._deadline + (end - begin) / _SLOWEST
                wire.ask(request)
                return self._judge(path, url, wire, begin, end, etag, into)
            except WireError as error:
                if used and error.silent:  # it was closed while it idled
                    raise _TransientError("the connection was closed", stale=True) from None
                raise _TransientError(f"the server's answer cannot be used: {error}") from None
            except SourceError as error:
                raise ReadError(f"{path}: {error}") from None
            except TimeoutError:
                raise _TransientError("no answer in time", attempts=1000 if wire else _UNREACHED) from None
            except socket.gaierror as error:
                if error.errno == socket.EAI_AGAIN:
                    raise _TransientError("the host's name cannot be resolved now", attempts=_UNREACHED) from None
                raise ReadError(f"{path}: {shown(parts.hostname or '')}: no such host") from None
            except ConnectionError as error:
                if used:  # as above
                    raise _TransientError("the connection was closed", stale=True) from None
                raise _TransientError(_failed(error), attempts=1000 if wire else _UNREACHED) from None
            except OSError as error:
                if (reason := getattr(error, "verify_message", None)) is not None:
                    raise ReadError(f"{path}: the server's certificate is not trusted: {reason}") from None
                raise _TransientError(_failed(error), attempts=1000 if wire else _UNREACHED) from None
            finally:
                if wire is not None:
                    self._release(wire, parts)

    def _judge(
        self,
        path: str,
        url: str,
        wire: Wire,
        begin: int,
        end: int,
        etag: str | None,
        into: memoryview | None,
    ) -> Answer | str:
        status, headers = wire.status, wire.headers
        if status == 206:
            first, last, size = _content_range(path, headers)
            if first != begin or last >= end or (size is not None and last + 1 != min(end, size)):
                wanted = f"{begin:,} to {end:,}"
                raise ReadError(f"{path}: the server answers bytes {first:,} to {last + 1:,} where {wanted} were asked")
            if size is None:
                raise ReadError(f"{path}: the server does not say how long the file is")
        elif status == 200 and begin == 0 and wire.length is not None and wire.length <= end:
            size, last = wire.length, wire.length - 1  # a whole file no longer than what was asked for
        elif status == 416 and (found := re.fullmatch(r"bytes \*/(\d{1,19})", headers.get("content-range", ""))):
            size = int(found[1])
            if size > begin:
                raise ReadError(f"{path}: the server refuses a range within the file's {size:,} bytes")
            return Answer(b"", size, headers.get("etag"), url)
        else:
            return self._refusal(path, url, wire)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ReadError(f"{path}: the server encodes the answer, which a range cannot be read from")
        length = last + 1 - begin
        if wire.length is not None and wire.length != length:
            raise ReadError(f"{path}: the answer has {wire.length:,} bytes, its range {length:,}")
        given = headers.get("etag")
        if etag is not None and given is not None and not same_etag(given, etag):
            raise ReadError(f"{path}: changed while it was read")
        return Answer(_body(wire, length, into), size, given, url)

    def _refusal(self, path: str, url: str, wire: Wire) -> str:
        """Where a redirect leads; raises what any other answer means."""
        status, headers = wire.status, wire.headers
        if status in _REDIRECTS and "location" in headers:
            wire.read(4096)  # whatever it says, so that the connection is as good as before
            return str(urljoin(url, headers["location"]))
        if status == 200:
            size = "" if wire.length is None else f" of {wire.length:,} bytes"
            raise ReadError(f"{path}: the server ignores ranges and sends the whole file{size}; nothing of it is read")
        if status == 304:
            raise UnchangedError
        if status == 412:
            raise ReadError(f"{path}: changed while it was read")
        body = b"" if status in (404, 410) else bytes(wire.read(2048))
        code = _CODE.search(body)
        told = f"HTTP {status}" + (f" {code[1].decode()}" if code else "")
        if status in (404, 410):
            raise AbsentError(f"{path}: is not there ({told})")
        if status in _RETRIED:
            after = _retry_after(headers.get("retry-after"))
            raise _TransientError(f"the server answers {told}", after=after, everyone=status in (429, 503))
        if status in (400, 401, 403) and b"expired" in body.lower():
            raise _ExpiredError(f"the signature of its address has expired ({told})")
        if headers.get("x-error-code") == "GatedRepo":
            raise ReadError(f"{path}: access to this gated repository has not been granted ({told})")
        if status == 401:
            raise ReadError(f"{path}: credentials are needed, or those given are not accepted ({told})")
        if status == 403:
            raise ReadError(f"{path}: access is denied ({told})")
        raise ReadError(f"{path}: the server answers {told}")

    def _connection(self, parts: SplitResult) -> Wire:
        """An idle connection or a new one."""
        origin = _origin(parts)
        with self._lock:
            idle = self._idle.get(origin)
            if idle:
                return idle.pop()
        scheme, host, port = origin
        proxy = proxy_for(host) if scheme == "https" and self._guard.private else None
        plain = connected(self._guard, host, port) if proxy is None else tunnelled(proxy, host, port)
        if scheme != "https":
            return Wire(plain)
        try:
            return Wire(self._context().wrap_socket(plain, server_hostname=host))
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
                self._idle.setdefault(_origin(parts), []).append(wire)
                return
        wire.close()

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = verified()
            return self._tls


_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"checkpoint-auditor/{__version__}"}


class _TransientError(Exception):
    """Worth another attempt, at most `attempts`: `after` seconds, where the server says so; `everyone` should wait.

    `stale`: the server had closed a connection that idled, which says nothing of what was asked.
    """

    def __init__(
        self,
        text: str,
        *,
        after: float | None = None,
        everyone: bool = False,
        stale: bool = False,
        attempts: int = 1000,
    ) -> None:
        super().__init__(text)
        self.after = after
        self.everyone = everyone
        self.stale = stale
        self.attempts = attempts


class _ExpiredError(Exception):
    """A signature that has expired."""


def _asking(where: Located, begin: int, end: int, etag: str | None, unless: str | None) -> dict[str, str]:
    """The headers that ask for a range."""
    headers = {"Range": f"bytes={begin}-{end - 1}", **_HEADERS, **where.headers}
    if etag is not None:
        headers["If-Match"] = f'"{bare_etag(etag)}"'  # Azure lists its ETags without quotes
    if unless is not None:
        headers["If-None-Match"] = unless
    return headers


def _request(parts: SplitResult, headers: dict[str, str]) -> bytes:
    """The head of a GET; nothing that came from elsewhere can add a line to it."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    scheme, host, port = _origin(parts)
    host = f"[{host}]" if ":" in host else host
    usual = port == (443 if scheme == "https" else 80)
    lines = [f"GET {target} HTTP/1.1", f"Host: {host if usual else f'{host}:{port}'}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any(not line.isascii() or not line.isprintable() for line in lines) or " " in target:
        raise ReadError("an address or a header that cannot be sent")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _jitter(least: float, most: float) -> float:
    from random import uniform  # where something has failed, and not before the first request

    return uniform(least, most)  # noqa: S311  # spreads requests, and keeps no secret


def _failed(error: OSError) -> str:
    return f"the connection failed: {error.strerror or type(error).__name__}"


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return _place(parts.scheme, parts.netloc)


@lru_cache(maxsize=64)
def _place(scheme: str, netloc: str) -> tuple[str, str, int]:
    parts = SplitResult(scheme, netloc, "", "", "")
    return scheme, parts.hostname or "", parts.port or (443 if scheme == "https" else 80)


def _content_range(path: str, headers: dict[str, str]) -> tuple[int, int, int | None]:
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    if found is None or int(found[2]) < int(found[1]):
        raise ReadError(f"{path}: the server answers a range without saying which")
    return int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])


def _body(wire: Wire, length: int, into: memoryview | None) -> bytes | memoryview:
    """Exactly so many bytes; an answer that ends early is worth another attempt."""
    data = wire.read(length) if into is None else into[: wire.read_into(into[:length])]
    if len(data) < length:
        raise _TransientError(f"the answer ended after {len(data):,} of {length:,} bytes")
    wire.finish()
    return data


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def same_etag(one: str, other: str) -> bool:
    """Whether two ETags name the same bytes, whichever way they are quoted."""
    return bare_etag(one) == bare_etag(other)


def bare_etag(etag: str) -> str:
    """An ETag without its quotes and its mark of weakness."""
    return etag.removeprefix("W/").strip('"')
