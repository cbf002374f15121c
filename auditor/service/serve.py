"""`auditor serve`: what one process runs, by its role."""

import threading

from auditor.errors import UsageError
from auditor.service import migrate
from auditor.service.installation import Installation, Lock, open_installation
from auditor.service.settings import Settings
from auditor.service.worker import Worker


def start(settings: Settings, stopped: threading.Event) -> tuple[Installation, Worker | None, Lock | None]:
    """Open the installation, wait for its database, and start the worker where the role has one."""
    installation = open_installation(settings)
    lock = None
    if installation.database.sqlite:
        if settings.role != "all":
            raise UsageError(f"--role {settings.role} needs PostgreSQL: give --database postgresql://…")
        lock = Lock(settings.data)
    installation.database.wait(print, stopped)
    migrate.apply(installation.database)
    worker = None
    if settings.role in ("all", "worker"):
        worker = Worker(installation, alone=installation.database.sqlite)
        worker.start()
    return installation, worker, lock
