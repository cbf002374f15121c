"""What lists files is bounded, whatever a server does: in pages, in bytes, in time, and to the host that was asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from auditor.forge import forge
from auditor.sources import listing
from auditor.sources.http import transport
from auditor.sources.http.hosts import Guard
from auditor.sources.http.request import Located
from auditor.sources.http.transport import Transport
from tests.places import AZURITE_KEY, Place, audited
from tests.servers.endless import MOST, Endless, drip, flood
from tests.servers.hub import Hub
from tests.servers.serving import Reply, Request, Server

S3 = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</ListBucketResult>'
AZ = '<?xml version="1.0"?><EnumerationResults><Blobs>{}</Blobs>{}</EnumerationResults>'
KEY = "<Contents><Key>{}</Key><ETag>&quot;a&quot;</ETag><Size>1</Size></Contents>"
BLOB = "<Blob><Name>{}</Name><Properties><Etag>0x1</Etag><Content-Length>1</Content-Length></Properties></Blob>"
KINDS = ("s3", "s3 without credentials", "gs", "gs with a key", "az", "az with a token", "az without credentials")


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A service account with a private key of its own."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return {"type": "service_account", "private_key": pem, "private_key_id": "1", "client_email": "a@b.c"}


def place(kind: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, account: dict[str, str]) -> Place:
    """A store at an address, and the credentials that make the auditor list in the way that is meant."""
    for name in ("AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    scheme = kind[:2]
    environment = {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
    if scheme == "gs":
        (tmp_path / "account.json").write_text(json.dumps({**account, "gcs_base_url": url}), "utf-8")
        environment = {"GOOGLE_BASE_URL": url}
        if kind == "gs with a key":
            environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "account.json")}
        else:
            environment["GOOGLE_SKIP_SIGNATURE"] = "true"
    elif scheme == "az":
        environment = {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1", "AZURE_STORAGE_ENDPOINT": f"{url}/dev"}
        environment |= {
            "az": {"AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY},
            "az with a token": {"AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=SECRETMARK"},
            "az without credentials": {"AZURE_SKIP_SIGNATURE": "true"},
        }[kind]
    elif kind == "s3":
        environment |= {
            "AWS_ACCESS_KEY_ID": "AKIDSECRETMARK",
            "AWS_SECRET_ACCESS_KEY": "SECRETMARKkey",
            "AWS_SESSION_TOKEN": "SECRETMARKtoken",
        }
    else:
        environment["AWS_SKIP_SIGNATURE"] = "true"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Place(kind, f"{scheme}://models/org/model", environment, [], lambda _: None, list)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, account: dict[str, str]) -> Callable[[str, str], Place]:
    return lambda kind, url: place(kind, url, monkeypatch, tmp_path, account)


def page(kind: str, names: list[str], after: str) -> bytes:
    """One page of a listing in the store's own words."""
    if kind.startswith("az"):
        return AZ.format("".join(map(BLOB.format, names)), f"<NextMarker>{after}</NextMarker>").encode()
    more = f"<IsTruncated>{str(bool(after)).lower()}</IsTruncated>"
    more += f"<NextContinuationToken>{after}</NextContinuationToken>" if after else ""
    return S3.format(more + "".join(map(KEY.format, names))).encode()


def refused(place: Place, capfd: object) -> str:
    """The one line that an audit ends with."""
    code, text, report = audited(place, capfd, "--no-cache")
    assert (code, report) == (3, None), text
    assert text.count("\n") == 1
    assert text.startswith(f"auditor: {place.uri}: ")
    return text


# --- pages ---


