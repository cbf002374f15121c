"""Findings with their statuses, what the policy requires, and what stayed unread → verdict and exit code. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from auditor_schemas.finding import Finding, Gone, WaiverUse
from auditor_schemas.policy import Required
from auditor_schemas.report import Coverage, Verdict
from auditor_schemas.rule import Severity

FailOn = Literal["error", "warning", "never"]

EXIT_CODES: dict[Verdict, int] = {"passed": 0, "failed": 1, "incomplete": 3}
USAGE = 2
INCOMPLETE = 3

_DEPTHS = ("headers", "sample", "full")
_GATES: dict[FailOn, frozenset[Severity]] = {
    "error": frozenset({Severity.ERROR}),
    "warning": frozenset({Severity.ERROR, Severity.WARNING}),
    "never": frozenset(),
}


class Judgement(Struct, frozen=True):
    """The findings with their statuses, what became of each waiver, and what is gone since the baseline."""

    findings: tuple[Finding, ...]
    waivers: tuple[WaiverUse, ...] = ()
    gone: tuple[Gone, ...] = ()


def decide(
    findings: Iterable[Finding], incomplete: Iterable[str], fail_on: FailOn, unmet: Sequence[str] = ()
) -> Verdict:
    """Incomplete outranks failed, and no setting lowers it. Consequences do not gate: their causes do."""
    if any(True for _ in incomplete):
        return "incomplete"
    gating = _GATES[fail_on]
    failed = any(
        finding.severity in gating and finding.status == "new" and finding.caused_by is None for finding in findings
    )
    return "failed" if failed or (unmet and fail_on != "never") else "passed"


def unmet(required: Required, depth: str, coverage: Coverage, *, payload_bytes: int, fp8_blocks: int) -> list[str]:
    """What the policy requires of the audit and did not get, each in words that a person understands."""
    return [reason for reason in _unmet(required, depth, coverage, payload_bytes, fp8_blocks) if reason]


def _unmet(
    required: Required, depth: str, coverage: Coverage, payload_bytes: int, fp8_blocks: int
) -> Iterator[str | None]:
    if _DEPTHS.index(depth) < _DEPTHS.index(required.depth):
        yield f"the audit is of depth {depth}, the policy requires {required.depth}"
    yield _short("bytes of tensor data", coverage.payload_bytes_read, payload_bytes, required.payload)
    yield _short("FP8 weight blocks", coverage.blocks_read, fp8_blocks, required.fp8_blocks)
    yield _short("headers", coverage.headers_read, coverage.shards, required.headers)


def _short(what: str, read: int, there: int, share: float) -> str | None:
    """Whether a share is short of what is required; of nothing there is nothing to read."""
    if there == 0 or read >= share * there:
        return None
    return f"{read:,} of {there:,} {what} were read ({100 * read / there:.3g} %), the policy requires {100 * share:g} %"
