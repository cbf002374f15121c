"""Audits that need a job anew: the next attempt is due, the worker is lost or stops, or the job itself is gone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, select, update

from auditor.service.audits.turns import OPEN, Announce, Turns
from auditor.service.jobs import Jobs
from auditor.service.store.database import Database, now
from auditor.service.store.tables import attempts, audits, workers

# Losses of a worker after which an audit that comes no further is given up: it may be what takes workers along.
LOSSES = 10


class Recovery:
    """What brings an installation's audits to workers again. Any worker may do it, and several at once."""

    def __init__(self, database: Database, jobs: Jobs, announce: Announce | None = None) -> None:
        self._database = database
        self._jobs = jobs
        self._turns = Turns(database, jobs, announce)

    def add_due(self) -> int:
        """Add the jobs of attempts that are due; how many."""
        with self._database.read() as connection:
            waiting = select(audits.c.id).where(
                audits.c.state == "queued", audits.c.job.is_(None), audits.c.due_at <= now(connection)
            )
            due = connection.execute(waiting.limit(1000)).scalars().all()
        return self._turns.add(due) if due else 0

    def lose(self, worker: str) -> list[str]:
        """Give what a lost worker was trying to others, each attempt as the next one; the audits."""
        with self._database.write() as connection:
            rows = connection.execute(_running(worker)).all()
            for row in rows:
                self._lose(connection, row.id, row.attempt, row.losses + 1)
        self._turns.add([row.id for row in rows])
        return [row.id for row in rows]

    def _lose(self, connection: Connection, audit: str, n: int, losses: int) -> None:
        at, reason = now(connection), "the worker that tried it is gone"
        connection.execute(
            update(attempts)
            .where(attempts.c.audit == audit, attempts.c.n == n)
            .values(ended_at=at, cause="worker_lost", reason=reason)
        )
        if losses >= LOSSES:
            told = f"{losses} workers were lost while they tried it, and it came no further"
            self._turns.settle(connection, audit, "failed", at, cause="worker_lost", reason=told)
            return
        connection.execute(update(audits).where(audits.c.id == audit).values(losses=losses))
        self._turns.again(connection, audit, n, at, "worker_lost", reason)

    def orphaned(self) -> list[str]:
        """Ended workers that audits are still said to be tried by."""
        with self._database.read() as connection:
            found = select(audits.c.worker).distinct().join(workers, workers.c.id == audits.c.worker)
            return list(
                connection.execute(found.where(audits.c.state == "running", workers.c.ended.is_not(None))).scalars()
            )

    def hand_back(self, worker: str) -> list[str]:
        """What a worker that stops was trying, for others to go on with; no loss is counted."""
        with self._database.write() as connection:
            rows = connection.execute(_running(worker)).all()
            for row in rows:
                at, reason = now(connection), "its worker was stopped"
                connection.execute(
                    update(attempts)
                    .where(attempts.c.audit == row.id, attempts.c.n == row.attempt)
                    .values(ended_at=at, cause="worker_lost", reason=reason)
                )
                self._turns.again(connection, row.id, row.attempt, at, "worker_lost", reason)
        self._turns.add([row.id for row in rows])
        return [row.id for row in rows]

    def adopt(self) -> list[str]:
        """Add anew the jobs of open audits that no worker of this version would take; the audits.

        The rows are what was promised; jobs are lost where a backup, an upgrade or somebody's hand lost them.
        """
        lost: list[str] = []
        after = ""
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    select(audits.c.id, audits.c.attempt, audits.c.job)
                    .where(audits.c.state.in_(OPEN), audits.c.job.is_not(None), audits.c.id > after)
                    .order_by(audits.c.id)
                    .limit(1000)
                ).all()
            if not rows:
                break
            after = rows[-1].id
            alive = self._jobs.alive([row.job for row in rows])
            for row in rows:
                if row.job not in alive and self._readopt(row.id, row.job):
                    lost.append(row.id)
        self._turns.add(lost)
        return lost

    def _readopt(self, audit: str, job: str) -> bool:
        with self._database.write() as connection:
            row = connection.execute(
                select(audits.c.attempt)
                .where(audits.c.id == audit, audits.c.job == job, audits.c.state.in_(OPEN))
                .with_for_update()
            ).one_or_none()
            if row is None:
                return False
            at, reason = now(connection), "its job was lost"
            connection.execute(
                update(attempts)
                .where(attempts.c.audit == audit, attempts.c.n == row.attempt, attempts.c.ended_at.is_(None))
                .values(ended_at=at, cause="worker_lost", reason=reason)
            )
            self._turns.again(connection, audit, row.attempt, at, "worker_lost", reason)
            return True


def _running(worker: str) -> Select[Any]:
    """What a worker tries, held for this transaction: of two that take it over, the second finds nothing."""
    mine = (audits.c.worker == worker, audits.c.state == "running")
    found = select(audits.c.id, audits.c.attempt, audits.c.losses).where(*mine)
    return found.order_by(audits.c.id).with_for_update()
