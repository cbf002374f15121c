"""Reports are kept whole under their SHA-256, written once, and never served damaged; in a folder and in a bucket."""

import gzip
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from auditor.errors import UsageError
from auditor.service.store.reports import Bucket, Folder, Reports, open_reports
from tests.servers.parts import moto
from tests.servers.serving import Reply, Server

REPORT = b'{"schema_version": "1"}\n'
NAME = hashlib.sha256(REPORT).hexdigest()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a store with the bucket `reports`."""
    with moto(tmp_path_factory.mktemp("moto")) as port:
        address = f"http://127.0.0.1:{port}"
        boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        ).create_bucket(Bucket="reports")
        yield address


@pytest.fixture(params=["folder", "bucket"])
def reports(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reports:
    """Reports of each kind."""
    if request.param == "folder":
        return open_reports(str(tmp_path / "reports"))
    _environment(monkeypatch, request.getfixturevalue("s3"))
    return open_reports(f"s3://reports/{tmp_path.name}")


def _environment(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL", address),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)


def test_a_report_comes_back_as_it_was(reports: Reports) -> None:
    assert reports.put(REPORT) == NAME
    assert reports.get(NAME) == REPORT
    assert list(reports.every()) == [NAME]


def test_a_report_is_put_as_often_as_it_is_asked_and_is_one(reports: Reports) -> None:
    assert reports.put(REPORT) == reports.put(REPORT)
    assert list(reports.every()) == [NAME]


def test_a_report_that_is_not_there_is_none(reports: Reports) -> None:
    assert reports.get(NAME) is None
    assert reports.get("../../etc/passwd") is None
    reports.remove(NAME)
    assert list(reports.every()) == []


def test_a_removed_report_is_gone(reports: Reports) -> None:
    reports.put(REPORT)
    reports.remove(NAME)
    assert reports.get(NAME) is None


def test_what_attempts_finished_is_there_for_the_next_one_on_another_machine(reports: Reports, tmp_path: Path) -> None:
    if isinstance(reports, Folder):
        pytest.skip("in a folder it is where it was written")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "a.json").write_text("1")
    (here / "a.json.12.deadbeef.partial").write_text("half")
    reports.kept.keep("audit", here)
    (here / "b.json").write_text("2")
    reports.kept.keep("audit", here)
    reports.kept.fetch("audit", there)
    assert {each.name: each.read_text() for each in there.iterdir()} == {"a.json": "1", "b.json": "2"}
    assert stat.S_IMODE(there.stat().st_mode) == 0o700
    assert list(reports.every()) == []
    reports.kept.forget("audit")
    reports.kept.fetch("audit", tmp_path / "later")
    assert list((tmp_path / "later").iterdir()) == []


def test_a_damaged_report_is_not_served(tmp_path: Path) -> None:
    reports = Folder(tmp_path)
    reports.put(REPORT)
    (file,) = tmp_path.rglob("*.json.gz")
    sound = file.read_bytes()
    flipped = [bytes([*sound[:n], sound[n] ^ 255, *sound[n + 1 :]]) for n in range(10, len(sound))]
    for damage in (gzip.compress(b"other"), b"", sound[:-1], b"\x1f\x8b", *flipped):
        file.write_bytes(damage)
        assert reports.get(NAME) is None


def test_a_file_that_unpacks_to_more_than_a_report_may_be_is_none(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = reports.put(b" " * (1 << 20))
    monkeypatch.setattr("auditor.service.store.reports.LARGEST", 1 << 16)
    assert reports.get(name) is None
    with pytest.raises(ValueError, match="longer than"):
        reports.put(b"x" * (1 << 17))
    monkeypatch.setattr("auditor.service.store.reports.LARGEST", 100)  # less than what is packed
    assert reports.get(name) is None


def test_files_are_for_this_user_alone_and_the_same_for_the_same_report(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Folder(tmp_path / name).put(REPORT)
    one, two = sorted(tmp_path.rglob("*.json.gz"))
    assert one.read_bytes() == two.read_bytes()
    assert stat.S_IMODE(one.stat().st_mode) == 0o600


def test_a_full_disk_leaves_no_half_a_report(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    import subprocess

    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no file systems can be mounted here")
    try:
        reports = Folder(place / "reports")
        large = os.urandom(1 << 20)
        with pytest.raises(OSError, match="No space left"):
            reports.put(large)
        assert list(reports.every()) == []
        assert reports.get(reports.put(REPORT)) == REPORT
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_store_that_fails_is_an_error_of_the_store_and_none_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(lambda _: Reply(403, b"<Error/>")) as server:
        _environment(monkeypatch, server.url)
        reports = Bucket("s3://reports/x")
        with pytest.raises(OSError, match="the store of reports"):
            reports.put(REPORT)
        with pytest.raises(OSError, match="the store of reports"):
            reports.get(NAME)


def test_a_place_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="ftp"):
        open_reports("ftp://host/reports")
