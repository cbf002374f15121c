"""What is asked for: a checkpoint, how deep, by which policy."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import urlsplit

Depth = Literal["headers", "sample", "full"]

HEADERS, CONTENT = "headers", "content"
LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One request. `policy` is a name, `policy_text` its TOML as it was then; `baseline` is a stored report's SHA-256.

    `priority` 1 comes first, 9 last; it is the one field that makes no difference to what the request is. `origin`
    says what asked for it, where it was no person: a hook, a watch.
    """

    source: str
    revision: str | None = None
    depth: Depth = "headers"
    family: str | None = None
    policy: str | None = None
    policy_text: str | None = None
    baseline: str | None = None
    seed: int | None = None
    force: bool = False
    priority: int = 5
    origin: str | None = None

    @property
    def policy_sha256(self) -> str | None:
        """Of the policy's TOML, as the report has it."""
        return None if self.policy_text is None else hashlib.sha256(self.policy_text.encode()).hexdigest()

    @property
    def digest(self) -> str:
        """What makes two requests the same one."""
        fields = asdict(self)
        for name in ("priority", "origin", "policy", "policy_text"):
            del fields[name]
        fields["policy_sha256"] = self.policy_sha256
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @property
    def queue(self) -> str:
        """Headers take seconds, content up to hours: neither waits for the other."""
        return HEADERS if self.depth == "headers" else CONTENT

    @property
    def host(self) -> str:
        """Whose limit on audits at once it counts against."""
        return host_of(self.source)


def host_of(source: str) -> str:
    """The host that a source is fetched from, the scheme where that alone says it, or 'local'."""
    scheme, separator, _ = source.partition("://")
    if not separator:
        return LOCAL
    if scheme in ("http", "https"):
        return (urlsplit(source).hostname or scheme)[:300]
    return scheme
