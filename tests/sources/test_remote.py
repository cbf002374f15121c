"""A checkpoint that lives elsewhere is audited as one in a folder: the same findings, the same report."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import auditor
from auditor.forge import forge
from auditor.inventory.walk import walk
from auditor.sources import open_source, starts
from auditor.sources.begin import begin
from auditor_schemas.policy import Limits
from tests.places import KINDS, LISTED, Place, audited, place
from tests.servers.hub import Hub
from tests.servers.s3 import s3_server
from tests.servers.serving import folder_server

# Of a report, what may differ between a folder and its mirror.
PASSING = ("source", "run")


@pytest.fixture(scope="module", params=KINDS)
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def same(remote: dict, folder: Path | str, *, lists: bool) -> None:
    """The remote report is the folder's (or that report), but for source and times, and what only a listing tells."""
    local = json.loads(folder if isinstance(folder, str) else auditor.audit(folder).model_dump_json())
    assert remote["source"]["fingerprint"] == local["source"]["fingerprint"]
    for report in (remote, local):
        for key in PASSING:
            del report[key]
        if not lists:
            report["outcomes"] = [each for each in report["outcomes"] if each["rule"] not in LISTED]
            for each in report["outcomes"]:
                del each["examined"]  # files beside the shards are not seen
    assert remote == local


@pytest.mark.parametrize("name", [None, "missing-block-scale", "duplicate-tensor"])
def test_report_is_the_one_of_a_folder(name, there, monkeypatch, capfd, tmp_path):
    forged = tmp_path / "checkpoint"
    forge(forged, like="tiny", sparse=True, break_name=name)
    there.put(forged)
    there.hear(monkeypatch)
    code, _, report = audited(there, capfd)
    assert code == (0 if name is None else 1)
    assert report is not None
    same(report, forged, lists=there.lists)


def test_shard_that_the_index_names_and_nobody_has_is_a_finding(there, monkeypatch, capfd, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="missing-shard")
    there.put(tmp_path / "checkpoint")
    there.hear(monkeypatch)
    code, _, report = audited(there, capfd)
    assert code == 1
    assert report is not None
    assert {each["slug"] for each in report["findings"] if each["severity"] == "error"} == {"missing-shard"}


def test_nothing_there_is_one_line_and_exit_3(there, monkeypatch, capfd, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("no checkpoint")
    there.put(tmp_path / "empty")
    there.hear(monkeypatch)
    code, text, report = audited(there, capfd)
    assert (code, report) == (3, None)
    assert text.count("\n") == 1
    assert "nothing to audit" in text


def test_headers_larger_than_the_first_read_take_a_second(there, monkeypatch, capfd, tmp_path):
    forged = tmp_path / "checkpoint"
    forge(forged, like="tiny", sparse=True)
    _grow(min(forged.glob("*.safetensors")), 200_000)
    there.put(forged)
    there.hear(monkeypatch)
    code, text, report = audited(there, capfd)
    assert (code, report is not None) == (0, True), text
    assert report is not None
    same(report, forged, lists=there.lists)


def _grow(shard: Path, padding: int) -> None:
    """Pad a shard's header with spaces, which the format allows."""
    data = shard.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] + b" " * padding
    shard.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def test_count_and_tensor_answer_for_remote_checkpoints(there, monkeypatch, capfd, tmp_path):
    from auditor import cli

    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    there.put(tmp_path / "checkpoint")
    there.hear(monkeypatch)
    assert cli.main(["count", there.uri, "--json", "-"]) == 0
    out, _ = capfd.readouterr()
    assert json.loads(out)["agree"] is True
    assert "SECRETMARK" not in out
    assert cli.main(["tensor", there.uri, "lm_head.weight"]) == 0
    assert "model-" in capfd.readouterr().out


