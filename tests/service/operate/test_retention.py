"""What the settings let go of goes as a whole; what anything refers to stays, whenever the removal is ended."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, text, update

from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.installation import Installation, open_installation
from auditor.service.operate import chores
from auditor.service.operate.retention import RETENTION, Retention
from auditor.service.settings import Settings
from auditor.service.settings.tables import Retention as Rules
from auditor.service.store.database import now
from auditor.service.store.tables import (
    attempts,
    audits,
    checkpoints,
    deliveries,
    orphans,
    submissions,
    targets,
    workers,
)
from tests.service.running import Running

DAY = 86_400_000


@pytest.fixture
def keeping(settings: Settings):
    """An installation that keeps what its settings say."""
    every = []

    def opened(**rules: object) -> Installation:
        every.append(open_installation(settings.model_copy(update={"retention": Rules(**rules)})))
        return every[-1]

    yield opened
    for each in every:
        each.close()


class Past:
    """Audits that ended some days ago."""

    def __init__(self, installation: Installation) -> None:
        self.of = installation
        self._seed = 0

    def ended(self, days: float, source: str = "hf://org/model", **told: object) -> str:
        """An audit that has ended so many days ago; with a report of its own unless told otherwise."""
        self._seed += 1
        order = Order(source=source, seed=self._seed)
        made = self.of.audits.submit(order, token="t", key=str(self._seed), body="b").audit
        self.of.audits.begin(made, 1, "w")
        report = told.pop("report", None) or self.of.reports.put(f"report {self._seed}".encode())
        result = Result(report=report, verdict="passed", tool="1", resolved=str(self._seed))
        self.of.audits.conclude(made, 1, "w", replace(result, **told))
        self.aged(made, days)
        return made

    def failed(self, days: float, source: str = "hf://org/model") -> str:
        self._seed += 1
        made = self.of.audits.submit(Order(source=source, seed=self._seed)).audit
        self.of.audits.begin(made, 1, "w")
        self.of.audits.conclude(made, 1, "w", Result(causes=("not_found",)))
        self.aged(made, days)
        return made

    def aged(self, audit: str, days: float) -> None:
        with self.of.database.write() as connection:
            at = now(connection) - int(days * DAY)
            connection.execute(update(audits).where(audits.c.id == audit).values(created_at=at, ended_at=at))

    def left(self) -> set[str]:
        with self.of.database.read() as connection:
            return set(connection.execute(select(audits.c.id)).scalars())

    def report(self, audit: str) -> str:
        with self.of.database.read() as connection:
            return str(connection.execute(select(audits.c.report).where(audits.c.id == audit)).scalar_one())

    def rows(self, table) -> int:
        with self.of.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def jobs(self) -> int:
        with self.of.database.read() as connection:
            schema = "" if self.of.database.sqlite else "dbos."
            return int(connection.execute(text(f"SELECT count(*) FROM {schema}workflow_status")).scalar_one())


def test_by_default_nothing_is_removed(keeping: Callable[..., Installation]) -> None:
    past = Past(keeping())
    every = {past.ended(4000), past.ended(3000), past.failed(3500)}
    assert Retention(past.of).remove() == 0
    assert past.left() == every


def test_audits_older_than_the_settings_keep_are_removed_but_each_checkpoints_latest(keeping) -> None:
    past = Past(keeping(days=30))
    past.ended(40)
    past.failed(31)
    kept = {past.ended(35), past.ended(50, "hf://org/other"), past.failed(29)}
    assert Retention(past.of).remove() == 2
    assert past.left() == kept


def test_of_each_checkpoint_only_the_newest_are_kept(keeping) -> None:
    past = Past(keeping(each=2))
    past.ended(5)
    past.ended(4)
    kept = {past.ended(3), past.ended(2), past.ended(9, "hf://org/other"), past.ended(8, "hf://org/other")}
    assert Retention(past.of).remove() == 2
    assert past.left() == kept


def test_more_audits_than_one_transaction_takes_are_removed(keeping) -> None:
    past = Past(keeping(days=30))
    first = past.ended(50)
    with past.of.database.write() as connection:
        row = connection.execute(select(audits).where(audits.c.id == first)).one()
        copies = [{**row._mapping, "id": f"{n:026x}", "report": "a" * 64, "request": f"{n}"} for n in range(450)]
        connection.execute(insert(audits), copies)
    kept = past.ended(40)
    assert Retention(past.of).remove() == 451
    assert past.left() == {kept}


def test_pinned_audits_stay(keeping) -> None:
    past = Past(keeping(days=30, each=1))
    pinned = past.ended(50)
    with past.of.database.write() as connection:
        connection.execute(update(audits).where(audits.c.id == pinned).values(pinned=True))
    latest = past.ended(40)
    assert Retention(past.of).remove() == 0
    assert past.left() == {pinned, latest}


def test_audits_that_have_not_ended_stay(keeping) -> None:
    past = Past(keeping(days=1, each=1))
    queued = past.of.audits.submit(Order(source="hf://org/model")).audit
    running = past.of.audits.submit(Order(source="hf://org/model", seed=99)).audit
    past.of.audits.begin(running, 1, "w")
    with past.of.database.write() as connection:
        connection.execute(update(audits).values(created_at=0, due_at=0))
    assert Retention(past.of).remove() == 0
    assert past.left() == {queued, running}


def test_audit_of_which_somebody_waits_to_be_told_stays_until_that_is_done(keeping) -> None:
    past = Past(keeping(days=30))
    told = past.ended(50)
    past.ended(31, "hf://org/model")
    with past.of.database.write() as connection:
        connection.execute(insert(targets).values(id="t", kind="webhook", name="t", options="{}", created_at=0))
        waiting = {
            "id": "d",
            "target": "t",
            "audit": told,
            "body": "",
            "state": "waiting",
            "created_at": 0,
            "due_at": 0,
        }
        connection.execute(insert(deliveries).values(**waiting))
    assert Retention(past.of).remove() == 0
    with past.of.database.write() as connection:
        connection.execute(update(deliveries).values(state="delivered", ended_at=1))
    assert Retention(past.of).remove() == 1
    assert past.rows(deliveries) == 0
    assert told not in past.left()


def test_all_that_was_kept_for_an_audit_goes_with_it(keeping) -> None:
    past = Past(keeping(days=30))
    audit = past.ended(50)
    report = past.report(audit)
    kept = past.ended(40)
    work = past.of.settings.work / audit
    (work / "resume").mkdir(parents=True)
    (work / "resume" / "shard").write_text("x")
    assert past.jobs() == 2
    Retention(past.of).remove()
    assert past.left() == {kept}
    assert (past.rows(attempts), past.rows(submissions), past.jobs(), past.rows(orphans)) == (1, 1, 1, 0)
    assert past.of.reports.get(report) is None
    assert past.of.reports.get(past.report(kept)) is not None
    assert not work.exists()


def test_checkpoint_without_audits_goes_with_the_last_of_them(keeping) -> None:
    past = Past(keeping(days=30))
    past.failed(50)
    Retention(past.of).remove()
    assert past.rows(checkpoints) == 0
    assert past.of.audits.submit(Order(source="hf://org/model")).created


def test_report_that_another_audit_has_or_is_compared_with_stays(keeping) -> None:
    past = Past(keeping(days=30))
    first = past.ended(60)
    shared = past.report(first)
    second = past.ended(50)
    compared = past.report(second)
    linked = past.ended(20, report=shared, same_as=first)
    past.of.audits.submit(Order(source="hf://org/third", baseline=compared))
    assert Retention(past.of).remove() == 2
    assert past.of.reports.get(shared) is not None
    assert past.of.reports.get(compared) is not None
    with past.of.database.read() as connection:
        assert connection.execute(select(audits.c.same_as).where(audits.c.id == linked)).scalar_one() is None


def test_audit_that_was_answered_by_one_that_is_removed_meanwhile_is_tried_again(keeping) -> None:
    past = Past(keeping(days=30))
    first = past.ended(60)
    report = past.report(first)
    past.ended(50)
    late = past.of.audits.submit(Order(source="hf://org/model")).audit
    past.of.audits.begin(late, 1, "w")
    Retention(past.of).remove()
    same = Result(report=report, verdict="passed", tool="1", resolved="1", same_as=first)
    assert past.of.audits.conclude(late, 1, "w", same) == "queued"


def test_report_that_no_audit_came_to_have_goes_a_day_after_it_was_found(keeping) -> None:
    past = Past(keeping())
    kept = past.report(past.ended(1))
    left = past.of.reports.put(b"left by a worker that was killed")
    retention = Retention(past.of)
    assert retention.find_orphans() == 1
    assert retention.find_orphans() == 0
    retention.remove()
    assert past.of.reports.get(left) is not None
    with past.of.database.write() as connection:
        connection.execute(update(orphans).values(found_at=orphans.c.found_at - DAY - 1000))
    retention.remove()
    assert past.of.reports.get(left) is None
    assert past.of.reports.get(kept) is not None
    assert past.rows(orphans) == 0


def test_found_report_that_an_audit_comes_to_have_stays(keeping) -> None:
    past = Past(keeping())
    report = past.of.reports.put(b"of an audit that is about to end")
    retention = Retention(past.of)
    retention.find_orphans()
    past.ended(1, report=report)
    with past.of.database.write() as connection:
        connection.execute(update(orphans).values(found_at=0))
    retention.remove()
    assert past.of.reports.get(report) is not None


def test_removal_that_the_store_refuses_is_made_up_for_by_the_next(keeping) -> None:
    past = Past(keeping(days=30))
    report = past.report(past.ended(50))
    past.ended(40)
    retention = Retention(past.of)
    file = next((past.of.settings.data / "reports").glob(f"*/{report}*"))
    content = file.read_bytes()
    file.unlink()
    file.mkdir()
    with pytest.raises(OSError, match=report):
        retention.remove()
    file.rmdir()
    file.write_bytes(content)
    assert past.rows(audits) == 1
    retention.remove()
    assert past.of.reports.get(report) is None


REMOVE = """
import sys
from pathlib import Path
from auditor.service.installation import open_installation
from auditor.service.operate.retention import Retention
from auditor.service.settings import Settings
retention = Retention(open_installation(Settings.model_validate_json(sys.stdin.read())))
print("ready", flush=True)
retention.remove()
"""


def test_removal_that_is_killed_at_any_moment_leaves_no_audit_without_its_report(keeping) -> None:
    past = Past(keeping(days=30))
    last = past.ended(31)
    every = [(past.of.reports.put(f"{n}".encode()), n) for n in range(300)]
    with past.of.database.write() as connection:
        row = connection.execute(select(audits).where(audits.c.id == last)).one()._mapping
        old = {"created_at": 0, "ended_at": 1}
        copies = [{**row, **old, "id": f"{n:026x}", "report": report, "request": f"{n}"} for report, n in every]
        connection.execute(insert(audits), copies)
    given = past.of.settings.model_dump_json().replace(
        "**********", past.of.settings.database.get_secret_value() if past.of.settings.database else ""
    )
    kills = 0
    for turn in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", REMOVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(0.03 * (turn + 1))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.wait()
        with past.of.database.read() as connection:
            named = list(connection.execute(select(audits.c.report)).scalars())
        assert [name for name in named if past.of.reports.get(name) is None] == []
    assert kills >= 1
    Retention(past.of).remove()
    assert past.left() == {last}
    assert list(past.of.reports.every()) == [past.report(last)]


def test_jobs_and_workers_that_ended_long_ago_are_forgotten(keeping) -> None:
    past = Past(keeping())
    audit = past.of.audits.submit(Order(source="hf://org/model")).audit
    past.of.audits.cancel(audit)
    schema = "" if past.of.database.sqlite else "dbos."
    with past.of.database.write() as connection:
        connection.execute(text(f"UPDATE {schema}workflow_status SET completed_at = completed_at - {DAY} - 1000"))
        for worker, ended in (("old", 1), ("new", now(connection)), ("live", None)):
            values = {"id": worker, "host": "h", "pid": 1, "tool": "1", "counter": 0, "started_at": 0, "seen_at": 0}
            connection.execute(insert(workers).values(**values, ended_at=ended, ended=ended and "stopped"))
    still = past.of.audits.submit(Order(source="hf://org/model")).audit
    Retention(past.of).remove()
    assert past.jobs() == 1
    assert past.of.jobs.alive([f"{still}.1"]) == {f"{still}.1"}
    assert past.rows(workers) == 2


def test_work_of_ended_audits_is_cleared_and_that_of_open_ones_stays(keeping) -> None:
    past = Past(keeping())
    just, ended = past.ended(0), past.ended(1)
    still = past.of.audits.submit(Order(source="hf://org/model")).audit
    work = past.of.settings.work
    for name in (just, ended, still, "0" * 26, "somebody's"):
        (work / name).mkdir(parents=True)
    Retention(past.of).clear_work()
    assert {each.name for each in work.iterdir()} == {just, still, "somebody's"}


def test_nothing_is_removed_while_a_backup_holds_it_up(keeping) -> None:
    past = Past(keeping(days=30))
    old = past.ended(50)
    past.ended(40)
    chores.pause(past.of.database, RETENTION, 60_000)
    retention = Retention(past.of)
    assert retention.remove() == 0
    retention()
    assert old in past.left()
    with past.of.database.write() as connection:
        connection.execute(update(chores.chores).values(paused_until=0))
    retention()
    assert old not in past.left()


def test_a_chore_is_one_workers_until_it_is_due_again(keeping) -> None:
    database = keeping().database
    assert chores.take(database, "chore", 3_600_000)
    assert not chores.take(database, "chore", 3_600_000)
    with database.write() as connection:
        connection.execute(update(chores.chores).values(due_at=0))
    assert chores.take(database, "chore", 3_600_000)


def test_a_pause_tells_whether_it_was_held_until_it_was_renewed(keeping) -> None:
    database = keeping().database
    assert not chores.pause(database, "chore", 60_000)
    assert chores.pause(database, "chore", 60_000)
    with database.write() as connection:
        connection.execute(update(chores.chores).values(paused_until=1))
    assert not chores.pause(database, "chore", 60_000)


def test_a_serving_worker_removes_what_the_settings_let_go_of(keeping) -> None:
    past = Past(keeping())
    old = past.ended(3)
    report = past.report(old)
    kept = past.ended(2)
    settings = past.of.settings
    where = ("--database", settings.database_url, "--port", "0")
    running = Running(settings.data, *where, AUDITOR_SERVICE_RETENTION__EACH="1")
    try:
        deadline = time.monotonic() + 30
        while past.of.reports.get(report) is not None:
            assert time.monotonic() < deadline, "\n".join(running.lines)
            time.sleep(0.2)
        assert past.left() == {kept}
    finally:
        running.stop()
