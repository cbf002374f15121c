"""Reports made for the tests of every format: real audits of forged checkpoints, and synthetic ones of any size."""

import hashlib
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from auditor import audit
from auditor.forge import breaks
from auditor.forge.plan import plan
from auditor.forge.write import write
from auditor.verdict import gate
from auditor_schemas.finding import Finding, Location, Waiver
from auditor_schemas.report import AuditReport, Digest, RuleOutcome
from auditor_schemas.rule import Severity

# A payload for each reader: HTML, workflow commands, terminals, bidirectional text, spreadsheets, Markdown, XML.
HOSTILE = {
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "end-of-cdata": "]]></failure><!--",
    "workflow-command": "::error file=x::owned",
    "old-workflow-command": "##[error]owned",
    "terminal-escape": "\x1b[31mred\x1b[0m\x07",
    "bidirectional": "exe\u202egpj.\u2066x\u2069",
    "formula": "=cmd|' /C calc'!A0",
    "plus-formula": "+1+cmd|' /C calc'!A0",
    "full-width-formula": "＝HYPERLINK(\"http://evil.example\")",
    "tab-formula": "\t=1+1",
    "markdown-link": "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "markdown-autolink": "http://evil.example www.example.com me@example.com <http://evil.example>",
    "markdown-table": "a|b|c\n|---|---|\n# heading\n- item\n```\ncode",
    "backticks": "`` ` ``` `x` **bold** `",
    "backslash-pipe": "\\|<b>x</b>\\\\|<i>y</i>`|**z**",
    "mention": "@octocat #1 GH-1 octo/repo#2 :tada: 0123456789abcdef0123456789abcdef01234567",
    "nul": "a\x00b\ufffe\uffff\ud7ff",
    "lines": "one\r\ntwo\u2028three\u0085four",
    "placeholder": "{0} {{1}} [x](1)",
    "path": "../../../../etc/passwd",
    "entity": "&lt;b&gt; &#x41; &amp;",
    "percent": "%3Cscript%3E%0A::error::",
}  # fmt: skip


def fingerprint(seed: object) -> str:
    return hashlib.sha256(repr(seed).encode()).hexdigest()


def finding(rule: str, slug: str, severity: str, message: str, **more: Any) -> Finding:
    values: dict[str, Any] = {
        "location": Location(), "count": 1, "affected": (), "fingerprint": fingerprint((rule, message, str(more))),
    }  # fmt: skip
    return Finding(rule=rule, slug=slug, severity=Severity(severity), message=message, **(values | more))


def outcome(rule: str, slug: str, result: str, **more: Any) -> RuleOutcome:
    values: dict[str, Any] = {
        "title": slug.replace("-", " "),
        "severity": Severity.ERROR,
        "reason": None,
        "examined": 1,
    }
    return RuleOutcome(rule=rule, slug=slug, outcome=result, **(values | more))


@cache
def full_size(*names: str) -> AuditReport:
    """A real audit of a full-size checkpoint with the named breaks, all at once."""
    from tempfile import TemporaryDirectory

    chosen = plan("v3")
    for name in names:
        breaks()[name].apply(chosen)
    with TemporaryDirectory() as folder:
        directory = Path(folder) / "DeepSeek-V3"
        directory.mkdir()
        write(chosen, directory, strips=None)
        report = audit(directory)
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return report.model_copy(update={"run": report.run.model_copy(update={"started_at": when, "duration_s": 1.25})})


def agreeing(report: AuditReport) -> AuditReport:
    """The report with outcomes, verdict, baseline and policy as its findings want them: it contradicts nothing."""
    roots = {each.rule: each for each in report.findings if each.caused_by is None}
    outcomes = []
    for each in report.outcomes:
        root = roots.pop(each.rule, None)
        if root is not None:
            each = each.model_copy(update={"outcome": "failed", "slug": root.slug, "severity": root.severity})
        elif each.outcome == "failed":
            each = each.model_copy(update={"outcome": "passed"})
        outcomes.append(each)
    outcomes += [outcome(each.rule, each.slug, "failed", severity=each.severity) for each in roots.values()]
    statuses = {each.status for each in report.findings}
    digest = Digest(sha256=fingerprint("file"))
    return report.model_copy(
        update={
            "outcomes": tuple(outcomes),
            "baseline": report.baseline or (digest if "known" in statuses else None),
            "policy": report.policy or (digest if "waived" in statuses else None),
            "verdict": gate.decide(report.findings, report.incomplete, report.fail_on, report.unmet),
        }
    )


def sound() -> AuditReport:
    return full_size()


def broken() -> AuditReport:
    return full_size("missing-router", "missing-layer-scales", "unexpected-tensors", "missing-norm", "missing-head")


