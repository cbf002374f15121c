"""How an audit goes on: to another attempt, which gets its job when it is due, or to its end, which is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, select, update

from auditor.service.jobs import Job, Jobs
from auditor.service.store.database import Database
from auditor.service.store.tables import audits

ATTEMPT = "attempt"
OPEN = ("queued", "running")


class Announce(Protocol):
    """What else belongs to an audit's end, in the same transaction: notifications."""

    def __call__(self, connection: Connection, audit: str, origin: str | None = None) -> None:
        """Add what is to be told about an audit that has just ended, or to an `origin` that asks after its end."""


class Turns:
    """Changes of an audit's row with what belongs to them. Whether one is called for, the caller has seen to."""

    def __init__(self, database: Database, jobs: Jobs, announce: Announce | None) -> None:
        self._database = database
        self._jobs = jobs
        self._announce = announce

    def again(
        self, connection: Connection, audit: str, n: int, due_at: int, cause: str | None, reason: str | None
    ) -> None:
        """Another attempt, whose job is added when it is due by the database's clock: DBOS's delays go by workers'."""
        connection.execute(
            update(audits)
            .where(audits.c.id == audit)
            .values(
                state="queued",
                worker=None,
                attempt=n + 1,
                job=None,
                due_at=due_at,
                cause=cause,
                reason=reason,
                version=audits.c.version + 1,
            )
        )

    def settle(self, connection: Connection, audit: str, state: str, at: int, **values: Any) -> None:
        """A final state, with what is told of it."""
        connection.execute(
            update(audits)
            .where(audits.c.id == audit)
            .values(state=state, ended_at=at, worker=None, version=audits.c.version + 1, **values)
        )
        self.tell(connection, audit)

    def tell(self, connection: Connection, audit: str, origin: str | None = None) -> None:
        """Have it told how an audit ended: all who are to know, or that `origin` which asked for it later."""
        if self._announce is not None:
            self._announce(connection, audit, origin)

    def add(self, due: Sequence[str]) -> int:
        """Add the jobs of audits that wait without one, in a transaction of its own; how many."""
        added = 0
        with self._database.write() as connection:
            for audit in due:
                waiting = (audits.c.id == audit, audits.c.state == "queued", audits.c.job.is_(None))
                # Whoever holds the row adds the job, or changes what is to be added: the next sweep sees.
                alone = select(audits).where(*waiting).with_for_update(skip_locked=True)
                row = connection.execute(alone).one_or_none()
                if row is None:
                    continue
                job = attempt_job(audit, row.attempt, row.queue, row.host, row.priority)
                connection.execute(update(audits).where(audits.c.id == audit).values(job=job.id))
                self._jobs.add(connection, job)
                added += 1
        return added


def attempt_job(audit: str, n: int, queue: str, host: str, priority: int) -> Job:
    """The job of an audit's attempt `n`."""
    return Job(id=f"{audit}.{n}", kind=ATTEMPT, arguments=(audit, n), queue=queue, group=host, priority=priority)
