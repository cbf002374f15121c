"""A stand-in of the hub's API for its real client: repository information, tree, resolve, LFS storage elsewhere.

After the hub's documented API: a revision is resolved to a commit; `blobs=true` adds sizes, git ids and LFS digests;
`resolve` answers small files itself and redirects large ones to presigned storage on another host, which knows
nothing of tokens; refusals name their kind in X-Error-Code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote

from tests.servers.discussions import Discussions
from tests.servers.serving import Reply, Request, Server, ranged

SIGNATURE = "signature-of-the-storage"


class Hub:
    """One repository with its revisions: each a folder, named by a commit; `main` is the last one given."""

    def __init__(self, repository: str, folder: Path, *, token: str | None = None, gated: bool = False) -> None:
        self.repository = repository
        self.token = token
        self.gated = gated
        self.valid = SIGNATURE
        self.revisions: dict[str, Path] = {}
        self.branches: dict[str, str] = {}
        self.main = self.push(folder)
        self.discussions = Discussions(repository)
        self.storage = Server(self._stored, "127.0.0.2")
        self.api = Server(self._answer)
        self.url = self.api.url
        self.storage_url = self.storage.url

    def push(self, folder: Path) -> str:
        """A new commit, which `main` is from now on."""
        self.main = self.branch("main", folder)
        return self.main

    def branch(self, ref: str, folder: Path) -> str:
        """A new commit, which the ref leads to from now on."""
        commit = hashlib.sha1(f"{len(self.revisions)}{folder}".encode()).hexdigest()
        self.revisions[commit] = folder
        self.branches[ref] = commit
        return commit

    def close(self) -> None:
        """Stop both servers."""
        self.api.close()
        self.storage.close()

    @property
    def requests(self) -> list[Request]:
        """What both were asked."""
        return [*self.api.requests, *self.storage.requests]

    def _commit(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.revisions else None)

    def _answer(self, request: Request) -> Reply:
        path = unquote(request.target.path).lstrip("/")
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        inform = self._head if request.query.get("expand") == "sha" else self._information
        if path == f"api/models/{self.repository}":
            return inform(self.main)
        if path.startswith(start := f"api/models/{self.repository}/revision/"):
            return self._at(path.removeprefix(start), inform)
        if path.startswith(start := f"api/models/{self.repository}/discussions"):
            return self.discussions.answer(path.removeprefix(start), request)
        if path.startswith(start := f"api/models/{self.repository}/tree/"):
            return self._at(path.removeprefix(start), self._tree)
        if path.startswith(start := f"{self.repository}/resolve/"):
            revision, _, name = path.removeprefix(start).partition("/")
            commit = self._commit(revision)
            if commit is None:
                return Reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return self._resolve(commit, name, request)
        return Reply(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def _at(self, revision: str, answer: object) -> Reply:
        commit = self._commit(revision)
        if commit is None:
            return Reply(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        return answer(commit)  # type: ignore[operator]

    def _information(self, commit: str) -> Reply:
        siblings = []
        for file in self._files(commit):
            one = {"rfilename": file["path"], "size": file["size"], "blobId": file["oid"]}
            if "lfs" in file:
                one["lfs"] = {"sha256": file["lfs"]["oid"], "size": file["size"], "pointerSize": 135}
            siblings.append(one)
        body = {"id": self.repository, "modelId": self.repository, "sha": commit, "private": self.token is not None}
        body |= {"gated": "manual" if self.gated else False, "tags": [], "downloads": 0, "likes": 0}
        return Reply(200, json.dumps({**body, "siblings": siblings}).encode(), {"Content-Type": "application/json"})

    def _head(self, commit: str) -> Reply:
        body = {"_id": "621ffdc036468d709f17434d", "id": self.repository, "sha": commit}
        return Reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _tree(self, commit: str) -> Reply:
        return Reply(200, json.dumps(self._files(commit)).encode(), {"Content-Type": "application/json"})

    def _files(self, commit: str) -> list[dict[str, object]]:
        root, found = self.revisions[commit], []
        for path in sorted(each for each in root.rglob("*") if each.is_file()):
            size = path.stat().st_size
            file = {"type": "file", "path": path.relative_to(root).as_posix(), "size": size, "oid": _id(path, "sha1")}
            if path.suffix == ".safetensors":
                file["lfs"] = {"oid": _id(path, "sha256"), "size": size, "pointerSize": 135}
            found.append(file)
        return found

    def _resolve(self, commit: str, name: str, request: Request) -> Reply:
        path = self.revisions[commit] / name
        if self.gated:
            return Reply(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if not path.is_file():
            return Reply(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
        named = {"X-Repo-Commit": commit, "X-Linked-Size": str(path.stat().st_size)}
        if path.suffix != ".safetensors":
            reply = ranged(path, request, f'"{_id(path, "sha1")}"')
            return Reply(reply.status, reply.body, {**reply.headers, **named})
        where = f"{self.storage_url}/{commit}/{name}?X-Amz-Expires=3600&X-Amz-Signature={self.valid}"
        return Reply(302, b"", {**named, "X-Linked-Etag": f'"{_id(path, "sha256")}"', "Location": where})

    def _stored(self, request: Request) -> Reply:
        if request.query.get("X-Amz-Signature") != SIGNATURE:
            return Reply(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
        commit, _, name = unquote(request.target.path).lstrip("/").partition("/")
        return ranged(self.revisions[commit] / name, request)


def _id(path: Path, kind: str) -> str:
    """The digest of a small file; of a large sparse one a stand-in that changes with size, time and name."""
    status = path.stat()
    if status.st_size < 16 << 20:
        return hashlib.new(kind, path.read_bytes()).hexdigest()
    return hashlib.new(kind, f"{path.name} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
