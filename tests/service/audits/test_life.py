"""What can happen to an audit, on both databases: every transaction leaves row and job agreeing."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Row, select, text, update
from sqlalchemy.exc import DBAPIError

from auditor.service.audits import lookup
from auditor.service.audits.life import Audits, KeyReusedError, QueueFullError, Result
from auditor.service.audits.order import Order, host_of
from auditor.service.audits.recovery import LOSSES
from auditor.service.audits.workers import Presence, Sweep, WorkerLostError
from auditor.service.installation import Installation
from auditor.service.store.database import away
from auditor.service.store.tables import attempts, audits, checkpoints, workers

ORDER = Order(source="hf://org/model")
PASSED = Result(report="a" * 64, verdict="passed", fingerprint="f", tool="1", resolved="c" * 40)


def row(installation: Installation, audit: str) -> Row:
    with installation.database.read() as connection:
        return connection.execute(select(audits).where(audits.c.id == audit)).one()


def tries(installation: Installation, audit: str) -> list[Row]:
    with installation.database.read() as connection:
        return list(connection.execute(select(attempts).where(attempts.c.audit == audit).order_by(attempts.c.n)))


def jobs(installation: Installation, audit: str, *more: str) -> set[str]:
    found = row(installation, audit)
    return installation.jobs.alive([f"{audit}.{n}" for n in range(1, found.attempt + 2)])


def due(installation: Installation, audit: str) -> None:
    """Have the audit's next attempt be due now."""
    with installation.database.write() as connection:
        connection.execute(update(audits).where(audits.c.id == audit).values(due_at=0))
    installation.recovery.add_due()


def test_an_accepted_audit_is_there_with_its_job(installation: Installation) -> None:
    made = installation.audits.submit(ORDER)
    assert made.created
    assert row(installation, made.audit).state == "queued"
    assert jobs(installation, made.audit) == {f"{made.audit}.1"}


def test_a_submission_that_is_rolled_back_leaves_neither_row_nor_job(installation: Installation) -> None:
    made = []

    def give_up() -> None:
        with installation.database.write() as connection:
            made.append(installation.audits.submit_within(connection, ORDER).audit)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        give_up()
    with installation.database.read() as connection:
        assert connection.execute(select(audits)).all() == []
    assert installation.jobs.alive([f"{made[0]}.1"]) == set()


def test_equal_requests_that_are_open_are_one_audit_whatever_their_priority(installation: Installation) -> None:
    first = installation.audits.submit(ORDER)
    again = installation.audits.submit(replace(ORDER, priority=1, origin="hook"))
    assert (again.audit, again.created) == (first.audit, False)
    installation.audits.begin(first.audit, 1, "w")
    assert installation.audits.submit(ORDER).audit == first.audit
    installation.audits.conclude(first.audit, 1, "w", PASSED)
    assert installation.audits.submit(ORDER).audit != first.audit


@pytest.mark.parametrize(
    "other",
    [
        {"source": "hf://org/other"},
        {"revision": "v2"},
        {"depth": "full"},
        {"family": "deepseek_v3"},
        {"policy_text": "symlinks = 'inside'"},
        {"baseline": "b" * 64},
        {"seed": 7},
        {"force": True},
    ],
)
def test_requests_that_differ_are_two_audits(installation: Installation, other: dict[str, object]) -> None:
    first = installation.audits.submit(ORDER)
    assert installation.audits.submit(replace(ORDER, **other)).audit != first.audit


def test_many_equal_submissions_at_once_are_one_audit(installation: Installation) -> None:
    made: list[str] = []

    def submit() -> None:
        made.extend(installation.audits.submit(ORDER).audit for _ in range(5))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(made) == 40
    assert len(set(made)) == 1


def test_a_key_makes_a_repetition_the_same_audit_even_when_that_has_ended(installation: Installation) -> None:
    first = installation.audits.submit(ORDER, token="t", key="k", body="1")
    installation.audits.begin(first.audit, 1, "w")
    installation.audits.conclude(first.audit, 1, "w", PASSED)
    assert installation.audits.submit(ORDER, token="t", key="k", body="1").audit == first.audit
    assert installation.audits.submit(ORDER, token="u", key="k", body="1").audit != first.audit


