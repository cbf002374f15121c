"""What is wrong with an installation, a line each with what mends it; nothing is changed, and no secret is told."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sqlalchemy import Connection, func, select, text

from auditor.errors import AuditorError
from auditor.service import migrate
from auditor.service.access.tokens import Tokens
from auditor.service.installation import Installation
from auditor.service.operate import surroundings
from auditor.service.operate.opened import reached
from auditor.service.operate.postgres import program
from auditor.service.settings import Settings
from auditor.service.store.database import now
from auditor.service.store.tables import audits, workers
from auditor.sources.http.hosts import is_loopback
from auditor.text import plural, shown
from auditor.version import __version__

Mark = Literal["ok", "note", "wrong"]
OLDEST_POSTGRESQL = 15
_SKEW_S = 5.0
_SEEN_MS = 60_000
_FULL = 2  # PRAGMA synchronous


@dataclass(frozen=True, slots=True)
class Line:
    """What was found about one part; only what is wrong counts."""

    mark: Mark
    part: str
    said: str

    def __str__(self) -> str:
        return f"{self.mark:<5}  {self.part}: {shown(self.said)}"


Check = Callable[[], Iterable[Line]]


def examine(settings: Settings, *, online: bool) -> Iterator[Line]:
    """Every line, in an order in which the first one that is wrong is the one to begin with."""
    around: list[Check] = [
        partial(_lines, "environment", surroundings.environment),
        partial(_lines, "data folder", lambda: surroundings.folder(settings.data)),
        partial(_lines, "disk", lambda: surroundings.disk(settings)),
        partial(_lines, "packages", lambda: surroundings.packages(settings)),
        partial(_lines, "limits", lambda: surroundings.limits(settings)),
        partial(_lines, "credentials", lambda: surroundings.credentials(settings)),
    ]
    for check in around:
        yield from _made(check)
    if settings.data.exists():  # opening it would make it
        yield from _made(lambda: _installed(settings))
    if online:
        yield from _made(partial(_lines, "hosts", lambda: surroundings.hosts(settings.sources.hosts)))


def _lines(part: str, find: Callable[[], Iterable[tuple[Mark, str]]]) -> Iterator[Line]:
    for mark, said in find():
        yield Line(mark, part, said)


def _made(check: Check) -> Iterator[Line]:
    """The lines of a check; one that fails is wrong itself."""
    try:
        yield from check()
    except AuditorError as error:
        yield Line("wrong", "database", str(error))
    except Exception as error:  # an edge: whatever stops a check is what the doctor is asked for
        yield Line("wrong", "doctor", f"{type(error).__name__}: {error}"[:500])


def _installed(settings: Settings) -> Iterator[Line]:
    """What can be said once the database answers."""
    with reached(settings) as installation:
        database = installation.database
        with database.read() as connection:
            yield from _sqlite(connection, settings) if database.sqlite else _postgresql(connection)
        found, needed = migrate.state(database)
        if found != needed:
            if found is not None and found not in migrate.revisions():
                mend = "a newer auditor made it: install that, or restore a backup of before"
            else:
                mend = "`auditor service migrate` while the service is stopped"
            yield Line("wrong", "schema", f"is {found or 'none'}, this auditor needs {needed}: {mend}")
            return
        yield Line("ok", "schema", f"{found}")
        with database.read() as connection:
            yield from _workers(connection)
        yield from _store(installation)
        yield from _address(installation)


def _sqlite(connection: Connection, settings: Settings) -> Iterator[Line]:
    version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    kind = surroundings.network_file_system(settings.data)
    if kind is not None:
        yield Line(
            "wrong", "database", f"SQLite on {kind}, which does not lock as it needs: move it, or use PostgreSQL"
        )
    if damage != "ok":
        yield Line("wrong", "database", f"SQLite says {str(damage)[:200]}: stop the service and restore a backup")
    elif (journal, synchronous) != ("wal", _FULL):
        yield Line("wrong", "database", f"journal {journal}, synchronous {synchronous}; needs wal and {_FULL}")
    else:
        yield Line("ok", "database", f"SQLite {version}, WAL, synchronous")


def _postgresql(connection: Connection) -> Iterator[Line]:
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    version = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number // 10000 < OLDEST_POSTGRESQL:
        yield Line("wrong", "database", f"{version}: needs {OLDEST_POSTGRESQL} or newer")
    else:
        yield Line("ok", "database", version)
    if connection.execute(text("SHOW fsync")).scalar_one() != "on":
        yield Line("wrong", "database", "fsync is off: what was accepted is lost in a power cut: set fsync = on")
    try:
        program("pg_dump")
    except AuditorError as error:
        yield Line("note", "backup", str(error))
    skew = time.time() - now(connection) / 1000
    if abs(skew) > _SKEW_S:
        said = f"this machine's is {abs(skew):,.0f} s {'before' if skew > 0 else 'behind'} the database's"
        yield Line("wrong", "clock", f"{said}: have both kept by NTP")
    else:
        yield Line("ok", "clock", f"within {_SKEW_S:g} s of the database's")


def _workers(connection: Connection) -> Iterator[Line]:
    live = list(
        connection.execute(
            select(workers.c.tool, func.count())
            .where(workers.c.ended.is_(None), workers.c.seen_at > now(connection) - _SEEN_MS)
            .group_by(workers.c.tool)
        )
    )
    queued = connection.execute(select(func.count()).select_from(audits).where(audits.c.state == "queued")).scalar_one()
    if not live:
        mark: Mark = "wrong" if queued else "note"
        yield Line(mark, "workers", f"none lives, {plural(queued, 'audit')} queued: start `auditor serve`")
        return
    other = sorted(tool for tool, _ in live if tool != __version__)
    if other:
        said = f"{', '.join(other)} beside {__version__}, which this is: restart those of another version"
        yield Line("wrong", "workers", f"versions differ: {said}")
    else:
        yield Line(
            "ok", "workers", f"{sum(count for _, count in live)} of {__version__}; {plural(queued, 'audit')} queued"
        )


def _store(installation: Installation) -> Iterator[Line]:
    """A write and a read back, where what is written is not somebody else's to the service."""
    place = installation.settings.reports_place
    if surroundings.stranger(installation.settings.data):
        yield Line("note", "reports", "not written to: run this as the user that serves")
        return
    document = f"doctor {time.time_ns()}".encode()
    try:
        name = installation.reports.put(document)
        same = installation.reports.get(name) == document
        installation.reports.remove(name)
    except OSError as error:
        yield Line("wrong", "reports", f"{place}: {error.strerror or error}")
        return
    if same:
        yield Line("ok", "reports", f"{place}: written and read back")
    else:
        yield Line("wrong", "reports", f"{place}: what was written does not come back: look at the disk or the store")


def _address(installation: Installation) -> Iterator[Line]:
    settings = installation.settings
    if is_loopback(settings.host):
        yield Line("ok", "address", f"{settings.host}: this machine alone")
        return
    wrong = False
    if not Tokens(installation.database).every(most=1):
        wrong = True
        yield Line("wrong", "address", f"{settings.host} without a token: `auditor service token create NAME`")
    if not (settings.public_url or "").startswith("https://"):
        wrong = True
        yield Line(
            "wrong",
            "address",
            f"{settings.host} without TLS, so that tokens can be read on the way: have a proxy with TLS before it, "
            "and set public_url to its https:// address",
        )
    if settings.sources.private:
        yield Line("note", "address", "submitters reach private addresses from here: sources.private is true")
    if not wrong:
        yield Line("ok", "address", f"{settings.host}, as {settings.public_url}")
