"""GitHub's webhook for pushes: what a push to which repository means, the settings say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from auditor.service.hooks.asking import Asked
from auditor.service.hooks.incoming import MalformedError, Read, decoded, matches, signed

if TYPE_CHECKING:
    from auditor.service.settings.tables import GithubHook

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"refs/(?:heads|tags)/([A-Za-z0-9][A-Za-z0-9._/+-]{0,199})")


class _Repository(msgspec.Struct):
    full_name: str


class _Push(msgspec.Struct):
    ref: str
    after: str
    repository: _Repository
    deleted: bool = False


def authentic(hook: GithubHook, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether X-Hub-Signature-256 is the body's."""
    return hook.secret is not None and signed(headers.get("x-hub-signature-256"), hook.secret, body)


def read(hook: GithubHook, headers: Mapping[str, str], body: bytes) -> Read:
    """The audit that a push asks for; the same body, which is what was signed, asks for the same one.

    Raises MalformedError.
    """
    if headers.get("x-github-event") != "push":
        return Read(ignored="another event than push")
    push = decoded(body, _Push)
    if push.deleted or not push.after.strip("0"):
        return Read(ignored="a ref that was deleted")
    if not _COMMIT.fullmatch(push.after):
        raise MalformedError("after: no commit")
    name = push.repository.full_name.lower()
    found = next((each for each in hook.repositories if each.lower() == name), None)
    if found is None:
        return Read(ignored="a repository that the settings do not name")
    meant = hook.repositories[found]
    ref = _REF.fullmatch(push.ref)
    wanted = matches(push.ref, {"refs/heads/": hook.branches, "refs/tags/": hook.tags})
    if ref is None or ".." in push.ref or not wanted:
        return Read(ignored="a ref that the settings do not name")

    def filled(text: str) -> str:
        return text.replace("{commit}", push.after).replace("{branch}", ref[1])

    return Read(
        (
            Asked(
                source=filled(meant.source),
                revision=None if meant.revision is None else filled(meant.revision),
                depth=hook.depth,
                policy=hook.policy,
                origin=f"github:{found}@{push.after}"[:300],
                key=f"github {hashlib.sha256(body).hexdigest()}",
            ),
        )
    )
