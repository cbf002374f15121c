"""A checkpoint on the hub, hf://org/name[@revision]: authenticated as huggingface_hub is, read in ranges."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from auditor.errors import ReadError, SourceError, Unread, UsageError
from auditor.sources.entry import Entry
from auditor.sources.http.answer import RefusedError
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.sources.http.transport import Transport
from auditor.sources.remote import Remote, needs
from auditor.text import quoted, shown

if TYPE_CHECKING:
    from auditor.sources.cache import Cache
    from auditor.sources.http.answer import Answer

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LISTING_BYTES = 64 << 20  # of the hub's answer about a repository, in which 100,000 files take some 40 MB
_HEAD_BYTES = 1 << 20
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/ -]{0,254}")


def open_at(source: str, *, guard: Guard, cache: Cache | None, revision: str | None) -> Hub:
    """The repository that hf://org/name[@revision] names. Raises UsageError where that is not what it says."""
    repository, revision = named(source, revision)
    return Hub(repository, revision, guard=guard, cache=cache)


def named(source: str, revision: str | None) -> tuple[str, str | None]:
    """Repository and revision of hf://org/name[@revision]. Raises UsageError where that is not what it says."""
    repository, at, named = source.partition("://")[2].rstrip("/").partition("@")
    if at and revision is not None and named != revision:
        raise UsageError(f"two revisions, {quoted(named)} in the source and {quoted(revision)} in --revision: give one")
    revision = named if at else revision
    if ":" in repository:  # nothing of it is repeated
        raise UsageError("hf://org/name takes no credentials: HF_TOKEN or `hf auth login` gives them")
    names = repository.split("/")
    if not 1 <= len(names) <= 2 or not all(_NAME.fullmatch(name) for name in names):
        raise UsageError(f"{quoted(repository)} is not a repository: hf://org/name or hf://org/name@revision")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"{quoted(revision)} is not a revision: give a branch, a tag or a commit")
    return repository, revision


