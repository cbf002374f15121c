"""An installation as an administration command opens it: it has to be there, to answer, and to have this schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditor.errors import SourceError, UsageError
from auditor.service import migrate
from auditor.service.installation import Installation, Lock, open_installation
from auditor.service.settings import Settings
from auditor.service.store.database import away, first_line
from auditor.text import shown

SQLITE = "auditor.sqlite3"


@contextmanager
def opened(settings: Settings) -> Iterator[Installation]:
    """The installation, whose database has this version's schema. Raises UsageError or SourceError where it has not."""
    with reached(settings) as installation:
        found, needed = migrate.state(installation.database)
        if found != needed:
            raise UsageError(
                f"the database has schema {found or 'none'}, this auditor needs {needed}: `auditor service migrate`"
            )
        yield installation


@contextmanager
def reached(settings: Settings) -> Iterator[Installation]:
    """The installation, whatever its schema. Raises UsageError where there is none, SourceError where it is away."""
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        raise UsageError(f"{shown(str(file))}: no such database: `auditor serve` makes one, or give --data")
    with answering(settings) as installation:
        yield installation


@contextmanager
def answering(settings: Settings) -> Iterator[Installation]:
    """The installation, which may be none yet. Raises SourceError where its database turns out to be away."""
    installation = open_installation(settings)
    try:
        yield installation
    except Exception as error:
        if away(error):
            raise SourceError(f"the database does not answer: {shown(first_line(error))}") from error
        raise
    finally:
        installation.close()


@contextmanager
def stopped(settings: Settings) -> Iterator[None]:
    """The data folder for this process alone. Raises UsageError where it is served."""
    lock = Lock(settings.data)
    try:
        yield
    finally:
        lock.release()


def sqlite_file(settings: Settings) -> Path | None:
    """The file of a SQLite database; None where it is PostgreSQL's."""
    scheme, _, place = settings.database_url.partition(":///")
    return Path(place) if scheme.startswith("sqlite") else None
