"""What pages show beside what the API does: counts, histories, what a queue is busy with."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from auditor.service.store.tables import audits, checkpoints, workers

HISTORY = 12  # verdicts that a line shows of one checkpoint
_OPEN = ("queued", "running")
# The same as the state, and no reason for SQLite to go through all that are finished in the order of their times.
_FINISHED = audits.c.verdict.is_not(None)
_RECENT_MS = 24 * 3600 * 1000


def verdicts(connection: Connection) -> dict[str, int]:
    """How many checkpoints there are by their latest verdict, `none` where there is none yet."""
    latest = audits.alias("latest")
    found = (
        select(latest.c.verdict, func.count())
        .select_from(checkpoints.outerjoin(latest, latest.c.id == checkpoints.c.latest_audit))
        .group_by(latest.c.verdict)
    )
    return {verdict or "none": count for verdict, count in connection.execute(found)}


def histories(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """The last verdicts of checkpoints, the newest first."""
    last = (
        select(audits.c.verdict)
        .where(audits.c.checkpoint == bindparam("of"), _FINISHED)
        .order_by(audits.c.created_at.desc(), audits.c.id.desc())
        .limit(HISTORY)
    )
    # One statement for each is quicker, on both databases, than any one for all that was tried.
    return {each: list(connection.execute(last, {"of": each}).scalars()) for each in ids}


def under_way(connection: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
    """The audit of each checkpoint that runs, or else one that waits; none where there is none."""
    some = [audits.c[name] for name in ("checkpoint", "id", "state", "reason")]
    found = select(*some).where(audits.c.checkpoint.in_(ids), audits.c.state.in_(_OPEN))
    return {row.checkpoint: row for row in connection.execute(found.order_by(audits.c.state, audits.c.id.desc()))}


def in_vain(connection: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
    """The last audit of each checkpoint, where that ended without a report."""
    some = [audits.c[name] for name in ("id", "state", "reason")]
    last = select(*some).where(audits.c.checkpoint == bindparam("of"))
    last = last.order_by(audits.c.created_at.desc(), audits.c.id.desc()).limit(1)
    found = {each: connection.execute(last, {"of": each}).one_or_none() for each in ids}
    return {each: row for each, row in found.items() if row is not None and row.state in ("failed", "cancelled")}


def report_before(connection: Connection, row: Row[Any]) -> str | None:
    """The finished audit of the same checkpoint before this one."""
    return connection.execute(
        select(audits.c.id)
        .where(
            audits.c.checkpoint == row.checkpoint,
            _FINISHED,
            audits.c.id < row.id,
        )
        .order_by(audits.c.created_at.desc(), audits.c.id.desc())
        .limit(1)
    ).scalar_one_or_none()


def standing(connection: Connection) -> dict[str, dict[str, int]]:
    """How many audits are queued and running, by queue."""
    found = (
        select(audits.c.queue, audits.c.state, func.count())
        .where(audits.c.state.in_(_OPEN))
        .group_by(audits.c.queue, audits.c.state)
    )
    counts: dict[str, dict[str, int]] = {name: dict.fromkeys(_OPEN, 0) for name in ("headers", "content")}
    for queue, state, count in connection.execute(found):
        counts.setdefault(queue, dict.fromkeys(_OPEN, 0))[state] = count
    return counts


def running(connection: Connection, *, queue: str | None = None, host: str | None = None) -> int:
    """How many audits run in a queue, or of a host."""
    found = select(func.count()).where(audits.c.state == "running")
    if queue is not None:
        found = found.where(audits.c.queue == queue)
    if host is not None:
        found = found.where(audits.c.host == host)
    return int(connection.execute(found).scalar_one())


def under_trial(connection: Connection, most: int) -> list[Row[Any]]:
    """Audits that run, the longest first."""
    some = [audits.c[name] for name in ("id", "source", "depth", "queue", "host", "worker", "started_at", "progress")]
    found = select(*some).where(audits.c.state == "running")
    return list(connection.execute(found.order_by(audits.c.started_at, audits.c.id).limit(most)))


def waiting(connection: Connection, queue: str, most: int) -> list[Row[Any]]:
    """Audits that wait in a queue, the next one first; those that wait for their time are among them."""
    some = ("id", "source", "depth", "host", "priority", "attempt", "created_at", "due_at", "cause", "job")
    found = select(*[audits.c[name] for name in some]).where(audits.c.queue == queue, audits.c.state == "queued")
    order = (audits.c.priority, audits.c.created_at, audits.c.id)
    return list(connection.execute(found.order_by(*order).limit(most)))


def workers_seen(connection: Connection, now: int, most: int) -> list[Row[Any]]:
    """Workers that live, then those that ended within a day, the last one first; `tries` is what each runs."""
    busy = (
        select(func.count())
        .where(audits.c.worker == workers.c.id, audits.c.state == "running")
        .correlate(workers)
        .scalar_subquery()
    )
    found = select(*workers.c, busy.label("tries")).where(
        workers.c.ended.is_(None) | (workers.c.ended_at > now - _RECENT_MS)
    )
    order = (workers.c.ended.is_not(None), workers.c.started_at.desc(), workers.c.id)
    return list(connection.execute(found.order_by(*order).limit(most)))


def any_worker(connection: Connection) -> bool:
    """Whether a worker lives, as far as anybody knows."""
    return connection.execute(select(workers.c.id).where(workers.c.ended.is_(None)).limit(1)).first() is not None
