"""The status of a commit on GitLab, where something there asked for the audit."""

from dataclasses import replace
from typing import ClassVar
from urllib.parse import quote

from pydantic import Field

from auditor.service.notify.call import Answer, Call
from auditor.service.notify.kind import Address, Patterns
from auditor.service.notify.message import Message
from auditor.service.notify.status import Status, place_of

_STATES = {"passed": "success", "failed": "failed"}


class Gitlab(Status):
    """Told of commits of the projects that are named; the secret is a token with the scope api."""

    scheme: ClassVar[str] = "gitlab"
    longest: ClassVar[int] = 255

    api: Address = Field(default="https://gitlab.com/api/v4", description="The API, another one of an own GitLab.")
    repositories: Patterns = Field(description="Projects as group/name or group/*; others are left alone.")
    name: str = Field(default="checkpoint-auditor", min_length=1, max_length=100, description="The status's name.")

    def tell(self, message: Message, call: Call, secret: str) -> Answer:
        """Set the status."""
        project, commit = place_of(message.origin)
        audit = message.audit
        state = "canceled" if audit["state"] == "cancelled" else _STATES.get(audit["verdict"], "failed")
        path = f"/projects/{quote(project, safe='')}/statuses/{commit}"
        answer = self.set(message, call, path, {"PRIVATE-TOKEN": secret}, state=state, name=self.name)
        if answer.status == 400 and b"Cannot transition status" in answer.data:
            # A status is not set to what it is: it was told before, and the answer was lost.
            return replace(answer, status=200)
        return answer
