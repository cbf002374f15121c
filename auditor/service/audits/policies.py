"""The administrator's policies by name: submitters choose one, and audits keep the text that it had then."""

import re
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditor.errors import UsageError
from auditor.service.store.database import Database, new_id, now
from auditor.service.store.tables import policies, watches
from auditor.text import quoted, shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class NoPolicyError(UsageError):
    """There is no policy of that name."""


def check(text: str, place: str = "policy") -> str:
    """The SHA-256 of a policy's TOML. Raises UsageError, which begins with `place`, for what is none."""
    from auditor.rules import catalogue
    from auditor.verdict.policy import policy_of

    return policy_of(text.encode(), place, catalogue())[1]


def put(database: Database, name: str, text: str) -> Row[Any]:
    """Keep a policy under a name, in the place of what had that name. Raises UsageError for what is none."""
    if not NAME.fullmatch(name):
        raise UsageError(f"policy {quoted(name)}: a name has letters, digits, '.', '_' and '-', 100 at most")
    sha256 = check(text, f"policy {name}")
    try:
        return _put(database, name, text, sha256)
    except IntegrityError:  # somebody else was first to make it
        return _put(database, name, text, sha256)


def every(connection: Connection) -> list[Row[Any]]:
    """All of them, by name."""
    return list(connection.execute(select(policies).order_by(policies.c.name)))


def named(connection: Connection, name: str) -> Row[Any]:
    """One of them. Raises NoPolicyError."""
    row = connection.execute(select(policies).where(policies.c.name == name)).one_or_none()
    if row is None:
        raise NoPolicyError(f"there is no policy named {quoted(name)}")
    return row


def remove(database: Database, name: str) -> None:
    """Forget one; audits that have it keep it. Raises NoPolicyError, UsageError where a watch uses it."""
    with database.write() as connection:
        used = connection.execute(select(watches.c.source).where(watches.c.policy == name).limit(1)).scalar()
        if used is not None:
            raise UsageError(f"policy {shown(name)}: the watch of {shown(used)} uses it: remove that first")
        if connection.execute(delete(policies).where(policies.c.name == name)).rowcount == 0:
            raise NoPolicyError(f"there is no policy named {quoted(name)}")


def _put(database: Database, name: str, text: str, sha256: str) -> Row[Any]:
    with database.write() as connection:
        at = now(connection)
        values = {"sha256": sha256, "text": text, "changed_at": at}
        if connection.execute(update(policies).where(policies.c.name == name).values(**values)).rowcount == 0:
            connection.execute(insert(policies).values(id=new_id(at), name=name, **values))
        return named(connection, name)
