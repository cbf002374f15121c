"""A folder gives the bytes of regular files and of nothing else, wherever symlinks lead."""

import errno
import itertools
import os
import shutil
import signal
import stat
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from auditor import audit
from auditor.errors import ForbiddenError, ReadError, SourceError
from auditor.forge import forge
from auditor.sources.entry import Entry
from auditor.sources.folder import Folder
from auditor_schemas.policy import Limits

LIMIT = Limits().files
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _nothing_blocks():
    def late(number, frame):
        raise AssertionError("blocked for ten seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    return folder


def opened(folder: Path, name: str, *, symlinks="follow") -> bytes:
    file = Folder(str(folder), symlinks=symlinks).open(name)
    try:
        return file.read(0, file.size)
    finally:
        file.close()


def entry(folder: Path, name: str) -> Entry:
    return Folder(str(folder), symlinks="follow").entry(name)


def as_nobody(check) -> None:
    """Run `check` in a child process without root's right to read everything."""
    if os.geteuid() != 0:
        check()
        return
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            check()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def open_to_everyone(path: Path) -> None:
    while path != path.parent:
        if path.stat().st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o055)
        path = path.parent


def test_files_are_read_by_range(checkpoint):
    (checkpoint / "a").write_bytes(b"0123456789")
    file = Folder(str(checkpoint), symlinks="follow").open("a")
    assert file.size == 10
    assert (file.read(0, 10), file.read(3, 5), file.read(4, 4)) == (b"0123456789", b"34", b"")
    file.close()


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux says what is in memory")
@pytest.mark.parametrize(("at_hand", "told"), [(8, []), (4, [(2, 4), (6, 2)]), (0, [(0, 2), (2, 4), (6, 2)])])
@pytest.mark.parametrize("reason", [errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS])
def test_storage_is_told_of_what_comes_once_something_is_not_in_memory(checkpoint, monkeypatch, reason, at_hand, told):
    """Telling takes as long as reading a little; for a file that is in memory it is for nothing."""
    (checkpoint / "shard").write_bytes(b"01234567")
    preadv, hints = os.preadv, []

    def partly(descriptor, buffers, begin, flags):
        if flags & os.RWF_NOWAIT:
            if begin >= at_hand:
                raise OSError(reason, "not in memory")
            return preadv(descriptor, [buffers[0][: at_hand - begin]], begin)
        return preadv(descriptor, buffers, begin)

    monkeypatch.setattr(os, "preadv", partly)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, begin, size, advice: hints.append((begin, size)))
    file = Folder(str(checkpoint), symlinks="follow").open("shard")
    file.expect([(0, 2), (2, 6)])
    file.expect([(6, 8)])
    data = bytearray(8)
    file.read_into(0, memoryview(data))
    assert data == b"01234567"
    assert hints == told
    file.expect([(0, 8)])
    assert hints[len(told) :] == ([(0, 8)] if told else [])
    file.close()


def test_the_listing_holds_what_is_at_the_top_with_kind_and_size(checkpoint):
    (checkpoint / "a.safetensors").write_bytes(b"1234")
    (checkpoint / "sub").mkdir()
    (checkpoint / "sub" / "b.safetensors").write_bytes(b"1")
    entries, unlisted = Folder(str(checkpoint), symlinks="follow").entries(LIMIT)
    assert unlisted is None
    assert entries["a.safetensors"] == Entry("file", 4)
    assert entries["sub"].kind == "directory"
    assert len(entries) == 2


def test_more_files_than_the_limit_are_not_listed_and_said_so(checkpoint):
    for number in range(5):
        (checkpoint / str(number)).touch()
    folder = Folder(str(checkpoint), symlinks="follow")
    assert folder.entries(5)[1] is None
    entries, unlisted = folder.entries(4)
    assert len(entries) == 4
    assert unlisted == "the folder holds more than 4 entries (limit files)"


def test_a_name_that_is_not_utf8_is_no_shard(checkpoint):
    Path(os.fsdecode(os.fsencode(checkpoint) + b"/\xff.safetensors")).touch()
    assert Folder(str(checkpoint), symlinks="follow").entries(LIMIT) == ({}, None)


