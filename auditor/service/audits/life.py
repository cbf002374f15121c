"""What can happen to an audit, each as one transaction with its job: submitted, begun, ended, retried, cancelled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditor.service.audits.causes import again, delay_ms
from auditor.service.audits.order import Order
from auditor.service.audits.standing import proposed, put_latest
from auditor.service.audits.turns import OPEN, Announce, Turns, attempt_job
from auditor.service.jobs import Jobs
from auditor.service.store.database import Database, new_id, now
from auditor.service.store.tables import IS_OPEN, attempts, audits, checkpoints, origins, submissions

_COUNTED_S = 1.0
# Made once: to make them takes longer than to run them.
_KEYED = select(submissions.c.audit, submissions.c.body).where(
    submissions.c.owner == bindparam("owner"), submissions.c.key == bindparam("key")
)
_EQUAL = select(audits.c.id).where(audits.c.request == bindparam("request"), IS_OPEN)
_CHECKPOINT = select(checkpoints.c.id).where(checkpoints.c.source == bindparam("source"))


class KeyReusedError(Exception):
    """An idempotency key that stands for another request."""


class QueueFullError(Exception):
    """More audits wait than the settings allow."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The audit that answers a request; `created` false: it was there before."""

    audit: str
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an attempt gave: a report, the finished audit that is the same, or the causes why there is none."""

    report: str | None = None
    verdict: str | None = None
    errors: int = 0
    warnings: int = 0
    causes: tuple[str, ...] = ()
    reason: str | None = None
    resolved: str | None = None
    fingerprint: str | None = None
    tool: str | None = None
    same_as: str | None = None
    bytes_read: int = 0


class Audits:
    """The audits of an installation. `most` is how many attempts one has, `waiting` how many may be queued."""

    def __init__(
        self, database: Database, jobs: Jobs, *, most: int = 3, waiting: int = 100_000, announce: Announce | None = None
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._most = most
        self._waiting = waiting
        self._turns = Turns(database, jobs, announce)
        self._queued = (-_COUNTED_S, 0)

    # --- asked for ---

    def submit(
        self, order: Order, *, token: str | None = None, key: str | None = None, body: str | None = None
    ) -> Submission:
        """Accept a request: a new audit with its job, or the one that answers it already.

        `key` with the SHA-256 of the `body` makes a repetition the same audit. Raises KeyReusedError, QueueFullError.
        """

        def submitted(connection: Connection) -> Submission:
            return self.submit_within(connection, order, token=token, key=key, body=body)

        try:
            return self._database.together(submitted)
        except IntegrityError:  # somebody else was first with the same key or request: theirs is committed now
            return self._database.together(submitted)

    def submit_within(
        self,
        connection: Connection,
        order: Order,
        *,
        token: str | None = None,
        owner: str | None = None,
        key: str | None = None,
        body: str | None = None,
    ) -> Submission:
        """`submit` as a part of the caller's transaction. The `key` is the `owner`'s, or else the token's."""
        owner = owner or token or ""
        if key is not None:
            row = connection.execute(_KEYED, {"owner": owner, "key": key}).one_or_none()
            if row is not None:
                if row.body != body:
                    raise KeyReusedError
                if order.origin is not None:
                    self._note(connection, row.audit, order.origin)
                return Submission(row.audit, False)
        request = order.digest
        audit = connection.execute(_EQUAL, {"request": request}).scalar_one_or_none()
        created = audit is None
        at = now(connection)
        if audit is None:
            self._room(connection)
            audit = self._insert(connection, order, request, token, at)
        if order.origin is not None:
            self._note(connection, audit, order.origin)
        if key is not None:
            connection.execute(
                insert(submissions).values(owner=owner, key=key, body=body or "", audit=audit, created_at=at)
            )
        return Submission(audit, created)

    def _note(self, connection: Connection, audit: str, origin: str) -> None:
        """Keep what asked for an audit, whether or not others have before; where it has ended, that is told now."""
        # An end that comes at the same time either finds this origin, or is found here.
        row = connection.execute(select(audits.c.state).where(audits.c.id == audit).with_for_update()).one()
        noted = (origins.c.audit == audit, origins.c.origin == origin)
        if connection.execute(select(origins.c.audit).where(*noted)).one_or_none() is not None:
            return
        before = proposed(connection, audit)
        connection.execute(insert(origins).values(audit=audit, origin=origin))
        if row.state in OPEN:
            return
        self._turns.tell(connection, audit, origin)
        if row.state == "finished" and before and not proposed(connection, audit):
            put_latest(connection, audit, now(connection))

    def _room(self, connection: Connection) -> None:
        """Raises QueueFullError where the queue is full. It is counted once a second: the limit is no exact one."""
        counted_at, queued = self._queued
        if time.monotonic() - counted_at >= _COUNTED_S:
            some = select(audits.c.id).where(audits.c.state == "queued").limit(self._waiting).subquery()
            counted_at, queued = (
                time.monotonic(),
                connection.execute(select(func.count()).select_from(some)).scalar_one(),
            )
        if queued >= self._waiting:
            raise QueueFullError
        self._queued = (counted_at, queued + 1)

    def _insert(self, connection: Connection, order: Order, request: str, token: str | None, at: int) -> str:
        checkpoint = connection.execute(_CHECKPOINT, {"source": order.source}).scalar_one_or_none()
        if checkpoint is None:
            checkpoint = new_id(at)
            connection.execute(
                insert(checkpoints).values(id=checkpoint, source=order.source, created_at=at, latest_at=at)
            )
        audit = new_id(at)
        row = {
            "id": audit,
            "checkpoint": checkpoint,
            "source": order.source,
            "revision": order.revision,
            "depth": order.depth,
            "family": order.family,
            "policy": order.policy,
            "policy_text": order.policy_text,
            "policy_sha256": order.policy_sha256,
            "baseline": order.baseline,
            "seed": order.seed,
            "force": order.force,
            "priority": order.priority,
            "queue": order.queue,
            "host": order.host,
            "request": request,
            "origin": order.origin,
            "token": token,
            "created_at": at,
            "state": "queued",
            "due_at": at,
            "job": f"{audit}.1",
        }
        connection.execute(insert(audits), row)
        self._jobs.add(connection, attempt_job(audit, 1, order.queue, order.host, order.priority))
        return audit

    # --- tried ---

    def begin(self, audit: str, n: int, worker: str) -> Row[Any] | None:
        """The audit, now this worker's to try; None where the attempt is not the present one, or not to be made."""
        with self._database.write() as connection:
            at = now(connection)
            begun = connection.execute(
                update(audits)
                .where(audits.c.id == audit, audits.c.attempt == n, audits.c.state.in_(OPEN))
                .values(
                    state="running",
                    worker=worker,
                    started_at=func.coalesce(audits.c.started_at, at),
                    version=audits.c.version + 1,
                )
            )
            if begun.rowcount != 1:
                return None
            again = connection.execute(
                update(attempts).where(attempts.c.audit == audit, attempts.c.n == n).values(worker=worker)
            )
            if again.rowcount == 0:
                connection.execute(insert(attempts).values(audit=audit, n=n, worker=worker, started_at=at))
            return connection.execute(select(audits).where(audits.c.id == audit)).one()

    def held(self, worker: str) -> set[tuple[str, int]]:
        """The attempts that are this worker's to make."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(audits.c.id, audits.c.attempt).where(audits.c.worker == worker, audits.c.state == "running")
            )
            return {(row.id, row.attempt) for row in rows}

    def ended(self, audit: str) -> bool:
        """Whether an audit is in its final state, or is not there."""
        with self._database.read() as connection:
            state = connection.execute(select(audits.c.state).where(audits.c.id == audit)).scalar_one_or_none()
        return state not in OPEN

    def tell(self, worker: str, told: dict[tuple[str, int], tuple[str | None, str | None]]) -> None:
        """Keep how far attempts are, as JSON, and what they wrote, where they are this worker's still."""
        with self._database.write() as connection:
            for (audit, n), (progress, log) in told.items():
                mine = (audits.c.id == audit, audits.c.attempt == n, audits.c.worker == worker)
                if progress is not None:
                    connection.execute(
                        update(audits)
                        .where(*mine, audits.c.state == "running")
                        .values(progress=progress, losses=0, version=audits.c.version + 1)
                    )
                if log is not None:
                    connection.execute(
                        update(attempts)
                        .where(attempts.c.audit == audit, attempts.c.n == n, attempts.c.worker == worker)
                        .values(log=log)
                    )

    def conclude(self, audit: str, n: int, worker: str, result: Result) -> str | None:
        """End an attempt: with a final state or the next attempt, which has a due time. None: it was not its to end."""
        with self._database.write() as connection:
            mine = (audits.c.id == audit, audits.c.attempt == n, audits.c.worker == worker)
            row = connection.execute(
                select(audits.c.id).where(*mine, audits.c.state == "running").with_for_update()
            ).one_or_none()
            if row is None:
                return None
            if result.same_as is not None and not _stands(connection, result.same_as):
                told = "the finished audit of the same commit was removed meanwhile"
                result = Result(causes=("changed",), reason=told)
            return self._end(connection, audit, n, result)

    def _end(self, connection: Connection, audit: str, n: int, result: Result) -> str:
        at = now(connection)
        cause = result.causes[0] if result.causes else None
        connection.execute(
            update(attempts)
            .where(attempts.c.audit == audit, attempts.c.n == n)
            .values(ended_at=at, cause=cause, reason=result.reason, bytes_read=result.bytes_read)
        )
        tries = connection.execute(
            select(func.count()).where(attempts.c.audit == audit, attempts.c.cause.is_distinct_from("worker_lost"))
        ).scalar_one()
        if again(frozenset(result.causes), tries, self._most):
            self._turns.again(connection, audit, n, at + delay_ms(tries), cause, result.reason)
            return "queued"
        if result.report is not None:
            self._finish(connection, audit, result, at)
            return "finished"
        self._turns.settle(
            connection, audit, "failed", at, cause=cause or "no_report", reason=result.reason, resolved=result.resolved
        )
        return "failed"

    def _finish(self, connection: Connection, audit: str, result: Result, at: int) -> None:
        self._turns.settle(
            connection,
            audit,
            "finished",
            at,
            cause=None,
            reason=None,
            verdict=result.verdict,
            errors=result.errors,
            warnings=result.warnings,
            report=result.report,
            resolved=result.resolved,
            fingerprint=result.fingerprint,
            same_as=result.same_as,
            tool=result.tool,
        )
        if not proposed(connection, audit):
            put_latest(connection, audit, at)

    def same(self, audit: dict[str, Any], resolved: str, tool: str) -> Row[Any] | None:
        """A finished audit of the same commit, asked the same way of the same auditor: its report is this one's too."""
        if audit["force"]:
            return None
        same = (
            audits.c.state == "finished",
            audits.c.verdict != "incomplete",
            audits.c.same_as.is_(None),
            audits.c.resolved == resolved,
            audits.c.source == audit["source"],
            audits.c.depth == audit["depth"],
            audits.c.tool == tool,
            *(
                audits.c[name].is_not_distinct_from(audit[name])
                for name in ("family", "policy_sha256", "baseline", "seed")
            ),
        )
        with self._database.read() as connection:
            return connection.execute(
                select(audits).where(*same).order_by(audits.c.created_at.desc(), audits.c.id.desc()).limit(1)
            ).one_or_none()

    # --- cancelled ---

    def cancel(self, audit: str) -> str | None:
        """The audit's state after asking for its end; None where there is none. Its worker ends its processes."""
        with self._database.write() as connection:
            row = connection.execute(
                select(audits.c.state, audits.c.attempt, audits.c.job).where(audits.c.id == audit).with_for_update()
            ).one_or_none()
            if row is None:
                return None
            if row.state not in OPEN:
                return str(row.state)
            at = now(connection)
            connection.execute(
                update(attempts)
                .where(attempts.c.audit == audit, attempts.c.n == row.attempt, attempts.c.ended_at.is_(None))
                .values(ended_at=at, cause="cancelled")
            )
            self._turns.settle(connection, audit, "cancelled", at, cause="cancelled", reason="cancelled on request")
        if row.job is not None:
            self._jobs.end([row.job])
        return "cancelled"


def _stands(connection: Connection, audit: str) -> bool:
    """Whether an audit has a report, which stays until this transaction has ended."""
    found = select(audits.c.id).where(audits.c.id == audit, audits.c.report.is_not(None))
    return connection.execute(found.with_for_update(read=True)).one_or_none() is not None
