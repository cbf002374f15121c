"""The layout of a report: every tensor in one pattern, with the shards that hold it."""

from safetensors import safe_open

from auditor import audit
from auditor.forge import forge
from auditor.patterns import expand, expand_file


def test_a_pattern_names_the_shards_that_hold_its_tensors_and_no_others(tmp_path):
    folder = tmp_path / "checkpoint"
    forge(folder, like="tiny", sparse=True)
    shards = sorted(folder.glob("*.safetensors"))
    shards.pop(1).unlink()
    held: dict[str, str] = {}
    for shard in shards:
        with safe_open(shard, "np") as file:
            held.update(dict.fromkeys(file.keys(), shard.name))
    told = {}
    for row in audit(folder).layout:
        names = list(expand(row.pattern))
        assert {file for each in row.files for file in expand_file(each, 100)} == {held[name] for name in names}
        told.update(dict.fromkeys(names))
    assert told.keys() == held.keys()
