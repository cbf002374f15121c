"""What GitHub and GitLab have in common: the status of a commit, told where that commit asked for the audit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from auditor.service.notify.call import Answer, Call
from auditor.service.notify.kind import Address, Kind, Patterns, as_json, listed
from auditor.service.notify.message import Message, summary

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Status(Kind):
    """Told of commits of the repositories that are named: origins `scheme:repository@commit`."""

    scheme: ClassVar[str]
    longest: ClassVar[int]  # characters of a description

    api: Address
    repositories: Patterns

    @property
    def address(self) -> str:
        """Where the target is."""
        return self.api

    def places(self, audit: Mapping[str, Any], origins: Iterable[str]) -> list[str | None]:  # noqa: ARG002  # as Kind has it
        """The commits that asked for the audit."""
        return [each for each in origins if self._named(each)]

    def set(self, message: Message, call: Call, path: str, headers: dict[str, str], **fields: str) -> Answer:
        """Set the status at a path of the API, which stands for the commit."""
        audit = message.audit
        sent = as_json(target_url=audit["links"]["page"], description=summary(audit)[: self.longest], **fields)
        return call.ask("POST", self.api.rstrip("/") + path, {"Content-Type": "application/json", **headers}, sent)

    def _named(self, origin: str) -> bool:
        scheme, (repository, commit) = origin.partition(":")[0], place_of(origin)
        plain = not {"", ".", ".."} & set(repository.split("/"))
        return (
            scheme == self.scheme
            and plain
            and _COMMIT.fullmatch(commit) is not None
            and listed(repository, self.repositories)
        )


def place_of(origin: str | None) -> tuple[str, str]:
    """The repository and the commit of an origin."""
    repository, _, commit = (origin or "").partition(":")[2].rpartition("@")
    return repository, commit
