"""A saved report, read back: validated, at one with itself, or refused in one line that names the file."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from math import isfinite
from os import PathLike
from typing import TYPE_CHECKING, Any

from auditor.errors import SourceError, UsageError
from auditor.text import quoted, shown
from auditor.verdict import gate

if TYPE_CHECKING:
    from auditor_schemas.report import AuditReport

MOST_BYTES = 256 << 20
_RULE = re.compile(r"[A-Z]{3}[0-9]{3}")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _TwiceError(Exception):
    """An object has a key twice."""


class _InfiniteError(Exception):
    """A number is none that JSON has, or none that fits."""


def read_report(path: str | PathLike[str]) -> "AuditReport":
    """The report in a file that `audit --json` wrote; see `read_digested` for what it raises."""
    return read_digested(path)[0]


def read_digested(path: str | PathLike[str]) -> "tuple[AuditReport, str]":
    """A saved report and the SHA-256 of its file.

    Raises SourceError in one line where the file is none, and UsageError where it is one that says two things: a key
    twice, or a verdict and sums that do not follow from the rest. Nothing can be concluded from such a report.
    """
    from pydantic import ValidationError

    from auditor_schemas.report import AuditReport

    name = shown(str(path))
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror}", code="unreadable") from error
    if len(data) > MOST_BYTES:
        raise SourceError(f"{name}: not an audit report: larger than {MOST_BYTES:,} bytes")
    try:
        report = AuditReport.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        message = shown(first["msg"].lower())
        raise SourceError(f"{name}: not an audit report: {shown(where)}: {message}") from error
    try:
        json.loads(data, object_pairs_hook=_refuse_twice, parse_constant=_finite, parse_float=_finite)
    except _InfiniteError as error:
        raise UsageError(f"{name}: has the number {error}, which no audit writes") from error
    except _TwiceError as error:
        raise UsageError(f"{name}: has the key {error} twice, and readers differ on which counts") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name}: not an audit report: {shown(str(error))}") from error
    said = next(contradictions(report), None)
    if said is not None:
        raise UsageError(f"{name}: contradicts itself: {said}")
    return report, hashlib.sha256(data).hexdigest()


def _finite(number: str) -> float:
    found = float(number)
    if not isfinite(found):
        raise _InfiniteError(quoted(number))
    return found


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    """Each object as it is read, which leaves nothing behind."""
    if len(pairs) > len({key for key, _ in pairs}):
        raise _TwiceError(quoted(next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)))


def contradictions(report: "AuditReport") -> Iterator[str]:
    """What of a report does not follow from the rest of it, though every audit's does."""
    yield from _rules(report)
    yield from _findings(report)
    yield from _sums(report)
    if report.incomplete_codes and len(report.incomplete_codes) != len(report.incomplete):
        yield f"it has {len(report.incomplete_codes):,} codes for {len(report.incomplete):,} reasons to be incomplete"
    verdict = gate.decide(report.findings, report.incomplete, report.fail_on, report.unmet)
    if verdict != report.verdict:
        yield f"its verdict is {report.verdict}, its findings and what it did not read make it {verdict}"


def _rules(report: "AuditReport") -> Iterator[str]:
    outcomes = {each.rule: each for each in report.outcomes}
    for each in report.outcomes:
        if _RULE.fullmatch(each.rule) is None or _SLUG.fullmatch(each.slug) is None:
            yield f"{quoted(each.rule)} {quoted(each.slug)} is no rule"
    if len(outcomes) < len(report.outcomes):
        yield "a rule has two outcomes"
    found = {each.rule for each in report.findings}
    for each in report.outcomes:
        if (each.outcome == "failed") != (each.rule in found):
            has = "has findings" if each.rule in found else "has no finding"
            yield f"{each.rule} {each.slug} is {each.outcome.replace('_', ' ')} and {has}"
        if each.outcome == "errored" and not report.incomplete:
            yield f"{each.rule} {each.slug} crashed, and the audit is said to be complete"
    for finding in report.findings:
        outcome = outcomes.get(finding.rule)
        if outcome is None or outcome.slug != finding.slug:
            yield f"a finding is of {quoted(finding.rule)} {quoted(finding.slug)}, which is not among its rules"
        elif finding.caused_by is None and outcome.severity != finding.severity:
            yield f"a finding of {finding.rule} is of severity {finding.severity}, the rule of {outcome.severity}"


def _findings(report: "AuditReport") -> Iterator[str]:
    roots = {each.fingerprint for each in report.findings if each.caused_by is None}
    made = report.run.started_at.date()
    for each in report.findings:
        if each.caused_by is not None and each.caused_by not in roots:
            yield f"a finding of {quoted(each.rule)} follows from one that is not there"
        if each.caused_by is not None and each.severity != "info":
            yield f"a finding of {quoted(each.rule)} follows from another and is of severity {each.severity}"
        if each.count < 1:
            yield f"a finding of {quoted(each.rule)} counts {each.count}"
        if each.status == "known" and report.baseline is None:
            yield f"a finding of {quoted(each.rule)} is known, and there was no baseline"
        if each.status == "waived" and each.caused_by is None:
            if each.waiver is None or report.policy is None:
                yield f"a finding of {quoted(each.rule)} is waived, and there was no waiver"
            elif each.waiver.expires < made:
                yield f"a finding of {quoted(each.rule)} is waived until {each.waiver.expires}, before it was found"


def _sums(report: "AuditReport") -> Iterator[str]:
    inventory, read = report.inventory, report.coverage
    counts = [value for part in (inventory, read) for value in dict(part).values() if isinstance(value, int)]
    if min([*counts, *inventory.by_dtype.values(), report.run.duration_s]) < 0:
        yield "a count is below 0"
    for part, whole, what in (
        (read.headers_read, read.shards, "headers"),
        (read.payload_bytes_read, inventory.payload_bytes, "bytes of tensor data"),
        (read.tensors_read, inventory.tensors, "tensors"),
    ):
        if part > whole:
            yield f"{part:,} of {whole:,} {what} were read"
    elements = sum(inventory.by_dtype.values())
    if elements != inventory.elements:
        yield f"it counts {inventory.elements:,} elements, by dtype {elements:,}"
