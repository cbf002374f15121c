"""No part of a tensor holds the bytes of another part, or of another tensor's."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, own_round_trip
from auditor.comparison.equal_bytes import Equal
from auditor.content.probes import Probes
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL130",
    slug="equal-strips",
    title="Parts of tensors hold each other's bytes",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="expected tensors read",
)


def check(probes: Probes, equal_bytes: Equal) -> Iterator[Failure]:
    """One failure per set of equal strips of 128 rows, and per tensor with pages that are there twice; they fold."""
    sets = equal_bytes.strips
    for position, held in enumerate(sets):
        original, copy = held[0], held[1]
        names = list(dict.fromkeys(strip.values.name for strip in held))
        message = f"{copy} holds the bytes of {original}"
        if len(held) > 2:
            message += f", as {len(held) - 2:,} more do"
        if position == 0 and len(sets) > 1:
            message += f"; {sum(map(len, sets)):,} strips of rows are such copies or originals"
        yield RULE.failure(
            message,
            file=copy.values.file,
            tensor=copy.values.name,
            tensors=names,
            expected="rows that differ",
            actual={"alike": [str(strip) for strip in held[:8]], "of": len(held)},
            takes=[each for strip in held for each in own_round_trip(strip.values)],
            fold=RULE.slug,
        )
    alike = {strip.values.name for held in sets for strip in held}
    doubled = [
        Bad(values, values.doubled_pages, values.elements, values.first_doubled)
        for values in probes.tensors.values()
        if values.doubled_pages and values.name not in alike
    ]
    yield from failures(
        RULE,
        doubled,
        lambda bad: (
            f"{plural(bad.count, 'page')} of 4 KiB {'holds' if bad.count == 1 else 'hold'} what the page before holds"
        ),
        expected="pages that differ",
        actual=lambda bad: {"doubled_pages": bad.count},
        takes=own_round_trip,
    )
