"""One reading in parts: which shards are whose, and what all parts of a place have to have in common."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

from auditor.content.place import Place
from auditor.content.plan import ShardPlan
from auditor.content.state import ENDING, SMALL_BYTES, Seal
from auditor.errors import UsageError
from auditor.sources import Source
from auditor.text import shown
from auditor.version import __version__

_TERMS = re.compile(rf"terms-[0-9a-f]{{16}}\.{ENDING}")
_MOST_TERMS = 100
_Word = Annotated[str, msgspec.Meta(max_length=300)]  # what is longer was not written here, and is not shown


def share(plans: Sequence[ShardPlan], part: int, parts: int) -> tuple[ShardPlan, ...]:
    """The shards of part 1 to `parts`: each the largest that is left, to whichever part has the fewest bytes.

    It follows from the sizes and names of all, whoever reads, and two parts differ by one shard's bytes at most.
    """
    loads, own = [0] * parts, []
    for plan in sorted(plans, key=lambda plan: (-plan.size, plan.file)):
        least = loads.index(min(loads))
        loads[least] += plan.size
        if least == part - 1:
            own.append(plan)
    return tuple(own)


class Terms(msgspec.Struct, frozen=True):
    """What parts of one reading have in common. `source` is a digest of its place."""

    source: str
    tool: _Word
    revision: _Word | None
    depth: _Word
    digests: bool

    def said(self) -> str:
        """The terms in words."""
        revision = "" if self.revision is None else f", revision {shown(self.revision)}"
        digests = "with" if self.digests else "without"
        return f"auditor {shown(self.tool)}, depth {shown(self.depth)}{revision}, {digests} digests"


def terms_of(source: Source, depth: str, *, digests: bool) -> Terms:
    """What all parts of one reading are to have in common."""
    at = source.identity.removesuffix(f"@{source.revision or ''}") if source.remote else source.identity
    digest = hashlib.sha256(at.encode("utf-8", "surrogateescape")).hexdigest()
    return Terms(digest, __version__, source.revision, depth, digests)


def keep_terms(place: Place, seal: Seal, terms: Terms) -> None:
    """Say in the place what its parts have in common, once. Raises OSError where it does not take it."""
    name = f"terms-{hashlib.sha256(msgspec.json.encode(terms)).hexdigest()[:16]}.{ENDING}"
    if seal.opened(place.read(name, SMALL_BYTES), Terms) != ("terms", terms):
        place.write(name, seal.wrapped("terms", terms), durable=True)


def refuse_other_terms(place: Place, name: str, seal: Seal, terms: Terms) -> None:
    """Raise UsageError where parts of the same source were read on other terms into this place."""
    for other in _every_terms(place, seal):
        if other.source == terms.source and other != terms:
            raise UsageError(
                f"--resume {shown(name)}: holds parts read by {other.said()}; "
                f"this is {terms.said()}: name another place, or empty this one"
            )


def _every_terms(place: Place, seal: Seal) -> Iterator[Terms]:
    names = sorted(name for name in place.names() if _TERMS.fullmatch(name))
    for name in names[:_MOST_TERMS]:
        saved = seal.opened(place.read(name, SMALL_BYTES), Terms)
        if saved is not None and saved[0] == "terms":
            yield saved[1]
