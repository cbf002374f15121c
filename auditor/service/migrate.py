"""The schema, brought to what this version needs: our tables by Alembic, those of the jobs by DBOS."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from auditor.service.jobs import migrate as migrate_jobs
from auditor.service.store.database import Database


def apply(database: Database) -> None:
    """Bring the schema to this version's, our tables and those of the jobs."""
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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "store" / "migrations"))
    return config
