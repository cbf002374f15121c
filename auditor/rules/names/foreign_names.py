"""Tensors are named as the published layout names them; a wrapper's prefix or another format's names load nothing."""

from collections.abc import Iterator
from itertools import chain

from auditor.comparison.records import Cause, Renaming
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory
from auditor.text import named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM104",
    slug="foreign-names",
    title="Tensors are named otherwise than in this layout",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="expected tensors",
)


def check(
    inventory: Inventory, expectations: Expectations, renamings: tuple[Renaming, ...], foreign: tuple[Cause, ...]
) -> Iterator[Failure]:
    """One failure for all names: those of another format, or the layout's with pieces too many, too few or other."""
    explained = [name for cause in (*renamings, *foreign) for name in cause.explains]
    if not explained:
        return
    stored = [name for name in explained if name in inventory.tensors]
    takes = (*explained, *chain.from_iterable(map(expectations.beside, stored)))
    there = len(inventory.tensors) - len(stored)
    if foreign:
        example = min(stored)
        yield RULE.failure(
            f"{there or 'none'} of {plural(expectations.size, 'expected name')} {'is' if there < 2 else 'are'} there, "
            f"{plural(len(stored), 'tensor')} of other names are, such as {named(example)}",
            tensor=example,
            tensors=stored,
            takes=takes,
        )
        return
    first = renamings[0]
    yield RULE.failure(
        f"of {plural(len(inventory.tensors), 'tensor')} {'; '.join(map(_message, renamings))}",
        tensor=first.stored,
        expected=first.example,
        actual=first.stored,
        tensors=stored,
        takes=takes,
    )


def _message(renaming: Renaming) -> str:
    count = f"{renaming.count:,}"
    example = f"such as {named(renaming.stored)} for {named(renaming.example)}"
    # A piece ends in a dot but at the end of a name.
    found, needed = (
        named(piece if piece in name else piece[:-1])
        for piece, name in ((renaming.found, renaming.stored), (renaming.needed, renaming.example))
    )
    if not renaming.found:
        return f"{count} lack {needed} in front, {example}"
    if not renaming.needed:
        return f"{count} have {found} in their names, {example}"
    return f"{count} have {found} where {needed} is needed, {example}"