@cache
def many(count: int = 50_000) -> AuditReport:
    """A full-size report with so many findings that nothing folds: distinct names, three rules, every layer."""
    rules = (
        ("SHP101", "wrong-shape", "error"),
        ("NAM101", "missing-tensor", "error"),
        ("NAM102", "unexpected", "warning"),
    )
    findings = []
    for number in range(count):
        rule, slug, severity = rules[number % 3]
        name = f"model.layers.{number % 62}.mlp.experts.{number}.{fingerprint(number)[:8]}.weight"
        begin = number * 64
        findings.append(
            finding(
                rule, slug, severity, f"shape is ({number}, 7168), needs (2048, 7168)", affected=(name,),
                location=Location(
                    file=f"model-{number % 163 + 1:05}-of-000163.safetensors", tensor=name, bytes=(begin, begin + 64)
                ),
                expected=[2048, 7168], actual=[number, 7168],
            )
        )  # fmt: skip
    outcomes = [each for each in sound().outcomes if each.rule not in {rule for rule, _, _ in rules}]
    outcomes += [outcome(rule, slug, "failed") for rule, slug, _ in rules]
    return sound().model_copy(update={"verdict": "failed", "findings": tuple(findings), "outcomes": tuple(outcomes)})


def waived_and_known() -> AuditReport:
    """One finding waived, one known, one of a note's severity, a rule that could not run and one that crashed."""
    waiver = Waiver(reason="the router is loaded from elsewhere", owner="team-moe", expires=date(2099, 1, 31))
    return sound().model_copy(
        update={
            "baseline": Digest(sha256=fingerprint("baseline")),
            "findings": (
                finding("NAM101", "missing-tensor", "error", "is not in any shard", status="waived", waiver=waiver,
                        location=Location(tensor="model.layers.7.mlp.gate.weight")),
                finding("SHP101", "wrong-shape", "error", "shape is (1,), needs (2,)", status="known",
                        location=Location(tensor="model.layers.9.mlp.gate.weight")),
                finding("IDX110", "official-total-size", "info", "metadata.total_size is 2 × the element count"),
            ),
            "outcomes": (
                outcome("NAM101", "missing-tensor", "failed"),
                outcome("SHP101", "wrong-shape", "failed"),
                outcome("IDX110", "official-total-size", "failed", severity=Severity.INFO),
                outcome("CFG101", "missing-config", "passed"),
                outcome("QNT101", "missing-block-scale", "not_applicable", reason="no quantisation is declared"),
            ),
        }
    )  # fmt: skip


def incomplete() -> AuditReport:
    """An audit that could not read a shard, and whose rule crashed."""
    crash = outcome("SHP101", "wrong-shape", "errored", reason="ZeroDivisionError: division by zero")
    others = tuple(each for each in sound().outcomes if each.rule != "SHP101")
    reasons = ("model-00003-of-000163.safetensors: permission denied", f"SHP101 wrong-shape crashed: {crash.reason}")
    return sound().model_copy(update={"verdict": "incomplete", "incomplete": reasons, "outcomes": (*others, crash)})


def hostile(text: str) -> AuditReport:
    """A report in which every text that a checkpoint, a policy or an error could choose is `text`."""
    waiver = Waiver(reason=text, owner=text, expires=date(2099, 1, 31))
    at = Location(file=text, tensor=text, field=text, bytes=(0, 8))
    base = sound()
    replaced = ("SHP101", "NAM101", "NAM103", "QNT101", "MTP101")
    return base.model_copy(
        update={
            "verdict": "incomplete",
            "incomplete": (text,),
            "family": text,
            "source": base.source.model_copy(update={"uri": text, "revision": text}),
            "baseline": Digest(sha256=fingerprint("baseline")),
            "findings": (
                finding("SHP101", "wrong-shape", "error", text, location=at, expected=text, actual=[text],
                        affected=(text, text * 2)),
                finding("NAM101", "missing-tensor", "warning", text, location=at, status="waived", waiver=waiver),
                finding("NAM103", "missing-layer", "error", text, location=at, status="known"),
            ),
            "outcomes": (
                *(each for each in base.outcomes if each.rule not in replaced),
                outcome("SHP101", "wrong-shape", "failed"),
                outcome("NAM101", "missing-tensor", "failed"),
                outcome("NAM103", "missing-layer", "failed"),
                outcome("QNT101", "missing-block-scale", "not_applicable", reason=text),
                outcome("MTP101", "missing-mtp-module", "errored", reason=text),
            ),
            "layout": (base.layout[0].model_copy(update={"pattern": text, "dtype": text, "files": (text,)}),),
            "coverage": base.coverage.model_copy(update={"unread": (text,)}),
        }
    )  # fmt: skip
