"""Random secrets of the installation, made once: what cursors and session cookies are sealed with."""

import secrets

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from auditor.service.store.database import Database
from auditor.service.store.tables import keys

SESSIONS, CURSORS = "sessions", "cursors"
_BYTES = 32
_LONGEST = 4000


class TamperedError(Exception):
    """A sealed value that is none of ours, or was made for another list."""


def key(database: Database, name: str) -> bytes:
    """The secret of that name, made where it is not there yet."""
    found = _found(database, name)
    if found is None:
        try:
            with database.write() as connection:
                connection.execute(insert(keys).values(name=name, value=secrets.token_bytes(_BYTES)))
        except IntegrityError:
            pass  # another process was first: theirs it is
        found = _found(database, name)
        assert found is not None
    return found


def _found(database: Database, name: str) -> bytes | None:
    with database.read() as connection:
        return connection.execute(select(keys.c.value).where(keys.c.name == name)).scalar_one_or_none()


class Cursors:
    """Where a page of a list ended, sealed, so that what comes back is what was given out, for the same list."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, of: str, place: list[str | int]) -> str:
        """A cursor for the list `of`, which names its filters as well."""
        return str(URLSafeSerializer(self._secret, salt=of).dumps(place))

    def open(self, of: str, cursor: str) -> list[str | int]:
        """The place that a cursor stands for. Raises TamperedError."""
        if len(cursor) > _LONGEST:
            raise TamperedError
        try:
            place = URLSafeSerializer(self._secret, salt=of).loads(cursor)
        except BadData:
            raise TamperedError from None
        if not isinstance(place, list) or self.seal(of, place) != cursor:  # base64 has several spellings of some bytes
            raise TamperedError
        return place
