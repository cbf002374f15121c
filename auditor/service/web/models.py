"""What the API says, as its OpenAPI document has it."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from sqlalchemy import Row

from auditor.service.audits.causes import CAUSES
from auditor.service.audits.order import Depth
from auditor.text import shown

State = Literal["queued", "running", "finished", "failed", "cancelled"]
Verdict = Literal["passed", "failed", "incomplete"]

ID = r"^[0-9a-f]{26}$"
POLICY = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MOST = 200
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}")


def _plain(text: str) -> str:
    if shown(text) != text:
        raise ValueError("has characters that do not show")
    return text


def _stamp(value: object) -> object:
    if isinstance(value, str) and not _STAMP.match(value):
        raise ValueError("needs a time as RFC 3339 has it, such as 2026-11-28T23:03:35Z")
    return value


# A point in time that was given; a bare number would be one too.
Given = Annotated[AwareDatetime, BeforeValidator(_stamp)]
# A word of a closed list, which grows: a reader takes one that it does not know for what it is.
Cause = Annotated[str, Field(examples=["unreachable"])]
# Text in which every character shows: no control characters, none that turn the direction.
Plain = Annotated[str, AfterValidator(_plain)]
Id = Annotated[str, Path(pattern=ID, description="26 hexadecimal digits.", examples=["019c0fd2a1b3c4d5e6f7a8b9c0"])]
Time = Annotated[datetime, Field(examples=["2026-11-28T23:03:35.250000Z"])]


class Asked(BaseModel):
    """The body of a request: each field of its own type, and no other field."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AuditRequest(Asked):
    """What is to be audited, how deep, by which policy."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"source": "hf://org/name", "depth": "headers"}]})

    source: Plain = Field(
        min_length=1,
        max_length=2000,
        description="A folder below an allowed one, hf://org/name[@revision], s3://, gs://, az:// or https://.",
        examples=["hf://org/name"],
    )
    revision: Plain | None = Field(
        default=None, min_length=1, max_length=255, description="A branch, tag or commit of a hub repository."
    )
    depth: Depth = Field(default="headers", description="How much is read: headers, a sample of the content, all.")
    family: Plain | None = Field(
        default=None, min_length=1, max_length=100, description="The model family; from config.json where absent."
    )
    policy: str | None = Field(default=None, pattern=POLICY, description="The name of a policy.")
    policy_text: str | None = Field(
        default=None, max_length=512 << 10, description="A policy itself, as TOML; needs the scope admin."
    )
    baseline: str | None = Field(
        default=None, pattern=ID, description="A finished audit, whose findings are then known ones."
    )
    seed: int | None = Field(default=None, ge=0, lt=1 << 63, description="What a sample draws from.")
    force: bool = Field(default=False, description="Audit although the same commit was audited the same way.")
    priority: int = Field(default=5, ge=1, le=9, description="1 comes first, 9 last.")


class PageQuery(BaseModel):
    """How many, and from where on."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=MOST, description="How many at most.")
    next: str | None = Field(default=None, max_length=1000, description="What `next` of the page before was.")


class CheckpointFilters(PageQuery):
    """Which checkpoints."""

    source: Plain | None = Field(default=None, max_length=2000, description="The one of this source.")


class AuditFilters(PageQuery):
    """Which audits."""

    state: list[State] = Field(default=[], max_length=5, description="One of these states.")
    verdict: list[Verdict] = Field(default=[], max_length=3, description="One of these verdicts.")
    depth: Depth | None = None
    source: Plain | None = Field(default=None, max_length=2000, description="Of this source, as audits have it.")
    checkpoint: str | None = Field(default=None, pattern=ID)
    since: Given | None = Field(default=None, description="Asked for then or later.")
    until: Given | None = Field(default=None, description="Asked for before then.")


class Progress(BaseModel):
    """How far a running attempt is."""

    what: str = Field(description="What is counted: shards, bytes; or preparing.", examples=["bytes"])
    done: int | None = None
    total: int | None = None
    why: str | None = None


class ContentProgress(Progress):
    """The same while tensor data is read."""

    units: int = Field(description="Units of work in all, and how many are left.")
    units_left: int
    workers: int = Field(description="How many read at once, on all nodes together.")
    nodes: int
    retries: int = Field(description="How many units were begun again.")


_PROGRESS: TypeAdapter[Progress] = TypeAdapter(ContentProgress | Progress)


class Links(BaseModel):
    """Where the rest is; the report's are there when there is a report."""

    self: str
    checkpoint: str
    events: str
    log: str
    report: str | None
    html: str | None


