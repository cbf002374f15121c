"""Which audit says how a checkpoint stands: the last that finished, but for those of pull requests.

A pull request is somebody's proposal, and on the hub anybody's: its verdict is shown with its audit, and is not the
checkpoint's. Branches, tags and commits that are named are; which branches and tags are audited, the settings say.
"""

from sqlalchemy import Connection, select, update

from auditor.service.store.tables import audits, checkpoints, origins

_PULL = "refs/pr/"


def proposed(connection: Connection, audit: str) -> bool:
    """Whether an audit is of pull requests alone: one is its revision, or nobody and nothing else asked for it."""
    row = connection.execute(select(audits.c.revision, audits.c.origin).where(audits.c.id == audit)).one()
    if (row.revision or "").startswith(_PULL):
        return True
    if row.origin is None:  # a person did, and named what was meant
        return False
    asked = connection.execute(select(origins.c.origin).where(origins.c.audit == audit)).scalars()
    return all(each.startswith(f"hub:{_PULL}") for each in asked)


def put_latest(connection: Connection, audit: str, at: int) -> None:
    """Have an audit that has finished say how its checkpoint stands, unless a later one does."""
    connection.execute(
        update(checkpoints)
        .where(
            checkpoints.c.id == select(audits.c.checkpoint).where(audits.c.id == audit).scalar_subquery(),
            checkpoints.c.latest_at <= at,
        )
        .values(latest_audit=audit, latest_at=at)
    )
