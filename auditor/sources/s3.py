"""A checkpoint at s3://bucket/prefix, on Amazon or any store that speaks S3 (AWS_ENDPOINT_URL)."""

from __future__ import annotations

import configparser
import os
from functools import partial
from typing import Any

from auditor.errors import UsageError
from auditor.sources.bucket import Access, Bucket, is_set, options, presign, setting
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.text import quoted

# What tells obstore where credentials come from, beside a shared file: keys, a container's, a web identity's.
_NATIVE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_KEYS = ("access_key_id", "secret_access_key", "session_token")


def reach(obstore: Any, bucket: str, prefix: str, guard: Guard) -> Access:
    """The bucket with credentials from the environment, the shared files, or the machine's role."""
    profile = _profile()
    endpoint = setting("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") or profile.get("endpoint_url")
    region = setting("AWS_REGION", "AWS_DEFAULT_REGION") or profile.get("region") or "us-east-1"
    base = f"{(endpoint or f'https://s3.{region}.amazonaws.com').rstrip('/')}/{bucket}"
    settings: dict[str, Any] = {"region": region, "virtual_hosted_style_request": False}
    if endpoint:
        settings["endpoint"] = endpoint
    anonymous = is_set("AWS_SKIP_SIGNATURE")
    provider = None
    if not anonymous and setting(*_NATIVE) is None:
        if "aws_access_key_id" in profile:
            settings |= {key: profile[f"aws_{key}"] for key in _KEYS if f"aws_{key}" in profile}
        elif profile or setting("AWS_PROFILE"):
            provider = _boto(obstore)
        else:  # the machine's role is asked for at its own private address, unless that is not allowed
            anonymous = is_set("AWS_EC2_METADATA_DISABLED") or not guard.private
    settings["skip_signature"] = anonymous
    store = obstore.store.S3Store(
        bucket, prefix=prefix or None, config=settings, credential_provider=provider, **options(endpoint)
    )

    def page(query: str) -> Located:
        if anonymous:
            return Located(f"{base}?{query}", {})
        # The library signs what stands for an object below its endpoint, the endpoint's own query included; whatever
        # parameter begins with x- S3 passes over.
        asked = settings | {"endpoint": f"{base}?{query}&x-id=", "virtual_hosted_style_request": True}
        signer = obstore.store.S3Store(bucket, config=asked, credential_provider=provider, **options(base))
        return presign(obstore, signer, "list")

    return Access(store, base, signs=not anonymous, query="" if anonymous else None, page=page)


open_at = partial(Bucket, reach=reach)


def _profile() -> dict[str, str]:
    """The settings of AWS_PROFILE (or default) in the shared files, credentials before configuration."""
    name = setting("AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, usual, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
    ):
        path = os.path.expanduser(setting(variable) or usual)
        if not os.path.isfile(path):
            continue
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            raise UsageError(f"{quoted(os.path.basename(path))} of AWS cannot be read") from None
        if parser.has_section(section):
            found.update(parser.items(section))
    if not found and name != "default":
        raise UsageError(f"AWS has no profile {quoted(name)}")
    return found


def _boto(obstore: Any) -> Any:
    """The profile's credentials through boto3, which knows sign-on sessions and assumed roles."""
    try:
        from boto3 import Session  # type: ignore[import-untyped]  # it has no types of its own
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise UsageError(
            "the AWS profile holds no keys of its own (a sign-on session or a role): needs boto3"
        ) from None
    assert obstore is not None
    return Boto3CredentialProvider(Session())
