"""Removes what the settings let go of, and what nothing refers to: rows first, then the files that no row names.

Whatever moment it is ended at, no row refers to a file that is gone; files that nobody came to remove are found again.
"""

import logging
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, exists, func, not_, or_, select, update

from auditor.service.installation import Installation
from auditor.service.operate import chores
from auditor.service.store.database import insert_absent, now
from auditor.service.store.tables import FINAL, audits, checkpoints, deliveries, orphans, workers

RETENTION, ORPHANS = "retention", "orphans"

_log = logging.getLogger(__name__)
_HOUR, _DAY = 3_600_000, 86_400_000
# So many are chosen by one look at every row, and so many removed by one transaction, which others wait for.
_CHOSEN, _AT_ONCE = 5000, 200
_ID = re.compile(r"[0-9a-f]{26}")


class Retention:
    """A chore of a worker's sweep: hourly what the settings let go of, daily what nothing refers to."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._database = installation.database
        self._settings = installation.settings.retention
        self._work_at = time.monotonic()

    def __call__(self) -> None:
        """Do what is due."""
        if chores.take(self._database, RETENTION, _HOUR):
            self.remove()
        if chores.take(self._database, ORPHANS, _DAY):
            self.find_orphans()
        # The folders of work are this machine's: no other worker's look would find them.
        if time.monotonic() - self._work_at >= _HOUR / 1000:
            self._work_at = time.monotonic()
            self.clear_work()

    def remove(self) -> int:
        """Remove audits that the settings let go of with all that is kept for them, and old traces; how many audits."""
        removed = 0
        while chosen := self._chosen():
            before = removed
            for start in range(0, len(chosen), _AT_ONCE):
                removed += self._remove(chosen[start : start + _AT_ONCE])
            if removed == before:
                break
        if removed:
            _log.info("audits removed", extra={"audits": removed})
        self._forget()
        self._remove_orphans()
        return removed

    def find_orphans(self) -> int:
        """Note reports that no audit refers to, and forget the note of those that one does; how many are new."""
        found, some = 0, []
        for name in self._installation.reports.every():
            some.append(name)
            if len(some) == _AT_ONCE:
                found += self._note(some)
                some = []
        return found + self._note(some)

    def clear_work(self) -> None:
        """Remove what attempts on this machine kept for audits that have ended a while ago, or are gone."""
        work = self._installation.settings.work
        names = [each.name for each in work.iterdir() if _ID.fullmatch(each.name)] if work.is_dir() else []
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            with self._database.read() as connection:
                ended = and_(audits.c.state.in_(FINAL), audits.c.ended_at < now(connection) - _HOUR)
                needed = select(audits.c.id).where(audits.c.id.in_(some), not_(ended))
                kept = set(connection.execute(needed).scalars())
            for each in some:
                if each not in kept:
                    self._discard(each)

    # --- audits ---

    def _chosen(self) -> Sequence[str]:
        """Some audits to be removed."""
        days, each = self._settings.days, self._settings.each
        if days is None and each is None:
            return ()
        place = func.row_number().over(
            partition_by=audits.c.checkpoint, order_by=(audits.c.created_at.desc(), audits.c.id.desc())
        )
        with self._database.read() as connection:
            ended = select(audits.c.id, audits.c.ended_at, place.label("place")).where(audits.c.state.in_(FINAL))
            final = ended.subquery()
            over: list[ColumnElement[bool]] = []
            if days is not None:
                over.append(final.c.ended_at < now(connection) - int(days * _DAY))
            if each is not None:
                over.append(final.c.place > each)
            chosen = select(audits.c.id).join(final, final.c.id == audits.c.id).where(or_(*over), _removable())
            return connection.execute(chosen.limit(_CHOSEN)).scalars().all()

    def _remove(self, some: Sequence[str]) -> int:
        """Remove audits that may still go: their rows in one transaction, then what belongs to these; how many."""
        with self._database.write() as connection:
            if chores.paused(connection, RETENTION):
                return 0
            going = select(audits.c.id, audits.c.attempt, audits.c.report, audits.c.checkpoint)
            rows = connection.execute(going.where(audits.c.id.in_(some), _removable()).with_for_update()).all()
            ids = [row.id for row in rows]
            told = select(deliveries.c.job).where(deliveries.c.audit.in_(ids), deliveries.c.job.is_not(None))
            jobs = [f"{row.id}.{n}" for row in rows for n in range(1, row.attempt + 1)]
            jobs += connection.execute(told).scalars()
            # What was answered with a report of theirs has it for its own now.
            connection.execute(update(audits).where(audits.c.same_as.in_(ids)).values(same_as=None))
            connection.execute(delete(audits).where(audits.c.id.in_(ids)))
            empty = not_(exists().where(audits.c.checkpoint == checkpoints.c.id))
            connection.execute(delete(checkpoints).where(checkpoints.c.id.in_({row.checkpoint for row in rows}), empty))
            reports = {row.report for row in rows if row.report is not None}
            insert_absent(connection, orphans, [{"sha256": each, "found_at": 0} for each in reports])
        self._installation.jobs.forget(jobs)
        for each in ids:
            self._discard(each)
        return len(ids)

    def _forget(self) -> None:
        """Forget jobs that ended a day ago and workers that ended a week ago: neither says anything any more."""
        with self._database.read() as connection:
            at = now(connection)
        while self._installation.jobs.forget_ended(at - _DAY):
            pass
        with self._database.write() as connection:
            tries = exists().where(audits.c.worker == workers.c.id)
            connection.execute(delete(workers).where(workers.c.ended_at < at - 7 * _DAY, not_(tries)))

    def _discard(self, audit: str) -> None:
        """Remove what attempts at an audit kept for the next one; what cannot be removed is found again."""
        shutil.rmtree(self._installation.settings.work / audit, ignore_errors=True)
        with suppress(OSError):
            self._installation.reports.kept.forget(audit)

    # --- reports ---

    def _note(self, names: Sequence[str]) -> int:
        with self._database.write() as connection:
            if not names or chores.paused(connection, RETENTION):
                return 0
            used = _used(connection, names)
            known = set(connection.execute(select(orphans.c.sha256).where(orphans.c.sha256.in_(names))).scalars())
            connection.execute(delete(orphans).where(orphans.c.sha256.in_(used & known)))
            at = now(connection)
            new = [name for name in names if name not in used | known]
            insert_absent(connection, orphans, [{"sha256": name, "found_at": at} for name in new])
        return len(new)

    def _remove_orphans(self) -> None:
        """Remove reports that nothing refers to, unless they are so new that their audit may be about to end."""
        after = ""
        while True:
            with self._database.write() as connection:
                if chores.paused(connection, RETENTION):
                    return
                old = select(orphans.c.sha256).where(
                    orphans.c.found_at < now(connection) - _DAY, orphans.c.sha256 > after
                )
                names = connection.execute(old.order_by(orphans.c.sha256).limit(_AT_ONCE)).scalars().all()
                used = _used(connection, names)
            if not names:
                return
            after = names[-1]
            for name in names:
                if name not in used:
                    self._installation.reports.remove(name)
            with self._database.write() as connection:
                connection.execute(delete(orphans).where(orphans.c.sha256.in_(names)))


def _removable() -> ColumnElement[bool]:
    """Ended, not pinned, not its checkpoint's latest, and nobody waits to be told of it."""
    latest = exists().where(checkpoints.c.id == audits.c.checkpoint, checkpoints.c.latest_audit == audits.c.id)
    waits = exists().where(deliveries.c.audit == audits.c.id, deliveries.c.state == "waiting")
    return and_(audits.c.state.in_(FINAL), not_(audits.c.pinned), not_(latest), not_(waits))


def _used(connection: Connection, names: Sequence[str]) -> set[str]:
    """The reports among `names` that an audit has, or is compared with."""
    used: set[str] = set()
    for column in (audits.c.report, audits.c.baseline):
        found: Select[Any] = select(column).where(column.in_(names)).distinct()
        used.update(connection.execute(found).scalars())
    return used
