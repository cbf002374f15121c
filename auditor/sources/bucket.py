"""What s3://, gs:// and az:// share: obstore signs, and listings and files are read as any address is."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from auditor.errors import AuditorError, ReadError, SourceError, Unread, UsageError
from auditor.sources.entry import Entry
from auditor.sources.http import transport
from auditor.sources.http.answer import AbsentError, Answer, RefusedError, same_etag
from auditor.sources.http.hosts import Guard, is_loopback
from auditor.sources.http.request import Located
from auditor.sources.http.status import code_of_status
from auditor.sources.http.transport import Transport
from auditor.sources.listing import PAGE_KEYS, S3, Dialect, listing
from auditor.sources.remote import Remote, needs
from auditor.text import quoted, shown
from auditor.threads import Thread

if TYPE_CHECKING:
    from auditor.sources.cache import Cache
    from auditor_schemas.codes import Code

_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,220}[A-Za-z0-9])?")
_STATUS = re.compile(r"(?:status code: |status: )(\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_SIGNED_S = 3600
_SIGNED_AGAIN_S = 2700


class Access(NamedTuple):
    """How a kind of store is reached: the store and the address of its objects, without a slash at its end.

    `signs`: obstore can sign an address without asking anybody. Otherwise `query` is what goes with each
    address (a SAS token, or nothing for public objects), and None means that obstore has to read as well,
    because nothing but a token in its own hands opens the objects. `page` says where to ask for a page of the listing,
    of which it is given the query; None where obstore has to list as well.
    """

    store: Any
    base: str
    signs: bool
    query: str | None = None
    page: Callable[[str], Located] | None = None
    dialect: Dialect = S3


def places(source: str) -> tuple[str, str]:
    """Bucket and prefix of scheme://bucket/prefix. Raises UsageError where that is not what it says."""
    scheme, _, rest = source.partition("://")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise UsageError(f"{scheme}://bucket/prefix takes no credentials and no port: the environment has them")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{quoted(bucket)} is not a bucket: {scheme}://bucket/prefix")
    prefix = prefix.strip("/")
    if "?" in prefix or "#" in prefix or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise UsageError(f"{scheme}://{bucket}: the prefix is not a plain path")
    return bucket, prefix


def obstore_for(scheme: str) -> Any:
    """The obstore package with its stores, or a line that says what to install."""
    try:
        import obstore.store
    except ImportError:
        raise needs("obstore", scheme) from None
    return obstore


def options(endpoint: str | None) -> dict[str, Any]:
    """How obstore itself asks: plain http on loopback alone, retries within the deadline."""
    parts = urlsplit(endpoint or "")
    return {
        "client_options": {"allow_http": parts.scheme == "http" and is_loopback(parts.hostname or "")},
        "retry_config": {"max_retries": 8, "retry_timeout": timedelta(seconds=transport.DEADLINE_S)},
    }


def setting(*names: str) -> str | None:
    """The first of these environment variables that is set."""
    return next((value for name in names if (value := os.environ.get(name))), None)


