"""Whether the database, the store and a worker are there: looked for once a second, however often that is asked."""

import threading
import time
from typing import Literal, NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from auditor.service.installation import Installation
from auditor.service.store.database import now
from auditor.service.store.tables import workers

Part = Literal["ok", "away"]
_KEPT_S = 1.0
# A look that takes longer finds nothing that could be worked with.
_SLOWEST_S = 5.0
_SEEN_MS = 60_000
_NO_REPORT = "0" * 64


class Parts(NamedTuple):
    """Each part that the service needs."""

    database: Part
    store: Part
    worker: Part


class Readiness:
    """What was found last. Anybody may ask, so whoever asks while somebody looks takes up no thread for long."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._looking = threading.Lock()
        self._found = Parts("away", "away", "away")
        self._found_at = float("-inf")

    def now(self) -> Parts:
        """What was found within the last second, or what is found now."""
        if time.monotonic() - self._found_at < _KEPT_S:
            return self._found
        first = time.monotonic() - self._found_at >= _SLOWEST_S
        if not self._looking.acquire(blocking=first, timeout=_SLOWEST_S if first else -1):
            return Parts("away", "away", "away") if first else self._found
        try:
            if time.monotonic() - self._found_at >= _KEPT_S:
                database, worker = self._database()
                self._found = Parts(database, self._store(), worker)
                self._found_at = time.monotonic()
            return self._found
        finally:
            self._looking.release()

    def _database(self) -> tuple[Part, Part]:
        try:
            with self._installation.database.read() as connection:
                seen = connection.execute(
                    select(workers.c.id)
                    .where(workers.c.ended.is_(None), workers.c.seen_at > now(connection) - _SEEN_MS)
                    .limit(1)
                ).first()
        except SQLAlchemyError:
            return "away", "away"
        return "ok", "away" if seen is None else "ok"

    def _store(self) -> Part:
        try:
            self._installation.reports.get(_NO_REPORT)
        except OSError:
            return "away"
        return "ok"
