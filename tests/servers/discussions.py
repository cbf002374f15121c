"""A stand-in of the hub's discussions and pull requests, as its real client reads and writes them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from tests.servers.serving import Reply, Request

_AT = "2026-11-28T22:00:00.000Z"
_PAGE = 2


@dataclass
class Discussion:
    """One discussion, or a pull request, with its comments by their ids."""

    number: int
    title: str
    pull: bool
    comments: dict[str, str] = field(default_factory=dict)
    edited: dict[str, int] = field(default_factory=dict)
    status: str = "open"


class Discussions:
    """The discussions of a repository: listed in pages, opened, commented, and their comments edited."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.every: dict[int, Discussion] = {}

    def open(self, title: str, text: str, *, pull: bool = False) -> Discussion:
        """A new one, with its first comment."""
        found = Discussion(len(self.every) + 1, title, pull)
        self.every[found.number] = found
        self.comment(found, text)
        return found

    def comment(self, discussion: Discussion, text: str) -> str:
        """A new comment; its id."""
        id = f"{discussion.number:012x}{len(discussion.comments):012x}"  # noqa: A001  # what it is
        discussion.comments[id] = text
        return id

    def answer(self, path: str, request: Request) -> Reply:
        """What the hub answers below …/discussions."""
        sent = json.loads(request.body) if request.body else {}
        if path == "":
            if request.method == "GET":
                return _json(self._list(request))
            opened = self.open(sent["title"], sent["description"], pull=sent.get("pullRequest", False))
            return _json({"num": opened.number})
        found = re.fullmatch(r"/(\d+)(?:/comment(?:/([0-9a-f]+)/edit)?)?", path)
        discussion = self.every.get(int(found[1])) if found else None
        if found is None or discussion is None:
            return Reply(404, b'{"error":"Not found"}')
        if request.method == "GET":
            return _json(
                self._told(discussion) | {"events": [_event(discussion, each) for each in discussion.comments]}
            )
        if found[2] is None:
            return _json({"newMessage": _event(discussion, self.comment(discussion, sent["comment"]))})
        if found[2] not in discussion.comments:
            return Reply(404, b'{"error":"Not found"}')
        discussion.comments[found[2]] = sent["content"]
        discussion.edited[found[2]] = discussion.edited.get(found[2], 0) + 1
        return _json({"updatedComment": _event(discussion, found[2])})

    def _list(self, request: Request) -> dict[str, Any]:
        query = request.query
        kind, status, page = query.get("type"), query.get("status"), int(query.get("p", "0"))
        found = [
            each
            for each in reversed(self.every.values())
            if (kind in (None, "all") or each.pull == (kind == "pull_request")) and status in (None, "all", each.status)
        ]
        start = page * _PAGE
        told = [self._told(each) for each in found[start : start + _PAGE]]
        return {"discussions": told, "count": len(found), "start": start}

    def _told(self, discussion: Discussion) -> dict[str, Any]:
        told: dict[str, Any] = {
            "num": discussion.number,
            "title": discussion.title,
            "status": discussion.status,
            "isPullRequest": discussion.pull,
            "createdAt": _AT,
            "author": {"name": "somebody"},
            "repo": {"name": self.repository, "type": "model"},
        }
        if discussion.pull:
            told |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": []}
        return told


def _event(discussion: Discussion, id: str) -> dict[str, Any]:  # noqa: A002  # what it is
    raw = discussion.comments[id]
    latest = {"raw": raw, "html": "", "updatedAt": _AT, "author": {"name": "somebody"}}
    data = {"edited": id in discussion.edited, "hidden": False, "latest": latest, "history": [latest]}
    return {"id": id, "type": "comment", "createdAt": _AT, "author": {"name": "somebody"}, "data": data}


def _json(body: Any) -> Reply:
    return Reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
