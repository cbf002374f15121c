"""The walk in a second process gives the inventory that a walk in this one gives, or steps aside."""

import os
import subprocess
import sys

import pytest
from msgspec import structs

from auditor.ahead import start
from auditor.errors import SourceError
from auditor.forge import breaks, forge
from auditor.sources.folder import Folder
from auditor.walk import read_config, walk
from auditor_schemas.policy import Limits

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two processors"
)

# Breaks that only config.json shows leave the inventory as it is; one of each other family is enough.
NAMES = [None, *(name for name, each in breaks().items() if (each.rule or "CFG")[:3] in ("IDX", "HDR"))]


@pytest.mark.parametrize("name", NAMES)
def test_inventory_of_a_second_process_is_the_one_of_this_process(name, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    ahead = start(Folder(str(tmp_path / "checkpoint"), symlinks="follow"))
    assert ahead is not None
    seen = []
    try:
        config = ahead.config()
        inventory = ahead.inventory(seen.append)
    finally:
        ahead.close()
    folder = Folder(str(tmp_path / "checkpoint"), symlinks="follow")
    assert config == read_config(folder, Limits())
    expected = walk(folder, Limits())
    assert inventory == expected
    assert inventory is not None
    assert inventory.indexed == expected.indexed
    # Which of the shards are strays, the index says at the end.
    assert [structs.replace(shard, stray=False) for shard in inventory.shards] == seen
    for one, other in zip(inventory.shards, expected.shards, strict=True):
        assert list(one.tensors) == list(other.tensors)
        assert one.kinds == other.kinds
    if inventory.index is not None and expected.index is not None:
        assert inventory.index.files == expected.index.files


def test_full_size_inventory_is_the_same(tmp_path):
    forge(tmp_path / "v3", like="v3", sparse=True)
    ahead = start(Folder(str(tmp_path / "v3"), symlinks="follow"))
    assert ahead is not None
    ahead.config()
    inventory = ahead.inventory(lambda _: None)
    ahead.close()
    assert inventory == walk(Folder(str(tmp_path / "v3"), symlinks="follow"), Limits())


def test_where_the_second_process_dies_the_audit_walks_for_itself(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    program = (
        "import os, sys, auditor.ahead as ahead\n"
        "ahead._walk_into = lambda *_: os._exit(9)\n"
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


class Nowhere(Folder):
    """A source that turns out to have nothing."""

    def entry(self, path):
        raise SourceError(f"{path}: no such repository")


def test_what_the_source_raises_in_a_second_process_is_raised_in_this_one(tmp_path):
    ahead = start(Nowhere(str(tmp_path), symlinks="follow"))
    assert ahead is not None
    try:
        with pytest.raises(SourceError, match="no such repository"):
            ahead.config()
    finally:
        ahead.close()


def test_a_walk_nobody_waits_for_ends_with_its_parent(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    ahead = start(Folder(str(tmp_path / "checkpoint"), symlinks="follow"))
    assert ahead is not None
    child = ahead._child
    ahead.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
