"""What a second process reads is what a walk in this one reads, or it steps aside."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from auditor.ahead import start
from auditor.deferred import Deferred
from auditor.forge import breaks, forge
from auditor.run import conduct
from auditor.sources import open_source, starts
from auditor.sources.begin import begin
from auditor.sources.folder import Folder
from auditor.walk import read_config, read_shard, walk
from auditor_schemas.policy import Limits
from tests.servers.serving import folder_server

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two processors"
)

# Breaks that only config.json shows leave the inventory as it is; one of each other family is enough.
NAMES = [None, *(name for name, each in breaks().items() if (each.rule or "CFG")[:3] in ("IDX", "HDR"))]


def read(source, seen=None):
    """What a walk of the source gives, config.json with it; the source is closed."""
    try:
        config = read_config(source, Limits())
        return config, walk(source, Limits(), seen=seen)
    finally:
        source.close()


def same(one, other):
    """Inventories alike, what is not compared by value included."""
    assert one == other
    assert one.indexed == other.indexed
    assert one.tensors == other.tensors
    assert list(one.tensors) == list(other.tensors)
    for mine, theirs in zip(one.shards, other.shards, strict=True):
        assert mine.kinds == theirs.kinds
        assert mine.tiling == theirs.tiling
    if one.index is not None and other.index is not None:
        assert one.index.files == other.index.files
        assert one.index.weight_map == other.index.weight_map


@pytest.mark.parametrize("name", NAMES)
def test_what_a_second_process_reads_of_a_folder_is_what_this_one_reads(name, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    seen = []
    config, inventory = read(start(Folder(str(tmp_path / "checkpoint"), symlinks="follow")), seen.append)
    expected = read(Folder(str(tmp_path / "checkpoint"), symlinks="follow"))
    assert config == expected[0]
    same(inventory, expected[1])
    # Which of the shards are strays, the index says at the end.
    assert [structs.replace(shard, stray=False) for shard in inventory.shards] == seen


def said(program: str, *words: str) -> str:
    """What a Python program prints that must end well; a process of its own may fork."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_what_a_second_process_reads_over_http_is_what_this_one_reads(name, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    program = (
        "import sys; from tests.test_ahead import read, same; from auditor.ahead import start\n"
        "from auditor.sources import open_source\n"
        "for _ in range(3):\n"
        "    seen = []\n"
        "    config, inventory = read(start(open_source(sys.argv[1], cache=False)), seen.append)\n"
        "    expected = read(open_source(sys.argv[1], cache=False))\n"
        "    assert config == expected[0]\n"
        "    same(inventory, expected[1])\n"
        "    assert {shard.path for shard in seen} >= {shard.path for shard in inventory.shards}\n"
    )
    with folder_server(tmp_path / "checkpoint") as server:
        assert said(program, server.url) == ""


def test_an_index_that_comes_by_file_is_the_index(tmp_path):
    """In the order of the document, and file by file: what explains a disagreement asks for either."""
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="misplaced-index-entry")
    program = (
        "import sys; from tests.test_ahead import read; from auditor.ahead import start\n"
        "from auditor.deferred import ByFile; from auditor.sources import open_source\n"
        "_, inventory = read(start(open_source(sys.argv[1], cache=False)))\n"
        "_, expected = read(open_source(sys.argv[1], cache=False))\n"
        "index, other = inventory.index, expected.index\n"
        "assert isinstance(index.weight_map, ByFile)\n"
        "assert (inventory.indexed, index.files) == (False, other.files)\n"
        "assert all(index.names_in(file) == other.names_in(file) for file in [*other.files, 'none'])\n"
        "assert len(index.weight_map) == len(other.weight_map)\n"
        "assert list(index.weight_map.items()) == list(other.weight_map.items())\n"
    )
    with folder_server(tmp_path / "checkpoint") as server:
        assert said(program, server.url) == ""


def test_full_size_inventory_is_the_same(tmp_path):
    forge(tmp_path / "v3", like="v3", sparse=True)
    config, inventory = read(start(Folder(str(tmp_path / "v3"), symlinks="follow")))
    expected = read(Folder(str(tmp_path / "v3"), symlinks="follow"))
    assert config == expected[0]
    same(inventory, expected[1])


def test_of_a_sound_checkpoint_no_tensor_is_made(tmp_path):
    """What the speed of an audit rests on: names and kinds are enough where all is as expected."""
    forge(tmp_path / "v3", like="v3", sparse=True)
    made = []
    report = conduct(
        Spy(str(tmp_path / "v3"), made), reading=None, family=None, policy=None, fail_on="error", progress=None
    )
    assert report.verdict == "passed"
    assert made == []


