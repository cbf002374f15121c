"""Rows that have a job when they are due by the database's clock, whatever becomes of workers and jobs meanwhile."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, TextClause, false, not_, select, update

from auditor.service.jobs import Job, Jobs
from auditor.service.store.database import Database, now

_MOST = 200


class Due:
    """The rows of a table with `id`, `attempt`, `due_at` and `job`, as long as `waiting` holds for them.

    `attempt` counts a row's jobs and `job` is the present one: what another job has to say of the row counts no more.
    DBOS's own delays go by the clocks of workers, and a lost worker's jobs are ended, so the rows are what decides.
    """

    def __init__(
        self,
        database: Database,
        jobs: Jobs,
        table: Table,
        waiting: ColumnElement[bool] | TextClause,
        job: Callable[[Row[Any], int], Job],
        *,
        unless: Callable[[int], ColumnElement[bool]] = lambda _: false(),
    ) -> None:
        """`unless` says, at a time, which rows get no job although they are due."""
        self._database = database
        self._jobs = jobs
        self._table = table
        self._waiting = waiting
        self._job = job
        self._unless = unless
        self._looked = ""

    def add(self) -> int:
        """Add the jobs that are due, and anew those that nobody will run any more; how many."""
        columns = self._table.c
        with self._database.read() as connection:
            at = now(connection)
            due = connection.execute(
                select(columns.id, columns.job)
                .where(self._waiting, columns.job.is_(None), columns.due_at <= at, not_(self._unless(at)))
                .order_by(columns.due_at)
                .limit(_MOST)
            ).all()
            # Some with every call, so that a long queue costs no more than a short one.
            busy = connection.execute(
                select(columns.id, columns.job)
                .where(self._waiting, columns.job.is_not(None), columns.id > self._looked)
                .order_by(columns.id)
                .limit(_MOST)
            ).all()
        self._looked = busy[-1].id if len(busy) == _MOST else ""
        alive = self._jobs.alive([row.job for row in busy])
        lacking = [*due, *(row for row in busy if row.job not in alive)]
        if not lacking:
            return 0
        with self._database.write() as connection:
            given = [before for row in lacking if (before := self._give(connection, row.id, row.job)) is not None]
        self._jobs.forget(each for each in given if each)
        return len(given)

    def _give(self, connection: Any, id: str, seen: str | None) -> str | None:  # noqa: A002  # what it is everywhere
        """Give a row its next job, if it is still as it was seen: the job before, '' where there was none."""
        columns = self._table.c
        row = connection.execute(
            select(self._table)
            .where(columns.id == id, self._waiting, columns.job.is_not_distinct_from(seen))
            .with_for_update()
        ).one_or_none()
        if row is None:
            return None
        job = self._job(row, row.attempt + 1)
        connection.execute(update(self._table).where(columns.id == id).values(attempt=row.attempt + 1, job=job.id))
        self._jobs.add(connection, job)
        return self._job(row, row.attempt).id if row.attempt else ""
