"""The schema, brought to what this version needs: our tables by Alembic, those of the jobs by DBOS."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from auditor.service.jobs import migrate as migrate_jobs
from auditor.service.store.database import Database

_LOCK = 0x61756469746F72
_PAUSE_S = 0.2


def apply(database: Database) -> None:
    """Bring the schema to this version's, our tables and those of the jobs."""
    with _alone(database):
        migrate_jobs(database.engine.url.render_as_string(hide_password=False))
        config = _config()
        with database.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def state(database: Database) -> tuple[str | None, str | None]:
    """The schema's revision as it is, and as this version needs it."""
    with database.read() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return found, ScriptDirectory.from_config(_config()).get_current_head()


def revisions() -> set[str]:
    """Every revision of the schema that this version knows."""
    return {each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions()}


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Let no other process change the schema meanwhile; on SQLite the data folder's lock sees to that."""
    if database.sqlite:
        yield
        return
    # Neither a transaction of its own nor a statement that waits: the making of an index would wait for either.
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}).scalar_one():
            time.sleep(_PAUSE_S)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "store" / "migrations"))
    return config
