"""A webhook of anybody who has the secret, signed as Standard Webhooks has it: it says what is to be audited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from auditor.service.audits.order import Depth
from auditor.service.hooks.asking import Asked
from auditor.service.hooks.incoming import MalformedError, Read
from auditor.text import shown

if TYPE_CHECKING:
    from auditor.service.settings.tables import GenericHook

_ID = re.compile(r"[\x21-\x7e]{1,200}")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Commit(_Body):
    """The commit whose status tells how the audit ended, where a target for it is on."""

    at: Literal["github", "gitlab"]
    repository: str = Field(pattern=r"^[A-Za-z0-9._/-]{1,200}$", examples=["owner/name"])
    commit: str = Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")


class GenericBody(_Body):
    """What is to be audited. Depth and policy are those of the settings where they are absent."""

    source: Annotated[str, Field(min_length=1, max_length=2000)] = Field(examples=["hf://org/name"])
    revision: str | None = Field(default=None, min_length=1, max_length=255)
    depth: Depth | None = None
    policy: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    status: Commit | None = None


def authentic(hook: GenericHook, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a signature is good, and no more than five minutes old by this machine's clock."""
    if hook.secret is None or not _ID.fullmatch(headers.get("webhook-id", "")):
        return False
    try:
        Webhook(hook.secret.get_secret_value()).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # the library's own for what is no base64, no pair, no UTF-8
        return False
    return True


def read(hook: GenericHook, headers: Mapping[str, str], body: bytes) -> Read:
    """The audit that it asks for; the same id asks for the same one. Raises MalformedError."""
    try:
        asked = GenericBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(shown(str(each))[:64] for each in first["loc"][:8])
        raise MalformedError(f"{where}: {first['msg'].lower()}" if where else "not JSON") from None
    status = asked.status
    return Read(
        (
            Asked(
                source=asked.source,
                revision=asked.revision,
                depth=asked.depth or hook.depth,
                policy=asked.policy or hook.policy,
                origin="generic" if status is None else f"{status.at}:{status.repository}@{status.commit}",
                key=f"generic {headers['webhook-id']}",
            ),
        )
    )
