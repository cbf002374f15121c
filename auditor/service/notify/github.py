"""The status of a commit on GitHub, where a push there asked for the audit."""

from typing import ClassVar
from urllib.parse import quote

from pydantic import Field

from auditor.service.notify.call import Answer, Call
from auditor.service.notify.kind import Address, Patterns
from auditor.service.notify.message import Message
from auditor.service.notify.status import Status, place_of

_STATES = {"passed": "success", "failed": "failure"}


class Github(Status):
    """Told of commits of the repositories that are named; the secret is a token that may write commit statuses."""

    scheme: ClassVar[str] = "github"
    longest: ClassVar[int] = 140

    api: Address = Field(default="https://api.github.com", description="The API, another one of GitHub Enterprise.")
    repositories: Patterns = Field(description="Repositories as owner/name or owner/*; others are left alone.")
    context: str = Field(default="checkpoint-auditor", min_length=1, max_length=100, description="The status's name.")

    def tell(self, message: Message, call: Call, secret: str) -> Answer:
        """Set the status: an audit that gave no verdict is an error, not a failure."""
        repository, commit = place_of(message.origin)
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {secret}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        state = _STATES.get(message.audit["verdict"], "error")
        path = f"/repos/{quote(repository)}/statuses/{commit}"
        return self.set(message, call, path, headers, state=state, context=self.context)
