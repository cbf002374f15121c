"""A baseline: the findings of an earlier report, which do not gate again, member by member."""

from collections.abc import Iterable, Iterator, Mapping

from auditor.errors import UsageError
from auditor.patterns import count, expand
from auditor.text import quoted, shown
from auditor.verdict.attribute import Attributed
from auditor_schemas.finding import Finding, Gone
from auditor_schemas.report import AuditReport, RuleOutcome
from auditor_schemas.rule import WEIGHT, Severity

_DEPTHS = ("headers", "sample", "full")


def baseline_of(report: AuditReport, *, name: str, sha256: str | None, depth: str, most: int) -> "Baseline":
    """The baseline that a report is for an audit of that depth. Raises UsageError where it cannot be one.

    `name` is how messages call it; `most` bounds the tensors that it may name.
    """
    if report.verdict == "incomplete":
        reason = shown(report.incomplete[0]) if report.incomplete else "for no stated reason"
        raise UsageError(f"{name}: is the report of an incomplete audit ({reason}): make it from a complete one")
    if _DEPTHS.index(report.run.depth) < _DEPTHS.index(depth):
        raise UsageError(f"{name}: is of depth {report.run.depth}, this audit is of depth {depth}")
    severities = {each.rule: each.severity for each in report.outcomes}
    return Baseline(report.findings, name=name, family=report.family, sha256=sha256, most=most, severities=severities)


class Baseline:
    """Earlier findings, asked member by member. `most` bounds how many tensors the patterns of one rule may name.

    Waived findings are no part of it: when the waiver ends, they gate. `severities` are those that the rules had
    then: what was a warning, by a policy perhaps, excuses no error.
    """

    def __init__(
        self,
        findings: Iterable[Finding],
        *,
        name: str,
        family: str | None,
        sha256: str | None,
        most: int,
        severities: Mapping[str, Severity] | None = None,
    ) -> None:
        self.family, self.sha256 = family, sha256
        self._name, self._most = name, most
        self._severities = severities or {}
        self._findings = [each for each in findings if each.status != "waived"]
        self._prints = {each.fingerprint for each in self._findings}
        self._members = {each for finding in self._findings for each in finding.members}
        # A sum that followed from tensors was nobody's finding: where it stands alone it is wrong in another way.
        roots = [each for each in self._findings if each.caused_by is None or each.patterns]
        self._followed = self._prints.union(self._members) - {each.fingerprint for each in roots}
        self._followed -= {each for finding in roots for each in finding.members}
        self._names: dict[str, frozenset[str]] = {}

    def refuse_other_family(self, family: str | None) -> None:
        """Raise UsageError where the checkpoint is of another family than the baseline's."""
        if family is not None and self.family is not None and family != self.family:
            raise UsageError(f"{self._name}: is of family {quoted(self.family)}, the checkpoint is {family}")

    def unknown(self, found: Attributed) -> set[str]:
        """The keys of a finding's members that are not in the baseline: names of tensors, or fingerprints."""
        finding = found.finding
        own = set(found.tensors or finding.members or (finding.fingerprint,))
        then = self._severities.get(finding.rule, finding.severity)
        if finding.caused_by is None and WEIGHT[finding.severity] > WEIGHT[then]:
            return own
        followed = self._followed if finding.caused_by is None else frozenset()
        if finding.fingerprint in self._prints and finding.fingerprint not in followed:
            return set()
        if found.tensors:
            return own - self._tensors(finding.rule)
        return {each for each in own if each in followed or not (each in self._members or each in self._prints)}

    def gone(self, found: Iterable[Attributed], outcomes: Iterable[RuleOutcome]) -> Iterator[Gone]:
        """The roots of the baseline of which members are no longer found, by rules that ran."""
        ran = {each.rule for each in outcomes if each.outcome in ("passed", "failed")}
        present: dict[str, set[str]] = {}
        prints = set()
        for each in found:
            own = each.finding.members or each.tensors
            present.setdefault(each.finding.rule, set()).update(own, (each.finding.fingerprint,))
            prints.add(each.finding.fingerprint)
        for finding in self._findings:
            if finding.caused_by is not None or finding.rule not in ran or finding.fingerprint in prints:
                continue
            names = finding.members or tuple(self._expanded(finding)) or (finding.fingerprint,)
            lost = sum(name not in present.get(finding.rule, ()) for name in names)
            if lost:
                yield Gone(
                    rule=finding.rule,
                    slug=finding.slug,
                    severity=finding.severity,
                    message=finding.message,
                    fingerprint=finding.fingerprint,
                    count=lost,
                    of=len(names),
                )

    def _tensors(self, rule: str) -> frozenset[str]:
        if rule not in self._names:
            own = [each for each in self._findings if each.rule == rule and not each.members]
            self._bound(own)
            self._names[rule] = frozenset(name for each in own for name in self._expanded(each))
        return self._names[rule]

    def _bound(self, findings: Iterable[Finding]) -> None:
        total = sum(count(pattern) for each in findings for pattern in each.patterns)
        if total > self._most:
            raise UsageError(f"{self._name}: names {total:,} tensors for one rule, limit {self._most:,} (tensors)")

    def _expanded(self, finding: Finding) -> Iterator[str]:
        self._bound([finding])
        return tensors_of(finding)


def tensors_of(finding: Finding) -> Iterator[str]:
    """The tensors of a finding of a report. Ask `count` before: the patterns may be anybody's.

    In reports that do not say which are files, a name that held braces stood as it was: what looks like a run of
    numbers then is one only where the finding counts as many tensors.
    """
    as_they_are = finding.affected_files is None and sum(map(count, finding.patterns)) != finding.count
    for pattern in finding.patterns:
        yield from (pattern,) if as_they_are else expand(pattern)
