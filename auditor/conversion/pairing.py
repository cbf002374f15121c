"""Which weights of two sides belong together: by name, by a map of names, and what is left for content."""

from collections.abc import Iterable

from msgspec import Struct

from auditor.conversion.facts import Pair, Stored
from auditor.conversion.renames import Names
from auditor.conversion.weights import Side


class Pairing(Struct, frozen=True):
    """Pairs, and what is only on one side, by the name that it would be paired by."""

    pairs: tuple[Pair, ...]
    old: dict[str, Stored]
    new: dict[str, Stored]


def paired(old: Side, new: Side, names: Names | None = None) -> Pairing:
    """What belongs together by name. Companions of codes are pairs of their own where they are plain on both sides."""
    renamed = {} if names is None else names.applied([*old.weights, *old.companions])
    pairs: list[Pair] = []
    left = dict(new.weights)
    alone: dict[str, Stored] = {}
    for key, stored in old.weights.items():
        wanted = renamed.get(key, key)
        other = left.pop(wanted, None)
        if other is None:
            alone[key] = stored
        else:
            pairs.append(Pair(stored, other, "map" if key in renamed else "name"))
    taken = {pair.new.name for pair in pairs}
    pairs += _companions(old, new, renamed, pairs)
    return Pairing(tuple(pairs), alone, {key: each for key, each in left.items() if each.name not in taken})


def _companions(old: Side, new: Side, renamed: dict[str, str], pairs: Iterable[Pair]) -> list[Pair]:
    """What goes with codes on both sides and is no scale that its weight is read with."""
    read = {pair.old.scale.name for pair in pairs if pair.old.scale is not None}
    found = []
    for name, stored in old.companions.items():
        other = new.companions.get(renamed.get(name, name))
        if name not in read and other is not None and not stored.packed:
            found.append(Pair(stored, other))
    return found


def alike(pairing: Pairing) -> tuple[dict[str, Stored], dict[str, Stored]]:
    """What may be the same under another name: what is left of kinds that both sides have left."""
    kinds = [{_kind(each) for each in side.values()} for side in (pairing.old, pairing.new)]
    both = kinds[0] & kinds[1]
    return (
        {key: each for key, each in pairing.old.items() if _kind(each) in both},
        {key: each for key, each in pairing.new.items() if _kind(each) in both},
    )


def _kind(stored: Stored) -> tuple[object, ...]:
    scale = None if stored.scale is None else (stored.scale.dtype, stored.scale.shape)
    return stored.dtype, stored.shape, scale


def by_digests(
    pairing: Pairing, old: dict[str, tuple[str, ...]], new: dict[str, tuple[str, ...]]
) -> tuple[list[Pair], dict[str, Stored], dict[str, Stored]]:
    """Pairs whose bytes are the same by their digests, and what is left of each side.

    Of several that are alike the first goes with the first.
    """
    holders: dict[tuple[str, ...], list[str]] = {}
    for key, digest in reversed(new.items()):
        holders.setdefault(digest, []).append(key)
    left_old, left_new, pairs = dict(pairing.old), dict(pairing.new), []
    for key, digest in old.items():
        others = holders.get(digest)
        if others:
            pairs.append(Pair(left_old.pop(key), left_new.pop(others.pop()), "content"))
    return pairs, left_old, left_new
