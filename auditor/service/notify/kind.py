"""What every kind of target has: options, checked when it is added, and the name of a secret in the settings."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from auditor.service.notify.call import Answer, Call
from auditor.service.notify.message import Message


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("an address begins with https:// and names a host")
    if parts.username is not None or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("an address has neither credentials nor a fragment, and printable ASCII characters alone")
    return url


Address = Annotated[str, Field(max_length=2000), AfterValidator(_address)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=300)], ...], Field(max_length=1000)]


class Kind(BaseModel, ABC):
    """The options of a target, and what they make of a message."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: Name = Field(description="The name of a secret in the settings, notify.secrets.")

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the target is."""

    @abstractmethod
    def places(self, audit: Mapping[str, Any], origins: Iterable[str]) -> list[str | None]:
        """What the target is told of, each by itself: origins of the audit, or None for the audit as a whole."""

    @abstractmethod
    def tell(self, message: Message, call: Call, secret: str) -> Answer:
        """Tell the target. Raises UntoldError."""


def listed(name: str, patterns: Iterable[str]) -> bool:
    """Whether a repository is one of those that are named, `owner/*` naming all of an owner's."""
    return any(fnmatchcase(name.lower(), each.lower()) for each in patterns)


def as_json(**fields: Any) -> bytes:
    """A body of the fields that have a value."""
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
