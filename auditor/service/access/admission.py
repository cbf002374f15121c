"""From what somebody asks for to an order: the source judged, the policy and the baseline found."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, select

from auditor.errors import UsageError
from auditor.families import family_names
from auditor.service.access.sources import judge
from auditor.service.audits import policies
from auditor.service.audits.order import Depth, Order
from auditor.service.settings import Settings
from auditor.service.store.tables import audits


class RefusedError(Exception):
    """What was asked for cannot be; `field` says what of it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def admit(
    connection: Connection,
    settings: Settings,
    *,
    source: str,
    revision: str | None = None,
    depth: Depth = "headers",
    family: str | None = None,
    policy: str | None = None,
    policy_text: str | None = None,
    baseline: str | None = None,
    seed: int | None = None,
    force: bool = False,
    priority: int = 5,
    origin: str | None = None,
) -> Order:
    """The order for a request. `policy` names one, `policy_text` is one; `baseline` is a finished audit.

    Raises RefusedError. Whether the caller may give the text of a policy is for the caller's side to judge.
    """
    try:
        judged = judge(source, revision, settings.sources)
    except UsageError as error:
        raise RefusedError("source", str(error)) from None
    if family is not None and family not in (known := family_names()):
        raise RefusedError("family", f"there is no such family: {' or '.join(known)}")
    return Order(
        source=judged.source,
        revision=judged.revision,
        depth=depth,
        family=family,
        policy=policy,
        policy_text=_policy(connection, policy, policy_text),
        baseline=None if baseline is None else _baseline(connection, baseline),
        # Elsewhere nothing is drawn, and requests that differ in it alone are the same.
        seed=seed if depth == "sample" else None,
        force=force,
        priority=priority,
        origin=origin,
    )


def again(connection: Connection, settings: Settings, row: Row[Any], *, origin: str | None = None) -> Order:
    """The order that repeats an audit, with its named policy as it is now; finished ones do not answer it.

    Raises RefusedError for what the settings no longer allow.
    """
    order = admit(
        connection,
        settings,
        source=row.source,
        revision=row.revision,
        depth=row.depth,
        family=row.family,
        policy=row.policy,
        seed=row.seed,
        force=True,
        priority=row.priority,
        origin=origin,
    )
    text = order.policy_text if row.policy is not None else row.policy_text
    return replace(order, policy_text=text, baseline=row.baseline)


def _policy(connection: Connection, name: str | None, text: str | None) -> str | None:
    if name is not None and text is not None:
        raise RefusedError("policy_text", "there is a policy's name and a policy's text: give one")
    try:
        if name is not None:
            return str(policies.named(connection, name).text)
        if text is not None:
            policies.check(text)
    except policies.NoPolicyError as error:
        raise RefusedError("policy", str(error)) from None
    except UsageError as error:
        raise RefusedError("policy_text", str(error)) from None
    return text


def _baseline(connection: Connection, audit: str) -> str:
    row = connection.execute(select(audits.c.report, audits.c.verdict).where(audits.c.id == audit)).one_or_none()
    if row is None or row.report is None:
        raise RefusedError("baseline", "there is no finished audit of that id")
    return str(row.report)