def is_set(name: str) -> bool:
    """Whether an environment variable says yes."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


class Bucket(Remote):
    """Objects below a prefix, listed once; each is signed for when it is read, where signing needs nobody."""

    def __init__(
        self,
        source: str,
        *,
        guard: Guard,
        cache: Cache | None,
        reach: Callable[[Any, str, str, Guard], Access],
    ) -> None:
        scheme = source.partition("://")[0].lower()
        bucket, prefix = places(source)
        self._obstore = obstore_for(scheme)
        try:
            self._access = reach(self._obstore, bucket, prefix, guard)
        except AuditorError:
            raise
        except Exception as error:  # whatever the library raises, in words of ours: its own may hold the settings
            raise SourceError(
                f"{scheme}://{bucket}: {in_our_words(error, scheme)}", code=code_of_store(error)
            ) from None
        parts = guard.admit(self._access.base)
        self._guard = guard
        self._scheme = scheme
        self._prefix = prefix
        self._direct = self._access.signs or self._access.query is not None
        self._signed: dict[str, tuple[float, str]] = {}
        self._sign_lock = threading.Lock()
        uri = shown(f"{scheme}://{bucket}{'/' + prefix if prefix else ''}")
        super().__init__(uri=uri, location=f"{uri} {parts.netloc}", transport=Transport(guard), cache=cache)

    def _list(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:
        if not self._guard.private:
            parts = urlsplit(self._access.base)
            self._guard.addresses(parts.hostname or "", parts.port or 443)
        if self._access.page is None:
            return self._listed_by_store(limit)
        prefix = f"{self._prefix}/" if self._prefix else ""
        try:
            return listing(
                self.transport, self._access.page, self._access.dialect, uri=self.uri, prefix=prefix, limit=limit
            )
        except RefusedError as error:
            raise SourceError(f"{self.uri}: {_refusal(error.status, error.word)}", code=error.code) from None
        except ReadError as error:
            raise SourceError(str(error), code=error.code) from None
        except SourceError:
            raise
        except Exception as error:  # of the library, which signs; its own words hold addresses
            raise SourceError(f"{self.uri}: {in_our_words(error, self._scheme)}", code=code_of_store(error)) from None

    def _listed_by_store(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:
        """The listing by the library's own hands: bounded in time and keys, page by page, and no further by us."""
        pages: Queue[Any] = Queue(maxsize=4)

        def ask() -> None:
            try:
                for page in self._obstore.list(self._access.store, chunk_size=PAGE_KEYS):
                    pages.put(page)
                pages.put(None)
            except Exception as error:  # handed over to who waits
                pages.put(error)

        Thread(ask, "auditor-listing").start()
        files: dict[str, Entry] = {}
        deadline = self.transport.deadline()
        while True:
            try:
                page = pages.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                told = "the store's list of files does not come in time"
                raise SourceError(f"{self.uri}: {told}", code="unreachable") from None
            if page is None:
                return files, None
            if isinstance(page, Exception):  # whatever the library raises, in words of ours: its own hold addresses
                raise SourceError(f"{self.uri}: {in_our_words(page, self._scheme)}", code=code_of_store(page)) from None
            before = len(files)
            for each in page:
                if len(files) >= limit:
                    return files, Unread(f"the prefix holds more than {limit:,} objects (limit files)", "limit")
                files[each["path"]] = Entry("file", each["size"], etag=each["e_tag"])
            if len(files) == before:
                told = "the store's list of files does not end: a page names nothing new"
                raise SourceError(f"{self.uri}: {told}", code="unusable")

    def _locate(self, path: str, renew: bool) -> Located:
        if not self._access.signs:
            query = f"?{self._access.query}" if self._access.query else ""
            return Located(f"{self._address(path)}{query}", {})
        now = time.monotonic()
        with self._sign_lock:
            at, url = self._signed.get(path, (0.0, ""))
            if not url or renew or now - at > _SIGNED_AGAIN_S:
                try:
                    url = self._obstore.sign(self._access.store, "GET", path, expires_in=timedelta(seconds=_SIGNED_S))
                except Exception as error:  # as above
                    raise ReadError(f"{path}: {in_our_words(error, self._scheme)}", code=code_of_store(error)) from None
                self._signed[path] = (now, url)
            return Located(url, {})

    def _address(self, path: str) -> str:
        return f"{self._access.base}/{quote(f'{self._prefix}/{path}' if self._prefix else path)}"

    def _fetch(self, path: str, begin: int, end: int, **options: Any) -> Answer:
        if self._direct:
            return super()._fetch(path, begin, end, **options)
        return self._through_store(path, begin, end, options.get("etag"), options.get("into"))

    def _through_store(self, path: str, begin: int, end: int, etag: str | None, into: memoryview | None) -> Answer:
        """A range by the library's own hands, which hold a token that they do not lend."""
        try:
            found = self._obstore.get(self._access.store, path, options={"range": (begin, end), "if_match": etag})
            meta, data = found.meta, found.bytes()
        except FileNotFoundError:
            raise AbsentError(f"{path}: is not there") from None
        except self._obstore.exceptions.PreconditionError:
            raise ReadError(f"{path}: changed while it was read", code="changed") from None
        except Exception as error:  # as above
            raise ReadError(f"{path}: {in_our_words(error, self._scheme)}", code=code_of_store(error)) from None
        if etag is not None and meta["e_tag"] is not None and not same_etag(etag, meta["e_tag"]):
            raise ReadError(f"{path}: changed while it was read", code="changed")
        taken = memoryview(data)
        if len(taken) != min(end, meta["size"]) - begin:
            raise ReadError(f"{path}: ended after {len(taken):,} of {end - begin:,} bytes", code="unreachable")
        if into is not None:
            into[: len(taken)] = taken
            taken = into[: len(taken)]
        return Answer(taken if into is not None else bytes(taken), meta["size"], meta["e_tag"])


