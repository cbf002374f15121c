"""The status of a commit on GitLab, where something there asked for the audit."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pydantic import Field

from auditor.service.notify.call import Answer, Call
from auditor.service.notify.kind import Address, Kind, Patterns, as_json, commits, place_of
from auditor.service.notify.message import Message, summary

_DESCRIPTION = 255
_STATES = {"passed": "success", "failed": "failed"}


class Gitlab(Kind):
    """Told of commits of the projects that are named; the secret is a token with the scope api."""

    api: Address = Field(default="https://gitlab.com/api/v4", description="The API, another one of an own GitLab.")
    repositories: Patterns = Field(description="Projects as group/name or group/*; others are left alone.")
    name: str = Field(default="checkpoint-auditor", min_length=1, max_length=100, description="The status's name.")

    @property
    def address(self) -> str:
        """Where the target is."""
        return self.api

    def places(self, audit: Mapping[str, Any], origins: Iterable[str]) -> list[str | None]:  # noqa: ARG002  # as Kind has it
        """The commits that asked for the audit."""
        return commits("gitlab", origins, self.repositories)

    def tell(self, message: Message, call: Call, secret: str) -> Answer:
        """Set the status."""
        project, commit = place_of(message.origin)
        audit = message.audit
        state = "canceled" if audit["state"] == "cancelled" else _STATES.get(audit["verdict"], "failed")
        answer = call.ask(
            "POST",
            f"{self.api.rstrip('/')}/projects/{quote(project, safe='')}/statuses/{commit}",
            {"PRIVATE-TOKEN": secret, "Content-Type": "application/json"},
            as_json(
                state=state,
                target_url=audit["links"]["page"],
                description=summary(audit)[:_DESCRIPTION],
                name=self.name,
            ),
        )
        if answer.status == 400 and b"Cannot transition status" in answer.data:
            # A status is not set to what it is: it was told before, and the answer was lost.
            return replace(answer, status=200)
        return answer
