"""The schema brought to this version's, while nobody serves."""

from auditor.errors import UsageError
from auditor.service import migrate
from auditor.service.operate.opened import answering, stopped
from auditor.service.settings import Settings


def bring_up(settings: Settings) -> str:
    """Apply what is missing, in a database that is made where there is none; one line for a person.

    PostgreSQL's may be served where there is nothing to apply. Raises UsageError where the data is served, or newer
    than this version knows, SourceError where the database does not answer.
    """
    with answering(settings) as installation, stopped(settings):
        database = installation.database
        found, needed = migrate.state(database)
        if found is not None and found not in migrate.revisions():
            raise UsageError(f"the database has schema {found}, which a newer auditor made and this does not know")
        if serving := database.served_by():
            if found == needed:  # whoever serves has seen to the tables of the jobs
                return f"schema {found}"
            raise UsageError(f"stop first what serves this database: {'; '.join(serving)}")
        migrate.apply(database)
        made, _ = migrate.state(database)
    return f"schema {made}" if found == made else f"schema {made}, before: {found or 'none'}"
