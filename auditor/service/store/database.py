"""The database: one connection that writes and several that read on SQLite, one pool on PostgreSQL."""

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from auditor.errors import UsageError
from auditor.service.store.groups import Groups

_READERS = 8
_POOL = 12
_BUSY_MS = 30_000
_SERVING = "auditor serve: "
_WAIT_S = 10.0
_T = TypeVar("_T")
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)

# What SQLite calls operational too, and what no waiting mends.
_WRONG = ("no such", "near ", "table ", "incomplete input")

_NOW = {
    "sqlite": text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"),
    "postgresql": text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"),
}


class Database:
    """Where rows are: `read()` for what only looks, `write()` for one transaction that nobody else's comes between.

    `together()` is `write()` for what is small and may come by the thousand: on SQLite it is committed in groups.

    `engine` writes, and is what jobs are kept with, so that a row and its job are one transaction.
    """

    def __init__(self, url: str, *, serving: str | None = None) -> None:
        """`serving` is how other processes see one that serves. Raises UsageError for another kind of database."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise UsageError("the database's URL is none: give sqlite:/// or postgresql://user@host/name") from None
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            self.engine = _sqlite(url, readers=False)
            self._reader = _sqlite(url, readers=True)
        elif parsed.get_backend_name() == "postgresql":
            self.engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_size=_POOL,
                max_overflow=0,
                hide_parameters=True,  # in what is logged of an error
                pool_timeout=_WAIT_S,
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": 10,
                    "application_name": f"{_SERVING}{serving}" if serving else "auditor",
                },
            )
            self._reader = self.engine
        else:
            raise UsageError(f"{parsed.get_backend_name()}: give a sqlite:/// or a postgresql:// database")
        self._groups = Groups(self.write, away)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for looking alone; on SQLite it refuses to write."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end and rolled back by an exception."""
        with self.engine.begin() as connection:
            if self.sqlite:
                # What is read here must still be so when it is written, whoever else has the file open.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def together(self, act: Callable[[Connection], _T]) -> _T:
        """What `act` gives in a transaction, once that is committed. It may be called again for that.

        Raises what it raises, or the database's errors; then nothing of it is there.
        """
        if self.sqlite:
            return self._groups.write(act)
        with self.write() as connection:
            return act(connection)

    def wait(self, tell: Callable[[str], None], stopped: threading.Event) -> bool:
        """Wait until the database answers, with growing pauses, and tell of each; False where `stopped` came first."""
        for turn in range(1 << 30):
            try:
                with self.read() as connection:
                    connection.execute(text("SELECT 1"))
                return True
            except (OperationalError, InterfaceError, PoolTimeoutError) as error:
                pause = _PAUSES_S[min(turn, len(_PAUSES_S) - 1)]
                tell(f"the database does not answer, again in {pause:g} s: {first_line(error)}")
                if stopped.wait(pause):
                    return False
        return False

    def served_by(self) -> list[str]:
        """Processes that serve and are connected, as each calls itself; on SQLite the data folder's lock tells."""
        if self.sqlite:
            return []
        connected = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()"
        with self.read() as connection:
            names = connection.execute(text(connected)).scalars().all()
        return sorted(each.removeprefix(_SERVING) for each in names if each.startswith(_SERVING))

    def close(self) -> None:
        """Close every connection."""
        self._groups.close()
        self.engine.dispose()
        self._reader.dispose()


def now(connection: Connection) -> int:
    """Milliseconds since 1970 by the database's clock."""
    return int(connection.execute(_NOW[connection.dialect.name]).scalar_one())


def insert_absent(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, and pass over those whose key is there, or comes from somebody else at the same time."""
    kinds: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    if rows:
        connection.execute(kinds[connection.dialect.name](table).on_conflict_do_nothing(), rows)


def new_id(at_ms: int) -> str:
    """An id of 26 characters that sorts by when it was made."""
    return f"{at_ms:012x}{secrets.token_hex(7)}"


def away(error: BaseException) -> bool:
    """Whether an error says that the database cannot be had just now: away, restarting, full or busy."""
    if isinstance(error, PoolTimeoutError | InterfaceError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    original = error.orig
    if isinstance(original, sqlite3.OperationalError):
        return not str(original).startswith(_WRONG)
    return error.connection_invalidated or isinstance(error, OperationalError)


def first_line(error: BaseException) -> str:
    """What a database error says, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return lines[0] if lines else type(original).__name__


def _sqlite(url: str, *, readers: bool) -> Engine:
    engine = create_engine(
        url,
        pool_size=_READERS if readers else 1,
        max_overflow=0,
        hide_parameters=True,
        pool_timeout=_WAIT_S * 3,
        connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1000, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None if readers else "IMMEDIATE"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")
        if readers:
            connection.execute("PRAGMA query_only=ON")

    return engine
