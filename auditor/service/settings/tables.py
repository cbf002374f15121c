"""The tables of the settings, each with what it says about one part of the service."""

import base64
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

# An attempt's process has another working folder than whoever gave the path.
Place = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


def _origin(url: str) -> str:
    """The address as browsers write it in Origin. Raises ValueError for what others cannot reach the service by."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an address begins with https:// and names a host, as in https://auditor.example.org")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the service has a host for its own: give the address without a path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = parts.port in (None, 443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}" + ("" if usual else f":{parts.port}")


Origin = Annotated[str, AfterValidator(_origin)]


class Part(BaseModel):
    """A table of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Web(Part):
    """Who may ask what of the API and the pages, and how much."""

    public_read: bool = Field(default=False, description="Whether everything but tokens is shown without a token.")
    trusted_hosts: tuple[str, ...] = Field(
        default=(), description="Names that requests may use for this service, beside those of host and public_url."
    )
    proxies: tuple[str, ...] = Field(
        default=(), description="Addresses and networks of proxies, whose X-Forwarded-For and -Proto are believed."
    )
    reads: int = Field(default=6000, ge=0, description="Reads a minute by one token, or address without; 0: any.")
    writes: int = Field(default=600, ge=0, description="Other requests a minute by one token; 0: any number.")
    refusals: int = Field(default=60, ge=0, description="Wrong tokens a minute from one address; 0: any number.")
    body: int = Field(default=1 << 20, ge=1 << 10, le=64 << 20, description="The longest request, in bytes.")
    streams: int = Field(default=1000, ge=1, description="Event streams and waits that may be open at once.")
    streams_each: int = Field(default=250, ge=1, description="The same for one token, or address without one.")
    session_hours: int = Field(default=14 * 24, ge=1, description="How long a person stays signed in.")


class Queue(Part):
    """How many audits of one kind run at once."""

    each: int = Field(ge=0, le=1000, description="For each worker; 0: this worker takes none.")
    together: int | None = Field(default=None, ge=1, description="In all workers together.")
    hours: float = Field(gt=0, le=1000, description="The longest that one attempt may take, in hours.")
    memory: int = Field(ge=256 << 20, description="The most data memory of one attempt's process, in bytes.")


class Sources(Part):
    """What may be audited. Whatever is not named here is refused."""

    hosts: tuple[str, ...] = Field(
        default=("huggingface.co", "cdn-lfs.huggingface.co", "cas-bridge.xethub.hf.co"),
        description="Hosts that may be asked, the storage that they redirect to included.",
    )
    organisations: tuple[str, ...] | None = Field(
        default=None, description="Organisations of the hub; all of them where this is absent."
    )
    buckets: tuple[str, ...] = Field(default=(), description="Buckets, as s3://name, gs://name or az://name.")
    roots: tuple[Place, ...] = Field(default=(), description="Folders below which local checkpoints may be audited.")
    private: bool = Field(default=False, description="Whether private and link-local addresses may be connected to.")
    per_host: int = Field(default=4, ge=1, le=1000, description="Audits of one host at once, in all workers.")


def _signing(secret: SecretStr) -> SecretStr:
    """A secret of Standard Webhooks, so that a wrong one is found at the start and not by those who sign with it."""
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_") + "==", validate=False)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("a secret that signs is whsec_ and the base64 of 24 to 64 random bytes")
    return secret


class Push(Part):
    """What a push to a repository on GitHub means."""

    source: str = Field(description="What is audited; {commit} and {branch} stand for those of the push.")
    revision: str | None = Field(default=None, description="The revision of it, likewise.")


class Hook(Part):
    """What an incoming webhook asks for."""

    depth: Literal["headers", "sample", "full"] = Field(default="headers", description="How deep is audited.")
    policy: str | None = Field(default=None, description="The name of the policy; none where it is absent.")


class HubHook(Hook):
    """The hub's webhook, POST /v1/hooks/hub."""

    secret: SecretStr | None = Field(default=None, description="What the hub sends in X-Webhook-Secret; off if absent.")
    branches: tuple[str, ...] = Field(default=("main",), description="Branches that are audited, as patterns.")
    tags: tuple[str, ...] = Field(default=(), description="Tags that are audited, as patterns.")
    pulls: bool = Field(default=False, description="Whether pull requests (refs/pr/N) are audited.")


class GenericHook(Hook):
    """Webhooks that are signed as Standard Webhooks, POST /v1/hooks/generic."""

    secret: Annotated[SecretStr, AfterValidator(_signing)] | None = Field(
        default=None, description="whsec_… that senders sign with; off if absent."
    )


class GithubHook(Hook):
    """GitHub's pushes, POST /v1/hooks/github."""

    secret: SecretStr | None = Field(default=None, description="What X-Hub-Signature-256 is made with; off if absent.")
    branches: tuple[str, ...] = Field(default=("main",), description="Branches whose pushes count, as patterns.")
    tags: tuple[str, ...] = Field(default=(), description="Tags whose pushes count, as patterns.")
    repositories: dict[str, Push] = Field(
        default={}, description="What a push means, by owner/name of the repository; others are ignored."
    )


class Hooks(Part):
    """Webhooks in. Each is off until it has a secret."""

    hub: HubHook = Field(default=HubHook(), description="The Hugging Face hub's.")
    generic: GenericHook = Field(default=GenericHook(), description="Signed as Standard Webhooks.")
    github: GithubHook = Field(default=GithubHook(), description="GitHub's.")


class Notify(Part):
    """Notifications out, to targets that an administrator adds."""

    hosts: tuple[str, ...] = Field(
        default=("api.github.com", "gitlab.com", "huggingface.co"), description="Hosts that targets may be at."
    )
    private: bool = Field(default=False, description="Whether targets may have private and link-local addresses.")
    secrets: dict[str, SecretStr] = Field(
        default={}, description="Secrets by the names that targets give: whsec_… to sign with, or a token."
    )
    each: int = Field(default=8, ge=1, le=64, description="Deliveries at once, for each worker.")
    per_target: int = Field(default=4, ge=1, le=64, description="Deliveries to one target at once, in all workers.")


class Retention(Part):
    """Which audits are removed, with all that was kept for them. Pinned ones and each checkpoint's latest stay."""

    days: float | None = Field(
        default=None, gt=0, le=36500, description="Those that ended longer ago; none by age where this is absent."
    )
    each: int | None = Field(
        default=None, ge=1, description="All but so many of each checkpoint; none by number where this is absent."
    )


class Metrics(Part):
    """Who may read /metrics. Nobody beyond this machine, unless one of these says so."""

    addresses: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Networks that may, as seen by this process: behind a proxy on this machine nobody is local.",
    )
    tokens: bool = Field(default=False, description="Whether a token of scope read may, from any address.")
