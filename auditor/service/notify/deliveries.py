"""Deliveries: one for each target and what it is told of, added with the final state, tried for a day."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, exists, insert, select, update

from auditor.service.access.keys import key
from auditor.service.jobs import Job, Jobs, Queue
from auditor.service.notify.call import Caller, UntoldError
from auditor.service.notify.due import Due
from auditor.service.notify.kind import Kind
from auditor.service.notify.message import Message, body
from auditor.service.notify.targets import KINDS, switched_off
from auditor.service.store.database import new_id, now
from auditor.service.store.rows import Rows
from auditor.service.store.tables import IS_WAITING, audits, deliveries, origins, targets

if TYPE_CHECKING:
    from auditor.service.installation import Installation
    from auditor.service.settings import Settings

DELIVER = "deliver"
# After the first try, the second, …: 23.6 hours in all.
DELAYS_S = (5, 60, 300, 1800, 7200, 18_000, 57_600)
_GONE = 410
_LONGEST_S = 24 * 3600.0
_LONGEST_MS = int(_LONGEST_S * 1000)
# A target that did not answer for so long is left alone for a while, and what it has to be told waits without a place.
_SLOW_S = 5.0
_QUIET_MS = 60_000
_MARKS = "marks"


def announcing(settings: Settings, jobs: Jobs) -> Announcement:
    """What `open_installation` takes, so that what ends is told."""
    return Announcement(settings, jobs)


class Announcement:
    """Adds the deliveries of an audit that has ended, in the transaction that ends it or that is asked for it anew."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self._public_url = settings.public_url
        self._jobs = jobs

    def __call__(self, connection: Connection, audit: str, origin: str | None = None) -> None:
        """Add them, and their jobs; those to an `origin` alone where one is named."""
        told = connection.execute(select(targets).where(targets.c.off_at.is_(None)).order_by(targets.c.id)).all()
        if not told:
            return
        row = connection.execute(select(audits).where(audits.c.id == audit)).one()
        text, at = body(row, self._public_url), now(connection)
        data = json.loads(text)["data"]
        asked = select(origins.c.origin).where(origins.c.audit == audit).order_by(origins.c.origin)
        known = list(connection.execute(asked).scalars()) if origin is None else [origin]
        for target in told:
            try:
                places = _kind(target.kind, target.options).places(data, known)
            except (ValidationError, KeyError):  # an audit ends, whatever an earlier version kept
                switched_off(connection, target.id, "its options are none of this version's: add it anew")
                continue
            quiet = (target.quiet_until or 0) > at
            for place in places if origin is None else [each for each in places if each == origin]:
                self._add(connection, audit, target.id, place, text, at, quiet=quiet)

    def _add(
        self, connection: Connection, audit: str, target: str, place: str | None, text: str, at: int, *, quiet: bool
    ) -> None:
        id = new_id(at)  # noqa: A001  # what it is everywhere
        job = _job(id, target, 1)
        connection.execute(
            insert(deliveries).values(
                id=id,
                target=target,
                audit=audit,
                origin=place,
                body=text,
                state="waiting",
                created_at=at,
                due_at=at,
                job=None if quiet else job.id,
            )
        )
        if not quiet:
            self._jobs.add(connection, job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which deliveries."""

    target: str | None = None
    audit: str | None = None
    state: str | None = None


class Deliveries:
    """What a worker does with deliveries, and what people ask of them."""

    def __init__(self, installation: Installation, stopped: threading.Event | None = None) -> None:
        self._database = installation.database
        self._rows = Rows(installation.database, deliveries, newest_first=True)
        self._jobs = installation.jobs
        self._notify = notify = installation.settings.notify
        self._stopped = stopped or threading.Event()
        self._caller = Caller(frozenset(notify.hosts), private=notify.private, stopped=self._stopped)
        self._due = Due(
            installation.database,
            installation.jobs,
            deliveries,
            IS_WAITING,
            lambda row, n: _job(row.id, row.target, n),
            unless=lambda at: exists().where(targets.c.id == deliveries.c.target, targets.c.quiet_until > at),
        )

    @property
    def queue(self) -> Queue:
        """Deliveries of each target by themselves, so that one that does not answer holds up no other."""
        return Queue(name=DELIVER, each=self._notify.each, group=self._notify.per_target, poll_s=1.0)

    # --- the steps ---

    def send(self, delivery: str, n: int) -> dict[str, Any] | None:
        """Tell the target; what came of it or why it was not told, or None where that is not for this job."""
        with self._database.read() as connection:
            row = connection.execute(
                select(deliveries, *_OF_TARGET, audits.c.source)
                .join(targets, targets.c.id == deliveries.c.target)
                .join(audits, audits.c.id == deliveries.c.audit)
                .where(deliveries.c.id == delivery, *_present(delivery, n))
            ).one_or_none()
            at = now(connection)
            if row is None or self._stopped.is_set():
                return None
            if row.off_at is not None:
                return {"not": "its target is off"}
            if row.origin is not None and _told_later(connection, row):
                return {"not": "what ended later has been told there"}
        if (row.quiet_until or 0) > at:
            return {"quiet": True}
        return self._told(row, at)

    def settle(self, delivery: str, n: int, told: dict[str, Any]) -> str | None:
        """Keep what came of it, and when to try again; the state, or None where the row is another job's."""
        with self._database.write() as connection:
            row = connection.execute(select(deliveries).where(*_present(delivery, n)).with_for_update()).one_or_none()
            if row is None:
                return None
            at = now(connection)
            values: dict[str, Any] = {"job": None}
            if "not" in told:
                values |= {"state": "failed", "ended_at": at, "answer": f"not sent: {told['not']}"}
            elif "quiet" not in told:
                tries = row.tries + 1
                values |= {"tries": tries, "tried_at": at, "status": told["status"], "answer": told["answer"]}
                values |= _next(told, tries, at)
                self._note(connection, row.target, told, at)
            elif at > row.created_at + _LONGEST_MS:
                values |= {"state": "failed", "ended_at": at, "answer": "not sent: its target does not answer"}
            connection.execute(update(deliveries).where(deliveries.c.id == delivery).values(values))
            return str(values.get("state", "waiting"))

    def _note(self, connection: Connection, target: str, told: dict[str, Any], at: int) -> None:
        """Keep what an answer says of the target: that it is gone, or did not answer for long."""
        if told["gone"]:
            switched_off(connection, target, "it answered 410 Gone")
        elif told["slow"]:
            connection.execute(update(targets).where(targets.c.id == target).values(quiet_until=at + _QUIET_MS))

    def add_due(self) -> int:
        """Add the jobs of deliveries that are due; how many. Called with every sweep."""
        return self._due.add()

    # --- people ---

    def every(self, wanted: Filters, *, after: str | None = None, most: int = 200) -> list[Row[Any]]:
        """Rows, the newest first, those after an id."""
        given = [deliveries.c[name] == value for name, value in asdict(wanted).items() if value is not None]
        return self._rows.every(*given, after=after, most=most)

    def one(self, id: str) -> Row[Any] | None:  # noqa: A002  # what it is everywhere
        """A row by its id."""
        return self._rows.one(id)

    def repeat(self, delivery: str) -> bool:
        """Send a delivery that has ended once more, as the same message; whether there is one of that id."""
        with self._database.write() as connection:
            known = connection.execute(select(deliveries.c.id).where(deliveries.c.id == delivery)).one_or_none()
            if known is None:
                return False
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id == delivery, deliveries.c.state != "waiting")
                .values(state="waiting", ended_at=None, tries=0, job=None, due_at=now(connection))
            )
        self._due.add()
        return True

    def _told(self, row: Row[Any], at: int) -> dict[str, Any] | None:
        begun = time.monotonic()
        told: dict[str, Any] = {"status": None, "good": False, "gone": False, "after_s": 0.0, "slow": False}
        try:
            kind = _kind(row.kind, row.options)
            secret = self._notify.secrets.get(kind.secret)
            if secret is None:
                raise UntoldError(f"the settings have no secret named '{kind.secret}' (notify.secrets)")
            message = Message(id=row.id, at_ms=at, body=row.body, origin=row.origin, mark=self._mark(row))
            answer = self._caller.tell(lambda call: kind.tell(message, call, secret.get_secret_value()))
        except UntoldError as error:
            slow = time.monotonic() - begun >= _SLOW_S
            return {**told, "answer": str(error)[:500], "slow": slow}
        if answer is None:  # stopped: the row waits for another worker
            return None
        # Of a status or a comment it is one commit or discussion that is gone, not whoever is told.
        gone = answer.status == _GONE and row.kind == "webhook"
        told |= {"status": answer.status, "answer": answer.kept, "good": answer.good, "after_s": answer.after_s}
        return {**told, "gone": gone}

    def _mark(self, row: Row[Any]) -> str:
        about = f"{row.source} {row.origin}".encode()
        return hmac.new(key(self._database, _MARKS), about, hashlib.sha256).hexdigest()[:32]


