"""What `--resume` takes up again, and from whom: a folder of results is somebody's word for bytes that nobody reads."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import auditor
from auditor import cli
from auditor.content import Reading
from auditor.errors import UsageError
from auditor_schemas.report import AuditReport
from tests import kept


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDITOR_STATE_KEY", raising=False)


def resumed(folder: Path, state: Path, *, shared: bool = False) -> AuditReport:
    return auditor.audit(
        folder, depth="full", reading=Reading(depth="full", seed=1, resume=str(state), resume_shared=shared)
    )


def first_shard(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[0]


def put_nan(shard: Path) -> None:
    """An FP8 NaN code in place of the shard's first weight, in place and with the times restored."""
    before = shard.stat()
    raw = shard.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    begin = next(entry["data_offsets"][0] for entry in header.values() if entry.get("dtype") == "F8_E4M3")
    with shard.open("r+b") as file:
        file.seek(8 + length + begin)
        file.write(b"\x7f")
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (shard.stat().st_size, shard.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def results(state: Path) -> list[Path]:
    return sorted(path for path in state.glob("*.msgpack") if len(path.stem) == 24)


# --- what a result belongs to ---


def test_a_shard_rewritten_in_place_with_its_times_restored_is_read_again(copy: Path, tmp_path: Path) -> None:
    assert resumed(copy, tmp_path / "state").verdict == "passed"
    put_nan(first_shard(copy))
    assert resumed(copy, tmp_path / "state").verdict == "failed"


def test_a_shard_put_in_the_place_of_another_with_its_times_is_read_again(copy: Path, tmp_path: Path) -> None:
    assert resumed(copy, tmp_path / "state").verdict == "passed"
    shard = first_shard(copy)
    other = Path(shutil.copy2(shard, tmp_path / "other"))
    put_nan(other)
    other.replace(shard)
    assert resumed(copy, tmp_path / "state").verdict == "failed"


def test_a_writer_that_restores_the_times_is_noticed_while_a_shard_is_read(copy: Path) -> None:
    source = auditor.sources.open_source(str(copy))
    file = source.open(first_shard(copy).name)
    before = file.stamp()
    put_nan(first_shard(copy))
    assert file.stamp() != before
    assert source.stamp(first_shard(copy).name) == file.stamp()


def test_the_report_says_how_many_shards_came_from_the_state(copy: Path, tmp_path: Path, capsys) -> None:
    assert auditor.audit(copy, depth="full").run.resumed_shards is None
    assert resumed(copy, tmp_path / "state").run.resumed_shards == 0
    os.utime(first_shard(copy))
    shards = len(list(copy.glob("*.safetensors")))
    # The first one is read again, and whatever has scales in it.
    assert 0 < resumed(copy, tmp_path / "state").run.resumed_shards < shards
    assert cli.main(["audit", str(copy), "--depth", "full", "--resume", str(tmp_path / "state"), "--seed", "1"]) == 0
    text = " ".join(capsys.readouterr().out.split())  # a narrow terminal breaks lines
    assert f"{shards} of {shards} shards' results are from the state folder" in text


# --- who may have written it ---


def edit(state: Path, *, sealed: bool = False) -> None:
    """The counts of NaN codes set to zero, and nothing else."""
    found = []

    def without_nan(result: dict[str, Any]) -> None:
        for tensor in result["values"]["tensors"]:
            found.append(tensor.pop("nan", 0))

    for path in results(state):
        kept.changed(path, without_nan, sealed=sealed)
    assert sum(found)


def test_an_edited_result_counts_as_not_there(copy: Path, tmp_path: Path) -> None:
    put_nan(first_shard(copy))
    assert resumed(copy, tmp_path / "state").verdict == "failed"
    edit(tmp_path / "state")
    assert resumed(copy, tmp_path / "state").verdict == "failed"


def test_a_result_of_another_shard_counts_as_not_there(copy: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    resumed(copy, state)
    one, other = results(state)[:2]
    shutil.copy(other, one)
    assert resumed(copy, state).run.resumed_shards == len(results(state)) - 1


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777, 0o702])
def test_a_folder_that_others_may_write_is_refused(copy: Path, tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    resumed(copy, state)
    state.chmod(mode)
    with pytest.raises(UsageError, match=r"others may write .*--resume-shared"):
        resumed(copy, state)
    assert resumed(copy, state, shared=True).run.resumed_shards == len(results(state))


@pytest.mark.parametrize("way", ["folder above", "link", "link beyond a link"])
def test_a_folder_that_others_may_replace_is_refused(copy: Path, tmp_path: Path, way: str) -> None:
    open_ = tmp_path / "open"
    open_.mkdir()
    (open_ / "state").mkdir(mode=0o700)
    where = open_ / "state"
    if way != "folder above":
        (tmp_path / "real").mkdir(mode=0o700)
        where.rmdir()
        where.symlink_to(tmp_path / "real")
    if way == "link beyond a link":
        (tmp_path / "first").symlink_to(where)
        where = tmp_path / "first"
    open_.chmod(0o777)
    with pytest.raises(UsageError, match=r"others may .*--resume-shared"):
        resumed(copy, where)
    open_.chmod(0o1777)  # where each may take away only what is theirs, as in /tmp
    assert resumed(copy, where).verdict == "passed"


def test_a_folder_of_somebody_else_is_refused(copy: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    if os.geteuid() != 0:
        pytest.skip("giving a folder away needs root")
    os.chown(state, 12345, 12345)
    with pytest.raises(UsageError, match=r"belongs to user 12345.*--resume-shared"):
        resumed(copy, state)
    assert resumed(copy, state, shared=True).verdict == "passed"


def test_a_result_that_others_may_write_counts_as_not_there(copy: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    resumed(copy, state)
    results(state)[0].chmod(0o666)
    assert resumed(copy, state).run.resumed_shards == len(results(state)) - 1


def test_a_new_folder_is_its_owners_alone_whatever_the_mask(copy: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        resumed(copy, tmp_path / "new" / "state")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "state").stat().st_mode) == 0o700
    assert resumed(copy, tmp_path / "new" / "state").run.resumed_shards == len(results(tmp_path / "new" / "state"))


def test_with_a_key_only_results_of_that_key_count(copy: Path, tmp_path: Path, monkeypatch) -> None:
    state = tmp_path / "state"
    resumed(copy, state)
    shards = len(results(state))
    monkeypatch.setenv("AUDITOR_STATE_KEY", "one key")
    assert resumed(copy, state).run.resumed_shards == 0  # plain digests are anybody's
    assert resumed(copy, state).run.resumed_shards == shards
    monkeypatch.setenv("AUDITOR_STATE_KEY", "another key")
    assert resumed(copy, state).run.resumed_shards == 0
    monkeypatch.delenv("AUDITOR_STATE_KEY")
    assert resumed(copy, state).run.resumed_shards == 0  # nor can anybody tell without the key
    kept = b"".join(path.read_bytes() for path in state.iterdir())
    assert b"one key" not in kept
    assert b"another key" not in kept


def test_a_forged_result_passes_without_a_key_and_not_with_one(copy: Path, tmp_path: Path, monkeypatch) -> None:
    """Whoever may write the folder can make a digest: this is what the key is for."""
    put_nan(first_shard(copy))
    state = tmp_path / "state"

    assert resumed(copy, state).verdict == "failed"
    edit(state, sealed=True)
    assert resumed(copy, state).verdict == "passed"
    monkeypatch.setenv("AUDITOR_STATE_KEY", "a key")
    assert resumed(copy, state).verdict == "failed"
    edit(state, sealed=True)
    assert resumed(copy, state).verdict == "failed"


def test_an_empty_key_is_a_usage_error(copy: Path, tmp_path: Path, monkeypatch) -> None:
    """A pipeline gives an empty text for a secret that it does not have."""
    monkeypatch.setenv("AUDITOR_STATE_KEY", "")
    with pytest.raises(UsageError, match="AUDITOR_STATE_KEY is empty"):
        resumed(copy, tmp_path / "state")


# --- what may stand in it ---


@pytest.mark.parametrize("name", ["audit.msgpack", "functional.msgpack", "result"])
@pytest.mark.parametrize("what", ["fifo", "folder", "link", "broken link", "huge", "device", "nested", "no text"])
def test_whatever_stands_in_the_place_of_a_result_counts_as_not_there(
    copy: Path, tmp_path: Path, name: str, what: str
) -> None:
    state = tmp_path / "state"
    resumed(copy, state)
    path = results(state)[0] if name == "result" else state / name
    kept = path.read_bytes()
    path.unlink()
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        (tmp_path / "elsewhere").write_bytes(kept)
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "broken link":
        path.symlink_to(tmp_path / "absent")
    elif what == "huge":
        with path.open("wb") as file:
            file.write(kept)
            file.truncate(3 << 30)
    elif what == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("making a device needs root")
    elif what == "nested":
        path.write_bytes(b"\x91" * 100_000)
    else:
        path.write_bytes(b"\xff\xfe")
    # Not getrusage's: that begins with what the process was forked from, and the tests' own may be large.
    script = "import sys; from auditor.cli import main; code = main(sys.argv[1:]); "
    script += "peak = open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]; "
    script += "print(int(peak) >> 10); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", script, "audit", str(copy), "--depth", "full", "--seed", "1", "--resume", str(state),
         "--quiet"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "unexpected" not in done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) < 1000
    if what == "folder" and name != "functional.msgpack":
        assert done.returncode == 3  # nothing can be kept there
        assert "could not be saved" in done.stdout or "cannot be written" in done.stdout
    else:
        assert done.returncode == 0, done.stdout + done.stderr
    if what in ("link", "broken link"):
        assert not (tmp_path / "absent").exists()


def test_whatever_an_interrupted_audit_left_is_taken_away_and_nothing_else(copy: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "a.msgpack.12.0123abcd.partial").mkdir()
    (state / "b.msgpack.12.0123abcd.partial").write_bytes(b"left")
    (state / "c.msgpack.12.0123abcd.partial").symlink_to(copy / "config.json")
    (state / "d.msgpack.12.0123abcd.partial").write_bytes(b"begun by another process")
    for name in "abc":
        os.utime(state / f"{name}.msgpack.12.0123abcd.partial", (0, 0), follow_symlinks=False)
    (state / "film.mkv.partial").write_bytes(b"a browser's")
    assert resumed(copy, state).verdict == "passed"
    assert (state / "a.msgpack.12.0123abcd.partial").is_dir()
    assert not (state / "b.msgpack.12.0123abcd.partial").exists()
    assert not (state / "c.msgpack.12.0123abcd.partial").is_symlink()
    assert (state / "d.msgpack.12.0123abcd.partial").exists()
    assert (state / "film.mkv.partial").exists()
    assert (copy / "config.json").exists()


def test_values_that_are_not_of_the_plan_count_as_not_there(copy: Path, tmp_path: Path) -> None:
    """Well sealed, and about other tensors than those that were to be read."""
    state = tmp_path / "state"
    resumed(copy, state)
    first, others = results(state)[0], len(results(state)) - 1
    kept.changed(first, lambda result: None, sealed=True)
    assert resumed(copy, state).run.resumed_shards == others + 1
    kept.changed(first, lambda result: result["values"]["tensors"][0].update(name="another"), sealed=True)
    assert resumed(copy, state).run.resumed_shards == others


# --- the command line ---


def test_resume_shared_is_for_resume(copy: Path, capsys) -> None:
    assert cli.main(["audit", str(copy), "--depth", "full", "--resume-shared"]) == 2
    assert "--resume-shared is for --resume" in capsys.readouterr().err
    assert cli.main(["audit", str(copy), "--resume-shared"]) == 2
    assert "--resume-shared is for reading tensor data" in capsys.readouterr().err


def test_a_shared_folder_is_refused_by_the_command_in_one_line(copy: Path, tmp_path: Path, capsys) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    options = ["audit", str(copy), "--depth", "full", "--resume", str(state)]
    assert cli.main(options) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main([*options, "--resume-shared"]) == 0
