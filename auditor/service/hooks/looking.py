"""One look at a source: the commit of a hub's revision, or a digest of what a store or server says of the files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from auditor.errors import SourceError
from auditor.format.files import CONFIG, INDEX, SINGLE
from auditor.sources import open_source

if TYPE_CHECKING:
    from auditor.service.settings.tables import Sources

_FILES = 20_000


def look(source: str, revision: str | None, allowed: Sources) -> str:
    """A name of the checkpoint as it is now, which changes with it. Raises AuditorError where there is none."""
    scheme = source.partition("://")[0].lower()
    bucket = scheme in ("s3", "gs", "az")
    opened: Any = open_source(
        source,
        revision=revision,
        cache=False,
        hosts=None if bucket else frozenset(allowed.hosts),
        private=allowed.private,
    )
    try:
        if scheme == "hf":
            return str(opened.head())
        return _listed(opened) if bucket else _named(opened)
    finally:
        opened.close()


def _listed(source: Any) -> str:
    """Of a bucket: every object of the checkpoint with its size and ETag."""
    files, unlisted = source.entries(_FILES)
    if unlisted is not None:
        raise SourceError(f"{source.uri}: {unlisted.reason}", code="limit")
    return _digest((path, entry.size, entry.etag) for path, entry in sorted(files.items()) if entry.kind == "file")


def _named(source: Any) -> str:
    """Of a web server: config.json and the index, or the one shard, by what the server calls their bytes."""
    files = [(path, source.entry(path)) for path in (CONFIG, INDEX, SINGLE)]
    found = [(path, entry.size, entry.etag) for path, entry in files if entry.kind == "file"]
    if not found:
        raise SourceError(f"{source.uri}: nothing auditable is there", code="nothing")
    if any(etag is None for *_, etag in found):
        told = "the server sends neither ETag nor Last-Modified, so no change can be seen"
        raise SourceError(f"{source.uri}: {told}", code="unusable")
    return _digest(found)


def _digest(files: Any) -> str:
    digest = hashlib.sha256()
    for each in files:
        digest.update(repr(each).encode())
    return digest.hexdigest()
