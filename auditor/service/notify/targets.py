"""Targets: who is told of every final state. There is none until an administrator adds one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import ValidationError
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from auditor.errors import SourceError, UsageError
from auditor.service.notify.github import Github
from auditor.service.notify.gitlab import Gitlab
from auditor.service.notify.hub import Hub
from auditor.service.notify.kind import Kind
from auditor.service.notify.webhook import Webhook
from auditor.service.store.database import Database, new_id, now
from auditor.service.store.rows import Rows
from auditor.service.store.tables import targets
from auditor.sources.http.hosts import Guard
from auditor.text import quoted, shown

if TYPE_CHECKING:
    from auditor.service.settings import Settings

KindName = Literal["webhook", "github", "gitlab", "hub"]
KINDS: dict[str, type[Kind]] = {"webhook": Webhook, "github": Github, "gitlab": Gitlab, "hub": Hub}
assert tuple(KINDS) == get_args(KindName)


class Targets(Rows):
    """The targets of an installation. A row holds the name of a secret, never a secret: those are in the settings."""

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, targets)
        self._notify = settings.notify

    def add(self, kind: str, name: str, options: Mapping[str, Any]) -> str:
        """A new target, which is told from now on; its id. Raises UsageError for what cannot be told."""
        checked = self._checked(kind, options)
        if not (0 < len(name) <= 100) or shown(name) != name:
            raise UsageError("the name of a target has 1 to 100 characters that can be shown")
        try:
            with self._database.write() as connection:
                at = now(connection)
                id = new_id(at)  # noqa: A001  # what it is everywhere
                row = {"id": id, "kind": kind, "name": name, "options": checked.model_dump_json(), "created_at": at}
                connection.execute(insert(targets).values(row))
        except IntegrityError:
            raise UsageError(f"there is a target named {quoted(name)}") from None
        return id

    def off(self, id: str, reason: str) -> bool:  # noqa: A002  # what it is everywhere
        """Tell a target no more, until it is on again; whether there is one of that id."""
        with self._database.write() as connection:
            return switched_off(connection, id, reason)

    def on(self, id: str) -> bool:  # noqa: A002  # likewise
        """Tell a target again, of what ends from now on; whether there is one of that id."""
        with self._database.write() as connection:
            changed = connection.execute(update(targets).where(targets.c.id == id).values(off_at=None, off_reason=None))
        return changed.rowcount == 1

    def _checked(self, kind: str, options: Mapping[str, Any]) -> Kind:
        if kind not in KINDS:
            raise UsageError(f"{quoted(kind)} is no kind of target: give {', '.join(KINDS)}")
        try:
            checked = KINDS[kind].model_validate(dict(options))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = shown(".".join(map(str, first["loc"])))
            raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
        if checked.secret not in self._notify.secrets:
            raise UsageError(f"secret: the settings have none named '{checked.secret}' (notify.secrets)")
        try:
            Guard(frozenset(self._notify.hosts), private=self._notify.private).admit(checked.address)
        except SourceError as error:
            raise UsageError(f"{error} (notify.hosts)") from None
        return checked


def switched_off(connection: Any, id: str, reason: str) -> bool:  # noqa: A002  # what it is everywhere
    """Note, within the caller's transaction, that a target is told no more; the first reason stays."""
    known = connection.execute(select(targets.c.off_at).where(targets.c.id == id)).one_or_none()
    if known is not None and known.off_at is None:
        connection.execute(
            update(targets).where(targets.c.id == id).values(off_at=now(connection), off_reason=reason[:500])
        )
    return known is not None
