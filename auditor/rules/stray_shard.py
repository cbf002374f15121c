"""Every safetensors file beside the shards is one of them; loaders that read *.safetensors load a stray one."""

from collections.abc import Iterator, Mapping

from auditor.entry import Entry
from auditor.facts import Inventory
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX105",
    slug="stray-shard",
    title="A safetensors file is no part of the checkpoint",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory, listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """One failure per safetensors file that the index does not name and that is not of the shards' series."""
    for shard in inventory.shards:
        if shard.stray:
            yield RULE.failure(
                f"holds {plural(len(shard.tensors), 'tensor')} and is named neither by the index nor like its shards",
                file=shard.path,
                fold=RULE.slug,
            )
