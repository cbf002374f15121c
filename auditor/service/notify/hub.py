"""The hub: one comment for each pull request, edited in place, and by choice one discussion for a failing branch.

The addresses, bodies and authentication are those of huggingface_hub's discussion calls (a test holds one against the
other). The asking is done here, as for sources: the library follows redirects, waits without end, and connects to any
address. What was written before is found by the message's mark in it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import Field

from auditor.service.notify.call import Answer, Call, UntoldError
from auditor.service.notify.kind import Address, Kind, Patterns, as_json, listed
from auditor.service.notify.message import Message, summary

_PULL = re.compile(r"refs/pr/([1-9][0-9]{0,8})")
_BRANCH = "refs/heads/"
_SOURCE = re.compile(r"hf://([A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?)(?:@.*)?")
_ID = re.compile(r"[0-9a-f]{1,64}")
_MOST = 8 << 20
_PAGES = 10


class Hub(Kind):
    """Told of audits of the repositories that are named; the secret is a token that may write discussions."""

    endpoint: Address = Field(default="https://huggingface.co", description="The hub.")
    repositories: Patterns = Field(description="Repositories as org/name or org/*; others are left alone.")
    pulls: bool = Field(default=True, description="Whether pull requests get a comment.")
    branches: Patterns = Field(
        default=(), description="Branches, as patterns, of which a failing one gets a discussion; none unless named."
    )

    @property
    def address(self) -> str:
        """Where the target is."""
        return self.endpoint

    def places(self, audit: Mapping[str, Any], origins: Iterable[str]) -> list[str | None]:
        """The refs that asked for the audit, `hub:refs/…`; a pull request that was named as the revision, too."""
        if not listed(_repository(audit), self.repositories):
            return []
        refs = [each.removeprefix("hub:") for each in origins if each.startswith("hub:")]
        refs.append(audit["revision"] or "")
        return [f"hub:{each}" for each in dict.fromkeys(refs) if self._wanted(each)]

    def tell(self, message: Message, call: Call, secret: str) -> Answer:
        """Write, or edit what was written."""
        audit, ref = message.audit, (message.origin or "").removeprefix("hub:")
        discussions = _Discussions(self.endpoint, _repository(audit), secret, call)
        mark = f"<!-- checkpoint-auditor {message.mark} -->"
        text = f"{_text(audit, ref)}\n\n{mark}"
        if pull := _PULL.fullmatch(ref):
            return discussions.say(int(pull[1]), mark, text)
        title = f"Audit of branch {ref.removeprefix(_BRANCH)}"
        number = discussions.find(title, mark)
        if number is not None:
            return discussions.say(number, mark, text)
        if audit["verdict"] == "failed":
            return discussions.open(title, text)
        return Answer(200, {}, b"nothing to say: the branch has no discussion, and does not fail")

    def _wanted(self, ref: str) -> bool:
        if _PULL.fullmatch(ref):
            return self.pulls
        return ref.startswith(_BRANCH) and listed(ref.removeprefix(_BRANCH), self.branches)


class _Discussions:
    """The discussions of a repository, as the hub's API has them."""

    def __init__(self, endpoint: str, repository: str, token: str, call: Call) -> None:
        self._url = f"{endpoint.rstrip('/')}/api/models/{quote(repository)}/discussions"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._call = call

    def say(self, number: int, mark: str, text: str) -> Answer:
        """Edit the comment that has the mark, or add it."""
        place = f"{self._url}/{number}"
        before = self._comment(number, mark)
        if before is None:
            return self._post(f"{place}/comment", comment=text)
        return self._post(f"{place}/comment/{before}/edit", content=text)

    def open(self, title: str, text: str) -> Answer:
        """Begin a discussion."""
        return self._post(self._url, title=title, description=text, pullRequest=False)

    def find(self, title: str, mark: str) -> int | None:
        """The open discussion that has the mark, among those of the title."""
        seen = 0
        for page in range(_PAGES):
            listing = self._get(f"{self._url}?type=discussion&status=open&p={page}")
            found, count = listing.get("discussions"), listing.get("count")
            if not isinstance(found, list) or not isinstance(count, int):
                raise UntoldError("the hub's list of discussions cannot be used")
            for each in found:
                number = each.get("num")
                if each.get("title") == title and isinstance(number, int) and self._comment(number, mark) is not None:
                    return number
            seen += len(found)
            if seen >= count or not found:
                return None
        return None

    def _comment(self, number: int, mark: str) -> str | None:
        """The first comment with the mark: who copies it comes later."""
        events = self._get(f"{self._url}/{number}").get("events")
        if not isinstance(events, list):
            raise UntoldError("the hub's discussion cannot be used")
        for each in events:
            if each.get("type") == "comment" and mark in str(each.get("data", {}).get("latest", {}).get("raw", "")):
                found = str(each.get("id", "")).lower()
                if _ID.fullmatch(found):
                    return found
        return None

    def _get(self, url: str) -> dict[str, Any]:
        answer = self._call.ask("GET", url, self._headers, most=_MOST)
        if not answer.good:
            raise UntoldError(f"the hub answers HTTP {answer.status}: {answer.kept}")
        told = answer.json()
        if not isinstance(told, dict):
            raise UntoldError("the hub's answer cannot be used")
        return told

    def _post(self, url: str, **fields: Any) -> Answer:
        return self._call.ask("POST", url, {**self._headers, "Content-Type": "application/json"}, as_json(**fields))


def _repository(audit: Mapping[str, Any]) -> str:
    found = _SOURCE.fullmatch(audit["source"])
    return found[1] if found else ""


def _text(audit: Mapping[str, Any], ref: str) -> str:
    """The comment. Every value is a word of ours or stands in a code span that it cannot end."""
    lines = [f"**Checkpoint audit: {summary(dict(audit))}**", ""]
    lines.append(f"- {_code(ref)} at commit {_code(audit['commit'] or 'unknown')}")
    if audit["policy"]:
        lines.append(f"- policy {_code(audit['policy'])}, SHA-256 {_code(audit['policy_sha256'] or '')}")
    if audit["tool"]:
        lines.append(f"- checkpoint-auditor {_code(audit['tool'])}")
    if audit["links"]["page"]:
        lines.append(f"- [the report]({audit['links']['page']})")
    return "\n".join(lines)


def _code(value: str) -> str:
    return "`" + re.sub(r"[^A-Za-z0-9._/@:+ -]", "·", value)[:200] + "`"
