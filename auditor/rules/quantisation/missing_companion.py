"""Codes have every companion without which they are no numbers: scales, a second scale, their unpacked shape."""

from collections.abc import Iterator

from auditor.comparison.structure.pairing import Pairs
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT201",
    slug="missing-companion",
    title="Codes lack a companion that others of their format have",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="weights in codes",
)


def check(pairs: Pairs) -> Iterator[Failure]:
    """One failure per pattern whose codes lack a companion that others of their kind have; they fold."""
    for each in pairs.lacking:
        yield RULE.failure(
            f"{each.dtype} weight has no {each.companion.removeprefix('*_')}, "
            f"{plural(each.others, 'other')} of the same codes {'has' if each.others == 1 else 'have'} one",
            tensor=each.names[0],
            expected=each.companion.removeprefix("*_"),
            tensors=each.names,
            takes=each.absent,
            blames=each.absent,
            fold=(each.dtype, each.companion),
        )
