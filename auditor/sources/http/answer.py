"""What an answer to a ranged read means: bytes, another address, or why there are none and whether to ask again."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin

from auditor.errors import ReadError
from auditor.sources.http.request import bare_etag
from auditor.sources.http.status import code_of_status

if TYPE_CHECKING:
    from auditor.sources.http.connection import Reply
    from auditor.sources.http.request import Request
    from auditor_schemas.codes import Code

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_HTML = re.compile(r"[ \t]*(?:text/html|application/xhtml\+xml)", re.IGNORECASE)
_ONCE = ("content-length", "content-range", "transfer-encoding")
_PEEK_BYTES = 4096
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|script|meta|\?xml|!--)", re.IGNORECASE)


class Answer(NamedTuple):
    """Bytes from the start of the range; `size` of the whole file, `etag` as the server gave it.

    Where it gave none, its Last-Modified is a weak one, which tells versions apart and insists on none. `url` is where
    they came from in the end; like any address, never shown.
    """

    data: bytes | memoryview
    size: int
    etag: str | None
    url: str = ""


class RefusedError(ReadError):
    """The server answers with a status that asking again will not mend, and a word for why where it gives one."""

    def __init__(self, text: str, status: int, word: str) -> None:
        super().__init__(text, code=code_of_status(status))
        self.status = status
        self.word = word


class AbsentError(RefusedError):
    """The server says that there is no such file."""

    def __init__(self, text: str, status: int = 404, word: str = "") -> None:
        super().__init__(text, status, word)


class UnchangedError(Exception):
    """The file still is the one whose ETag was sent along."""


class TransientError(Exception):
    """Worth another attempt, at most `attempts`: `after` seconds, where the server says so; `everyone` should wait.

    `stale`: the server had closed a connection that idled, which says nothing of what was asked. `code` is what it is
    when it is given up.
    """

    def __init__(
        self,
        text: str,
        *,
        after: float | None = None,
        everyone: bool = False,
        stale: bool = False,
        attempts: float = float("inf"),
        code: Code = "unreachable",
    ) -> None:
        super().__init__(text)
        self.code = code
        self.after = after
        self.everyone = everyone
        self.stale = stale
        self.attempts = attempts


class ExpiredError(Exception):
    """A signature that has expired."""


def judge(reply: Reply, request: Request, url: str) -> Answer | str:
    """What the answer whose head has come means, its body read: the range, or where it is redirected to.

    Raises ReadError for what asking again will not mend, TransientError, ExpiredError and UnchangedError for what they
    say, and HTTPException and OSError as the connection does.
    """
    path, begin, end, status, headers = request.path, request.begin, request.end, reply.status, _headers(reply)
    if reply.length == 0:
        reply.finish()
    if request.whole:
        return _whole(reply, headers, request, url)
    if status == 206:
        first, last, size = _content_range(path, headers)
        if first != begin or last >= end or (size is not None and last + 1 != min(end, size)):
            span = f"{begin:,} to {end:,}"
            raise ReadError(
                f"{path}: the server answers bytes {first:,} to {last + 1:,} where {span} were asked", code="unusable"
            )
        if size is None:
            raise ReadError(f"{path}: the server does not say how long the file is", code="unusable")
    elif status == 200 and begin == 0 and reply.length is not None and reply.length <= end:
        size, last = reply.length, reply.length - 1  # a whole file no longer than what was asked for
    elif status == 416 and (found := re.fullmatch(r"bytes \*/(\d{1,19})", headers.get("content-range", ""))):
        size = int(found[1])
        if size > begin:
            raise ReadError(f"{path}: the server refuses a range within the file's {size:,} bytes", code="unusable")
        return Answer(b"", size, _version(headers), url)
    else:
        return _refusal(reply, headers, request, url)
    _refuse_encoded(path, headers)
    length = last + 1 - begin
    if reply.length is not None and reply.length != length:
        raise ReadError(f"{path}: the answer has {reply.length:,} bytes, its range {length:,}", code="unusable")
    given = _version(headers)
    if request.etag is not None and given is not None and not same_etag(given, request.etag):
        raise ReadError(f"{path}: changed while it was read", code="changed")
    data = _body(reply, request, length)
    if begin == 0 and _HTML.match(headers.get("content-type", "")) and _PAGE.match(data[:512]):
        raise ReadError(f"{path}: the server answers with a page (text/html), not with the file", code="unusable")
    return Answer(data, size, given, url)


def _headers(reply: Reply) -> dict[str, str]:
    """The headers by their names in lower case. Raises TransientError where they do not say how the answer is sent."""
    found: dict[str, str] = {}
    for name, value in reply.getheaders():
        if found.setdefault(name.lower(), value) != value and name.lower() in _ONCE:
            raise TransientError("the server's answer cannot be used: two headers contradict each other")
    if found.get("transfer-encoding", "chunked").lower() != "chunked":
        raise TransientError("the server's answer cannot be used: an unknown transfer encoding")
    return found


def _whole(reply: Reply, headers: dict[str, str], request: Request, url: str) -> Answer | str:
    """A listing."""
    if reply.status != 200:
        return _refusal(reply, headers, request, url)
    _refuse_encoded(request.path, headers)
    announced = reply.length
    data = b"" if announced is not None and announced > request.end else _some(reply, request.end + 1)
    if max(len(data), announced or 0) > request.end:
        raise ReadError(
            f"{request.path}: the server's answer is longer than the {request.end:,} bytes that are read of one",
            code="unusable",
        )
    if announced is not None and len(data) < announced:
        raise TransientError(f"the answer ended early, after {len(data):,} of {announced:,} bytes")
    reply.finish()
    return Answer(data, len(data), None, url)


def _some(reply: Reply, most: int) -> bytes:
    """At most so many bytes of the body; fewer only where it ends."""
    buffer = bytearray(most)
    count = reply.readinto(memoryview(buffer))
    return bytes(memoryview(buffer)[:count])


def _refuse_encoded(path: str, headers: dict[str, str]) -> None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ReadError(f"{path}: the server encodes the answer, which a range cannot be read from", code="unusable")


def _version(headers: dict[str, str]) -> str | None:
    """What the server names these bytes."""
    changed = headers.get("last-modified")
    return headers.get("etag") or (f'W/"{changed}"' if changed else None)


def _refusal(reply: Reply, headers: dict[str, str], request: Request, url: str) -> str:
    """Where a redirect leads; raises what any other answer means."""
    path, status = request.path, reply.status
    if status in _REDIRECTS and "location" in headers:
        _some(reply, 4096)  # whatever it says, so that the connection is as good as before
        reply.finish()
        return str(urljoin(url, headers["location"]))
    if status == 200:
        size = "" if reply.length is None else f" of {reply.length:,} bytes"
        told = f"the server ignores ranges and sends the whole file{size}; nothing of it is read"
        raise ReadError(f"{path}: {told}", code="unusable")
    if status == 304 and request.unless is not None:
        raise UnchangedError
    if status == 412:
        raise ReadError(f"{path}: changed while it was read", code="changed")
    body = b"" if status in (404, 410) and not request.whole else _some(reply, 2048)
    reply.finish()
    found = _CODE.search(body)
    word = found[1].decode() if found else ""
    told = f"HTTP {status} {word}".rstrip()
    word = word or headers.get("x-error-code", "")
    if status in (404, 410):
        raise AbsentError(f"{path}: is not there ({told})", status, word)
    if status in _RETRIED:
        after = _retry_after(headers.get("retry-after"))
        code: Code = "throttled" if status == 429 or (status == 503 and after is not None) else "unreachable"
        raise TransientError(f"the server answers {told}", after=after, everyone=status in (429, 503), code=code)
    if status in (400, 401, 403) and b"expired" in body.lower():
        raise ExpiredError(f"the signature of its address has expired ({told})")
    if word == "GatedRepo":
        reason = f"access to this gated repository has not been granted ({told})"
    elif status == 401:
        reason = f"credentials are needed, or those given are not accepted ({told})"
    elif status == 403:
        reason = f"access is denied ({told})"
    else:
        reason = f"the server answers {told}"
    raise RefusedError(f"{path}: {reason}", status, word)


def _content_range(path: str, headers: dict[str, str]) -> tuple[int, int, int | None]:
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    if found is None or int(found[2]) < int(found[1]):
        raise ReadError(f"{path}: the server answers a range without saying which", code="unusable")
    return int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])


def _body(reply: Reply, request: Request, length: int) -> memoryview:
    """Exactly so many bytes; an answer that ends early is worth another attempt."""
    view = memoryview(bytearray(length)) if request.into is None else request.into[:length]
    count = 0
    if request.peek is not None:
        count = reply.readinto(view[:_PEEK_BYTES])
        request.peek(bytes(view[:count]))
    count += reply.readinto(view[count:])
    if count < length:
        raise TransientError(f"the answer ended early, after {count:,} of {length:,} bytes")
    reply.finish()
    return view


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def same_etag(one: str, other: str) -> bool:
    """Whether two ETags name the same bytes, whichever way they are quoted."""
    return bare_etag(one) == bare_etag(other)