def _next(told: dict[str, Any], tries: int, at: int) -> dict[str, Any]:
    """The state after a try. A target that asks to be left alone is, for at most a day."""
    if told["good"]:
        return {"state": "delivered", "ended_at": at}
    if told["gone"] or tries > len(DELAYS_S):
        return {"state": "failed", "ended_at": at}
    delay = max(DELAYS_S[tries - 1] * random.uniform(1.0, 1.1), min(told["after_s"], _LONGEST_S))  # noqa: S311  # spreads, and keeps no secret
    return {"due_at": at + int(delay * 1000)}


_OF_TARGET = (targets.c.kind, targets.c.options, targets.c.off_at, targets.c.quiet_until)


def _told_later(connection: Connection, row: Row[Any]) -> bool:
    """Whether another delivery tells the same target of the same place what came of a later audit."""
    later = select(deliveries.c.id).where(
        deliveries.c.target == row.target, deliveries.c.origin == row.origin, deliveries.c.id > row.id
    )
    same = later.join(audits, audits.c.id == deliveries.c.audit).where(audits.c.source == row.source)
    return connection.execute(same.limit(1)).first() is not None


def _present(delivery: str, n: int) -> tuple[Any, ...]:
    """That a job is the present one of its row."""
    return (
        deliveries.c.id == delivery,
        deliveries.c.attempt == n,
        deliveries.c.job.is_not(None),
        deliveries.c.state == "waiting",
    )


def _job(delivery: str, target: str, n: int) -> Job:
    return Job(id=f"{delivery}.{n}", kind=DELIVER, arguments=(delivery, n), queue=DELIVER, group=target)


def _kind(kind: str, options: str) -> Kind:
    return KINDS[kind].model_validate_json(options)