_ANONYMOUS = {"s3": "AWS_SKIP_SIGNATURE", "gs": "GOOGLE_SKIP_SIGNATURE", "az": "AZURE_SKIP_SIGNATURE"}


def presign(obstore: Any, store: Any, path: str) -> Located:
    """Where an object is, with a signature that nobody is asked for."""
    return Located(obstore.sign(store, "GET", path, expires_in=timedelta(seconds=_SIGNED_S)), {})


def _refusal(status: int, code: str) -> str:
    """Why a store does not list, in words of ours."""
    told = f"HTTP {status}{' ' + code if code else ''}"
    if status in (404, 410):
        return f"no such bucket ({told})"
    if status in (401, 403):
        return f"access is denied, by the credentials in use ({told})"
    if status in (301, 307) or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        return "the bucket is in another region: set AWS_REGION"
    return f"the store answers {told}"


def in_our_words(error: Exception, scheme: str) -> str:
    """An error of the library in words of ours, without addresses, bodies or what it was configured with."""
    text, name = str(error), type(error).__name__
    status, code = _STATUS.search(text), _CODE.search(text)
    if "169.254." in text or ("metadata" in text.lower() and "token" in text.lower()):
        return f"no credentials found; for public objects set {_ANONYMOUS[scheme]}=true"
    if ("range" in text.lower() and name == "NotSupportedError") or "non-partial response" in text:
        return "the server ignores ranges and sends the whole file; nothing of it is read"
    if status is not None:
        return _refusal(int(status[1]), code[1] if code else "")
    if isinstance(error, FileNotFoundError):
        return "no such bucket"
    if name in ("PermissionDeniedError", "UnauthenticatedError"):
        return "access is denied, by the credentials in use"
    if "redirect without LOCATION" in text:
        return "the bucket is in another region: set AWS_REGION"
    if "timed out" in text:
        return "the store does not answer in time"
    if "error sending request" in text:
        return "the store cannot be reached"
    return f"the store's answer cannot be used ({name})"


def code_of_store(error: Exception) -> Code:
    """The code of an error of the library, in the order in which its words are chosen."""
    text, name = str(error), type(error).__name__
    status = _STATUS.search(text)
    if isinstance(error, MemoryError):
        return "out_of_memory"
    if "169.254." in text or ("metadata" in text.lower() and "token" in text.lower()):
        return "unauthorized"
    if status is not None:
        return "throttled" if int(status[1]) in (429, 503) else code_of_status(int(status[1]))
    if isinstance(error, FileNotFoundError):
        return "not_found"
    if name in ("PermissionDeniedError", "UnauthenticatedError"):
        return "forbidden" if name == "PermissionDeniedError" else "unauthorized"
    return "unreachable" if "timed out" in text or "error sending request" in text else "unusable"
