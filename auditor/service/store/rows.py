"""Rows as people look at them: one by its id, pages of them, and all."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, delete, select

from auditor.service.store.database import Database

_AT_ONCE = 200


class Rows:
    """The rows of a table by their ids, which sort by when they were made."""

    def __init__(self, database: Database, table: Table, *, newest_first: bool = False) -> None:
        self._database = database
        self._table = table
        self._newest_first = newest_first

    def one(self, id: str) -> Row[Any] | None:  # noqa: A002  # what it is everywhere
        """A row by its id."""
        with self._database.read() as connection:
            return connection.execute(select(self._table).where(self._table.c.id == id)).one_or_none()

    def every(self, *wanted: ColumnElement[bool], after: str | None = None, most: int = _AT_ONCE) -> list[Row[Any]]:
        """Some of the rows that are wanted, those after an id."""
        key = self._table.c.id
        found = select(self._table).where(*wanted).order_by(key.desc() if self._newest_first else key).limit(most)
        if after is not None:
            found = found.where(key < after if self._newest_first else key > after)
        with self._database.read() as connection:
            return list(connection.execute(found))

    def all(self) -> Iterator[Row[Any]]:
        """The rows, however many there are."""
        after = None
        while some := self.every(after=after):
            after = some[-1].id
            yield from some

    def remove(self, id: str) -> bool:  # noqa: A002  # likewise
        """Remove a row with all that refers to it; whether there was one of that id."""
        with self._database.write() as connection:
            return connection.execute(delete(self._table).where(self._table.c.id == id)).rowcount == 1
