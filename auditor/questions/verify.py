"""Whether a checkpoint is the one that a report audited, and passed: the step between an audit and a release."""

import hashlib

from auditor.errors import ReadError, UsageError
from auditor.opening import open_checkpoint
from auditor.reporting.saved import read_report
from auditor.reporting.summary import fingerprint
from auditor.rules import catalogue
from auditor.sources import Source
from auditor.text import plural, quoted, shown, size
from auditor.verdict.gate import EXIT_CODES, INCOMPLETE
from auditor.version import __version__
from auditor_schemas.content import ContentDigest
from auditor_schemas.report import AuditReport

_PIECE = 16 << 20
_REVISION = "not compared: other files (tokenizer, code, README), which no fingerprint covers"


def verify(report_path: str, source: str, *, digests: bool, pinned: str | None = None) -> tuple[str, int]:
    """What was compared, in lines, and the exit code: 0 the same and passed, 1 not, 3 not readable.

    The report is anybody's file. Raises UsageError (exit 2) where it proves nothing: where it contradicts itself, has
    rules that this auditor does not know, or digests of what is no shard of the checkpoint.

    Where the report has the shards' SHA-256 (depth full) every byte is read again, unless `digests` is False.
    `pinned` is the fingerprint as the audit itself handed it on: the report must be that audit's.
    """
    report = read_report(report_path)
    _refuse_other_rules(report, report_path)
    name = shown(source)
    if pinned is not None and pinned != report.source.fingerprint:
        lines = [
            f"{shown(report_path)} is not the report of the audit that was pinned",
            f"  expected  {shown(pinned[:80]) or 'no fingerprint'}",
            f"  actual    {shown(report.source.fingerprint or 'no fingerprint')}",
        ]
        return "\n".join(lines) + "\n", 1
    with open_checkpoint(source) as checkpoint:
        config, inventory = checkpoint.config_file, checkpoint.inventory()
        found = fingerprint(inventory, config)
        if found is None:
            reasons = inventory.unread or (f"config.json: {config.reason}",)
            return f"not verified: {name}: {shown(reasons[0])}\n", INCOMPLETE
        if found != report.source.fingerprint:
            audited = shown(report.source.fingerprint or "none: the audit was incomplete")
            lines = [f"{name} is not what was audited", f"  expected  {audited}", f"  actual    {found}"]
            return "\n".join([*lines, _revisions(report, checkpoint.source), ""]), 1
        if report.verdict != "passed":
            return f"{name} is what was audited, and that {report.verdict}\n", max(1, EXIT_CODES[report.verdict])
        if report.fail_on == "never":
            gated = "and that with --fail-on never, so that nothing could fail"
            return f"{name} is what was audited, {gated}: no pass\n", 1
        read = f"compared: config.json, index, sizes and headers of {plural(len(inventory.shards), 'shard')}"
        content = report.content_digest
        if content is None:
            bytes_ = f"not compared: tensor data, of which depth {report.run.depth} keeps no digests"
        elif not digests:
            bytes_ = "not compared: tensor data, by --no-digests"
        else:
            paths = [shard.path for shard in inventory.parts]
            _refuse_other_names(content, paths, report_path)
            differing = _differing(checkpoint.source, content, paths)
            if differing is not None:
                return f"{name} is not what was audited\n  {differing}\n", 1
            bytes_ = f"compared: every byte of {size(sum(each.bytes for each in content.shards))} by SHA-256"
    lines = [
        f"{name} is what was audited: passed at depth {report.run.depth}, fingerprint {found}",
        f"  {read}",
        f"  {bytes_}",
        f"  {_REVISION}",
        _revisions(report, checkpoint.source),
    ]
    return "\n".join(lines) + "\n", 0


def _refuse_other_rules(report: AuditReport, path: str) -> None:
    known = {module.rule.id for module in catalogue()}
    ran = {each.rule for each in report.outcomes}
    for rule in sorted(ran - known):
        raise UsageError(f"{shown(path)}: has the rule {rule}, which auditor {__version__} does not know")
    if report.tool.version == __version__:
        for rule in sorted(known - ran):
            raise UsageError(f"{shown(path)}: {rule}, a rule of auditor {__version__}, did not run")


def _refuse_other_names(content: ContentDigest, paths: list[str], report_path: str) -> None:
    """A digest of anything but a shard, once, is nothing that an audit writes; no other name is ever opened."""
    names = [shard.file for shard in content.shards]
    for name in sorted(set(names) - set(paths)):
        what = quoted(name) if name else "nothing"
        raise UsageError(f"{shown(report_path)}: has a SHA-256 of {what}, which is no shard of the checkpoint")
    if len(set(names)) < len(names):
        raise UsageError(f"{shown(report_path)}: has two SHA-256 of one shard")


def _revisions(report: AuditReport, source: Source) -> str:
    """The revisions, where either is known: a commit pins what no fingerprint covers."""
    if report.source.revision is None and source.revision is None:
        return "  revision  none on either side"
    audited, there = report.source.revision or "none", source.revision or "none"
    return f"  revision  {shown(audited)} audited, {shown(there)} here"


def _differing(source: Source, content: ContentDigest, paths: list[str]) -> str | None:
    """The first shard that is not the one that was audited, with both digests; None where all are."""
    lacking = set(paths) - {shard.file for shard in content.shards}
    if lacking:
        return f"the report has no SHA-256 of {shown(min(lacking))}"
    for shard in content.shards:
        try:
            file = source.open(shard.file)
        except ReadError as error:
            return shown(str(error))
        try:
            if file.size != shard.bytes:
                return f"{shown(shard.file)}: {file.size:,} bytes, {shard.bytes:,} were audited"
            digest = hashlib.sha256()
            for begin in range(0, file.size, _PIECE):
                digest.update(file.read(begin, min(begin + _PIECE, file.size)))
        finally:
            file.close()
        if digest.hexdigest() != shard.sha256:
            return f"{shown(shard.file)}: SHA-256 {digest.hexdigest()}, {shown(shard.sha256)} was audited"
    return None
