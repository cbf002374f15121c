"""A backup is what was there at one moment, whatever went on meanwhile, and is restored whole or not at all."""

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from auditor.errors import OutputError, UsageError
from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.installation import Installation, Lock, open_installation
from auditor.service.operate import chores
from auditor.service.operate.backup import backup
from auditor.service.operate.restore import restore
from auditor.service.operate.retention import RETENTION, Retention
from auditor.service.settings import Settings
from auditor.service.settings.tables import Retention as Rules
from auditor.service.store.tables import FINAL, attempts, audits
from tests.service.running import Running


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Callable[[], Settings]]:
    """Settings of an installation that is not there yet: an empty data folder, and an empty database."""
    made: list[str] = []

    def settings_of() -> Settings:
        data = tmp_path / f"elsewhere-{len(made)}"
        if settings.database_url.startswith("sqlite"):
            url = f"sqlite:///{data / 'auditor.sqlite3'}"
        else:
            url = request.getfixturevalue("postgres").database()
        made.append(url)
        return Settings(data=data, database=url, sources=settings.sources.model_dump())

    yield settings_of
    for url in made:
        if url.startswith("postgres"):
            request.getfixturevalue("postgres").drop(url)


def finished(installation: Installation, seed: int = 1) -> str:
    """An audit that has ended, with a report."""
    audit = installation.audits.submit(Order(source="hf://org/model", seed=seed)).audit
    installation.audits.begin(audit, 1, "w")
    report = installation.reports.put(f"report {seed}".encode())
    installation.audits.conclude(audit, 1, "w", Result(report=report, verdict="passed", resolved=f"{seed}", tool="1"))
    return audit


@contextmanager
def served(settings: Settings) -> Iterator[None]:
    """A process that serves an installation, killed at the end."""
    roots = json.dumps([str(each) for each in settings.sources.roots])
    where = ("--database", settings.database_url, "--port", "0")
    process = Running(settings.data, *where, AUDITOR_SERVICE_SOURCES__ROOTS=roots)
    try:
        yield
    finally:
        process.kill()


def ended(installation: Installation, ids: Collection[str], seconds: float) -> dict[str, str]:
    """The states of audits once all have ended; AssertionError where that takes longer."""
    deadline = time.monotonic() + seconds
    while True:
        with installation.database.read() as connection:
            found = connection.execute(select(audits).where(audits.c.id.in_(ids))).all()
            tries = connection.execute(select(attempts).where(attempts.c.audit.in_(ids))).all()
        states = {row.id: row.state for row in found}
        if set(states) == set(ids) and set(states.values()) <= set(FINAL):
            return states
        assert time.monotonic() < deadline, "\n".join(map(str, (*found, *tries)))
        time.sleep(0.2)


def rows(installation: Installation) -> dict[str, str | None]:
    with installation.database.read() as connection:
        return {row.id: row.report for row in connection.execute(select(audits.c.id, audits.c.report))}


@pytest.fixture
def made(installation: Installation, tmp_path: Path) -> Path:
    """A backup of an installation with a finished and a queued audit."""
    finished(installation)
    installation.audits.submit(Order(source="hf://org/model", seed=2))
    backup(installation, str(tmp_path / "backup"))
    return tmp_path / "backup"


def test_restored_backup_has_every_audit_report_and_job(installation, made, elsewhere) -> None:
    before = rows(installation)
    settings = elsewhere()
    restore(settings, str(made))
    restored = open_installation(settings)
    try:
        assert rows(restored) == before
        assert [restored.reports.get(each) for each in before.values() if each] == [b"report 1"]
        queued = next(audit for audit, report in before.items() if report is None)
        assert restored.jobs.alive([f"{queued}.1"]) == {f"{queued}.1"}
    finally:
        restored.close()


def test_manifest_has_every_file_and_nobody_else_may_read_them(made: Path) -> None:
    files = {str(each.relative_to(made)) for each in made.rglob("*") if each.is_file()}
    assert set(json.loads((made / "manifest.json").read_text())["files"]) == files - {"manifest.json"}
    assert {each.stat().st_mode & 0o077 for each in [made, *made.rglob("*")]} == {0}


def test_audits_since_the_backup_are_not_in_it(installation, made, elsewhere) -> None:
    later = finished(installation, 3)
    settings = elsewhere()
    restore(settings, str(made))
    restored = open_installation(settings)
    assert later not in rows(restored)
    restored.close()


def test_every_audit_of_a_backup_taken_under_load_ends_once_it_is_restored(
    settings: Settings, installation: Installation, checkpoint: Path, elsewhere, tmp_path: Path
) -> None:
    submitting = threading.Event()
    accepted: list[str] = []

    def submit() -> None:
        while not submitting.is_set():
            depth = "full" if len(accepted) % 3 == 1 else "headers"
            order = Order(source=str(checkpoint), depth=depth, seed=len(accepted))
            accepted.append(installation.audits.submit(order).audit)
            submitting.wait(0.3)

    with served(settings):
        thread = threading.Thread(target=submit)
        thread.start()
        deadline = time.monotonic() + 60
        while not any(rows(installation).values()):  # until some have ended, some run and some wait
            assert time.monotonic() < deadline
            time.sleep(0.1)
            if len(accepted) >= 5:
                submitting.set()
        before = list(accepted)
        done = backup(installation, str(tmp_path / "backup"))
        submitting.set()
        thread.join()
    assert done.missing == ()
    there = elsewhere()
    restore(there, str(tmp_path / "backup"))
    restored = open_installation(there)
    try:
        kept = set(rows(restored))
        assert kept >= set(before)
        with served(there):
            states = ended(restored, kept, 200)
        assert set(states.values()) == {"finished"}
        assert all(restored.reports.get(each or "") for each in rows(restored).values())
    finally:
        restored.close()


