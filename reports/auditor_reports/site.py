"""A static site of many reports: an index with search, and for each checkpoint a page with its history.

Everything here is a pure function of entries, the few facts of a report that the pages show. Writing is the
publisher's business. The same entries give the same bytes.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, computed_field

from auditor_reports import text
from auditor_reports.document import compose
from auditor_reports.outline import MARKS, by_weight, cut
from auditor_schemas.report import AuditReport, Verdict
from auditor_schemas.rule import Severity

HISTORY = 12  # verdicts that the index shows of one checkpoint
MESSAGE = 200

_TONES = {"passed": "Passed", "failed": "Failed", "incomplete": "Incomplete"}


class Entry(BaseModel):
    """One published report, as the site's pages show it. `id` names its files."""

    model_config = ConfigDict(frozen=True)

    uri: str
    id: str = Field(pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}$")
    verdict: Verdict
    depth: str
    family: str | None
    revision: str | None
    fingerprint: str | None
    tool: str
    started_at: str
    errors: int
    warnings: int
    notes: int
    waived: int
    tensors: int
    shards: int
    payload_bytes: int
    payload_bytes_read: int
    first: str | None = Field(description="The finding that matters most, or why the audit is incomplete.")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def page(self) -> str:
        """The report's page, relative to the site; its JSON is beside it."""
        return f"checkpoints/{folder(self.uri)}/{self.id}.html"


class Record(BaseModel):
    """What `site.json` holds: every entry of the site, for the next publication and for other programs."""

    model_config = ConfigDict(frozen=True)

    site_version: Literal["1"] = "1"
    entries: tuple[Entry, ...] = ()


class _Verdict(NamedTuple):
    verdict: str
    mark: str
    word: str


def entry(report: AuditReport, document: str) -> Entry:
    """The entry of a report that is fit to be published; `document` is its JSON, which gives it its id."""
    moment = _utc(report.run.started_at)
    roots = [each for each in report.findings if each.caused_by is None]
    counts = {each: sum(one.severity == each and one.status == "new" for one in roots) for each in Severity}
    ranked = by_weight(each for each in roots if each.status == "new" and each.severity is not Severity.INFO)
    first = next(iter(report.incomplete), None)
    if first is None and ranked:
        first = f"{ranked[0].rule} {ranked[0].slug}: {ranked[0].message}"
    digest = hashlib.sha256(document.encode()).hexdigest()[:16]
    return Entry(
        uri=report.source.uri.removesuffix(f"@{report.source.revision}"),
        id=f"{moment.year:04}{moment:%m%dT%H%M%SZ}-{digest}",
        verdict=report.verdict,
        depth=report.run.depth,
        family=report.family,
        revision=report.source.revision,
        fingerprint=report.source.fingerprint,
        tool=f"{report.tool.name} {report.tool.version}",
        started_at=f"{moment.year:04}-{moment:%m-%dT%H:%M:%SZ}",
        errors=counts[Severity.ERROR],
        warnings=counts[Severity.WARNING],
        notes=counts[Severity.INFO],
        waived=sum(each.status != "new" for each in roots),
        tensors=report.inventory.tensors,
        shards=report.inventory.shards,
        payload_bytes=report.inventory.payload_bytes,
        payload_bytes_read=report.coverage.payload_bytes_read,
        first=cut(first, MESSAGE) if first else None,
    )


def add(record: Record, entries: Iterable[Entry]) -> Record:
    """The record with these entries, each report once, the newest first."""
    every = {(each.uri, each.id): each for each in (*record.entries, *entries)}
    ordered = sorted(every.values(), key=lambda each: (each.uri, each.id))
    return Record(entries=tuple(sorted(ordered, key=lambda each: each.started_at, reverse=True)))


def folder(uri: str) -> str:
    """The folder of a checkpoint's pages: readable, one component, distinct for distinct addresses."""
    words = re.sub(r"[^a-z0-9]+", "-", uri.lower()).strip("-")[:60].strip("-")
    digest = hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{words or 'checkpoint'}-{digest}"


