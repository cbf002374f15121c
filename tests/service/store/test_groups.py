"""What is written together is committed together, and fails by itself."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from auditor.service.installation import Installation
from auditor.service.store.database import Database, away
from auditor.service.store.tables import chores

WRITERS = 20


def entry(name: str) -> Callable[[Connection], str]:
    def act(connection: Connection) -> str:
        connection.execute(insert(chores).values(name=name, due_at=0))
        return name

    return act


def names(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(chores.c.name)).scalars())


@contextmanager
def gathered(database: Database) -> Iterator[Callable[[Callable[[Connection], Any]], Future[Any]]]:
    """Writers that all wait until the end of this, since somebody else writes."""
    with ThreadPoolExecutor(WRITERS + 1) as threads:
        asked: list[Future[Any]] = []
        with database.write():
            yield lambda act: asked.append(threads.submit(database.together, act)) or asked[-1]
            threading.Event().wait(0.3)


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.close()


def test_each_gets_what_it_made_once_everybody_sees_it(installation: Installation) -> None:
    def write_and_look(name: str) -> bool:
        given = installation.database.together(entry(name))
        return given == name and name in names(installation.database)

    with ThreadPoolExecutor(WRITERS) as threads:
        assert all(threads.map(write_and_look, map(str, range(200))))


def test_those_that_wait_are_one_commit_or_two(sqlite: Database) -> None:
    commits = []
    with gathered(sqlite) as write:
        event.listen(sqlite.engine, "commit", lambda _: commits.append(1))
        for n in range(WRITERS):
            write(entry(str(n)))
    assert len(names(sqlite)) == WRITERS
    assert 1 <= len(commits) <= 3  # the one that they waited for is counted too


def test_one_that_fails_fails_alone_and_leaves_nothing(installation: Installation) -> None:
    def fail(connection: Connection) -> None:
        entry("left")(connection)
        raise LookupError("mine")

    with gathered(installation.database) as write:
        sound = [write(entry(str(n))) for n in range(5)]
        failing = write(fail)
        twice = write(entry("0"))
        sound += [write(entry(str(n))) for n in range(5, 10)]
    with pytest.raises(LookupError, match="mine"):
        failing.result()
    failed = [each for each in (sound[0], twice) if each.exception() is not None]
    assert [type(each.exception()) for each in failed] == [IntegrityError]
    assert [each.result() for each in sound[1:]] == [str(n) for n in range(1, 10)]
    assert names(installation.database) == {str(n) for n in range(10)}


def test_where_the_database_is_full_nobody_is_told_that_it_was_written(sqlite: Database) -> None:
    with sqlite.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def much(connection: Connection) -> None:
        for n in range(50_000):
            entry(f"{n:040}")(connection)

    with gathered(sqlite) as write:
        asked = [write(entry("before")), write(much), write(entry("after"))]
    errors = [each.exception() for each in asked]
    assert isinstance(errors[1], OperationalError)
    assert away(errors[1])
    told = {name for name, error in zip(("before", "much", "after"), errors, strict=True) if error is None}
    assert names(sqlite) == told


def test_what_else_is_written_has_its_turn_between_groups(sqlite: Database) -> None:
    stopped = threading.Event()

    def write(writer: int) -> None:
        n = 0
        while not stopped.is_set():
            n += 1
            sqlite.together(entry(f"{writer}.{n}"))

    with ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(write, n) for n in range(WRITERS)]
        for n in range(20):
            with sqlite.write() as connection:  # raises where it has waited for half a minute
                entry(f"mine {n}")(connection)
        stopped.set()
    assert [each.result() for each in writers] == [None] * WRITERS


def test_a_database_that_is_closed_leaves_no_thread(sqlite: Database) -> None:
    sqlite.together(entry("one"))
    before = threading.active_count()
    sqlite.close()
    assert threading.active_count() == before - 1
    with sqlite3.connect(sqlite.engine.url.database or "") as file:
        assert file.execute("SELECT count(*) FROM chores").fetchone() == (1,)
