"""Watches: checkpoints that are looked at again and again, and audited where they have changed.

The hub documents no redelivery of webhooks, so what it told nobody is found by looking. Which watch is due is decided
by the database's clock; DBOS's schedules go by the clocks of workers.
"""

from __future__ import annotations

import random
import re
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, insert, select, true, update
from sqlalchemy.exc import IntegrityError

from auditor.errors import AuditorError, UsageError
from auditor.service.access.sources import judge
from auditor.service.audits.life import QueueFullError
from auditor.service.audits.order import Depth, host_of
from auditor.service.hooks.asking import Asked, Asking
from auditor.service.hooks.looking import look
from auditor.service.jobs import Job, Queue
from auditor.service.notify.beside import beside
from auditor.service.notify.due import Due
from auditor.service.store.database import new_id, now
from auditor.service.store.rows import Rows
from auditor.service.store.tables import audits, watches
from auditor.text import quoted, shown

if TYPE_CHECKING:
    from auditor.service.installation import Installation

LOOK = "look"
LEAST_S, MOST_S = 60, 30 * 24 * 3600
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_EACH, _GROUP = 4, 2
_LOOK_S = 120.0
_SLOWEST_S = 24 * 3600
_DOUBLINGS = 6
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Watches(Rows):
    """The watches of an installation."""

    def __init__(self, installation: Installation, stopped: threading.Event | None = None) -> None:
        super().__init__(installation.database, watches)
        self._stopped = stopped or threading.Event()
        self._sources = installation.settings.sources
        self._asking = Asking(installation)
        self._due = Due(installation.database, installation.jobs, watches, true(), _job)

    @property
    def queue(self) -> Queue:
        """Looks, a few at once and fewer at one host."""
        return Queue(name=LOOK, each=_EACH, group=_GROUP, poll_s=5.0)

    # --- people ---

    def add(
        self,
        source: str,
        *,
        every_s: int = 3600,
        revision: str | None = None,
        depth: Depth = "headers",
        policy: str | None = None,
    ) -> str:
        """A new watch, which is looked at now and then every so often; its id. Raises UsageError."""
        if not LEAST_S <= every_s <= MOST_S:
            raise UsageError("the time between two looks is between a minute and 30 days")
        if "://" not in source:
            raise UsageError("a folder cannot be watched: give hf://, https://, s3://, gs:// or az://")
        if source.startswith("hf://") and "@" in source:
            raise UsageError("a watch follows a branch: give it as --revision, not in the source")
        if revision is not None and _COMMIT.fullmatch(revision):
            raise UsageError("a commit never changes: give a branch or a tag")
        try:
            with self._database.write() as connection:
                order = self._asking.order(
                    connection, Asked(source=source, revision=revision, depth=depth, policy=policy)
                )
                at = now(connection)
                id = new_id(at)  # noqa: A001  # what it is everywhere
                connection.execute(
                    insert(watches).values(
                        id=id,
                        source=order.source,
                        revision=order.revision,
                        depth=depth,
                        policy=policy,
                        every_s=every_s,
                        created_at=at,
                        due_at=at,
                    )
                )
        except IntegrityError:
            at_revision = "" if revision is None else f" at {quoted(revision)}"
            raise UsageError(f"{shown(source)}{at_revision} is watched already") from None
        return id

    def look_now(self, id: str) -> bool:  # noqa: A002  # what it is everywhere
        """Have a watch looked at with the next sweep; whether there is one of that id."""
        with self._database.write() as connection:
            changed = connection.execute(update(watches).where(watches.c.id == id).values(due_at=now(connection)))
        return changed.rowcount == 1

    # --- the steps, and what is done with every sweep ---

    def look(self, watch: str, n: int) -> dict[str, Any] | None:
        """Ask what the checkpoint is now: a name of it that changes with it, or why it cannot be had."""
        with self._database.read() as connection:
            row = connection.execute(select(watches).where(*_present(watch, n))).one_or_none()
        if row is None:
            return None
        try:
            judge(row.source, row.revision, self._sources)
            found = beside(
                lambda: look(row.source, row.revision, self._sources), seconds=_LOOK_S, stopped=self._stopped
            )
            return None if found is None else {"found": found}
        except TimeoutError:
            return {"reason": f"it could not be looked at within {_LOOK_S:g} s"}
        except AuditorError as error:
            return {"reason": str(error)}
        except Exception as error:  # an edge: whatever a source's answer did to its reader
            return {"reason": f"{type(error).__name__}: {shown(str(error))}"}

    def conclude(self, watch: str, n: int, seen: dict[str, Any]) -> str | None:
        """Ask for an audit where it has changed, and say when to look again; the audit that is asked for."""
        try:
            with self._database.write() as connection:
                return self._concluded(connection, watch, n, seen)
        except (UsageError, QueueFullError) as error:
            reason = str(error) or "more audits wait than the settings allow"
            with self._database.write() as connection:
                return self._concluded(connection, watch, n, {"reason": reason})

    def add_due(self) -> int:
        """Add the looks that are due; how many."""
        return self._due.add()

    def _concluded(self, connection: Connection, watch: str, n: int, seen: dict[str, Any]) -> str | None:
        row = connection.execute(select(watches).where(*_present(watch, n)).with_for_update()).one_or_none()
        if row is None:
            return None
        at, audit, found = now(connection), None, seen.get("found")
        values: dict[str, Any] = {"job": None, "looked_at": at}
        if found is None:
            values |= {"failures": row.failures + 1, "reason": str(seen["reason"])[:1000]}
            pause = min(row.every_s * 2 ** min(row.failures, _DOUBLINGS), max(row.every_s, _SLOWEST_S))
        else:
            values |= {"failures": 0, "reason": None}
            if found != row.commit:
                audit = self._ask(connection, row, found)
                if self._reads(connection, row, audit):
                    values["commit"] = found
            pause = row.every_s
        values["due_at"] = at + int(pause * 1000 * random.uniform(0.95, 1.05))  # noqa: S311  # spreads, and keeps no secret
        connection.execute(update(watches).where(watches.c.id == watch).values(values))
        return audit

    def _reads(self, connection: Connection, row: Row[Any], audit: str) -> bool:
        """Whether the audit reads what was found: one of no commit that has begun may have read what was before."""
        if row.source.startswith("hf://"):
            return True
        state = connection.execute(select(audits.c.state).where(audits.c.id == audit)).scalar_one()
        return bool(state == "queued")

    def _ask(self, connection: Connection, row: Row[Any], found: str) -> str:
        hub = row.source.startswith("hf://")
        asked = Asked(
            source=row.source,
            revision=found if hub else None,
            depth=row.depth,
            policy=row.policy,
            origin=f"hub:{_ref(row.revision)}" if hub else f"watch:{row.id}",
            key=None if hub else f"watch {row.id} {row.attempt}",
            before=row.commit if hub else None,
        )
        return self._asking.submit_within(connection, asked).audit


def seconds(text: str) -> int:
    """What `--every` says: a number with s, m, h or d. Raises UsageError."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if found is None:
        raise UsageError(f"{quoted(text)} is no time: give a number with s, m, h or d, as in 1h")
    return int(found[1]) * _UNITS[found[2]]


def _ref(revision: str | None) -> str:
    """The ref that a watched revision most likely is: what a hook of the hub would call it."""
    if revision is None:
        return "refs/heads/main"
    return revision if revision.startswith("refs/") else f"refs/heads/{revision}"


def _present(watch: str, n: int) -> tuple[Any, ...]:
    return watches.c.id == watch, watches.c.attempt == n, watches.c.job.is_not(None)


def _job(row: Row[Any], n: int) -> Job:
    return Job(id=f"{row.id}.{n}", kind=LOOK, arguments=(row.id, n), queue=LOOK, group=host_of(row.source))
