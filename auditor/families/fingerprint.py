"""By which names a checkpoint is known as of a family, whatever its config.json says."""

import re
from collections.abc import Collection, Iterable

from msgspec import Struct

# A number is a component of a name, without leading zeros, as layers and experts are numbered.
_NUMBER = re.compile(r"(?<=\.)(0|[1-9][0-9]{0,8})(?=\.)")


class Fingerprint(Struct, frozen=True):
    """Kinds of names, `#` for each number: of each in `has` there is a tensor, of those in `lacks` there is none.

    They are names that no export changes, as it does those of weights that it quantises. None in `has`: nothing tells.
    """

    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def is_in(self, kinds: Collection[str]) -> bool:
        """Whether names of these kinds are the family's."""
        return (
            bool(self.has) and all(each in kinds for each in self.has) and not any(each in kinds for each in self.lacks)
        )


def kinds_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of each kind."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_NUMBER.sub("#", name), []).append(name)
    return found
