"""Which files of a listing are the checkpoint's shards, and what stands in the place of those that go with them."""

from __future__ import annotations  # the models are named here, not imported

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from auditor.errors import AuditorError
from auditor.format.disguise import disguise
from auditor.format.files import HEAD, POINTER, SINGLE, SUFFIX, companions, is_consolidated, member_of
from auditor.text import plain_path

if TYPE_CHECKING:
    from auditor.format.entries import Index
    from auditor.sources import Source
    from auditor.sources.entry import Entry

_IMPOSTORS = ("a git-lfs pointer", "an HTML page", "an XML document", "a 'not found' answer", "a refusal", "an empty")


def shard_paths(entries: Mapping[str, Entry], index: Index | None) -> tuple[list[str], set[str]]:
    """The shards to read, in order, and those of them that are no part of the checkpoint.

    Without an index all are shards, unless one is called model.safetensors, or some consolidated: a loader takes the
    one alone, and leaves out the others. Of several series of one stem the most complete is the checkpoint.
    """
    found = [path for path in entries if path.endswith(SUFFIX)]
    if index is None or not index.weight_map:
        shown = [path for path in found if not path.startswith(".")]  # as globs have it
        chosen = {SINGLE}.intersection(shown) or {path for path in shown if not is_consolidated(path)} or set(shown)
        return sorted(found), (set(found) - chosen) | _other_series(chosen)
    strays = {path for path in found if not index.claims(path)}
    # A file that the index names as ./NAME is its shard all the same, and is read by the plain path.
    named = {plain for path in index.files if (plain := plain_path(path)) is not None}
    return sorted(named.union(found)), strays


def _other_series(paths: Iterable[str]) -> set[str]:
    """The members of all series of a stem but the one that lacks the least."""
    series: dict[str, dict[int, list[str]]] = {}
    for path in paths:
        member = member_of(path)
        if member is not None:
            series.setdefault(member.stem, {}).setdefault(member.total, []).append(path)
    others: set[str] = set()
    for totals in series.values():
        chosen = min(totals, key=lambda total: (total - len(totals[total]), total))
        others.update(path for total, members in totals.items() if total != chosen for path in members)
    return others


def impostors(source: Source, entries: Mapping[str, Entry]) -> dict[str, str]:
    """What stands in the place of files that go with the weights, where it is plainly something else."""
    found = {}
    for path in companions(entries):
        entry = entries[path]
        if entry.kind == "broken-link":
            found[path] = "a symlink that leads nowhere"
        elif entry.kind == "file" and (entry.size or not path.endswith(".py")):  # a package's __init__.py is empty
            kind = _kind(source, path, entry)
            if kind is not None and kind.startswith(_IMPOSTORS):
                found[path] = kind
    return found


def _kind(source: Source, path: str, entry: Entry) -> str | None:
    """What the first bytes of a file say it is instead; None also where they cannot be had."""
    if not entry.sized:
        return None
    if source.remote and not 0 < entry.size <= POINTER:
        return disguise(b"", entry.size)
    try:
        file = source.open(path)
        try:
            return disguise(file.read(0, min(file.size, HEAD)), file.size)
        finally:
            file.close()
    except AuditorError:
        return None
