"""Tokens as a list for the terminal: whose they are and how long they are good, never what they are."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from auditor.service.access.tokens import Tokens
from auditor.service.store.database import Database, now
from auditor.text import shown


def lines(database: Database) -> Iterator[str]:
    """A line for each token, newest first."""
    with database.read() as connection:
        at = now(connection)
    for row in Tokens(database).all():
        yield f"{row.id}  {row.scopes:<6}  {_state(row, at):<23}  used {_day(row.last_used_at)}  {shown(row.name)}"


def _state(row: Row[Any], at: int) -> str:
    if row.revoked_at is not None:
        return f"revoked {_day(row.revoked_at)}"
    if row.expires_at is None:
        return "good until revoked"
    return f"{'expired' if row.expires_at <= at else 'good until'} {_day(row.expires_at)}"


def _day(at: int | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
