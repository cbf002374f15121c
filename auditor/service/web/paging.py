"""Lists in pages: how many, from where on, and the cursor of what follows."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from sqlalchemy import Row

from auditor.service.access.keys import TamperedError
from auditor.service.audits.lookup import Place
from auditor.service.web.models import PageQuery
from auditor.service.web.state import state_of


class Pages:
    """The pages of one list, which its name and its filters make what it is."""

    def __init__(self, request: Request, name: str, *filters: object) -> None:
        self._cursors = state_of(request).cursors
        self._of = f"{name} {hashlib.sha256(repr(filters).encode()).hexdigest()}"

    def after(self, cursor: str | None) -> Place | None:
        """Where the page before ended. Raises TamperedError for a cursor that is none of this list's."""
        if cursor is None:
            return None
        match self._cursors.open(self._of, cursor):
            case [int(at), str(id)]:
                return Place(at, id)
        raise TamperedError

    def by_id(self, read: Callable[..., list[Row[Any]]], query: PageQuery) -> tuple[list[Row[Any]], str | None]:
        """The rows that `read` gives after the page before, and the cursor of what follows them."""
        after = self.after(query.next)
        rows = read(after=None if after is None else after.id, most=query.limit)
        return rows, self.next(rows, query.limit, "created_at")

    def next(self, rows: Sequence[Row[Any]], limit: int, at: str) -> str | None:
        """The cursor of what follows these rows, of which column `at` is the time; None at the end."""
        if len(rows) < limit:
            return None
        last = rows[-1]._mapping
        return self._cursors.seal(self._of, [last[at], last["id"]])