def test_plain_web_server_makes_rules_about_unreferenced_files_not_applicable(monkeypatch, capfd, tmp_path):
    with place("web", tmp_path / "web") as there:
        forge(tmp_path / "checkpoint", like="tiny", sparse=True)
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        _, _, report = audited(there, capfd)
        assert report is not None
        unseen = {each["slug"]: each["reason"] for each in report["outcomes"] if each["outcome"] == "not_applicable"}
        assert unseen["stray-shard"] == "the source cannot list its files"
        assert unseen["missing-index"] == "the source cannot list its files"


def test_report_carries_the_commit_that_a_branch_is_at(monkeypatch, capfd, tmp_path):
    with place("hub", tmp_path / "hub") as there:
        forge(tmp_path / "checkpoint", like="tiny", sparse=True)
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        _, _, report = audited(there, capfd)
        assert report is not None
        commit = report["source"]["revision"]
        assert len(commit) == 40
        assert report["source"]["uri"] == "hf://org/model"
        forge(tmp_path / "next", like="tiny", sparse=True, break_name="missing-block-scale")
        there.put(tmp_path / "next")
        # By its commit the first one is still what it was; main has moved on.
        assert audited(there, capfd)[0] == 1
        assert audited(there, capfd, "--revision", commit)[0] == 0
        asked = [target for target in there.targets() if "/revision/" in target or "/resolve/main" in target]
        assert all(commit in target for target in asked)
        # An unknown one is said to be unknown.
        code, text, _ = audited(there, capfd, "--revision", "nowhere")
        assert code == 3
        assert "hf://org/model@nowhere: no such revision" in text


def test_listing_comes_in_pages_and_ends_at_the_limit(monkeypatch, capfd, tmp_path):
    forge(tmp_path / "root" / "model", like="tiny", sparse=True)
    server = s3_server(tmp_path / "root", "models", page=3)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": server.url
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    there = Place("s3", "s3://models/model", {}, [], lambda _: None, list)
    code, _, report = audited(there, capfd)
    assert code == 0
    assert report is not None
    same(report, tmp_path / "root" / "model", lists=True)
    (tmp_path / "policy.toml").write_text("[limits]\nfiles = 3\n")
    code, text, report = audited(there, capfd, "--policy", str(tmp_path / "policy.toml"))
    assert code == 3
    assert "limit files" in text
    server.close()


def test_large_headers_are_bounded_by_the_policy(monkeypatch, capfd, tmp_path):
    with place("web", tmp_path / "web") as there:
        forge(tmp_path / "checkpoint", like="tiny", sparse=True)
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        (tmp_path / "policy.toml").write_text("[limits]\nheader_bytes = 100\n")
        code, text, _ = audited(there, capfd, "--policy", str(tmp_path / "policy.toml"))
        assert code == 3
        assert "limit 100 (header_bytes)" in text


@pytest.mark.parametrize(
    ("source", "mend"),
    [
        ("ftp://host/path", "cannot read ftp:// sources"),
        ("hf://a/b/c", "is not a repository"),
        ("hf://org/name@../../other", "is not a revision"),
        ("s3://", "is not a bucket"),
        ("s3://key:SECRETMARK@bucket/x", "takes no credentials"),
        ("hf://user:SECRETMARK@org/name", "takes no credentials"),
        ("s3://bucket/a/../b", "not a plain path"),
        ("https://", "needs a host"),
    ],
)
def test_source_that_cannot_be_is_a_usage_error(source, mend, capfd):
    place = Place("", source, {}, [], lambda _: None, list)
    code, text, _ = audited(place, capfd)
    assert code == 2
    assert mend in text
    assert text.count("\n") == 1


def test_revision_is_for_the_hub_alone(capfd, tmp_path):
    for source in (str(tmp_path), "https://example.org/x"):
        code, text, _ = audited(Place("", source, {}, [], lambda _: None, list), capfd, "--revision", "main")
        assert code == 2
        assert "--revision is for hf:// sources" in text


