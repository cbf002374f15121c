"""Names that another family has: config.json, or whoever asked, names a family that these tensors are not of."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from auditor.comparison.records import Match, OtherFamily
from auditor.families import Family, families
from auditor.families.expectations import Expectations
from auditor.families.fingerprint import kinds_of
from auditor.inventory.facts import Inventory


def find_other_family(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[OtherFamily, ...]:
    """One cause for all that disagrees, where no family that names tensors as expected has names that are there."""
    found, same, strange = _compared(inventory, expectations, match) if match.missing else ([], [], {})
    if same or not found:
        return ()
    stored = (*match.unexpected, *match.misshapen, *match.mistyped)
    explains = tuple(dict.fromkeys((*stored, *match.missing, *match.absent)))
    common = expectations.size - len(match.missing) - len(match.absent)
    beside = tuple(chain.from_iterable(map(expectations.beside, match.unexpected)))
    return tuple(OtherFamily(explains, *told, common, expectations.size, beside) for told in _told(found, strange))


def wider_families(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[str, ...]:
    """The families told by names beside those that are expected: they have these and more."""
    found, same, strange = _compared(inventory, expectations, match)
    wider = [each for each in found if any({*own.fingerprint.has} < {*each.fingerprint.has} for own in same)]
    return next((names for names, _, _ in _told(wider, strange)), ())


def _compared(
    inventory: Inventory, expectations: Expectations, match: Match
) -> tuple[list[Family], list[Family], dict[str, list[str]]]:
    """The families that all names tell, those of them that are expected, and the names of kinds that are not."""
    strange = kinds_of(match.unexpected)
    every = list(families().values()) if strange else []
    if not any(kind in strange for family in every for kind in family.fingerprint.has):
        return [], [], {}
    there, expected = kinds_of(inventory.tensors), kinds_of(expectations.names)
    found = [family for family in every if family.fingerprint.is_in(there)]
    same = [family for family in found if family.fingerprint.is_in(expected)]
    return found, same, {kind: names for kind, names in strange.items() if kind not in expected}


def named_as_another(inventory: Inventory, family: Family) -> tuple[OtherFamily, ...]:
    """The same where the config is none of the family's, so that nothing is expected: the names alone tell."""
    own, there = family.fingerprint, kinds_of(inventory.tensors)
    if not own.has or own.is_in(there):
        return ()
    found = [each for each in families().values() if each.fingerprint.is_in(there)]
    strange = {kind: names for kind, names in there.items() if kind not in own.has}
    return tuple(OtherFamily(tuple(inventory.tensors), *told) for told in _told(found, strange))


def families_by_names(inventory: Inventory) -> tuple[str, ...]:
    """The families that name tensors as they are named here; none where no known one does."""
    there = kinds_of(inventory.tensors)
    found = [each for each in families().values() if each.fingerprint.is_in(there)]
    return next((names for names, _, _ in _told(found, there)), ())


def _told(found: Sequence[Family], strange: Mapping[str, Sequence[str]]) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """The families that names tell which are not expected, one of these names, and how many there are.

    Where one family is told by all that tells another one and by more, it is the former.
    """
    kinds = {
        each.name: {*each.fingerprint.has} for each in found if not strange.keys().isdisjoint(each.fingerprint.has)
    }
    told = {name: has for name, has in kinds.items() if not any(has < others for others in kinds.values())}
    telling = [name for kind in sorted(set().union(*told.values())) for name in strange.get(kind, ())]
    if told:
        yield tuple(told), telling[0], len(telling)
