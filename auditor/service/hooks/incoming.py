"""What every incoming webhook has in common: it is authentic or nothing, and asks for audits or says why for none."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

import msgspec

from auditor.service.hooks.asking import Asked

if TYPE_CHECKING:
    from pydantic import SecretStr

MOST = 100
_T = TypeVar("_T")


class MalformedError(Exception):
    """What came is not JSON, or not what such a webhook has."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a webhook asks for; `ignored` says why it asks for nothing, or for less than it names."""

    asked: tuple[Asked, ...] = ()
    ignored: str | None = None


def decoded(body: bytes, kind: type[_T]) -> _T:
    """The body as a struct, whatever else it has. Raises MalformedError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise MalformedError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedError("not JSON") from None


def same(given: str | None, secret: SecretStr) -> bool:
    """Whether a header has the secret, in a time that tells nothing of it."""
    return given is not None and hmac.compare_digest(given.encode(), secret.get_secret_value().encode())


def signed(given: str | None, secret: SecretStr, body: bytes) -> bool:
    """Whether a header has `sha256=` and the body's HMAC with the secret."""
    made = hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
    return given is not None and hmac.compare_digest(given.encode(), f"sha256={made}".encode())


def matches(ref: str, patterns: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a ref is one of those that patterns name, by what it begins with."""
    for start, named in patterns.items():
        if ref.startswith(start):
            return any(fnmatchcase(ref.removeprefix(start), each) for each in named)
    return False