def test_a_file_in_a_subfolder_has_a_path(checkpoint):
    (checkpoint / "sub").mkdir()
    (checkpoint / "sub" / "b").write_bytes(b"12")
    assert entry(checkpoint, "sub/b") == Entry("file", 2)
    assert opened(checkpoint, "sub/b", symlinks="inside") == b"12"
    assert entry(checkpoint, "a/b").kind == "absent"
    assert entry(checkpoint, "sub/b/c").kind == "absent"


# --- what is no folder


def test_a_source_that_is_not_there_is_no_source(tmp_path):
    with pytest.raises(SourceError, match="no such folder"):
        Folder(str(tmp_path / "gone"), symlinks="follow")


def test_a_source_that_is_a_file_says_what_to_give(tmp_path):
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(SourceError, match=r"is a file; give the folder"):
        Folder(str(tmp_path / "a.safetensors"), symlinks="follow")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_a_source_that_cannot_be_a_path_is_no_source(path):
    with pytest.raises(SourceError):
        Folder(path, symlinks="follow")


def test_a_source_that_is_a_symlink_loop_is_no_source(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SourceError):
        Folder(str(tmp_path / "loop"), symlinks="follow")


def test_a_folder_without_permission_is_no_source(checkpoint):
    open_to_everyone(checkpoint.parent)
    checkpoint.chmod(0)

    def check():
        with pytest.raises(SourceError, match="Permission denied"):
            Folder(str(checkpoint), symlinks="follow")

    as_nobody(check)
    checkpoint.chmod(0o700)


# --- symlinks


def test_a_symlink_within_the_folder_is_inside(checkpoint):
    (checkpoint / "a").write_bytes(b"123")
    (checkpoint / "b").symlink_to("a")
    assert entry(checkpoint, "b") == Entry("file", 3, "inside")
    assert opened(checkpoint, "b", symlinks="inside") == b"123"


def test_a_symlink_out_of_the_folder_is_followed_and_listed(checkpoint):
    (checkpoint.parent / "secret").write_bytes(b"12345")
    (checkpoint / "b").symlink_to("../secret")
    assert entry(checkpoint, "b") == Entry("file", 5, "outside")
    assert opened(checkpoint, "b") == b"12345"


def test_a_symlink_out_of_the_folder_is_not_opened_where_the_policy_forbids_it(checkpoint):
    (checkpoint.parent / "secret").write_bytes(b"12345")
    (checkpoint / "b").symlink_to(checkpoint.parent / "secret")
    with pytest.raises(ForbiddenError, match="b: leads out of the checkpoint, which the policy forbids"):
        opened(checkpoint, "b", symlinks="inside")


def test_a_chain_of_symlinks_counts_by_its_end(checkpoint):
    (checkpoint.parent / "secret").write_bytes(b"1")
    (checkpoint / "c").symlink_to("b")
    (checkpoint / "b").symlink_to("../secret")
    assert entry(checkpoint, "c").link == "outside"
    with pytest.raises(ForbiddenError):
        opened(checkpoint, "c", symlinks="inside")
    (checkpoint / "back").symlink_to(checkpoint.parent / "checkpoint" / "real")
    (checkpoint / "real").write_bytes(b"2")
    assert entry(checkpoint, "back").link == "inside"
    assert opened(checkpoint, "back", symlinks="inside") == b"2"


def test_a_folder_beside_with_the_same_beginning_is_outside(checkpoint):
    beside = checkpoint.parent / "checkpoint-other"
    beside.mkdir()
    (beside / "a").write_bytes(b"1")
    (checkpoint / "a").symlink_to("../checkpoint-other/a")
    assert entry(checkpoint, "a").link == "outside"
    with pytest.raises(ForbiddenError):
        opened(checkpoint, "a", symlinks="inside")


def test_a_folder_that_is_a_symlink_leads_its_files_out(checkpoint):
    (checkpoint.parent / "elsewhere").mkdir()
    (checkpoint.parent / "elsewhere" / "a").write_bytes(b"12")
    (checkpoint / "sub").symlink_to("../elsewhere")
    assert entry(checkpoint, "sub/a") == Entry("file", 2, "outside")
    assert opened(checkpoint, "sub/a") == b"12"
    with pytest.raises(ForbiddenError, match="leads out"):
        opened(checkpoint, "sub/a", symlinks="inside")


