"""A checkpoint at gs://bucket/prefix on Google Cloud Storage."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

from auditor.errors import UsageError
from auditor.sources.bucket import Access, Bucket, is_set, options, presign, setting
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located

_HOST = "https://storage.googleapis.com"


def reach(obstore: Any, bucket: str, prefix: str, guard: Guard) -> Access:
    """The bucket with application default credentials, a service account, or none (GOOGLE_SKIP_SIGNATURE)."""
    key = setting("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_APPLICATION_CREDENTIALS")
    account = _account(key)
    endpoint = (setting("GOOGLE_BASE_URL") or account.get("gcs_base_url") or _HOST).rstrip("/")
    anonymous = is_set("GOOGLE_SKIP_SIGNATURE")
    usual = os.path.expanduser("~/.config/gcloud/application_default_credentials.json")
    if not anonymous and not account and not setting("GOOGLE_SERVICE_ACCOUNT_KEY") and not os.path.isfile(usual):
        anonymous = not guard.private  # the machine's role is asked for at its own private address
    settings: dict[str, Any] = {"skip_signature": anonymous}
    if key and account.get("type", "service_account") == "service_account":
        settings["service_account"] = key
    if endpoint != _HOST:
        settings["base_url"] = endpoint
    store = obstore.store.GCSStore(bucket, prefix=prefix or None, config=settings, **options(endpoint))
    # An account's private key signs here; a token (of a user or a machine) cannot, and obstore keeps it.
    signs = not anonymous and bool(account.get("private_key"))
    base = f"{endpoint}/{bucket}"

    def page(query: str) -> Located:
        if anonymous:
            return Located(f"{base}?{query}", {})
        # As for S3, in a parameter that Google knows: a delimiter that no name has in it.
        asked = settings | {"base_url": f"{base}?{query}&delimiter="}
        signer = obstore.store.GCSStore(bucket, config=asked, **options(endpoint))
        return presign(obstore, signer, os.urandom(16).hex())

    lists = page if anonymous or signs else None
    return Access(store, base, signs=signs, query="" if anonymous else None, page=lists)


open_at = partial(Bucket, reach=reach)


def _account(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        raise UsageError("the file of Google credentials that the environment names cannot be read") from None
    return found if isinstance(found, dict) else {}
