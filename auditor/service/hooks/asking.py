"""How hooks and watches ask for an audit: from an allowed source, with a named policy, once for each commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from auditor.errors import UsageError
from auditor.service.audits.life import Submission
from auditor.service.audits.order import Depth, Order
from auditor.service.store.tables import policies
from auditor.text import quoted

if TYPE_CHECKING:
    from auditor.service.installation import Installation

# A source and a revision as they are kept; raises UsageError where the settings do not allow them.
Judge = Callable[[str, str | None], tuple[str, str | None]]
_OWNER = "hooks"
_TURNS = 3


class Asking:
    """Asks for audits on behalf of nobody's token."""

    def __init__(self, installation: Installation, judge: Judge) -> None:
        self.database = installation.database
        self._audits = installation.audits
        self._judge = judge

    def judge(self, source: str, revision: str | None) -> tuple[str, str | None]:
        """A source and a revision as they are kept. Raises UsageError where the settings do not allow them."""
        return self._judge(source, revision)

    def order(
        self,
        connection: Connection,
        *,
        source: str,
        revision: str | None,
        depth: Depth,
        policy: str | None,
        origin: str | None,
    ) -> Order:
        """The request, with the policy as it is now. Raises UsageError."""
        source, revision = self.judge(source, revision)
        text = None if policy is None else policy_text(connection, policy)
        return Order(
            source=source, revision=revision, depth=depth, policy=policy, policy_text=text, origin=origin, priority=6
        )

    def submit_within(self, connection: Connection, order: Order, key: str | None = None) -> Submission:
        """Submit as a part of the caller's transaction; under a key that was used before it is that audit.

        A request for a commit is its own key: whoever says anew that the commit is there gets the same audit.
        """
        return self._audits.submit_within(connection, order, owner=_OWNER, key=key or f"order {order.digest}", body="")

    def submit(self, orders: Sequence[tuple[Order, str | None]]) -> list[Submission]:
        """Submit all, with their keys, or none. Raises QueueFullError."""
        for turn in range(_TURNS):
            try:
                with self.database.write() as connection:
                    return [self.submit_within(connection, order, key) for order, key in orders]
            except IntegrityError:  # somebody else was first with one of them: theirs is committed now
                if turn == _TURNS - 1:
                    raise
        return []


def policy_text(connection: Connection, name: str) -> str:
    """The TOML of a named policy. Raises UsageError."""
    found = connection.execute(select(policies.c.text).where(policies.c.name == name)).scalar_one_or_none()
    if found is None:
        raise UsageError(f"there is no policy named {quoted(name)}")
    return str(found)
