"""One share of a full audit's reading, kept for the audit that collects all of them. It says nothing of a verdict."""

from auditor.content import check_extra
from auditor.errors import UsageError
from auditor.gather import Subject, gather
from auditor.inventory.walk import Progress
from auditor.run import Terms, measure_of
from auditor.text import plural, shown, size
from auditor.verdict.gate import INCOMPLETE


def read_part(subject: Subject, policy: str | None, progress: Progress | None = None) -> tuple[str, int]:
    """Read a part of the shards into the place that the subject's reading names: what was done, and the exit code.

    0: each shard of the part is read, by this or an earlier run; a damaged one counts as read. 3: one is not, with
    the reasons. Raises UsageError for a place that cannot serve, SourceError where there is nothing to read.
    """
    reading = subject.reading
    assert reading is not None
    assert reading.part is not None
    check_extra(reading.depth)
    evidence = gather(subject, measure_of(subject, Terms(policy=policy)), progress)
    content, inventory = evidence.content, evidence.inventory
    reasons = [*inventory.reasons, *(content.unread if content is not None else ("cancelled before it was read",))]
    shards = content.probes.shards if content is not None else ()
    said = f"{plural(len(shards), 'shard')} of {len(inventory.parts):,}"
    said += f", {size(sum(shard.bytes_read for shard in shards))} of tensors"
    if content is not None and content.resumed:
        said += f", {content.resumed:,} of them before"
    part = "part {} of {}".format(*reading.part)
    if reasons:
        lines = [f"{part} is not whole: {said}", *(f"  {shown(str(each))}" for each in reasons)]
        return "\n".join(lines) + "\n", INCOMPLETE
    kept = f"kept in {shown(reading.resume or '')}: an audit at depth full with this --resume collects and judges"
    return f"{part} is read: {said}\n  {kept}\n", 0


def part_of(text: str) -> tuple[int, int]:
    """Part I/N. Raises UsageError for what is none."""
    first, separator, last = text.partition("/")
    if not separator or not all(each.isascii() and each.isdigit() and len(each) < 9 for each in (first, last)):
        raise UsageError(f"--part {shown(text)}: needs I/N, such as 1/4")
    return int(first), int(last)
