"""Where a checkpoint's bytes come from: read-only, ranged, one file per kind of source."""

from __future__ import annotations

from auditor.errors import UsageError
from auditor.sources.protocol import File, Need, Source, Symlinks

__all__ = ["File", "Need", "Source", "Symlinks", "open_source"]


def open_source(
    source: str,
    *,
    symlinks: Symlinks = "follow",
    revision: str | None = None,
    cache: bool = True,
    hosts: frozenset[str] | None = None,
    private: bool = True,
    roots: tuple[str, ...] | None = None,
) -> Source:
    """The source that SOURCE names.

    `revision` is a branch, tag or commit of a hub repository. `cache` keeps headers that were read from remote
    sources. A service that opens what others name gives `hosts`, the only ones that may be asked, `private` false,
    which refuses addresses that are not public, and `roots`, below which local folders and their files have to be.
    Raises UsageError for a kind of source or an option that cannot be, SourceError where there is nothing.
    """
    scheme, separator, _ = source.partition("://")
    if not separator or not scheme.isalnum():
        from auditor.sources.folder import Folder

        if revision is not None:
            raise UsageError("--revision is for hf:// sources: a folder has none")
        return Folder(source, symlinks=symlinks, roots=roots)
    kind = _KINDS.get(scheme.lower())
    if kind is None:
        raise UsageError(f"cannot read {scheme}:// sources: give a folder, {', '.join(f'{k}://' for k in _KINDS)}")
    if revision is not None and kind != "hub":
        raise UsageError(f"--revision is for hf:// sources: {scheme}:// has none")
    from importlib import import_module

    from auditor.sources.http.hosts import Guard

    keep = None
    if cache:
        from auditor.sources.cache import Cache, folder

        where = folder()
        keep = Cache(where) if where is not None else None
    more = {"revision": revision} if kind == "hub" else {}
    opened: Source = import_module(f"auditor.sources.{kind}").open_at(
        source, guard=Guard(hosts, private=private), cache=keep, **more
    )
    return opened


_KINDS = {"hf": "hub", "s3": "s3", "gs": "gs", "az": "az", "https": "web", "http": "web"}