def test_retention_removes_nothing_that_a_backup_under_way_names(settings: Settings, tmp_path: Path) -> None:
    installation = open_installation(settings.model_copy(update={"retention": Rules(each=1)}))
    try:
        every = [finished(installation, seed) for seed in range(5)]
        chores.pause(installation.database, RETENTION, 60_000)  # as a backup does first
        assert Retention(installation).remove() == 0
        assert backup(installation, str(tmp_path / "backup")).missing == ()
        assert set(rows(installation)) == set(every)
    finally:
        installation.close()


def test_backup_says_which_reports_are_not_intact(installation: Installation, tmp_path: Path) -> None:
    audit = finished(installation)
    report = rows(installation)[audit]
    file = next((installation.settings.data / "reports").glob(f"*/{report}*"))
    file.write_bytes(file.read_bytes()[:-9])
    assert backup(installation, str(tmp_path / "backup")).missing == (report,)


def test_backup_is_refused_where_something_is(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("x")
    with pytest.raises(UsageError, match="is not empty"):
        backup(installation, str(tmp_path / "there"))


def test_backup_during_which_retention_was_not_held_up_is_none(installation: Installation, tmp_path: Path) -> None:
    finished(installation)
    over = threading.Event()

    def forget_pause() -> None:
        while not over.wait(0.01):
            with installation.database.write() as connection:
                connection.execute(update(chores.chores).values(paused_until=1))

    thread = threading.Thread(target=forget_pause)
    thread.start()
    try:
        with pytest.raises(OutputError, match="make another backup"):
            backup(installation, str(tmp_path / "backup"))
    finally:
        over.set()
        thread.join()
    assert not (tmp_path / "backup" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["database", "report"])
def test_backup_with_a_changed_file_is_refused_before_anything_is_written(made, elsewhere, name) -> None:
    file = next(made.glob("auditor.*") if name == "database" else made.glob("reports/*/*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    settings = elsewhere()
    with pytest.raises(UsageError, match="the manifest has"):
        restore(settings, str(made))
    assert not settings.data.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": {"../../etc/passwd": {"size": 1, "sha256": "0" * 64}}}, "no file of a backup"),
        ({"files": {}}, "has no database"),
        ({"revision": "9999"}, "does not know"),
        ({"format": 2}, "format"),
    ],
)
def test_manifest_that_says_something_else_is_refused(made, elsewhere, change, said) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    (made / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(UsageError, match=said):
        restore(elsewhere(), str(made))


@pytest.mark.parametrize("name", ["manifest.json", "database", "report"])
@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_what_is_no_file_of_its_own_is_no_part_of_a_backup(made, elsewhere, name, kind) -> None:
    patterns = {"manifest.json": "manifest.json", "database": "auditor.*", "report": "reports/*/*"}
    file = next(made.glob(patterns[name]))
    kept = file.rename(made.parent / "kept")
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(kept if kind == "link" else "/dev/zero")
    with pytest.raises(UsageError):
        restore(elsewhere(), str(made))


def test_folder_without_a_manifest_is_no_backup(made, elsewhere) -> None:
    (made / "manifest.json").unlink()
    with pytest.raises(UsageError, match="a backup that was finished has a manifest"):
        restore(elsewhere(), str(made))


def test_restore_is_refused_where_something_is(made, settings, elsewhere) -> None:
    with pytest.raises(UsageError, match=r"give .* is empty"):
        restore(settings, str(made))
    there = elsewhere()
    restore(there, str(made))
    with pytest.raises(UsageError, match=r"give .* is empty"):
        restore(there, str(made))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another user")
def test_restore_into_another_users_folder_is_refused_and_leaves_nothing(made, elsewhere) -> None:
    there = elsewhere()
    there.data.mkdir(mode=0o700, exist_ok=True)
    os.chown(there.data, 12345, -1)
    with pytest.raises(UsageError, match="belongs to user 12345, and this is 0: run this as that user"):
        restore(there, str(made))
    assert list(there.data.iterdir()) == []


def test_restore_that_was_ended_is_gone_on_with(made, elsewhere) -> None:
    there = elsewhere()
    there.data.mkdir(mode=0o700)
    shutil.copytree(made / "reports", there.data / "reports")
    (there.data / "auditor.sqlite3.partial").write_text("half")
    restore(there, str(made))
    restored = open_installation(there)
    assert len(rows(restored)) == 2
    restored.close()


def test_restore_is_refused_while_the_data_is_served(made, elsewhere) -> None:
    there = elsewhere()
    there.data.mkdir(mode=0o700)
    lock = Lock(there.data)
    with pytest.raises(UsageError, match="another auditor serves this data"):
        restore(there, str(made))
    lock.release()


def test_backup_of_another_kind_of_database_is_refused(made: Path, settings: Settings, tmp_path: Path) -> None:
    other = "postgresql://nobody@127.0.0.1:1/none" if settings.database_url.startswith("sqlite") else "sqlite:////x"
    with pytest.raises(UsageError, match="and the settings name a"):
        restore(Settings(data=tmp_path / "new", database=other), str(made))


def test_copy_of_a_sqlite_database_is_sound_and_stands_alone(migrated_file: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(migrated_file, tmp_path / "data" / "auditor.sqlite3")
    installation = open_installation(Settings(data=tmp_path / "data", database=None))
    finished(installation)
    backup(installation, str(tmp_path / "backup"))
    installation.close()
    file = tmp_path / "backup" / "auditor.sqlite3"
    with sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM audits").fetchone() == (1,)
