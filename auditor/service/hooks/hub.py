"""The Hugging Face hub's webhook: which refs have which commits now. What else it has to say is passed over.

https://huggingface.co/docs/hub/webhooks: scopes may grow narrower ones, payloads fields, and a deleted ref has no
commit. Events of discussions, our own comments among them, have other scopes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from auditor.service.hooks.asking import Asked
from auditor.service.hooks.incoming import MOST, MalformedError, Read, decoded, matches, same

if TYPE_CHECKING:
    from auditor.service.settings.tables import HubHook

_BRANCHES = "refs/heads/"
_CONTENT = "repo.content"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"refs/[A-Za-z0-9._/@+-]{1,250}")
_PULL = re.compile(r"refs/pr/[1-9][0-9]{0,8}")


class _Event(msgspec.Struct):
    scope: str


class _Repository(msgspec.Struct):
    type: str
    name: str


class _Ref(msgspec.Struct):
    ref: str
    newSha: str | None = None  # noqa: N815  # the hub's word
    oldSha: object = None  # noqa: N815  # likewise; a courtesy, of whatever kind


class _Payload(msgspec.Struct):
    event: _Event
    repo: _Repository
    updatedRefs: list[_Ref] | None = None  # noqa: N815  # the hub's word


def authentic(hook: HubHook, headers: Mapping[str, str]) -> bool:
    """Whether the header has the secret; the hub sends it as it is."""
    return hook.secret is not None and same(headers.get("x-webhook-secret"), hook.secret)


def read(hook: HubHook, body: bytes) -> Read:
    """The audits of new commits that it asks for. Raises MalformedError."""
    payload = decoded(body, _Payload)
    scope = payload.event.scope
    if scope != _CONTENT and not scope.startswith(f"{_CONTENT}."):
        return Read(ignored="an event of another scope than repo.content")
    if payload.repo.type != "model":
        return Read(ignored="not a model repository")
    asked: dict[tuple[str, str], Asked] = {}
    for each in payload.updatedRefs or ():
        if each.newSha is None or not _wanted(hook, each.ref):
            continue
        if not _COMMIT.fullmatch(each.newSha):
            raise MalformedError("updatedRefs: a newSha that is no commit")
        asked[each.ref, each.newSha] = Asked(
            source=f"hf://{payload.repo.name}",
            revision=each.newSha,
            depth=hook.depth,
            policy=hook.policy,
            origin=f"hub:{each.ref}",
            before=_before(each),
        )
    every = tuple(asked.values())
    if not every:
        return Read(ignored="no new commit of a ref that the settings name")
    return Read(every[:MOST], f"refs beyond the first {MOST}" if len(every) > MOST else None)


def _wanted(hook: HubHook, ref: str) -> bool:
    if _PULL.fullmatch(ref):
        return hook.pulls
    if not _REF.fullmatch(ref):
        return False
    return matches(ref, {_BRANCHES: hook.branches, "refs/tags/": hook.tags})


def _before(ref: _Ref) -> str | None:
    """The commit that a branch had before."""
    old = ref.oldSha
    return old if ref.ref.startswith(_BRANCHES) and isinstance(old, str) and _COMMIT.fullmatch(old) else None
