"""The shards hold a model, not an MTP module alone that was split off for another model's speculation."""

from collections.abc import Iterator

from auditor.comparison.causes.exported import exported_module
from auditor.inventory.facts import Inventory
from auditor.text import plural
from auditor_schemas.rule import AnyMissing, Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="IDX115",
    slug="exported-mtp-module",
    title="The files hold an MTP module alone",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """A failure where an MTP module is all that there is, and no file that the index names."""
    shards = exported_module(inventory)
    if not shards:
        return
    names = [name for shard in shards for name in shard.tensors]
    index = inventory.index
    files = () if index is None else tuple(index.files.keys() - {shard.path for shard in shards})
    gone = f"; none of the {plural(len(files), 'file')} that the index names is there" if files else ""
    yield RULE.failure(
        f"holds an MTP (NextN) module alone, {plural(len(names), 'tensor')}: an export for speculative decoding{gone}",
        file=shards[0].path,
        expected="the whole model",
        actual="one MTP module",
        takes=(
            *names,
            AnyMissing(),
            *map(File, files),
            *(File(shard.path) for shard in shards),
            File("config.json"),
            File("model.safetensors.index.json"),
        ),
    )
