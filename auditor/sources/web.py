"""A checkpoint at https://…/: files by name under one address. There is no listing, so each is asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from auditor.errors import Unread, UsageError
from auditor.sources.entry import Entry
from auditor.sources.http.answer import AbsentError
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.sources.http.transport import Transport
from auditor.sources.remote import Remote
from auditor.text import shown

if TYPE_CHECKING:
    from auditor.sources.cache import Cache


class Web(Remote):
    """Files under an address, over https alone (http on loopback). A query is sent with every file and never shown.

    Raises UsageError for what is no address, SourceError for a host that is not allowed.
    """

    listed = False

    def __init__(self, source: str, *, guard: Guard, cache: Cache | None) -> None:
        try:
            parts = urlsplit(source)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise UsageError("the source is not a URL that can be read") from None
        if not host:
            raise UsageError(f"{parts.scheme}:// needs a host and a path")
        place = f"[{host}]" if ":" in host else host
        place += f":{port}" if port else ""
        path = parts.path.rstrip("/") + "/"
        shown_uri = shown(urlunsplit((parts.scheme, place, path, "", "")))
        super().__init__(uri=shown_uri, location=shown_uri, transport=Transport(guard), cache=cache)
        self._base = urlunsplit((parts.scheme, place, path, "", ""))
        guard.admit(self._base)
        self._query = f"?{parts.query}" if parts.query else ""
        self._headers = _authorization(parts.username, parts.password, host)

    def warm(self, count: int) -> None:
        """Begin to open connections to the one host that there is."""
        self._starts.warm(lambda: self.transport.open(self._base), count)

    def _locate(self, path: str, renew: bool) -> Located:  # noqa: ARG002  # an address is what it is
        return Located(f"{self._base}{quote(path)}{self._query}", self._headers)

    def _known(self, path: str) -> Entry | None:  # noqa: ARG002  # as the protocol has it
        return None

    def entries(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:  # noqa: ARG002  # as the protocol has it
        """None: plain web servers cannot list."""
        return {}, None

    def entry(self, path: str) -> Entry:
        """One file, asked for by its name."""
        start = self._starts.get(path)
        if isinstance(start.error, AbsentError):
            return Entry("absent")
        if start.error is not None:
            return Entry("file")  # there, but not to be read: opening it says why
        return Entry("file", start.size, etag=start.etag)


open_at = Web


def _authorization(user: str | None, password: str | None, host: str) -> dict[str, str]:
    """A header with the credentials of the address, or else those that ~/.netrc has for the host."""
    if user is None and (found := _netrc(host)) is not None:
        user, password = found
    elif user is not None:
        user, password = unquote(user), unquote(password or "")
    if user is None:
        return {}
    from base64 import b64encode

    token = b64encode(f"{user}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


def _netrc(host: str) -> tuple[str, str] | None:
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    if not os.path.isfile(path):
        return None
    import netrc

    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return None if found is None else (found[0], found[2] or "")
