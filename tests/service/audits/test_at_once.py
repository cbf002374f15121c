"""Several that change one audit at the same time: one of them does, and the others find that it is done."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text, update

from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.installation import Installation
from auditor.service.store.tables import audits

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one that writes

PASSED = Result(report="a" * 64, verdict="passed", tool="1")


def together(installation: Installation, *acts: Callable[[], Any]) -> list[Any]:
    """What each gives where all of them have begun before any of them may change an audit."""
    with ThreadPoolExecutor(len(acts)) as pool:
        with installation.database.write() as connection:
            connection.execute(select(audits.c.id).with_for_update())
            begun = [pool.submit(act) for act in acts]
            deadline = time.monotonic() + 30
            while waiting(installation) < len(acts):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return [each.result(30) for each in begun]


def waiting(installation: Installation) -> int:
    """How many wait for a lock. Asked anew in each transaction: within one PostgreSQL gives the same answer."""
    those = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with installation.database.read() as connection:
        return int(connection.execute(text(those)).scalar_one())


def row(installation: Installation) -> Any:
    with installation.database.read() as connection:
        return connection.execute(select(audits)).one()


def test_of_sweeps_at_the_same_time_one_adds_each_job(installation: Installation) -> None:
    for number in range(100):
        installation.audits.submit(Order(source=f"hf://org/model-{number}"))
    with installation.database.write() as connection:
        connection.execute(update(audits).values(attempt=2, job=None, due_at=0))
    together = threading.Barrier(3)

    def sweep(_: int) -> int:
        together.wait(30)
        return installation.recovery.add_due()

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(sweep, range(3))) == 100
    with installation.database.read() as connection:
        jobs = connection.execute(select(audits.c.job)).scalars().all()
    assert len(installation.jobs.alive(jobs)) == 100
    assert {job.rpartition(".")[2] for job in jobs} == {"2"}


def test_an_audit_that_is_cancelled_while_it_is_concluded_has_one_end(installation: Installation) -> None:
    audit = installation.audits.submit(Order(source="hf://org/model")).audit
    installation.audits.begin(audit, 1, "w")
    cancelled, concluded = together(
        installation,
        lambda: installation.audits.cancel(audit),
        lambda: installation.audits.conclude(audit, 1, "w", PASSED),
    )
    state = row(installation).state
    assert cancelled == state
    assert concluded == (state if state == "finished" else None)


def test_of_two_that_take_a_lost_workers_audit_over_one_does(installation: Installation) -> None:
    audit = installation.audits.submit(Order(source="hf://org/model")).audit
    installation.audits.begin(audit, 1, "gone")
    lost = together(installation, *[lambda: installation.recovery.lose("gone")] * 2)
    assert sorted(lost) == [[], [audit]]
    assert (row(installation).attempt, row(installation).losses) == (2, 1)


def test_of_two_that_adopt_an_audit_without_a_job_one_does(installation: Installation) -> None:
    audit = installation.audits.submit(Order(source="hf://org/model")).audit
    installation.jobs.end([f"{audit}.1"])
    adopted = together(installation, *[installation.recovery.adopt] * 2)
    assert sorted(adopted) == [[], [audit]]
    assert (row(installation).attempt, row(installation).job) == (2, f"{audit}.2")
