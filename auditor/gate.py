"""Findings and what stayed unread → verdict and exit code."""

from collections.abc import Iterable
from typing import Literal

from auditor_schemas.report import Finding, Verdict
from auditor_schemas.rule import Severity

FailOn = Literal["error", "warning", "never"]

EXIT_CODES: dict[Verdict, int] = {"passed": 0, "failed": 1, "incomplete": 3}
USAGE = 2
INCOMPLETE = 3

_GATES: dict[FailOn, frozenset[Severity]] = {
    "error": frozenset({Severity.ERROR}),
    "warning": frozenset({Severity.ERROR, Severity.WARNING}),
    "never": frozenset(),
}


def decide(findings: Iterable[Finding], incomplete: Iterable[str], fail_on: FailOn) -> Verdict:
    """Incomplete outranks failed, and no setting lowers it. Consequences do not gate: their causes do."""
    if any(True for _ in incomplete):
        return "incomplete"
    gating = _GATES[fail_on]
    failed = any(
        finding.severity in gating and finding.status == "new" and finding.caused_by is None for finding in findings
    )
    return "failed" if failed else "passed"
