"""A job that a worker took and had not begun when it was lost: its audit is queued still, and gets another job."""

import pytest
from sqlalchemy import insert, select, text

from auditor.service.audits.order import Order
from auditor.service.audits.workers import Sweep
from auditor.service.installation import Installation
from auditor.service.store.database import now
from auditor.service.store.tables import audits, workers


@pytest.fixture
def taken(installation: Installation) -> str:
    """An audit whose job a lost worker has taken, as DBOS notes it."""
    audit = installation.audits.submit(Order(source="hf://org/model")).audit
    table = "workflow_status" if installation.database.sqlite else "dbos.workflow_status"
    with installation.database.write() as connection:
        at = now(connection)
        gone = {"host": "h", "pid": 1, "tool": "1", "counter": 1, "started_at": at, "seen_at": at}
        connection.execute(insert(workers).values(id="gone", ended_at=at, ended="lost", **gone))
        connection.execute(
            text(f"UPDATE {table} SET status = 'PENDING', executor_id = 'gone' WHERE workflow_uuid = :job"),
            {"job": f"{audit}.1"},
        )
    assert installation.jobs.held_by(["gone"]) == [f"{audit}.1"]
    return audit


def test_an_audit_whose_job_was_taken_and_not_begun_gets_another(installation: Installation, taken: str) -> None:
    Sweep(installation.database, installation.recovery, installation.jobs, "here").look()
    with installation.database.read() as connection:
        row = connection.execute(select(audits).where(audits.c.id == taken)).one()
    assert (row.state, row.attempt, row.job) == ("queued", 2, f"{taken}.2")
    assert installation.jobs.alive([f"{taken}.1", row.job]) == {row.job}
