"""Headers read once are not read again while they are what they were, and are nobody else's to read."""

from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.forge import forge
from auditor.sources.cache import Cache, Cached, folder
from tests.places import Place, audited, copied, place


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = folder()
    assert found is not None
    return Path(found)


@pytest.fixture(scope="module", params=["web", "hub", "s3"])
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def _reads(there: Place) -> list[str]:
    return [target for target in there.targets() if ".safetensors" in target or "config.json" in target]


def test_second_audit_reads_nothing_again(there, where, monkeypatch, capfd, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    there.put(tmp_path / "checkpoint")
    there.hear(monkeypatch)
    code, _, first = audited(there, capfd)
    assert code == 0
    before = len(_reads(there))
    code, _, second = audited(there, capfd)
    assert code == 0
    assert first is not None
    assert second is not None
    for report in (first, second):
        del report["run"]
    assert first == second
    # A source that lists has said that nothing changed; a web server is asked, and answers without a body.
    if there.lists:
        assert len(_reads(there)) == before
    code, _, _ = audited(there, capfd, "--no-cache")
    assert len(_reads(there)) > before


def test_next_revision_is_read_where_it_changed(there, where, monkeypatch, capfd, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    there.put(tmp_path / "checkpoint")
    there.hear(monkeypatch)
    assert audited(there, capfd)[0] == 0
    copied(tmp_path / "checkpoint", tmp_path / "next")
    changed = min((tmp_path / "next").glob("*.safetensors"))
    data = bytearray(changed.read_bytes())
    length = int.from_bytes(data[:8], "little")
    data[8 : 8 + length] = data[8 : 8 + length].replace(b"F8_E4M3", b"I8     ", 1).replace(b'"I8     "', b'"I8"     ')
    changed.write_bytes(data)
    os.utime(changed, ns=(1, 1))
    there.put(tmp_path / "next")
    before = len(_reads(there))
    code, _, report = audited(there, capfd)
    assert code == 1, "the change is seen"
    assert report is not None
    if there.kind in ("hub", "s3"):
        read = {target.partition("?")[0].rpartition("/")[2] for target in _reads(there)[before:]}
        assert read == {changed.name}


def test_no_cache_writes_nothing(there, where, monkeypatch, capfd, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    there.put(tmp_path / "checkpoint")
    there.hear(monkeypatch)
    assert audited(there, capfd, "--no-cache")[0] == 0
    assert not where.exists()


def test_nothing_of_it_is_readable_by_others_or_holds_a_secret(there, where, monkeypatch, capfd, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    there.put(tmp_path / "checkpoint")
    there.hear(monkeypatch)
    before = os.umask(0)
    try:
        assert audited(there, capfd)[0] == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert len(list(where.iterdir())) >= 7
    for path in where.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"SECRETMARK" not in path.read_bytes()
        assert "SECRETMARK" not in path.name


def test_entries_are_told_apart_by_location_path_and_identity(where):
    cache = Cache(str(where))
    cache.keep("s3://a", "x", "1", b"data", 100, latest=False)
    assert cache.find("s3://a", "x", "1") == Cached(b"data", 100, "1")
    for other in (("s3://b", "x", "1"), ("s3://a", "y", "1"), ("s3://a", "x", "2"), ("s3://ax", "", "1")):
        assert cache.find(*other) is None
    assert cache.find("s3://a", "x", None) is None
    cache.keep("s3://a", "x", "2", b"newer", 100, latest=True)
    assert cache.find("s3://a", "x", None) == Cached(b"newer", 100, "2")


def test_damaged_entry_is_no_entry(where):
    cache = Cache(str(where))
    cache.keep("a", "x", "1", b"data", 100, latest=False)
    (path,) = where.iterdir()
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"!", b"", b"x" * 100, content + b"more"):
        path.write_bytes(damaged)
        assert cache.find("a", "x", "1") is None


def test_folder_that_others_may_enter_is_not_used(where):
    where.mkdir(parents=True, mode=0o755)
    where.chmod(0o755)
    cache = Cache(str(where))
    cache.keep("a", "x", "1", b"data", 100, latest=False)
    assert list(where.iterdir()) == []
    assert cache.find("a", "x", "1") is None


def test_symlink_in_the_place_of_an_entry_is_not_followed(where, tmp_path):
    cache = Cache(str(where))
    cache.keep("a", "x", "1", b"data", 100, latest=False)
    (path,) = where.iterdir()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.find("a", "x", "1") is None


def test_cache_is_bounded_and_keeps_what_was_used_last(where):
    cache = Cache(str(where), bound=100_000)
    for number in range(20):
        cache.keep("a", str(number), "1", bytes(10_000), 10_000, latest=False)
        for path in where.iterdir():
            os.utime(path, ns=(path.stat().st_mtime_ns - 10**9,) * 2)
    cache.find("a", "0", "1")
    cache.trim()
    assert sum(path.stat().st_size for path in where.iterdir()) <= 80_000
    assert cache.find("a", "0", "1") is not None
    assert cache.find("a", "19", "1") is not None
    assert cache.find("a", "1", "1") is None


def _writes(where: str, seed: int) -> None:
    cache = Cache(where, bound=200_000)
    for number in range(80):
        name = str((number * 7 + seed) % 40)
        cache.keep("a", name, "1", name.encode() * 5000, 1, latest=True)
        found = cache.find("a", name, "1")
        assert found is None or found.data == name.encode() * 5000
        if number % 20 == 0:
            cache.trim()


def test_processes_share_it_without_harm(where):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_writes, args=(str(where), seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert not list(where.glob("*.partial"))


def test_unwritable_home_is_no_reason_to_fail(monkeypatch, capfd, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with place("web", tmp_path / "web") as there:
        forge(tmp_path / "checkpoint", like="tiny", sparse=True)
        there.put(tmp_path / "checkpoint")
        there.hear(monkeypatch)
        assert audited(there, capfd)[0] == 0
