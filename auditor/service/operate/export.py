"""The static site of `auditor publish`, from the reports of an installation."""

import tempfile
from pathlib import Path

from sqlalchemy import select

from auditor.errors import SourceError
from auditor.reporting.publish import publish
from auditor.service.audits.standing import PROPOSED
from auditor.service.installation import Installation
from auditor.service.store.tables import audits

_AT_ONCE = 100


def export(installation: Installation, directory: str) -> tuple[str, list[str]]:
    """Add stored reports to the site in `directory`: one line for a person, and the reports that were not intact.

    Those of pull requests alone are left out: the site shows a checkpoint by its latest report, which they never are.
    Raises SourceError where there is none to add, UsageError where `directory` is no site.
    """
    with installation.database.read() as connection:
        found = select(audits.c.report).where(audits.c.report.is_not(None), ~PROPOSED).group_by(audits.c.report)
        names = list(connection.execute(found.order_by(audits.c.report)).scalars())
    lost: list[str] = []
    said = ""
    for start in range(0, len(names), _AT_ONCE):
        with tempfile.TemporaryDirectory(prefix="auditor-") as folder:
            files = []
            for name in names[start : start + _AT_ONCE]:
                report = installation.reports.get(name)
                if report is None:
                    lost.append(name)
                    continue
                file = Path(folder) / f"{name}.json"
                file.write_bytes(report)
                files.append(str(file))
            if files:
                said = publish(files, directory).summary()
    if not said:
        raise SourceError(
            "there is no report to publish: no audit has finished yet" if not lost else "no report is intact"
        )
    return said, lost
