"""Every entry of a list of unquantised modules names something; one that does not was meant for something else."""

from collections.abc import Iterator

from auditor.comparison.exclusions import Unmatched
from auditor.text import UNSHOWN, listed, named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT121",
    slug="unmatched-exclusion",
    title="Entries of the list of unquantised modules name nothing",
    severity=Severity.INFO,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(unmatched_exclusions: tuple[Unmatched, ...]) -> Iterator[Failure]:
    """One failure, for information, per list."""
    for each in unmatched_exclusions:
        which = listed(map(named, each.entries)) if each.shown else UNSHOWN
        yield RULE.failure(
            f"{len(each.entries):,} of {plural(each.of, 'entry', 'entries')} name no module and no tensor: {which}",
            file=each.file,
            field=each.field,
            actual=list(each.entries[:9]) if each.shown else None,
        )