def test_a_key_that_stands_for_another_request_is_refused(installation: Installation) -> None:
    installation.audits.submit(ORDER, key="k", body="1")
    with pytest.raises(KeyReusedError):
        installation.audits.submit(replace(ORDER, depth="full"), key="k", body="2")


def test_a_queue_takes_no_more_than_its_limit_but_what_is_there_answers(installation: Installation) -> None:
    few = Audits(installation.database, installation.jobs, waiting=2)
    first = few.submit(ORDER)
    few.submit(replace(ORDER, seed=1))
    with pytest.raises(QueueFullError):
        few.submit(replace(ORDER, seed=2))
    assert few.submit(ORDER).audit == first.audit


def test_an_attempt_begins_as_often_as_it_is_asked_and_is_one_attempt(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    assert installation.audits.begin(audit, 1, "w") is not None
    assert installation.audits.begin(audit, 1, "w") is not None
    assert [each.n for each in tries(installation, audit)] == [1]
    assert row(installation, audit).state == "running"


def test_a_stale_attempt_does_not_begin(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    assert installation.audits.begin(audit, 2, "w") is None
    installation.audits.cancel(audit)
    assert installation.audits.begin(audit, 1, "w") is None


def test_a_verdict_ends_an_audit_and_is_the_checkpoints_latest(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "w")
    assert installation.audits.conclude(audit, 1, "w", PASSED) == "finished"
    found = row(installation, audit)
    assert (found.state, found.verdict, found.report, found.worker) == ("finished", "passed", "a" * 64, None)
    with installation.database.read() as connection:
        assert connection.execute(select(checkpoints.c.latest_audit)).scalar_one() == audit


def test_an_end_is_noted_once(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "w")
    installation.audits.conclude(audit, 1, "w", PASSED)
    assert installation.audits.conclude(audit, 1, "w", replace(PASSED, verdict="failed")) is None
    assert row(installation, audit).verdict == "passed"


def test_what_may_go_away_is_tried_again_later_and_three_times_in_all(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    away = Result(causes=("unreachable",), reason="the hub does not answer")
    waits = []
    for n in (1, 2):
        installation.audits.begin(audit, n, "w")
        assert installation.audits.conclude(audit, n, "w", away) == "queued"
        found = row(installation, audit)
        waits.append(found.due_at - tries(installation, audit)[-1].ended_at)
        assert (found.attempt, found.cause, found.job) == (n + 1, "unreachable", None)
        assert jobs(installation, audit) - {f"{audit}.{n}" for n in (1, 2)} == set()
        due(installation, audit)
        assert row(installation, audit).job == f"{audit}.{n + 1}"
    installation.audits.begin(audit, 3, "w")
    assert installation.audits.conclude(audit, 3, "w", away) == "failed"
    assert (row(installation, audit).state, row(installation, audit).cause) == ("failed", "unreachable")
    assert waits == sorted(waits)
    assert waits[0] < waits[1]


def test_what_waits_for_its_next_attempt_has_no_place_and_takes_none(installation: Installation) -> None:
    delayed = installation.audits.submit(Order(source="hf://org/m")).audit
    installation.audits.begin(delayed, 1, "w")
    installation.audits.conclude(delayed, 1, "w", Result(causes=("unreachable",), reason="away"))
    behind = installation.audits.submit(Order(source="hf://org/next")).audit
    with installation.database.read() as connection:
        places = [lookup.place(connection, lookup.audit(connection, each)) for each in (delayed, behind)]
    assert places == [None, 1]


@pytest.mark.parametrize(
    "cause", ["usage", "unauthorized", "forbidden", "not_found", "limit", "not_allowed", "timed_out"]
)
def test_what_stays_is_final_at_once(installation: Installation, cause: str) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "w")
    assert installation.audits.conclude(audit, 1, "w", Result(causes=(cause,), reason="so")) == "failed"


def test_an_incomplete_report_is_kept_when_trying_again_has_not_helped(installation: Installation) -> None:
    few = Audits(installation.database, installation.jobs, most=1)
    audit = few.submit(ORDER).audit
    few.begin(audit, 1, "w")
    partial = replace(PASSED, verdict="incomplete", causes=("throttled",))
    assert few.conclude(audit, 1, "w", partial) == "finished"
    assert row(installation, audit).verdict == "incomplete"


def test_an_incomplete_report_for_lasting_causes_is_final(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "w")
    partial = replace(PASSED, verdict="incomplete", causes=("throttled", "limit"))
    assert installation.audits.conclude(audit, 1, "w", partial) == "finished"


def test_a_cancelled_audit_never_comes_back(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "w")
    assert installation.audits.cancel(audit) == "cancelled"
    assert installation.audits.held("w") == set()
    assert installation.audits.conclude(audit, 1, "w", PASSED) is None
    assert installation.recovery.lose("w") == []
    assert installation.recovery.adopt() == []
    assert installation.audits.begin(audit, 1, "v") is None
    assert installation.audits.cancel(audit) == "cancelled"
    assert row(installation, audit).state == "cancelled"


def test_cancelling_what_has_ended_or_is_unknown_changes_nothing(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "w")
    installation.audits.conclude(audit, 1, "w", PASSED)
    assert installation.audits.cancel(audit) == "finished"
    assert installation.audits.cancel("0" * 26) is None


def test_a_lost_workers_audit_is_another_attempt_at_once_and_the_lost_ones_result_is_refused(
    installation: Installation,
) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "slow")
    assert installation.recovery.lose("slow") == [audit]
    assert installation.audits.conclude(audit, 1, "slow", PASSED) is None
    installation.audits.tell("slow", {(audit, 1): ("{}", "late")})
    assert installation.audits.begin(audit, 2, "other") is not None
    assert installation.audits.conclude(audit, 2, "other", PASSED) == "finished"
    assert [(each.n, each.cause) for each in tries(installation, audit)] == [(1, "worker_lost"), (2, None)]


def test_losses_do_not_use_up_attempts_but_an_audit_that_takes_workers_along_ends(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    for n in range(1, LOSSES):
        installation.audits.begin(audit, n, f"w{n}")
        installation.recovery.lose(f"w{n}")
        assert row(installation, audit).state == "queued"
    installation.audits.begin(audit, LOSSES, "w")
    installation.audits.tell("w", {(audit, LOSSES): ('{"done": 1}', None)})
    installation.recovery.lose("w")
    assert row(installation, audit).losses == 1, "it came further: it is not what kills workers"
    for n in range(LOSSES + 1, 2 * LOSSES):
        installation.audits.begin(audit, n, f"v{n}")
        installation.recovery.lose(f"v{n}")
    assert (row(installation, audit).state, row(installation, audit).cause) == ("failed", "worker_lost")


def test_what_a_stopped_worker_hands_back_counts_as_no_loss(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.audits.begin(audit, 1, "w")
    assert installation.recovery.hand_back("w") == [audit]
    found = row(installation, audit)
    assert (found.state, found.losses, found.job) == ("queued", 0, f"{audit}.2")


def test_jobs_that_are_gone_are_added_anew(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    installation.jobs.forget([f"{audit}.1"])
    assert installation.recovery.adopt() == [audit]
    assert jobs(installation, audit) == {f"{audit}.2"}
    assert installation.recovery.adopt() == []


def test_the_same_commit_asked_the_same_way_is_found(installation: Installation) -> None:
    first = installation.audits.submit(ORDER).audit
    installation.audits.begin(first, 1, "w")
    installation.audits.conclude(first, 1, "w", PASSED)
    second = row(installation, installation.audits.submit(ORDER).audit)._mapping
    found = installation.audits.same(dict(second), "c" * 40, "1")
    assert found is not None
    assert found.id == first
    assert installation.audits.same(dict(second), "d" * 40, "1") is None
    assert installation.audits.same(dict(second), "c" * 40, "2") is None
    assert installation.audits.same({**second, "force": True}, "c" * 40, "1") is None
    assert installation.audits.same({**second, "seed": 1}, "c" * 40, "1") is None


# --- workers ---


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def sweep(installation: Installation, clock: Clock) -> Sweep:
    return Sweep(installation.database, installation.recovery, installation.jobs, "me", clock=clock)


def look(observer: Sweep, clock: Clock, seconds: int, presence: Presence | None = None) -> list[str]:
    lost = []
    for _ in range(seconds // 5):
        clock.at += 5
        if presence is not None:
            presence.beat()
        lost += observer.look()
    return lost


def test_a_worker_whose_counter_stands_still_for_thirty_seconds_is_lost(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    presence, clock = Presence(installation.database, "other"), Clock()
    presence.enter()
    installation.audits.begin(audit, 1, "other")
    observer = sweep(installation, clock)
    assert look(observer, clock, 60, presence) == []
    assert look(observer, clock, 25) == []
    assert look(observer, clock, 10) == ["other"]
    assert row(installation, audit).attempt == 2
    with pytest.raises(WorkerLostError):
        presence.beat()


def test_an_observer_that_slept_takes_nobody_for_lost(installation: Installation) -> None:
    presence, clock = Presence(installation.database, "other"), Clock()
    presence.enter()
    observer = sweep(installation, clock)
    observer.look()
    clock.at += 3600
    assert observer.look() == []
    presence.beat()
    assert look(observer, clock, 5) == []


def test_wall_clocks_that_are_hours_apart_make_nobody_lost(installation: Installation) -> None:
    presence, clock = Presence(installation.database, "other"), Clock()
    presence.enter()
    with installation.database.write() as connection:
        connection.execute(update(workers).values(seen_at=0, started_at=0))
    observer = sweep(installation, clock)
    for _ in range(20):
        clock.at += 5
        presence.beat()
        with installation.database.write() as connection:
            connection.execute(update(workers).values(seen_at=1 << 60))
        assert observer.look() == []


def test_of_two_observers_one_takes_a_lost_worker_over(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    presence, clock = Presence(installation.database, "other"), Clock()
    presence.enter()
    installation.audits.begin(audit, 1, "other")
    one, two = sweep(installation, clock), sweep(installation, clock)
    lost = []
    for _ in range(10):
        clock.at += 5
        lost += one.look() + two.look()
    assert lost == ["other"]
    assert row(installation, audit).attempt == 2
    assert installation.jobs.alive([f"{audit}.2"]) == {f"{audit}.2"}


def test_audits_of_a_worker_that_was_found_lost_by_one_who_died_then_are_taken_over(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    presence = Presence(installation.database, "other")
    presence.enter()
    installation.audits.begin(audit, 1, "other")
    presence.leave()  # its row says that it has ended, and nobody has taken over
    sweep(installation, Clock()).look()
    assert row(installation, audit).attempt == 2


def test_whoever_is_alone_takes_over_at_once(installation: Installation) -> None:
    audit = installation.audits.submit(ORDER).audit
    Presence(installation.database, "before").enter()
    installation.audits.begin(audit, 1, "before")
    assert sweep(installation, Clock()).alone() == ["before"]
    assert jobs(installation, audit) >= {f"{audit}.2"}


# --- the rest ---


@pytest.mark.parametrize(
    ("source", "host"),
    [
        ("/models/v3", "local"),
        ("hf://org/model", "hf"),
        ("s3://bucket/model", "s3"),
        ("https://Example.org:8443/model", "example.org"),
    ],
)
def test_an_audit_counts_against_its_host(source: str, host: str) -> None:
    assert host_of(source) == host


def test_the_schema_of_the_migrations_is_that_of_the_tables(installation: Installation) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from auditor.service.store.tables import metadata

    ours = set(metadata.tables)
    with installation.database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: kind != "table" or name in ours, "compare_type": True},
        )
        assert compare_metadata(context, metadata) == []


def test_a_reader_cannot_write(installation: Installation, database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("one pool reads and writes on PostgreSQL")
    with pytest.raises(Exception, match="readonly"), installation.database.read() as connection:
        connection.execute(text("DELETE FROM audits"))


def test_sqlite_writes_ahead_and_syncs_every_commit(installation: Installation, database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("pragmas are SQLite's")
    with installation.database.write() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


def test_ids_of_later_audits_sort_later(installation: Installation, tmp_path: Path) -> None:
    made = [installation.audits.submit(replace(ORDER, seed=n)).audit for n in range(5)]
    assert len({each[:12] for each in made}) <= 5
    assert sorted(each[:12] for each in made) == [each[:12] for each in made]


def test_a_schema_that_is_another_is_no_absence_of_the_database(installation: Installation) -> None:
    with pytest.raises(DBAPIError) as raised, installation.database.read() as connection:
        connection.execute(text("SELECT nothing FROM nowhere"))
    assert not away(raised.value)
