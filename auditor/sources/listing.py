"""What a store lists, page by page, each bounded before it is read: nothing that a server sends goes on without end."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from auditor.errors import SourceError, Unread
from auditor.sources.entry import Entry

if TYPE_CHECKING:
    from auditor.sources.http.request import Located
    from auditor.sources.http.transport import Transport

PAGE_KEYS = 1000
_PAGE_BYTES = 16 << 20  # twice what a thousand of the longest names take
_BYTES = 512 << 20  # of all pages
_BARREN = 100  # pages that name nothing new: stores may send some
_DEPTH = 16  # of elements; a listing has five
_TEXT = 8 << 10  # characters of one of them
_TYPES = ("Contents", "Blob")


class Dialect(NamedTuple):
    """How a kind of store is asked for a page: fixed parameters, and those of prefix, number and continuation."""

    fixed: dict[str, str]
    prefix: str
    most: str
    after: str

    def query(self, prefix: str, after: str) -> str:
        """The parameters of a page: the first, or the one that a token names."""
        query = {**self.fixed, self.most: str(PAGE_KEYS)}
        query |= {self.prefix: prefix} if prefix else {}
        query |= {self.after: after} if after else {}
        return "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(query.items()))


S3 = Dialect({"list-type": "2"}, "prefix", "max-keys", "continuation-token")
AZURE = Dialect({"restype": "container", "comp": "list"}, "prefix", "maxresults", "marker")


def listing(
    transport: Transport,
    where: Callable[[str], Located],
    dialect: Dialect,
    *,
    uri: str,
    prefix: str,
    limit: int,
) -> tuple[dict[str, Entry], Unread | None]:
    """Every object below a prefix (with its slash) by its path from there, at most `limit`, and why that is not all.

    `where` says where to ask for a page, of which it is given the query. Raises SourceError where the listing does not
    end, or not in time, and ReadError, its text beginning with `uri`, where a page cannot be had.
    """
    files: dict[str, Entry] = {}
    after, seen, barren, held = "", {""}, 0, 0
    deadline = transport.deadline()
    while True:
        if time.monotonic() > deadline:
            told = f"does not come in time: {len(files):,} so far"
            raise SourceError(f"{uri}: the store's list of files {told}", code="unreachable")
        query = dialect.query(prefix, after)
        answer = transport.fetch(uri, partial(_place, where(query)), 0, _PAGE_BYTES, deadline=deadline, whole=True)
        held += len(answer.data)
        before = len(files)
        page = parse(bytes(answer.data))
        if page is None:
            raise SourceError(f"{uri}: the store's list of files cannot be used", code="unusable")
        for key, entry in page.files:
            path = key.removeprefix(prefix)
            if not key.startswith(prefix) or any(part in ("", ".", "..") for part in path.split("/")):
                continue  # a marker of a folder, or a name that no path from here leads to
            if len(files) >= limit and path not in files:
                return files, Unread(f"the prefix holds more than {limit:,} objects (limit files)", "limit")
            files[path] = entry
        after = page.after
        if not after:
            return files, None
        barren = barren + 1 if len(files) == before else barren
        if after in seen:
            told = "does not end: a continuation token comes again"
            raise SourceError(f"{uri}: the store's list of files {told}", code="unusable")
        if barren > _BARREN or held > _BYTES:
            told = f"does not end: {barren:,} pages name nothing new"
            raise SourceError(f"{uri}: the store's list of files {told}", code="unusable")
        seen.add(after)


class Page(NamedTuple):
    """Objects by their whole names, and the token of the page that follows, empty where none does."""

    files: list[tuple[str, Entry]]
    after: str


def _place(at: Located, _: bool) -> Located:
    """The same place when it is asked for anew: a page's address is not signed again."""
    return at


def parse(document: bytes) -> Page | None:
    """A page of S3's ListObjectsV2 or of Azure's List Blobs; None where it is neither."""
    from xml.parsers.expat import ExpatError

    reader = _Reader()
    try:
        reader.parser.Parse(document, True)
    except (ExpatError, _OddError, ValueError, LookupError):  # the last: an encoding that nobody knows
        return None
    return Page(reader.files, reader.after) if reader.known else None


class _OddError(Exception):
    """Not what a listing looks like."""


class _Reader:
    """Takes from a listing what it has of each object, without building a tree of it."""

    def __init__(self) -> None:
        from xml.parsers.expat import ParserCreate

        self.files: list[tuple[str, Entry]] = []
        self.after = ""
        self.known = False
        self._open: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._fields: dict[str, str] = {}
        self.parser = ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        raise _OddError

    def _start(self, name: str, _: object) -> None:
        tag = name.rpartition(" ")[2]
        if not self._open:
            self.known = tag in ("ListBucketResult", "EnumerationResults")
        self._open.append(tag)
        if len(self._open) > _DEPTH or not self.known:
            raise _OddError
        self._text, self._length = [], 0
        if tag in _TYPES:
            self._fields = {}

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length > _TEXT:
            raise _OddError
        self._text.append(text)

    def _end(self, _: str) -> None:
        tag = self._open.pop()
        text = "".join(self._text)
        self._text, self._length = [], 0
        if tag in _TYPES:
            self._object()
        elif any(each in self._open for each in _TYPES):
            if tag in ("Key", "Name", "Size", "Content-Length", "ETag", "Etag", "ResourceType"):
                self._fields[tag] = text
        elif tag in ("NextContinuationToken", "NextMarker"):
            self.after = text

    def _object(self) -> None:
        found = self._fields
        if found.get("ResourceType") == "directory":
            return
        key, size = found.get("Key", found.get("Name")), found.get("Size", found.get("Content-Length", ""))
        if key is None:
            raise _OddError
        sized = size.isascii() and size.isdigit() and len(size) < 20
        etag = found.get("ETag", found.get("Etag")) or None
        self.files.append((key, Entry("file", int(size) if sized else 0, etag=etag, sized=sized)))