def test_a_checkpoint_reached_through_a_symlink_is_inside_itself(checkpoint):
    (checkpoint / "a").write_bytes(b"1")
    (checkpoint.parent / "link").symlink_to(checkpoint)
    assert entry(checkpoint.parent / "link", "a") == Entry("file", 1)
    assert opened(checkpoint.parent / "link", "a", symlinks="inside") == b"1"


@pytest.fixture
def hub(tmp_path) -> Path:
    """A snapshot in the hub's cache: files are symlinks to blobs beside the snapshots."""
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "f00d").write_bytes(b"blob")
    (snapshot / "a.safetensors").symlink_to("../../blobs/f00d")
    return snapshot


def test_a_hub_cache_is_inside_with_its_revision(hub):
    folder = Folder(str(hub), symlinks="inside")
    assert folder.revision == COMMIT
    assert folder.entry("a.safetensors") == Entry("file", 4, "inside")
    assert opened(hub, "a.safetensors", symlinks="inside") == b"blob"


def test_a_hub_cache_declares_the_digests_that_blobs_are_named_by(hub):
    blobs = hub.parent.parent / "blobs"
    names = {"b": "ab" * 32, "c": "ab" * 20, "d": "AB" * 32, "e": "zz" * 32}
    for link, name in names.items():
        (blobs / name).write_bytes(b"blob")
        (hub / link).symlink_to(f"../../blobs/{name}")
    (hub / ("cd" * 32)).write_bytes(b"no blob")
    (blobs / "sub").mkdir()
    (blobs / "sub" / ("ef" * 32)).write_bytes(b"deeper")
    (hub / "f").symlink_to(f"../../blobs/sub/{'ef' * 32}")
    folder = Folder(str(hub), symlinks="follow")
    assert folder.entry("b") == Entry("file", 4, "inside", sha256="ab" * 32)
    assert {name: folder.entry(name).sha256 for name in ("c", "d", "e", "f", "cd" * 32)} == dict.fromkeys(
        ("c", "d", "e", "f", "cd" * 32)
    )


def test_a_link_out_of_a_plain_folder_declares_nothing(checkpoint):
    elsewhere = checkpoint.parent / "blobs"
    elsewhere.mkdir()
    (elsewhere / ("ab" * 32)).write_bytes(b"1")
    (checkpoint / "b").symlink_to(elsewhere / ("ab" * 32))
    assert entry(checkpoint, "b").sha256 is None


def test_a_plain_folder_has_no_revision(checkpoint):
    assert Folder(str(checkpoint), symlinks="follow").revision is None


@pytest.mark.parametrize(
    ("repository", "snapshot", "beside"),
    [
        ("backups", "2026-11-28", ("blobs", "refs")),
        ("backups", COMMIT, ("blobs", "refs")),
        ("models--org--name", "latest", ("blobs", "refs")),
        ("models--org--name", COMMIT[:-1], ("blobs", "refs")),
        ("models--org--name", COMMIT.upper(), ("blobs", "refs")),
        ("models--org--name", COMMIT, ()),
    ],
)
def test_a_folder_below_one_named_snapshots_is_no_hub_cache_by_that_alone(tmp_path, repository, snapshot, beside):
    folder = tmp_path / repository / "snapshots" / snapshot
    folder.mkdir(parents=True)
    for name in beside:
        (tmp_path / repository / name).mkdir()
    (tmp_path / repository / "blobs").mkdir(exist_ok="blobs" in beside or not beside)
    digest = "ab" * 32
    (tmp_path / repository / "blobs" / digest).write_bytes(b"1")
    (folder / "a").symlink_to(f"../../blobs/{digest}")
    if not beside:
        shutil.move(tmp_path / repository / "blobs", tmp_path / repository / "elsewhere")
        (tmp_path / repository / "blobs").symlink_to("elsewhere")
    there = Folder(str(folder), symlinks="inside")
    assert there.revision is None
    assert (there.entry("a").link, there.entry("a").sha256) == ("outside", None)
    with pytest.raises(ForbiddenError):
        there.open("a")


def test_a_folder_inside_a_snapshot_is_of_that_cache(hub):
    (hub / "fp8").mkdir()
    (hub / "fp8" / "a").symlink_to("../../../blobs/f00d")
    folder = Folder(str(hub / "fp8"), symlinks="inside")
    assert folder.revision == COMMIT
    assert folder.entry("a").link == "inside"