class Audit(BaseModel):
    """An audit: what was asked for, where it is, and what came of it."""

    id: str = Field(pattern=ID)
    checkpoint: str = Field(pattern=ID, description="The checkpoint in whose history it is.")
    source: str
    revision: str | None
    depth: Depth
    family: str | None
    policy: str | None = Field(description="The policy's name; absent for a policy that came with the request.")
    policy_sha256: str | None
    baseline: str | None = Field(description="The SHA-256 of the report whose findings are known.")
    seed: int | None
    force: bool
    priority: int
    origin: str | None = Field(description="What asked for it, where it was no token: a hook, a watch.")
    pinned: bool = Field(description="Whether retention passes it over.")
    state: State
    version: int = Field(description="Grows with every change; the id of its events.")
    attempt: int = Field(description="The present attempt, 1 for the first.")
    worker: str | None = Field(description="Who runs it.")
    place: int | None = Field(description="Its place in the queue, 1 for the next; 1,000 for all from there on.")
    next_attempt_at: Time | None = Field(description="When the next attempt is due, where it waits for that.")
    progress: ContentProgress | Progress | None
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    verdict: Verdict | None
    errors: int | None = Field(description="Findings of that severity that are new and have no other cause.")
    warnings: int | None
    cause: Cause | None = Field(description=f"Why the last attempt, or all, gave no verdict: {', '.join(CAUSES)}.")
    reason: str | None = Field(description="The same for a person.")
    resolved: str | None = Field(description="The commit that was audited.")
    fingerprint: str | None = Field(description="Of headers, config.json and index, as the report has it.")
    report: str | None = Field(description="The SHA-256 of the report.")
    same_as: str | None = Field(description="The earlier audit of the same commit whose report this is.")
    tool: str | None = Field(description="The version of the auditor.")
    links: Links


class Attempt(BaseModel):
    """One try of an audit by a process of its own."""

    n: int
    worker: str
    started_at: Time
    ended_at: Time | None
    cause: Cause | None
    reason: str | None
    log: str = Field(description="Where what its process wrote is.")


class Checkpoint(BaseModel):
    """A source that was audited, without its revision, and what its latest finished audit said."""

    id: str = Field(pattern=ID)
    source: str
    created_at: Time
    latest_at: Time = Field(description="When its latest audit finished, or when it was first asked for.")
    latest_audit: str | None = Field(description="The last that finished, but for those of pull requests.")
    depth: Depth | None
    revision: str | None
    resolved: str | None
    verdict: Verdict | None
    errors: int | None
    warnings: int | None
    audits: str = Field(description="Where its history is.")


class AuditPage(BaseModel):
    """Some audits, and the cursor of those that follow."""

    items: list[Audit]
    next: str | None


class CheckpointPage(BaseModel):
    """Some checkpoints, and the cursor of those that follow."""

    items: list[Checkpoint]
    next: str | None


def when(at: int | None) -> datetime | None:
    """A time of the database's."""
    return None if at is None else moment(at)


def moment(at: int) -> datetime:
    """The same, of one that is there."""
    return datetime.fromtimestamp(at / 1000, UTC)


def audit_of(row: Row[Any], place: int | None) -> Audit:
    """A row of `lookup`, as the API shows it."""
    found = dict(row._mapping)
    here = f"/v1/audits/{row.id}"
    waits = row.state == "queued" and row.attempt > 1
    return Audit(
        **{name: found[name] for name in _SAME},
        place=place,
        next_attempt_at=when(row.due_at) if waits else None,
        progress=progress_of(row.progress) if row.state == "running" else None,
        created_at=moment(row.created_at),
        started_at=when(row.started_at),
        ended_at=when(row.ended_at),
        links=Links(
            self=here,
            checkpoint=f"/v1/checkpoints/{row.checkpoint}",
            events=f"{here}/events",
            log=f"{here}/attempts/{row.attempt}/log",
            report=None if row.report is None else f"{here}/report",
            html=None if row.report is None else f"{here}/report.html",
        ),
    )


_OURS = ("place", "next_attempt_at", "progress", "created_at", "started_at", "ended_at", "links")
_SAME = tuple(name for name in Audit.model_fields if name not in _OURS)


def checkpoint_of(row: Row[Any]) -> Checkpoint:
    """A row of `lookup`, as the API shows it."""
    found = dict(row._mapping)
    same = {name: found[name] for name in Checkpoint.model_fields if name in found and not name.endswith("_at")}
    return Checkpoint(
        **same,
        created_at=moment(row.created_at),
        latest_at=moment(row.latest_at),
        audits=f"/v1/checkpoints/{row.id}/audits",
    )


def attempt_of(row: Row[Any]) -> Attempt:
    """A row of `lookup`, as the API shows it."""
    return Attempt(
        n=row.n,
        worker=row.worker,
        started_at=moment(row.started_at),
        ended_at=when(row.ended_at),
        cause=row.cause,
        reason=row.reason,
        log=f"/v1/audits/{row.audit}/attempts/{row.n}/log",
    )


def progress_of(text: str | None) -> Progress | None:
    """What an attempt has told, if it is progress."""
    try:
        return None if text is None else _PROGRESS.validate_json(text)
    except ValidationError:
        return None
