"""By which names a checkpoint is known as of a family, whatever its config.json says."""

import re
from collections.abc import Collection, Iterable

from msgspec import Struct

# A number is a component of a name, without leading zeros, as layers and experts are numbered.
_NUMBER = re.compile(r"(?<=\.)(0|[1-9][0-9]{0,8})(?=\.)")


class Fingerprint(Struct, frozen=True):
    """Kinds of names, `#` for the number: of each in `has` there is a tensor, of those in `lacks` there is none.

    They are names that no export changes, as it does those of weights that it quantises. None in `has`: nothing tells.
    """

    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def is_in(self, kinds: Collection[str]) -> bool:
        """Whether names of these kinds are the family's."""
        return (
            bool(self.has) and all(each in kinds for each in self.has) and not any(each in kinds for each in self.lacks)
        )


def telling(names: Iterable[str], fingerprints: Iterable[Fingerprint]) -> dict[str, list[str]]:
    """The names of each kind that is in one of the fingerprints; a kind is a name of its own."""
    ends: dict[str, set[str]] = {}  # by what stands before the number, what may follow it
    for kind in {kind for each in fingerprints for kind in (*each.has, *each.lacks)}:
        begin, end = kind.split("#")
        ends.setdefault(re.escape(begin), set()).add(re.escape(end))
    kinds = (rf"{begin}(?:#|{_NUMBER.pattern})(?:{'|'.join(some)})" for begin, some in ends.items())
    tells = re.compile("|".join(kinds)).fullmatch
    found: dict[str, list[str]] = {}
    for name in filter(tells, names):
        found.setdefault(_NUMBER.sub("#", name), []).append(name)
    return found