DOWNLOADED = Path(".cache") / "huggingface" / "download"


def _note(folder, name, etag):
    note = folder / DOWNLOADED / f"{name}.metadata"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{COMMIT}\n{etag}\n1764340000.5\n")


def test_a_shard_that_was_downloaded_into_the_folder_declares_its_digest(checkpoint):
    for name in ("a.safetensors", "b.safetensors", "c.safetensors", "sub/d.safetensors"):
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_bytes(b"1")
    _note(checkpoint, "a.safetensors", "ab" * 32)
    _note(checkpoint, "b.safetensors", "ab" * 20)
    _note(checkpoint, "sub/d.safetensors", '"' + "cd" * 32 + '"')
    found = {name: entry(checkpoint, name).sha256 for name in ("a.safetensors", "b.safetensors", "c.safetensors")}
    assert found == {"a.safetensors": "ab" * 32, "b.safetensors": None, "c.safetensors": None}
    assert entry(checkpoint, "sub/d.safetensors").sha256 == "cd" * 32


def test_a_note_of_a_download_that_is_no_note_declares_nothing(checkpoint):
    for name in ("a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors"):
        (checkpoint / name).write_bytes(b"1")
    (checkpoint / DOWNLOADED).mkdir(parents=True)
    (checkpoint / DOWNLOADED / "a.safetensors.metadata").write_bytes(b"\xff" * 100_000)
    (checkpoint.parent / "note").write_text(f"{COMMIT}\n{'ab' * 32}\n1\n")
    (checkpoint / DOWNLOADED / "b.safetensors.metadata").symlink_to(checkpoint.parent / "note")
    os.mkfifo(checkpoint / DOWNLOADED / "c.safetensors.metadata")
    (checkpoint / DOWNLOADED / "d.safetensors.metadata").mkdir()
    assert [entry(checkpoint, f"{name}.safetensors").sha256 for name in "abcd"] == [None] * 4


def test_a_hub_cache_ends_at_its_blobs(hub):
    other = hub.parent.parent.parent / "models--other--name" / "blobs"
    other.mkdir(parents=True)
    (other / "beef").write_bytes(b"other")
    (hub / "b").symlink_to(other / "beef")
    (hub.parent.parent / "refs").mkdir()
    (hub.parent.parent / "refs" / "main").write_bytes(COMMIT.encode())
    (hub / "c").symlink_to("../../refs/main")
    (hub.parent.parent / "blobs" / "cafe").symlink_to(other / "beef")
    (hub / "d").symlink_to("../../blobs/cafe")
    for name in "bcd":
        assert entry(hub, name).link == "outside"
        with pytest.raises(ForbiddenError):
            opened(hub, name, symlinks="inside")


def test_a_broken_symlink_is_neither_absent_nor_a_file(checkpoint):
    (checkpoint / "a").symlink_to("gone")
    assert entry(checkpoint, "a").kind == "broken-link"
    with pytest.raises(ReadError, match="No such file"):
        opened(checkpoint, "a")


def test_a_symlink_loop_is_a_broken_link(checkpoint):
    (checkpoint / "a").symlink_to("b")
    (checkpoint / "b").symlink_to("a")
    assert entry(checkpoint, "a").kind == "broken-link"
    with pytest.raises(ReadError):
        opened(checkpoint, "a")


def test_a_file_swapped_for_an_outside_link_after_the_listing_is_not_read(checkpoint):
    (checkpoint.parent / "secret").write_bytes(b"secret")
    (checkpoint / "a").write_bytes(b"honest")
    folder = Folder(str(checkpoint), symlinks="inside")
    assert folder.entries(LIMIT)[0]["a"].link is None
    (checkpoint / "a").unlink()
    (checkpoint / "a").symlink_to("../secret")
    with pytest.raises(ForbiddenError, match="leads out of the checkpoint"):
        folder.open("a")


# --- what is no regular file


