"""A checkpoint on the hub, hf://org/name[@revision]: listed and authenticated by huggingface_hub, read in ranges."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from auditor.entry import Entry
from auditor.errors import SourceError, UsageError
from auditor.sources import needs, transport
from auditor.sources.hosts import Guard
from auditor.sources.remote import Remote
from auditor.sources.request import Located
from auditor.sources.transport import Transport
from auditor.text import quoted, shown

if TYPE_CHECKING:
    from auditor.sources.answer import Answer
    from auditor.sources.cache import Cache

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/ -]{0,254}")


def open_at(source: str, *, revision: str | None, guard: Guard, cache: Cache | None) -> Hub:
    """The repository that hf://org/name[@revision] names. Raises UsageError where that is not what it says."""
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
    return Hub(repository, revision, guard=guard, cache=cache)


class Hub(Remote):
    """A repository at one commit: a branch or tag is resolved once, with the listing, and read at that commit.

    Its storage may be on other hosts, to which the hub redirects; they get no credentials.
    """

    direct = False

    def __init__(self, repository: str, revision: str | None, *, guard: Guard, cache: Cache | None) -> None:
        # Asked when this is imported and then for good: nothing but the hub's own host is to hear of an audit.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        try:
            import huggingface_hub
        except ImportError:
            raise needs("huggingface_hub", "hf") from None
        self._hub: Any = huggingface_hub
        # The client reads its environment when it is imported, which may have been long ago.
        self._endpoint = (os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT).rstrip("/")
        guard.admit(self._endpoint)
        self._guard = guard
        self._repository = repository
        self._asked = revision
        host = urlsplit(self._endpoint).hostname or ""
        self._stored: dict[str, str] = {}
        super().__init__(
            uri=f"hf://{repository}",
            location=f"hf://{repository} {host}",
            transport=Transport(guard, abroad=True),
            cache=cache,
        )
        self._token: dict[str, str] | None = None

    def _list(self, limit: int) -> tuple[dict[str, Entry], str | None]:
        info = self._info()
        self.revision = info.sha
        files: dict[str, Entry] = {}
        for each in info.siblings or ():
            if len(files) >= limit:
                return files, f"the repository holds more than {limit:,} files (limit files)"
            sha256 = each.lfs.sha256 if each.lfs is not None else None
            files[each.rfilename] = Entry("file", each.size or 0, etag=sha256 or each.blob_id, sha256=sha256)
        return files, None

    def _info(self) -> Any:
        """What the hub says of the repository at the revision; raises SourceError with the hub's own reason."""
        import time

        name = f"{self.uri}{'' if self._asked is None else '@' + shown(self._asked)}"
        deadline, pause, unreached = time.monotonic() + transport.DEADLINE_S, 0.5, 0
        if not self._guard.private:
            self._guard.addresses(urlsplit(self._endpoint).hostname or "", 443)
        while True:
            try:
                info = self._hub.HfApi(endpoint=self._endpoint).model_info(
                    self._repository, revision=self._asked, files_metadata=True, timeout=10
                )
                break
            except Exception as error:
                status, after = _answered(error)
                transient = status in (None, 408, 425, 429, 500, 502, 503, 504) and _is_transport(error)
                wait = max(pause, after or 0.0)
                unreached += status is None
                if not transient or unreached >= 3 or time.monotonic() + wait > deadline:
                    raise SourceError(f"{name}: {_reason(error, status)}") from None
                time.sleep(wait)
                pause = min(2 * pause, 8.0)
        if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
            raise SourceError(f"{name}: the hub names no commit")
        return info

    def _locate(self, path: str, renew: bool) -> Located:
        if self._token is None:
            headers = self._hub.utils.build_hf_headers()
            self._token = {name: value for name, value in headers.items() if name.lower() == "authorization"}
        stored = None if renew else self._stored.get(path)
        if stored is not None:  # a second read goes where the first was sent
            return Located(stored, {})
        url = f"{self._endpoint}/{self._repository}/resolve/{self.revision}/{quote(path)}"
        return Located(url, self._token)

    def _fetch(self, path: str, begin: int, end: int, **options: Any) -> Answer:
        # The hub's names for contents (digests) are no ETags of its storage's: commits do not change.
        etag = options.pop("etag", None)
        known = self.entry(path)
        answer = super()._fetch(path, begin, end, etag=None if etag == known.etag else etag, **options)
        if urlsplit(answer.url).hostname != urlsplit(self._endpoint).hostname:
            self._stored[path] = answer.url
        return answer


def _answered(error: Exception) -> tuple[int | None, float | None]:
    """The HTTP status behind an error of the client, and how long the server asks to wait."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    after = getattr(response, "headers", {}).get("Retry-After", "") if response is not None else ""
    return status, float(after[:9]) if isinstance(after, str) and after.isdecimal() else None


def _is_transport(error: Exception) -> bool:
    """Whether the error came from the connection or the server, not from what was asked."""
    names = {each.__name__ for each in type(error).__mro__}
    if names & {"OfflineModeIsEnabled", "SSLError"}:
        return False
    return bool(names & {"RequestException", "HTTPError", "TransportError", "HfHubHTTPError", "OSError"})


def _reason(error: Exception, status: int | None) -> str:
    """The error in words of ours: the client's hold addresses and what the server sent."""
    kind = type(error).__name__
    told = "" if status is None else f" (HTTP {status})"
    if kind == "GatedRepoError":
        return f"access to this gated repository has not been granted to the token in use{told}"
    if kind == "RevisionNotFoundError":
        return f"no such revision{told}"
    if kind == "RepositoryNotFoundError":
        return f"no such repository, or it is private and the token in use does not open it{told}"
    if kind == "DisabledRepoError":
        return f"the hub has disabled this repository{told}"
    if status in (401, 403):
        return f"the hub does not accept the token in use{told}"
    if status is not None:
        return f"the hub answers HTTP {status}"
    if kind == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set, and the hub is not asked"
    if "SSL" in kind:
        return "the hub's certificate is not trusted"
    if "timeout" in kind.lower():
        return "the hub does not answer in time"
    return f"the hub cannot be reached ({kind})"
