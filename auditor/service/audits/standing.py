"""Which audit says how a checkpoint stands: the last that finished, but for those of pull requests.

A pull request is somebody's proposal, and on the hub anybody's: its verdict is shown with its audit, and is not the
checkpoint's. Branches, tags and commits that are named are; which branches and tags are audited, the settings say.
"""

from sqlalchemy import Connection, func, or_, select, update

from auditor.service.store.database import now
from auditor.service.store.tables import audits, checkpoints, origins

_PULL = "refs/pr/"
# One is its revision, or nobody and nothing else asked for it; a person did where there is no origin.
PROPOSED = or_(
    func.coalesce(audits.c.revision, "").startswith(_PULL),
    audits.c.origin.is_not(None)
    & ~select(origins.c.audit)
    .where(origins.c.audit == audits.c.id, ~origins.c.origin.startswith(f"hub:{_PULL}"))
    .exists(),
)


def proposed(connection: Connection, audit: str) -> bool:
    """Whether an audit is of pull requests alone."""
    return connection.execute(select(audits.c.id).where(audits.c.id == audit, PROPOSED)).one_or_none() is not None


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


def put_back(connection: Connection, audit: str, before: str) -> None:
    """Have a finished audit say how its checkpoint stands where the latest one is of the commit `before`.

    A branch went back from that: whoever tells late or twice that it once came to this commit moves nothing.
    """
    if proposed(connection, audit):
        return
    this, latest = audits.alias(), audits.alias()
    connection.execute(
        update(checkpoints)
        .where(
            select(this.c.id)
            .where(this.c.id == audit, this.c.checkpoint == checkpoints.c.id, this.c.state == "finished")
            .exists(),
            select(latest.c.id)
            .where(
                latest.c.id == checkpoints.c.latest_audit,
                func.coalesce(latest.c.resolved, latest.c.revision) == before,
            )
            .exists(),
        )
        .values(latest_audit=audit, latest_at=now(connection))
    )
