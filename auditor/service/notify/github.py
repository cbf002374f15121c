"""The status of a commit on GitHub, where a push there asked for the audit."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import Field

from auditor.service.notify.call import Answer, Call
from auditor.service.notify.kind import Address, Kind, Patterns, as_json, commits, place_of
from auditor.service.notify.message import Message, summary

_DESCRIPTION = 140
_STATES = {"passed": "success", "failed": "failure"}


class Github(Kind):
    """Told of commits of the repositories that are named; the secret is a token that may write commit statuses."""

    api: Address = Field(default="https://api.github.com", description="The API, another one of GitHub Enterprise.")
    repositories: Patterns = Field(description="Repositories as owner/name or owner/*; others are left alone.")
    context: str = Field(default="checkpoint-auditor", min_length=1, max_length=100, description="The status's name.")

    @property
    def address(self) -> str:
        """Where the target is."""
        return self.api

    def places(self, audit: Mapping[str, Any], origins: Iterable[str]) -> list[str | None]:  # noqa: ARG002  # as Kind has it
        """The commits whose pushes asked for the audit."""
        return commits("github", origins, self.repositories)

    def tell(self, message: Message, call: Call, secret: str) -> Answer:
        """Set the status: an audit that gave no verdict is an error, not a failure."""
        repository, commit = place_of(message.origin)
        audit = message.audit
        return call.ask(
            "POST",
            f"{self.api.rstrip('/')}/repos/{quote(repository)}/statuses/{commit}",
            {
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {secret}",
                "Content-Type": "application/json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
            as_json(
                state=_STATES.get(audit["verdict"], "error"),
                target_url=audit["links"]["page"],
                description=summary(audit)[:_DESCRIPTION],
                context=self.context,
            ),
        )