@pytest.mark.parametrize("names", [["org/model/x"], []], ids=["the same keys", "no keys"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_continuation_token_that_comes_again_ends_the_listing(kind, names, at, capfd):
    with Server(lambda _: Reply(200, page(kind, names, "again"))) as server:
        assert "does not end: a continuation token comes again" in refused(at(kind, server.url), capfd)
        assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["s3", "az"])
def test_pages_that_name_nothing_new_end_the_listing(kind, at, capfd):
    with Server(lambda _: Reply(200, page(kind, ["org/model/x"], f"token{time.monotonic_ns()}"))) as server:
        assert "pages name nothing new" in refused(at(kind, server.url), capfd)
        assert len(server.requests) < 200


@pytest.mark.parametrize("kind", ["s3", "az"])
def test_pages_of_ever_new_names_end_at_the_limit(kind, at, capfd, tmp_path):
    def answer(request: Request) -> Reply:
        names = [f"org/model/{time.monotonic_ns()}-{number}" for number in range(1000)]
        listed = {"list-type", "comp"} & request.query.keys()
        return Reply(200, page(kind, names, f"{time.monotonic_ns()}")) if listed else Reply(404)

    (tmp_path / "policy.toml").write_text("[limits]\nfiles = 5000\n")
    with Server(answer) as server:
        code, text, _ = audited(at(kind, server.url), capfd, "--no-cache", "--policy", str(tmp_path / "policy.toml"))
        assert code == 3
        assert "the prefix holds more than 5,000 objects (limit files)" in text
        assert sum(bool({"list-type", "comp"} & each.query.keys()) for each in server.requests) == 6


def test_empty_pages_between_are_passed_over(at, capfd, tmp_path):
    """As Azure sends them."""
    pages = {"": page("az", [], "a"), "a": page("az", [], "b"), "b": page("az", ["org/model/x"], "")}
    reader = Transport(Guard())
    with Server(lambda request: Reply(200, pages[request.query.get("marker", "")])) as server:
        files, unlisted = listing.listing(
            reader,
            lambda query: Located(f"{server.url}/?{query}", {}),
            listing.AZURE,
            uri="az://x",
            prefix="org/model/",
            limit=10,
        )
        assert (list(files), unlisted) == (["x"], None)


# --- bytes ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_without_end_is_read_as_far_as_one_may_be(kind, at, capfd):
    begin = AZ.split("{", maxsplit=1)[0] if kind.startswith("az") else S3.split("{", maxsplit=1)[0]
    with Endless(flood(begin.encode(), (BLOB if kind.startswith("az") else KEY).format("k").encode())) as server:
        assert "longer than the 16,777,216 bytes that are read of one" in refused(at(kind, server.url), capfd)
        assert server.sent < MOST / 4


ODD = {
    "no XML": b"{}",
    "a page": b"<!DOCTYPE html><html></html>",
    "entities": b'<!DOCTYPE l [<!ENTITY a "b">]><ListBucketResult><Key>&a;</Key></ListBucketResult>',
    "nested without end": b"<ListBucketResult>" + b"<a>" * 100_000,
    "a name without end": b"<ListBucketResult><Contents><Key>"
    + b"a" * (1 << 20)
    + b"</Key></Contents></ListBucketResult>",
    "another document": b"<Error><Code>None</Code></Error>",
    "nothing": b"",
    "cut": b"<ListBucketResult><Contents><Key>a",
    "an object without a name": b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
    "an encoding that nobody knows": b'<?xml version="1.0" encoding="TF-8"?><ListBucketResult></ListBucketResult>',
    "no UTF-8": b"<ListBucketResult>\xff\xfe</ListBucketResult>",
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_listing_is_said_in_one_line(what, at, capfd):
    with Server(lambda _: Reply(200, ODD[what])) as server:
        assert "the store's list of files cannot be used" in refused(at("s3", server.url), capfd)


def test_names_that_lead_elsewhere_are_no_files_of_the_checkpoint():
    names = ["org/model/a", "org/model/../up", "org/model//b", "org/model/", "org/model-2/c", "org/model/d/", "e"]
    reader = Transport(Guard())
    with Server(lambda _: Reply(200, page("s3", names, ""))) as server:
        found = listing.listing(
            reader,
            lambda query: Located(f"{server.url}/?{query}", {}),
            listing.S3,
            uri="s3://x",
            prefix="org/model/",
            limit=10,
        )
        assert list(found[0]) == ["a"]


# --- time ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_that_drips_ends_with_the_deadline(kind, at, capfd, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    with Endless(drip(page(kind, ["org/model/x"], ""))) as server:
        begun = time.monotonic()
        assert "no answer in time; given up, the deadline is 1 s" in refused(at(kind, server.url), capfd)
        assert time.monotonic() - begun < 4


def test_pages_all_together_have_one_deadline(at, capfd, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)

    def answer(_: Request) -> Reply:
        time.sleep(0.3)
        return Reply(200, page("s3", [f"org/model/{time.monotonic_ns()}"], f"{time.monotonic_ns()}"))

    with Server(answer) as server:
        begun = time.monotonic()
        refused(at("s3", server.url), capfd)
        assert time.monotonic() - begun < 4
        assert len(server.requests) < 20


# --- to whom ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.1"], ids=["another host", "another port"])
def test_a_listing_follows_no_redirect_to_another_host(kind, host, at, capfd):
    with Server(lambda _: Reply(200, page(kind, [], "")), host) as elsewhere:
        moved = Reply(302, b"", {"Location": f"{elsewhere.url}/models"})
        with Server(lambda _: moved) as server:
            assert "redirected to another host" in refused(at(kind, server.url), capfd)
        assert elsewhere.requests == []


def test_a_listing_follows_no_redirect_to_a_place_that_nobody_named(at, capfd):
    with Server(lambda _: Reply(302, b"", {"Location": "http://169.254.169.254/latest/meta-data/"})) as server:
        assert "redirected to 169.254.169.254: not https" in refused(at("s3", server.url), capfd)


def test_a_bucket_of_another_region_is_said_to_be_one(at, capfd):
    """As S3 says it, without a Location."""
    body = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
    with Server(lambda _: Reply(301, body)) as server:
        assert "the bucket is in another region: set AWS_REGION" in refused(at("s3", server.url), capfd)


# --- signatures ---


def test_the_signature_of_a_listing_is_the_one_that_amazon_makes(at, capfd, monkeypatch):
    import datetime

    from botocore import auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    with Server(lambda _: Reply(200, page("s3", [], ""))) as server:
        place = at("s3", server.url)
        audited(place, capfd, "--no-cache")
        asked = server.requests[0]
        assert {"authorization", "referer"} & asked.headers.keys() == set()
        pairs = parse_qsl(asked.target.query, keep_blank_values=True)
        given = dict(pairs)
        assert (given["list-type"], given["prefix"]) == ("2", "org/model/")
        at_ = datetime.datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        monkeypatch.setattr(auth, "get_current_datetime", lambda *_, **__: at_)
        own = [f"{quote(name)}={quote(value, safe='')}" for name, value in pairs if not name.startswith("X-Amz-")]
        request = AWSRequest("GET", f"{server.url}{asked.target.path}?{'&'.join(own)}")
        keys = Credentials("AKIDSECRETMARK", "SECRETMARKkey", "SECRETMARKtoken")
        auth.S3SigV4QueryAuth(keys, "s3", "us-east-1", expires=3600).add_auth(request)
        wanted = dict(parse_qsl(urlsplit(request.url).query))
        assert given["X-Amz-Signature"] == wanted["X-Amz-Signature"]


def test_the_signature_of_a_listing_is_one_that_google_can_verify(at, account, capfd):
    import hashlib

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding

    with Server(lambda _: Reply(200, page("gs", [], ""))) as server:
        audited(at("gs with a key", server.url), capfd, "--no-cache")
        asked = server.requests[0]
    pairs = parse_qsl(asked.target.query, keep_blank_values=True)
    given = dict(pairs)
    assert (given["list-type"], given["prefix"]) == ("2", "org/model/")
    signed = sorted((quote(n, safe=""), quote(v, safe="")) for n, v in pairs if n != "X-Goog-Signature")
    canonical = "\n".join(
        ["GET", asked.target.path, "&".join(f"{n}={v}" for n, v in signed), "host:storage.googleapis.com", "", "host",
         "UNSIGNED-PAYLOAD"]
    )  # fmt: skip
    scope = given["X-Goog-Credential"].partition("/")[2]
    text = "\n".join(["GOOG4-RSA-SHA256", given["X-Goog-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    private = serialization.load_pem_private_key(account["private_key"].encode(), None)
    private.public_key().verify(
        bytes.fromhex(given["X-Goog-Signature"]), text.encode(), padding.PKCS1v15(), hashes.SHA256()
    )


# --- the hub ---


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    found = Hub("org/model", tmp_path / "checkpoint", token="hf_SECRETMARK")
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("HF_TOKEN", "hf_SECRETMARK")
    yield found
    found.close()


HUB = Place("hub", "hf://org/model", {}, [], lambda _: None, list)


def test_a_hub_whose_list_has_no_end_is_read_as_far_as_one_may_be(monkeypatch, capfd):
    begin = b'{"sha": "' + b"a" * 40 + b'", "siblings": ['
    with Endless(flood(begin, b'{"rfilename": "x", "size": 1},')) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert "longer than the 67,108,864 bytes that are read of one" in refused(HUB, capfd)
        assert server.sent < MOST / 2


def test_a_hub_that_drips_ends_with_the_deadline(monkeypatch, capfd):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    with Endless(drip(b'{"sha": "' + b"a" * 1000)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        begun = time.monotonic()
        assert "no answer in time; given up, the deadline is 1 s" in refused(HUB, capfd)
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.1"], ids=["another host", "another port"])
def test_the_list_of_a_hub_is_asked_of_no_other_host(host, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_SECRETMARK")
    with Server(lambda _: Reply(200, b"{}"), host) as elsewhere:
        with Server(lambda _: Reply(302, b"", {"Location": f"{elsewhere.url}/api/models/org/model"})) as server:
            monkeypatch.setenv("HF_ENDPOINT", server.url)
            assert "redirected to another host" in refused(HUB, capfd)
        assert elsewhere.requests == []


def test_a_repository_that_was_renamed_is_found(hub, monkeypatch, capfd):
    """The hub sends on to the new name, on the same host."""

    def answer(request: Request) -> Reply:
        if request.target.path == "/api/models/org/old":
            return Reply(307, b"", {"Location": f"/api/models/org/model?{request.target.query}"})
        if request.target.path.startswith("/org/old/"):
            return Reply(307, b"", {"Location": request.target.path.replace("/org/old/", "/org/model/", 1)})
        return hub._answer(request)

    with Server(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert audited(Place("hub", "hf://org/old", {}, [], lambda _: None, list), capfd, "--no-cache")[0] == 0


def changed(hub: Hub, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict], None]) -> None:
    """The hub says otherwise of its last shard."""
    told = hub._information

    def information(commit: str) -> Reply:
        body = json.loads(told(commit).body)
        change(next(each for each in reversed(body["siblings"]) if each["rfilename"].endswith(".safetensors")))
        return Reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    monkeypatch.setattr(hub, "_information", information)


ODD_FILES = {
    "size as text": (lambda each: each.update(size="12"), "Expected `int | null`, got `str`"),
    "negative size": (lambda each: each.update(size=-1), "a size of -1"),
    "size beyond all": (lambda each: each.update(size=1 << 80), "Integer value out of range|a size of"),
    "size with a fraction": (lambda each: each.update(size=1.5), "Expected `int | null`, got `float`"),
    "digest of another form": (lambda each: each["lfs"].update(sha256="../../x"), "a digest that is none"),
    "lfs as text": (lambda each: each.update(lfs="yes"), "Expected `object | null`, got `str`"),
}


@pytest.mark.parametrize("what", ODD_FILES)
def test_what_a_hub_says_of_a_file_and_cannot_be_is_told_with_the_file(what, hub, monkeypatch, capfd):
    change, words = ODD_FILES[what]
    changed(hub, monkeypatch, change)
    text = refused(HUB, capfd)
    assert "says of model-00005-of-000005.safetensors what cannot be used: " in text
    import re

    assert re.search(words, text)


@pytest.mark.parametrize("lfs", [True, False], ids=["said elsewhere", "said nowhere"])
def test_a_file_whose_size_a_hub_does_not_list_is_not_empty(lfs, hub, monkeypatch, capfd):
    def change(each: dict) -> None:
        del each["size"]
        if not lfs:
            del each["lfs"]

    changed(hub, monkeypatch, change)
    code, text, report = audited(HUB, capfd, "--no-cache")
    assert code == 0, text
    assert report is not None
    assert report["inventory"]["shards"] == 5


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"sha": 1, "siblings": []}', b"\xff", b"[" * 100_000, b"<html>"])
def test_what_is_no_list_of_a_hub_is_said_in_one_line(body, monkeypatch, capfd):
    with Server(lambda _: Reply(200, body)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert "the hub's list of files cannot be used" in refused(HUB, capfd)
