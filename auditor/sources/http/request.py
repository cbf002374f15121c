"""What is asked for: a range of a file at an address, and what is sent along."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import SplitResult

from auditor.errors import ReadError
from auditor.version import __version__

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"checkpoint-auditor/{__version__}"}


class Located(NamedTuple):
    """Where a file is and what to send along; both may hold credentials and are never shown."""

    url: str
    headers: dict[str, str]


class Request(NamedTuple):
    """A range [begin, end) of a file, to be answered before `until` (monotonic).

    `etag`: the file must still be that one. `unless`: its bytes are not wanted if it still is that one. `whole`: no
    file but a listing, all of it in one answer of at most `end` bytes, from nobody but the host that is asked.
    `into`: where the bytes go, where not into a new buffer. `peek` is told the first of them before the rest comes.
    """

    path: str
    where: Located
    begin: int
    end: int
    until: float
    etag: str | None = None
    unless: str | None = None
    whole: bool = False
    into: memoryview | None = None
    peek: Callable[[bytes], object] | None = None


def headers_for(request: Request) -> dict[str, str]:
    """The headers that ask for a range."""
    headers = {**_HEADERS, **request.where.headers}
    if not request.whole:
        headers["Range"] = f"bytes={request.begin}-{request.end - 1}"
    if request.etag is not None:
        headers["If-Match"] = f'"{bare_etag(request.etag)}"'  # Azure lists its ETags without quotes
    if request.unless is not None:
        headers["If-None-Match"] = request.unless
    return headers


def target(path: str, parts: SplitResult, headers: dict[str, str]) -> str:
    """What a GET names; raises ReadError where it or a header would add a line, wherever that came from."""
    named = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [named, *(f"{name}: {value}" for name, value in headers.items())]
    if any(not line.isascii() or not line.isprintable() for line in lines) or " " in named:
        raise ReadError(f"{path}: an address or a header that cannot be sent", code="unusable")
    return named


def origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port: what connections have in common that can be used for one another."""
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def bare_etag(etag: str) -> str:
    """An ETag without its quotes and its mark of weakness."""
    return etag.removeprefix("W/").strip('"')
