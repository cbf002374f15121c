"""An installation made of a backup: every file is checked before one is written, and the database comes last."""

import os
import shutil
from pathlib import Path

from sqlalchemy import text

from auditor.errors import OutputError, UsageError
from auditor.service import migrate
from auditor.service.installation import Installation, open_installation
from auditor.service.operate import postgres
from auditor.service.operate.backup import Backup
from auditor.service.operate.manifest import DATABASES, Manifest, read_manifest
from auditor.service.operate.opened import sqlite_file, stopped
from auditor.service.settings import Settings
from auditor.service.store.database import Database
from auditor.service.store.reports import Folder, intact
from auditor.text import shown

_LOCK, _REPORTS = "lock", "reports"
_TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"


def restore(settings: Settings, directory: str) -> Backup:
    """Put a backup where the settings say. Raises UsageError where something is there already, OutputError."""
    folder = Path(directory)
    manifest = read_manifest(folder)
    _fits(manifest, settings)
    manifest.check(folder)
    installation = open_installation(settings)
    try:
        with stopped(settings):
            _empty(settings, installation.database, manifest)
            return _put(settings, installation, folder, manifest)
    except OSError as error:
        raise OutputError(f"{shown(str(error.filename or settings.data))}: {error.strerror or error}") from error
    finally:
        installation.close()


def _fits(manifest: Manifest, settings: Settings) -> None:
    kind = "postgresql" if sqlite_file(settings) is None else "sqlite"
    if manifest.database != kind:
        raise UsageError(f"the backup is of a {manifest.database} database, and the settings name a {kind} one")
    if manifest.revision not in migrate.revisions():
        raise UsageError(
            f"the backup was made by auditor {manifest.tool}, whose schema {manifest.revision} this one does not know"
        )


def _empty(settings: Settings, database: Database, manifest: Manifest) -> None:
    """Raise UsageError where there is anything that was not brought by the same restore, which was ended."""
    expected = {_LOCK, DATABASES["sqlite"] + ".partial"}
    found = {each.name for each in settings.data.iterdir()} - expected
    if found == {_REPORTS} and set(Folder(settings.data / _REPORTS).every()) <= set(manifest.reports):
        found = set()
    if found:
        raise UsageError(f"{shown(str(settings.data))}: has {shown(min(found))}: give a data folder that is empty")
    if not database.sqlite:
        with database.read() as connection:
            tables = connection.execute(text(_TABLES)).scalar_one()
        if tables:
            raise UsageError(f"the database has {tables} tables: give one that is empty")


def _put(settings: Settings, installation: Installation, folder: Path, manifest: Manifest) -> Backup:
    for name in manifest.reports:
        report = intact((folder / _REPORTS / name[:2] / f"{name}.json.gz").read_bytes(), name)
        if report is None:
            raise UsageError(f"{shown(str(folder))}: report {name} is not what its name says")
        installation.reports.put(report)
    source, target = folder / DATABASES[manifest.database], sqlite_file(settings)
    if target is None:
        postgres.restore(settings.database_url, source)
    else:
        partial = target.with_name(f"{target.name}.partial")
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        shutil.copyfile(source, partial)
        os.sync()
        partial.replace(target)
        os.sync()
    size = sum(each.size for each in manifest.files.values())
    return Backup(settings.data, len(manifest.reports), size, manifest.missing)
