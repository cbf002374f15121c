"""A checkpoint at az://container/prefix on Azure Blob Storage; the account is named by the environment."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from auditor.errors import UsageError
from auditor.sources.bucket import Access, Bucket, is_set, options, setting
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.sources.listing import AZURE

_VERSION = "2021-12-02"
_EMULATOR_ACCOUNT = "devstoreaccount1"


def reach(obstore: Any, container: str, prefix: str, guard: Guard) -> Access:
    """The container with an account key, a SAS token, an Entra identity, or none (AZURE_SKIP_SIGNATURE)."""
    given = _connection()
    emulator = is_set("AZURE_STORAGE_USE_EMULATOR")
    account = (
        setting("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
        or given.get("accountname")
        or (_EMULATOR_ACCOUNT if emulator else None)
    )
    if account is None:
        raise UsageError("az:// needs an account: set AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING")
    key = setting("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY")
    key = key or given.get("accountkey")
    sas = setting("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY") or given.get("sharedaccesssignature")
    endpoint = setting("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT") or given.get("blobendpoint")
    if endpoint is None and emulator:
        endpoint = f"http://127.0.0.1:10000/{account}"
    settings: dict[str, Any] = {"account_name": account}
    if endpoint is not None:
        settings["endpoint"] = endpoint.rstrip("/")
    anonymous, signs, query = is_set("AZURE_SKIP_SIGNATURE"), False, None
    if anonymous:
        settings["skip_signature"], query = True, ""
    elif key:
        settings["account_key"], signs = key, True
    elif sas:
        settings["sas_key"] = query = sas.removeprefix("?")
    elif not guard.private:  # a machine's identity is asked for at its own private address
        settings["skip_signature"], query = True, ""
    base = f"{(endpoint or f'https://{account}.blob.core.windows.net').rstrip('/')}/{container}"
    store = obstore.store.AzureStore(container, prefix=prefix or None, config=settings, **options(endpoint))

    def page(asked: str) -> Located:
        opened = _signature(account, key, container) if key else query
        return Located(f"{base}?{asked}{'&' + opened if opened else ''}", {"x-ms-version": _VERSION})

    lists = page if signs or query is not None else None
    return Access(store, base, signs=signs, query=query, page=lists, dialect=AZURE)


open_at = partial(Bucket, reach=reach)


def _signature(account: str, key: str, container: str) -> str:
    """A SAS for listing a container, which the library makes of single blobs alone; `_VERSION` says of what it is."""
    begin, end = (
        (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ") for seconds in (-300, 900)
    )
    place = f"/blob/{account}/{container}"
    text = "\n".join(["l", begin, end, place, "", "", "", _VERSION, "c", *[""] * 7])
    try:
        secret = b64decode(key, validate=True)
    except ValueError:
        raise UsageError("the key of the Azure account that the environment names is no base64") from None
    signature = b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode()
    return urlencode({"sv": _VERSION, "sr": "c", "sp": "l", "st": begin, "se": end, "sig": signature})


def _connection() -> dict[str, str]:
    """The parts of a connection string, their names in lower case."""
    parts = (part.partition("=") for part in os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in parts if value}
