"""API tokens: 256 random bits behind a prefix that secret scanners match, kept as their SHA-256 alone."""

import hashlib
import logging
import re
import secrets
import string
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from sqlalchemy import Select, bindparam, func, insert, select, update

from auditor.service.store.database import Database, away, new_id, now
from auditor.service.store.rows import Rows
from auditor.service.store.tables import tokens

Scope = Literal["read", "submit", "admin"]

# Each holds those before it.
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")
PREFIX = "audtk_"

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET, _CHECK = 43, 6  # digits of base 62 that 256 and 32 bits take
_SHAPE = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_SECRET}}})([0-9A-Za-z]{{{_CHECK}}})")
_USE_NOTED_S = 60.0
_GOOD = select(tokens.c.id, tokens.c.name, tokens.c.scopes, tokens.c.expires_at).where(tokens.c.revoked_at.is_(None))
# Made once: to make them takes longer than to run them.
_BY_DIGEST = _GOOD.where(tokens.c.sha256 == bindparam("value"))
_BY_ID = _GOOD.where(tokens.c.id == bindparam("value"))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who shows a token that is good now: its row's id and name, and all that its scopes hold."""

    id: str
    name: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token: its row's id, and the token itself, which nobody sees again."""

    id: str
    token: str


class Tokens(Rows):
    """The tokens of an installation, the newest first. None is removed: a revoked one stays, to be seen."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, tokens, newest_first=True)
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def create(self, name: str, scopes: Iterable[Scope], *, days: int | None = None) -> Issued:
        """Make a token that is good for so many days, or until it is revoked."""
        with self._database.write() as connection:
            return self._create(connection, name, scopes, days)

    def first(self) -> Issued | None:
        """The first token, of scope admin, where the installation has never had any."""
        with self._database.write() as connection:
            if connection.execute(select(func.count()).select_from(tokens)).scalar_one():
                return None
            return self._create(connection, "first", ("admin",), None)

    def revoke(self, id: str) -> bool:  # noqa: A002  # what it is everywhere
        """End a token at once, its sessions too; whether there is one of that id."""
        with self._database.write() as connection:
            revoked = connection.execute(
                update(tokens)
                .where(tokens.c.id == id)
                .values(revoked_at=func.coalesce(tokens.c.revoked_at, now(connection)))
            )
        return revoked.rowcount == 1

    def judge(self, token: str) -> Holder | None:
        """Who shows a token; None for one that is unknown, expired or revoked."""
        if not well_formed(token):
            return None
        return self._good(_BY_DIGEST, _digest(token))

    def holder(self, id: str) -> Holder | None:  # noqa: A002  # likewise
        """Whose session it is that names this token's id; None where the token is no longer good."""
        return self._good(_BY_ID, id)

    def _create(self, connection: Any, name: str, scopes: Iterable[Scope], days: int | None) -> Issued:
        given = frozenset(scopes)
        assert given
        assert given <= frozenset(SCOPES)
        token, at = _new(), now(connection)
        issued = Issued(new_id(at), token)
        connection.execute(
            insert(tokens).values(
                id=issued.id,
                name=name,
                sha256=_digest(token),
                scopes=",".join(each for each in SCOPES if each in given),
                created_at=at,
                expires_at=None if days is None else at + days * 86_400_000,
            )
        )
        return issued

    def _good(self, which: Select[Any], value: str) -> Holder | None:
        with self._database.read() as connection:
            row = connection.execute(which, {"value": value}).one_or_none()
            if row is None or (row.expires_at is not None and row.expires_at <= now(connection)):
                return None
        self._note(row.id)
        return Holder(row.id, row.name, held(row.scopes.split(",")))

    def _note(self, id: str) -> None:  # noqa: A002  # likewise
        """Keep that a token was used, at most once a minute, and beside the request."""
        at = monotonic()
        with self._lock:
            if at - self._noted.get(id, -_USE_NOTED_S) < _USE_NOTED_S:
                return
            self._noted[id] = at
        threading.Thread(target=self._write_use, args=(id,), name="auditor-token-use", daemon=True).start()

    def _write_use(self, id: str) -> None:  # noqa: A002  # likewise
        try:
            with self._database.write() as connection:
                connection.execute(update(tokens).where(tokens.c.id == id).values(last_used_at=now(connection)))
        except Exception as error:  # an edge: the last use is a courtesy
            if not away(error):
                _log.exception("the last use of a token was not kept")


def held(scopes: Iterable[str]) -> frozenset[str]:
    """All that scopes hold: each holds those before it."""
    highest = max(SCOPES.index(each) for each in SCOPES if each in scopes)
    return frozenset(SCOPES[: highest + 1])


def well_formed(text: str) -> bool:
    """Whether a text has a token's shape, its checksum included."""
    found = _SHAPE.fullmatch(text)
    return found is not None and found[2] == _check(found[1])


def _new() -> str:
    secret = _base62(secrets.randbits(256), _SECRET)
    return f"{PREFIX}{secret}{_check(secret)}"


def _check(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode()), _CHECK)


def _base62(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits.rjust(width, "0")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
