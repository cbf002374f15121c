"""Which sources may be audited, and how each is written, so that equal requests are equal and history is one.

What is judged here is what a source says. Where its names lead is judged by the process that connects to them.
"""

import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from auditor.errors import UsageError
from auditor.service.settings.tables import Sources
from auditor.sources import bucket, hub
from auditor.text import quoted, shown

_LONGEST = 2000
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):(?://)?")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_PORTS = {"https": 443, "http": 80}


class Judged(NamedTuple):
    """A source that may be audited, as it is kept, and the revision of it."""

    source: str
    revision: str | None


def judge(source: str, revision: str | None, allowed: Sources) -> Judged:
    """The source as it is kept, if the settings allow it. Raises UsageError that names the rule, and no secret."""
    if len(source) > _LONGEST:
        raise UsageError(f"the source is longer than {_LONGEST:,} characters")
    if not source or source != source.strip() or shown(source) != source:
        raise UsageError("the source has characters that do not show, or spaces around it")
    scheme = _SCHEME.match(source)
    if scheme is None:
        return Judged(_folder(source, revision, allowed.roots), None)
    kind, source = scheme[1].lower(), source[scheme.end() :]
    if "?" in source:
        raise UsageError("the source has a query, which may be credentials: give a plain address")
    if kind == "hf":
        return _repository(source, revision, allowed.organisations)
    if revision is not None:
        raise UsageError(f"a revision is for hf:// sources: {kind}:// has none")
    if kind in ("s3", "gs", "az"):
        return Judged(_bucket(f"{kind}://{source}", allowed.buckets), None)
    if kind in _PORTS:
        return Judged(_address(f"{kind}://{source}", allowed), None)
    raise UsageError(f"{kind}:// is none of the sources that are read: a folder, hf://, s3://, gs://, az://, https://")


def _repository(rest: str, revision: str | None, organisations: Iterable[str] | None) -> Judged:
    repository, revision = hub.named(f"hf://{rest}", revision)
    organisation, separator, _ = repository.rpartition("/")
    if organisations is not None and organisation.lower() not in {each.lower() for each in organisations}:
        name = quoted(organisation) if separator else "a repository without an organisation"
        raise UsageError(f"{name}: not on the list of allowed organisations")
    return Judged(f"hf://{repository}", revision)


def _bucket(source: str, allowed: Iterable[str]) -> str:
    scheme = source.partition("://")[0]
    name, prefix = bucket.places(source)
    if f"{scheme}://{name}" not in {each.rstrip("/") for each in allowed}:
        raise UsageError(f"{scheme}://{shown(name)}: not on the list of allowed buckets")
    return f"{scheme}://{name}/{prefix}".rstrip("/")


def _address(source: str, allowed: Sources) -> str:
    try:
        parts = urlsplit(source)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise UsageError("the source is not a URL that can be read") from None
    if "@" in parts.netloc:
        raise UsageError("the source has credentials in it: the service's own are used, or none")
    if "#" in source:
        raise UsageError("the source has a fragment, which may be credentials: give a plain address")
    if host not in {each.lower() for each in allowed.hosts}:
        raise UsageError(f"{shown(host)}: not on the list of allowed hosts")
    if not allowed.private and _is_private(host):
        raise UsageError(f"{shown(host)}: a private address, which is not allowed here")
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or not _plain(unquote(path)):
        raise UsageError("the path of the source is not a plain one: no '..', no empty part, nothing to be escaped")
    place = f"[{host}]" if ":" in host else host
    place += "" if port in (None, _PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{place}{path}"


def _folder(path: str, revision: str | None, roots: Iterable[Path]) -> str:
    """Judged by where the path leads, kept as it was named: what a link leads to may change."""
    if revision is not None:
        raise UsageError("a revision is for hf:// sources: a folder has none")
    if not path.startswith("/") or not _plain(path.rstrip("/")):
        raise UsageError("a folder is named by its whole path, without '..' and '.'")
    place = os.path.realpath(path)
    if not any(os.path.commonpath([place, root]) == root for root in map(os.path.realpath, roots)):
        raise UsageError("the folder lies below none of the folders that the settings allow")
    return path.rstrip("/") or "/"


def _plain(path: str) -> bool:
    """Whether an absolute path, or none, goes straight down."""
    if "\\" in path or shown(path) != path:
        return False
    return all(part not in ("", ".", "..") for part in path.split("/")[1:])


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return host == "localhost"
