"""What is shown of audits and checkpoints: one, lists in pages, and the place in a queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, func, select, tuple_

from auditor.service.store.database import now
from auditor.service.store.tables import attempts, audits, checkpoints

# Places beyond are not counted: this one stands for them.
MOST_PLACES = 1_000
_AT_ONCE = 500
# A policy's text and the job are nobody's to see with each audit.
_SHOWN = [each for each in audits.c if each.name not in ("policy_text", "job", "request", "losses", "token")]
_LATEST = audits.alias("latest")
# Made once: to make it takes longer than to run it.
_ONE = select(*_SHOWN).where(audits.c.id == bindparam("id"))
_BEFORE = select(func.count()).select_from(
    select(audits.c.id)
    .where(
        audits.c.queue == bindparam("queue"),
        audits.c.state == "queued",
        audits.c.job.is_not(None),  # what waits for a time waits for no turn
        tuple_(audits.c.priority, audits.c.created_at, audits.c.id)
        < tuple_(bindparam("priority"), bindparam("created_at"), bindparam("id")),
    )
    .limit(MOST_PLACES - 1)
    .subquery()
)


class Place(NamedTuple):
    """Where a page ended: the time of its last row, and the id."""

    at: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which audits are listed; all of them where nothing is given. `since` is included, `until` is not."""

    state: Sequence[str] = ()
    verdict: Sequence[str] = ()
    depth: str | None = None
    checkpoint: str | None = None
    source: str | None = None
    since: int | None = None
    until: int | None = None


def audit(connection: Connection, id: str) -> Row[Any] | None:  # noqa: A002  # what it is everywhere
    """An audit as it is now."""
    return connection.execute(_ONE, {"id": id}).one_or_none()


def versions(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Version and state of those audits that are there."""
    found = {}
    for begin in range(0, len(ids), _AT_ONCE):
        some = audits.c.id.in_(ids[begin : begin + _AT_ONCE])
        rows = connection.execute(select(audits.c.id, audits.c.version, audits.c.state).where(some))
        found.update({row.id: (row.version, row.state) for row in rows})
    return found


def place(connection: Connection, row: Row[Any]) -> int | None:
    """An audit's place among those that are queued beside it, 1 for the next; None where it does not wait its turn."""
    if row.state != "queued" or (row.attempt > 1 and row.due_at > now(connection)):
        return None
    where = {name: row._mapping[name] for name in ("queue", "priority", "created_at", "id")}
    return int(connection.execute(_BEFORE, where).scalar_one()) + 1


def listed(connection: Connection, filters: Filters, *, after: Place | None, most: int) -> list[Row[Any]]:
    """Audits, those first that were asked for last."""
    found = select(*_SHOWN)
    for column, values in ((audits.c.state, filters.state), (audits.c.verdict, filters.verdict)):
        if values:
            found = found.where(column == values[0] if len(values) == 1 else column.in_(values))
    if filters.depth is not None:
        found = found.where(audits.c.depth == filters.depth)
    if filters.checkpoint is not None:
        found = found.where(audits.c.checkpoint == filters.checkpoint)
    if filters.source is not None:
        of = select(checkpoints.c.id).where(checkpoints.c.source == filters.source).scalar_subquery()
        found = found.where(audits.c.checkpoint == of)
    if filters.since is not None:
        found = found.where(audits.c.created_at >= filters.since)
    if filters.until is not None:
        found = found.where(audits.c.created_at < filters.until)
    return _page(connection, found, audits.c.created_at, audits.c.id, after, most)


def tries(connection: Connection, audit: str) -> list[Row[Any]]:
    """An audit's attempts, without their logs."""
    some = [each for each in attempts.c if each.name != "log"]
    return list(connection.execute(select(*some).where(attempts.c.audit == audit).order_by(attempts.c.n)))


def log(connection: Connection, audit: str, n: int) -> str | None:
    """What an attempt's process wrote so far; None where there is no such attempt."""
    found = select(attempts.c.log).where(attempts.c.audit == audit, attempts.c.n == n)
    return connection.execute(found).scalar_one_or_none()


def checkpoint(connection: Connection, id: str) -> Row[Any] | None:  # noqa: A002  # likewise
    """A checkpoint with its latest audit."""
    return connection.execute(_with_latest().where(checkpoints.c.id == id)).one_or_none()


def checkpoint_of(connection: Connection, source: str) -> Row[Any] | None:
    """The checkpoint of a source, with its latest audit."""
    return connection.execute(_with_latest().where(checkpoints.c.source == source)).one_or_none()


def checkpoints_listed(
    connection: Connection, *, after: Place | None, most: int, words: Sequence[str] = (), verdict: str | None = None
) -> list[Row[Any]]:
    """Checkpoints with their latest audits, those first whose audit finished last.

    Only those whose source has each of the words, and whose latest verdict is this one, or `none`.
    """
    found = _with_latest()
    for each in words:
        found = found.where(func.lower(checkpoints.c.source).contains(each.lower(), autoescape=True))
    if verdict is not None:
        found = found.where(_LATEST.c.verdict.is_(None) if verdict == "none" else _LATEST.c.verdict == verdict)
    return _page(connection, found, checkpoints.c.latest_at, checkpoints.c.id, after, most)


def _with_latest() -> Select[Any]:
    """A checkpoint's columns; of its latest audit, those that a line shows, None before there is one."""
    some = ("depth", "revision", "resolved", "verdict", "errors", "warnings", "report", "tool")
    latest = [_LATEST.c[name].label(name) for name in some]
    return select(*checkpoints.c, *latest).outerjoin(_LATEST, _LATEST.c.id == checkpoints.c.latest_audit)


def _page(
    connection: Connection, found: Select[Any], time: Any, key: Any, after: Place | None, most: int
) -> list[Row[Any]]:
    """Newest first; the key tells apart what came at the same time."""
    if after is not None:
        found = found.where(tuple_(time, key) < (after.at, after.id))
    return list(connection.execute(found.order_by(time.desc(), key.desc()).limit(most)))
