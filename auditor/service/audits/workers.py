"""Workers: each moves a counter while it lives, and whoever sees one stand still takes its audits over.

No wall clock decides who is lost: an observer counts the seconds of its own monotonic clock during which the database
answered and a counter did not move.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from auditor.service.audits.recovery import Recovery
from auditor.service.jobs import Jobs
from auditor.service.store.database import Database, now
from auditor.service.store.tables import workers
from auditor.version import __version__

BEAT_S = 5.0
LOST_S = 30.0
SWEEP_S = 3.0
# A longer pause between two looks says that this process slept, or that the database was away: what it saw before
# counts no more.
_GAP_S = 10.0


class WorkerLostError(Exception):
    """Others have taken this worker for lost, and its audits over."""


def new_worker() -> str:
    """An id for one start of a worker."""
    return f"{socket.gethostname()[:20]}-{os.getpid()}-{secrets.token_hex(4)}"[:40]


class Presence:
    """This worker's own row."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self.worker = worker

    def enter(self) -> None:
        """Make the row."""
        with self._database.write() as connection:
            at = now(connection)
            connection.execute(
                insert(workers).values(
                    id=self.worker,
                    host=socket.gethostname()[:300],
                    pid=os.getpid(),
                    tool=__version__,
                    counter=0,
                    started_at=at,
                    seen_at=at,
                )
            )

    def beat(self) -> None:
        """Move the counter. Raises WorkerLostError where others have taken this worker for lost."""
        with self._database.write() as connection:
            moved = connection.execute(
                update(workers)
                .where(workers.c.id == self.worker, workers.c.ended.is_(None))
                .values(counter=workers.c.counter + 1, seen_at=now(connection))
            )
        if moved.rowcount != 1:
            raise WorkerLostError

    def leave(self) -> None:
        """Say that this worker has stopped."""
        _end(self._database, self.worker, "stopped")


@dataclass(slots=True)
class _Sight:
    counter: int
    still_s: float
    looked_at: float


class Sweep:
    """Looks for lost workers, and gives what they were trying to others."""

    def __init__(
        self,
        database: Database,
        recovery: Recovery,
        jobs: Jobs,
        worker: str,
        *,
        lost_s: float = LOST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._recovery = recovery
        self._jobs = jobs
        self._worker = worker
        self._lost_s = lost_s
        self._clock = clock
        self._seen: dict[str, _Sight] = {}

    def alone(self) -> list[str]:
        """Take every other worker for lost at once: whoever holds the data folder's lock is the only one."""
        lost = [each for each in self._others() if _end(self._database, each, "lost")]
        self._take_over()
        return lost

    def look(self) -> list[str]:
        """One look: the workers found lost by it."""
        others, at = self._others(), self._clock()
        lost = []
        for worker, counter in others.items():
            sight = self._seen.get(worker)
            if sight is None or sight.counter != counter:
                self._seen[worker] = _Sight(counter, 0.0, at)
                continue
            gap, sight.looked_at = at - sight.looked_at, at
            sight.still_s = sight.still_s + gap if gap <= _GAP_S else 0.0
            if sight.still_s >= self._lost_s and _end(self._database, worker, "lost", counter):
                lost.append(worker)
        for gone in self._seen.keys() - others.keys():
            del self._seen[gone]
        self._take_over()
        return lost

    def _others(self) -> dict[str, int]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(workers.c.id, workers.c.counter).where(workers.c.ended.is_(None), workers.c.id != self._worker)
            )
            return {row.id: row.counter for row in rows}

    def _take_over(self) -> None:
        """What ended workers had begun goes to others, whoever found them lost and whatever became of that one."""
        for worker in self._recovery.orphaned():
            self._recovery.lose(worker)
        self._recovery.add_due()
        with self._database.read() as connection:
            since = now(connection) - 24 * 3600 * 1000
            ended = connection.execute(
                select(workers.c.id).where(workers.c.ended.is_not(None), workers.c.ended_at > since)
            )
            gone = [row.id for row in ended]
        held = self._jobs.held_by(gone)
        self._jobs.end(held)
        if held:
            self._recovery.adopt()  # what had been taken and not begun has its audit queued still


def _end(database: Database, worker: str, how: str, counter: int | None = None) -> bool:
    """Note that a worker has ended, if nobody has and its counter has not moved; whether it was noted."""
    seen = () if counter is None else (workers.c.counter == counter,)
    with database.write() as connection:
        ended = connection.execute(
            update(workers)
            .where(workers.c.id == worker, workers.c.ended.is_(None), *seen)
            .values(ended=how, ended_at=now(connection))
        )
    return ended.rowcount == 1