def test_plain_http_is_for_loopback_alone(capfd):
    code, text, _ = audited(Place("", "http://192.0.2.1/x", {}, [], lambda _: None, list), capfd)
    assert code == 3
    assert "not https" in text


@pytest.mark.parametrize(("source", "package"), [("hf://a/b", "huggingface_hub"), ("s3://b/p", "obstore")])
def test_missing_extra_is_one_line_and_exit_2(source, package, monkeypatch, capfd):
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    code, text, _ = audited(Place("", source, {}, [], lambda _: None, list), capfd)
    assert code == 2
    assert "pip install 'checkpoint-auditor[stores]'" in text
    assert text.count("\n") == 1


def test_a_limit_ends_the_reading_though_more_would_come_if_it_were_taken(tmp_path, monkeypatch):
    forge(tmp_path / "root" / "model", like="tiny", sparse=True)
    (tmp_path / "root" / "model" / "model.safetensors.index.json").unlink()  # which would be beyond the limit before
    monkeypatch.setattr(starts, "_HELD", 2 * starts.START)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with s3_server(tmp_path / "root", "models", signed=False) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        source = open_source("s3://models/model", cache=False)
        begin(source, Limits())
        inventory = walk(source, Limits(tensors=1))
        source.close()
    assert len(inventory.unread) == 1
    assert "limit 1 (tensors)" in inventory.unread[0]


def test_audits_of_several_places_at_once_give_what_each_gives_alone_and_leave_nothing(tmp_path, monkeypatch):
    breaks = (None, "missing-block-scale", "missing-shard")
    for number, name in enumerate(breaks):
        forge(tmp_path / "root" / str(number), like="tiny", sparse=True, break_name=name)
    hub = Hub("org/model", tmp_path / "root" / "1")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")

    def audited(source: str) -> dict:
        return auditor.audit(source, cache=False).model_dump(exclude={"run"})

    with folder_server(tmp_path / "root") as web, s3_server(tmp_path / "root", "models", signed=False) as bucket:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.url)
        places = [
            "hf://org/model",
            *(f"s3://models/{each}" for each in range(3)),
            *(f"{web.url}/{n}" for n in range(3)),
        ]
        alone = [audited(place) for place in places]
        environment = dict(os.environ)
        _at_rest()
        before = len(list(Path("/proc/self/fd").iterdir()))
        with ThreadPoolExecutor(len(places)) as threads:
            for _ in range(3):
                assert list(threads.map(audited, places)) == alone
        assert dict(os.environ) == environment
        _at_rest()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
    hub.close()


def _at_rest() -> None:
    """Wait until no thread of an audit or of a server's connection is left."""
    until = time.monotonic() + 10
    while any("auditor" in each.name or "process_request" in each.name for each in threading.enumerate()):
        assert time.monotonic() < until, threading.enumerate()
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["web", "hub", "s3"])
def test_a_single_file_that_loaders_prefer_is_seen_from_afar(kind, tmp_path, monkeypatch, capfd):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="single-file-beside-index")
    with place(kind, tmp_path / "place") as there:
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        code, _, report = audited(there, capfd)
    assert report is not None
    assert (code, [each["rule"] for each in report["findings"] if each["severity"] == "error"]) == (1, ["FIL101"])


@pytest.mark.parametrize("kind", ["hub", "s3"])
def test_a_pointer_in_a_companions_place_is_seen_from_afar(kind, tmp_path, monkeypatch, capfd):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="pointer-for-tokenizer")
    (tmp_path / "checkpoint" / "vocab.json").write_bytes(b"{}" + b" " * 5_000)
    with place(kind, tmp_path / "place") as there:
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        code, _, report = audited(there, capfd)
        asked = [target for target in there.targets() if "vocab.json" in target]
    assert report is not None
    assert (code, [each["rule"] for each in report["findings"] if each["severity"] == "warning"]) == (0, ["FIL112"])
    assert asked == []
