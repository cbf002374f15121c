"""Reports as files named by the SHA-256 of their JSON, compressed: written once, never overwritten."""

import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from auditor.errors import UsageError
from auditor.private import PrivateFolder
from auditor.service.store.kept import Here, InBucket, Kept, unreachable
from auditor.sources.http.hosts import is_loopback

_NAME = re.compile(r"[0-9a-f]{64}")
_SUFFIX = ".json.gz"
# As long as a report may be, compressed or not: longer ones the commands do not read either.
LARGEST = 256 << 20


class Reports(Protocol):
    """Where reports are. Each method raises OSError where the store cannot be had."""

    @property
    def kept(self) -> Kept:
        """Where attempts keep what the next one goes on from."""

    def put(self, report: bytes) -> str:
        """Keep a report, durably; its SHA-256."""

    def get(self, sha256: str) -> bytes | None:
        """A report's JSON, or None where there is none, or none that is intact."""

    def remove(self, sha256: str) -> None:
        """Forget a report."""

    def every(self) -> Iterator[str]:
        """The SHA-256 of every report."""


def open_reports(place: str) -> Reports:
    """The reports in a folder, or at s3://, gs:// or az://bucket/prefix. Raises UsageError for anything else."""
    scheme, separator, _ = place.partition("://")
    if not separator:
        return Folder(Path(place))
    if scheme in ("s3", "gs", "az"):
        return Bucket(place)
    raise UsageError(f"{scheme}://: reports are kept in a folder, or at s3://, gs:// or az://")


class Folder:
    """Reports in a folder, by the first two digits of their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kept: Kept = Here()

    def put(self, report: bytes) -> str:
        """Keep a report, durably; its SHA-256."""
        name = hashlib.sha256(report).hexdigest()
        place = self._folder / name[:2]
        if not (place / f"{name}{_SUFFIX}").exists():
            PrivateFolder(self._folder)
            PrivateFolder(place).write(f"{name}{_SUFFIX}", compressed(report), durable=True)
            for folder in (place, self._folder):
                _sync(folder)
        return name

    def get(self, sha256: str) -> bytes | None:
        """A report's JSON, or None where there is none, or none that is intact."""
        if not _NAME.fullmatch(sha256):
            return None
        return intact(PrivateFolder(self._folder / sha256[:2]).read(f"{sha256}{_SUFFIX}", LARGEST), sha256)

    def remove(self, sha256: str) -> None:
        """Forget a report."""
        (self._folder / sha256[:2] / f"{sha256}{_SUFFIX}").unlink(missing_ok=True)

    def every(self) -> Iterator[str]:
        """The SHA-256 of every report."""
        for file in self._folder.glob(f"[0-9a-f][0-9a-f]/*{_SUFFIX}"):
            if _NAME.fullmatch(name := file.name.removesuffix(_SUFFIX)):
                yield name


class Bucket:
    """Reports in an object store, through obstore with the credentials of its environment."""

    def __init__(self, place: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError:
            raise UsageError(f"{place}: needs obstore: pip install 'checkpoint-auditor[stores]'") from None
        self._store: Any = from_url(place, client_options={"allow_http": True} if _loopback() else None)
        self.kept: Kept = InBucket(self._store)

    def put(self, report: bytes) -> str:
        """Keep a report, durably; its SHA-256."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        name, data = hashlib.sha256(report).hexdigest(), compressed(report)
        try:
            obstore.put(self._store, _path(name), data, mode="create")
        except AlreadyExistsError:
            pass  # written once
        except Exception as error:  # an edge: whatever the store's client raises
            raise unreachable(error) from error
        return name

    def get(self, sha256: str) -> bytes | None:
        """A report's JSON, or None where there is none, or none that is intact."""
        import obstore

        if not _NAME.fullmatch(sha256):
            return None
        try:
            answer = obstore.get(self._store, _path(sha256))
            found = bytes(answer.bytes()) if answer.meta["size"] <= LARGEST else None
        except FileNotFoundError:
            return None
        except Exception as error:  # an edge: whatever the store's client raises
            raise unreachable(error) from error
        return intact(found, sha256)

    def remove(self, sha256: str) -> None:
        """Forget a report."""
        import obstore

        try:
            obstore.delete(self._store, _path(sha256))
        except FileNotFoundError:
            pass
        except Exception as error:  # an edge: whatever the store's client raises
            raise unreachable(error) from error

    def every(self) -> Iterator[str]:
        """The SHA-256 of every report."""
        import obstore

        for some in obstore.list(self._store):
            for each in some:
                name = str(each["path"]).rpartition("/")[2].removesuffix(_SUFFIX)
                if _NAME.fullmatch(name):
                    yield name


def _loopback() -> bool:
    """Whether the environment names a store on this machine, which may do without TLS."""
    return is_loopback(urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname or "")


def _path(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}{_SUFFIX}"


def compressed(report: bytes) -> bytes:
    """A report as its file holds it; the same one always. Raises ValueError for one that nobody would read back."""
    if len(report) > LARGEST:
        raise ValueError(f"the report is longer than {LARGEST:,} bytes")
    return gzip.compress(report, 6, mtime=0)


def intact(data: bytes | None, sha256: str) -> bytes | None:
    """The report in a file's bytes, or None where it is not the one of that name."""
    if data is None:
        return None
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            report = file.read(LARGEST + 1)  # however much the file would unpack to
    except (OSError, EOFError, zlib.error):
        return None
    return report if hashlib.sha256(report).hexdigest() == sha256 else None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
