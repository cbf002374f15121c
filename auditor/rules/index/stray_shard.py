"""Every safetensors file beside the shards is one of them; loaders that read *.safetensors load a stray one."""

from collections.abc import Iterator, Mapping

from auditor.inventory.facts import Inventory
from auditor.sources.entry import Entry
from auditor.text import plural
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

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
    known = "named neither by the index nor like its shards" if inventory.index is not None else "beside the weights"
    for shard in inventory.shards:
        if shard.stray and not any(fault.slug == "apple-double" for fault in shard.faults):
            wrong = f"; it was not read: {shard.reason}" if shard.state == "unread" else ""
            wrong = f"; it is damaged: {shard.faults[0].message}" if shard.faults else wrong
            yield RULE.failure(
                f"holds {plural(len(shard.tensors), 'tensor')} and is {known}{wrong}",
                file=shard.path,
                blames=(File(shard.path),),
                fold=RULE.slug,
            )
    for path, entry in listing.items():
        if path.endswith(".safetensors") and entry.kind not in ("file", "absent") and not inventory.claims(path):
            yield RULE.failure(f"is a {entry.kind} and is {known}", file=path, blames=(File(path),), fold=RULE.slug)