class Hub(Remote):
    """A repository at one commit: a branch or tag is resolved once, with the listing, and read at that commit.

    Its storage may be on other hosts, to which the hub redirects; they get no credentials.
    """

    def __init__(self, repository: str, revision: str | None, *, guard: Guard, cache: Cache | None) -> None:
        try:
            from huggingface_hub import constants, utils
        except ImportError:
            raise needs("huggingface_hub", "hf") from None
        self._client: Any = utils
        # The client reads its environment when it is imported, which may have been long ago.
        self._endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        guard.admit(self._endpoint)
        self._offline = bool(constants.HF_HUB_OFFLINE)
        self._repository = repository
        self._named = revision
        host = urlsplit(self._endpoint).hostname or ""
        self._stored: dict[str, str] = {}
        super().__init__(
            uri=f"hf://{repository}",
            location=f"hf://{repository} {host}",
            transport=Transport(guard, abroad=True),
            cache=cache,
        )
        self._token: dict[str, str] | None = None

    def head(self) -> str:
        """The commit that the revision is at now, asked for without the list of files."""
        return self._asked("expand=sha", _HEAD_BYTES, _Head).sha

    def _list(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:
        told, name = self._asked("blobs=true", _LISTING_BYTES, _Repository), self._name
        self.revision = told.sha
        files: dict[str, Entry] = {}
        for each in told.siblings:
            if len(files) >= limit:
                return files, Unread(f"the repository holds more than {limit:,} files (limit files)", "limit")
            files[each.rfilename] = _entry(each, name)
        return files, None

    @property
    def _name(self) -> str:
        return f"{self.uri}{'' if self._named is None else '@' + shown(self._named)}"

    def _asked(self, query: str, most: int, told: type[_Told]) -> _Told:
        """What the hub says of the repository at the revision."""
        name = self._name
        if self._offline:
            raise SourceError(f"{name}: HF_HUB_OFFLINE is set, and the hub is not asked", code="not_allowed")
        at = "" if self._named is None else f"/revision/{quote(self._named, safe='')}"
        url = f"{self._endpoint}/api/models/{self._repository}{at}?{query}"
        try:
            answer = self.transport.fetch(name, lambda _: Located(url, self._credentials()), 0, most, whole=True)
        except RefusedError as error:
            raise SourceError(f"{name}: {_refusal(error)}", code=error.code) from None
        except ReadError as error:
            raise SourceError(str(error), code=error.code) from None
        try:
            found = msgspec.json.decode(answer.data, type=told)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            what = f"the hub's list of files cannot be used: {shown(str(error))}"
            raise SourceError(f"{name}: {what}", code="unusable") from None
        if not _COMMIT.fullmatch(found.sha):
            raise SourceError(f"{name}: the hub names no commit", code="unusable")
        return found

    def _credentials(self) -> dict[str, str]:
        """The token, where the client has one, for the hub alone."""
        if self._token is None:
            headers = self._client.build_hf_headers()
            self._token = {name: value for name, value in headers.items() if name.lower() == "authorization"}
        return self._token

    def _locate(self, path: str, renew: bool) -> Located:
        stored = None if renew else self._stored.get(path)
        if stored is not None:  # a second read goes where the first was sent
            return Located(stored, {})
        url = f"{self._endpoint}/{self._repository}/resolve/{self.revision}/{quote(path)}"
        return Located(url, self._credentials())

    def _fetch(self, path: str, begin: int, end: int, **options: Any) -> Answer:
        # The hub's names for contents (digests) are no ETags of its storage's: commits do not change.
        etag = options.pop("etag", None)
        known = self.entry(path)
        answer = super()._fetch(path, begin, end, etag=None if etag == known.etag else etag, **options)
        if urlsplit(answer.url).hostname != urlsplit(self._endpoint).hostname:
            self._stored[path] = answer.url
        return answer


class _File(msgspec.Struct):
    """One file of the hub's list; what it says of the file is looked at by itself, so that the file can be named."""

    rfilename: str
    size: msgspec.Raw = msgspec.Raw(b"null")
    blobId: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815  # the hub's word
    lfs: msgspec.Raw = msgspec.Raw(b"null")


class _Head(msgspec.Struct):
    """What the hub says of a repository at a revision: the commit."""

    sha: str


class _Repository(_Head):
    """The same with its files, as far as they are wanted."""

    siblings: list[_File]


_Told = TypeVar("_Told", bound=_Head)


class _Large(msgspec.Struct):
    sha256: str | None = None
    size: int | None = None


def _entry(file: _File, name: str) -> Entry:
    """A file as listed; raises SourceError, which names it, where the hub says of it what cannot be."""
    try:
        size = msgspec.json.decode(file.size, type=int | None)
        blob = msgspec.json.decode(file.blobId, type=str | None)
        large = msgspec.json.decode(file.lfs, type=_Large | None) or _Large()
        size = large.size if size is None else size
        if size is not None and not 0 <= size < 1 << 63:
            raise msgspec.ValidationError(f"a size of {size:,}")
        if large.sha256 is not None and not _SHA256.fullmatch(large.sha256):
            raise msgspec.ValidationError("a digest that is none")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        told = f"says of {shown(file.rfilename[:255])} what cannot be used: {shown(str(error))}"
        raise SourceError(f"{name}: the hub's list of files {told}", code="unusable") from None
    etag = large.sha256 or blob
    return Entry("file", size or 0, etag=etag, sha256=large.sha256, sized=size is not None)


def _refusal(error: RefusedError) -> str:
    """Why the hub does not list, in words of ours."""
    told = f" (HTTP {error.status})"
    if error.word == "GatedRepo":
        return f"access to this gated repository has not been granted to the token in use{told}"
    if error.word == "RevisionNotFound":
        return f"no such revision{told}"
    if error.word == "RepoNotFound" or error.status in (401, 404):
        return f"no such repository, or it is private and the token in use does not open it{told}"
    if error.status == 403:
        return f"the hub does not accept the token in use{told}"
    return f"the hub answers HTTP {error.status}"