def special(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mknod(path, {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}[kind] | 0o600)


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device"])
def test_what_is_no_regular_file_is_never_opened(checkpoint, kind):
    special(checkpoint / "a", kind)
    assert entry(checkpoint, "a").kind == kind
    with pytest.raises(ReadError, match="a: is not a regular file"):
        opened(checkpoint, "a")


def test_a_fifo_put_in_place_of_a_file_does_not_block(checkpoint):
    (checkpoint / "a").write_bytes(b"1")
    folder = Folder(str(checkpoint), symlinks="follow")
    folder.entries(LIMIT)
    (checkpoint / "a").unlink()
    special(checkpoint / "a", "fifo")
    with pytest.raises(ReadError):
        folder.open("a")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_name_that_no_file_can_have_is_absent_or_unreadable(checkpoint, name):
    assert entry(checkpoint, name).kind in ("absent", "file")
    with pytest.raises(ReadError):
        opened(checkpoint, name)


# --- what goes wrong while reading


def test_a_file_without_permission_is_there_and_says_why_it_is_not_read(checkpoint):
    open_to_everyone(checkpoint)
    (checkpoint / "a").write_bytes(b"12")
    (checkpoint / "a").chmod(0)

    def check():
        assert entry(checkpoint, "a") == Entry("file", 2)
        with pytest.raises(ReadError, match="a: Permission denied"):
            opened(checkpoint, "a")

    as_nobody(check)


def test_a_file_that_shrinks_while_it_is_read_is_a_read_error(checkpoint):
    (checkpoint / "a").write_bytes(b"0123456789")
    file = Folder(str(checkpoint), symlinks="follow").open("a")
    os.truncate(checkpoint / "a", 4)
    assert file.read(0, 4) == b"0123"
    with pytest.raises(ReadError, match=r"a: ended at byte 4 while it was read, was 10 bytes"):
        file.read(0, 10)
    file.close()


def test_a_file_deleted_while_it_is_read_is_still_read(checkpoint):
    (checkpoint / "a").write_bytes(b"0123456789")
    file = Folder(str(checkpoint), symlinks="follow").open("a")
    (checkpoint / "a").unlink()
    assert file.read(0, 10) == b"0123456789"
    file.close()


def test_descriptors_are_not_leaked_by_what_is_refused(checkpoint):
    (checkpoint.parent / "secret").write_bytes(b"12345")
    (checkpoint / "b").symlink_to("../secret")
    special(checkpoint / "fifo", "fifo")
    folder = Folder(str(checkpoint), symlinks="inside")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for name in ("b", "fifo", "gone") * 5:
        with pytest.raises((ReadError, ForbiddenError)):
            folder.open(name)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


def test_read_into_fills_the_whole_buffer_or_says_where_the_file_ended(tmp_path):
    (tmp_path / "data").write_bytes(bytes(range(200)))
    folder = Folder(str(tmp_path), symlinks="follow")
    file = folder.open("data")
    buffer = bytearray(50)
    file.read_into(100, memoryview(buffer))
    assert bytes(buffer) == bytes(range(100, 150))
    (tmp_path / "data").write_bytes(b"short")  # a remote mount may do so
    with pytest.raises(ReadError, match=r"data: ended at byte 5 while it was read, was 200 bytes"):
        file.read_into(0, memoryview(buffer))
    file.close()
    folder.close()


# --- roots: the folders that may be read ---


@pytest.fixture
def roots(tmp_path):
    """A folder that may be read and one that may not, each with a checkpoint."""
    for name in ("allowed", "secret"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text(name)
    return tmp_path


def below(roots: Path, path: Path | str, **options) -> Folder:
    return Folder(str(path), symlinks=options.get("symlinks", "inside"), roots=(str(roots / "allowed"),))


def assert_elsewhere(roots: Path, path: Path | str) -> None:
    with pytest.raises(SourceError) as raised:
        below(roots, path)
    assert str(raised.value) == f"{path}: lies in none of the folders that may be read"
    assert raised.value.code == "not_allowed"


def test_a_folder_below_a_root_is_read_and_so_is_a_root(roots):
    for path in (roots / "allowed" / "model", f"{roots}/allowed/../allowed/./model/", f"{roots}//allowed//model"):
        assert below(roots, path).open("config.json").read(0, 7) == b"allowed"
    assert list(below(roots, roots / "allowed").entries(9)[0]) == ["model"]


def test_a_folder_elsewhere_is_refused_the_same_whether_it_is_there_or_not(roots):
    (roots / "allowed-2").mkdir()
    (roots / "secret" / "file").write_text("")
    for path in ("secret", "secret/model", "secret/absent", "secret/file", "allowed/../secret/model", "allowed-2", ""):
        assert_elsewhere(roots, f"{roots}/{path}")
    assert_elsewhere(roots, "/")
    with pytest.raises(SourceError, match="no such folder"):
        below(roots, roots / "allowed" / "absent")


def test_a_relative_folder_is_judged_by_where_it_is(roots, monkeypatch):
    monkeypatch.chdir(roots / "secret")
    assert_elsewhere(roots, "model")
    assert below(roots, "../allowed/model").open("config.json").size == 7


def test_no_roots_allow_no_folder(roots):
    with pytest.raises(SourceError, match="lies in none of the folders"):
        Folder(str(roots / "allowed" / "model"), symlinks="follow", roots=())


def test_a_symlink_that_leads_out_of_the_roots_is_refused_and_one_within_followed(roots):
    (roots / "allowed" / "out").symlink_to(roots / "secret" / "model")
    (roots / "allowed" / "up").symlink_to("../secret")
    (roots / "allowed" / "in").symlink_to("model")
    assert_elsewhere(roots, roots / "allowed" / "out")
    assert_elsewhere(roots, f"{roots}/allowed/up/model")
    assert below(roots, roots / "allowed" / "in").open("config.json").size == 7
    (roots / "link").symlink_to("allowed")  # a root may be named by one
    assert Folder(str(roots / "link/model"), symlinks="inside", roots=(str(roots / "link"),)).entry("config.json")


def test_a_symlink_put_in_place_after_the_name_was_looked_at_leads_nowhere(roots, monkeypatch):
    open_, model = os.open, roots / "allowed" / "model"

    def swapped(path, *arguments, **options):
        if Path(path) == model and not model.is_symlink():
            model.rename(roots / "gone")
            model.symlink_to(roots / "secret" / "model")
        return open_(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swapped)
    assert_elsewhere(roots, model)


def test_a_folder_that_is_swapped_all_the_time_is_never_the_other_one(roots):
    model, aside, over = roots / "allowed" / "model", roots / "allowed" / "aside", threading.Event()

    def swap():
        while not over.is_set():
            model.rename(aside)
            model.symlink_to(roots / "secret" / "model")
            model.unlink()
            aside.rename(model)

    thread = threading.Thread(target=swap)
    thread.start()
    read = []
    until = time.monotonic() + 30
    try:
        for turn in itertools.count():
            if turn >= 2000 and (read or time.monotonic() > until):
                break
            try:
                folder = below(roots, model)
                read.append(folder.open("config.json").read(0, 6))
                folder.close()
            except (SourceError, ReadError, ForbiddenError):
                continue
    finally:
        over.set()
        thread.join()
    assert set(read) == {b"allowe"}


def test_a_file_that_leads_out_of_the_roots_is_not_read_though_symlinks_are_followed(roots):
    (roots / "allowed" / "model" / "a").symlink_to(roots / "secret" / "model" / "config.json")
    (roots / "allowed" / "model" / "b").symlink_to(roots / "allowed" / "other")
    (roots / "allowed" / "other").write_text("other")
    folder = below(roots, roots / "allowed" / "model", symlinks="follow")
    assert folder.open("b").size == 5
    with pytest.raises(ReadError, match="a: leads out of the folders that may be read") as raised:
        folder.open("a")
    assert raised.value.code == "not_allowed"


def test_a_hub_cache_has_its_blobs_only_where_they_are_below_a_root_as_well(roots):
    cache = roots / "allowed" / "models--org--name"
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "b").write_text("blob")
    (snapshot / "config.json").symlink_to("../../blobs/b")
    assert below(roots, snapshot).open("config.json").size == 4
    with pytest.raises(ForbiddenError, match="leads out of the checkpoint"):
        Folder(str(snapshot), symlinks="inside", roots=(str(snapshot),)).open("config.json")


def test_an_audit_hands_the_roots_on(roots):
    forge(roots / "allowed" / "tiny", like="tiny", sparse=True)
    assert audit(roots / "allowed" / "tiny", roots=[roots / "allowed"]).verdict == "passed"
    with pytest.raises(SourceError, match="lies in none of the folders"):
        audit(roots / "allowed" / "tiny", roots=[roots / "secret"])
