"""Names that another family has: config.json, or whoever asked, names a family that these tensors are not of."""

from collections.abc import Iterable
from itertools import chain

from auditor.comparison.records import Match, NamedAs, OtherFamily
from auditor.families import Family, families
from auditor.families.expectations import Expectations
from auditor.families.fingerprint import telling
from auditor.inventory.facts import Inventory


def named_as(stored: Iterable[str], expected: Iterable[str]) -> NamedAs | None:
    """The families that all stored names tell, by some of a kind that is not expected; None where there are none.

    Where one family is told by all that tells another one and by more, it is the former.
    """
    prints = {family.name: family.fingerprint for family in families().values()}
    there, held = telling(stored, prints.values()), telling(expected, prints.values())
    strange = {kind: names for kind, names in there.items() if kind not in held}
    found = {name: {*each.has} for name, each in prints.items() if each.is_in(there)}
    same = [has for name, has in found.items() if prints[name].is_in(held)]
    kinds = {name: has for name, has in found.items() if not has.isdisjoint(strange)}
    if same:
        kinds = {name: has for name, has in kinds.items() if any(own < has for own in same)}
    told = {name: has for name, has in kinds.items() if not any(has < others for others in kinds.values())}
    names = [name for kind in sorted(set().union(*told.values())) for name in strange.get(kind, ())]
    return NamedAs(tuple(told), names[0], len(names), wider=bool(same)) if told else None


def find_other_family(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[OtherFamily, ...]:
    """One cause for all that disagrees, where the names tell another family and not the one that is expected."""
    named = match.named_as
    if named is None or named.wider or not match.missing:
        return ()
    stored = (*match.unexpected, *match.misshapen, *match.mistyped)
    explains = tuple(dict.fromkeys((*stored, *match.missing, *match.absent)))
    common = expectations.size - len(match.missing) - len(match.absent)
    beside = tuple(chain.from_iterable(map(expectations.beside, match.unexpected)))
    return (OtherFamily(explains, named, common, expectations.size, beside),)


def named_as_another(inventory: Inventory, family: Family) -> tuple[OtherFamily, ...]:
    """The same where the config is none of the family's, so that nothing is expected: the names alone tell."""
    named = named_as(inventory.tensors, family.fingerprint.has) if family.fingerprint.has else None
    return () if named is None or named.wider else (OtherFamily(tuple(inventory.tensors), named),)