class Spy(Folder):
    """A folder whose shards tell when their tensors are made."""

    def __init__(self, path, made):
        super().__init__(path, symlinks="follow")
        self._made = made

    def header(self, path):
        shard = read_shard(Folder(self.uri, symlinks="follow"), path, self.entry(path), Limits())

        def make():
            self._made.append(path)
            return shard.tiling.tensors()

        return structs.replace(shard, tensors=Deferred(len(shard.tiling), make))


def test_where_the_second_process_dies_the_audit_walks_for_itself(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    program = (
        "import os, sys, auditor.ahead as ahead\n"
        "ahead.Reader.run = lambda *_: os._exit(9)\n"
        "import auditor.cli as cli\n"
        "sys.exit(cli.main(sys.argv[1:], alone=True))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "audit", str(tmp_path / "checkpoint"), "--quiet"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "passed" in result.stdout


def test_what_the_source_raises_in_a_second_process_is_raised_in_this_one(tmp_path):
    """As a repository that is not there: nobody asks for it twice."""
    program = (
        "import sys; from auditor.ahead import start; from auditor.sources import open_source\n"
        "from auditor.sources.begin import begin; from auditor.errors import SourceError\n"
        "def nothing(self, limit):\n    raise SourceError('no such repository')\n"
        "source = open_source(sys.argv[1], cache=False)\n"
        "type(source).listed, type(source).entries = True, nothing\n"
        "ahead = start(source)\n"
        "try:\n    ahead.entries(9)\nexcept SourceError as error:\n    print(error)\n"
        "ahead.close()\n"
    )
    (tmp_path / "checkpoint").mkdir()
    with folder_server(tmp_path / "checkpoint") as server:
        assert said(program, server.url) == "no such repository\n"
    assert not server.requests


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_second_process_that_dies_half_way_costs_time_alone(after, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    program = (
        "import os, sys, auditor.ahead as ahead\n"
        "send, sent = ahead.Reader._send_header, []\n"
        "def dying(*a):\n"
        f"    if len(sent) == {after}:\n        os._exit(9)\n"
        "    sent.append(send(*a))\n"
        "ahead.Reader._send_header = dying\n"
        "import auditor.cli as cli\n"
        "sys.exit(cli.main(sys.argv[1:], alone=True))\n"
    )
    with folder_server(tmp_path / "checkpoint") as server:
        for source in (str(tmp_path / "checkpoint"), server.url):
            result = subprocess.run(
                [sys.executable, "-c", program, "audit", source, "--quiet"],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path)},
                check=False,
            )
            assert (result.returncode, result.stderr) == (0, "")
            assert "passed" in result.stdout


def test_a_reading_nobody_waits_for_ends_with_its_parent(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    ahead = start(Folder(str(tmp_path / "checkpoint"), symlinks="follow"))
    child = ahead._child
    ahead.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
    ahead.close()  # twice is once


def test_a_reading_that_has_told_all_ends_by_itself(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    ahead = start(Folder(str(tmp_path / "checkpoint"), symlinks="follow"))
    child = ahead._child
    read(ahead)
    assert os.waitpid(child, 0) == (child, 0)


def test_an_interruption_while_models_are_imported_keeps_what_was_read(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    ahead = start(Folder(str(tmp_path / "checkpoint"), symlinks="follow"))
    os.waitid(os.P_PID, ahead._child, os.WEXITED | os.WNOWAIT)  # all of it has been read by now
    os.kill(os.getpid(), signal.SIGINT)
    _, inventory = read(ahead)
    assert inventory.cancelled
    assert inventory.unread[-1].startswith("cancelled")
    assert len(inventory.shards) == len(list((tmp_path / "checkpoint").glob("*.safetensors")))


def test_who_wants_connections_opened_does_not_wait_for_who_waits_for_an_answer(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    with folder_server(tmp_path / "checkpoint") as server:
        source = open_source(server.url, cache=False)
        with source._begun._driver:
            source.warm(4)
        begin(source, Limits())
        assert len(walk(source, Limits()).shards) == len(list((tmp_path / "checkpoint").glob("*.safetensors")))
        source.close()


def test_a_limit_ends_the_reading_though_more_would_come_if_it_were_taken(tmp_path, monkeypatch):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    monkeypatch.setattr(starts, "_HELD", 2 * starts.START)
    with folder_server(tmp_path / "checkpoint") as server:
        source = open_source(server.url, cache=False)
        begin(source, Limits())
        inventory = walk(source, Limits(tensors=1))
        source.close()
    assert len(inventory.unread) == 1
    assert "limit 1 (tensors)" in inventory.unread[0]
