"""Chores that one worker does now and then, for all: when each is due goes by the database's clock."""

from sqlalchemy import Connection, Select, select, update

from auditor.service.store.database import Database, insert_absent, now
from auditor.service.store.tables import chores


def take(database: Database, name: str, every_ms: int) -> bool:
    """Whether a chore is due, and this process's to do; it is due again after `every_ms`, whatever becomes of it."""
    with database.read() as connection:
        row = connection.execute(select(chores).where(chores.c.name == name)).one_or_none()
        at = now(connection)
    if row is not None and max(row.due_at, row.paused_until) > at:
        return False
    _enter(database, name)
    with database.write() as connection:
        at = now(connection)
        taken = connection.execute(
            update(chores)
            .where(chores.c.name == name, chores.c.due_at <= at, chores.c.paused_until <= at)
            .values(due_at=at + every_ms)
        )
    return taken.rowcount == 1


def pause(database: Database, name: str, for_ms: int) -> bool:
    """Hold a chore up from now on; whether it was held up until now."""
    _enter(database, name)
    with database.write() as connection:
        at = now(connection)
        until = connection.execute(_mine(name)).scalar_one()
        connection.execute(update(chores).where(chores.c.name == name).values(paused_until=max(until, at + for_ms)))
    return bool(until > at)


def paused(connection: Connection, name: str) -> bool:
    """Whether a chore is held up; nobody begins to hold it up before this transaction has ended."""
    until = connection.execute(_mine(name)).scalar_one_or_none()
    return until is not None and until > now(connection)


def _mine(name: str) -> Select[int]:
    return select(chores.c.paused_until).where(chores.c.name == name).with_for_update()


def _enter(database: Database, name: str) -> None:
    with database.write() as connection:
        insert_absent(connection, chores, [{"name": name, "due_at": 0}])
