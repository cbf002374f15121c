"""An MTP module's embedding and head are the main model's, byte for byte."""

from collections.abc import Iterator

from auditor.comparison.value_groups import copies, differing
from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL113",
    slug="differing-mtp-copy",
    title="An MTP module's copy of a vocabulary matrix is not the main model's",
    severity=Severity.ERROR,
    scope=Scope.MODULE,
    examines="MTP copies compared",
)


def check(digests: Probes) -> Iterator[Failure]:
    """One failure per copy that differs: as a whole, or in a strip of rows that was read of both."""
    for copy, original in copies(digests):
        differ, of = differing(copy, original) or (0, 0)
        if not differ:
            continue
        strips = copy.xxh3 is None or original.xxh3 is None
        which = "the head" if copy.name.endswith("head.weight") else "the embedding"
        where = f"in {differ:,} of {of:,} strips of rows read" if strips else "in its bytes"
        yield RULE.failure(
            f"copy of {which} differs from the main model's {where}",
            file=copy.file,
            tensor=copy.name,
            expected={"tensor": original.name, "xxh3_128": original.xxh3},
            actual={"xxh3_128": copy.xxh3},
            fold=RULE.slug,
        )
