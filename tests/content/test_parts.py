"""A full audit read in parts, by jobs side by side: the report is the one of an audit that reads all by itself."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import auditor
from auditor import cli
from auditor.content import Reading, parts, state, units
from auditor.content.parts import share, terms_of
from auditor.content.plan import ShardPlan
from auditor.errors import UsageError
from auditor.forge import forge
from auditor.sources import open_source
from tests.servers.hub import Hub
from tests.servers.s3 import s3_server
from tests.servers.serving import Reply, Request, Server


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AUDITOR_STATE_KEY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def read(source: object, place: object, part: str, *options: str) -> int:
    return cli.main(["read", str(source), "--resume", str(place), "--part", part, *options])


def collected(source: object, place: object, *options: str) -> tuple[int, dict]:
    """The exit code and the report of the audit that collects."""
    path = Path(os.environ["XDG_CACHE_HOME"]).parent / "report.json"
    command = ["audit", str(source), "--depth", "full", "--resume", str(place), "--seed", "1", "--quiet"]
    code = cli.main([*command, "--json", str(path), *options])
    return code, json.loads(path.read_text("utf-8")) if code != 2 else {}


def stable(report: dict) -> dict:
    return {name: value for name, value in report.items() if name != "run"}


# --- who reads what ---


@given(st.lists(st.integers(9, 1 << 40), max_size=60), st.integers(1, 9), st.randoms())
def test_shares_are_all_of_the_shards_and_differ_by_one_at_most(sizes: list[int], count: int, order) -> None:
    plans = [ShardPlan(f"{k:03}", size, 0, None, (), whole=True) for k, size in enumerate(sizes)]
    shares = [share(plans, number, count) for number in range(1, count + 1)]
    assert sorted(plan.file for each in shares for plan in each) == [plan.file for plan in plans]
    loads = [sum(plan.size for plan in each) for each in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)
    order.shuffle(plans)
    assert [share(plans, number, count) for number in range(1, count + 1)] == shares


# --- the report ---


@pytest.mark.parametrize("count", [1, 2, 7])
def test_report_of_parts_in_any_order_is_that_of_one_audit(sound: Path, tmp_path: Path, count: int, capsys) -> None:
    order = [f"{number}/{count}" for number in range(1, count + 1)]
    random.Random(count).shuffle(order)
    for part in [*order, order[0]]:
        assert read(sound, tmp_path / "place", part) == 0
        said = capsys.readouterr().out
        assert f"part {part.replace('/', ' of ')} is read" in said
        assert "passed" not in said
    code, report = collected(sound, tmp_path / "place")
    assert code == 0
    assert report["run"]["resumed_shards"] == report["inventory"]["shards"]
    assert stable(report) == stable(collected(sound, tmp_path / "another")[1])


def test_what_no_part_has_read_is_read_when_collecting(sound: Path, tmp_path: Path) -> None:
    read(sound, tmp_path / "place", "2/3")
    code, report = collected(sound, tmp_path / "place")
    assert code == 0
    assert 0 < report["run"]["resumed_shards"] < report["inventory"]["shards"]


@pytest.mark.parametrize("name", ["nan-codes", "truncated-shard", "missing-block-scale"])
def test_damage_is_the_verdict_of_the_audit_and_not_of_the_part(tmp_path: Path, name: str) -> None:
    broken = forge(tmp_path / "broken", break_name=name).directory
    for part in ("1/2", "2/2"):
        assert read(broken, tmp_path / "place", part) == 0
    code, report = collected(broken, tmp_path / "place")
    alone = collected(broken, tmp_path / "another")
    assert (code, stable(report)) == (alone[0], stable(alone[1]))
    assert code == 1


def test_a_part_is_no_audit(sound: Path, tmp_path: Path) -> None:
    reading = Reading(depth="full", resume=str(tmp_path / "place"), part=(1, 2))
    with pytest.raises(UsageError, match="no verdict"):
        auditor.audit(sound, depth="full", reading=reading)


# --- several machines ---


def test_on_another_machine_a_shard_is_known_by_size_header_and_time(copy: Path, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "place"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(state, "this_machine", lambda: "another one")
        for part in ("1/2", "2/2"):
            read(copy, place, part)
    shards = sorted(copy.glob("*.safetensors"))
    for shard in shards:  # ctime, as it is where another machine looks
        shard.chmod(0o640)
    assert collected(copy, place)[1]["run"]["resumed_shards"] == len(shards)
    for shard in shards:
        os.utime(shard)
    assert collected(copy, place)[1]["run"]["resumed_shards"] == 0


def test_a_shard_of_which_two_machines_read_some_is_read(copy: Path, tmp_path: Path, monkeypatch) -> None:
    """A share that began on a machine goes on on another, where inodes and their times are others."""
    monkeypatch.setattr(units, "UNIT_BYTES", 300_000)
    place, alone = tmp_path / "place", collected(copy, tmp_path / "another", "--no-digests")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(state, "this_machine", lambda: "another one")
        assert read(copy, place, "1/1", "--no-digests") == 0
    kept = sorted(path for path in place.glob("*.msgpack") if len(path.stem) == 24)
    for path in kept[::2]:
        path.unlink()
    for shard in copy.glob("*.safetensors"):
        shard.chmod(0o640)
    assert read(copy, place, "1/1", "--no-digests") == 0
    code, report = collected(copy, place, "--no-digests")
    assert (code, stable(report)) == (alone[0], stable(alone[1]))
    assert report["run"]["resumed_shards"] == report["inventory"]["shards"]


def test_on_the_same_machine_everything_that_a_stamp_says_counts(copy: Path, tmp_path: Path) -> None:
    read(copy, tmp_path / "place", "1/1")
    for shard in copy.glob("*.safetensors"):
        shard.chmod(0o640)
    assert collected(copy, tmp_path / "place")[1]["run"]["resumed_shards"] == 0


def test_parts_that_are_killed_leave_what_they_finished(sound: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    command = [sys.executable, "-m", "auditor", "read", str(sound), "--resume", str(place), "--jobs", "1", "--part"]
    for wait in (0.4, 0.8, 1.2):
        running = [subprocess.Popen([*command, part], stdout=subprocess.DEVNULL) for part in ("1/2", "1/1")]
        time.sleep(wait)
        for each in running:
            each.send_signal(signal.SIGKILL)
            each.wait(30)
    ended = [subprocess.Popen([*command, part], stdout=subprocess.DEVNULL) for part in ("1/2", "2/2", "1/1")]
    assert [each.wait(120) for each in ended] == [0, 0, 0]
    code, report = collected(sound, place)
    assert code == 0
    assert report["run"]["resumed_shards"] == report["inventory"]["shards"]


@pytest.mark.slow
def test_parts_that_are_killed_over_and_over_are_one_audit_in_the_end(sound: Path, tmp_path: Path) -> None:
    """Thirty kills: of parts of three and of four, which overlap, and of the audit that collects."""
    place, drawn = tmp_path / "place", random.Random(1)
    kept = ["--resume", str(place), "--jobs", "1", "--quiet"]
    reading = [["read", str(sound), *kept, "--part", part] for part in ("1/3", "2/3", "3/3", "1/4", "4/4")]
    collecting = ["audit", str(sound), "--depth", "full", "--seed", "1", *kept]
    for _ in range(10):
        begun = [
            subprocess.Popen([sys.executable, "-m", "auditor", *words], stdout=subprocess.DEVNULL)
            for words in (*drawn.sample(reading, 2), collecting)
        ]
        time.sleep(drawn.uniform(0.2, 2.5))
        for each in begun:
            each.send_signal(signal.SIGKILL)
            each.wait(30)
    assert [cli.main(words) for words in reading[:3]] == [0, 0, 0]
    code, report = collected(sound, place)
    assert code == 0
    assert report["run"]["resumed_shards"] == report["inventory"]["shards"]
    assert stable(report) == stable(collected(sound, tmp_path / "another")[1])


# --- a bucket as the place ---


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bucket").mkdir()
    with s3_server(tmp_path / "bucket", "results") as server:
        _credentials(monkeypatch, server)
        yield tmp_path / "bucket"


def _credentials(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    named = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": server.url, "AWS_REGION": "x"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("auditor.sources.http.transport.DEADLINE_S", 2)


def test_parts_are_kept_in_a_bucket(sound: Path, tmp_path: Path, bucket: Path) -> None:
    for part in ("1/2", "2/2"):
        assert read(sound, "s3://results/run 1", part) == 0
    assert {path.parent.name for path in bucket.rglob("*.msgpack")} == {"run 1"}
    code, report = collected(sound, "s3://results/run 1")
    assert code == 0
    assert report["run"]["resumed_shards"] == report["inventory"]["shards"]
    assert stable(report) == stable(collected(sound, tmp_path / "another")[1])


@pytest.mark.parametrize("what", [b"", b"\x91" * 100_000, b"\xff", b"\x80", "huge"])
def test_whatever_stands_in_the_bucket_counts_as_not_there(sound: Path, bucket: Path, what: bytes | str) -> None:
    read(sound, "s3://results/run", "1/1")
    for path in (bucket / "run").glob("*.msgpack"):
        with path.open("wb") as file:
            file.truncate(1 << 30) if isinstance(what, str) else file.write(what)
    code, report = collected(sound, "s3://results/run")
    assert code == 0
    assert report["run"]["resumed_shards"] == 0


def test_a_bucket_that_does_not_answer_is_one_line(sound: Path, monkeypatch, capsys) -> None:
    with Server(lambda _: Reply(403, b"<Error><Code>AccessDenied</Code></Error>")) as server:
        _credentials(monkeypatch, server)
        assert read(sound, "s3://results/run", "1/1") == 3
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "s3://results/run: access is denied" in said.err


def _empty_and_full(request: Request) -> Reply:
    """A bucket without objects that takes none."""
    if request.method == "PUT":
        return Reply(403)
    if request.query.get("list-type"):
        return Reply(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    return Reply(404, b"<Error><Code>NoSuchKey</Code></Error>")


def test_a_bucket_that_takes_nothing_leaves_the_part_unread(sound: Path, monkeypatch, capsys) -> None:
    with Server(_empty_and_full) as server:
        _credentials(monkeypatch, server)
        assert read(sound, "s3://results/run", "1/1") == 3
    assert "cannot be written to" in capsys.readouterr().out


def test_what_a_bucket_holds_is_taken_up_where_it_takes_no_more(sound: Path, tmp_path: Path, monkeypatch) -> None:
    """A full disk, or credentials that may read alone: nothing is read again for want of a place for a seed."""
    (tmp_path / "bucket").mkdir()
    with s3_server(tmp_path / "bucket", "results") as server:
        _credentials(monkeypatch, server)
        assert read(sound, "s3://results/run", "1/1") == 0
    with Server(lambda it: Reply(403) if it.method == "PUT" else server.answer(it)) as reader:
        _credentials(monkeypatch, reader)
        assert read(sound, "s3://results/run", "1/2") == 0
        code, report = collected(sound, "s3://results/run")
    assert code == 3  # which seed it had, it cannot say to the next
    assert report["run"]["resumed_shards"] == report["inventory"]["shards"]


def test_a_prefix_of_the_checkpoint_is_no_place_for_results(sound: Path, monkeypatch, capsys) -> None:
    with s3_server(sound.parent, "models") as server:
        _credentials(monkeypatch, server)
        assert read("s3://models/tiny", "s3://models/tiny/results", "1/1") == 2
    assert "lies inside the checkpoint" in capsys.readouterr().err


# --- one reading ---


def test_parts_read_with_and_without_digests_are_not_mixed(sound: Path, tmp_path: Path, capsys) -> None:
    place = tmp_path / "place"
    read(sound, place, "1/2")
    capsys.readouterr()
    for command in (["read", "--part", "2/2"], ["audit", "--depth", "full"]):
        assert cli.main([command[0], str(sound), "--resume", str(place), "--no-digests", *command[1:]]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"auditor {auditor.__version__}, depth full, with digests" in said
        assert "without digests" in said


def test_where_all_parts_are_read_numba_is_not_asked_for(sound: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    assert cli.main(["read", str(sound), "--resume", str(place), "--part", "1/1", "--quiet"]) == 0
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "numba.py").write_text("raise ImportError('Numba needs another NumPy')", "utf-8")
    words = [sys.executable, "-m", "auditor", "audit", str(sound), "--depth", "full", "--resume", str(place)]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'broken'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_parts_of_another_version_are_not_mixed(sound: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    with monkeypatch.context() as older:
        older.setattr(parts, "__version__", "0.0.1")
        read(sound, tmp_path / "place", "1/2")
    assert collected(sound, tmp_path / "place")[0] == 2
    assert "auditor 0.0.1" in capsys.readouterr().err


def test_parts_of_another_revision_are_not_mixed(sound: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    hub = Hub("org/model", sound)
    try:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        first, second = hub.main, hub.push(sound)
        assert read("hf://org/model", tmp_path / "place", "1/2", "--revision", first) == 0
        capsys.readouterr()
        assert read("hf://org/model", tmp_path / "place", "2/2") == 2
    finally:
        hub.close()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert first in said
    assert second in said


@pytest.mark.parametrize("what", [b"\x91" * 100_000, b"\xff", "half", "another's", "a folder"])
def test_whatever_stands_in_the_folder_counts_as_not_there(sound: Path, tmp_path: Path, what: bytes | str) -> None:
    place = tmp_path / "place"
    read(sound, place, "1/1")
    for path in place.glob("*.msgpack"):
        whole = path.read_bytes()
        path.unlink()
        if what == "a folder":
            path.mkdir()
        elif what == "another's":
            path.write_bytes(whole.replace(b"machine\xb0", b"machine\xb1"))
        else:
            path.write_bytes(whole[: len(whole) // 2] if isinstance(what, str) else what)
    code, report = collected(sound, place)
    assert code == (3 if what == "a folder" else 0)  # which nothing is written in the place of
    assert report["run"]["resumed_shards"] == 0


def test_terms_of_another_checkpoint_are_no_concern(sound: Path, copy: Path, tmp_path: Path) -> None:
    read(copy, tmp_path / "place", "1/2", "--no-digests")
    assert read(sound, tmp_path / "place", "1/2") == 0


# --- bad input ---


def test_terms_too_long_to_be_any_count_as_not_there(sound: Path, tmp_path: Path, capsys) -> None:
    terms = terms_of(open_source(str(sound)), "full", digests=True)
    for tool, code in (("x" * 300, 2), ("x" * 301, 0)):
        place = tmp_path / str(code)
        place.mkdir(mode=0o700)
        raw = state.Seal().wrapped("terms", replace(terms, tool=tool))
        (place / "terms-0123456789abcdef.msgpack").write_bytes(raw)
        assert cli.main(["read", str(sound), "--part", "1/1", "--resume", str(place)]) == code


@pytest.mark.parametrize(
    "part", ["0/4", "5/4", "1/0", "x", "1", "/", "1/", "-1/4", "1/99999999", "1/9999999999", "١/٤"]
)
def test_a_part_that_is_none_is_one_line(sound: Path, tmp_path: Path, part: str, capsys) -> None:
    assert cli.main(["read", str(sound), "--resume", str(tmp_path / "place"), f"--part={part}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_part_needs_a_place_and_depth_full(sound: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["read", str(sound), "--part", "1/2"]) == 2
    assert "--resume" in capsys.readouterr().err
    place = ["--resume", str(tmp_path / "place")]
    assert cli.main(["read", str(sound), "--part", "1/2", *place, "--depth", "headers"]) == 2
    assert cli.main(["audit", str(sound), "--part", "1/2", *place, "--depth", "full"]) == 2
    assert read(sound, "ftp://host/place", "1/2") == 2
    assert read(sound, sound / "place", "1/2") == 2
