"""A copy of an installation that goes on: its database as it was at one moment, then the reports that it names.

Work that attempts have done is not copied: audits that had begun begin again. The manifest comes last.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import select

from auditor.errors import OutputError, UsageError
from auditor.private import PrivateFolder
from auditor.service import migrate
from auditor.service.installation import Installation
from auditor.service.operate import chores, postgres
from auditor.service.operate.manifest import DATABASES, MANIFEST, File, Manifest, described
from auditor.service.operate.opened import sqlite_file
from auditor.service.operate.retention import RETENTION
from auditor.service.store.database import Database, now
from auditor.service.store.reports import compressed
from auditor.service.store.tables import audits
from auditor.text import plural, shown
from auditor.version import __version__

_PAUSE_MS = 5 * 60_000
_RENEW_S = 60.0


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied, and the reports that could not be."""

    folder: Path
    reports: int
    size: int
    missing: tuple[str, ...]

    def summary(self) -> str:
        """One line for a person."""
        return f"{shown(str(self.folder))}: the database and {plural(self.reports, 'report')}, {self.size:,} bytes"


def backup(installation: Installation, directory: str) -> Backup:
    """Copy an installation into a folder that is empty or not there. Raises UsageError, OutputError."""
    folder = Path(directory)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{shown(directory)}: is not empty: give a folder that is, or that is not there")
    try:
        PrivateFolder(folder)
        with _paused(installation.database):
            manifest = _copy(installation, folder)
        PrivateFolder(folder).write(MANIFEST, manifest.model_dump_json(indent=1).encode(), durable=True)
        os.sync()
    except OSError as error:
        raise OutputError(f"{shown(str(error.filename or directory))}: {error.strerror or error}") from error
    size = sum(each.size for each in manifest.files.values())
    return Backup(folder, len(manifest.reports), size, manifest.missing)


def _copy(installation: Installation, folder: Path) -> Manifest:
    database = installation.database
    kind: Literal["sqlite", "postgresql"] = "sqlite" if database.sqlite else "postgresql"
    with database.read() as connection:
        made_at = now(connection)
    revision, _ = migrate.state(database)
    file = folder / DATABASES[kind]
    os.close(
        os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    )  # before there is anything in it
    source = sqlite_file(installation.settings)
    if source is not None:
        _copy_sqlite(source, file)
    else:
        postgres.dump(installation.settings.database_url, file)
    files = {file.name: _found(file)}
    missing = []
    for name in _named(installation):
        report = installation.reports.get(name)
        if report is None:
            missing.append(name)
            continue
        place = folder / "reports" / name[:2]
        PrivateFolder(place.parent)
        PrivateFolder(place).write(f"{name}.json.gz", compressed(report), durable=False)
        files[f"reports/{name[:2]}/{name}.json.gz"] = _found(place / f"{name}.json.gz")
    os.sync()  # every file at once, instead of each by itself
    return Manifest(
        tool=__version__,
        revision=revision or "",
        made_at=made_at,
        database=kind,
        files=files,
        missing=tuple(missing),
    )


def _copy_sqlite(source: Path, file: Path) -> None:
    """A copy in one step: it reads one state, and in WAL mode nobody who writes waits for it."""
    with closing(sqlite3.connect(source)) as opened, closing(sqlite3.connect(file)) as copy:
        opened.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        found = copy.execute("PRAGMA integrity_check").fetchone()[0]
    if found != "ok":
        raise OutputError(f"{shown(str(source))}: the copy is damaged, and so is this: {shown(str(found)[:200])}")


def _named(installation: Installation) -> list[str]:
    """Every report that an audit has or is compared with, those since the copy included."""
    with installation.database.read() as connection:
        found: set[str] = set()
        for column in (audits.c.report, audits.c.baseline):
            found.update(connection.execute(select(column).where(column.is_not(None)).distinct()).scalars())
    return sorted(found)


def _found(file: Path) -> File:
    found = described(file)
    if found is None:
        raise OutputError(f"{shown(str(file))}: cannot be read back")
    return found


@contextmanager
def _paused(database: Database) -> Iterator[None]:
    """Hold retention up. Raises OutputError at the end where it was not held up all the while."""
    chores.pause(database, RETENTION, _PAUSE_MS)
    held, ended = [True], threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_S):
            with suppress(Exception):  # the database may be away for a moment; what counts is what the next one finds
                held.append(chores.pause(database, RETENTION, _PAUSE_MS))

    thread = threading.Thread(target=renew, name="auditor-pause", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if not (chores.pause(database, RETENTION, 0) and all(held)):
        raise OutputError("audits were removed while they were copied, as the database was away: make another backup")
