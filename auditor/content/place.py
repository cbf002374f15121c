"""Where finished work is kept: a folder of the user's choice, or a prefix of a bucket that many machines reach."""

from __future__ import annotations

import os
import socket
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from auditor.errors import AuditorError, SourceError, UsageError
from auditor.private import PrivateFolder, doubt
from auditor.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from auditor.sources import Source

_STORES = ("s3", "gs", "az")
_MOST_FILES = 100_000


class Place(Protocol):
    """Small files by name, each there whole or not at all."""

    def read(self, name: str, most: int) -> bytes | None:
        """What a file holds; None where there is none of at most `most` bytes. Raises SourceError for no answer."""

    def write(self, name: str, data: bytes, *, durable: bool) -> None:
        """Write a file. Raises OSError where it cannot be kept."""

    def names(self) -> Iterator[str]:
        """The names of the files that are there."""


class _Store:
    """Files as objects below a prefix, with the credentials of the environment."""

    def __init__(self, uri: str) -> None:
        from auditor.sources.bucket import obstore_for, places
        from auditor.sources.http.hosts import Guard

        self._scheme = uri.partition("://")[0].lower()
        self._uri = shown(uri)
        bucket, prefix = places(uri)
        self._obstore = obstore_for(self._scheme)
        reach = import_module(f"auditor.sources.{self._scheme}").reach
        try:
            self._store: Any = reach(self._obstore, bucket, prefix, Guard(None, private=True)).store
        except AuditorError:
            raise
        except Exception as error:  # whatever the library raises, in words of ours: its own may hold the settings
            raise self._refused(error) from None

    def read(self, name: str, most: int) -> bytes | None:
        """An object of at most `most` bytes, or None."""
        try:
            found = self._obstore.get(self._store, name)
            return bytes(found.bytes()) if found.meta["size"] <= most else None
        except FileNotFoundError:
            return None
        except Exception as error:  # as above
            raise self._refused(error) from None

    def write(self, name: str, data: bytes, *, durable: bool) -> None:
        """One object, written whole."""
        del durable  # an object that is there is durable
        try:
            self._obstore.put(self._store, name, data, use_multipart=False)
        except Exception as error:  # as above
            refused = self._refused(error)
            raise OSError(None, str(refused)) from None

    def names(self) -> Iterator[str]:
        """The objects directly below the prefix."""
        seen = 0
        try:
            for page in self._obstore.list(self._store, chunk_size=1000):
                for each in page:
                    seen += 1
                    if seen > _MOST_FILES:
                        raise SourceError(f"{self._uri}: holds more than {_MOST_FILES:,} objects: name another place")
                    if "/" not in each["path"]:
                        yield each["path"]
        except AuditorError:
            raise
        except Exception as error:  # as above
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> SourceError:
        from auditor.sources.bucket import code_of_store, in_our_words

        return SourceError(f"{self._uri}: {in_our_words(error, self._scheme)}", code=code_of_store(error))


def open_place(name: str, source: Source, *, shared: bool) -> Place:
    """The place of that name, made where it is not there. `shared`: others may write to a folder, and that is meant.

    Who may write to a bucket is not looked at: its owner says so, and AUDITOR_STATE_KEY keeps out who has not the key.
    Raises UsageError where it cannot serve, or where others may write to a folder or put another in its place and
    nobody said that this is meant.
    """
    scheme, separator, _ = name.partition("://")
    if not separator:
        return _folder(name, source, shared=shared)
    if scheme.lower() not in _STORES:
        raise UsageError(f"--resume {shown(name)}: give a folder, or s3://, gs:// or az://bucket/prefix")
    if f"{name.rstrip('/')}/".startswith(f"{source.uri.rstrip('/')}/"):
        raise _inside(name)
    return _Store(name)


def _folder(path: str, source: Source, *, shared: bool) -> PrivateFolder:
    if source.holds(Path(path)):
        raise _inside(path)
    try:
        folder = PrivateFolder(path, shared=shared)
        reason = None if shared else doubt(Path(path))
    except OSError as error:
        raise UsageError(f"--resume {shown(path)}: cannot be made: {error.strerror}") from error
    if reason is not None:
        raise UsageError(f"--resume {shown(path)}: {reason}; give --resume-shared if that is meant")
    if not os.access(path, os.W_OK | os.X_OK) or not Path(path).is_dir():
        raise UsageError(f"--resume {shown(path)}: cannot be written to: name another folder")
    folder.tidy()
    return folder


def _inside(name: str) -> UsageError:
    return UsageError(
        f"--resume {shown(name)}: lies inside the checkpoint, which is never written to: name another folder"
    )


def this_machine() -> str:
    """What tells this machine from others, as far as times and numbers of inodes go."""
    try:
        known = Path("/etc/machine-id").read_text("utf-8").strip()
    except (OSError, ValueError):
        known = ""
    return f"{known} {socket.gethostname()}"