def index_page(record: Record) -> str:
    """The index: every checkpoint once, by its latest report."""
    checkpoints = _checkpoints(record)
    latest = [history[0] for history in checkpoints.values()]
    rows = [
        {
            "latest": _shown(history[0]),
            "folder": folder(uri),
            "history": [_verdict(each) for each in reversed(history[:HISTORY])],
            "reports": text.plural(len(history), "report"),
            "words": _words(history[0]),
        }
        for uri, history in checkpoints.items()
    ]
    counts = {verdict: sum(each.verdict == verdict for each in latest) for verdict in _TONES}
    return compose(
        "site_index.html",
        style="site.css",
        scripts=("site.js",),
        rows=rows,
        counts=[
            {"verdict": verdict, "mark": MARKS[verdict], "word": _TONES[verdict], "count": text.number(count)}
            for verdict, count in counts.items()
        ],
        total=text.plural(len(rows), "checkpoint"),
        reports=text.plural(len(record.entries), "report"),
    )


def checkpoint_page(uri: str, history: Sequence[Entry]) -> str:
    """One checkpoint with its reports, the newest first."""
    rows = []
    for position, each in enumerate(history):
        older = history[position + 1] if position + 1 < len(history) else None
        rows.append({**_shown(each), "change": _change(each, older)})
    return compose(
        "site_checkpoint.html",
        style="site.css",
        uri=text.shown(uri),
        latest=_shown(history[0]),
        rows=rows,
        history=[_verdict(each) for each in reversed(history[:60])],
        reports=text.plural(len(history), "report"),
    )


def checkpoint_pages(record: Record) -> dict[str, str]:
    """The page of every checkpoint, by its folder."""
    return {folder(uri): checkpoint_page(uri, history) for uri, history in _checkpoints(record).items()}


def _checkpoints(record: Record) -> dict[str, list[Entry]]:
    """Histories by address, newest first, in the order of their latest report."""
    histories: dict[str, list[Entry]] = {}
    for each in record.entries:
        histories.setdefault(each.uri, []).append(each)
    return histories


def _shown(each: Entry) -> dict[str, Any]:
    """An entry as the templates print it."""
    found = [text.plural(count, noun) for count, noun in ((each.errors, "error"), (each.warnings, "warning")) if count]
    found += [f"{text.number(each.waived)} waived or known"] if each.waived else []
    read = each.payload_bytes_read
    return {
        "uri": each.uri,
        "id": each.id,
        **_verdict(each)._asdict(),
        "findings": ", ".join(found) or "no error or warning",
        "first": each.first,
        "depth": each.depth,
        "read": f"{text.share(read, each.payload_bytes)} of bytes read" if read else "no tensor data read",
        "size": f"{text.plural(each.tensors, 'tensor')}, {text.size(each.payload_bytes)}",
        "family": each.family or "no family",
        "revision": each.revision,
        "revision_short": _short(each.revision),
        "fingerprint": each.fingerprint,
        "fingerprint_short": _short(each.fingerprint),
        "tool": each.tool,
        "moment": each.started_at,
        "date": each.started_at[:10],
        "time": f"{each.started_at[11:16]} UTC",
    }


def _short(value: str | None) -> str | None:
    return None if value is None else text.shown(value[:12])


def _verdict(each: Entry) -> _Verdict:
    return _Verdict(each.verdict, MARKS[each.verdict], _TONES[each.verdict])


def _change(each: Entry, older: Entry | None) -> str:
    """What is different from the report before."""
    if older is None:
        return "first report"
    changes = []
    if each.verdict != older.verdict:
        changes.append(f"was {older.verdict}")
    if each.fingerprint is not None and each.fingerprint == older.fingerprint:
        changes.append("same headers")
    elif each.fingerprint is not None and older.fingerprint is not None:
        changes.append("other headers")
    if each.depth != older.depth:
        changes.append(f"depth was {older.depth}")
    return ", ".join(changes) or "as before"


def _words(each: Entry) -> str:
    """What the search looks through."""
    parts = (each.uri, each.verdict, each.depth, each.family or "", each.revision or "", each.started_at[:10])
    return " ".join(text.shown(part) for part in parts).lower()


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the first or the last day that there is
        return moment.replace(tzinfo=UTC)
