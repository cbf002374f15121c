"""Nothing that was accepted is lost, and nothing ends twice, whatever is killed at whatever moment."""

import os
import random
import signal
import time

import pytest
from sqlalchemy import select, update

from auditor.service.audits.recovery import LOSSES
from auditor.service.audits.turns import OPEN
from auditor.service.store.tables import attempts, audits
from tests.servers.postgres import Postgres
from tests.service.faults.conftest import Service, attempts_of


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_audits_survive_sigkill_of_whoever_runs_them(service: Service, kills: int) -> None:
    chance = random.Random(kills)
    processes = [service.start() for _ in range(1 if service.sqlite else 2)]
    for number in range(kills):
        service.submit("full" if number % 2 else "headers", number)
        time.sleep(chance.uniform(0.3, 2.5))
        _spare(service)
        victim = chance.randrange(len(processes))
        processes[victim].kill()
        processes[victim] = service.start()
    service.all_final(240)
    for each in processes:
        assert each.stop() == 0
    service.check()
    assert set(service.states().values()) == {"finished"}


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_audits_survive_sigkill_of_their_own_processes(service: Service, kills: int) -> None:
    chance = random.Random(kills)
    process = service.start()
    for number in range(kills):
        service.submit("full" if number % 2 else "headers", number)
    killed = 0
    deadline = time.monotonic() + 60 * kills
    while killed < kills and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.05, 0.8))
        running = attempts_of(service.data, 0)
        if running:
            _kill(chance.choice(running))
            killed += 1
        else:
            _hurry(service)
    deadline = time.monotonic() + max(120, 20 * kills)
    while time.monotonic() < deadline and not set(service.states().values()) <= {"finished", "failed"}:
        _hurry(service)
        time.sleep(0.2)
    assert process.stop() == 0
    service.check()


def _spare(service: Service) -> None:
    """Wait until none is near its last loss: one that many workers in a row are lost with is given up."""
    near = select(audits.c.id).where(audits.c.state.in_(OPEN), audits.c.losses >= LOSSES - 2)
    deadline = time.monotonic() + 600
    while True:
        with service.installation.database.read() as connection:
            if not connection.execute(near).all():
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _hurry(service: Service) -> None:
    """Have what waits for its next attempt be due now."""
    with service.installation.database.write() as connection:
        connection.execute(update(audits).where(audits.c.state == "queued", audits.c.job.is_(None)).values(due_at=0))


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_a_worker_that_was_stopped_for_too_long_has_lost_its_right_to_write(service: Service) -> None:
    if service.sqlite:
        pytest.skip("on SQLite there is one worker")
    slow = service.start()
    audit = service.submit("full")
    service.wait(lambda states: states[audit] == "running", 30)
    slow.pause()
    other = service.start()
    service.wait(lambda states: states[audit] == "finished", 90)
    with service.installation.database.read() as connection:
        before = connection.execute(select(audits)).one()
    slow.resume()
    assert slow.process.wait(30) == 3, "it ends, and says that it was taken for lost"
    with service.installation.database.read() as connection:
        assert connection.execute(select(audits)).one() == before
        ends = connection.execute(select(attempts.c.n, attempts.c.cause).order_by(attempts.c.n)).all()
    assert [tuple(each) for each in ends] == [(1, "worker_lost"), (2, None)]
    assert other.stop() == 0
    service.check()


def test_sigterm_under_load_hands_back_within_ten_seconds(service: Service) -> None:
    process = service.start()
    for number in range(6):
        service.submit("full" if number % 2 else "headers", number)
    service.wait(lambda states: "running" in states.values(), 30)
    begun = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - begun < 10
    assert attempts_of(service.data) == []
    assert "running" not in service.states().values()
    process = service.start()
    service.all_final(120)
    assert process.stop() == 0
    service.check()
    assert set(service.states().values()) == {"finished"}


def test_cancelling_a_running_audit_ends_its_processes_within_three_seconds(service: Service) -> None:
    process = service.start()
    audit = service.submit("full")
    deadline = time.monotonic() + 30
    while not attempts_of(service.data, 0):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun = time.monotonic()
    assert service.installation.audits.cancel(audit) == "cancelled"
    assert attempts_of(service.data, 3.0) == []
    assert time.monotonic() - begun < 3
    assert process.stop() == 0
    service.check()
    assert service.states()[audit] == "cancelled"
    assert not [line for line in process.lines if '"level": "error"' in line], "to cancel is no error"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_audits_survive_sigkill_of_postgresql(service: Service, postgres: Postgres, kills: int) -> None:
    chance = random.Random(kills)
    process = service.start()
    for number in range(kills):
        service.submit("full" if number % 2 else "headers", number)
        time.sleep(chance.uniform(0.5, 2.5))
        postgres.kill()
        time.sleep(chance.uniform(0.0, 1.5))
        postgres.start()
    service.all_final(240)
    assert process.stop() == 0
    service.check()
    assert set(service.states().values()) == {"finished"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_is_away_for_a_minute_loses_nothing(service: Service, postgres: Postgres) -> None:
    process = service.start()
    first, second = service.submit("full"), service.submit("headers", 1)
    service.wait(lambda states: "running" in states.values(), 30)
    postgres.stop()
    time.sleep(60)
    postgres.start()
    service.all_final(120)
    assert process.stop() == 0
    service.check()
    assert {service.states()[each] for each in (first, second)} == {"finished"}
    assert sum("worker lost" in line for line in process.lines) == 0
