"""An installation as every process of it opens it: settings, database, jobs, reports, and the audits over them."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import UsageError
from auditor.private import PrivateFolder
from auditor.service.audits.life import Audits
from auditor.service.audits.recovery import Recovery
from auditor.service.audits.turns import Announce
from auditor.service.jobs import Jobs
from auditor.service.settings import Settings
from auditor.service.store.database import Database
from auditor.service.store.reports import Reports, open_reports

_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Installation:
    """What the processes of one installation share."""

    settings: Settings
    database: Database
    jobs: Jobs
    reports: Reports
    audits: Audits
    recovery: Recovery

    def close(self) -> None:
        """Let go of the database."""
        self.jobs.close()
        self.database.close()


def open_installation(
    settings: Settings, *, announce: Callable[[Settings, Jobs], Announce] | None = None, serving: str | None = None
) -> Installation:
    """Open what the settings name; nothing is read yet. Raises UsageError for what cannot be.

    `announce` makes what is told of ended audits, in every process that may end one. `serving` is how other processes
    see one that serves.
    """
    try:
        PrivateFolder(settings.data)
    except OSError as error:
        raise UsageError(f"{settings.data}: cannot be made: {error.strerror}") from error
    database = Database(settings.database_url, serving=serving)
    jobs = Jobs(database)
    announced = None if announce is None else announce(settings, jobs)
    audits = Audits(database, jobs, most=settings.attempts, waiting=settings.waiting, announce=announced)
    recovery = Recovery(database, jobs, announced)
    return Installation(settings, database, jobs, open_reports(settings.reports_place), audits, recovery)


class Lock:
    """The data folder, held by one process: on SQLite whoever holds it is the only worker."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError where another process holds it, or where its owner could not use what this one writes."""
        owner = folder.stat().st_uid
        if owner != os.geteuid():
            raise UsageError(f"{folder}: belongs to user {owner}, and this is {os.geteuid()}: run this as that user")
        self._descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise UsageError(
                f"{folder}: another auditor serves this data: stop it, or give another --data (or PostgreSQL)"
            ) from None

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)
