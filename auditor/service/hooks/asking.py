"""How hooks and watches ask for an audit: as submitters do, by nobody's token, once for each commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from auditor.errors import UsageError
from auditor.service.access.admission import RefusedError, admit
from auditor.service.audits.life import Submission
from auditor.service.audits.order import Depth, Order
from auditor.service.audits.standing import put_back

if TYPE_CHECKING:
    from auditor.service.installation import Installation

_OWNER = "hooks"
_PRIORITY = 6  # people who wait for an answer come first
_TURNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for. Under a `key` that was used before it is the same audit.

    Without one, the request is its own key: whoever says anew that a commit is there gets the same audit.
    """

    source: str
    revision: str | None = None
    depth: Depth = "headers"
    policy: str | None = None
    origin: str | None = None
    key: str | None = None
    # The commit that the branch had before, where it is known.
    before: str | None = None


class Asking:
    """Asks for audits on behalf of hooks and watches."""

    def __init__(self, installation: Installation) -> None:
        self.settings = installation.settings
        self._database = installation.database
        self._audits = installation.audits

    def order(self, connection: Connection, asked: Asked) -> Order:
        """The order, where the settings allow the source, with the policy as it is now. Raises UsageError."""
        try:
            return admit(
                connection,
                self.settings,
                source=asked.source,
                revision=asked.revision,
                depth=asked.depth,
                policy=asked.policy,
                priority=_PRIORITY,
                origin=asked.origin,
            )
        except RefusedError as error:
            raise UsageError(error.reason) from None

    def submit_within(self, connection: Connection, asked: Asked) -> Submission:
        """Submit as a part of the caller's transaction. Raises UsageError, QueueFullError."""
        order = self.order(connection, asked)
        key = asked.key or f"order {order.digest}"
        made = self._audits.submit_within(connection, order, owner=_OWNER, key=key, body="")
        if asked.before is not None and not made.created:
            put_back(connection, made.audit, asked.before)
        return made

    def submit(self, asked: Sequence[Asked]) -> list[Submission]:
        """Submit all or none. Raises UsageError, QueueFullError."""

        def submitted(connection: Connection) -> list[Submission]:
            return [self.submit_within(connection, each) for each in asked]

        for turn in range(_TURNS):
            try:
                return self._database.together(submitted)
            except IntegrityError:  # somebody else was first with one of them: theirs is committed now
                if turn == _TURNS - 1:
                    raise
        return []
