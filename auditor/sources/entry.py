"""One file as a source lists it; apart from the other facts, so that a source begins before those are imported."""

from typing import Literal, NamedTuple

# In a stamp, before what means something only on the machine that took it; no HTTP header has one.
HERE = "\n"

EntryKind = Literal["file", "directory", "fifo", "socket", "device", "broken-link", "absent"]


class Entry(NamedTuple):
    """One file of the listing. `link` says where a symlink leads: within the checkpoint, or out of it.

    `sha256` is the digest of the whole file where the store declares one (the hub's large files). `etag` is
    the store's own name for these bytes, opaque except that it changes with them. `target`: where a broken link leads.
    `sized`: the listing says how many bytes there are.
    """

    kind: EntryKind
    size: int = 0
    link: Literal["inside", "outside"] | None = None
    etag: str | None = None
    sha256: str | None = None
    target: str | None = None
    sized: bool = True
